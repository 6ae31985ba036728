"""How much memory a training step takes, counted without a step: on tensors that hold no numbers.

PyTorch's fake tensors have a shape, a type and a place, and every operation on them gives the
shapes that the real one gives. So a batch of 50 at a 40 x 40 grid can be counted on any machine.
Counted are the tensors. What a GPU's convolutions borrow for themselves, and what its allocator
leaves unused between tensors, comes on top.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from shnet_course.measure.memory import PeakBytes


def saved_bytes(network: nn.Module, batch: dict, precision: torch.dtype) -> int:
    """What the forward pass keeps for the backward pass: each storage once, no parameters."""
    known = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
    known |= {leaf.untyped_storage()._cdata for leaf in tree_leaves(batch)}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), arithmetic(precision):
        network(batch)
    return sum(storage.nbytes() for storage in saved.values())


def arithmetic(precision: torch.dtype):
    return nullcontext() if precision == torch.float32 else torch.autocast("cpu", precision)


def peak_bytes(network: nn.Module, batch: dict, precision: torch.dtype) -> dict[str, int]:
    """Of a training step: weights, AdamW's two averages, and all that forward and backward make.

    The gradients are among what backward makes.
    """
    trained = sum(p.numel() * 4 for p in network.parameters() if p.requires_grad)
    frozen = sum(p.numel() * 4 for p in network.parameters() if not p.requires_grad)
    count = PeakBytes()
    with count:
        with arithmetic(precision):
            logits = network(batch).float()
        loss = F.binary_cross_entropy_with_logits(logits, batch["target"])
        loss.backward()
    made = count.peak
    return {
        "weights": trained + frozen,
        "optimizer": 2 * trained,
        "forward and backward": made,
        "together": 3 * trained + frozen + made,
    }


def on_fake_tensors(make: Callable[[], tuple[nn.Module, dict]], measure: Callable):
    """`measure(network, batch)` where both are made of fake tensors."""
    with FakeTensorMode():
        return measure(*make())
