"""The record of a long run: made from kept weights, small, and what lesson 06 plays."""

import numpy as np
import pytest
import torch

from shnet_course.measure import replay
from shnet_course.paths import COURSE
from shnet_lib.training.checkpoint import read_weights, saved_weights
from shnet_lib.training.fit import fit

DATA = COURSE / "data" / "refshapes"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="RefShapes is missing: make data")


@pytest.fixture(scope="module")
def data() -> dict:
    train = replay.read_expressions(DATA, replay.DATASET, "train")[:60]
    val = replay.read_expressions(DATA, replay.DATASET, "val")
    texts = {*replay.KEPT_PHRASES}
    asked = [e for e in val if e.text in texts and e.image_path.name == replay.SCENE]
    return {"train": train + asked, "val": asked}  # so that the words are known


@needs_data
@pytest.mark.slow
def test_a_run_keeps_its_weights_goes_on_and_becomes_a_record(data, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "KEPT_STEPS", (0, 2, 4))
    monkeypatch.setattr(replay, "EVERY", 1)
    run, kept = tmp_path / "run", tmp_path / "run" / "steps"
    config = replay.run_config(steps=4)

    def lights_out(history):
        keep(history)
        if history[-1]["step"] == 3:
            raise RuntimeError

    def fit_until_lights_out(*given, on_evaluation, **named):
        nonlocal keep
        keep = on_evaluation
        return fit(*given, on_evaluation=lights_out, **named)

    keep = None
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(replay, "fit", fit_until_lights_out)
        replay.train_and_keep(config, data, run)
    assert [path.stem for path in sorted(kept.iterdir())] == ["000000", "000002"]
    replay.train_and_keep(config, data, run)
    assert [path.stem for path in sorted(kept.iterdir())] == ["000000", "000002", "000004"]
    before = (kept / "000004.safetensors").stat().st_mtime_ns
    replay.train_and_keep(config, data, run)  # finished: nothing is done again
    assert (kept / "000004.safetensors").stat().st_mtime_ns == before

    first = saved_weights(replay.untrained(config, replay.words_of(data)), config)
    weights = read_weights(kept / "000000.safetensors")
    assert all(torch.equal(first[name], weights[name]) for name in first)

    record = tmp_path / "replay.npz"
    replay.write_replay(run, replay.choose(data["val"]), record)
    made = replay.read_replay(record)
    assert made.steps.tolist() == [0, 2, 4] and made.length == 4
    assert made.phrases == list(replay.KEPT_PHRASES) and made.words == list(replay.KEPT_WORDS)
    assert made.probability.shape == (2, 3, replay.MAP_SIDE, replay.MAP_SIDE)
    assert made.attention.shape == made.gate.shape == (2, 3, 8, 8)
    assert np.allclose(made.attention.sum((2, 3)), 1, atol=1e-2)
    assert made.curve[:, 0].tolist() == [1, 2, 3, 4]


def test_data_that_are_not_there_are_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(replay, "DATA", tmp_path)
    assert replay.main(["--run", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "shnet data make refshapes" in line


def test_the_committed_record_is_small_and_one_of_this_run():
    assert replay.RECORD.stat().st_size < 300_000
    made = replay.read_replay()
    assert made.steps.tolist() == list(replay.KEPT_STEPS[: len(made.steps)])
    assert made.length == replay.KEPT_STEPS[-1]
    assert made.phrases == list(replay.KEPT_PHRASES) and made.words == list(replay.KEPT_WORDS)
    assert np.allclose(made.attention.sum((2, 3)), 1, atol=1e-2)
    assert 0 <= made.gate.min() and made.gate.max() <= 1
    assert made.curve[-1, 0] >= made.steps[-1]


@needs_data
def test_the_record_shows_the_scene_and_the_masks_that_it_names():
    val = replay.read_expressions(DATA, replay.DATASET, "val")
    made = replay.read_replay()
    for expression, target in zip(replay.choose(val), made.targets, strict=True):
        assert np.array_equal(expression.mask(), target)
        assert np.array_equal(replay.photo_of(expression), made.photo)
