"""Pictures of lesson 02, and the measurement of what a grid can hold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shnet_course.pictures.architecture import ARROWS, BOXES, draw_architecture
from shnet_course.pictures.lesson_02 import (
    draw_channel,
    draw_drift,
    draw_levels,
    draw_on_grids,
    draw_states,
    draw_survival,
    on_grid,
    principal_colours,
    shrink,
)
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.features import WordEncoder, onehot_vectors


@pytest.fixture
def levels() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(6, 8, 8), torch.randn(7, 4, 4), torch.randn(8, 2, 2)]


PHOTO = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


# ---------------------------------------------------------------- the architecture


def test_the_parts_named_are_lit_and_no_others() -> None:
    (ax,) = draw_architecture({"backbone", "words"}).axes
    boxes = {patch.get_label(): patch for patch in ax.patches if patch.get_label() in BOXES}
    assert set(boxes) == set(BOXES)
    lit = {name for name, box in boxes.items() if box.get_linewidth() == 2}
    assert lit == {"backbone", "words"}
    assert {name for arrow in ARROWS for name in arrow} == set(BOXES)


def test_hcam_gets_three_levels_and_the_words_of_each() -> None:
    figure = draw_architecture({"hcam"})
    (ax,) = figure.axes
    assert [patch.get_label() for patch in ax.patches].count("levels") == 3
    carried = {text.get_text() for text in ax.texts}
    assert {"$V_2$", "$V_3$", "$V_4$", "$L$", "3 × $f^l$", "$G$"} < carried
    assert len(ARROWS["sfm", "hcam"]) == 4
    assert (
        "three levels and their words" in figure.get_label() and "Lit: hcam." in figure.get_label()
    )


def test_no_text_of_the_architecture_leaves_its_box() -> None:
    figure = draw_architecture(set(BOXES))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [patch.get_window_extent() for patch in ax.patches if patch.get_label() in BOXES]
    for text in ax.texts[: len(boxes)]:  # the labels come before what the arrows carry
        letters = text.get_window_extent()
        assert any(
            box.x0 <= letters.x0 and letters.x1 <= box.x1 and box.y0 <= letters.y0
            and letters.y1 <= box.y1
            for box in boxes
        ), text.get_text()  # fmt: skip


def test_a_part_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no part sgm; there are photo, "):
        draw_architecture({"sgm", "hcam"})


# ---------------------------------------------------------------- levels


def test_cells_with_like_features_have_like_colours() -> None:
    torch.manual_seed(0)
    kinds = torch.randn(4, 20)
    number = torch.tensor([[0, 1, 1, 0], [2, 3, 3, 2], [0, 1, 2, 3]])
    colours = principal_colours(kinds[number].permute(2, 0, 1))
    assert colours.shape == (3, 4, 3) and colours.min() >= 0 and colours.max() <= 1
    for kind in range(4):
        of_kind = colours[(number == kind).numpy()]
        assert np.allclose(of_kind, of_kind[0])
    assert len({tuple(c.round(3)) for c in colours.reshape(-1, 3)}) == 4


def test_a_map_without_any_difference_has_one_colour() -> None:
    assert len(np.unique(principal_colours(torch.ones(5, 3, 3)).reshape(-1, 3), axis=0)) == 1


def test_levels_are_named_with_their_shapes(levels) -> None:
    figure = draw_levels(PHOTO, levels)
    assert [ax.get_title() for ax in figure.axes] == [
        "photo, 32 x 32", "level 2: 6 x 8 x 8", "level 3: 7 x 4 x 4", "level 4: 8 x 2 x 2",
    ]  # fmt: skip


def test_the_channel_asked_for_is_shown(levels) -> None:
    left, middle, right, _ = draw_channel(PHOTO, levels, level=3, channel=5).axes
    assert np.array_equal(left.images[0].get_array(), PHOTO)
    assert np.array_equal(middle.images[0].get_array(), levels[1][5])
    assert list(right.images[1].get_extent()) == [0, 32, 32, 0]
    with pytest.raises(ValueError):
        draw_channel(PHOTO, levels, level=5, channel=0)
    with pytest.raises(IndexError):
        draw_channel(PHOTO, levels, level=4, channel=8)


# ---------------------------------------------------------------- what a grid can hold


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 12), grid=st.integers(1, 14), seed=st.integers(0, 100))
def test_a_cell_is_filled_where_half_of_its_area_is(size: int, grid: int, seed: int) -> None:
    """Counted on a field in which pixels and cells both consist of whole points."""
    mask = np.random.default_rng(seed).random((size, size)) < 0.6
    fine = mask.repeat(grid, 0).repeat(grid, 1)  # (size * grid, size * grid): a cell is size wide
    expected = np.zeros((grid, grid), bool)
    for row in range(grid):
        for column in range(grid):
            cell = fine[row * size : (row + 1) * size, column * size : (column + 1) * size]
            expected[row, column] = 2 * cell.sum() >= cell.size
    assert np.array_equal(on_grid(torch.from_numpy(mask)[None], grid)[0], expected)


def test_a_thing_is_lost_on_the_grid_whose_cells_are_too_large() -> None:
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[:, 32:42, 64:74] = (
        True  # 10 x 10 pixels; a cell of 8 x 8 has 16 x 16, one of 16 x 16 8 x 8
    )
    assert on_grid(mask, 16).sum() == 1 and on_grid(mask, 8).sum() == 0


@pytest.mark.parametrize("times", [1, 2, 4])
def test_shrinking_keeps_the_shape_and_divides_the_area(times: int) -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 16:48, 8:24] = True
    small = shrink(mask, times)
    assert small.shape == mask.shape and small.dtype == torch.bool
    assert small.sum() == mask.sum() / times**2
    rows, columns = small[0].nonzero().T
    assert (rows.max() - rows.min() + 1) * times == 32
    assert (columns.max() - columns.min() + 1) * times == 16


def test_grids_are_drawn_as_they_are_measured() -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[3:9, 4:13] = True
    axes = draw_on_grids(mask, (8, 4)).axes
    assert [ax.get_title() for ax in axes] == ["mask, 16 x 16", "grid 8 x 8", "grid 4 x 4"]
    for ax, grid in zip(axes[1:], (8, 4), strict=True):
        assert np.array_equal(ax.images[0].get_array(), on_grid(mask[None], grid)[0])
        assert ax.get_xticks().tolist() == [16 / grid * n for n in range(grid + 1)]  # cells' edges


@pytest.mark.parametrize("top, left, height, width", [(20, 30, 4, 9), (0, 0, 6, 2), (60, 1, 4, 3)])
def test_every_grid_shows_the_same_part_of_the_field_and_the_whole_mask(top, left, height, width):
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    windows = {(ax.get_xlim(), ax.get_ylim()) for ax in draw_on_grids(mask, (8, 4)).axes}
    (((x0, x1), (y1, y0)),) = windows
    assert x1 - x0 == y1 - y0 == 3 * max(height, width)
    assert 0 <= x0 <= left and left + width <= x1 <= 64
    assert 0 <= y0 <= top and top + height <= y1 <= 64


def test_the_outline_is_drawn_where_the_mask_ends():
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[3:9, 4:13] = True
    for ax in draw_on_grids(mask, (8,)).axes:
        corners = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
        assert np.allclose(corners.min(0), (4, 3)) and np.allclose(corners.max(0), (13, 9))


def test_survival_is_drawn_in_percent() -> None:
    (ax,) = draw_survival({"big": [1.0, 0.9], "small": [0.5, 0.0]}, (18, 8)).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[100, 90], [50, 0]]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["18 x 18", "8 x 8"]


# ---------------------------------------------------------------- words


@pytest.fixture
def words() -> tuple[WordEncoder, Vocabulary]:
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_texts(["left red star"])
    encoder = WordEncoder(onehot_vectors(len(vocabulary)), channels=8, trainable=False)
    return encoder, vocabulary


def test_states_have_a_row_a_word_and_a_bar_for_its_step(words) -> None:
    encoder, vocabulary = words
    left, right, _ = draw_states(encoder, vocabulary, "Left purple star").axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["left", "purple (unknown)", "star"]
    states = np.asarray(left.images[0].get_array())
    expected = encoder(torch.tensor([vocabulary.encode("left purple star")]))[0].detach().numpy()
    assert np.allclose(states, expected)
    before = np.zeros(8)
    for state, bar in zip(expected, right.patches, strict=True):
        assert bar.get_width() == pytest.approx(np.sqrt(((state - before) ** 2).sum()), rel=1e-5)
        before = state


@pytest.mark.parametrize("phrase", ["", "???"])
def test_a_phrase_without_words_is_drawn_as_one_unknown_word(words, phrase: str) -> None:
    left = draw_states(*words, phrase).axes[0]
    assert [text.get_text() for text in left.get_yticklabels()] == ["(no word)"]


def test_drift_has_a_line_a_level() -> None:
    moved = np.array([[0, 0, 0], [0.1, 0.2, 0.3]])
    figure = draw_drift({"one": moved, "other": 2 * moved})
    assert [ax.get_title() for ax in figure.axes] == ["one", "other"]
    for ax, times in zip(figure.axes, (1, 2), strict=True):
        for line, level in zip(ax.lines, moved.T, strict=True):
            assert np.allclose(line.get_ydata(), 100 * times * level)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["level 2", "level 3", "level 4"]
