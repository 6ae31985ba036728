"""The series of runs behind lesson 08: the rows of the tables, a line a run, none made twice."""

import csv
import json

import pytest
from training_helpers import tiny_texts

from shnet_lib.model.shnet import TABLE_2, TABLE_4
from shnet_lib.training.ablations import METRICS, ROWS, main, settings_of
from shnet_lib.training.config import ConfigError, configure, parse_settings

TINY = [*tiny_texts(steps=2, evaluate_every=1), "dataset=unc"]


def arguments(data, tmp_path, *rows, seeds=(0,)):
    seeds = [str(seed) for seed in seeds]
    places = ["--data", str(data), "--out", str(tmp_path / "a.csv"), "--runs", str(tmp_path / "r")]
    return [*places, "--rows", *rows, "--seeds", *seeds, "--set", *TINY]


def read(tmp_path):
    with (tmp_path / "a.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_of_both_tables_is_a_configuration_of_its_own():
    expected = set(TABLE_2) - {"SHNet w/o GloVe"} | set(TABLE_4) - {"HCAM"}
    assert set(ROWS) == expected | {"SHNet, Eq. 1 as printed"}
    models = {row: configure("quick", **parse_settings(settings_of(row, 0))).model for row in ROWS}
    assert len(set(models.values())) == len(ROWS)
    assert models["SHNet"] == configure("quick").model
    assert (models["baseline"].sfm, models["baseline"].fusion) == ("none", "none")
    assert models["SHNet w/o P.E."].positions is False


def test_a_line_a_run_with_what_made_it(squares_folder, tmp_path, capsys):
    assert main(arguments(squares_folder, tmp_path, "baseline", "SHNet", seeds=(0, 1))) == 0
    lines = read(tmp_path)
    made = [(line["row"], line["seed"]) for line in lines]
    assert made == [("baseline", "0"), ("SHNet", "0"), ("baseline", "1"), ("SHNet", "1")]
    for line in lines:
        folder = tmp_path / "r" / f"{line['row']}-{line['seed']}"
        report = json.loads((folder / "metrics.json").read_text())
        for split in ("val", "testA", "testB"):
            for metric in METRICS:
                assert float(line[f"{split}_{metric}"]) == report[split][metric]
        assert line["command"].startswith("python -m shnet_lib.training --preset quick")
        assert line["torch"] and line["device"]
    assert "seed=1" in lines[2]["command"] and "seed" not in lines[0]["command"]
    assert "model.sfm=none" in lines[0]["command"] and "model.fusion=none" in lines[0]["command"]
    assert "model.sfm" not in lines[1]["command"].replace("model.sfm_", "")
    assert capsys.readouterr().out.count("seed") == 4


def test_what_is_there_already_is_not_made_again(squares_folder, tmp_path):
    assert main(arguments(squares_folder, tmp_path, "baseline")) == 0
    before = (tmp_path / "r" / "baseline-0" / "history.csv").stat().st_mtime_ns
    assert main(arguments(squares_folder, tmp_path, "baseline", "only SFM")) == 0
    assert (tmp_path / "r" / "baseline-0" / "history.csv").stat().st_mtime_ns == before
    assert [line["row"] for line in read(tmp_path)] == ["baseline", "only SFM"]


def test_a_row_that_does_not_exist_is_named(squares_folder, tmp_path, capsys):
    with pytest.raises(ConfigError, match="there is no row 'SHNet2'; there are: baseline"):
        settings_of("SHNet2", 0)
    assert main(arguments(squares_folder, tmp_path, "SHNet2")) == 2
    assert "there is no row 'SHNet2'" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()
