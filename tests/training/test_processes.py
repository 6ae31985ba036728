"""Several processes (gloo, CPU) compute what one computes, and end when one of them ends."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
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
from shnet_lib.training.resume import read_progress

HERE = Path(__file__).parent
STEPS = {2: 30, 4: 4}  # two learn, four only compute the same
PROCESSES = [2, pytest.param(4, marks=pytest.mark.slow)]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ACCELERATE_USE_CPU": "true",
    "PYTHONPATH": str(HERE.parents[1]),  # this very package, installed or not
}


def start(script: str, *arguments, processes: int = 1) -> subprocess.CompletedProcess:
    """The script in as many processes, which torchrun starts; one starts without it."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), str(HERE / script)]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT,
    ) as process:
        try:
            printed, said = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun then ends its processes; killed, it would leave them
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed, said)


@pytest.fixture(scope="module", params=PROCESSES)
def launched(request, squares_folder, tmp_path_factory):
    """The number of processes, the script's folder and what it printed."""
    out = tmp_path_factory.mktemp("several")
    steps = STEPS[request.param]
    result = start("several_processes.py", squares_folder, out, steps, processes=request.param)
    assert result.returncode == 0, result.stderr[-4000:]
    return request.param, out, result.stdout


def test_gradients_are_those_of_one_process_that_accumulates(launched, squares):
    processes, out, _ = launched
    config = tiny(accumulate=processes)
    vocabulary, micro_batches = first_micro_batches(config, squares)
    set_seed(config.seed)
    network = SHNet(config.model, len(vocabulary))
    train_step(network, micro_batches, Accelerator(), config)
    expected = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    for rank in range(processes):
        found = torch.load(out / f"gradients{rank}.pt")
        assert found.keys() == expected.keys()
        for name in expected:
            assert torch.allclose(found[name], expected[name], rtol=0, atol=1e-5), name
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2


@pytest.mark.parametrize("protocol", ["original", "released"])
def test_metrics_are_those_of_one_process(launched, squares, protocol):
    """Twelve expressions in batches of five: of two processes one measures seven, one five."""
    processes, out, _ = launched
    expected = evaluate(*evaluation_parts(tiny(), squares), protocol=protocol, batch_size=5)
    different = {"original": 6, "released": 5}[protocol]  # at 160 x 160 two squares are alike
    assert len({row["iou"] for row in expected.rows}) >= different
    for rank in range(processes):
        with torch.serialization.safe_globals([Evaluation]):
            found = torch.load(out / f"{protocol}{rank}.pt")
        assert found.rows == expected.rows
        assert found.metrics == expected.metrics


def test_the_command_trains_and_resumes(launched, squares):
    processes, out, printed = launched
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert len(lines) == 2  # one process prints, once a command
    assert lines[0] == lines[1]  # the second command resumed what was finished
    progress = read_progress(out / "run")
    assert progress["processes"] == processes
    steps = list(range(2, STEPS[processes] + 1, 2))
    assert [row["step"] for row in progress["history"]] == steps
    random_states = sorted(path.name for path in (out / "run" / "last").rglob("random*"))
    assert random_states == [f"random-{rank}.json" for rank in range(processes)]

    trained = load_shnet(out / "run" / "best")
    written = json.loads((out / "run" / "metrics.json").read_text())
    for split in ("val", "testA", "testB"):
        dataset = ReferringDataset(squares[split], trained.vocabulary, 32, evaluation=True)
        metrics = evaluate(trained.network, dataset).metrics
        assert written[split] == {name: round(value, 4) for name, value in metrics.items()}
    # Each process measured its share of val in training with BatchNorm statistics of one network.
    assert trained.card["val"] == pytest.approx(written["val"], abs=1e-4)
    assert processes == 4 or written["val"]["overall_iou"] > 0.05


class Enough(Exception):
    """Carries the first evaluation."""


def stop(history):
    raise Enough(history[0])


def test_training_figures_are_those_of_one_process_that_accumulates(launched, squares, tmp_path):
    processes, out, _ = launched
    several = read_progress(out / "run")["history"][0]
    steps = STEPS[processes]
    config = tiny(steps=steps, evaluate_every=2, learning_rate=0.02, accumulate=processes)
    with pytest.raises(Enough) as caught:
        fit(config, squares, tmp_path, on_evaluation=stop)
    one = caught.value.args[0]
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert several["iou"] == pytest.approx(one["iou"], abs=2e-3)
    assert several["learning_rate"] == one["learning_rate"]


def test_a_notebook_starts_several_processes(squares_folder, tmp_path):
    result = start("notebook_processes.py", squares_folder, tmp_path)
    assert result.returncode == 0, result.stderr[-4000:]
    progress = read_progress(tmp_path / "run")
    assert (progress["processes"], progress["step"]) == (2, 2)
    assert load_shnet(tmp_path / "run" / "best").config.steps == 2


def test_a_killed_process_ends_the_run_and_is_named(squares_folder, tmp_path):
    """The others neither wait for it for ever nor go on without it. The last state stays."""
    result = start("killed_process.py", squares_folder, tmp_path, processes=2)
    assert result.returncode != 0
    assert re.search(r"rank\s*: 1 ", result.stderr), result.stderr[-4000:]
    assert "SIGKILL" in result.stderr
    progress = read_progress(tmp_path)
    assert 1 <= progress["step"] < 10


def kill_the_reader(expression):
    """Ends the loader's worker that draws this mask; in the main process it is only drawn."""
    if torch.utils.data.get_worker_info():
        os.kill(os.getpid(), signal.SIGKILL)
    return expression.mask()


def test_a_killed_reader_ends_the_run_and_is_named(squares, tmp_path):
    deadly = [replace(each, read_mask=partial(kill_the_reader, each)) for each in squares["train"]]
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid.*(killed|exited)"):
        fit(tiny(steps=2, workers=1), squares | {"train": deadly}, tmp_path)
