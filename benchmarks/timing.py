"""Several contenders timed in turns, so that what else the machine does falls on all alike."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.memory import arithmetic


def in_turns(contenders: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The fastest seconds of each, for what else the machine does can only add to them.

    A first round is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + repeats):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: min(values[1:]) for name, values in seconds.items()}


def forward_backward(network: nn.Module, batch: dict, precision: torch.dtype) -> None:
    """The whole network and the loss on its logits; the gradients are thrown away."""
    network.zero_grad()
    with arithmetic(precision):
        logits = network(batch).float()
    F.binary_cross_entropy_with_logits(logits, batch["target"]).backward()


def run_part(part: Callable[..., Tensor], inputs: tuple, precision: torch.dtype) -> None:
    """A part forward, and backward to its inputs and weights."""
    with arithmetic(precision):
        output = part(*inputs)
    torch.autograd.backward(output, [torch.ones_like(each) for each in output])
