"""Lesson 07's pictures show the counts that they are given."""

from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from shnet_course.measure.conventions import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_1_PHOTOS,
    Answers,
    sweep,
)
from shnet_course.pictures.base import PREDICTED, TARGET
from shnet_course.pictures.lesson_07 import (
    BOTH,
    agreement_image,
    draw_agreement,
    draw_bootstrap,
    draw_dilation,
    draw_dots,
    draw_sweep,
    draw_table_1,
    draw_threshold,
)
from shnet_lib.data import Expression
from shnet_lib.training.metrics import overall_iou

PREDICTION = np.array([[1, 1, 0], [0, 0, 0]], bool)
TRUTH = np.array([[0, 1, 1], [0, 0, 0]], bool)


@pytest.fixture
def answers(tmp_path) -> Answers:
    """Three expressions; the logits rise from left to right, so that thresholds cut columns."""
    Image.new("RGB", (16, 16), "gray").save(tmp_path / "photo.png")
    mask = np.zeros((16, 16), bool)
    mask[:, 8:] = True
    np.save(tmp_path / "mask.npy", mask)
    expression = Expression(
        image_path=tmp_path / "photo.png", image_id=1, height=16, width=16, ref_id=1, sent_id=1,
        text="right half", category="", family=None,
        read_mask=partial(np.load, tmp_path / "mask.npy"),
    )  # fmt: skip
    logits = torch.linspace(-4, 4, 16).expand(3, 16, 16)
    return Answers([expression] * 3, logits, [torch.from_numpy(mask)] * 3)


def test_agreement_has_a_colour_for_each_of_the_four_cases():
    image = agreement_image(PREDICTION, TRUTH)
    assert tuple(image[0, 0]) == to_rgb(PREDICTED)
    assert tuple(image[0, 1]) == to_rgb(BOTH)
    assert tuple(image[0, 2]) == to_rgb(TARGET)
    assert len({tuple(pixel) for pixel in image.reshape(-1, 3)}) == 4


def test_agreement_is_told_as_intersection_over_union():
    figure = draw_agreement({"A": [PREDICTION], "B": [TRUTH]}, [TRUTH])
    assert [ax.get_title() for ax in figure.axes] == ["1 / 3", "2 / 2"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["A", "B"]


@pytest.mark.parametrize("threshold, iou", [(0.5, 1), (0.9, 0.5)])
def test_the_threshold_cuts_the_maps_and_stands_on_the_curves(answers, threshold, iou):
    # sigmoid(linspace(-4, 4, 16)) > 0.9 from column 12 on: 4 of the 8 columns that are true
    swept = sweep(answers, (0.25, 0.5, 0.75, 0.9))
    figure = draw_threshold(answers, swept, threshold)
    (*pictures, curves), told = figure.axes, figure.get_label()
    pictures = [ax for ax in pictures if ax.get_title()]  # without the colour bar
    assert [ax.get_title() for ax in pictures] == 3 * ["“right half”"] + 3 * [f"IoU {iou:.2f}"]
    assert curves.lines[0].get_ydata().tolist() == swept.measure(overall_iou)
    dot = curves.lines[3]  # behind the three curves
    assert dot.get_xydata().tolist() == [[threshold, pytest.approx(iou)]]
    legend = [text.get_text() for text in curves.get_legend().get_texts()]
    assert legend[0] == f"overall IoU {iou:.3f}" and all(text in told for text in legend)


def test_a_threshold_that_nothing_passes_draws_empty_masks(answers):
    figure = draw_threshold(answers, sweep(answers, (0.5, 0.99)), 0.99)
    assert "the masks: IoU 0.00, IoU 0.00, IoU 0.00" in figure.get_label()


def test_the_sweep_has_three_measures_and_its_marks(answers):
    (ax,) = draw_sweep(sweep(answers, (0.25, 0.5, 0.75)), {0.4: "here"}).axes
    assert [line.get_label() for line in ax.lines[:3]] == [
        "overall IoU", "mean IoU", "precision@0.5"
    ]  # fmt: skip
    assert ax.lines[3].get_xdata()[0] == 0.4 and ax.texts[0].get_text().strip() == "here"
    assert len({line.get_linestyle() for line in ax.lines[:3]}) == 3


def test_the_legend_stands_beside_the_curves(answers):
    figure = draw_sweep(sweep(answers, (0.25, 0.5, 0.75)), {})
    figure.draw_without_rendering()
    (ax,) = figure.axes
    box = ax.get_legend().get_window_extent().transformed(ax.transAxes.inverted())
    assert box.x0 > 1
    assert "overall IoU" in figure.get_label()


def test_dots_are_the_numbers_on_a_scale_that_begins_near_the_smallest():
    figure = draw_dots({"a": 0.87, "b": 0.93}, "IoU")
    (ax,) = figure.axes
    assert ax.lines[0].get_xdata().tolist() == [0.87, 0.93]
    assert {"0.870", "0.930"} <= {text.get_text() for text in ax.texts}
    assert ax.get_xlim()[0] == pytest.approx(0.85) and "begins at 0.85" in ax.get_xlabel()
    assert "a 0.870" in figure.get_label()


def test_dilation_has_a_curve_a_photo_size():
    (ax,) = draw_dilation([1, 2], {"a": [0.6, 0.7], "b": [0.8, 0.9]}).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.6, 0.7], [0.8, 0.9]]
    assert len({line.get_marker() for line in ax.lines}) == 2


def test_the_bars_below_the_histograms_are_the_intervals():
    values = np.linspace(0.5, 0.7, 1001)
    (ax,) = draw_bootstrap({"a": values, "b": values + 0.1}, 0.6).axes
    bars = [line.get_xdata() for line in ax.lines[:2]]
    assert np.allclose(bars, [[0.505, 0.695], [0.605, 0.795]])
    assert ax.lines[2].get_xdata()[0] == 0.6


def test_table_1_is_drawn_whole_with_a_band_per_split():
    half_widths = [3 * (67 / photos) ** 0.5 for photos in TABLE_1_PHOTOS]
    figure = draw_table_1(half_widths)
    assert "per cent" in figure.get_supxlabel()
    for column, (ax, title) in enumerate(zip(figure.axes, TABLE_1_COLUMNS, strict=True)):
        assert ax.get_title().startswith(f"{title}\n{TABLE_1_PHOTOS[column]:,} photos")
        drawn = sorted(line.get_xdata()[0] for line in ax.lines)
        assert drawn == sorted(v[column] for v in TABLE_1.values() if v[column] is not None)
        band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
        assert band.x1 - band.x0 == pytest.approx(2 * half_widths[column])
        assert (band.x0 + band.x1) / 2 == pytest.approx(TABLE_1["SHNet 320"][column])
