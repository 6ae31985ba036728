"""What ends a run from outside, told in one sentence with the way to go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shnet_lib.training.config import TrainConfig
from shnet_lib.training.limits import enough_memory
from shnet_lib.training.resume import has_progress, read_progress


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while training; its text says how to go on."""

    def _render_traceback_(self) -> list[str]:
        """Jupyter shows these lines in place of the traceback, in which nothing is wrong."""
        return [str(self)]


@contextmanager
def explaining_stops(config: TrainConfig, run_folder: Path) -> Iterator[None]:
    """Say what to do where the block is interrupted or memory does not suffice.

    Nothing is saved at that moment, in the middle of a step: a run goes on from its last
    evaluation, and from there it takes the same steps again.

    Raises:
        Interrupted: at Ctrl-C, or the stop button of a notebook.
        OutOfMemory: the memory of the machine, or of the GPU, is full.
    """
    try:
        with enough_memory(config):
            yield
    except KeyboardInterrupt:
        raise Interrupted(how_to_go_on(run_folder)) from None


def how_to_go_on(run_folder: Path) -> str:
    """One line about a run that was interrupted."""
    where = Path(run_folder).absolute()
    if not has_progress(where):
        return f"interrupted before its first evaluation, {where} has nothing saved: begin it anew"
    return (
        f"interrupted; {where} goes on after step {read_progress(where)['step']}, its last "
        "evaluation: with resume = True in a notebook, --resume on the command line, "
        f"make train RESUME=1 RUN={where}"
    )
