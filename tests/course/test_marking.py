"""Handed-in notebooks are run, and nobody gains by what they wrote into a check."""

import csv
import io
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from shnet_course.checks import LESSONS
from shnet_course.tools.make_exercises import is_check, make_exercise
from shnet_course.tools.mark import (
    IMPORT_CHECK,
    MarkingError,
    exercise_of,
    main,
    mark_folder,
    run_cells,
    with_its_own_checks,
    write_marks,
)

COURSE = Path(__file__).parents[2]
SOLUTION = COURSE / "solutions" / "text" / "07_evaluation_sol.py"
SECONDS = 280  # on a busy machine the import of torch alone takes long
NAMES = ["intersection and union", "overall IoU", "mean IoU", "precision@X"]


def code(*sources: str) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, sources)])


def solved() -> NotebookNode:
    """Exercise 07 with its stubs filled in from the fold-outs."""
    notebook = make_exercise(SOLUTION)
    answers = [
        re.search(r"```python\n(.*)\n```", cell.source, flags=re.DOTALL)[1]
        for cell in notebook.cells
        if cell.source.startswith("<details><summary>Solution")
    ]
    for cell in notebook.cells:
        if "your turn: " in cell.source:
            cell.source = answers.pop(0)
    return notebook


def checks_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if is_check(cell)]


def hand_in(notebook: NotebookNode, folder: Path, name: str = "07_evaluation_ex.ipynb") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / name)


def test_cells_run_in_order_and_an_endless_one_is_cut_off():
    told = run_cells(code("x = 1", "while True: pass", "x + 1", "1 / 0", "y"), seconds=5)
    assert list(told) == [0, 1, 2, 3, 4] and told[0] == told[2] == ""
    assert told[1] == "TimeLimit: it took over 5 seconds"
    assert told[3] == "ZeroDivisionError: division by zero"
    assert told[4].startswith("NameError")


def test_a_kernel_from_elsewhere_is_not_taken(tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "x"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert run_cells(code("1")) == {0: ""}


def test_a_kernel_that_dies_takes_only_what_follows_along():
    assert run_cells(code("x = 1", "import os; os._exit(0)", "x")) == {0: ""}


def test_an_error_that_is_not_shown_is_an_error():
    hide = "get_ipython().showtraceback = lambda *given, **more: None"
    assert run_cells(code(hide, "1 / 0"))[1].startswith("ZeroDivisionError")


def test_the_place_is_thrown_away_and_the_progress_is_nobodys(tmp_path, monkeypatch):
    monkeypatch.setenv("SHNET_PROGRESS", str(tmp_path / "mine.json"))
    told = run_cells(
        code(
            "import os, pathlib; assert os.listdir() == [], os.listdir()",
            "assert pathlib.Path('../data/README.md').exists()",
            "from shnet_course.progress import remember; remember('x')",
            "raise ValueError(os.getcwd())",
        ),
        SECONDS,
    )
    assert [told[n] for n in range(3)] == ["", "", ""]
    assert not Path(told[3].removeprefix("ValueError: ")).exists()
    assert not (tmp_path / "mine.json").exists()


@pytest.mark.filterwarnings("ignore:Non-unique cell id")  # the learner copied a cell
def test_an_edited_check_is_put_back_in_its_place_and_a_deleted_one_comes_last():
    exercise, handed_in = make_exercise(SOLUTION), solved()
    first, second, third = checks_of(handed_in)[:3]
    first.source = "print('passed')"
    handed_in.cells.remove(second)
    handed_in.cells.append(nbformat.v4.new_code_cell("1", id="mine", metadata={"tags": ["check"]}))
    handed_in.cells.append(nbformat.from_dict(dict(third, source="'again'")))
    notebook, names = with_its_own_checks(handed_in, exercise)
    sources = [cell.source for cell in notebook.cells]
    assert sorted(names.values()) == sorted(LESSONS["07_evaluation"])
    places = {name: place for place, name in names.items()}
    assert sources[places["intersection and union"] - 1].startswith("def intersection_and_union")
    assert sources[places["mean IoU"] - 1].startswith("def mean_iou")
    assert places["overall IoU"] == len(sources) - 1
    assert all(sources[n].startswith(IMPORT_CHECK + "check(") for n in names)
    assert "print('passed')" not in sources and sources[-3:-1] == ["1", "'again'"]


def test_every_check_of_every_exercise_is_found_by_its_name():
    for solution in sorted(SOLUTION.parent.glob("*_sol.py")):
        exercise = make_exercise(solution)
        _, names = with_its_own_checks(make_exercise(solution), exercise)
        assert sorted(names.values()) == sorted(LESSONS[solution.stem.removesuffix("_sol")])


def test_a_class_is_marked(tmp_path):
    """One knows it all, one cheats, one has not begun, one hands in what is no notebook."""
    hand_in(solved(), tmp_path / "Ada", "07_evaluation_ex (1).ipynb")
    cheat = make_exercise(SOLUTION, with_solutions=False)
    for cell in checks_of(cheat):
        cell.source = "print('✓ right')"
    cheat.cells[1].source += "\ncheck = lambda *given: None"
    cheat.cells[1].source += "\nfrom shnet_course.progress import remember"
    cheat.cells[1].source += f"\nfor name in {NAMES}: remember(name)"
    hand_in(cheat, tmp_path / "Bob")
    hand_in(make_exercise(SOLUTION), tmp_path / "Cy" / ".ipynb_checkpoints")
    hand_in(code("1"), tmp_path / "Di", "a.ipynb")
    (tmp_path / "Di" / "b.ipynb").write_text("no notebook")
    (tmp_path / "Di" / "c.ipynb").write_text(json.dumps({"cells": 3, "nbformat": 4}))

    table = io.StringIO()
    count = write_marks(mark_folder(tmp_path, SECONDS), table)
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    assert len(rows) == count == 5 + 5 + 3
    ada, bob, di = ([r for r in rows if r["student"] == name] for name in ("Ada", "Bob", "Di"))
    assert [r["check"] for r in ada] == LESSONS["07_evaluation"]
    assert {r["passed"] for r in ada} == {"yes"}
    assert {r["file"] for r in ada} == {"07_evaluation_ex (1).ipynb"}
    assert {r["passed"] for r in bob} == {"no"}
    assert all(r["said"].startswith("NotImplementedError: your turn: ") for r in bob)
    assert [(r["check"], r["passed"]) for r in di] == [("", "no")] * 3
    assert all(r["said"].startswith("not marked: ") for r in di)


def test_a_notebook_of_another_course_is_named():
    with pytest.raises(MarkingError, match="no exercise of this course: its metadata names None"):
        exercise_of(code("1"))


def test_an_empty_folder_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no notebooks in" in capsys.readouterr().err
