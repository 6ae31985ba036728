"""python -m benchmarks

writes docs/performance.json, the tables of docs/performance.md and docs/performance_growth.png.
`--only` measures some sections anew and leaves the others as they were. The input pipe needs
photos: --only pipe --data FOLDER --dataset unc. `--tiny` only shows that everything runs.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.compiled import measure_compiled
from benchmarks.environment import VARIABLES, measure_environment
from benchmarks.growth import measure_growth, measure_memory
from benchmarks.pipe import measure_pipe
from benchmarks.report import draw_growth, renew_tables
from benchmarks.sizes import PAPER, TINY
from benchmarks.step import check_equal, measure_steps
from shnet_lib.training.config import PRESETS

DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = ("equality", "step", "growth", "memory", "environment", "compile", "pipe")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="all but pipe if not given")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of a data set with photos, for pipe")
    parser.add_argument("--dataset", default="unc", help="its name (default %(default)s)")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder to write into")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(arguments)
    chosen = given.only or [name for name in SECTIONS if name != "pipe" or given.data]
    if "pipe" in chosen and not given.data:
        parser.error("pipe reads photos: name their folder with --data")

    config = TINY if given.tiny else PAPER
    quick = TINY if given.tiny else PRESETS["quick"].model
    measure = {
        "equality": lambda: check_equal(config),
        "step": lambda: measure_steps(config, given.repeats),
        "growth": lambda: measure_growth(config, given.repeats),
        "memory": lambda: measure_memory(config),
        "environment": lambda: measure_environment(given.repeats, given.tiny),
        "compile": lambda: measure_compiled(quick, given.repeats),
        "pipe": lambda: measure_pipe(given.data, given.dataset, config.image_size, given.repeats),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "performance.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for section in chosen:
        print(f"{section} ...", flush=True)
        found = measure[section]()
        print(json.dumps(rounded(found), indent=1), flush=True)
        results[section] = {"where": where(section, given), "results": rounded(found)}
        file.write_text(json.dumps(results, indent=1) + "\n")
    if "growth" in results:
        draw_growth(results["growth"]["results"]).savefig(given.out / "performance_growth.png")
    renew_tables(given.out / "performance.md", results)
    return 0


def where(section: str, given: argparse.Namespace) -> dict[str, Any]:
    """On what it was measured, and with which command."""
    command = f"python -m benchmarks --only {section} --repeats {given.repeats}"
    command += f" --data DATA --dataset {given.dataset}" if section == "pipe" else ""
    return {
        "command": command + (" --tiny" if given.tiny else ""),
        "device": device(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        **{name: os.environ.get(name, "") for name in VARIABLES},
    }


def device() -> str:
    """The processor's name; Linux has it in a file."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def rounded(value: Any) -> Any:
    """Every float to four significant digits."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
