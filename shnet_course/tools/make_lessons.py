"""Make the lessons: a text in notebooks/text becomes a notebook with the outputs of a clean run.

    make lessons                       # all of them
    make lessons LESSONS=03_sfm        # one

The text is the only source: cells are written there (or in JupyterLab, which keeps both in step)
and outputs come from a kernel that nothing was done in before.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from shnet_course import progress
from shnet_course.tools.kernels import FreshKernel
from shnet_lib.errors import report_error

WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT = 1800  # seconds per cell


def read_text(text: Path) -> NotebookNode:
    """The notebook that a percent script describes, without outputs; its cells' ids are stable."""
    notebook = jupytext.read(text)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{number_of(text)}-{number:03}"
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own
    # jupytext keeps only what the text states; Lab wants to know that the two are a pair.
    notebook.metadata["jupytext"] = {"formats": "ipynb,text//py:percent"}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def number_of(path: Path) -> str:
    """06b_training_on_a_gpu.py -> "06b": two lessons that share two digits stay apart."""
    return path.stem.partition("_")[0]


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run all cells on a fresh kernel started in `folder`, and keep what a reader wants to see.

    Checks that pass here are nobody's progress.

    Raises:
        CellExecutionError: a cell failed; the message is its traceback.
    """
    client = FreshKernel(notebook, folder, timeout=TIMEOUT, store_widget_state=False)
    with TemporaryDirectory() as away:
        client.execute(env=os.environ | {progress.VARIABLE: str(Path(away) / "progress.json")})
    return keep_what_is_read(notebook)


def keep_what_is_read(notebook: NotebookNode) -> NotebookNode:
    """Drop what means nothing without a kernel: progress bars, logs, the live side of a widget.

    A widget that was shown with a picture of itself leaves the picture.
    """
    notebook.metadata.pop("language_info", None)  # it names the Python that happened to run
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined([output for output in map(_still, cell.outputs) if output])
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Printed lines that came in several pieces, as they do on a slow machine, in one."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _still(output: NotebookNode) -> NotebookNode | None:
    """The output without its live side; None if nothing is left to read."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if WIDGET in output.get("data", {}):
        del output.data[WIDGET]
        return output if set(output.data) - {"text/plain"} else None
    return output


def make(text: Path) -> Path:
    """text/NN_name.py -> NN_name.ipynb beside the folder `text`, executed."""
    target = text.parent.parent / f"{text.stem}.ipynb"
    notebook = execute(read_text(text), target.parent)
    nbformat.write(notebook, target)
    text.touch()  # the older of a pair may differ in no blank line, or JupyterLab opens neither
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where a cell failed (its traceback is printed)."""
    parser = argparse.ArgumentParser(prog="python -m shnet_course.tools.make_lessons")
    parser.add_argument("texts", nargs="+", type=Path, help="notebooks/text/NN_name.py ...")
    for text in parser.parse_args(arguments).texts:
        began = time.monotonic()
        try:
            print(f"{make(text)} {time.monotonic() - began:.0f} s")
        except FileNotFoundError:
            return report_error(f"there is no lesson {text}")
        except CellExecutionError as error:
            return report_error(f"{text}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
