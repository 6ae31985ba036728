"""`shnet train`: one command, one line of JSON, one line for a mistake."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from training_helpers import IMAGES, tiny_texts

from shnet_lib.command import main
from shnet_lib.data import read_expressions
from shnet_lib.prediction import predict
from shnet_lib.training.checkpoint import load_shnet
from shnet_lib.training.config import configure, parse_settings
from shnet_lib.training.run import read_splits, run, unseen_splits


def arguments(data, folder, *more, **settings):
    texts = tiny_texts(**{"steps": 2, "evaluate_every": 1} | settings)
    given = ["--dataset", "unc", "--data", str(data), "--run", str(folder), *more]
    return ["train", *given, "--set", *texts]


def test_the_command_trains_evaluates_and_ends_with_one_line_of_json(squares_folder, tmp_path):
    """`accelerate launch` starts `python -m shnet_lib train`."""
    launch = "-m accelerate.commands.launch --cpu --num_processes 1 -m shnet_lib"
    command = [sys.executable, *launch.split(), *arguments(squares_folder, tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert result.returncode == 0, result.stderr[-4000:]
    line = json.loads(result.stdout.splitlines()[-1])
    assert list(line) == ["dataset", "preset", "seconds", "val", "testA", "testB"]
    assert (line["dataset"], line["preset"]) == ("unc", "quick")
    assert list(line["val"])[:3] == ["overall_iou", "mean_iou", "precision@0.5"]
    assert line == json.loads((tmp_path / "metrics.json").read_text())
    assert all(value == round(value, 4) for value in line["val"].values())
    card = load_shnet(tmp_path / "best").card
    assert card["metrics"] == {split: line[split] for split in ("val", "testA", "testB")}
    assert card["expressions"] == {split: 4 * IMAGES[split] for split in card["metrics"]}
    assert card["command"].startswith("shnet train --preset quick --dataset unc")
    assert card["seed"] == 0 and card["torch"] == torch.__version__ and card["device"]

    for split, images in IMAGES.items():
        table = tmp_path / f"expressions-{split}.csv"
        if split == "train":
            assert not table.exists()
            continue
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 4 * images
        pixels = [sum(int(row[name]) for row in rows) for name in ("intersection", "union")]
        assert line[split]["overall_iou"] == round(pixels[0] / pixels[1], 4)
    trained = load_shnet(tmp_path / "best")
    photo = next((squares_folder / "images").rglob("*.png"))
    assert predict(trained, photo, "the red one").unknown_words == []


def test_the_best_network_is_measured_on_each_split(squares_folder, tmp_path):
    config = configure("quick", dataset="unc", **parse_settings(tiny_texts(steps=2)))
    result = run(config, squares_folder, tmp_path)
    assert result.report["val"] == result.evaluations["val"].metrics
    best = {k[4:]: v for k, v in result.fit.best.items() if k.startswith("val_")}
    assert result.report["val"] == best
    assert list(result.evaluations) == ["val", "testA", "testB"]
    assert result.report["seconds"] > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--preset", "quik"], "Did you mean 'quick'"),
        (["--set", "stepz=3"], "Did you mean 'steps'"),
        (["--set", "steps=many"], "steps = 'many'"),
        (["--resume"], "config.json"),
        (["--set", "model.backbone=resnet18"], "backbone_weights"),
        (["--dataset", "unc+"], "refs(unc).p"),
        (["--dataset", "coco"], "refshapes-unc"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(squares_folder, tmp_path, capsys, more, said):
    settings = {"model.backbone_weights": "shipped"} if "resnet18" in str(more) else {}
    assert main([*arguments(squares_folder, tmp_path, **settings), *more]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert said in printed.err
    assert printed.out == ""


def test_a_missing_photo_is_told_before_the_training_begins(squares_folder, tmp_path, capsys):
    data = shutil.copytree(squares_folder, tmp_path / "data")
    gone = read_expressions(data, "unc", "testB")[0].image_path
    gone.unlink()
    assert main(arguments(data, tmp_path / "run")) == 2
    assert gone.name in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_referit_is_measured_on_val_and_test_and_not_on_trainval(squares_folder):
    assert unseen_splits("referit") == ["val", "test"]
    assert unseen_splits("gref") == ["val"]
    config = configure("quick", dataset="unc", **parse_settings(tiny_texts()))
    assert set(read_splits(config, squares_folder)) == {"train", "val", "testA", "testB"}
