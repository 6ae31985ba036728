"""What the checks of exercise 06b see on a CPU, and that their references are the library's."""

import random
import re

import pytest
import torch

from shnet_course.checks.core import CheckFailed
from shnet_course.checks.lesson_06 import network_and_batches
from shnet_course.checks.lesson_06b import (
    HostReads,
    process_batches,
    run_two,
    train_waiting,
    watch_training,
)
from shnet_lib.training.config import configure
from shnet_lib.training.prepare import MicroBatches

READS = {
    "item": lambda x: x[0].item(),
    "int": lambda x: int(x[0]),
    "float": lambda x: float(x[0]),
    "if": lambda x: 1 if x[0] > 0 else 2,
    "min": lambda x: min(x[0], x[1]),
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "printed": lambda x: f"{x[0]:.2f}",
    "repr": lambda x: repr(x),
    "in": lambda x: 3 in x,
    "mask as index": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
}
NO_READS = {
    "detach": lambda x: x.detach(),
    "shape": lambda x: (x.shape, len(x), x.dtype),
    "slice": lambda x: x[1:],
    "number as index": lambda x: x[torch.tensor([1, 0])],
    "sum": lambda x: ((x > 0) & (x < 2)).sum(),
    "minimum": lambda x: torch.minimum(x[0], x[1]),
    "stack": lambda x: torch.stack([x, x]).mean(),
    "masked_fill": lambda x: x.masked_fill(x > 0, 0.0),
}


@pytest.mark.parametrize("name", READS)
def test_a_reading_is_seen_once_with_its_line(name):
    with HostReads(lambda: True) as host:
        READS[name](torch.tensor([1.0, -1.0]))
    ((line, _),) = host.reads
    assert line.startswith(f'"{name}": lambda x:')


@pytest.mark.parametrize("name", NO_READS)
def test_what_needs_no_number_is_no_reading(name):
    with HostReads(lambda: True) as host:
        NO_READS[name](torch.tensor([1.0, -1.0]))
    assert host.reads == []


def test_nothing_is_seen_while_nobody_watches():
    with HostReads(lambda: False) as host:
        torch.ones(1).item()
    assert host.reads == []


def test_the_loop_of_the_exercise_waits_three_times_per_step():
    state, batches = network_and_batches(random.Random(0))
    with pytest.raises(CheckFailed) as failed:
        watch_training(train_waiting, state, batches)
    # In the last step the optimiser has done all its steps: what is read then delays nothing.
    waits = int(re.search(r"waited (\d+) times", str(failed.value))[1])
    assert waits == 3 * (len(batches) - 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_library_shares_out_as_the_exercise_asks(seed):
    def library(count, batch_size, seed, epoch, rank, processes):
        config = configure("tables", batch_size=batch_size, expressions_per_image=1, seed=seed)
        batches = MicroBatches(config, _Sized(count), rank, processes)
        first = epoch * batches.steps_per_epoch
        batches.first_step, batches.last_step = first, first + batches.steps_per_epoch
        return [[i for image in batch for i in image] for batch in batches]

    assert run_two(library, 51, 8, seed) == run_two(process_batches, 51, 8, seed)


class _Sized:
    """A data set of expressions that have an image each."""

    def __init__(self, count: int) -> None:
        self.expressions_of_image = [(i,) for i in range(count)]

    def __len__(self) -> int:
        return len(self.expressions_of_image)
