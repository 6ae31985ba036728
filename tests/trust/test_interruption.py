"""Killed, stopped, out of room, out of memory, started twice: nothing is lost, and it is said."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
import torch
from nbclient import NotebookClient
from safetensors.torch import load_file
from sittings import (
    EVALUATE_EVERY,
    NOTHING,
    SETTINGS,
    STEPS,
    Accident,
    begin,
    events,
    printed,
    sit,
    write_data,
)
from small import tree

from shnet_lib.model.shnet import SHNet
from shnet_lib.training import fit as fit_module
from shnet_lib.training.checkpoint import load_shnet
from shnet_lib.training.config import ConfigError, configure, parse_settings
from shnet_lib.training.fit import fit
from shnet_lib.training.resume import has_progress, last_checkpoint, read_progress
from shnet_lib.training.run import read_splits

COURSE = Path(__file__).parents[2]

pytestmark = pytest.mark.fault

# (seed, kills by SIGKILL, at least so many in saving); those in the middle of a write come on top.
KILLS = [(20, 8, 2), pytest.param(21, 12, 3, marks=pytest.mark.slow)]
CLOCK = ("seconds", "samples_per_second")  # what is measured is never the same twice


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "refshapes")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """The folder of a run that nothing befell."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert sit(data, folder) == 0
    figures = [row["val_overall_iou"] for row in history(folder)]
    assert len(figures) == STEPS // EVALUATE_EVERY
    assert len(set(figures)) > 2, "a curve that would show a difference"
    return folder


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in CLOCK} for row in rows]


def require_the_same(run: Path, whole: Path) -> None:
    """The curve, the figures, the weights and all that a further step would use: bit for bit."""
    assert history(run) == history(whole)
    figures = [json.loads((each / "metrics.json").read_text()) for each in (run, whole)]
    assert figures[0] | {"seconds": 0} == figures[1] | {"seconds": 0}
    names = [
        *(path.relative_to(whole) for path in (whole / "last").glob("*/*")),
        *(path.relative_to(whole) for path in (whole / "best").glob("*/*")),
        *(path.relative_to(whole) for path in whole.glob("expressions-*.csv")),
    ]
    assert len(names) == 4 + 5 + 3
    differing = [
        str(name) for name in names if (run / name).read_bytes() != (whole / name).read_bytes()
    ]
    last = last_checkpoint(run)
    assert differing == [f"last/{last.name}/progress.json"]  # it holds the seconds
    assert load_file(last / "optimizer.safetensors")
    for name in ("last", "best"):
        assert len(list((run / name).iterdir())) == 1, "what a crash left is still there"


def require_whole(run: Path) -> int:
    """Look at what a kill has left: everything opens, and is of one step. That step, or 0."""
    if not has_progress(run):
        return 0
    progress = read_progress(run)
    last = last_checkpoint(run)
    averages = load_file(last / "optimizer.safetensors")
    steps = {value.item() for name, value in averages.items() if name.startswith("step.")}
    assert steps == {progress["step"]} and last.name == f"step-{progress['step']:06}"
    assert all(
        torch.isfinite(value).all() for value in load_file(last / "network.safetensors").values()
    )
    assert progress["step"] == progress["history"][-1]["step"]
    assert load_shnet(run / "best").card["step"] >= progress["best"]["step"]
    assert len(history(run)) >= len(progress["history"])
    return progress["step"]


def accidents(seed: int, whole: Path, cpu_seconds: float) -> Iterator[Accident]:
    """Kills at random moments: by the clock, at a file operation, in the middle of a write."""
    random = np.random.default_rng(seed)
    in_two_evaluations = 2 * events(whole) * EVALUATE_EVERY // STEPS
    largest = max(path.stat().st_size for path in whole.rglob("*.safetensors"))
    for number in count():
        if number % 6 == 5:
            yield Accident(file_bytes=int(random.integers(1, largest)))
        elif number % 2:
            yield Accident(event=int(random.integers(1, in_two_evaluations)))
        else:
            yield Accident(cpu_seconds=random.uniform(0, cpu_seconds))


def unfinished(run: Path) -> set[tuple[str, int]]:
    """What saving has begun and not ended in `run`, and when it was touched last."""
    found = [*run.glob("*.new"), *run.glob("*/*.new")]
    return {(path.name, path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize(("seed", "kills", "in_saving_at_least"), KILLS)
def test_killed_at_any_moment_it_goes_on_bit_for_bit(
    seed, kills, in_saving_at_least, data, whole, tmp_path, record_property
):
    """Runs are killed and resumed, one after another, until enough kills have fallen."""
    coming = accidents(seed, whole, cpu_seconds=1.0)
    ends, in_saving, runs = [], 0, 0

    def are_enough() -> bool:
        return ends.count(-signal.SIGKILL) >= kills and in_saving >= in_saving_at_least

    while not are_enough():
        run, runs, step, begun = tmp_path / str(runs), runs + 1, 0, set()
        while True:
            enough = are_enough()
            accident = NOTHING if enough else next(coming)
            if not (code := sit(data, run, accident)):
                break
            assert code in (-signal.SIGKILL, -signal.SIGXFSZ), f"{accident}: {printed(run)}"
            ends.append(code)
            before, step = step, require_whole(run)
            assert step >= before
            in_saving += bool(unfinished(run) - begun)
            begun = unfinished(run)
        require_the_same(run, whole)
    print(f"{len(ends)} kills of {runs} runs, {in_saving} of them in the middle of saving")
    assert in_saving >= in_saving_at_least
    record_property("kills", len(ends))


def in_the_middle(whole: Path, what: int) -> Accident:
    """A signal while the third evaluation, or about that one, is being saved."""
    return Accident(event=events(whole) * 5 * EVALUATE_EVERY // (2 * STEPS), signal=what)


def test_ctrl_c_at_the_command_line_ends_with_one_line_and_130(data, whole, tmp_path):
    run = tmp_path / "run"
    assert sit(data, run, in_the_middle(whole, signal.SIGINT)) == 130, printed(run)
    (said,) = [line for line in printed(run).splitlines() if "interrupted" in line]
    step = read_progress(run)["step"]
    assert 0 < step < STEPS and f"goes on after step {step}, its last evaluation" in said
    for way in ("resume = True", "--resume", f"make train RESUME=1 RUN={run}"):
        assert way in said
    assert "Traceback" not in printed(run)
    assert sit(data, run) == 0
    assert not unfinished(run), "an older checkpoint that was half deleted is in the way"
    require_the_same(run, whole)


def test_ctrl_c_before_the_first_evaluation_says_that_nothing_is_saved(data, tmp_path):
    run = tmp_path / "run"
    assert sit(data, run, Accident(event=3, signal=signal.SIGINT)) == 130
    assert f"{run} has nothing saved: begin it anew" in printed(run)


NOTEBOOK = """
import os, signal, torch
from shnet_lib.training.config import configure, parse_settings
from shnet_lib.training.fit import fit
from shnet_lib.training.run import read_splits
torch.set_num_threads(1)
config = configure("smoke", **parse_settings({settings!r}))
expressions = read_splits(config, {data!r})
def stop(history):
    if len(history) == 2:
        os.kill(os.getpid(), signal.SIGINT)  # what the stop button of Jupyter sends
---
fit(config, expressions, {run!r}, on_evaluation=stop)
---
print(fit(config, expressions, {run!r}, resume=True).best["step"])
"""


def test_the_stop_button_of_a_notebook_ends_with_one_line_and_no_traceback(
    data, whole, tmp_path, monkeypatch
):
    """The same kernel goes on with the run: the folder is free again."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    run = tmp_path / "run"
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    code = NOTEBOOK.format(settings=settings, data=str(data), run=str(run))
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in code.split("---\n")]
    settings = {"timeout": 300, "startup_timeout": 300, "allow_errors": True}
    NotebookClient(notebook, kernel_name="python3", **settings).execute()
    _, stopped, resumed = (cell.outputs for cell in notebook.cells)
    (error,) = [output for output in stopped if output.output_type == "error"]
    assert error.ename == "Interrupted"
    (line,) = error.traceback
    assert line == error.evalue and "\n" not in line
    assert f"{run} goes on after step {2 * EVALUATE_EVERY}" in line and "resume = True" in line
    said = [output.text for output in resumed if output.get("name") == "stdout"]
    assert said == [f"{read_progress(whole)['best']['step']}\n"]
    assert history(run) == history(whole)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at `folder`; the test is skipped where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def require_full(data: Path, run: Path, step: int, accident: Accident = NOTHING) -> None:
    """The next save does not fit: one line says so, and the checkpoint of `step` stands."""
    before = tree(run / "last")
    assert sit(data, run, accident) == 2
    (said,) = [line for line in printed(run).splitlines() if "error:" in line]
    assert f"{run} could not be written" in said and "make room" in said and "resume" in said
    needed = int(said.split("an evaluation writes ")[1].split(" bytes")[0].replace(",", ""))
    kept = sum(
        path.stat().st_size for name in ("best", "last") for path in (run / name).glob("*/*")
    )
    assert needed == pytest.approx(kept, rel=0.05)
    assert tree(run / "last") == before
    assert not unfinished(run), "half a checkpoint is in the way"
    assert require_whole(run) == step


def test_a_full_disk_leaves_the_checkpoint_before(data, whole, tmp_path):
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", size * 5 // 4):
        run = tmp_path / "disk" / "run"
        assert sit(data, run) == 2
        step = require_whole(run)
        assert 0 < step < STEPS
        require_full(data, run, step)
        larger = ["mount", "-o", f"remount,size={size * 3}", str(tmp_path / "disk")]
        subprocess.run(larger, check=True)
        assert sit(data, run) == 0
        require_the_same(run, whole)


def test_a_file_that_the_system_lets_grow_no_further(data, whole, tmp_path):
    """A quota, a limit: the same, in an error of another kind; without a disk to mount."""
    run = tmp_path / "run"
    assert sit(data, run, in_the_middle(whole, signal.SIGINT)) == 130, printed(run)
    step = read_progress(run)["step"]
    limit = (last_checkpoint(whole) / "network.safetensors").stat().st_size // 2
    require_full(data, run, step, Accident(file_bytes=limit, told=True))
    assert sit(data, run) == 0
    require_the_same(run, whole)


def test_a_second_run_in_the_folder_is_refused(data, whole, tmp_path):
    """The first stands still in the middle of saving; a worker of it outlives it for a while."""
    run = tmp_path / "run"
    first = begin(data, run, in_the_middle(whole, signal.SIGSTOP), workers=1)
    try:
        while psutil.Process(first.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        before = require_whole(run)
        assert before > 0
        assert sit(data, run) == 2
        said = f"{run}: another run is at work in this folder. Wait for it, end it"
        assert said in printed(run)
        assert require_whole(run) == before
    finally:
        first.kill()
        first.join()
    assert sit(data, run) == 0, printed(run)
    require_the_same(run, whole)


def test_a_training_that_explodes_names_the_batch_and_keeps_what_was_good(data, tmp_path):
    run = tmp_path / "run"
    assert sit(data, run, learning_rate=1e18, evaluate_every=1) == 2
    (said,) = [line for line in printed(run).splitlines() if "error:" in line]
    assert "not finite" in said or "the loss is" in said
    assert "Try a lower learning_rate" in said and "The batch (sent_id, text): " in said
    assert said.count("; ") >= SETTINGS["batch_size"] - 1
    assert require_whole(run) >= 1


class Full(SHNet):
    """A network on a GPU without room. It only says so: a CPU has no such error of its own."""

    def forward(self, *_arguments, **_settings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")


def test_a_full_gpu_says_what_to_lower_and_what_a_sample_costs(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "SHNet", Full)
    config = configure("smoke", **parse_settings(f"{k}={v}" for k, v in SETTINGS.items()))
    with pytest.raises(MemoryError) as caught:
        fit(config, read_splits(config, data), tmp_path / "run")
    said = str(caught.value)
    assert "CUDA out of memory. Tried to allocate 2 GiB." in said and "\n" not in said
    for name in ("batch_size (8)", "accumulate (2)", "model.grid (4)", "model.image_size (32)"):
        assert name in said
    measured = json.loads((COURSE / "docs" / "performance.json").read_text())["memory"]["results"]
    kept = {
        row["grid"]: round(row["saved MiB per sample"])
        for row in measured
        if row["network"] == "library, bf16"
    }
    assert f"{kept[18]} MiB per expression at grid 18, and {kept[40]} MiB at grid 40" in said


def test_too_few_expressions_for_a_batch_norm_are_refused_before_the_training(data, tmp_path):
    """The batch would shrink to the data set, and leave one expression for a forward pass."""
    settings = SETTINGS | {"batch_size": 4, "accumulate": 2}
    config = configure("smoke", **parse_settings(f"{k}={v}" for k, v in settings.items()))
    expressions = read_splits(config, data)
    few = expressions | {"train": expressions["train"][:3]}
    with pytest.raises(ConfigError, match=r"3 training expressions .* 1 processes .*batch_size"):
        fit(config, few, tmp_path / "run")
    assert not has_progress(tmp_path / "run")
