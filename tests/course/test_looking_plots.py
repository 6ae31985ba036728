"""Pictures of lesson 09 show the numbers they are given."""

import numpy as np
import pytest
from PIL import Image

from shnet_course.measure.failures import ANSWER_KINDS, Answer
from shnet_course.measure.knock_out import block_mask
from shnet_course.pictures.lesson_09 import (
    draw_blocked_pairs,
    draw_by_network,
    draw_intervals,
    draw_judged,
    draw_kinds,
    draw_lift_by_hand,
    draw_look,
    draw_losses,
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


def test_each_word_has_its_look_on_one_scale_that_is_white_where_it_is_even():
    maps = np.random.default_rng(1).random((3, 4, 4)) ** 3
    maps /= maps.sum((1, 2), keepdims=True)
    figure = draw_words_over_pixels(PHOTO, ["a", "b", "c"], maps, PHOTO[..., 0] > 128)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["the answer", "“a”", "“b”", "“c”"]
    for ax, plane in zip(figure.axes[1:4], maps, strict=True):
        _, look = ax.images
        assert np.allclose(look.get_array(), np.log2(16 * plane))
        assert look.get_clim() == (-3, 3) and look.cmap(0.5)[:3] == pytest.approx(
            (1, 1, 1), abs=0.01
        )
        assert ax.get_xlim() == (-0.5, 39.5) and ax.get_ylim() == (29.5, -0.5)
    assert smallest_font(figure) >= 10


def test_intervals_that_hold_chance_are_hollow():
    rows = {"sure": (2, 1.5, 2.5), "unsure": (1.2, 0.8, 1.6), "below": (0.5, 0.2, 0.8)}
    figure = draw_intervals(rows, 1, "lift")
    (ax,) = figure.axes
    bars, points = ax.lines[0:6:2], ax.lines[1:6:2]
    assert [list(bar.get_xdata()) for bar in bars] == [[1.5, 2.5], [0.8, 1.6], [0.2, 0.8]]
    assert [point.get_fillstyle() for point in points] == ["full", "none", "full"]
    assert list(ax.lines[6].get_xdata()) == [1, 1]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is on top
    assert "unsure 1.20 (0.80 to 1.60)" in figure.get_label()


def test_closed_blocks_are_dark():
    allowed = block_mask("word-pixel", 4, 6).numpy()
    figure = draw_blocked_pairs({"word-pixel": allowed, "word-word": allowed}, pixels=4)
    ax = figure.axes[0]
    assert np.array_equal(ax.images[0].get_array(), allowed)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["pixels", "words"]
    assert "word-pixel: 8 of 36 closed" in figure.get_label()
    assert smallest_font(figure) >= 10


def test_losses_tell_mean_and_interval_and_are_bold_where_they_are_sure():
    table = {"one": {"a": (0.5, 0.4, 0.6), "b": (0.01, -0.01, 0.03)}}
    figure = draw_losses(table, "IoU lost")
    (ax,) = figure.axes
    assert texts(ax) == ["0.50", "0.40 to 0.60", "0.01", "-0.01 to 0.03"]
    assert [ax.texts[0].get_weight(), ax.texts[2].get_weight()] == ["bold", "normal"]
    assert "one: a 0.50, b 0.01" in figure.get_label()
    assert smallest_font(figure) >= 10


def test_the_look_is_told_of_pixels_and_of_words():
    weights = np.full(18, 1 / 18)
    told = [draw_look(PHOTO, weights, 4, ["red", "star"], t).get_label() for t in (5, 17)]
    assert told[0].startswith("The pixel in row 1, column 1 takes 88.9%")
    assert told[1].startswith("The word “star” takes")


def test_kinds_fill_each_bar():
    table = {
        "region": dict.fromkeys(ANSWER_KINDS, 0) | {"right": 3, "nothing": 1},
        "all": dict.fromkeys(ANSWER_KINDS, 0) | {"right": 5, "nothing": 5},
    }
    (ax,) = draw_kinds(table).axes
    widths = np.array([[bar.get_width() for bar in bars] for bars in ax.containers])  # (kinds, 2)
    assert widths.sum(0) == pytest.approx([100, 100])
    assert widths[ANSWER_KINDS.index("right")] == pytest.approx([75, 50])
    starts = [[bar.get_x() for bar in bars] for bars in ax.containers]
    assert starts[ANSWER_KINDS.index("nothing")] == pytest.approx([75, 50])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["region (4)", "all (10)"]
    assert len({bars[0].get_facecolor() for bars in ax.containers}) == len(ANSWER_KINDS)


def test_answers_say_their_kind(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "scene.png")
    mask = np.zeros((30, 40), bool)
    mask[5:20, 5:20] = True
    expression = Expression(
        tmp_path / "scene.png", 1, 30, 40, 2, 3, "red star", "star", "attribute", lambda: mask
    )
    answer = Answer(expression, mask.T[:30, :30].repeat(2, 1)[:, :40], "nothing", 0.25, 0, 0)
    figure = draw_judged([answer] * 5)
    assert [ax.get_title() for ax in figure.axes[:5]] == ["“red star”\nnothing, IoU 0.25"] * 5
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
    assert [ax.get_title() for ax in figure.axes] == [
        "one, IoU 0.50", "two, IoU 1.00", "three, IoU 0.00",
        "one, IoU 1.00", "two, IoU 0.50", "three, IoU 0.00",
    ]  # fmt: skip
    assert [texts(ax) for ax in figure.axes] == [["“red star”"], [], []] * 2
    assert "“red star” by two: IoU 1.00" in figure.get_label()
    assert smallest_font(figure) >= 9
