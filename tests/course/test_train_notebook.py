"""What `make train` runs, on small notebooks: what it prints, keeps, refuses, and how it ends."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from shnet_course.paths import COURSE
from shnet_course.tools import train_notebook
from shnet_course.tools.train_notebook import PATH_SETTINGS, main, whole_settings
from shnet_lib.model.shnet import ModelConfig
from shnet_lib.settings import FilePath
from shnet_lib.training.config import TrainConfig

HEAD = """\
import json, os, sys, time
from pathlib import Path
from IPython.display import display
"""
TRAIN = """\
from tqdm.auto import tqdm

print("told", preset, resume, flush=True)
print("a warning", file=sys.stderr)
for step in (bar := tqdm(range(3), desc="training")):
    bar.set_postfix({"loss": 0.5})
    curves = {"image/png": "aGVsbG8=", "text/plain": f"Curves up to step {step}."}
    display(curves, raw=True)
display({"image/png": "aGVsbG8=", "text/plain": "Four photos."}, raw=True)
"""
REPORT = """\
report = json.dumps({"val": 0.5, "data": data}, indent=1)
(Path(run_folder) / "metrics.json").write_text(report)
"""
WAIT = """\
try:  # before the print: the interrupt may come while it still flushes
    print("waiting", flush=True)
    time.sleep(100)
finally:
    print("left", flush=True)
"""


def write_notebook(path: Path, *cells: str) -> Path:
    code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    names = ("preset", "dataset", "data", "run_folder", "settings")
    defaults = "\n".join(f'{name} = "default"' for name in names) + "\nresume = False"
    notebook = nbformat.v4.new_notebook(
        cells=[
            markdown("# 10 · A lesson\n\n## Not a heading"),
            code(HEAD + defaults, metadata={"tags": ["parameters"]}),
            markdown("## 1. First\n\nwords"),
            *(code(cell) for cell in cells),
        ]
    )
    # A kernel that does not exist: the kernel is not looked for by its name.
    notebook.metadata["kernelspec"] = {"name": "no-such-kernel", "display_name": "x"}
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def ran(tmp_path, monkeypatch, capfd):
    """Run a notebook of these cells as `make train` does: its status, its lines."""
    monkeypatch.chdir(tmp_path)

    def run(*cells: str, options: tuple[str, ...] = ()) -> tuple[int, list[str]]:
        path = write_notebook(tmp_path / "10_small.ipynb", *cells)
        monkeypatch.setattr(train_notebook, "NOTEBOOK", path)
        status = main(["--data", "data", "--run", "run", "--preset", "smoke", *options])
        printed = capfd.readouterr()
        assert printed.err == ""
        return status, printed.out.splitlines()

    return run


def test_it_prints_lines_of_ours_and_keeps_the_notebook(ran, tmp_path):
    status, lines = ran(TRAIN, REPORT)
    run = tmp_path / "run"
    assert status == 0
    assert lines == [
        f"After an interruption: the same command with RUN={run} RESUME=1",
        "1. First",
        "   told smoke False",
        "   a warning",
        *(line for line in lines[4:] if line.startswith("training 0/3 (0%)")),
        *(f"   Curves up to step {step}." for step in range(3)),
        "training 3/3 (100%) · loss 0.500",
        f"notebook: {run}/10_small.ipynb",
        json.dumps({"val": 0.5, "data": str(tmp_path / "data")}),
    ]
    kept = nbformat.read(run / "10_small.ipynb", as_version=4)
    nbformat.validate(kept)
    tags = [cell.metadata.get("tags", []) for cell in kept.cells]
    assert tags[1:3] == [["parameters"], ["injected-parameters"]]
    assert f"run_folder = {str(run)!r}" in kept.cells[2].source
    stored = [output for cell in kept.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in stored) == 4
    assert "progress" not in json.dumps(stored), "bars are not kept"


@pytest.mark.fault
@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("from shnet_lib.data import DataError\nraise DataError('x.json is missing')", "error: x"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_error_is_told_and_the_notebook_kept(ran, tmp_path, error, told):
    status, lines = ran(error, REPORT)
    assert status == 2
    assert lines[1] == "1. First" and lines[2].startswith("notebook: ")
    assert told in "\n".join(lines[3:])
    assert (len(lines) == 4) == told.startswith("error"), "one line for what files can do"
    assert (tmp_path / "run" / "10_small.ipynb").exists()
    # What failed before it saved anything can be begun anew in the same folder.
    assert ran(REPORT)[0] == 0


@pytest.mark.fault
def test_a_kernel_from_elsewhere_is_not_taken(ran, tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "x"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    status, lines = ran("print(sys.executable)", REPORT)
    assert (status, lines[2]) == (0, f"   {sys.executable}")


KERNEL_WRITES = 'os.write(2, b"Assertion failed\\n")'  # past Python, as ipykernel's threads do


@pytest.mark.fault
def test_a_kernel_that_dies_is_told(ran):
    status, lines = ran(f"{KERNEL_WRITES}\nos.kill(os.getpid(), 9)")
    assert status == 2
    assert lines[-2] == "   Assertion failed"
    assert re.match("error: the notebook's kernel died; the memory may not suffice", lines[-1])


@pytest.mark.fault
def test_what_a_kernel_writes_past_its_cells_is_not_shown_where_it_lives_on(ran):
    """Ending, it may complain of a closed socket: nobody's fault, and a page of traceback."""
    status, lines = ran(KERNEL_WRITES, REPORT)
    assert status == 0 and "Assertion failed" not in "\n".join(lines)


@pytest.mark.fault
@pytest.mark.parametrize("left", ["metrics.json", "last/step-000500"])
def test_a_second_run_in_the_folder_is_refused_before_anything_is_touched(ran, tmp_path, left):
    assert ran(REPORT)[0] == 0
    run = tmp_path / "run"
    (run / left).parent.mkdir(exist_ok=True)
    (run / "metrics.json").rename(run / left)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    status, lines = ran(REPORT)
    assert status == 2
    (line,) = lines
    assert line.startswith(f"error: {run} holds a run already ({Path(left).name}): go on with it")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_folder_in_which_nothing_was_finished_is_begun_anew(ran, tmp_path):
    (tmp_path / "run" / "last" / "step-000500.new").mkdir(parents=True)
    assert ran(REPORT)[0] == 0


@pytest.mark.fault
def test_a_finished_run_keeps_its_notebook_where_resuming_it_fails(ran, tmp_path):
    assert ran(REPORT)[0] == 0
    before = (tmp_path / "run" / "10_small.ipynb").read_bytes()
    assert ran("1 / 0", options=("--resume",))[0] == 2
    assert (tmp_path / "run" / "10_small.ipynb").read_bytes() == before
    status, lines = ran("print(resume)", options=("--resume",))
    assert (status, lines[2]) == (0, "   True")


@pytest.mark.fault
def test_a_folder_that_cannot_be_written_is_named(ran, tmp_path):
    (tmp_path / "run").write_text("a file")
    status, lines = ran(REPORT)
    assert status == 2 and len(lines) == 1
    assert lines[0].startswith(f"error: {tmp_path / 'run'} cannot be a run's folder")


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_the_way_on(tmp_path, number):
    path = write_notebook(tmp_path / "10_small.ipynb", WAIT, REPORT)
    code = (
        "import sys, pathlib; from shnet_course.tools import train_notebook as t\n"
        f"t.NOTEBOOK = pathlib.Path({str(path)!r})\nsys.exit(t.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--data", "data", "--run", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if lines[-1] == "   waiting":
            process.send_signal(number)
    assert process.wait(timeout=240) == 130, process.stderr.read()
    assert lines[-3] == "   left", "the cell was interrupted, not killed"
    assert lines[-1].startswith("interrupted before its first evaluation, ")
    assert process.stderr.read() == ""
    assert (tmp_path / "run" / "10_small.ipynb").exists()


@pytest.mark.fault
def test_paths_in_set_are_relative_to_where_one_types(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "words.txt").touch()
    typed = "seed=1 glove=words.txt model.backbone_weights=w/voc.pth cache_images=~/cache"
    assert whole_settings(f"{typed} start_from=none").split() == [
        "seed=1",
        f"glove={tmp_path}/words.txt",
        f"model.backbone_weights={tmp_path}/w/voc.pth",
        "cache_images=/home/ada/cache",
        "start_from=none",
    ]
    assert whole_settings("model.backbone_weights=shipped") == "model.backbone_weights=shipped"


def test_every_setting_that_is_a_path_is_known():
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    names |= {f"model.{field.name}" for field in dataclasses.fields(ModelConfig)}
    assert set(PATH_SETTINGS) <= names
    paths = {f.name for f in dataclasses.fields(TrainConfig) if f.type == FilePath | None}
    paths |= {f"model.{f.name}" for f in dataclasses.fields(ModelConfig) if f.type == FilePath}
    assert paths == set(PATH_SETTINGS)


@pytest.mark.fault
def test_quotes_in_set(ran):
    assert whole_settings("glove='/a b/x.txt' seed=1") == "'glove=/a b/x.txt' seed=1"
    status, (line,) = ran(REPORT, options=("--set", "glove=/o'brien/x.txt"))
    assert status == 2
    assert line == "error: SET cannot be read (No closing quotation): glove=/o'brien/x.txt"


def test_make_hands_set_over_as_it_was_typed(tmp_path):
    """By the environment: a quote in it would end the shell's word."""
    shown = tmp_path / "bin" / "python"
    shown.parent.mkdir()
    shown.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shown.chmod(0o755)
    (tmp_path / "bin" / "uv").touch()
    (tmp_path / ".installed").touch()
    settings = 'glove=/o\'brien/"x".txt seed=1'
    command = ["make", "train", f"VENV={tmp_path}", f"SET={settings}", "DATA=/elsewhere"]
    course = train_notebook.NOTEBOOK.parents[1]
    run = subprocess.run(
        [*command, "RUN=~/runs/x"], cwd=course, capture_output=True, text=True, check=True
    )
    words = run.stdout.splitlines()
    assert words[words.index("--set") + 1] == settings
    assert words[words.index("--run") + 1] == "~/runs/x", "main() knows what ~ is"
    assert "--resume" not in words


@pytest.mark.fault
def test_the_run_folder_may_be_at_home(ran, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert ran(REPORT, options=("--run", "~/run"))[0] == 0
    assert (tmp_path / "home" / "run" / "metrics.json").exists()
    assert not (tmp_path / "~").exists()
    assert os.listdir(tmp_path / "home" / "run") != []


@pytest.mark.slow
def test_every_cell_of_lesson_10_runs(tmp_path, capfd):
    """The lesson itself, as `make train PRESET=smoke` runs it; its other test is of the program."""
    given = [
        "--preset",
        "smoke",
        "--dataset",
        "refshapes-unc",
        "--data",
        str(COURSE / "data/refshapes"),
    ]
    assert main([*given, "--run", str(tmp_path / "run")]) == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert {"val", "testA", "testB"} <= set(report)
    kept = nbformat.read(tmp_path / "run" / "10_train_unc.ipynb", as_version=4)
    assert all(cell.execution_count for cell in kept.cells if cell.cell_type == "code")
