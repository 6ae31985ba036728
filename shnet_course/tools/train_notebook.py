"""What `make train` runs: notebook 10 with parameters, its progress in one line of the terminal.

    python -m shnet_course.tools.train_notebook --data data/refshapes --run runs/x --preset smoke

The executed notebook is kept in the run's folder, also where it failed or was interrupted, and
the last line printed is the result. Paths are relative to the folder where the command is typed.
"""

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.client import KernelClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from shnet_course.paths import COURSE
from shnet_course.tools.kernels import FreshKernel
from shnet_course.tools.progress_line import MESSAGE, ProgressLine
from shnet_lib.command import INTERRUPTED

NOTEBOOK = COURSE / "notebooks" / "10_train_unc.ipynb"
PATH_SETTINGS = ("glove", "model.backbone_weights", "start_from", "cache_images")
WRONG = 2  # exit status, as of shnet train
INTERRUPT_SECONDS = 10  # seconds that an interrupted cell has to end


class Refused(ValueError):
    """What was typed cannot be done; the text is one line."""


class Client(FreshKernel):
    """Runs a notebook: its headings, what it prints and its progress go to a `ProgressLine`."""

    def __init__(self, notebook: NotebookNode, line: ProgressLine) -> None:
        super().__init__(notebook, NOTEBOOK.parent, timeout=None, on_cell_start=self.tell_heading)
        self.line = line
        self.unfinished = ""  # printed, without its line's end
        self.stops = 0  # how often Ctrl-C was pressed

    def tell_heading(self, cell: NotebookNode, cell_index: int) -> None:
        first = cell.source.partition("\n")[0]
        if cell.cell_type == "markdown" and first.startswith("## "):
            self.line.say(first.removeprefix("## "))

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> Any:
        """Called for each message of the kernel; returns what is kept in the notebook."""
        content = msg["content"]
        data = content.get("data", {})
        if MESSAGE in data:
            self.line.show(data[MESSAGE])
            return None
        if msg["msg_type"] == "stream":
            *whole, self.unfinished = (self.unfinished + content["text"]).split("\n")
            for text in whole:
                self.line.say(f"   {text}")
        elif "image/png" in data and self.line.running:
            self.line.say(f"   {data['text/plain']}")  # training's curves, in words
        return super().process_message(msg, cell, cell_index)

    async def async_start_new_kernel(self, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        await super().async_start_new_kernel(**options)

    async def async_start_new_kernel_client(self) -> KernelClient:
        client = await super().async_start_new_kernel_client()
        client.execute(
            "from shnet_course.tools.progress_line import send_bars; send_bars()", silent=True
        )
        return client

    async def async_execute_cell(self, cell: NotebookNode, *arguments: Any, **options: Any) -> Any:
        if self.stops:  # an idle kernel takes no notice of an interrupt
            raise KeyboardInterrupt
        return await super().async_execute_cell(cell, *arguments, **options)

    def stop(self) -> None:
        """Interrupt the cell; end the kernel at the second time, or where the first did not do."""
        self.stops += 1
        if self.km and self.km.has_kernel:
            first = self.stops == 1
            asyncio.ensure_future(
                self.km.interrupt_kernel() if first else self.km.shutdown_kernel(now=True)
            )
            if first:
                asyncio.get_running_loop().call_later(INTERRUPT_SECONDS, self.stop)


def with_parameters(notebook: NotebookNode, parameters: Mapping[str, Any]) -> NotebookNode:
    """Put the values behind the cell that holds the defaults, as papermill does."""
    tagged = [
        number
        for number, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    ]
    lines = ["# Parameters", *(f"{name} = {value!r}" for name, value in parameters.items())]
    cell = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(tagged[0] + 1, cell)
    return notebook


def whole_path(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def whole_settings(text: str) -> str:
    """SET with its paths made whole; what is no path (`shipped`, `none`) stays.

    Raises:
        Refused: a quote is not closed.
    """
    try:
        settings = shlex.split(text)
    except ValueError as error:
        raise Refused(f"SET cannot be read ({error}): {text}") from None
    for number, setting in enumerate(settings):
        name, _, value = setting.partition("=")
        is_path = "/" in value or value.startswith("~") or os.path.exists(value)
        if name in PATH_SETTINGS and is_path:
            settings[number] = f"{name}={whole_path(value)}"
    return shlex.join(settings)


def open_run(run: Path, resume: bool) -> None:
    """Make the run's folder.

    Raises:
        Refused: it holds a run, and this is not to be resumed; or it cannot be written.
    """
    # A folder that a crash left unfinished (step-000500.new) is none to go on with.
    holds = [path.name for name in ("metrics.json", "last/step-*[0-9]") for path in run.glob(name)]
    if holds and not resume:
        raise Refused(
            f"{run} holds a run already ({holds[0]}): go on with it (make train RESUME=1 "
            f"RUN={run}), or name another folder with RUN"
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
        if not os.access(run, os.W_OK):
            raise PermissionError(f"no right to write into {run}")
    except OSError as error:
        raise Refused(f"{run} cannot be a run's folder: {error}") from None


def run_notebook(client: Client, run: Path) -> int:
    """Run the notebook, keep it, say what came of it; returns the exit status."""
    kept, result = run / NOTEBOOK.name, run / "metrics.json"
    was_finished = result.exists()
    failed = None
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError, RuntimeError, KeyboardInterrupt) as error:
        failed = error
    status = INTERRUPTED if client.stops else WRONG if failed else 0
    client.line.finish()
    if status == 0 or not was_finished:  # a finished run's notebook is better than a failed one's
        nbformat.write(client.nb, kept)
        client.line.say(f"notebook: {kept}")
    if status == 0:
        client.line.say(json.dumps(json.loads(result.read_text())))
    elif client.stops:
        client.line.say(resume_advice(failed, run))
    else:
        if not isinstance(failed, CellExecutionError):  # the kernel died
            for words in client.last_words():
                client.line.say(f"   {words}")
        client.line.say(explain(failed))
    return status


def resume_advice(error: BaseException | None, run: Path) -> str:
    """How an interrupted run goes on: training says it itself, elsewhere it is asked for here."""
    if isinstance(error, CellExecutionError) and error.ename == "Interrupted":
        return error.evalue
    from shnet_lib.training.interruption import how_to_go_on  # it brings torch, which takes seconds

    return how_to_go_on(run)


def explain(error: BaseException) -> str:
    """One line for what a file or a setting can do; the traceback for everything else."""
    if not isinstance(error, CellExecutionError):
        return f"error: the notebook's kernel died; the memory may not suffice ({error})"
    import shnet_lib.training.run  # noqa: F401  it brings all kinds of errors that can arise
    from shnet_lib.errors import ShnetError

    kinds = [ShnetError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    known = error.ename in {kind.__name__ for kind in kinds}
    return f"error: {error.evalue}" if known else str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 2 where something is wrong; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m shnet_course.tools.train_notebook")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--dataset", default="refshapes-unc")
    parser.add_argument("--data", required=True, help="folder of the data sets")
    parser.add_argument("--run", required=True, help="folder to write the run into")
    parser.add_argument("--set", default="", metavar="'NAME=VALUE ...'", dest="settings")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    given = parser.parse_args(arguments)
    run = Path(whole_path(given.run))
    line = ProgressLine(sys.stdout)
    try:
        parameters = {
            "preset": given.preset,
            "dataset": given.dataset,
            "data": whole_path(given.data),
            "run_folder": str(run),
            "settings": whole_settings(given.settings),
            "resume": given.resume,
        }
        open_run(run, given.resume)
    except Refused as error:
        line.say(f"error: {error}")
        return WRONG
    line.say(f"After an interruption: the same command with RUN={run} RESUME=1")
    notebook = with_parameters(nbformat.read(NOTEBOOK, as_version=4), parameters)
    return run_notebook(Client(notebook, line), run)


if __name__ == "__main__":
    sys.exit(main())
