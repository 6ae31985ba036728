"""Less memory for a second pass: activation checkpointing.

The backward pass needs what the forward pass computed, and most of a step's memory holds it. A part
that recomputes keeps only what went into it and runs once more, piece by piece, when the backward
pass comes to it. The gradients are the same: dropout draws the same numbers again, and BatchNorm
normalises by the same batch, but does not count it twice in its running statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from shnet_lib.model.decoder import ConvolveDoubled
from shnet_lib.model.sfm import EncoderLayer
from shnet_lib.model.shnet import SHNet

AT_ONCE = 8  # expressions


def recompute_activations(network: SHNet) -> None:
    """From now on every part from the projections to the decoder computes twice what it would keep.

    The decoder recomputes step by step, and SFM once as a whole and then layer by layer: never more
    than one of these has its activations back. The decoder's doubled convolutions take a few
    expressions at a time.
    """
    sfm = [] if network.sfm is None else [network.sfm]
    layers = [module for module in network.modules() if isinstance(module, EncoderLayer)]
    decoder = (network.aspp, *network.upsample.steps)
    for module in network.modules():
        if isinstance(module, ConvolveDoubled):
            module.at_once = AT_ONCE
    for part in (*network.projections, *sfm, *layers, network.fusion, *decoder):
        part.forward = partial(
            checkpoint,
            part.forward,
            use_reentrant=False,
            context_fn=partial(_first_and_second_pass, part),
        )


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
