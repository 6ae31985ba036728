"""Lesson 03's pictures show the numbers they are given, where these belong."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from shnet_course.pictures.lesson_03 import (
    BLOCK_COLOURS,
    draw_attention_blocks,
    draw_attention_of,
    draw_memory,
    draw_positions,
    draw_query_key_value,
    draw_sequence,
    draw_token_attention,
    draw_word_maps,
    word_share,
)

GRID, WORDS = 3, ["red", "square"]
PIXELS, COUNT = 9, 11


def distributions(seed: int = 0, *shape: int) -> np.ndarray:
    """Rows that sum to 1, all weights different."""
    return np.random.default_rng(seed).dirichlet(np.ones(COUNT), size=(*shape, COUNT))


def images(ax) -> list[np.ndarray]:
    return [np.asarray(child.get_array()) for child in ax.images]


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def photo(height: int = 12, width: int = 18) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_row_holds_every_pixel_once_and_then_the_words():
    picture = photo()
    figure = draw_sequence(picture, GRID, WORDS)
    row = next(ax for ax in figure.axes if len(ax.images) == PIXELS)
    pieces = images(row)
    rebuilt = np.vstack([np.hstack(pieces[y * GRID : (y + 1) * GRID]) for y in range(GRID)])
    assert np.array_equal(rebuilt, picture)
    lefts = [image.get_extent()[0] for image in row.images]
    assert lefts == sorted(lefts)
    assert [text for text in texts(row) if not text.isdigit()] == WORDS
    assert [int(text) for text in texts(row) if text.isdigit()] == list(range(COUNT))


def test_each_frame_stands_around_its_block():
    weights = distributions()
    names = [f"token {n}" for n in range(COUNT)]
    (ax,) = draw_attention_blocks(weights, PIXELS, names).axes
    assert texts(ax) == [f"{value:.2f}" for value in weights.flatten()]
    expected = {  # the cells, first and last row and column, that a frame encloses
        "pixel-pixel": (0, 8, 0, 8),
        "pixel-word": (0, 8, 9, 10),
        "word-pixel": (9, 10, 0, 8),
        "word-word": (9, 10, 9, 10),
    }
    found = {}
    for frame in ax.patches:
        box = frame.get_bbox()
        rows = [n for n in range(COUNT) if box.y0 < n < box.y1]
        columns = [n for n in range(COUNT) if box.x0 < n < box.x1]
        found[frame.get_label()] = (rows[0], rows[-1], columns[0], columns[-1])
        assert frame.get_edgecolor() == to_rgba(BLOCK_COLOURS[frame.get_label()])
    assert found == expected
    assert [tick.get_text() for tick in ax.get_yticklabels()] == names


def test_queries_keys_and_values_stand_beside_the_attention():
    parts = {"query": np.arange(6.0).reshape(3, 2), "value": -np.ones((3, 2))}
    weights = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
    figure = draw_query_key_value(parts, weights, ["a", "b", "c"], ["red", "left"])
    first, second, last = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["query", "value", "attention"]
    assert np.array_equal(images(first)[0], parts["query"])
    assert texts(second) == ["-1.0"] * 6
    assert texts(last) == [f"{value:.2f}" for value in weights.flatten()]
    assert "a most to a, 0.70; b most to c, 0.80; c most to b, 0.40" in figure.get_label()


def test_each_words_map_lies_on_the_grid_and_all_share_one_scale():
    maps = {"red": np.eye(3) / 10, "square": np.full((3, 3), 0.05)}
    target = np.zeros((12, 18), bool)
    target[:4] = True
    figure = draw_word_maps(photo(), target, maps, "a title")
    _, *axes = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in axes] == ["“red”", "“square”"]
    for ax, values in zip(axes, maps.values(), strict=True):
        assert np.array_equal(images(ax)[0], values)
        assert ax.images[0].get_clim() == (0, 0.1)
    assert "red 10.0% at (0, 0); square 5.0% at (0, 0)" in figure.get_label()


@pytest.mark.parametrize("token", [0, 5, 9, 10])
def test_a_tokens_row_is_shown_over_the_photo_and_as_bars(token):
    row = distributions()[token]
    figure = draw_token_attention(photo(), row, GRID, WORDS, token)
    left, middle, right, *_ = figure.axes
    assert np.array_equal(images(middle)[1], row[:PIXELS].reshape(GRID, GRID))
    assert np.allclose([bar.get_width() for bar in right.patches], 100 * row[PIXELS:])
    assert middle.get_title() == f"pixels: {row[:PIXELS].sum():.1%} together"
    figure.draw_without_rendering()
    assert np.allclose(left.get_position().size, middle.get_position().size, atol=0.01)
    if token < PIXELS:
        y, x = divmod(token, GRID)
        (frame,) = left.patches
        box = frame.get_bbox()
        assert (box.x0, box.y0) == (x * 6 - 0.5, y * 4 - 0.5)  # a cell is 6 wide and 4 high
        assert left.get_title() == f"pixel ({y}, {x}) asks"
    else:
        assert not left.patches
        assert left.get_title() == f"word “{WORDS[token - PIXELS]}” asks"


def test_level_layer_and_token_choose_the_row_and_heads_are_averaged():
    attention = [
        [torch.tensor(distributions(10 * level + layer, 4)) for layer in range(2)]
        for level in range(3)
    ]
    for level, layer, token in ((2, 1, 0), (4, 2, 10), (3, 1, 7)):
        row = np.mean([head[token] for head in attention[level - 2][layer - 1].numpy()], axis=0)
        given = (photo(), attention, WORDS, token, level, layer)
        figure = draw_attention_of(*given)
        _, middle, right, *_ = figure.axes
        assert np.allclose(images(middle)[1].flatten(), row[:PIXELS])
        assert np.allclose([bar.get_width() for bar in right.patches], 100 * row[PIXELS:])
        said = figure.get_label()
        assert f"level {level}, layer {layer}" in said
        assert f"most to pixel {divmod(int(row[:PIXELS].argmax()), GRID)}" in said
        assert f"red {row[9]:.0%}, square {row[10]:.0%}" in said
        assert ("the word square" if token == 10 else f"the pixel {divmod(token, GRID)}") in said


def test_positions_are_laid_out_row_by_row():
    places = np.random.default_rng(2).normal(size=(PIXELS, 16))
    word_places = np.random.default_rng(3).normal(size=(4, 16))
    figure = draw_positions(places, GRID, word_places, pixel=(2, 1))
    shown = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    for channel in (0, 2, 8, 10):
        (ax,) = [ax for title, ax in shown.items() if title.startswith(f"channel {channel}:")]
        assert np.array_equal(images(ax)[0].flatten(), places[:, channel])
    alike = images(shown["how alike to pixel (2, 1)"])[0]
    for n, place in enumerate(places):
        expected = sum(place * places[7]) / sum(places[7] ** 2)
        assert alike[divmod(n, GRID)] == pytest.approx(expected)
    assert any(np.array_equal(images(ax)[0], word_places[:, ::2]) for ax in shown.values())


def test_the_words_share():
    for grid, words in ((1, 1), (8, 4), (18, 25)):
        alike = np.zeros(grid * grid + words)
        uniform = np.exp(alike) / np.exp(alike).sum()
        assert word_share(grid, words) == pytest.approx(uniform[grid * grid :].sum())


def test_memory_is_drawn_as_measured():
    measured, computed = {"kept": [1.0, 3.0], "not kept": [1.0, 2.0]}, {"alone": [0.5, 2.5]}
    (ax,) = draw_memory([8, 18], measured, computed).axes
    found = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert found == {
        "measured: kept": [1.0, 3.0],
        "measured: not kept": [1.0, 2.0],
        "computed: alone": [0.5, 2.5],
    }
    assert ax.get_ylim()[0] == 0
