"""Lesson 10's tables and sentences: the machine, the settings' sources, the paper's numbers."""

import json
import math
import re
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from shnet_course.measure import machine as machine_module
from shnet_course.measure.machine import (
    MIB,
    ROOM,
    Machine,
    advise,
    count_steps,
    hours_of,
    needed_memory,
    what_you_have,
)
from shnet_course.measure.whole_run import (
    SOURCES,
    beside_the_paper,
    conclude,
    interval_of,
    printed_iou,
    published_photos,
    settings_table,
    why_not_printed,
)
from shnet_course.paths import COURSE
from shnet_course.pictures.lesson_10 import LiveRun, describe_run, draw_run
from shnet_course.tables import Table
from shnet_lib.training.config import PRESETS, configure
from shnet_lib.training.evaluate import Evaluation

GIB = 1024 * MIB


# --- a table --------------------------------------------------------------------------------------


def test_a_table_is_rendered_escaped_and_printed_in_columns():
    table = Table(("a", "b"), [("1", "x < y"), ("22", "")], "A note.", frozenset({1}))
    html = table._repr_html_()
    assert "x &lt; y" in html and "<b>22</b>" in html and "<b>1</b>" not in html
    assert "<p>A note.</p>" in html
    assert repr(table) == "a   b\n1   x < y\n22\nA note."


def test_a_row_that_does_not_fit_its_head_is_an_error():
    with pytest.raises(ValueError, match="1 cells under a head of 2"):
        Table(("a", "b"), [("1",)])


# --- settings -------------------------------------------------------------------------------------


def test_every_source_is_of_a_setting_and_every_setting_of_the_paper_has_one():
    paper = configure("unc-320").by_name()
    assert set(SOURCES) <= set(paper)
    model = {f"model.{item.name}" for item in fields(configure("unc-320").model)}
    assert model - set(SOURCES) == {"model.first_edition"}


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_are_told_with_their_values(preset):
    config = configure(preset)
    table = settings_table(config)
    told = {row[0]: row for row in table.rows}
    assert told["batch_size"][1:] == (str(config.batch_size), "50", "section 4.2")
    marked = {table.rows[number][0] for number in table.marked}
    assert ("batch_size" in marked) == (config.batch_size != 50)
    assert ("learning_rate" in marked) == (config.learning_rate != 1.2e-4)
    assert ("model.channels" in marked) == (config.model.channels != 512)
    assert told["model.channels"][2:] == ("512", "released code") and told["seed"][2] == ""


def test_what_is_not_read_is_left_out_and_what_was_set_is_told():
    config = configure("quick", patience=3, **{"model.sfm": "printed"})
    told = [row[0] for row in settings_table(config).rows]
    assert "model.sfm_layers" not in told and "epochs" not in told
    assert "patience" in told and "cache_features" in told


# --- the machine ----------------------------------------------------------------------------------


def gpu(gib: float, bf16: bool = True) -> Machine:
    return Machine("a GPU", "cuda", round(gib * GIB), 16, 1, bf16)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (gpu(24), {"accumulate": 1, "recompute": False, "precision": "bf16", "workers": 8}),
        (gpu(11, bf16=False), {"accumulate": 1, "recompute": False, "precision": "fp16"}),
        (gpu(5), {"accumulate": 1, "recompute": True}),
        (gpu(2.5), {"accumulate": 2, "recompute": True}),
        (Machine("CPU", "cpu", 24 * GIB, 2), {"accumulate": 1, "workers": 2}),
    ],
)
def test_the_advice_keeps_the_batch_and_fits_the_memory(machine, expected):
    config = configure("unc-320")
    advice = advise(config, machine)
    assert expected.items() <= advice.items()
    assert config.batch_size % advice["accumulate"] == 0
    needed = needed_memory(config, *(advice[n] for n in ("accumulate", "precision", "recompute")))
    assert needed <= ROOM * machine.memory
    replace(config, **advice)  # they are settings


def test_the_counted_needs_are_those_of_the_performance_page():
    """Never less than its table counts for a batch of 50, and at most a tenth more."""
    counted = json.loads((COURSE / "docs" / "performance.json").read_text())["memory"]["results"]
    kinds = {
        "library, fp32": ("no", False),
        "library, bf16": ("bf16", False),
        "library, bf16, recompute": ("bf16", True),
    }
    rows = [row for row in counted if row["network"] in kinds]
    assert len(rows) == 6
    for row in rows:
        config = configure("unc-320", **{"model.grid": row["grid"]})
        found = needed_memory(config, 1, *kinds[row["network"]]) / MIB
        assert 0.999 < found / row["peak MiB, together"] < 1.1, row


def test_the_advice_is_written_as_settings():
    table = what_you_have(configure("unc-320"), gpu(11, bf16=False))
    assert table.note == "To follow the advice, add to settings: precision=fp16"
    assert [table.rows[n][0] for n in table.marked] == ["precision"]
    assert what_you_have(configure("unc-320"), gpu(24)).note == "It fits as it is."
    assert "hardly suffice" in what_you_have(configure("unc-320"), gpu(0.5)).note
    assert "nothing to choose" in what_you_have(configure("quick"), gpu(24)).note


def test_hours_are_those_of_the_steps_and_of_validation():
    config = configure("unc-320", epochs=2, batch_size=10)
    expressions = {"train": range(1000), "val": range(300)}
    assert count_steps(config, expressions) == 200
    # 200 steps, and twice 30 batches forward, which are a third of a step each
    assert math.isclose(hours_of(config, expressions, 36.0), (200 + 2 * 10) * 36 / 3600)


def test_a_trial_counts_the_second_half_and_leaves_nothing(tmp_path, monkeypatch):
    clock = iter([0.0, 50.0, 55.0])  # the start; after ten steps; after twenty
    monkeypatch.setattr(machine_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    seen = {}

    def fit(config, data, folder, on_steps):
        seen.update(config=config, data=data, folder=folder)
        assert folder.is_dir()
        on_steps([{"step": 10}])
        on_steps([{"step": 20}])

    monkeypatch.setattr(machine_module, "fit", fit)
    config = configure("unc-320")
    expressions = {"train": list(range(500)), "val": list(range(100)), "testA": []}
    trial = machine_module.try_steps(config, expressions, tmp_path / "run")
    assert trial.seconds_per_step == 0.5 and trial.memory > 0
    assert (seen["config"].steps, seen["config"].epochs) == (20, None)
    assert {name: len(rows) for name, rows in seen["data"].items()} == {"train": 500, "val": 50}
    assert list((tmp_path / "run").iterdir()) == []


# --- the paper ------------------------------------------------------------------------------------

DEEPLAB = configure("unc-320", **{"model.backbone_weights": "voc.pth"})
RESNET = {"model.backbone": "resnet101", "model.backbone_weights": "imagenet"}


def test_the_paper_s_number_is_found_where_everything_is_the_same():
    assert printed_iou(DEEPLAB, "val") == (63.98, "Table 1")
    wide = configure("unc-448", **{"model.backbone_weights": "voc.pth"})
    assert printed_iou(wide, "testB") == (62.04, "Table 1")
    assert printed_iou(configure("unc-320", **RESNET), "val") == (63.76, "Table 3")
    assert printed_iou(configure("unc-448", **RESNET), "testA") == (68.08, "Table 3")
    assert printed_iou(configure("referit"), "test") == (68.38, "Table 1")
    assert printed_iou(configure("gref"), "val") == (48.95, "Table 1")
    assert published_photos(configure("gref"), "val") == 4650


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (configure("quick"), "no results on refshapes-unc"),
        (configure("unc-rehearsal"), r"no results with resnet101 \(random\) on unc"),
        (configure("unc+", **RESNET), r"no results with resnet101 \(imagenet\) on unc\+"),
        (configure("unc-320", **{"model.image_size": 416}), "no results at 416 x 416"),
        (configure("unc-320", **{"model.fusion": "none"}), r"\(model.fusion=none\)"),
    ],
)
def test_elsewhere_a_sentence_says_why_there_is_none(config, reason):
    assert printed_iou(config, "val") is None
    assert re.search(reason, why_not_printed(config))


def evaluation(photos: int, iou: float = 0.5) -> Evaluation:
    rows = [
        {"image": f"{number // 2}.jpg", "intersection": 10 + number % 7, "union": 30}
        for number in range(2 * photos)
    ]
    return Evaluation({"overall_iou": iou, "precision@0.5": 0.6, "precision@0.9": 0.1}, rows)


def test_a_split_of_another_size_is_not_set_beside_the_paper_s():
    whole, part = evaluation(1500), evaluation(8)
    table = beside_the_paper(DEEPLAB, {"val": whole}, {"val": evaluation(1500, 0.55)})
    ((split, expressions, photos, ours, _, released, paper),) = table.rows
    assert (split, expressions, photos) == ("val", "3,000", "1,500")
    assert (ours, released, paper, table.note) == ("50.00", "55.00", "63.98 (Table 1)", "")
    table = beside_the_paper(DEEPLAB, {"val": part}, {"val": part})
    assert table.rows[0][-1] == "" and "8 photos here and 1,500 in the paper" in table.note


def test_the_interval_holds_the_measured_value_and_shrinks_with_more_photos():
    few, many = evaluation(20), evaluation(2000)
    for each in (few, many):
        low, high = interval_of(each)
        true = sum(r["intersection"] for r in each.rows) / sum(r["union"] for r in each.rows)
        assert low < true < high
    assert interval_of(many)[1] - interval_of(many)[0] < interval_of(few)[1] - interval_of(few)[0]


def finished(best_step: int, iou: float, val: float) -> SimpleNamespace:
    rows = [{"step": step, "iou": iou, "val_overall_iou": val} for step in (10, 20, 30)]
    return SimpleNamespace(history=rows, best=rows[best_step // 10 - 1])


def test_the_conclusion_follows_from_the_figures():
    rising = conclude(finished(30, 0.62, 0.60), evaluation(2, 0.6))
    assert "longer run would probably be better" in rising[0] and "not learnt them" in rising[1]
    assert "60% of the things" in rising[2] and "10% nearly exactly" in rising[2]
    stale = conclude(finished(20, 0.85, 0.60), evaluation(2, 0.6))
    assert "step 20 of 30" in stale[0] and "by heart in part" in stale[1]
    assert conclude(finished(30, 0, 0), evaluation(2, 0.0)) == [
        "The network marks next to nothing yet: this run shows that everything works, and no more."
    ]


# --- curves ---------------------------------------------------------------------------------------


def steps(first: int, last: int) -> list[dict]:
    return [
        {"step": step, "loss": step / 10, "intersection": 1, "union": 4}
        for step in range(first, last + 1)
    ]


def test_a_point_is_the_mean_of_its_steps_and_an_evaluation_closes_one(capsys):
    now = iter([0, 4, 4, 9, 9, 9, 20])
    live = LiveRun(8, every=20, clock=lambda: next(now), memory=lambda: 2**30)
    live.on_steps(steps(1, 10))
    assert not live.points
    live.on_steps(steps(11, 20))
    (point,) = live.points
    assert point == {
        "step": 20, "loss": pytest.approx(1.05), "iou": 0.25, "samples_per_second": 40, "memory": 1,
    }  # fmt: skip
    live.on_steps(steps(21, 30))
    history = [
        {"step": 30, "loss": 2, "iou": 0.2, "val_overall_iou": 0.3, "samples_per_second": 33.0}
    ]
    live.on_evaluation(history)
    assert [p["step"] for p in live.points] == [20, 30]
    assert live.points[1]["samples_per_second"] == 33.0, "without the evaluation's seconds"
    assert "up to step 30" in capsys.readouterr().out


def test_the_picture_shows_four_curves_and_needs_no_points():
    history = [
        {"step": 30, "loss": 2, "iou": 0.2, "val_overall_iou": 0.3, "samples_per_second": 33.0}
    ]
    assert [len(ax.lines) for ax in draw_run([], history).axes] == [1, 2, 1, 1]
    text = describe_run([], history)
    assert text.endswith("33 expressions per second, validation overall IoU 0.300.")
