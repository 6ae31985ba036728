"""On photos: a whole run goes through, and the network can learn real ones by heart."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_helpers import TINY_MODEL

from shnet_lib.command import main
from shnet_lib.data import read_expressions, splits_of
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.training.config import configure
from shnet_lib.training.evaluate import evaluate
from shnet_lib.training.fit import fit

LEARN_BY_HEART = {
    "model.image_size": 128,
    "model.grid": 16,
    "model.channels": 32,
    "model.heads": 2,
    "model.sfm": "released",
    "model.sfm_layers": 1,
    "model.sfm_feedforward": 64,
    "model.backbone_weights": "random",  # enough to tell the pixels of a dozen photos apart
    "model.decoder_widths": (32, 32, 16),
    "dataset": "unc",
    "batch_size": 32,
    "steps": 100,
    "learning_rate": 4e-3,
    "evaluate_every": 100,
    "cache_features": True,
}


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute on a core of its own, much more on one that is shared
def test_32_expressions_of_real_photos_are_learnt_by_heart(refer_real: Path, tmp_path) -> None:
    """A network that cannot do this has a fault: in its gradients, its masks or its measure."""
    expressions = read_expressions(refer_real, "unc", "train")[:32]
    config = configure("tables", **LEARN_BY_HEART)
    fitted = fit(config, {"train": expressions, "val": expressions}, tmp_path / "run")

    size = config.model.image_size
    dataset = ReferringDataset(expressions, fitted.trained.vocabulary, size, evaluation=True)
    found = evaluate(fitted.trained.network, dataset)  # at the photos' own sizes, from the pixels
    assert found.metrics["overall_iou"] >= 0.9
    assert found.metrics["overall_iou"] == pytest.approx(fitted.best["val_overall_iou"], abs=0.005)
    areas = [one.height * one.width for one in expressions]
    assert all(
        row["union"] >= round(area * row["target_share"])
        for row, area in zip(found.rows, areas, strict=True)
    )


def some_steps(dataset: str, data: Path, run: Path) -> list[str]:
    """The arguments of a run of 3 steps with a network of some thousand weights."""
    settings = TINY_MODEL | {"model.decoder_widths": "16,16", "batch_size": 8, "steps": 3}
    settings |= {"cache_features": "false", "evaluate_every": "none"}
    pairs = [f"{name}={value}" for name, value in settings.items()]
    named = ["--preset", "tables", "--dataset", dataset, "--data", str(data), "--run", str(run)]
    return [*named, "--set", *pairs]


def check_report(line: str, dataset: str, data: Path, run: Path) -> None:
    """The last line printed has a sound measure of every split that was not trained on."""
    report = json.loads(line)
    splits = [split for split in splits_of(dataset) if split != "train"]
    assert report.keys() == {"dataset", "preset", "seconds", *splits}
    assert (report["dataset"], report["preset"]) == (dataset, "tables")
    for split in splits:
        metrics = report[split]
        assert 0 <= metrics["overall_iou"] <= 1 and 0 <= metrics["mean_iou"] <= 1
        expressions = read_expressions(data, dataset, split)
        table = (run / f"expressions-{split}.csv").read_text().splitlines()
        assert len(table) == 1 + len(expressions)  # a head, then a row per expression
    assert (run / "best").is_dir() and (run / "metrics.json").is_file()


def test_the_command_trains_and_evaluates_every_split(photo_data: Path, tmp_path) -> None:
    command = [sys.executable, "-m", "shnet_lib", "train"]
    command += some_steps("unc", photo_data, tmp_path / "run")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as small networks like it
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    check_report(done.stdout.splitlines()[-1], "unc", photo_data, tmp_path / "run")
    assert list(json.loads(done.stdout.splitlines()[-1]))[-3:] == ["val", "testA", "testB"]


@pytest.mark.parametrize("dataset", ["unc+", "gref"])
def test_the_other_data_sets_run_too(dataset: str, photo_data: Path, tmp_path, capsys) -> None:
    assert main(["train", *some_steps(dataset, photo_data, tmp_path / "run")]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    check_report(line, dataset, photo_data, tmp_path / "run")
