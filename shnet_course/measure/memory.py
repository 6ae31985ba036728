"""How much a forward pass keeps in memory for the backward pass, counted exactly, on any device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

MIB = 2**20


def saved_bytes(run: Callable[[], object], modules: nn.Module | None = None) -> int:
    """The bytes autograd keeps while `run()` computes: what training has to hold a batch.

    Each storage counts once, however many operations share it. Parameters of `modules` are left
    out: they are there anyway, whatever the batch.
    """
    known = set() if modules is None else {_storage(p) for p in modules.parameters()}
    kept: dict[int, int] = {}  # a storage's address -> its bytes
    alive: list[Tensor] = []  # so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        address = _storage(tensor)
        if address not in known:
            kept[address] = tensor.untyped_storage().nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(kept.values())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
