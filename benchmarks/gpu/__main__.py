"""python -m benchmarks.gpu --out FOLDER --minutes 8

measures one GPU, the most valuable things first, and keeps FOLDER/gpu.json whole after every
measurement, so that it can be stopped at any time. What fails says why there, and at length
in FOLDER/gpu.log. Rows of Tables 2 and 4 come into FOLDER/ablations_gpu.csv.

`--only` measures some sections anew and leaves the others as they were; `--show FOLDER/gpu.json`
prints what is there; `--tiny` only shows that everything runs, on a CPU too.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.about import measure_device
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.children import Child
from benchmarks.gpu.compiled import measure_compiled
from benchmarks.gpu.memory import measure_memory
from benchmarks.gpu.record import Record, read_record
from benchmarks.gpu.rewritings import measure_rewritings
from benchmarks.gpu.right import measure_right
from benchmarks.gpu.show import show
from benchmarks.gpu.step import measure_step
from benchmarks.gpu.tables import make_refshapes, measure_tables, refshapes_folder
from benchmarks.gpu.waits import measure_waits
from benchmarks.gpu.whole import measure_whole
from shnet_lib.errors import report_error

# In this order; the most seconds of each, of 8 minutes. What is not used goes to the tables.
SECTIONS: dict[str, tuple[Callable[[Bench], None], float]] = {
    "device": (measure_device, 25),
    "right": (measure_right, 25),
    "step": (measure_step, 120),
    "rewritings": (measure_rewritings, 40),
    "waits": (measure_waits, 30),
    "memory": (measure_memory, 60),
    "run": (measure_whole, 110),
    "tables": (measure_tables, 480),
    "compile": (measure_compiled, 120),
}
MINUTES = 8.0
ASIDE = 10  # seconds of them to import torch and to clear up


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 also where a section failed, for the rest is worth having; 2 where
    there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write into")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="in all (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", default=[])
    parser.add_argument("--tiny", action="store_true", help="small sizes, one repetition")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print it, measure nothing")
    given = parser.parse_args(arguments)
    if given.show:
        print(show(read_record(given.show)))
        return 0
    if not given.out:
        parser.error("name a folder with --out")
    given.out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="shnet-bench-gpu-"))
    try:
        return measure_all(given, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure_all(given: argparse.Namespace, scratch: Path) -> int:
    began = time.monotonic()
    log = given.out / "gpu.log"
    device, start = find_device(log, given.tiny)
    if device is None and not given.tiny:
        return report_error(
            f"torch {torch.__version__} finds no CUDA device; {log} has what it says. "
            "--tiny shows on a CPU that everything runs"
        )
    made = {"device": device or "CPU", "torch": torch.__version__, "tiny": given.tiny}
    made |= {"began": datetime.now(UTC).isoformat(timespec="seconds")}
    path = given.out / "gpu.json"
    kept = read_record(path)["sections"] if given.only and path.exists() else {}
    record = Record(path, made | {"minutes": given.minutes}, kept)

    chosen = [name for name in SECTIONS if name in (given.only or SECTIONS)]
    ends = began + 60 * given.minutes - ASIDE
    refshapes = refshapes_folder(scratch, given.tiny)
    with Child(make_refshapes, (scratch / "refshapes", given.tiny), log, start) as drawing:
        if "tables" not in chosen or refshapes != scratch / "refshapes":
            drawing.process.kill()
        for name in chosen:
            seconds = seconds_for(name, chosen, ends, given.minutes)
            measure_section(record, name, made, seconds, log, scratch, given, start)
    minutes = (time.monotonic() - began) / 60
    print(f"\n{minutes:.1f} minutes. python -m benchmarks.gpu --show {path}", flush=True)
    return 0


def seconds_for(name: str, chosen: list[str], ends: float, minutes: float) -> float:
    """A section's share, and never more than is left; the last one's share is kept for it."""
    left = ends - time.monotonic()
    share = minutes / MINUTES
    if name != "compile" and "compile" in chosen:
        left -= SECTIONS["compile"][1] * share
    return min(SECTIONS[name][1] * share, left)


def measure_section(
    record: Record,
    name: str,
    made: dict[str, Any],
    seconds: float,
    log: Path,
    scratch: Path,
    given: argparse.Namespace,
    start: str,
) -> None:
    """In a process of its own, which is asked to end a little before it is ended."""
    began = time.monotonic()
    record.begin(name, made)
    if seconds < 3:
        record.end(name, 0.0, "no time was left for it")
        return
    soon = began + max(0.9 * seconds, seconds - 6)
    earlier = dict(record.values["sections"])
    arguments = (name, given.tiny, soon, scratch, given.out, earlier, start)
    with Child(run_section, arguments, log, start) as child:
        for row in child.sent(began + seconds):
            record.add(name, row)
    record.end(name, time.monotonic() - began, child.failed)


def run_section(send: Callable[[dict], None], name: str, tiny: bool, *bench: Any) -> None:
    if tiny:
        torch.set_num_threads(1)  # on so little, threads only wait for each other
    print(f"\n--- {name}", flush=True)
    gc.freeze()  # what was imported is no garbage: each collection would look through all of it
    SECTIONS[name][0](Bench(send, tiny, *bench))


def find_device(log: Path, tiny: bool) -> tuple[str | None, str]:
    """The GPU's name, and how processes have to be started for it to answer.

    This process only ever asks another one: a GPU that was touched before a fork is lost to the
    forked. Where some package touches it while it is imported, Python has to be started anew.
    """
    for start in ("fork", "spawn"):
        with Child(name_device, (), log, start) as child:
            names = list(child.sent(time.monotonic() + 60))
        if names or tiny:
            break
    return (names[0] if names else None), start


def name_device(send: Callable[[str], None]) -> None:
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")
        send(torch.cuda.get_device_name())


if __name__ == "__main__":
    sys.exit(main())
