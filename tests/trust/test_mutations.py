"""Thousands of damaged files: a reader gives a result or a documented error, and always ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import KINDS

SHORT_SEED, SHORT = 1, 400
LONG_SEED, LONG = 6, 3000


def mutate(seed: int, count: int, folder: Path, record_property) -> None:
    """`count` mutations of each kind, in a process of its own: it may crash."""
    command = [sys.executable, str(Path(__file__).with_name("mutations.py"))]
    run = subprocess.run(
        [*command, str(seed), str(count), str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, f"after\n{run.stdout}:\n{run.stderr[-3000:]}"
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each["kind"] for each in results] == list(KINDS)
    for each in results:
        assert each["read"] + each["refused"] == count
        assert each["refused"] > count / 50, f"{each}: the mutations do nothing"
        assert each["read"] > 0, f"{each}: the mutations do too much"
    print(run.stdout)
    record_property("mutations", count * len(results))


def test_damaged_files(tmp_path, record_property):
    mutate(SHORT_SEED, SHORT, tmp_path, record_property)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_damaged_files(tmp_path, record_property):
    mutate(LONG_SEED, LONG, tmp_path, record_property)
