"""What ends a run from outside, told in one sentence with the way to go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from shnet_lib.training.config import TrainConfig
from shnet_lib.training.resume import has_progress, read_progress


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while training; its text says how to go on."""

    def _render_traceback_(self) -> list[str]:
        """Jupyter shows these lines in place of the traceback, in which nothing is wrong."""
        return [str(self)]


@contextmanager
def way_on(config: TrainConfig, run_folder: Path) -> Iterator[None]:
    """Say what to do where the block is interrupted or the GPU's memory does not suffice.

    Nothing is saved at that moment, in the middle of a step: a run goes on from its last
    evaluation, and from there it takes the same steps again.

    Raises:
        Interrupted: at Ctrl-C, or the stop button of a notebook.
        MemoryError: the GPU's memory is full.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(how_to_go_on(run_folder)) from None
    except torch.OutOfMemoryError as error:
        raise MemoryError(what_to_lower(config, str(error))) from error


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


def what_to_lower(config: TrainConfig, error: str) -> str:
    """One line about memory. Its figures were measured: saved for the backward pass, at C = 512
    and two SFM layers, in bf16 and without attention weights."""
    return (
        f"the GPU's memory is full ({error.splitlines()[0]}). Lower batch_size "
        f"({config.batch_size}) or raise accumulate ({config.accumulate}): each forward takes "
        "batch_size / accumulate expressions, shared by the processes. Or lower model.grid "
        f"({config.model.grid}) or model.image_size ({config.model.image_size}): in bf16 the "
        "paper's network keeps 67 MiB an expression at grid 18, and 311 MiB at grid 40. Or set "
        "recompute=true, which keeps less and computes it twice. Other settings need another run "
        "folder"
    )
