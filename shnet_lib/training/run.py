"""A whole run: read the data, train, evaluate every other split, write the figures down.

Notebook 10 and `shnet train` both call this.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from shnet_lib.data import Expression, read_expressions, splits_of
from shnet_lib.files import write_json, write_table
from shnet_lib.training.checkpoint import TrainedSHNet, network_folder, read_saved_json
from shnet_lib.training.config import TrainConfig
from shnet_lib.training.evaluate import Evaluation, Protocol, evaluate, forward_size
from shnet_lib.training.fit import FitResult, fit
from shnet_lib.training.limits import enough_memory


@dataclass(frozen=True)
class RunResult:
    """What a run gave: the training, an evaluation for each split, the report in metrics.json."""

    fit: FitResult
    evaluations: dict[str, Evaluation]
    report: dict[str, Any]


def run(config: TrainConfig, data: Path, run_folder: Path, resume: bool = False) -> RunResult:
    """Train on a data set and evaluate the best network on all its splits but the training ones.

    Args:
        data: the folder that holds the data set, in its published layout.

    Raises:
        DataError: a file of any split is missing or damaged; told before the training begins.
        And what `fit` raises.
    """
    run_folder = Path(run_folder).expanduser()
    expressions = read_splits(config, data)
    fitted = fit(config, expressions, run_folder, resume)
    evaluations = evaluate_splits(fitted.trained, expressions, accelerator=fitted.accelerator)
    report = make_report(fitted, evaluations)
    if fitted.accelerator.is_main_process:
        write_report(run_folder, report, evaluations)
    return RunResult(fitted, evaluations, report)


def read_splits(config: TrainConfig, data: Path) -> dict[str, list[Expression]]:
    """The expressions a run needs, by split: to train on, to select on, and all unseen ones.

    Raises:
        DataError: a file of any split is missing or damaged.
    """
    data = Path(data).expanduser()
    unseen = unseen_splits(config.dataset, data)
    splits = dict.fromkeys((config.train_split, config.val_split, *unseen))
    with enough_memory(config):
        return {split: read_expressions(data, config.dataset, split) for split in splits}


def unseen_splits(dataset: str, data: Path | None = None) -> list[str]:
    """The splits a network is measured on: all but train and trainval. Own data need `data`."""
    return [split for split in splits_of(dataset, data) if not split.startswith("train")]


def evaluate_splits(
    trained: TrainedSHNet,
    expressions: Mapping[str, Sequence[Expression]],
    protocol: Protocol = "original",
    accelerator: Accelerator | None = None,
) -> dict[str, Evaluation]:
    """An evaluation of every unseen split of the data set the network was trained on.

    Raises:
        OutOfMemory: the memory of the machine, or of the GPU, does not suffice.
    """
    config = trained.config
    evaluations = {}
    with enough_memory(config):
        for split in [split for split in expressions if not split.startswith("train")]:
            evaluations[split] = evaluate(
                trained.network,
                trained.evaluation_set(expressions[split]),
                accelerator,
                protocol,
                batch_size=forward_size(config, accelerator),
                workers=config.workers,
            )
    return evaluations


def make_report(fitted: FitResult, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """A run in one line: the data set, the preset, the seconds of training, each split."""
    config = fitted.trained.config
    return {
        "dataset": config.dataset,
        "preset": config.preset,
        "seconds": round(fitted.seconds, 1),
        **{split: evaluation.rounded() for split, evaluation in evaluations.items()},
    }


def write_report(
    run_folder: Path, report: Mapping[str, Any], evaluations: Mapping[str, Evaluation]
) -> None:
    """metrics.json; a table with one row per expression for each split; the network's card."""
    run_folder = Path(run_folder).expanduser()
    write_json(run_folder / "metrics.json", report)
    for split, evaluation in evaluations.items():
        write_table(run_folder / f"expressions-{split}.csv", evaluation.rows)
    best = network_folder(run_folder / "best")
    card = read_saved_json(best / "card.json", {})
    card |= {"metrics": {split: report[split] for split in evaluations}}
    card |= {"expressions": {split: len(e.rows) for split, e in evaluations.items()}}
    write_json(best / "card.json", card | made_with())


def made_with() -> dict[str, Any]:
    """The versions and the device that figures were made with."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "threads": torch.get_num_threads(),
    }
