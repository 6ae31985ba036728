"""The series of runs behind lesson 08: the rows of the tables, a line per run, none made twice."""

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from training_helpers import tiny_texts

from shnet_lib.command import main
from shnet_lib.model.shnet import TABLE_2, TABLE_4
from shnet_lib.training import ablations
from shnet_lib.training.ablations import (
    METRICS,
    ROWS,
    config_of,
    keep_run,
    key_of,
    read_lines,
)
from shnet_lib.training.config import PRESETS, ConfigError, configure, parse_settings

TINY = [*tiny_texts(steps=2, evaluate_every=1), "dataset=unc"]


def arguments(data, tmp_path, *rows, seeds=(0,), settings=()):
    seeds = [str(seed) for seed in seeds]
    places = ["--data", str(data), "--out", str(tmp_path / "a.csv"), "--runs", str(tmp_path / "r")]
    return ["ablate", *places, "--rows", *rows, "--seeds", *seeds, "--set", *TINY, *settings]


def made(tmp_path, table="a.csv"):
    return [(line["row"], line["seed"], line["steps"]) for line in read_lines(tmp_path / table)]


def test_every_row_of_both_tables_is_a_configuration_of_its_own():
    expected = set(TABLE_2) - {"SHNet w/o GloVe"} | set(TABLE_4) - {"HCAM"}
    assert set(ROWS) == expected | {"SHNet, Eq. 1 as printed"}
    base = PRESETS["tables"]
    models = {row: config_of(row, 0, base).model for row in ROWS}
    assert len(set(models.values())) == len(ROWS)
    assert models["SHNet"] == base.model
    assert (models["baseline"].sfm, models["baseline"].fusion) == ("none", "none")
    assert models["SHNet w/o P.E."].positions is False
    assert models["SHNet, Eq. 1 as printed"].sfm == "printed"


@pytest.mark.parametrize("row", ROWS)
def test_the_command_of_a_row_trains_that_row(row):
    config = config_of(row, 2, configure("tables", **{"model.sfm_layers": 3}))
    _, _, *words = config.command().split()
    given = dict(zip(words[::2], words[1::2], strict=False))
    settings = words[words.index("--set") + 1 :]
    again = configure(given["--preset"], **parse_settings(settings))
    assert key_of(row, again) == key_of(row, config)


def test_a_line_a_run_with_what_made_it(squares_folder, tmp_path, capsys):
    assert main(arguments(squares_folder, tmp_path, "baseline", "SHNet", seeds=(0, 1))) == 0
    lines = read_lines(tmp_path / "a.csv")
    runs = [(row, seed, "2") for seed in "01" for row in ("baseline", "SHNet")]
    assert made(tmp_path) == runs
    for line in lines:
        folder = tmp_path / "r" / f"{line['row']}-2-{line['seed']}"
        report = json.loads((folder / "metrics.json").read_text())
        for split in ("val", "testA", "testB"):
            for metric in METRICS:
                assert float(line[f"{split}_{metric}"]) == report[split][metric]
        assert line["command"].startswith("shnet train --preset tables")
        assert line["torch"] and line["device"]
    assert "seed=1" in lines[2]["command"] and "seed" not in lines[0]["command"]
    assert "model.sfm=none" in lines[0]["command"] and "model.fusion=none" in lines[0]["command"]
    assert "model.sfm" not in lines[1]["command"].replace("model.sfm_", "")
    assert capsys.readouterr().out.count("seed") == 4

    # Beside it: each evaluation on val, and each family of phrases on each split.
    curves, families = (read_lines(tmp_path / f"a_{name}.csv") for name in ("curves", "families"))
    assert [(line["row"], line["seed"], line["step"]) for line in curves] == [
        (row, seed, step) for row, seed, _ in runs for step in "12"
    ]
    for run, line in zip(runs, lines, strict=True):
        best = max(float(c["val_overall_iou"]) for c in curves if (c["row"], c["seed"]) == run[:2])
        assert best == pytest.approx(float(line["val_overall_iou"]), abs=1e-4)
        counts = {
            split: sum(
                int(f["expressions"])
                for f in families
                if (f["row"], f["seed"], f["split"]) == (*run[:2], split)
            )
            for split in ("val", "testA", "testB")
        }
        assert counts == {"val": 12, "testA": 8, "testB": 4}
        assert line["command"] in {c["command"] for c in curves}


def test_families_are_measured_each_by_itself():
    rows = [
        {"family": "colour", "intersection": 1, "union": 4},
        {"family": "relation", "intersection": 3, "union": 3},
        {"family": "colour", "intersection": 5, "union": 6},
    ]
    assert ablations.family_lines({"val": SimpleNamespace(rows=rows)}) == [
        {"split": "val", "family": "colour", "expressions": 2, "overall_iou": 0.6},
        {"split": "val", "family": "relation", "expressions": 1, "overall_iou": 1.0},
    ]


def test_what_is_there_already_is_not_made_again(squares_folder, tmp_path):
    assert main(arguments(squares_folder, tmp_path, "baseline")) == 0
    before = (tmp_path / "r" / "baseline-2-0" / "history.csv").stat().st_mtime_ns
    assert main(arguments(squares_folder, tmp_path, "baseline", "only SFM")) == 0
    assert (tmp_path / "r" / "baseline-2-0" / "history.csv").stat().st_mtime_ns == before
    assert made(tmp_path) == [("baseline", "0", "2"), ("only SFM", "0", "2")]


def test_other_steps_and_other_settings_are_another_run(squares_folder, tmp_path):
    """A row of a shorter or of an older recipe is never taken for this one."""
    assert main(arguments(squares_folder, tmp_path, "baseline")) == 0
    assert main(arguments(squares_folder, tmp_path, "baseline", settings=["steps=3"])) == 0
    other = arguments(
        squares_folder, tmp_path / "other", "baseline", settings=["learning_rate=0.5"]
    )
    other[4] = str(tmp_path / "a.csv")
    assert main(other) == 0
    assert made(tmp_path) == [("baseline", "0", steps) for steps in "232"]
    assert len({line["command"] for line in read_lines(tmp_path / "a.csv")}) == 3


def test_several_processes_write_into_the_same_tables(tmp_path):
    base = configure("tables")
    report = {"seconds": 1.0, **{s: dict.fromkeys(METRICS, 0.5) for s in ("val", "testA", "testB")}}
    row = dict.fromkeys(ablations.CURVE_COLUMNS, 1)
    result = SimpleNamespace(fit=SimpleNamespace(history=[row]), evaluations={}, report=report)
    result.evaluations["val"] = SimpleNamespace(
        rows=[{"family": "colour", "intersection": 1, "union": 2}]
    )

    def one(seed):
        config = config_of("SHNet", seed, base)
        keep_run(tmp_path / "a.csv", key_of("SHNet", config), config, result)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    for table in ("a.csv", "a_curves.csv", "a_families.csv"):
        assert sorted(made(tmp_path, table)) == [("SHNet", str(seed), "4000") for seed in range(8)]
    one(3)  # again, as after a crash between two tables
    assert len(read_lines(tmp_path / "a_curves.csv")) == 8


def test_a_series_goes_on_after_a_kill_between_two_renames(squares_folder, tmp_path, monkeypatch):
    given = arguments(squares_folder, tmp_path, "baseline", settings=["steps=4"])

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablations, "keep_run", killed)
    assert main(given) == 130
    monkeypatch.undo()
    run = tmp_path / "r" / "baseline-4-0"
    (run / "last").rename(run / "last.old")
    assert main(given) == 0
    assert made(tmp_path) == [("baseline", "0", "4")]


@pytest.mark.parametrize(
    ("row", "settings", "said"),
    [
        ("SHNet2", [], "there is no row 'SHNet2'; there are: baseline"),
        ("SHNet", ["seed=-1"], "seed = -1"),
        ("SHNet", ["model.backbone=resnet50", "model.backbone_weights=no.pth"], "no.pth"),
        ("SHNet", ["batch_size=7", "accumulate=2"], "batch_size = 7"),
    ],
)
def test_what_is_wrong_is_one_line(squares_folder, tmp_path, capsys, row, settings, said):
    assert main(arguments(squares_folder, tmp_path, row, settings=settings)) == 2
    error = capsys.readouterr().err
    assert said in error and "error: " in error and "Traceback" not in error
    assert not (tmp_path / "a.csv").exists()


def test_a_row_that_does_not_exist_is_named_before_anything_is_trained(squares_folder, tmp_path):
    with pytest.raises(ConfigError, match="there is no row 'SHNet2'; there are: baseline"):
        config_of("SHNet2", 0, PRESETS["tables"])
    assert main(arguments(squares_folder, tmp_path, "baseline", "SHNet2")) == 2
    assert not (tmp_path / "r").exists()
