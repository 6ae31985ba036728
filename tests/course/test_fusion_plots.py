"""Lesson 04's pictures: the numbers they are given, and diagrams that agree with the modules."""

import numpy as np
import pytest
import torch

from shnet_course.pictures.lesson_04 import (
    DIAGRAMS,
    describe_affinity_of,
    draw_affinity_of,
    draw_fusions,
    draw_inside_outside,
    draw_maps,
    draw_nine_values,
    most_varied,
)
from shnet_lib.model.fusion import FUSIONS
from shnet_lib.model.hcam import OTHERS, convolve_tiled


def titled(figure) -> dict:
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def test_maps_show_their_numbers_in_order():
    maps = {"a": np.array([[1.0, -2.0]]), "b": np.array([[0.5, 4.0]])}
    first, second = draw_maps(maps, ["="]).axes
    assert [text.get_text() for text in first.texts] == ["1.00", "-2.00", "="]
    assert [text.get_text() for text in second.texts] == ["0.50", "4.00", ""]
    assert {ax.images[0].norm.vmax for ax in (first, second)} == {4.0}
    assert {ax.images[0].norm.vmin for ax in (first, second)} == {-4.0}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 7), (3, 3)])
def test_each_cell_has_the_number_of_its_value(height, width):
    torch.manual_seed(0)
    sentence, kernel = torch.randn(1, 5), torch.randn(1, 5, 3, 3)
    nine = convolve_tiled(sentence, kernel, 3, 3)[0, 0].numpy()
    large = convolve_tiled(sentence, kernel, height, width)[0, 0].numpy()
    _, right, *_ = draw_nine_values(nine, large).axes
    numbers = [int(text.get_text()) for text in right.texts]

    def third(place, length):
        return 0 if place == 0 else 2 if place == length - 1 else 1

    expected = [
        1 + 3 * third(y, height) + third(x, width) for y in range(height) for x in range(width)
    ]
    assert numbers == expected


def test_a_value_that_is_none_of_the_nine_is_refused():
    nine = np.arange(9.0).reshape(3, 3)
    with pytest.raises(ValueError, match="none of the nine"):
        draw_nine_values(nine, np.full((4, 4), 8.5))


def test_a_pair_of_levels_chooses_the_affinity():
    random = np.random.default_rng(0)
    pairs = [(i + 2, j + 2) for i, others in OTHERS.items() for j in others]
    affinities = {pair: random.uniform(size=(6, 3, 3)) for pair in pairs}
    photo = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for pair, affinity in affinities.items():
        figure = draw_affinity_of(photo, affinities, pair)
        shown = titled(figure)
        assert np.array_equal(shown["photo"].images[0].get_array(), photo)
        mean = shown["mean of 6 channels"].images[0].get_array()
        assert np.allclose(mean, sum(affinity) / 6)
        for channel in most_varied(affinity):
            single = shown[f"channel {channel}"].images[0]
            assert np.array_equal(single.get_array(), affinity[channel])
            assert (single.norm.vmin, single.norm.vmax) == (0, 1)
        assert f"{{{pair[0]}{pair[1]}}}" in figure.get_suptitle()
        said = describe_affinity_of(photo, affinities, pair)
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


# ---------------------------------------------------------------- diagrams


def test_every_fusion_of_the_tables_has_its_diagram():
    assert set(DIAGRAMS) == set(FUSIONS) - {"none"}
    figure = draw_fusions(list(DIAGRAMS))
    assert [ax.get_title() for ax in figure.axes] == [d.title for d in DIAGRAMS.values()]


@pytest.mark.parametrize("name", DIAGRAMS)
def test_every_level_reaches_the_result_and_no_box_hangs_loose(name):
    diagram = DIAGRAMS[name]
    assert {end for arrow in diagram.arrows for end in arrow} == set(diagram.boxes)
    (ax,) = draw_fusions([name]).axes
    labels = [text.get_text() for text in ax.texts]
    assert labels == [box[0] for box in diagram.boxes.values()] + [diagram.says]
    for level in "234":
        reached, before = {level}, set()
        while reached != before:
            before = set(reached)
            reached |= {end for start, end in diagram.arrows if start in before}
        assert "out" in reached, level


@pytest.mark.parametrize("name", DIAGRAMS)
def test_no_two_boxes_overlap_and_all_stand_in_the_picture(name):
    (ax,) = draw_fusions([name]).axes
    boxes = [
        (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in ax.patches
        if hasattr(patch, "get_x")
    ]
    assert len(boxes) == len(DIAGRAMS[name].boxes)
    for n, (x, y, width, height) in enumerate(boxes):
        assert x >= 0 and x + width <= 100
        for x2, y2, width2, height2 in boxes[:n]:
            apart_x = x + width <= x2 or x2 + width2 <= x
            apart_y = y + height <= y2 or y2 + height2 <= y
            assert apart_x or apart_y
