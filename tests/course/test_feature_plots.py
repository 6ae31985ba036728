"""Pictures of lesson 02, and the measurement of what a grid can hold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shnet_course.pictures.architecture import ARROWS, BOXES, draw_architecture
from shnet_course.pictures.lesson_02 import (
    draw_alike,
    draw_levels,
    draw_on_grids,
    draw_similar,
    draw_survival,
    on_grid,
    principal_colours,
    shrink_times,
)


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


def test_every_picture_has_a_row_and_its_levels_are_named_with_their_shapes(levels) -> None:
    tall = np.zeros((60, 30, 3), np.uint8)
    figure = draw_levels({"one": (PHOTO, levels), "two": (tall, levels[::-1])})
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:4] == [
        "one, 32 x 32",
        "level 2: 6 x 8 x 8",
        "level 3: 7 x 4 x 4",
        "level 4: 8 x 2 x 2",
    ]
    assert titles[4:6] == ["two, 30 x 60", "level 2: 8 x 2 x 2"]
    assert list(figure.axes[7].images[0].get_extent()) == [0, 30, 60, 0]  # shaped as its picture
    assert "one, levels 8, 4, 2 wide; two, levels 2, 4, 8 wide" in figure.get_label()


def test_like_cells_are_orange_where_they_are_in_the_photo() -> None:
    alike = torch.zeros(4, 8)
    alike[1, 2], alike[3, 6], alike[0, 0] = 1.0, 0.8, -0.5
    photo = np.zeros((40, 160, 3), np.uint8)
    figure = draw_similar(photo, alike, row=1, column=2)
    left, right = figure.axes
    opacity = np.asarray(right.images[1].get_array())[..., 3]
    assert opacity[1, 2] == pytest.approx(0.9) and opacity[3, 6] == pytest.approx(0.72)
    assert np.count_nonzero(opacity) == 2
    assert list(right.images[1].get_extent()) == [0, 160, 40, 0]
    for ax in (left, right):
        (cell,) = ax.patches
        assert (cell.get_xy(), cell.get_width(), cell.get_height()) == ((40, 10), 20, 10)
    assert "is row 3 and column 6, at 0.80" in figure.get_label()


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
    small = shrink_times(mask, times)
    assert small.shape == mask.shape and small.dtype == torch.bool
    assert small.sum() == mask.sum() / times**2
    rows, columns = small[0].nonzero().T
    assert (rows.max() - rows.min() + 1) * times == 32
    assert (columns.max() - columns.min() + 1) * times == 16


def test_grids_are_drawn_as_they_are_measured() -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[3:9, 4:13] = True
    figure = draw_on_grids(mask, (8, 4))
    axes = figure.axes
    cells = int(on_grid(mask[None], 8).sum())
    assert f"fills by half: {cells} at 8 x 8" in figure.get_label()
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
    figure = draw_survival({"big": [1.0, 0.9], "small": [0.5, 0.0]}, (18, 8))
    (ax,) = figure.axes
    assert "grids of 18, 8: things of big 100%, 90%; things of small 50%, 0%" in figure.get_label()
    assert [line.get_ydata().tolist() for line in ax.lines] == [[100, 90], [50, 0]]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["18 x 18", "8 x 8"]


# ---------------------------------------------------------------- words


def test_how_alike_phrases_are_is_written_into_the_tables() -> None:
    last, mean = np.array([[1.0, 0.96], [0.96, 1.0]]), np.array([[1.0, -0.3], [-0.04, 1.0]])
    figure = draw_alike(["left cup", "cup"], {"last": last, "mean": mean})
    one, other = figure.axes
    assert [text.get_text() for text in one.texts] == ["1.0", "1.0", "1.0", "1.0"]
    assert [text.get_text() for text in other.texts] == ["1.0", "-0.3", "0.0", "1.0"]
    assert np.array_equal(other.images[0].get_array(), mean)
    assert [label.get_text() for label in one.get_yticklabels()] == ["left cup  1", "cup  2"]
    assert "of “left cup” with the rest: last: 1.0; mean: -0.3" in figure.get_label()
