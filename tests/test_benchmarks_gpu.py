"""A GPU is measured: each section runs on a CPU too; whatever happens, gpu.json is whole."""

import csv
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import SECTIONS, main, measure_section, seconds_for
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.children import Child
from benchmarks.gpu.record import Record, read_record
from benchmarks.gpu.show import goals, show

ROOT = Path(__file__).resolve().parents[1]
TINY = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--out"]

# What each section has to show, by the name of a row and of a figure in it.
FIGURES = {
    "device": {"matrix product": "TFLOP/s", "copy within the device": "GB/s, read and written"},
    "right": {"against the CPU, fp32": "gradients fp32", "adaptive max-pooling": "right"},
    "step": {"literal fp32": "ms", "library bf16": "peak MiB", "part: HCAM": "ms"}
    | {"profile of library bf16": "kernels per step", "part: AdamW": "ms"},
    "rewritings": {
        "decoder, forward and backward": "library, times faster",
        "library, decoder and HCAM plain": "ms",
    },
    "waits": {"quick, bf16, the library's step": "ms, read every 20"},
    "memory": {"a step, bf16": "fits 11 GiB"},
    "run": {"loader alone": "expressions/s", "30 epochs of UNC": "minutes"}
    | {"fit and evaluate": "share waiting for data"},
    "tables": {"quick, alone": "seconds of training", "baseline": "overall IoU, val"},
    "compile": {"library bf16, compiled": "ms", "the first step of another shape": "seconds"},
}


@pytest.mark.slow
@pytest.mark.timeout(900)  # nine processes one after the other, on a machine that may be busy
def test_every_section_writes_its_figures(tmp_path):
    run = subprocess.run([*TINY, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    values = read_record(tmp_path / "gpu.json")
    assert list(values["sections"]) == list(SECTIONS) == list(FIGURES)
    log = (tmp_path / "gpu.log").read_text()[-5000:]
    for name, section in values["sections"].items():
        assert "failed" not in section and section["seconds"] > 0, log
        rows = section["rows"]
        assert [row for row in rows if {"failed", "skipped"} & set(row)] == [], log
        assert all(row.get("right", True) for row in rows)
        for row, figure in FIGURES[name].items():
            assert any(figure in each for each in rows if each["name"] == row), (name, row, figure)
        for row in rows:
            assert f"  {row['name']}: " in run.stdout
    with (tmp_path / "ablations_gpu.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["seed"]) for line in lines] != []
    assert all(line["device"] and "steps=2" in line["command"] for line in lines)
    text = show(values)
    assert "30 epochs of UNC, the best loader" in text and "part: HCAM" in text


@pytest.mark.slow
def test_killed_after_a_section_it_holds_all_before(tmp_path):
    path = tmp_path / "gpu.json"
    run = subprocess.Popen(
        [*TINY, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    while run.poll() is None:
        if path.exists() and "seconds" in read_record(path)["sections"].get("right", {}):
            break
        time.sleep(0.01)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    run.stdout.read()  # to its end: nobody is left who could write
    sections = read_record(path)["sections"]
    assert list(sections)[:2] == ["device", "right"]
    for name in ("device", "right"):
        assert FIGURES[name].keys() <= {row["name"] for row in sections[name]["rows"]}


# --- a process for each section -------------------------------------------------------------------


def send_three(send):
    for number in range(3):
        send({"name": f"row {number}"})


def send_one_and_fail(send):
    send({"name": "row"})
    raise ValueError("the reason\nand more")


def send_one_and_hang(send):
    send({"name": "row"})
    subprocess.run(["sleep", "600"])


def send_one_and_die(send):
    send({"name": "row"})
    faulthandler.disable()  # pytest's, which would print a page that nobody has to read
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("work", "rows", "failed"),
    [
        (send_three, 3, None),
        (send_one_and_fail, 1, "ValueError: the reason"),
        (send_one_and_hang, 1, "stopped: its time was over"),
        (send_one_and_die, 1, "its process died: SIGSEGV"),
    ],
)
def test_what_was_sent_is_kept_and_the_end_has_a_reason(tmp_path, work, rows, failed):
    with Child(work, (), tmp_path / "log") as child:
        assert len(list(child.sent(time.monotonic() + 3))) == rows
        assert child.failed == failed
    assert not child.process.is_alive()


class Given:
    def __init__(self, out):
        self.tiny, self.out = True, out


def measured(tmp_path, monkeypatch, work, seconds):
    """A record with one section that was measured by `work`."""
    monkeypatch.setitem(SECTIONS, "device", (work, 10))
    record = Record(tmp_path / "gpu.json", {"device": "CPU"}, {})
    places = tmp_path / "gpu.log", tmp_path, Given(tmp_path), "fork"
    measure_section(record, "device", {}, seconds, *places)
    return read_record(tmp_path / "gpu.json")["sections"]["device"]


def test_a_measurement_that_fails_says_why_and_the_next_one_is_made(tmp_path, monkeypatch):
    def work(bench):
        bench.measure("bad", lambda: {"ms": 1 / 0}, size=3)
        bench.measure("good", lambda: {"ms": float("inf"), "s": 1.23456})

    section = measured(tmp_path, monkeypatch, work, 60)
    assert section["rows"] == [
        {"name": "bad", "size": 3, "failed": "ZeroDivisionError: division by zero"},
        {"name": "good", "ms": "inf", "s": 1.235},
    ]
    assert "failed" not in section
    assert "in <lambda>" in (tmp_path / "gpu.log").read_text()


def test_what_there_is_no_time_for_is_not_begun(tmp_path, monkeypatch):
    rows, begun = [], []
    places = tmp_path, tmp_path, {}
    for ends in (time.monotonic() + 60, time.monotonic() - 1):
        Bench(rows.append, True, ends, *places).measure("row", lambda: begun.append(1) or {})
    assert rows == [{"name": "row"}, {"name": "row", "skipped": "no time left"}]
    assert begun == [1]
    section = measured(tmp_path, monkeypatch, send_three, 1)
    assert (section["failed"], section["rows"]) == ("no time was left for it", [])


def test_the_last_section_keeps_its_share_of_the_time(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.__main__.time.monotonic", lambda: 1000.0)
    assert seconds_for("step", [*SECTIONS], 1480, 8) == SECTIONS["step"][1]
    assert seconds_for("step", [*SECTIONS], 1480, 4) == SECTIONS["step"][1] / 2
    assert seconds_for("tables", [*SECTIONS], 1300, 8) == 300 - SECTIONS["compile"][1]
    assert seconds_for("tables", ["tables"], 1300, 8) == 300
    assert seconds_for("compile", [*SECTIONS], 1050, 8) == 50


# --- the places that it has to run in -------------------------------------------------------------

BARE = """
import sys
absent = ("matplotlib", "ipywidgets", "IPython", "jupyterlab", "jupytext", "nbformat", "nbclient",
          "papermill", "requests", "traitlets", "pytest", "hypothesis")
sys.modules.update(dict.fromkeys(absent))  # importing None is an ImportError
import torch
asked = []
torch._C._cuda_getDeviceCount = lambda *_: asked.append(1) or 0
import benchmarks.gpu.__main__
assert not asked, "the GPU was touched: it is lost to the processes that are forked"
sys.exit(benchmarks.gpu.__main__.main(sys.argv[1:]))
"""


def test_it_needs_no_package_of_the_course_and_leaves_the_gpu_alone(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", BARE, "--tiny", "--out", str(tmp_path), "--only", "device"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert list(read_record(tmp_path / "gpu.json")["sections"]) == ["device"]


def test_without_a_gpu_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.__main__.find_device", lambda *_: (None, "fork"))
    assert main(["--out", str(tmp_path)]) == 2
    assert "finds no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


def test_goals_are_judged_by_the_best_and_missing_ones_are_left_out(tmp_path, capsys):
    def step(name, ms):
        return {"name": name, "sfm": "paper", "an image": 5, "ms": ms}

    steps = [step("literal fp32", 900.0), step("library bf16", 100.0)]
    sections = {"step": {"rows": steps}, "compile": {"rows": []}}
    assert "9 times (goal >= 8): met" in goals(sections)[0]
    steps[1]["ms"] = 150.0
    assert "MISSED" in goals(sections)[0]
    sections["compile"]["rows"].append(step("library bf16, compiled", 90.0))
    assert "compiled against literal fp32: 10 times (goal >= 8): met" in goals(sections)[0]
    assert goals({"device": {"rows": []}}) == ["nothing was measured yet that a goal is about"]
    (tmp_path / "gpu.json").write_text(json.dumps({"made": {"device": "H"}, "sections": sections}))
    assert main(["--show", str(tmp_path / "gpu.json")]) == 0
    assert "device H" in capsys.readouterr().out
