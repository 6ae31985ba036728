"""The environment check: silent remedies where all is well, one named remedy where it is not."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shnet_course.environment import (
    _memory,
    _packages,
    _python,
    _there,
    check_environment,
    report,
    stay_on_the_cpu,
)
from shnet_course.paths import COURSE


def test_here_everything_but_the_data_is_there(tmp_path):
    findings = {finding.what: finding for finding in check_environment(tmp_path)}
    assert list(findings) == ["Python", "packages", "memory", "device", "RefShapes", "SHNet"]
    assert [what for what, f in findings.items() if f.remedy] == ["RefShapes", "SHNet"]
    assert "make data" in findings["RefShapes"].remedy
    assert str(tmp_path / "data" / "refshapes") in findings["RefShapes"].found


@pytest.mark.parametrize(("version", "well"), [((3, 10), False), ((3, 11), True), ((3, 13), True)])
def test_an_old_python_is_named(version, well):
    assert bool(_python(version, "x").remedy) is not well


def test_a_missing_package_is_named_with_the_command():
    def version(name):
        if name == "torchvision":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    finding = _packages(("torch", "torchvision"), version)
    assert finding.found == "torch 1.0"
    assert finding.remedy.startswith("torchvision: make install")


@pytest.mark.parametrize(("gigabytes", "well"), [(3.9, False), (4, True)])
def test_too_little_memory_is_told(gigabytes, well):
    assert bool(_memory(int(gigabytes * 1e9)).remedy) is not well


def test_one_line_a_finding_and_one_for_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    here = _there("file", tmp_path / "file", "look")
    gone = _there("other", tmp_path / "other", "make it")
    lines = report([here, gone]).splitlines()
    assert lines[0] == "OK  file       is there"
    assert lines[1].startswith("--  other ") and lines[2].strip() == "-> make it"
    assert len(lines) == 3


def test_a_lesson_that_compares_bits_stays_on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")  # so that it is put back afterwards
    stay_on_the_cpu()
    assert os.environ["ACCELERATE_USE_CPU"] == "true"


def test_a_scratch_folder_is_gone_with_its_process():
    code = "from shnet_course.paths import scratch_folder as f; p = f(); print(p, p.is_dir())"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=COURSE
    ).stdout.split()
    assert told[1] == "True" and not Path(told[0]).exists()
