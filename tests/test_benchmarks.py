"""The benchmarks run, prove their own equality, and their figures stand in the docs."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import SECTIONS, main
from benchmarks.environment import MEMORY_KEPT, SETTINGS, SHORT_WAIT
from benchmarks.literal import literal_version
from benchmarks.memory import on_fake_tensors, peak_bytes, saved_bytes
from benchmarks.report import with_tables
from benchmarks.sizes import TINY, make_batch, make_network
from benchmarks.step import check_equal
from refgen.refshapes import generate

DOCS = Path(__file__).resolve().parents[1] / "docs"


FAST = ["equality", "step"]
SWEEP = [name for name in SECTIONS if name not in (*FAST, "compile")]  # that one takes a minute


@pytest.mark.parametrize("sections", [FAST, pytest.param(SWEEP, marks=pytest.mark.slow)])
def test_sections_run_and_are_written_down(sections, tmp_path):
    data = tmp_path / "shapes"
    generate(data, dict.fromkeys(("train", "val", "testA", "testB"), 2), 64)
    page = tmp_path / "performance.md"
    marks = [f"<!-- measured: {section} -->\n<!-- end -->\n" for section in SECTIONS]
    page.write_text("\n".join(marks))
    arguments = ["--tiny", "--repeats", "1", "--out", str(tmp_path), "--only"]
    pipe = ["--data", str(data), "--dataset", "refshapes-unc"]
    assert main([*arguments, *sections, *pipe]) == 0
    results = json.loads((tmp_path / "performance.json").read_text())
    assert list(results) == sections
    assert str(tmp_path) not in json.dumps(results)
    assert all(each["where"]["torch"] == torch.__version__ for each in results.values())
    assert len(re.findall(r"^\| ---", page.read_text(), re.M)) == len(sections)
    if "step" in sections:
        parts = {row["part"] for row in results["step"]["results"]}
        assert {"whole step", "projections", "SFM", "HCAM", "decoder", "AdamW"} <= parts
    if "growth" in sections:
        assert (tmp_path / "performance_growth.png").stat().st_size > 10_000


def test_the_two_versions_are_equal_and_a_difference_is_found(monkeypatch):
    assert set(check_equal(TINY)) == {"outputs fp32", "gradients float64"}
    monkeypatch.setattr("benchmarks.literal.OTHERS", {0: (1, 2), 1: (0, 2), 2: (0, 0)})
    with pytest.raises(AssertionError, match="outputs differ"):
        check_equal(TINY)


# Switching oneDNN off sets all its flags, one of which only some GPUs have.
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_fake_tensors_count_what_real_ones_take(precision):
    def make():
        return make_network(TINY), make_batch(TINY, 4)

    for measure in (saved_bytes, peak_bytes):
        measure = partial(measure, precision=precision)
        with torch.backends.mkldnn.flags(enabled=False):  # its LSTM keeps a workspace of its own
            real, fake = measure(*make()), on_fake_tensors(make, measure)
        if isinstance(real, dict):
            real, fake = real["together"], fake["together"]
        assert fake == pytest.approx(real, rel=0.02)


def test_the_literal_version_keeps_its_attention_weights():
    network, batch = make_network(TINY), make_batch(TINY, 4)
    kept = saved_bytes(literal_version(network), batch, torch.float32)
    frugal = saved_bytes(network, batch, torch.float32)
    cells = TINY.grid**2 + batch["words"].shape[1]
    weights = 4 * 3 * TINY.sfm_layers * 4 * TINY.heads * cells**2  # bytes, levels, batch
    assert kept - frugal > weights


def test_what_is_measured_of_the_environment_is_what_make_sets():
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    exported = dict(re.findall(r"^export (\w+) \?= (.+)$", makefile, re.MULTILINE))
    assert exported == MEMORY_KEPT | SHORT_WAIT
    assert MEMORY_KEPT | SHORT_WAIT in SETTINGS.values()


def test_the_page_shows_the_figures_that_were_measured():
    """`make bench` writes both; one of them edited by hand would lie. What was not, says so."""
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    file = DOCS / "performance.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    assert set(results) <= set(SECTIONS)
    for section in set(SECTIONS) - set(results):
        assert f"<!-- measured: {section} -->\n*Not measured yet" in text
    assert with_tables(text, results) == text
    assert not any("--tiny" in each["where"]["command"] for each in results.values())
