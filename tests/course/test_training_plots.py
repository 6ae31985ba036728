"""The pictures of lesson 06 show what they were given."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from shnet_course.pictures.base import PALETTE
from shnet_course.pictures.lesson_06 import (
    FORMATS,
    LEARNING_RATE,
    draw_formats,
    draw_rates,
    draw_runs,
    draw_schedules,
    draw_targets,
    plateau_rates,
)

# --- runs -----------------------------------------------------------------------------------------

RUNS = {
    "one": [{"step": 1, "loss": 0.5, "iou": 0.1}, {"step": 2, "loss": 0.4, "iou": 0.3}],
    "other": [{"step": 3, "loss": 0.7}, {"step": 9, "loss": 3.0}],
}


def test_each_run_is_a_line_in_each_panel_that_it_has_figures_for():
    loss, iou = draw_runs(RUNS, ["loss", "iou"]).axes
    assert [line.get_label() for line in loss.lines] == ["one", "other"]
    assert [line.get_label() for line in iou.lines] == ["one"]
    assert loss.lines[1].get_xydata().tolist() == [[3, 0.7], [9, 3.0]]
    assert iou.lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.3]]


def test_the_curves_are_told_in_words():
    label = draw_runs(RUNS, ["loss", "iou"]).get_label()
    assert "one: loss from 0.50 to 0.40; other: loss from 0.70 to 3.00; one: iou" in label


def test_runs_differ_in_more_than_colour():
    lines = draw_runs({name: RUNS["one"] for name in "abcd"}, ["loss"]).axes[0].lines
    assert len({line.get_linestyle() for line in lines}) == 4
    assert len({line.get_color() for line in lines}) == 4


def test_an_iou_is_drawn_from_0_to_1_and_a_loss_from_0():
    loss, iou = draw_runs(RUNS, ["loss", "iou"]).axes
    assert loss.get_ylim()[0] == 0 and loss.get_ylim()[1] >= 3
    assert iou.get_ylim() == (0, 1.02)


def test_an_iou_that_stays_0_is_seen_in_front_of_the_axis():
    (ax,) = draw_runs({"stuck": [{"step": 1, "iou": 0.0}, {"step": 9, "iou": 0.0}]}, ["iou"]).axes
    (line,) = ax.lines
    assert not line.get_clip_on() and line.get_zorder() > ax.spines["bottom"].get_zorder()


def test_a_measure_that_no_run_has_is_an_error():
    with pytest.raises(ValueError, match="'recall'"):
        draw_runs(RUNS, ["loss", "recall"])


# --- learning rates -------------------------------------------------------------------------------


def literal_plateau(scores: list[float], patience: int) -> list[float]:
    """The rule in plain words: more than `patience` epochs in a row without a better score.

    torch calls better what is above the best by a ten-thousandth of it.
    """
    rate, best, bad, rates = LEARNING_RATE, -np.inf, 0, []
    for score in scores:
        rates.append(rate)
        if score > best * 1.0001 or best == -np.inf:
            best, bad = score, 0
        else:
            bad += 1
        if bad > patience:
            rate, bad = 0.7 * rate, 0
    return rates


def climbing(count: int, noise: float) -> list[float]:
    random = np.random.default_rng(0)
    rise = 0.65 * (1 - np.exp(-np.arange(1, count + 1) / 3))
    return (rise + noise * random.standard_normal(count)).tolist()


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.06])
@pytest.mark.parametrize("patience", [0, 2, 6])
def test_plateau_rates_are_those_of_the_rule(patience, noise):
    scores = climbing(20, noise)
    assert np.allclose(
        plateau_rates(scores, patience), literal_plateau(scores, patience), rtol=1e-9, atol=0
    )


def test_patience_of_two_bears_two_epochs_and_not_three():
    assert plateau_rates([0.5, 0.4, 0.4, 0.4, 0.4], 2) == pytest.approx(
        [LEARNING_RATE] * 4 + [0.7 * LEARNING_RATE]
    )


@pytest.mark.parametrize("power", [0.5, 0.7, 2.0])
def test_the_drawn_decay_is_the_formula_and_the_step_line_the_rule(power):
    scores = climbing(20, 0.03)
    figure = draw_schedules(scores, power, patience=1)
    left, right = figure.axes
    decay, plateau = (line.get_ydata() for line in left.lines)
    expected = [LEARNING_RATE * (1 - n / 20) ** power for n in range(20)]
    assert np.allclose(decay, expected, rtol=1e-12, atol=0)
    rates = literal_plateau(scores, 1)
    assert np.allclose(plateau, rates, rtol=1e-9, atol=0)
    assert right.lines[0].get_ydata().tolist() == scores
    assert f"lowered {len(set(rates)) - 1} times, {rates[-1]:.2g}" in figure.get_label()
    assert f"{LEARNING_RATE * 0.5**power:.2g} halfway" in figure.get_label()


def test_rates_are_drawn_in_order_with_their_last_and_their_highest_loss():
    runs = {1e-1: [{"loss": 0.3}, {"loss": 2.0}, {"loss": 0.9}], 1e-3: [{"loss": 0.3}]}
    figure = draw_rates(runs, 0.25)
    last, highest, nothing = figure.axes[0].lines
    assert last.get_xydata().tolist() == [[1e-3, 0.3], [1e-1, 0.9]]
    assert highest.get_ydata().tolist() == [0.3, 2.0]
    assert nothing.get_ydata() == [0.25, 0.25]
    assert "0.001: 0.30, 0.1: 0.90" in figure.get_label()


# --- formats, targets -----------------------------------------------------------------------------


def test_the_formats_are_torch_s():
    for name, (exponent, fraction) in FORMATS.items():
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
    assert {text.get_text() for text in ax.texts} >= {*FORMATS, "23", "10"}


def test_what_a_target_adds_and_lacks_is_coloured_and_measured():
    target = np.zeros((6, 6), dtype=bool)
    target[2:4, 2:4] = True
    shifted = np.roll(target, 1, axis=1)
    left, right = draw_targets(target, {"shifted": shifted}).axes
    assert left.get_title() == "target"
    assert right.get_title() == "shifted\nIoU 0.33"
    picture = right.images[0].get_array()
    assert picture[2, 3].tolist() == list(to_rgb(PALETTE[0]))  # in both
    assert picture[2, 4].tolist() == list(to_rgb(PALETTE[1]))  # added
    assert picture[2, 2].tolist() == list(to_rgb(PALETTE[7]))  # lacking
    assert picture[0, 0].tolist() == [1, 1, 1]


def test_only_the_part_of_the_plane_that_is_needed_is_shown():
    target = np.zeros((40, 50), dtype=bool)
    target[20:22, 1:3] = True
    other = np.zeros_like(target)
    other[25, 10] = True
    for ax in draw_targets(target, {"other": other}).axes:
        assert ax.images[0].get_array().shape[:2] == (3 + 6 + 3, 1 + 10 + 3)  # cut at the left
