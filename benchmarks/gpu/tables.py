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
from shnet_lib.training import __main__ as training
from shnet_lib.training import ablations
from shnet_lib.training.checkpoint import replacing_file
from shnet_lib.training.config import PRESETS, configure, parse_settings

PRESET = "tables" if "tables" in PRESETS else "quick"
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
    _ended_well(
        _start(bench, "training", arguments, 1 if bench.tiny else os.cpu_count() or 1), bench
    )
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


def _ended_well(child: Child, bench: Bench) -> None:
    with child:
        for _ in child.sent(bench.ends):
            pass
    if child.failed:
        raise RuntimeError(child.failed)


def _command(send: Callable, command: str, arguments: list[str], threads: int) -> None:
    """What `python -m shnet_lib.training...` runs, without importing all of it anew."""
    torch.set_num_threads(max(threads, 1))
    main = {"training": training.main, "ablations": ablations.main}[command]
    if status := main(arguments):
        raise RuntimeError(f"exit status {status}: its last line is in gpu.log")


def _start(bench: Bench, command: str, arguments: list[str], threads: int) -> Child:
    return Child(_command, (command, arguments, threads), bench.out / "gpu.log", bench.start)


def run_rows(bench: Bench, data: Path, settings: list[str]) -> None:
    """Every row with seed 0, then with 1, then 2, until the time is over; a row each that ended."""
    table = bench.out / "ablations_gpu.csv"
    cores = os.cpu_count() or 1
    at_once = 2 if bench.tiny else max(min(AT_ONCE, cores - 2), 1)
    rows = list(ablations.ROWS)[:2] if bench.tiny else list(ablations.ROWS)
    waiting = [(row, seed) for seed in ablations.SEEDS for row in rows]
    waiting = [run for run in waiting if not _is_in(table, *run, settings)]
    waiting = waiting[:2] if bench.tiny else waiting
    running: dict[tuple[str, int], tuple[Child, float, Path]] = {}
    try:
        while (waiting or running) and bench.left() > 0:
            while waiting and len(running) < at_once:
                run = waiting.pop(0)
                folder = bench.scratch / f"ablation-{len(waiting)}"
                arguments = ["--data", str(data), "--out", str(folder / "row.csv")]
                arguments += ["--runs", str(folder), "--preset", PRESET]
                arguments += ["--rows", run[0], "--seeds", str(run[1])]
                arguments += ["--set", *settings] if settings else []
                child = _start(bench, "ablations", arguments, cores // at_once)
                running[run] = child, time.monotonic(), folder
            time.sleep(0.05)
            for run in [
                run for run, (child, *_) in running.items() if not child.process.is_alive()
            ]:
                child, began, folder = running.pop(run)
                with child:
                    list(child.sent(time.monotonic() + 1))
                seconds = time.monotonic() - began
                finished = partial(keep_row, table, folder / "row.csv", child.failed, seconds)
                bench.measure(run[0], finished, seed=run[1], **{"at once": at_once})
    finally:
        for child, *_ in running.values():
            child.__exit__()
    left = {"not finished": len(running), "not begun": len(waiting)}
    bench.send({"name": "rows of the tables that time did not reach", **left})


def _is_in(table: Path, row: str, seed: int, settings: list[str]) -> bool:
    """Whether the CSV holds this run, made with the same settings."""
    words = ablations.settings_of(row, seed, settings)
    command = configure(PRESET, **parse_settings(words)).command()
    return any((line["row"], line["command"]) == (row, command) for line in _read(table))


def _read(table: Path) -> list[dict[str, str]]:
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def keep_row(table: Path, made: Path, failed: str | None, seconds: float) -> dict:
    """Add a finished run's line to the table, whole or not at all."""
    if failed:
        raise RuntimeError(failed)
    lines = [*_read(table), *_read(made)]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    with replacing_file(table) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(lines)
    return {"seconds": seconds, "overall IoU, val": float(lines[-1]["val_overall_iou"])}
