"""Pictures of lesson 09 show the numbers they are given."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from shnet_course.measure.attention import Interval
from shnet_course.measure.failures import KINDS, Answer
from shnet_course.pictures.base import TARGET
from shnet_course.pictures.lesson_09 import (
    draw_answers,
    draw_by_network,
    draw_intervals,
    draw_kinds,
    draw_layers,
    draw_lift_by_hand,
    draw_word_word,
    draw_words_over_pixels,
)
from shnet_lib.data import Expression

PHOTO = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def smallest_font(figure) -> float:
    figure.draw_without_rendering()
    return min(t.get_fontsize() for t in figure.findobj(lambda a: hasattr(a, "get_fontsize")))


def test_the_lift_by_hand_shows_both_planes():
    attention, cover = np.array([[0.5, 0.1], [0.1, 0.3]]), np.array([[1, 0], [0.5, 0]])
    figure = draw_lift_by_hand(attention, cover)
    assert [texts(ax) for ax in figure.axes] == [
        ["0.5", "0.1", "0.1", "0.3"],
        ["1", "0", "0.5", "0"],
    ]


def test_each_word_has_its_look_and_each_layer_its_scale():
    maps = np.random.default_rng(1).random((2, 3, 4, 4))
    words = ["a", "b", "c"]
    figure = draw_words_over_pixels(PHOTO, words, maps, PHOTO[..., 0] > 128)
    titles = [ax.get_title() for ax in figure.axes[:8]]
    assert titles == ["the answer", "“a”", "“b”", "“c”", "", "", "", ""]
    for layer, row in enumerate((figure.axes[1:4], figure.axes[5:8])):
        for ax, plane in zip(row, maps[layer], strict=True):
            _, look = ax.images
            assert np.array_equal(look.get_array(), plane)
            assert look.get_clim() == (0, maps[layer].max())
            assert ax.get_xlim() == (-0.5, 39.5) and ax.get_ylim() == (29.5, -0.5)
    assert smallest_font(figure) >= 9


def test_word_word_is_in_per_cent_and_asks_by_row():
    figure = draw_word_word(["red", "star"], np.array([[0.01, 0.25], [0.125, 0]]))
    (ax,) = figure.axes
    assert texts(ax) == ["1", "25", "12", "0"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["red", "star"]
    assert ax.get_ylabel() == "asks"


def test_word_word_has_the_same_digits_everywhere_and_enough_of_them():
    (ax,) = draw_word_word(["red", "star"], np.array([[0.0002, 0.0005], [0.00054, 0]])).axes
    assert texts(ax) == ["0.020", "0.050", "0.054", "0.000"]


def test_intervals_that_hold_chance_are_hollow():
    rows = {"sure": Interval(2, 1.5, 2.5, 9, 3), "unsure": Interval(1.2, 0.8, 1.6, 9, 3)}
    (ax,) = draw_intervals(rows, 1, "lift").axes
    bars, points = ax.lines[0:4:2], ax.lines[1:4:2]
    assert [list(bar.get_xdata()) for bar in bars] == [[1.5, 2.5], [0.8, 1.6]]
    assert [point.get_fillstyle() for point in points] == ["full", "none"]
    assert list(ax.lines[4].get_xdata()) == [1, 1]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is on top
    below = {"less": Interval(0.5, 0.2, 0.8, 9, 3)}
    assert draw_intervals(below, 1, "lift").axes[0].lines[1].get_fillstyle() == "full"


def test_layers_share_a_scale_that_is_white_at_nothing():
    tables = {"one": np.array([[0, 1.0]] * 3), "other": np.array([[-2.0, 0.5]] * 3)}
    figure = draw_layers(tables, "lift")
    for ax, table in zip(figure.axes[:2], tables.values(), strict=True):
        image = ax.images[0]
        assert np.array_equal(image.get_array(), table)
        assert image.cmap(image.norm(0.0))[:3] == pytest.approx((1, 1, 1), abs=0.01)
        assert image.cmap(image.norm(2.0))[:3] == pytest.approx(to_rgb(TARGET), abs=0.01)
    assert "0.50" in texts(figure.axes[1])
    assert smallest_font(figure) >= 9


def test_kinds_fill_each_bar():
    table = {
        "region": dict.fromkeys(KINDS, 0) | {"right": 3, "nothing": 1},
        "all": dict.fromkeys(KINDS, 0) | {"right": 5, "nothing": 5},
    }
    (ax,) = draw_kinds(table).axes
    widths = np.array([[bar.get_width() for bar in bars] for bars in ax.containers])  # (kinds, 2)
    assert widths.sum(0) == pytest.approx([100, 100])
    assert widths[KINDS.index("right")] == pytest.approx([75, 50])
    starts = [[bar.get_x() for bar in bars] for bars in ax.containers]
    assert starts[KINDS.index("nothing")] == pytest.approx([75, 50])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["region (4)", "all (10)"]
    assert len({bars[0].get_facecolor() for bars in ax.containers}) == len(KINDS)


def test_answers_say_their_kind(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "scene.png")
    mask = np.zeros((30, 40), bool)
    mask[5:20, 5:20] = True
    expression = Expression(
        tmp_path / "scene.png", 1, 30, 40, 2, 3, "red star", "star", "attribute", lambda: mask
    )
    answer = Answer(expression, mask.T[:30, :30].repeat(2, 1)[:, :40], "nothing", 0.25, 0, 0)
    figure = draw_answers([answer] * 5)
    assert [ax.get_title() for ax in figure.axes[:5]] == ["nothing, IoU 0.25\n“red star”"] * 5
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert np.array_equal(picture[answer.mask], PHOTO[answer.mask])


def test_networks_stand_side_by_side(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "scene.png")
    target = np.zeros((30, 40), bool)
    target[5:15, 5:15] = True
    upper = target.copy()
    upper[10:] = False
    expression = Expression(
        tmp_path / "scene.png", 1, 30, 40, 2, 3, "red star", "star", "attribute", lambda: target
    )
    masks = {"one": [upper, target], "two": [target, upper], "three": [~target, ~target]}
    figure = draw_by_network([expression] * 2, masks)
    titles = [ax.get_title().split("\n") for ax in figure.axes]
    assert [title[-1] for title in titles] == [
        "one, IoU 0.50", "two, IoU 1.00", "three, IoU 0.00",
        "one, IoU 1.00", "two, IoU 0.50", "three, IoU 0.00",
    ]  # fmt: skip
    assert [title[0] == "“red star”" for title in titles] == [False, True, False] * 2
    assert smallest_font(figure) >= 9
