"""Means with intervals, and differences of the same seed."""

import random
from math import inf, sqrt

import pytest

from shnet_course.measure.ablations import PRINTED_ROWS, by_row, differences, estimate
from shnet_course.pictures.base import draw_learning_curves
from shnet_course.pictures.lesson_08 import draw_differences, draw_luck
from shnet_lib.model.shnet import TABLE_2, TABLE_4

LINES = [
    {"row": "SHNet", "seed": "0", "val_overall_iou": "0.60"},
    {"row": "baseline", "seed": "0", "val_overall_iou": "0.50"},
    {"row": "baseline", "seed": "1", "val_overall_iou": "0.54"},
    {"row": "SHNet", "seed": "1", "val_overall_iou": "0.66"},
    {"row": "only SFM", "seed": "1", "val_overall_iou": "0.65"},
    {"row": "GBFM", "seed": "7", "val_overall_iou": "0.65"},
]


def test_the_interval_of_three_values_by_hand():
    """Student's t for two degrees of freedom is 4.303."""
    found = estimate([1.0, 2.0, 6.0])
    assert found.mean == 3.0 and found.seeds == 3
    spread = sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2)
    assert found.half_width == pytest.approx(4.3027 * spread / sqrt(3), rel=1e-4)
    assert not found.is_clear


def test_the_interval_holds_the_truth_in_19_of_20_cases():
    source = random.Random(0)
    held = 0
    for _ in range(2000):
        found = estimate([source.gauss(0.3, 0.1) for _ in range(3)])
        held += abs(found.mean - 0.3) <= found.half_width
    assert 0.935 < held / 2000 < 0.965


def test_one_seed_says_nothing_of_the_next():
    found = estimate([0.5])
    assert (found.mean, found.half_width, found.is_clear) == (0.5, inf, False)
    assert str(found) == "+0.500 ±   ?   (1 seed)"


def test_differences_are_taken_seed_by_seed():
    values = by_row(LINES, "val_overall_iou")
    assert values["baseline"] == {0: 0.50, 1: 0.54}
    found = differences(values, to="SHNet")
    assert list(found) == ["baseline", "only SFM"]  # GBFM has no seed in common
    assert found["baseline"].mean == pytest.approx((-0.10 - 0.12) / 2)
    assert found["baseline"].half_width == pytest.approx(12.706 * 0.01, rel=1e-3)
    assert found["only SFM"].mean == pytest.approx(-0.01) and found["only SFM"].seeds == 1


def test_the_picture_shows_the_means_and_the_papers_differences():
    found = differences(by_row(LINES, "val_overall_iou"), to="SHNet")
    figure = draw_differences(found, "SHNet")
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["baseline", "only SFM"]
    drawn = [(line.get_xdata()[0], line.get_marker()) for line in ax.lines]
    assert (pytest.approx(-11.0), "o") in drawn
    assert (pytest.approx(54.70 - 63.98), "D") in drawn
    assert "baseline -11.0 (the paper -9.3); only SFM -1.0" in figure.get_label()


def test_learning_curves_are_a_plot_per_row_and_a_line_per_seed_before_the_other_row_in_grey():
    lines = [
        {"row": row, "seed": seed, "step": step, "val_overall_iou": value}
        for row, seed, step, value in (
            ("one", "0", "500", "0.1"),
            ("one", "0", "1000", "0.41"),
            ("one", "1", "500", "0.2"),
            ("two", "0", "500", "0.3"),
        )
    ]
    figure = draw_learning_curves([*lines, {**lines[0], "row": "three"}], to="two")
    one, three = figure.axes
    assert (one.get_title(), three.get_title()) == ("one", "three")
    grey, first, second = one.lines
    assert grey.get_xydata().tolist() == [[500, 0.3]]
    assert first.get_xydata().tolist() == [[500, 0.1], [1000, 0.41]]
    assert first.get_color() == second.get_color() != grey.get_color()
    assert "two 0.30; one 0.41, 0.20; three 0.10" in figure.get_label()


def test_luck_shrinks_with_the_seeds():
    """A bell curve one spread above 0 has 15.9 % below 0; of the mean of four runs, 2.3 %."""
    assert "15.9% of the comparisons of 1 seed," in draw_luck(1.0, 1.0, 1).get_label()
    assert "2.3% of the comparisons of 4 seeds," in draw_luck(1.0, 1.0, 4).get_label()


def test_every_row_of_the_papers_numbers_is_one_that_can_be_built():
    assert set(PRINTED_ROWS) <= set(TABLE_2) | set(TABLE_4)
