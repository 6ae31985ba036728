"""Two processes (gloo, CPU) compute what one computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from training_helpers import evaluation_parts, first_micro_batches, tiny

from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.checkpoint import load_shnet
from shnet_lib.training.evaluate import Evaluation, evaluate
from shnet_lib.training.fit import fit, train_step

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def launched(squares_folder, tmp_path_factory):
    """The script's folder and what it printed."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(SCRIPT), str(squares_folder), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = str(SCRIPT.parents[2])  # this very package, installed or not
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert result.returncode == 0, result.stderr[-4000:]
    return out, result.stdout


def test_gradients_are_those_of_one_process_that_accumulates(launched, squares):
    out, _ = launched
    config = tiny(accumulate=2)
    vocabulary, micro_batches = first_micro_batches(config, squares)
    set_seed(config.seed)
    network = SHNet(config.model, len(vocabulary))
    train_step(network, micro_batches, Accelerator(), config)
    expected = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    for rank in (0, 1):
        found = torch.load(out / f"gradients{rank}.pt")
        assert found.keys() == expected.keys()
        for name in expected:
            assert torch.allclose(found[name], expected[name], rtol=0, atol=1e-5), name
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2


@pytest.mark.parametrize("protocol", ["original", "released"])
def test_metrics_are_those_of_one_process(launched, squares, protocol):
    """Twelve expressions in batches of five: one process measures seven of them, one five."""
    out, _ = launched
    expected = evaluate(*evaluation_parts(tiny(), squares), protocol=protocol, batch_size=5)
    assert len({row["iou"] for row in expected.rows}) >= 6  # the six squares
    for rank in (0, 1):
        with torch.serialization.safe_globals([Evaluation]):
            found = torch.load(out / f"{protocol}{rank}.pt")
        assert found.rows == expected.rows
        assert found.metrics == expected.metrics


def test_the_command_trains_and_resumes_on_two(launched, squares):
    out, printed = launched
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert len(lines) == 2  # one process of two prints, once a command
    assert lines[0] == lines[1]  # the second command resumed what was finished
    progress = json.loads((out / "run" / "last" / "progress.json").read_text())
    assert progress["processes"] == 2
    assert [row["step"] for row in progress["history"]] == list(range(2, 31, 2))
    random_states = sorted(path.name for path in (out / "run" / "last").glob("random*"))
    assert random_states == ["random_states_0.pkl", "random_states_1.pkl"]

    trained = load_shnet(out / "run" / "best")
    written = json.loads((out / "run" / "metrics.json").read_text())
    for split in ("val", "testA", "testB"):
        dataset = ReferringDataset(squares[split], trained.vocabulary, 32, evaluation=True)
        metrics = evaluate(trained.network, dataset).metrics
        assert written[split] == {name: round(value, 4) for name, value in metrics.items()}
    # Each process measured its share of val in training with BatchNorm statistics of one network.
    assert trained.card["val"] == pytest.approx(written["val"], abs=1e-4)
    assert written["val"]["overall_iou"] > 0.05


class Enough(Exception):
    """Carries the first evaluation."""


def stop(history):
    raise Enough(history[0])


def test_training_figures_are_those_of_one_process_that_accumulates(launched, squares, tmp_path):
    out, _ = launched
    two = json.loads((out / "run" / "last" / "progress.json").read_text())["history"][0]
    config = tiny(steps=30, evaluate_every=2, learning_rate=0.02, accumulate=2)
    with pytest.raises(Enough) as caught:
        fit(config, squares, tmp_path, on_evaluation=stop)
    one = caught.value.args[0]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert two["iou"] == pytest.approx(one["iou"], abs=2e-3)
    assert two["learning_rate"] == one["learning_rate"]
