r"""Make the exercises from their solutions, and never write over a learner's work.

    make exercises                     # all of them
    make reset EXERCISE=03_sfm         # one, fresh; what was in it is kept beside it
    python -m shnet_course.tools.make_exercises --without-solutions --out handout/exercises \
        solutions/text/*_sol.py        # for students, without the last fold-outs

A solution is a percent script in solutions/text. Between `### BEGIN SOLUTION: what to do` and
`### END SOLUTION` stands what the learner writes; the exercise has an error there that says whose
turn it is, and the solution as a last fold-out under the hints.

Check cells carry nbgrader's metadata, so that a teacher may use it; docs/teaching.md says how.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from shnet_course.tools.make_lessons import number_of, read_text
from shnet_lib.errors import report_error

SOLUTION_BLOCK = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION: (?P<task>.+)\n(?P<code>(?:.*\n)*?) *### END SOLUTION$",
    flags=re.MULTILINE,
)
SOLUTION_MARK = "### "  # no line of an exercise may keep one
FOLD = "<details>"
SOLVED = f"{FOLD}<summary>Solution</summary>"
SOLUTION = SOLVED + "\n\n```python\n{}\n```\n\n</details>"
KEY = "shnet_exercise"  # in the notebook's metadata: the digest of what was generated
# What nbgrader wants to know of an autograder test. A stub carries nothing: of a cell marked as a
# solution nbgrader would keep neither the signature nor the docstring.
NBGRADER = {
    "schema_version": 3,
    "grade": True,
    "locked": True,
    "points": 1,
    "solution": False,
    "task": False,
}


class ExerciseError(ValueError):
    """A solution that no exercise can be made of, or an exercise that holds a learner's work."""


def make_exercise(solution: Path, with_solutions: bool = True) -> NotebookNode:
    """solutions/text/NN_name_sol.py -> the notebook of the exercise, with its digest.

    Args:
        with_solutions: False leaves the last fold-outs away; every cell keeps its id.

    Raises:
        ExerciseError: a marker is not closed, has no task, or a solution has no check under it.
    """
    source = read_text(solution)
    cells: list[NotebookNode] = []
    waiting: list[str] = []  # solutions that still need their fold-out
    for cell in source.cells:
        if waiting and cell.cell_type == "markdown" and not cell.source.startswith(FOLD):
            cells += map(_solution_cell, waiting)
            waiting = []
        if cell.cell_type == "code":
            cell.source, solved = _stub(cell.source, solution)
            waiting += solved
        cells.append(cell)
    cells += map(_solution_cell, waiting)
    for number, cell in enumerate(cells):
        cell.id = f"{number_of(solution)}-ex-{number:03}"
        if is_check(cell):
            cell.metadata["nbgrader"] = NBGRADER | {"grade_id": cell.id}
    if not with_solutions:
        cells = [cell for cell in cells if not cell.source.startswith(SOLVED)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=dict(source.metadata))
    notebook.metadata.pop("jupytext", None)  # an exercise has no text beside it
    notebook.metadata[KEY] = {"made": content_digest(notebook), "from": solution.name}
    return notebook


def _stub(source: str, path: Path) -> tuple[str, list[str]]:
    """A cell's code with an error in the place of each solution, and the cell as solved."""
    stub = SOLUTION_BLOCK.sub(
        lambda found: f'{found["indent"]}raise NotImplementedError("your turn: {found["task"]}")',
        source,
    )
    if SOLUTION_MARK in stub:
        line = next(line for line in stub.splitlines() if SOLUTION_MARK in line)
        raise ExerciseError(
            f"{path}: {line.strip()!r} is no whole solution: write `### BEGIN SOLUTION: the task` "
            "above it and `### END SOLUTION` below it"
        )
    if stub == source:
        return source, []
    solved = SOLUTION_BLOCK.sub(lambda found: found["code"].rstrip("\n"), source)
    return stub, [solved]


def _solution_cell(code: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(SOLUTION.format(code))


def is_check(cell: NotebookNode) -> bool:
    """Whether a cell is the check under a stub."""
    return "check" in cell.metadata.get("tags", [])


def content_digest(notebook: NotebookNode) -> str:
    """Of the cells' sources alone: running an exercise does not change it, writing in it does."""
    sources = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def holds_work(path: Path) -> bool:
    """Whether somebody wrote in an exercise since it was made; what is no notebook counts."""
    if not path.exists():
        return False
    try:
        notebook = nbformat.read(path, as_version=4)
        return notebook.metadata[KEY]["made"] != content_digest(notebook)
    except (KeyError, ValueError, nbformat.reader.NotJSONError):
        return True


def target_of(solution: Path) -> Path:
    """solutions/text/03_sfm_sol.py -> exercises/03_sfm_ex.ipynb beside the folder solutions."""
    course = solution.resolve().parents[2]
    return course / "exercises" / f"{solution.stem.removesuffix('_sol')}_ex.ipynb"


def write_exercise(
    solution: Path, reset: bool = False, folder: Path | None = None, with_solutions: bool = True
) -> Path:
    """Write the exercise of a solution.

    Args:
        reset: put a learner's work aside (`..._ex.mine-1.ipynb`, `-2`, ...) and begin anew.
        folder: where to, made if need be; exercises/ if None.
        with_solutions: False leaves the last fold-outs away.

    Raises:
        ExerciseError: the exercise holds a learner's work and `reset` is False.
    """
    target = target_of(solution)
    if folder is not None:
        target = folder / target.name
    notebook = make_exercise(solution, with_solutions)
    if holds_work(target):
        if not reset:
            name = solution.stem.removesuffix("_sol")
            raise ExerciseError(
                f"{target} holds your work and was left alone. To begin it anew: make reset "
                f"EXERCISE={name} (your work is kept beside it)"
            )
        target.rename(_free_name(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text_of(notebook), encoding="utf-8")
    return target


def _free_name(target: Path) -> Path:
    number = 1
    while (kept := target.with_name(f"{target.stem}.mine-{number}.ipynb")).exists():
        number += 1
    return kept


def text_of(notebook: NotebookNode) -> str:
    """The bytes of an exercise: the same solution gives the same ones."""
    return nbformat.writes(notebook) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where an exercise could not be written."""
    parser = argparse.ArgumentParser(prog="python -m shnet_course.tools.make_exercises")
    parser.add_argument("solutions", nargs="+", type=Path, help="solutions/text/NN_name_sol.py ...")
    parser.add_argument("--reset", action="store_true", help="put a learner's work aside first")
    parser.add_argument("--without-solutions", action="store_true", help="for students")
    parser.add_argument("--out", type=Path, help="the folder to write to, in place of exercises/")
    given = parser.parse_args(arguments)
    status = 0
    for solution in given.solutions:
        try:
            print(write_exercise(solution, given.reset, given.out, not given.without_solutions))
        except FileNotFoundError:
            status = report_error(f"there is no solution {solution}")
        except ExerciseError as error:
            status = report_error(error)
    return status


if __name__ == "__main__":
    sys.exit(main())
