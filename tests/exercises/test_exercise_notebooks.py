"""Both paths: the solutions pass every check, an untouched exercise stops at its stubs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from shnet_course.tools.make_exercises import is_check, make_exercise, target_of, text_of
from shnet_course.tools.make_lessons import read_text

COURSE = Path(__file__).parents[2]
SOLUTIONS = sorted((COURSE / "solutions" / "text").glob("*.py"))


@pytest.fixture(params=SOLUTIONS, ids=lambda path: path.stem)
def solution(request, monkeypatch, tmp_path) -> Path:
    monkeypatch.chdir(COURSE / "notebooks")  # where a kernel of exercises/ would find ../data too
    monkeypatch.setenv("SHNET_PROGRESS", str(tmp_path / "progress.json"))
    return request.param


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_solution_has_its_exercise_and_every_exercise_its_solution():
    made = sorted((COURSE / "exercises").glob("*_ex.ipynb"))
    assert SOLUTIONS and [target_of(path) for path in SOLUTIONS] == made


def test_the_read_me_counts_the_exercises():
    found = re.findall(
        r"\[(\d+)\]\(exercises/(\w+)_ex\.ipynb\)", (COURSE / "README.md").read_text()
    )
    checks = {path: sum(map(is_check, code_cells(read_text(path)))) for path in SOLUTIONS}
    assert found == [(str(n), path.stem.removesuffix("_sol")) for path, n in checks.items()]


def test_the_exercise_is_what_its_solution_makes(solution):
    assert target_of(solution).read_text() == text_of(make_exercise(solution)), "make exercises"


@pytest.mark.slow  # the fast tests run the same answers, taken from the fold-outs
def test_the_solution_passes_every_check(solution):
    names: dict = {}
    for cell in code_cells(read_text(solution)):
        exec(cell.source, names)


def test_the_solutions_notebook_is_in_step_and_executed(solution):
    notebook = nbformat.read(solution.parents[1] / f"{solution.stem}.ipynb", as_version=4)
    text = read_text(solution)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in text.cells]
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_untouched_it_stops_at_each_stub_and_nowhere_else(solution):
    names: dict = {}
    stopped = []
    for cell in code_cells(make_exercise(solution)):
        try:
            exec(cell.source, names)
        except NotImplementedError as error:
            assert str(error).startswith("your turn: ")
            stopped.append(is_check(cell))
        else:
            assert not is_check(cell), f"passes without an answer: {cell.source}"
    assert stopped and all(stopped)


def test_filled_in_from_its_own_fold_outs_it_runs_to_the_end(solution):
    notebook = make_exercise(solution)
    answers = [
        re.search(r"```python\n(.*)\n```", cell.source, flags=re.DOTALL)[1]
        for cell in notebook.cells
        if cell.source.startswith("<details><summary>Solution")
    ]
    names: dict = {}
    for cell in code_cells(notebook):
        exec(answers.pop(0) if "your turn: " in cell.source else cell.source, names)
    assert not answers


def test_the_anatomy_of_an_exercise(solution):
    """A head, the time, a stub with shapes in its docstring, a check, a hint, the solution last."""
    notebook = make_exercise(solution)
    cells = notebook.cells
    stubs = [
        n
        for n, cell in enumerate(cells)
        if cell.cell_type == "code" and "your turn: " in cell.source
    ]
    heads: list[str] = []
    for number in stubs:
        head = [cell.source for cell in cells[:number] if cell.source.startswith("## ")][-1]
        assert re.search(r"^\*Difficulty: .+ · \d+ minutes · .+\*$", head, flags=re.MULTILINE)
        assert head not in heads
        heads.append(head)
        assert '"""' in cells[number].source
        assert is_check(cells[number + 1])
        following = [cell.source for cell in cells[number + 2 :]]
        end = next((n for n, t in enumerate(following) if not t.startswith("<details>")), None)
        folds = [re.search("<summary>(.+?)</summary>", t)[1] for t in following[:end]]
        assert folds[0] == "Hint 1" and folds[-1] == "Solution"
    assert len(stubs) == sum(map(is_check, cells))
