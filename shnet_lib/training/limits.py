"""What a machine has too little of, told in one line: memory, shared memory, time to read."""

import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from shnet_lib.errors import ShnetError
from shnet_lib.training.config import TrainConfig

SHARED_MEMORY = Path("/dev/shm")  # where workers put their batches, on Linux
PREFETCH = 2  # batches that each worker has ready (torch's prefetch_factor)
WORKER_TIMEOUT = 300  # seconds until a worker that gives nothing is taken for dead
NO_MEMORY = re.compile("can't allocate memory|cannot allocate memory|not enough memory", re.I)


class OutOfMemory(ShnetError, MemoryError):
    """The memory of the machine or of its GPU does not suffice."""


class LoaderError(ShnetError, RuntimeError):
    """The processes that read images cannot work."""


# --- memory ---------------------------------------------------------------------------------------


@contextmanager
def enough_memory(config: TrainConfig) -> Iterator[None]:
    """Say what to lower where the block's memory does not suffice.

    Raises:
        OutOfMemory: the memory of the machine, or of the GPU, is full.
    """
    try:
        yield
    except OutOfMemory:
        raise
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(_lower_on_gpu(config, str(error))) from error
    except (MemoryError, OSError, RuntimeError) as error:
        if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
            raise OutOfMemory(_lower_on_cpu(config, str(error))) from error
        raise


def _lower_on_gpu(config: TrainConfig, error: str) -> str:
    """Its figures are those of docs/performance.md: saved for the backward pass, in bf16."""
    return (
        f"the GPU's memory is full ({error.splitlines()[0]}). Lower batch_size "
        f"({config.batch_size}) or raise accumulate ({config.accumulate}): each forward takes "
        "batch_size / accumulate expressions, shared by the processes. Or lower model.grid "
        f"({config.model.grid}) or model.image_size ({config.model.image_size}): in bf16 the "
        "paper's network keeps 66 MiB per expression at grid 18, and 309 MiB at grid 40. Or set "
        "recompute=true, which keeps less and computes it twice. Other settings need another run "
        "folder"
    )


def _lower_on_cpu(config: TrainConfig, error: str) -> str:
    why = f" ({error.splitlines()[0]})" if error else ""
    caching = "Set cache_features=false, or lower" if config.cache_features else "Lower"
    return (
        f"the memory does not suffice{why}: {free_memory() / 1e9:.3g} GB are free. {caching} "
        f"workers ({config.workers}) or batch_size ({config.batch_size}), or raise accumulate "
        f"({config.accumulate}), or give the process more memory (ulimit -v, docker run --memory)"
    )


def free_memory() -> int:
    """Bytes that this process can still take: of the machine, its container, its own limit."""
    free = [psutil.virtual_memory().available, *_free_of_container()]
    if sys.platform == "linux":
        import resource  # Windows has none

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().vms)
    return max(min(free), 0)


def _free_of_container(root: Path = Path("/")) -> list[int]:
    """What Linux's control group leaves (docker run --memory); nothing where there is no limit.

    Cached files count as used there, and are given up when memory is asked for.
    """
    try:
        group = (root / "proc/self/cgroup").read_text().splitlines()[-1].partition("::/")[2]
        folder = root / "sys/fs/cgroup" / group
        limit = int((folder / "memory.max").read_text())  # "max" is no number: no limit
        used = int((folder / "memory.current").read_text())
        figures = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [limit - used + int(figures["inactive_file"]) + int(figures["active_file"])]
    except (OSError, ValueError, IndexError, KeyError):
        return []


# --- processes that read --------------------------------------------------------------------------


def make_loader(dataset: Dataset, workers: int, **settings: Any) -> DataLoader:
    """A DataLoader that says at once that its workers have too little shared memory.

    Raises:
        LoaderError: their batches do not fit into it. Without the check they would hang or die.
    """
    if workers:
        waiting = {"timeout": WORKER_TIMEOUT, "prefetch_factor": PREFETCH}
        loader = DataLoader(dataset, num_workers=workers, **waiting, **settings)
        _require_shared_memory(loader)
        return loader
    return DataLoader(dataset, **settings)


def read_batches(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches.

    Raises:
        LoaderError: a worker died or gave nothing for minutes.
        ShnetError: what was wrong with a file, in the words of the worker that read it.
    """
    try:
        yield from loader
    except ShnetError as error:
        raise _as_in_one_process(error) from error
    except RuntimeError as error:
        if "DataLoader" not in str(error) and "shared memory" not in str(error):
            raise
        raise LoaderError(
            f"{' '.join(str(error).split())} A process that reads images was killed or is stuck, "
            "as a rule for want of memory or shared memory: lower workers "
            f"({loader.num_workers}), 0 reads without such processes"
        ) from error


def show_reading(loader: DataLoader, title: str, hidden: bool = False) -> Iterator[Any]:
    """The loader's batches under a progress bar that goes away. Raises as `read_batches` does."""
    batches = read_batches(loader)
    return tqdm(batches, total=len(loader), desc=title, leave=False, disable=hidden)


def _as_in_one_process(error: ShnetError) -> ShnetError:
    """torch puts the worker's whole traceback before the words of its error."""
    kind = re.escape(f"{type(error).__module__}.{type(error).__qualname__}: ")
    *before, words = re.split(f"^{kind}", str(error), flags=re.M)
    return type(error)(words.strip()) if before else error


def _require_shared_memory(loader: DataLoader) -> None:
    indices = next(iter(loader.batch_sampler), None)
    if indices is None or not SHARED_MEMORY.is_dir():
        return
    size = _bytes_of(loader.collate_fn([loader.dataset[index] for index in indices]))
    needed = loader.num_workers * PREFETCH * size
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise LoaderError(
            f"shared memory ({SHARED_MEMORY}, {free / 1e6:,.0f} MB free) is too small for workers="
            f"{loader.num_workers}: each has {PREFETCH} batches of {size / 1e6:,.0f} MB in it. "
            f"Start the container with docker run --shm-size={needed * 2 // 10**9 + 1}g, or set "
            "workers=0"
        )


def _bytes_of(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return batch.nbytes
    parts: Iterable = batch.values() if isinstance(batch, dict) else batch
    return sum(map(_bytes_of, parts)) if isinstance(batch, (dict, list, tuple)) else 0
