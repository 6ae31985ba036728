"""Mark handed-in exercises: run each notebook, and write who passed which check.

    python -m shnet_course.tools.mark handed_in > marks.csv

This runs other people's code with your rights: use an account or a container made for it. Each
check is put back as it was made before it runs, so that editing one gains nothing. Somebody who
writes code to deceive the check from within the same kernel still can. docs/teaching.md has more.
"""

import argparse
import csv
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

import nbformat
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

from shnet_course import progress
from shnet_course.paths import COURSE
from shnet_course.tools.kernels import FreshKernel
from shnet_course.tools.make_exercises import KEY, is_check, make_exercise
from shnet_lib.errors import report_error

CELL_SECONDS = 120  # a cell may take; the first one imports torch
IMPORT_CHECK = "from shnet_course.checks import check\n\n"  # whatever a learner calls `check`
NAME = re.compile(r'check\("([^"]+)"')
# What a file that is no notebook, or a damaged one, may raise.
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError)


class MarkingError(ValueError):
    """A file that is no exercise of this course."""


@dataclass(frozen=True)
class Mark:
    """One check of one handed-in notebook; a row of the table."""

    student: str  # the folder that the notebook lies in
    file: str
    check: str  # as the exercise calls it; empty where a notebook could not be marked at all
    passed: str  # "yes" or "no"
    said: str  # why not: the first line of the error


def exercise_of(handed_in: NotebookNode) -> NotebookNode:
    """The exercise that a notebook began as, made anew from its solution.

    Raises:
        MarkingError: it does not say which, or there is none such.
    """
    known = {path.name: path for path in (COURSE / "solutions" / "text").glob("*_sol.py")}
    name = handed_in.metadata.get(KEY, {}).get("from")
    if name not in known:
        raise MarkingError(f"no exercise of this course: its metadata names {name!r}")
    return make_exercise(known[name])


def with_its_own_checks(
    handed_in: NotebookNode, exercise: NotebookNode
) -> tuple[NotebookNode, dict[int, str]]:
    """The code of a handed-in notebook with every check as it was made.

    A check that was deleted, or lost its id, comes last. What else looks like a check is the
    learner's code, and counts as such.

    Returns:
        the notebook, and the number of each check's cell -> the name of the check.
    """
    checks = {cell.id: cell for cell in exercise.cells if is_check(cell)}
    cells, names = [], {}
    for cell in handed_in.cells:
        if cell.cell_type == "code":
            cells.append(checks.pop(cell.get("id"), cell))
    cells += checks.values()
    for number, cell in enumerate(cells):
        if any(cell is original for original in exercise.cells):
            names[number] = NAME.search(cell.source)[1]
            cell.source = IMPORT_CHECK + cell.source
    return nbformat.v4.new_notebook(cells=cells), names


class _Quiet(FreshKernel):
    """Keeps no outputs: a loop that prints would fill this process's memory."""

    def output(self, *given) -> None:
        """Called for each output of a cell."""


def run_cells(notebook: NotebookNode, seconds: int = CELL_SECONDS) -> dict[int, str]:
    """Run all code cells on a fresh kernel in a folder that is thrown away.

    Returns:
        cell's number -> "" if it ran, else its error. A cell that is not there never ran: the
        kernel died.
    """
    told: dict[int, str] = {}

    def keep(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        content = execute_reply["content"]
        error = f"{content.get('ename')}: {content.get('evalue', '')}"
        told[cell_index] = "" if content["status"] == "ok" else error

    with TemporaryDirectory() as away:
        folder = Path(away) / "exercises"
        folder.mkdir()
        (Path(away) / "data").symlink_to(COURSE / "data")  # as beside the exercises
        client = _Quiet(
            notebook,
            folder,
            timeout=seconds,
            interrupt_on_timeout=True,
            error_on_timeout={"ename": "TimeLimit", "evalue": f"it took over {seconds} seconds"},
            allow_errors=True,
            on_cell_executed=keep,
        )
        own = {progress.VARIABLE: str(Path(away) / "progress.json")}
        try:
            client.execute(env=os.environ | own)
        except DeadKernelError:
            pass  # what did not run is missing in `told`
    return told


def mark(path: Path, student: str, seconds: int = CELL_SECONDS) -> Iterator[Mark]:
    """A row for each check of a handed-in notebook, or one that says why it cannot be marked."""
    try:
        handed_in = nbformat.read(path, as_version=4)
        nbformat.validate(handed_in)
        notebook, names = with_its_own_checks(handed_in, exercise_of(handed_in))
    except BROKEN as error:
        yield Mark(student, path.name, "", "no", f"not marked: {_line(error)}")
        return
    told = run_cells(notebook, seconds)
    for number, name in names.items():
        error = told.get(number, "DeadKernel: the kernel died before this check")
        yield Mark(student, path.name, name, "no" if error else "yes", _line(error))


def _line(error: object) -> str:
    """The first line, cut: a table has to be read."""
    return next(iter(str(error).splitlines()), "")[:200]


def mark_folder(folder: Path, seconds: int = CELL_SECONDS) -> Iterator[Mark]:
    """The marks of all notebooks in a folder of students' folders, in the order of their names."""
    for path in sorted(folder.rglob("*.ipynb")):
        inside = path.relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):  # .ipynb_checkpoints
            yield from mark(path, str(inside.parent), seconds)


def write_marks(marks: Iterable[Mark], file: TextIO) -> int:
    """Write rows as they come, as CSV with a head; returns how many were written."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(field.name for field in fields(Mark))
    written = 0
    for row in marks:
        table.writerow(astuple(row))
        file.flush()
        written += 1
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where there was nothing to mark."""
    parser = argparse.ArgumentParser(prog="python -m shnet_course.tools.mark")
    parser.add_argument("folder", type=Path, help="in it a folder per student, with notebooks")
    parser.add_argument("--seconds", type=int, default=CELL_SECONDS, help="that a cell may take")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    if not write_marks(mark_folder(given.folder, given.seconds), sys.stdout):
        return report_error(f"no notebooks in {given.folder}")
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
