"""Tables 2 and 4 on RefShapes: each row trained with several seeds, one line per run in a CSV.

    shnet ablate --data data/refshapes --out docs/results/ablations.csv
    shnet ablate ... --rows baseline SHNet --seeds 0 1 2

Beside OUT.csv stand OUT_curves.csv, one line per evaluation on val, and OUT_families.csv, one per
split and family of phrases. A run that OUT.csv already holds, with the same row, seed, steps and
command, is not trained again; one that was interrupted goes on. Several processes may write into
the same files. A row takes about ten minutes per seed on one core.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from shnet_lib.files import write_table
from shnet_lib.model.shnet import TABLE_2, TABLE_4
from shnet_lib.training.config import ConfigError, TrainConfig
from shnet_lib.training.evaluate import Evaluation
from shnet_lib.training.metrics import overall_iou
from shnet_lib.training.resume import has_progress
from shnet_lib.training.run import RunResult, made_with, run

# On RefShapes every row is "w/o GloVe": its words are one-hot. Table 4's HCAM is Table 2's SHNet.
# The printed form stands beside the released one, which the preset `tables` has.
ROWS: dict[str, dict[str, Any]] = {
    **{name: row for name, row in TABLE_2.items() if name != "SHNet w/o GloVe"},
    **{name: row for name, row in TABLE_4.items() if name != "HCAM"},
    "SHNet, Eq. 1 as printed": {"sfm": "printed"},
}
SEEDS = (0, 1, 2)
METRICS = ("overall_iou", "mean_iou", "precision@0.5")
# Columns of a history.
CURVE_COLUMNS = ("step", "loss", "val_overall_iou", "val_mean_iou", "seconds")

Lines = list[dict[str, Any]]


def config_of(row: str, seed: int, base: TrainConfig) -> TrainConfig:
    """The settings of a row: those of SHNet but for what the row changes.

    Raises:
        ConfigError: there is no such row.
    """
    if row not in ROWS:
        raise ConfigError(f"there is no row {row!r}; there are: {', '.join(ROWS)}")
    return replace(base, seed=seed, model=replace(base.model, **ROWS[row]))


def key_of(row: str, config: TrainConfig) -> dict[str, str]:
    """What tells a run from all others: columns of every table, as a CSV gives them back."""
    key = {"row": row, "seed": config.seed, "steps": config.steps, "command": config.command()}
    return {name: str(value) for name, value in key.items()}


def line_of(config: TrainConfig, report: Mapping[str, Any]) -> dict[str, Any]:
    """A run's metrics on each split, its seconds, and what it was made with."""
    metrics = {
        f"{split}_{name}": report[split][name]
        for split in report
        if isinstance(report[split], dict)
        for name in METRICS
    }
    return metrics | {"seconds": round(report["seconds"])} | made_with()


def family_lines(evaluations: Mapping[str, Evaluation]) -> Lines:
    """For each split and family of phrases: how many expressions, and their overall IoU."""
    lines = []
    for split, evaluation in evaluations.items():
        for family in dict.fromkeys(row["family"] for row in evaluation.rows):
            rows = [row for row in evaluation.rows if row["family"] == family]
            counts = (
                torch.tensor([row[name] for row in rows]) for name in ("intersection", "union")
            )
            iou = round(overall_iou(*counts), 4)
            lines.append(
                {"split": split, "family": family, "expressions": len(rows), "overall_iou": iou}
            )
    return lines


def read_lines(path: Path) -> list[dict[str, str]]:
    """The runs so far; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def holds(path: Path, key: Mapping[str, str]) -> bool:
    """Whether a table holds this run."""
    return any(key.items() <= line.items() for line in read_lines(path))


def keep_run(out: Path, key: Mapping[str, str], config: TrainConfig, result: RunResult) -> None:
    """Put a run into the three tables; into that which says that the run is done, last."""
    curve = [{name: row[name] for name in CURVE_COLUMNS} for row in result.fit.history]
    with FileLock(f"{out}.lock"):
        for path, lines in (
            (out.with_name(f"{out.stem}_families.csv"), family_lines(result.evaluations)),
            (out.with_name(f"{out.stem}_curves.csv"), curve),
            (out, [line_of(config, result.report)]),
        ):
            others = [line for line in read_lines(path) if not key.items() <= line.items()]
            write_table(path, [*others, *({**key, **line} for line in lines)])


def train_rows(
    rows: Iterable[str], seeds: Iterable[int], base: TrainConfig, data: Path, out: Path, runs: Path
) -> None:
    """Train each row with each seed, but for what `out` holds.

    Raises:
        ConfigError: there is no such row; told before anything is trained.
        And what `run` raises.
    """
    configs = [(row, config_of(row, seed, base)) for seed in seeds for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    for row, config in configs:
        key = key_of(row, config)
        if holds(out, key):
            continue
        name = f"{row}-{config.steps}-{config.seed}".replace(" ", "_").replace("/", "_")
        result = run(config, data, runs / name, resume=has_progress(runs / name))
        keep_run(out, key, config, result)
        val = result.report[config.val_split]["overall_iou"]
        print(f"{row}, seed {config.seed}: {val:.3f}", flush=True)
