"""Section 8, with the minutes left: `quick` for its time, then rows of Tables 2 and 4.

Each run is a process, several at once on the one GPU. This section's own process never touches the
GPU, so that they can be forked from it. A finished row goes into ablations_gpu.csv at once.
"""

import csv
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.children import Child
from benchmarks.sizes import TINY
from refgen.refshapes import IMAGES, generate
from shnet_lib.command import main
from shnet_lib.training import ablations
from shnet_lib.training.config import PRESETS, TrainConfig, configure, parse_settings

PRESET = "tables"
AT_ONCE = 8  # runs of a network this small leave a large GPU idle most of the time
TINY_IMAGES = {"train": 4, "val": 1, "testA": 1, "testB": 1}
SHIPPED = Path(__file__).parents[2] / "data" / "refshapes"


def make_refshapes(send: Callable, folder: Path, tiny: bool) -> None:
    """Two minutes of one core: it is begun with the first section and read in this one."""
    os.nice(10)
    generate(folder, TINY_IMAGES if tiny else IMAGES)


def refshapes_folder(scratch: Path, tiny: bool) -> Path:
    """The one that the course reads, where it is there already."""
    return SHIPPED if SHIPPED.exists() and not tiny else scratch / "refshapes"


def measure_tables(bench: Bench) -> None:
    data = refshapes_folder(bench.scratch, bench.tiny)
    while not data.exists():
        if bench.left() <= 0:
            raise TimeoutError(f"{data} was not made in time: gpu.log may say why")
        time.sleep(0.2)
    settings = _tiny_settings() if bench.tiny else []
    bench.measure("quick, alone", partial(run_quick, bench, data, settings))
    run_rows(bench, data, settings)


def _tiny_settings() -> list[str]:
    """Of a command line."""
    widths = ",".join(map(str, TINY.decoder_widths))
    sizes = f"image_size={TINY.image_size} grid={TINY.grid} channels={TINY.channels}"
    model = f"{sizes} heads={TINY.heads} decoder_widths={widths}".split()
    return [*(f"model.{each}" for each in model), "steps=2", "evaluate_every=2", "batch_size=4"]


def run_quick(bench: Bench, data: Path, settings: list[str]) -> dict:
    """A quarter of its steps through the command, and what all of them take at this rate."""
    folder = bench.scratch / "quick"
    arguments = ["--preset", "quick", "--data", str(data), "--run", str(folder)]
    whole = PRESETS["quick"].steps
    steps = 2 if bench.tiny else whole // 4
    arguments += ["--set", *settings, f"steps={steps}"]
    began = time.monotonic()
    threads = 1 if bench.tiny else os.cpu_count() or 1
    _wait(_start(bench, "train", arguments, threads), bench.ends)
    seconds = time.monotonic() - began
    report = json.loads((folder / "metrics.json").read_text())
    with (folder / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    return {
        "steps": steps,
        "seconds with start and evaluation": seconds,
        "seconds of training": report["seconds"],
        f"seconds of {whole} steps": report["seconds"] * whole / steps,
        "expressions/s": float(history[-1]["samples_per_second"]),
        "overall IoU, val": report["val"]["overall_iou"],
    }


def _wait(child: Child, until: float) -> None:
    """Raises RuntimeError where it does not end well, and in time."""
    with child:
        list(child.sent(until))
    if child.failed:
        raise RuntimeError(child.failed)


def _command(send: Callable, command: str, arguments: list[str], threads: int) -> None:
    """What `shnet COMMAND ...` runs, without importing all of it anew."""
    torch.set_num_threads(max(threads, 1))
    if status := main([command, *arguments]):
        raise RuntimeError(f"exit status {status}: its last line is in gpu.log")


def _start(bench: Bench, command: str, arguments: list[str], threads: int) -> Child:
    return Child(_command, (command, arguments, threads), bench.out / "gpu.log", bench.start)


def run_rows(bench: Bench, data: Path, settings: list[str]) -> None:
    """Every row with seed 0, then with 1, then 2, until the time is over."""
    table = bench.out / "ablations_gpu.csv"
    base = configure(PRESET, **parse_settings(settings))
    cores = os.cpu_count() or 1
    at_once = 2 if bench.tiny else max(min(AT_ONCE, cores - 2), 1)
    rows = list(ablations.ROWS)[:2] if bench.tiny else list(ablations.ROWS)
    waiting = [(row, seed) for seed in ablations.SEEDS[: 1 if bench.tiny else None] for row in rows]
    waiting = [run for run in waiting if not _is_in(table, *run, base)]
    running: dict[tuple[str, int], tuple[Child, float]] = {}
    try:
        while (waiting or running) and bench.left() > 0:
            while waiting and len(running) < at_once:
                row, seed = waiting.pop(0)
                arguments = ["--data", str(data), "--out", str(table), "--preset", PRESET]
                arguments += ["--runs", str(bench.scratch / "ablations")]
                arguments += ["--rows", row, "--seeds", str(seed)]
                arguments += ["--set", *settings] if settings else []
                child = _start(bench, "ablate", arguments, cores // at_once)
                running[row, seed] = child, time.monotonic()
            time.sleep(0.05)
            for run in [run for run, (child, _) in running.items() if not child.process.is_alive()]:
                child, began = running.pop(run)
                seconds = time.monotonic() - began
                ended = partial(read_row, child, table, run, base, seconds)
                bench.measure(run[0], ended, seed=run[1], **{"at once": at_once})
    finally:
        for child, _ in running.values():
            child.__exit__()
    left = {"not finished": len(running), "not begun": len(waiting)}
    bench.send({"name": "rows of the tables that time did not reach", **left})


def _key(row: str, seed: int, base: TrainConfig) -> dict[str, str]:
    return ablations.key_of(row, ablations.config_of(row, seed, base))


def _is_in(table: Path, row: str, seed: int, base: TrainConfig) -> bool:
    return ablations.holds(table, _key(row, seed, base))


def read_row(
    child: Child, table: Path, run: tuple[str, int], base: TrainConfig, seconds: float
) -> dict:
    """What a run that has ended put into the table."""
    _wait(child, time.monotonic() + 1)
    key = _key(*run, base)
    (line,) = (line for line in ablations.read_lines(table) if key.items() <= line.items())
    return {"seconds": seconds, "overall IoU, val": float(line["val_overall_iou"])}
