"""What lesson 06b measures of a training loop, and how a batch is fitted to a GPU's memory."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shnet_course.measure.memory import MIB, PeakBytes

WARM_UP = 2  # steps that are not timed: the first ones make AdamW's averages and choose kernels
ASIDE = 1.0  # GiB of a card for CUDA itself and for what lies unused between tensors
COLUMNS = {"samples/s": ".0f", "ms/step": ".1f", "peak MiB": ".0f", "last loss": ".4f"}
# An H100's dense bf16 and the share of it that large networks reach; GFLOP of an expression at the
# paper's size: docs/performance.md. It is arithmetic, and stands where nothing was measured.
H100_TFLOP, REACHED = 790, 0.45
GFLOP = {
    "formulas as they stand": 294,
    "library": 172,
    "library, 5 expressions per image": 150,
}
NO_RECORD: dict[str, Any] = {"sections": {}}  # a record of no measurement


def measure_training(
    name: str,
    train: Callable[[nn.Module, Iterable], Sequence[float]],
    make_network: Callable[[], nn.Module],
    loader: Iterable,
    steps: int,
    samples: int,
) -> dict[str, Any]:
    """A row of the table: `train(network, batches)` timed, and its fullest moment.

    Args:
        train: takes `steps` optimiser steps and returns their losses.
        make_network: the same network each time, on its device.
        loader: the batches of all steps, equally many per step; it can be read more than once.
        samples: expressions per step.

    Returns:
        "samples/s" and "ms/step" without the first `WARM_UP` steps; "peak MiB" beyond the weights
        (of a GPU what its allocator says, of a CPU what the tensors of two steps sum up to);
        "last loss".
    """
    network = make_network()
    device = next(network.parameters()).device
    watch = Stopwatch(loader)
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    losses = train(network, watch)
    if device.type == "cuda":
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
    ended = time.perf_counter()
    per_step = len(watch.times) // steps
    seconds = (ended - watch.times[WARM_UP * per_step]) / (steps - WARM_UP)
    if device.type != "cuda":
        network = make_network()
        with PeakBytes() as count:
            train(network, islice(loader, 2 * per_step))
        peak = count.peak
    return {
        "step": name,
        "samples/s": samples / seconds,
        "ms/step": 1000 * seconds,
        "peak MiB": peak / MIB,
        "last loss": float(losses[-1]),
    }


class Stopwatch:
    """An iterable that notes when each of its items was handed over."""

    def __init__(self, items: Iterable) -> None:
        self.items = items
        self.times: list[float] = []

    def __iter__(self) -> Iterator:
        for item in self.items:
            self.times.append(time.perf_counter())
            yield item


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text; a row that only says why it has no figures as that sentence."""
    width = max(len(row["step"]) for row in rows)
    lines = [" ".join([" " * width, *(f"{name:>10}" for name in COLUMNS)])]
    for row in rows:
        figures = [f"{row[name]:>10{kind}}" for name, kind in COLUMNS.items() if name in row]
        lines.append(" ".join([f"{row['step']:{width}}", *(figures or [row["why"]])]))
    return "\n".join(lines)


# --- a GPU's figures at the paper's size ----------------------------------------------------------


def gpu_rates(record: Path) -> tuple[str, dict[str, float]]:
    """Expressions/s of a training step at the paper's size, and a sentence of where they are from.

    From the record of `make bench-gpu` where there is one, otherwise arithmetic.
    """
    values = json.loads(record.read_text(encoding="utf-8")) if record.exists() else NO_RECORD
    rows = [row for row in _rows(values, "step") if "expressions/s" in row]
    if not rows:
        rates = {name: 1000 * H100_TFLOP * REACHED / gflop for name, gflop in GFLOP.items()}
        said = f"{REACHED:.0%} of an H100's {H100_TFLOP} TFLOP/s in bf16"
        return f"Arithmetic, not measured: {said}", rates
    first = (rows[0]["sfm"], rows[0]["an image"])
    rates = {
        row["name"].replace("literal", "formulas as they stand"): row["expressions/s"]
        for row in rows
        if (row["sfm"], row["an image"]) == first
    }
    return f"Measured on one {values['made']['device']}, {first[1]} expressions per image", rates


def memory_of_step(record: Path, performance: Path, grid: int) -> dict[bool, tuple[float, float]]:
    """recompute or not -> MiB without any expression, MiB per expression (bf16).

    From the record of `make bench-gpu` where there is one, otherwise from the tensors that
    `make bench` counts in a step on 50 expressions.
    """
    values = json.loads(record.read_text(encoding="utf-8")) if record.exists() else NO_RECORD
    found = {
        row["recompute"]: (row["MiB without"], row["MiB per sample"])
        for row in _rows(values, "memory")
        if row["grid"] == grid and row["an image"] == 1
    }
    if len(found) == 2:
        return found
    for row in json.loads(performance.read_text(encoding="utf-8"))["memory"]["results"]:
        network = row["network"]
        if row["grid"] == grid and network.startswith("library, bf16"):
            gradients = row["peak MiB, optimizer"] / 2  # AdamW keeps two averages of their size
            made = row["peak MiB, forward and backward"] - gradients
            found["recompute" in network] = (row["peak MiB, together"] - made, made / 50)
    return found


def _rows(values: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    """Of a section of gpu.json those that were measured."""
    rows = values["sections"].get(section, {"rows": []})["rows"]
    return [row for row in rows if not {"failed", "skipped"} & row.keys()]
