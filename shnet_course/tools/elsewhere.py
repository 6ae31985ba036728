"""Install the course where torch and Jupyter are already: Colab, Kaggle.

The first code cell of the lessons 00 and 10 runs this file where `shnet_lib` cannot be imported.
What is installed there stays as it is, torch above all; only what is missing is added.
"""

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

COURSE = Path(__file__).resolve().parents[2]
NOT_NEEDED = ("jupyterlab", "shnet-course")  # there is a Jupyter already; the course itself


def pip_install(*what: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *what], check=True)


def install() -> None:
    """The course itself, then those of its packages that are missing."""
    from packaging.requirements import Requirement

    there = {each.name.lower().replace("_", "-"): each.version for each in metadata.distributions()}
    pip_install("--no-deps", "--editable", str(COURSE))
    sys.path.insert(0, str(COURSE))  # a running Python does not see what was installed just now
    importlib.invalidate_caches()
    missing = []
    for requirement in map(Requirement, metadata.requires("shnet-course")):
        wanted = any(
            not requirement.marker or requirement.marker.evaluate({"extra": extra})
            for extra in ("", "course", "photos")
        )
        if wanted and requirement.name not in (*there, *NOT_NEEDED):
            missing.append(f"{requirement.name}{requirement.specifier}")
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.txt"
        kept.write_text("".join(f"{name}=={version}\n" for name, version in there.items()))
        pip_install("--constraint", str(kept), *missing)


if __name__ == "__main__":
    install()
    os.chdir(COURSE / "notebooks")  # the lessons' paths begin there
    if not Path("../data/refshapes/refshapes.json").exists():
        command = [sys.executable, "-m", "refgen.refshapes", "--out", "../data/refshapes"]
        subprocess.run(command, check=True)
