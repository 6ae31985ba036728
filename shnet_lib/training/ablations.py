"""Tables 2 and 4 on RefShapes: each row trained with several seeds, one line a run in a CSV.

    python -m shnet_lib.training.ablations --data data/refshapes --out docs/results/ablations.csv
    python -m shnet_lib.training.ablations ... --rows baseline SHNet --seeds 0 1 2

A run that the CSV already holds is not trained again, so that an interrupted series goes on. A row
takes about ten minutes a seed on one core.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shnet_lib.data import DataError
from shnet_lib.model.shnet import TABLE_2, TABLE_4
from shnet_lib.training.checkpoint import CheckpointError, write_table
from shnet_lib.training.config import ConfigError, TrainConfig, configure, parse_settings
from shnet_lib.training.run import made_with, run

# On RefShapes every row is "w/o GloVe": its words are one-hot. Table 4's HCAM is Table 2's SHNet.
# Eq. 1 as printed stands beside the released form, which the preset `quick` has.
ROWS: dict[str, dict[str, Any]] = {
    **{name: row for name, row in TABLE_2.items() if name != "SHNet w/o GloVe"},
    **{name: row for name, row in TABLE_4.items() if name != "HCAM"},
    "SHNet, Eq. 1 as printed": {"sfm": "paper"},
}
SEEDS = (0, 1, 2)
METRICS = ("overall_iou", "mean_iou", "precision@0.5")


def settings_of(row: str, seed: int, others: Sequence[str] = ()) -> list[str]:
    """What a row sets, as words of a command line: ["seed=0", "model.sfm=none", ...].

    Raises:
        ConfigError: there is no such row.
    """
    if row not in ROWS:
        raise ConfigError(f"there is no row {row!r}; there are: {', '.join(ROWS)}")
    changes = [f"model.{name}={value}".lower() for name, value in ROWS[row].items()]
    return [f"seed={seed}", *changes, *others]


def line_of(row: str, config: TrainConfig, report: Mapping[str, Any]) -> dict[str, Any]:
    """A run as a line of the CSV: what was trained, how, with what, and what came out."""
    line: dict[str, Any] = {"row": row, "seed": config.seed, "steps": config.steps}
    for split, measured in report.items():
        if isinstance(measured, dict):
            line |= {f"{split}_{name}": measured[name] for name in METRICS}
    return line | {"seconds": round(report["seconds"]), "command": config.command(), **made_with()}


def read_lines(path: Path) -> list[dict[str, str]]:
    """The runs so far; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where a setting or a file is wrong (one line says which)."""
    parser = argparse.ArgumentParser(prog="python -m shnet_lib.training.ablations")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, help="folder of RefShapes")
    parser.add_argument("--out", type=Path, required=True, help="the CSV, continued if it exists")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="for checkpoints")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="SEED")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="others")
    given = parser.parse_args(arguments)
    try:
        for seed in given.seeds:
            for row in given.rows:
                settings = parse_settings(settings_of(row, seed, given.others))
                config = configure(given.preset, **settings)
                folder = given.runs / f"{row}-{seed}".replace(" ", "_").replace("/", "_")
                lines = read_lines(given.out)
                if any((line["row"], line["seed"]) == (row, str(seed)) for line in lines):
                    continue
                report = run(config, given.data, folder, resume=(folder / "last").exists()).report
                lines.append(line_of(row, config, report))
                write_table(given.out, lines)
                print(f"{row}, seed {seed}: {report[config.val_split]['overall_iou']:.3f}")
    except (ConfigError, DataError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
