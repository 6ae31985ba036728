"""How much a forward pass keeps in memory for the backward pass, and the fullest moment of a step:
counted exactly, on any device."""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


class PeakBytes(TorchDispatchMode):
    """Inside of it, `now` bytes are in tensors made since it began, and never more than `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.alive or storage.nbytes() == 0:
            return
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        self.alive[key] = weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, nbytes: int) -> None:
        self.now -= nbytes
        del self.alive[key]
