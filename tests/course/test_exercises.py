"""An exercise is its solution without the answer, and a learner's work is never written over."""

import re
from pathlib import Path

import nbformat
import pytest

from shnet_course.tools.make_exercises import (
    ExerciseError,
    holds_work,
    main,
    make_exercise,
    write_exercise,
)

TEXT = '''\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# ## A masked mean

# %%
def mean(numbers, mask):
    """Of the numbers whose mask is True."""
    ### BEGIN SOLUTION: count only what is real
    kept = [n for n, keep in zip(numbers, mask) if keep]

    return sum(kept) / len(kept)
    ### END SOLUTION

# %% tags=["check"]
assert mean([1, 2, 9], [True, True, False]) == 1.5

# %% [markdown]
# <details><summary>Hint 1</summary>Leave out what is padding.</details>

# %% [markdown]
# ## The next one

# %%
### BEGIN SOLUTION: name the answer
answer = 42
### END SOLUTION
'''
MEAN_STUB = '''\
def mean(numbers, mask):
    """Of the numbers whose mask is True."""
    raise NotImplementedError("your turn: count only what is real")'''


@pytest.fixture
def solution(tmp_path) -> Path:
    folder = tmp_path / "solutions" / "text"
    folder.mkdir(parents=True)
    (folder / "07_mean_sol.py").write_text(TEXT)
    return folder / "07_mean_sol.py"


def test_the_answer_is_gone_from_the_code_and_stands_in_the_last_fold_out(solution):
    notebook = make_exercise(solution)
    nbformat.validate(notebook)
    kinds = [(cell.cell_type, cell.source.splitlines()[0][:30]) for cell in notebook.cells]
    assert kinds == [
        ("markdown", "## A masked mean"),
        ("code", "def mean(numbers, mask):"),
        ("code", "assert mean([1, 2, 9], [True, "),
        ("markdown", "<details><summary>Hint 1</summ"),
        ("markdown", "<details><summary>Solution</su"),
        ("markdown", "## The next one"),
        ("code", 'raise NotImplementedError("you'),
        ("markdown", "<details><summary>Solution</su"),
    ]
    assert notebook.cells[1].source == MEAN_STUB
    assert notebook.cells[2].metadata.tags == ["check"]
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "kept" not in code and "SOLUTION" not in code and "42" not in code
    folded = notebook.cells[4].source
    assert "    return sum(kept) / len(kept)\n```" in folded and "###" not in folded


def test_the_folded_solution_passes_the_check(solution):
    notebook = make_exercise(solution)
    code = notebook.cells[4].source.split("```python\n")[1].split("\n```")[0]
    names: dict = {}
    exec(code + "\n" + notebook.cells[2].source, names)
    with pytest.raises(NotImplementedError, match="your turn: count only what is real"):
        exec(notebook.cells[1].source + "\n" + notebook.cells[2].source, {})


@pytest.mark.parametrize(
    "damage",
    [
        ("    ### END SOLUTION\n", ""),
        (": count only what is real", ""),
        ("    ### BEGIN SOLUTION: count only what is real\n", ""),
    ],
)
def test_a_marker_that_is_not_whole_is_an_error(solution, damage):
    solution.write_text(TEXT.replace(*damage, 1))
    with pytest.raises(ExerciseError, match="07_mean_sol.py: .*is no whole solution"):
        make_exercise(solution)


def test_made_twice_it_is_the_same_to_the_byte(solution):
    first = write_exercise(solution).read_bytes()
    assert write_exercise(solution).read_bytes() == first


def answer_in(path: Path) -> bytes:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = notebook.cells[1].source.replace("raise", "return 1.5  # raise")
    nbformat.write(notebook, path)
    return path.read_bytes()


def test_running_is_no_work_and_writing_is(solution):
    path = write_exercise(solution)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].execution_count = 3
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)
    assert not holds_work(path)
    answer_in(path)
    assert holds_work(path)


def test_work_is_left_alone_and_the_command_says_so(solution, capsys):
    path = write_exercise(solution)
    work = answer_in(path)
    assert main([str(solution)]) == 2
    assert path.read_bytes() == work
    said = capsys.readouterr().err
    assert "07_mean_ex.ipynb holds your work" in said and "make reset EXERCISE=07_mean" in said


def test_a_reset_keeps_the_work_beside_it_every_time(solution):
    path = write_exercise(solution)
    fresh = path.read_bytes()
    work = [answer_in(path)]
    assert main([str(solution), "--reset"]) == 0
    assert path.read_bytes() == fresh
    path.write_text("no notebook at all")
    work.append(path.read_bytes())
    assert main([str(solution), "--reset"]) == 0
    kept = sorted(path.parent.glob("*.mine-*.ipynb"))
    assert [file.read_bytes() for file in kept] == work
    assert path.read_bytes() == fresh


def test_a_solution_that_does_not_exist_is_named(tmp_path, capsys):
    missing = tmp_path / "solutions" / "text" / "99_none_sol.py"
    assert main([str(missing)]) == 2
    assert "99_none_sol.py" in capsys.readouterr().err


def test_without_solutions_only_the_fold_outs_are_gone(solution, tmp_path, capsys):
    out = tmp_path / "hand" / "out"
    assert main([str(solution), "--without-solutions", "--out", str(out)]) == 0
    handed_out = nbformat.read(out / "07_mean_ex.ipynb", as_version=4)
    text = (out / "07_mean_ex.ipynb").read_text()
    assert "kept" not in text and "42" not in text and "<summary>Solution" not in text
    whole = make_exercise(solution)
    left = [cell for cell in whole.cells if "<summary>Solution" not in cell.source]
    assert [(c.id, c.source) for c in handed_out.cells] == [(c.id, c.source) for c in left]
    assert not (tmp_path / "exercises").exists() and not holds_work(out / "07_mean_ex.ipynb")


def test_what_nbgrader_wants_to_know_of_a_cell(solution):
    """Its cell metadata, version 3: types, and what must and must not be there."""
    types = {"grade": bool, "locked": bool, "solution": bool, "task": bool, "schema_version": int}
    types |= {"grade_id": str, "points": int}
    notebook = make_exercise(solution)
    found = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert found == [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]
    for cell in found:
        told = cell.metadata.nbgrader
        assert {name: type(value) for name, value in told.items()} == types
        assert told.schema_version == 3 and told.points >= 0
        assert told.grade and told.locked and not told.solution and not told.task
        assert re.fullmatch(r"[a-zA-Z0-9_\-]+", told.grade_id)
    assert len({cell.metadata.nbgrader.grade_id for cell in found}) == len(found)
