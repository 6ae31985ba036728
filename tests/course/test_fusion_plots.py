"""Lesson 04's pictures: the numbers they are given, and every step of Figure 3."""

import numpy as np
import pytest
from matplotlib.text import Text

from shnet_course.pictures.lesson_04 import (
    draw_affinity_of,
    draw_channel,
    draw_figure_3,
    draw_inside_outside,
    draw_maps,
    most_varied,
)
from shnet_lib.model.hcam import OTHERS


def titled(figure) -> dict:
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def test_maps_show_their_numbers_in_order():
    maps = {"a": np.array([[1.0, -2.0]]), "b": np.array([[0.5, 4.0]])}
    first, second = draw_maps(maps, ["="]).axes
    assert [text.get_text() for text in first.texts] == ["1.00", "-2.00", "="]
    assert [text.get_text() for text in second.texts] == ["0.50", "4.00", ""]
    assert {ax.images[0].norm.vmax for ax in (first, second)} == {4.0}
    assert {ax.images[0].norm.vmin for ax in (first, second)} == {-4.0}


def test_a_pair_of_levels_chooses_the_affinity():
    random = np.random.default_rng(0)
    pairs = [(i + 2, j + 2) for i, others in OTHERS.items() for j in others]
    affinities = {pair: random.uniform(size=(6, 3, 3)) for pair in pairs}
    photo = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for pair, affinity in affinities.items():
        figure = draw_affinity_of(photo, affinities, pair)
        shown = titled(figure)
        assert np.array_equal(shown["scene"].images[0].get_array(), photo)
        mean = shown["mean of 6 channels"].images[0].get_array()
        assert np.allclose(mean, sum(affinity) / 6)
        for channel in most_varied(affinity):
            single = shown[f"channel {channel}"].images[0]
            assert np.array_equal(single.get_array(), affinity[channel])
            assert (single.norm.vmin, single.norm.vmax) == (0, 1)
        assert f"{{{pair[0]}{pair[1]}}}" in figure.get_suptitle()
        said = figure.get_label()
        assert f"levels {pair[0]} and {pair[1]}" in said
        assert f"{sum(affinity).min() / 6:.2f} to {sum(affinity).max() / 6:.2f}" in said


def test_the_channels_that_vary_most_come_first():
    affinity = np.zeros((5, 2, 2))
    for channel, size in enumerate((0.1, 0.5, 0.0, 0.9, 0.3)):
        affinity[channel, 0, 0] = size
    affinity[2] = 0.7  # high, but the same everywhere
    assert most_varied(affinity) == [3, 1, 4, 0]


def test_a_dot_a_phrase_in_the_target_and_elsewhere():
    inside, outside = {"a": [0.1, 0.3], "b": [0.5, 0.7]}, {"a": [0.2, 0.2], "b": [0.4, 0.9]}
    (ax,) = draw_inside_outside(inside, outside).axes
    dots = [line.get_ydata().tolist() for line in ax.lines if len(line.get_ydata()) == 2]
    assert dots == [[0.1, 0.3], [0.2, 0.2], [0.5, 0.7], [0.4, 0.9]]
    means = [line.get_ydata().item() for line in ax.lines if len(line.get_ydata()) == 1]
    assert means == pytest.approx([0.2, 0.2, 0.6, 0.65])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("affinity", "mean gate")


def test_a_channel_is_drawn_under_each_phrase_with_the_target_outlined():
    target = np.zeros((8, 8), bool)
    target[:4, :4] = True
    gate = np.array([[0.9, 0.1], [0.1, 0.1]])
    scene = np.zeros((8, 8, 3), np.uint8), target, {"this": gate, "that": 1 - gate}
    figure = draw_channel([scene, scene], "channel 5")
    shown = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in shown] == ["“this”", "“this”", "“that”", "“that”"]
    assert np.array_equal(shown[0].images[0].get_array(), gate)
    assert np.array_equal(shown[2].images[0].get_array(), 1 - gate)
    assert figure.get_suptitle() == "channel 5"
    assert "“this” 0.90 in, 0.10 out; “that” 0.10 in, 0.90 out" in figure.get_label()


def test_figure_3_has_every_step_from_the_words_to_the_context():
    figure = draw_figure_3()
    (ax,) = figure.axes
    texts = " ".join(text.get_text() for text in ax.texts)
    for step in ("average", "tile", "join", "convolution", "σ", "Λ_{24}", "∘", "Conv3D", "G"):
        assert step in texts, step
    assert "averaged" in figure.get_label() and "sigmoid" in figure.get_label()


def test_no_text_of_figure_3_stands_on_another():
    figure = draw_figure_3()
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in ax.texts if t.get_text()]
    for n, (text, box) in enumerate(boxes):
        assert not [other for other, beside in boxes[:n] if box.overlaps(beside)], text
