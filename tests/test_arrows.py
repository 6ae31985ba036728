"""Imports between the three packages run one way, and the library needs nothing of Jupyter's."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shnet_lib", "refgen", "shnet_course")


def arrows(package: str) -> set[str]:
    """The modules of the three packages that a package imports, itself left out."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path} imports from beyond its folder by dots"
                found |= {node.module} if node.level == 0 else set()
    others = [name for name in PACKAGES if name != package]
    return {name for name in found if name.split(".")[0] in others}


def test_the_library_imports_neither_of_the_others():
    assert arrows("shnet_lib") == set()


def test_what_makes_data_knows_errors_masks_and_photos_of_the_library_alone():
    data = {"shnet_lib.data.errors", "shnet_lib.data.coco", "shnet_lib.data.images"}
    assert arrows("refgen") <= {"shnet_lib.errors", *data}


def test_model_and_data_do_not_know_each_other():
    model = {name for path in (ROOT / "shnet_lib/model").glob("*.py") for name in names_in(path)}
    data = {name for path in (ROOT / "shnet_lib/data").rglob("*.py") for name in names_in(path)}
    assert not [name for name in model if name.startswith(("shnet_lib.data", "shnet_lib.training"))]
    assert not [name for name in data if name.startswith(("shnet_lib.model", "shnet_lib.training"))]


def names_in(path: Path) -> set[str]:
    """The modules that a file imports by `from ... import`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} - {None}


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


BLOCKED = """
import sys
for name in ("matplotlib", "ipywidgets", "IPython", "jupyter_core", "notebook", "jupyterlab"):
    sys.modules[name] = None  # importing it is an error now
import importlib, pkgutil, shnet_lib
for module in pkgutil.walk_packages(shnet_lib.__path__, "shnet_lib."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_the_library_works_without_matplotlib_and_jupyter():
    done = run(BLOCKED)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["shnet_lib", "refgen.refshapes", "refgen.photos.write"])
def test_torch_is_not_loaded_where_it_is_not_needed(module):
    done = run(f"import sys, {module}; sys.exit('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_the_public_names_come_when_they_are_asked_for():
    done = run("import shnet_lib; from shnet_lib import load_shnet, predict; predict, load_shnet")
    assert done.returncode == 0, done.stderr
    done = run("from shnet_lib import no_such_name")
    assert "cannot import name 'no_such_name'" in done.stderr
