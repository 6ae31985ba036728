"""What a machine has, what the paper's network needs of it, and how long a run would take.

The needs were counted at the paper's size (docs/performance.md): a training step at an 18 x 18 grid
with 512 channels. They grow with the grid's cells.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from shnet_course.measure.memory import MIB
from shnet_course.measure.training import memory_of_step
from shnet_course.paths import COURSE
from shnet_course.tables import Table
from shnet_lib.data import Expression
from shnet_lib.model.shnet import PAPER
from shnet_lib.training.config import TrainConfig
from shnet_lib.training.fit import fit
from shnet_lib.training.limits import free_memory

RECORDS = (COURSE / "docs/results/gpu.json", COURSE / "docs/performance.json")
ROOM = 0.75  # of the free memory: convolutions borrow some, and freed pieces do not always fit
FORWARD = 1 / 3  # of a step's time: the backward pass computes twice as much


@dataclass(frozen=True)
class Machine:
    """The device that a run would use. Memory is what is free on it, in bytes."""

    name: str
    kind: str  # "cuda", "mps" or "cpu"
    memory: int
    cores: int
    gpus: int = 0
    bf16: bool = False  # whether it multiplies in it


def this_machine() -> Machine:
    """What torch and the system say of this one."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 0
    cores = cores or psutil.cpu_count() or 1
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        bf16 = torch.cuda.get_device_capability() >= (8, 0)  # Ampere; before it, emulated
        name, gpus = torch.cuda.get_device_name(), torch.cuda.device_count()
        return Machine(name, "cuda", free, cores, gpus, bf16)
    if torch.backends.mps.is_available():
        return Machine("Apple's GPU", "mps", free_memory(), cores, 1)
    return Machine("CPU", "cpu", free_memory(), cores)


def needed_memory(config: TrainConfig, accumulate: int, precision: str, recompute: bool) -> int:
    """Bytes at the peak of a training step of the paper's network, about."""
    fixed, per_expression = memory_of_step(*RECORDS, PAPER.grid)[recompute]
    cells = (config.model.grid / PAPER.grid) ** 2
    numbers = 2 if precision == "no" else 1  # float32 takes twice what was counted
    return round((fixed + config.batch_size / accumulate * numbers * per_expression * cells) * MIB)


def is_paper_size(config: TrainConfig) -> bool:
    """Whether the counted needs speak of this network."""
    return config.model.channels == PAPER.channels


def advise(config: TrainConfig, machine: Machine) -> dict[str, Any]:
    """The settings with which a step of the paper's network fits the machine; {} for smaller ones.

    The batch stays what it is. Memory is saved first by recomputing, which changes no result, and
    only then by accumulating: BatchNorm then sees a part of the batch (lesson 06).
    """
    if not is_paper_size(config):
        return {}
    precision = {"cuda": "bf16" if machine.bf16 else "fp16", "mps": "no"}.get(
        machine.kind, "no" if config.precision == "fp16" else config.precision
    )
    parts = [n for n in range(1, config.batch_size // 2 + 1) if config.batch_size % n == 0]
    ways = [(1, False), *((accumulate, True) for accumulate in parts or [1])]
    fitting = [
        (accumulate, recompute)
        for accumulate, recompute in ways
        if needed_memory(config, accumulate, precision, recompute) <= ROOM * machine.memory
    ]
    accumulate, recompute = (fitting or ways[-1:])[0]
    workers = min(config.workers, machine.cores)
    return {
        "accumulate": accumulate,
        "recompute": recompute,
        "precision": precision,
        "workers": workers,
    }


def what_you_have(config: TrainConfig, machine: Machine) -> Table:
    """The machine, and beside each setting that depends on it what would fit."""
    gpus = f", one of {machine.gpus}" if machine.gpus > 1 else ""
    rows = [
        ("device", f"{machine.name}{gpus}", ""),
        ("free memory", f"{machine.memory / MIB / 1024:.1f} GiB", ""),
        ("processor cores", str(machine.cores), ""),
    ]
    advice = advise(config, machine)
    if not advice:
        note = "This network is a small one: it fits every machine, and there is nothing to choose."
        return Table(("", "this machine", ""), rows, note)
    chosen = (config.accumulate, config.precision, config.recompute)
    for title, settings in (
        ("a step would take", chosen),
        ("as advised below", (advice["accumulate"], advice["precision"], advice["recompute"])),
    ):
        rows.append((title, f"{needed_memory(config, *settings) / MIB / 1024:.1f} GiB", ""))
    marked = set()
    for name, value in advice.items():
        own = getattr(config, name)
        if own != value:
            marked.add(len(rows))
        rows.append((name, _text(own), _text(value)))
    changes = " ".join(
        f"{name}={_text(value)}" for name, value in advice.items() if getattr(config, name) != value
    )
    note = f"To follow the advice, add to settings: {changes}" if changes else "It fits as it is."
    if needed_memory(config, advice["accumulate"], advice["precision"], advice["recompute"]) > (
        ROOM * machine.memory
    ):
        note += " Even so the memory will hardly suffice: lower model.grid."
    return Table(("", "this run", "advice"), rows, note, frozenset(marked))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- how long -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """Some real steps: seconds per step after the first, and the memory that they took."""

    seconds_per_step: float
    memory: int  # bytes


def peak_memory() -> int:
    """Bytes: the most that tensors took on the GPU so far; on a CPU what the process holds now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


def try_steps(
    config: TrainConfig,
    expressions: Mapping[str, Sequence[Expression]],
    folder: Path,
    steps: int = 20,
) -> Trial:
    """Take the first steps of a run, in a folder that is removed again.

    The first half is not counted: there the workers start and the GPU chooses its kernels.

    Raises:
        What `fit` raises: whatever would end the run within its first minutes.
    """
    short = replace(config, steps=steps, epochs=None, evaluate_every=steps)
    val = expressions[config.val_split][: config.batch_size]
    data = {config.train_split: expressions[config.train_split], config.val_split: val}
    read: list[tuple[float, float]] = [(0, time.monotonic())]
    Path(folder).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix="trial-") as scratch:
        fit(
            short,
            data,
            Path(scratch),
            on_steps=lambda rows: read.append((rows[-1]["step"], time.monotonic())),
        )
        memory = peak_memory()
    (first, began), (last, ended) = read[-2:]
    return Trial((ended - began) / (last - first), memory)


def count_steps(config: TrainConfig, expressions: Mapping[str, Sequence[Expression]]) -> int:
    """Optimiser steps of the whole run, about: images may leave a rest."""
    per_epoch = max(1, len(expressions[config.train_split]) // config.batch_size)
    return config.steps or config.epochs * per_epoch


def hours_of(
    config: TrainConfig, expressions: Mapping[str, Sequence[Expression]], seconds_per_step: float
) -> float:
    """Hours of the whole run: its steps, and a forward pass of validation at each evaluation."""
    steps = count_steps(config, expressions)
    per_epoch = max(1, len(expressions[config.train_split]) // config.batch_size)
    evaluations = -(-steps // (config.evaluate_every or per_epoch))
    batches = len(expressions[config.val_split]) / config.batch_size
    return (steps + evaluations * batches * FORWARD) * seconds_per_step / 3600
