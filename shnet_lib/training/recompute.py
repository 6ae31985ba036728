"""Less memory for a second pass: activation checkpointing.

The backward pass needs what the forward pass computed, and most of a step's memory holds it. A part
that recomputes keeps only what went into it and runs once more, piece by piece, when the backward
pass comes to it. The gradients are the same: dropout draws the same numbers again, and BatchNorm
normalises by the same batch, but does not count it twice in its running statistics.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shnet_lib.model.decoder import ConvolveDoubled, convolve_doubled
from shnet_lib.model.sfm import EncoderLayer
from shnet_lib.model.shnet import SHNet

GROUPS = 4


def recompute_activations(network: SHNet) -> None:
    """From now on every part from the projections to the decoder computes twice what it would keep.

    The decoder recomputes step by step, and SFM once as a whole and then layer by layer: never more
    than one of these has its activations back. The decoder's steps that double the map have the
    largest ones, and take a group of their output channels at a time.
    """
    sfm = [] if network.sfm is None else [network.sfm]
    layers = [module for module in network.modules() if isinstance(module, EncoderLayer)]
    steps = network.upsample.steps
    for part in (*network.projections, *sfm, *layers, network.fusion, network.aspp, *steps):
        if isinstance(part, nn.Sequential) and isinstance(part[0], ConvolveDoubled):
            part.forward = partial(_by_channels, part)
        else:
            part.forward = partial(_recompute, part, part.forward)


def _recompute(part: nn.Module, forward: Callable, *inputs: Tensor, **options: Any) -> Any:
    both = partial(_first_and_second_pass, part)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=both, **options)


def _by_channels(step: nn.Sequential, context: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C', 2H, 2W): no output channel needs another one."""
    conv, norm, dropout, _ = step
    share = dropout(context.new_ones(len(context), conv.out_channels, 1, 1))  # 0 where dropped

    def of(channels: slice, context: Tensor) -> Tensor:
        doubled = convolve_doubled(context, conv.weight[channels], conv.bias[channels])
        mean, variance = norm.running_mean[channels], norm.running_var[channels]
        scale = (norm.weight[channels], norm.bias[channels])
        normed = F.batch_norm(
            doubled, mean, variance, *scale, norm.training, norm.momentum, norm.eps
        )
        return (normed * share[:, channels].type_as(normed)).relu_()

    if norm.training:
        norm.num_batches_tracked += 1
    size = -(-conv.out_channels // GROUPS)
    groups = [slice(start, start + size) for start in range(0, conv.out_channels, size)]
    return torch.cat([_recompute(step, partial(of, group), context) for group in groups], dim=1)


def _first_and_second_pass(part: nn.Module) -> tuple:
    return nullcontext(), _statistics_untouched(part)


@contextmanager
def _statistics_untouched(part: nn.Module) -> Iterator[None]:
    """The second pass must not move the BatchNorms' running statistics again.

    With a momentum of 0 they stay where they are, and a counter that is not there counts nothing.
    """
    norms = [module for module in part.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
