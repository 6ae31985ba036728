"""The pictures of lesson 06 show what they were given."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from shnet_course.measure.replay import Replay
from shnet_course.pictures.base import PALETTE
from shnet_course.pictures.lesson_06 import (
    FLOAT_FORMATS,
    draw_formats,
    draw_growing,
    draw_learning_rates,
    draw_replay,
    draw_training_runs,
)

# --- runs -----------------------------------------------------------------------------------------

RUNS = {
    "one": [{"step": 1, "loss": 0.5, "iou": 0.1}, {"step": 2, "loss": 0.4, "iou": 0.3}],
    "other": [{"step": 3, "loss": 0.7}, {"step": 9, "loss": 3.0}],
}


def test_each_run_is_a_line_in_each_panel_that_it_has_figures_for():
    loss, iou = draw_training_runs(RUNS, ["loss", "iou"]).axes
    assert [line.get_label() for line in loss.lines] == ["one", "other"]
    assert [line.get_label() for line in iou.lines] == ["one"]
    assert loss.lines[1].get_xydata().tolist() == [[3, 0.7], [9, 3.0]]
    assert iou.lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.3]]


def test_the_curves_are_told_in_words():
    label = draw_training_runs(RUNS, ["loss", "iou"]).get_label()
    assert "one: loss from 0.50 to 0.40; other: loss from 0.70 to 3.00; one: iou" in label


def test_runs_differ_in_more_than_colour():
    lines = draw_training_runs({name: RUNS["one"] for name in "abcd"}, ["loss"]).axes[0].lines
    assert len({line.get_linestyle() for line in lines}) == 4
    assert len({line.get_color() for line in lines}) == 4


def test_an_iou_is_drawn_from_0_to_1_and_a_loss_from_0():
    loss, iou = draw_training_runs(RUNS, ["loss", "iou"]).axes
    assert loss.get_ylim()[0] == 0 and loss.get_ylim()[1] >= 3
    assert iou.get_ylim() == (0, 1.02)


def test_an_iou_that_stays_0_is_seen_in_front_of_the_axis():
    (ax,) = draw_training_runs(
        {"stuck": [{"step": 1, "iou": 0.0}, {"step": 9, "iou": 0.0}]}, ["iou"]
    ).axes
    (line,) = ax.lines
    assert not line.get_clip_on() and line.get_zorder() > ax.spines["bottom"].get_zorder()


def test_a_measure_that_no_run_has_is_an_error():
    with pytest.raises(ValueError, match="'recall'"):
        draw_training_runs(RUNS, ["loss", "recall"])


# --- learning rates -------------------------------------------------------------------------------


def test_rates_are_drawn_in_order_with_their_last_and_their_highest_loss():
    runs = {1e-1: [{"loss": 0.3}, {"loss": 2.0}, {"loss": 0.9}], 1e-3: [{"loss": 0.3}]}
    figure = draw_learning_rates(runs, 0.25)
    last, highest, nothing = figure.axes[0].lines
    assert last.get_xydata().tolist() == [[1e-3, 0.3], [1e-1, 0.9]]
    assert highest.get_ydata().tolist() == [0.3, 2.0]
    assert nothing.get_ydata() == [0.25, 0.25]
    assert "0.001: 0.30, 0.1: 0.90" in figure.get_label()


# --- formats --------------------------------------------------------------------------------------


def test_the_formats_are_torch_s():
    for name, (exponent, fraction) in FLOAT_FORMATS.items():
        kind = torch.finfo(getattr(torch, name))
        assert kind.bits == 1 + exponent + fraction
        assert kind.eps == 2.0**-fraction
        assert kind.smallest_normal == 2.0 ** (2 - 2 ** (exponent - 1))


def test_every_bit_is_a_box_in_its_colour():
    (ax,) = draw_formats().axes
    boxes = [box for box in ax.patches if box.get_y() == -2]  # bfloat16, the third row
    assert len(boxes) == 16
    colours = [box.get_facecolor()[:3] for box in boxes]
    assert colours.count(to_rgb(PALETTE[1])) == 8 and colours.count(to_rgb(PALETTE[4])) == 7
    assert {text.get_text() for text in ax.texts} >= {*FLOAT_FORMATS, "23", "10"}


# --- a run, played again --------------------------------------------------------------------------


@pytest.fixture
def replay() -> Replay:
    """Two phrases, three steps; at the last one the first phrase is answered, the second is not."""
    targets = np.zeros((2, 128, 128), bool)
    targets[0, :64, :64] = targets[1, 64:, 64:] = True
    probability = np.zeros((2, 3, 64, 64), np.float32)
    probability[0, 2, :32, :32] = 1
    maps = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    curve = np.array([[50, 0.3, 0.0], [100, 0.2, 0.1], [200, 0.1, 0.4]])
    photo = np.full((128, 128, 3), 200, np.uint8)
    return Replay(
        steps=np.array([0, 100, 200]),
        photo=photo,
        phrases=["top left one", "bottom one"],
        words=["left", "bottom"],
        targets=targets,
        probability=probability,
        attention=maps / 64,
        gate=maps,
        channel=7,
        curve=curve,
        length=4000,
    )


def test_a_kept_mask_has_the_size_of_its_scene(replay):
    assert replay.mask(0, 2).shape == (128, 128)
    assert replay.mask(0, 2)[:60, :60].all() and not replay.mask(0, 2)[68:].any()
    assert not replay.mask(1, 2).any()


def test_masks_grow_from_column_to_column_and_their_text_says_how_far(replay):
    figure = draw_growing(replay, [0, 200])
    titles = [ax.get_title() for row in figure.subfigs for ax in row.axes]
    assert titles[0] == "step 0\nIoU 0.00" and titles[1].startswith("step 200\nIoU 1.00")
    assert titles[2:] == ["step 0\nIoU 0.00", "step 200\nIoU 0.00"]
    assert "“top left one” 0.00, 1.00" in figure.get_label()
    assert "“bottom one” 0.00, 0.00" in figure.get_label()


def test_a_step_is_drawn_with_its_own_maps_on_one_scale_for_all_steps(replay):
    for number, step in enumerate(replay.steps):
        left, right = draw_replay(replay, step).subfigs
        assert left.axes[0].lines[1].get_xdata()[0] == step
        maps = [ax.images[0] for ax in right.axes if ax.images and ax.get_title()[:3] != "“"]
        maps = [image for image in maps if image.get_array().shape == (8, 8)]
        wanted = [
            kept[phrase, number] for phrase in (0, 1) for kept in (replay.attention, replay.gate)
        ]
        assert all(np.array_equal(m.get_array(), w) for m, w in zip(maps, wanted, strict=True))
        tops = [image.get_clim()[1] for image in maps]
        assert tops == [replay.attention[0].max(), 1, replay.attention[1].max(), 1]


def test_a_step_that_was_not_kept_is_named(replay):
    with pytest.raises(ValueError, match=r"step 150 was not kept; there are \[0, 100, 200\]"):
        draw_replay(replay, 150)
