"""Lesson 05's pictures show the numbers that they are given, and the network that ran."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from shnet_course.measure.trace import trace_shapes, weightless
from shnet_course.pictures.lesson_05 import (
    ASPP_RATES,
    draw_cells_alike,
    draw_cost,
    draw_gates,
    draw_gradients,
    draw_last_steps,
    draw_planes,
    draw_taps,
    draw_trace,
    draw_words_alike,
    shape_text,
    taps_inside,
)
from shnet_lib.model import ModelConfig
from shnet_lib.model.decoder import ASPP


def test_the_rates_are_the_models():
    assert ASPP_RATES == ASPP.rates


@pytest.mark.parametrize("grid, rate", [(18, 6), (18, 12), (18, 24), (5, 2), (7, 7), (1, 1)])
def test_taps_are_what_a_convolution_of_ones_counts(grid, rate):
    ones = torch.ones(1, 1, grid, grid)
    counted = F.conv2d(ones, torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)[0, 0]
    assert np.array_equal(taps_inside(grid, rate), counted.numpy())


def test_each_rate_has_its_map_and_its_share():
    maps = [ax for ax in draw_taps(18).axes if ax.images]
    for ax, rate, share in zip(maps, ASPP_RATES, ("40%", "69%", "89%"), strict=True):
        assert np.array_equal(ax.images[0].get_array(), taps_inside(18, rate))
        assert ax.get_title() == f"rate {rate}: {share} of the taps\nread padding"
        assert ax.get_xlabel() == "column"
    assert maps[0].get_ylabel() == "row"


def test_planes_share_one_scale():
    planes = [np.full((2, 2), 0.25), np.full((4, 4), 1.0)]
    for ax, plane in zip(draw_planes(planes, ["a", "b"]).axes, planes, strict=True):
        assert np.array_equal(ax.images[0].get_array(), plane)
        assert ax.images[0].get_clim() == (0, 1)


def test_gradients_are_the_curves():
    logits, curves = np.arange(3.0), {"a": np.array([0, 0.5, 1]), "b": np.array([0, 0.5, 0])}
    (ax,) = draw_gradients(logits, curves).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0, 0.5, 1], [0, 0.5, 0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert len({line.get_linestyle() for line in ax.lines}) == 2  # told apart without colours too


def test_shapes_as_text():
    assert shape_text([(5, 25, 512)]) == "5×25×512"
    assert shape_text([(1, 2)] * 3) == "3 of 1×2"
    assert shape_text([(1, 2), (3,)]) == "1×2\n3"


def drawn(**settings) -> tuple[set[str], list[str]]:
    config = ModelConfig(backbone="resnet101", **settings)
    (ax,) = draw_trace(trace_shapes(*weightless(config, images=2, expressions=5, words=6))).axes
    return {patch.get_label() for patch in ax.patches}, [text.get_text() for text in ax.texts]


def test_the_drawing_has_every_part_and_every_shape_of_the_run():
    parts, texts = drawn()
    assert parts == {
        "backbone", "projections.0", "projections.1", "projections.2", "word_encoder", "sfm",
        "fusion", "aspp", "upsample", "mask_logits",
    }  # fmt: skip
    for shape, times in {
        "2×3×320×320": 1, "2×512×40×40": 1, "2×1024×20×20": 1, "2×2048×10×10": 1, "5×6": 1,
        "5×6×512": 1, "3 of 5×6×512": 1, "5×512×18×18": 8, "5×1×72×72": 1, "5×320×320": 1,
    }.items():  # fmt: skip
        assert texts.count(shape) == times, shape
    assert {"SFM", "HCAM", "ASPP"} < {text.replace("Paper", "") for text in texts}


def test_a_network_without_sfm_is_drawn_without_it():
    parts, texts = drawn(sfm="none", fusion="none")
    assert "sfm" not in parts and "SFM" not in texts
    assert texts.count("5×512×18×18") == 5 and "3 of 5×6×512" not in texts


def test_without_a_backbone_there_is_no_picture():
    rows = trace_shapes(*weightless(ModelConfig(backbone="resnet101")))
    with pytest.raises(ValueError, match="trace a batch that holds images"):
        draw_trace([row for row in rows if row.part != "backbone"])


def test_costs_are_the_bars():
    left, right = draw_cost([("a", 1.5, 3.0), ("b", 2.5, 4.0)]).axes
    assert [bar.get_width() for bar in left.patches] == [1.5, 2.5]
    assert [bar.get_width() for bar in right.patches] == [3.0, 4.0]
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b"]


# --- one scene, from phrase to mask ---------------------------------------------------------------


def test_cells_alike_are_drawn_beside_the_scene_with_the_cell_framed():
    photo = np.zeros((32, 64, 3), np.uint8)
    maps = {"V": np.linspace(-1, 1, 16).reshape(4, 4), "G": np.eye(4)}
    figure = draw_cells_alike(photo, maps, (1, 2))
    scene, *axes = figure.axes[:3]
    frames = [ax.patches[-1].get_bbox().bounds for ax in (scene, *axes)]
    assert frames == [(31.5, 7.5, 16, 8), (1.5, 0.5, 1, 1), (1.5, 0.5, 1, 1)]  # x, y, width, height
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        assert ax.get_title() == title and np.array_equal(ax.images[0].get_array(), values)
        assert ax.images[0].get_clim() == (-1, 1)
    assert "cell (1, 2)" in figure.get_label() and "V: 4 cells; G: 4 cells" in figure.get_label()


def test_words_alike_name_the_pair_that_is_least_alike():
    alike = np.array([[1, 0.5, -0.25], [0.5, 1, 0], [-0.25, 0, 1]])
    figure = draw_words_alike(["a", "b", "c"], alike)
    assert [text.get_text() for text in figure.axes[0].texts][:3] == ["1.00", "0.50", "-0.25"]
    assert "Least alike are a and c, -0.25" in figure.get_label()


def test_a_gate_is_shown_by_the_channel_that_varies_most():
    affinity = np.stack([np.full((2, 2), 0.9), np.array([[0.1, 0.8], [0.5, 0.5]])])
    figure = draw_gates({(2, 4): affinity})
    assert np.array_equal(figure.axes[0].images[0].get_array(), affinity[1])
    assert "Λ24 channel 1 from 0.10 to 0.80" in figure.get_label()


def test_the_last_steps_show_logits_and_the_iou_of_the_mask():
    logits = np.array([[-8.0, 2.0], [1.0, -3.0]])
    mask, target = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    mask[:2], target[:1] = True, True
    figure = draw_last_steps(np.zeros((4, 4, 3), np.uint8), logits, mask, target, "top row")
    left, right, _ = figure.axes
    assert np.array_equal(left.images[0].get_array(), logits)
    assert left.images[0].get_clim() == (-8, 8) and right.get_title() == "“top row”: IoU 0.50"
    assert "50.0% of the picture" in figure.get_label()


@pytest.mark.parametrize(
    "figure, words",
    [
        (draw_taps(8), "75% at rate 6"),
        (draw_planes([np.eye(2)], ["a star"]), "a star"),
        (draw_gradients(np.arange(3.0), {"b": np.array([0, 1, 0.5])}), "b, at most 1.00 and 0.50"),
        (
            draw_trace(trace_shapes(*weightless(ModelConfig(backbone="resnet101"), expressions=2))),
            "mask_logits 2×320×320",
        ),
        (draw_cost([("ASPP", 1.5, 3.0)]), "ASPP 1.5 and 3.0"),
    ],
)
def test_a_picture_says_in_words_what_it_shows(figure, words):
    assert words in figure.get_label()
