"""The course's pictures: what is drawn is where it should be, in the colour that it should have."""

import base64
import io
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from shnet_course import pictures
from shnet_course.pictures.base import (
    PREDICTED,
    TARGET,
    draw_curves,
    draw_expressions,
    draw_mask,
    draw_predictions,
    grid_of,
    live_curves,
    overlay,
    photo_of,
    show,
)
from shnet_lib.data import Expression
from shnet_lib.training.metrics import overall_iou

HEIGHT, WIDTH = 12, 20
ROWS, COLUMNS = (3, 6), (5, 14)  # of the rectangle referred to, first and last
HISTORY = [
    {"step": 10, "loss": 0.5, "iou": 0.1, "val_overall_iou": 0.2},
    {"step": 20, "loss": 0.25, "iou": 0.4, "val_overall_iou": 0.3},
]


def rectangle() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[ROWS[0] : ROWS[1] + 1, COLUMNS[0] : COLUMNS[1] + 1] = True
    return mask


@pytest.fixture
def expression(tmp_path: Path) -> Expression:
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    np.save(tmp_path / "mask.npy", rectangle())
    return Expression(
        image_path=tmp_path / "photo.png",
        image_id=1,
        height=HEIGHT,
        width=WIDTH,
        ref_id=1,
        sent_id=1,
        text="left cup",
        category="cup",
        family=None,
        read_mask=partial(np.load, tmp_path / "mask.npy"),
    )


def pixels(figure: Figure) -> np.ndarray:
    """The figure as it is seen, (rows, columns, 3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def has(seen: np.ndarray, colour: str) -> bool:
    """Whether a pixel is of that colour, but for rounding."""
    return bool((np.abs(seen - 255 * np.array(to_rgb(colour))) < 2).all(-1).any())


def outlines(ax) -> list[tuple[tuple, np.ndarray]]:
    """The colour of each outline in the axes, and its corners as (x, y)."""
    return [
        (tuple(collection.get_edgecolor()[0]), collection.get_paths()[0].vertices)
        for collection in ax.collections
    ]


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("colour", [TARGET, PREDICTED, "white"])
def test_only_the_pixels_of_the_mask_are_tinted(colour: str, opacity: float) -> None:
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    mask = random.random((5, 7)) < 0.5
    kept = image.copy()
    found = overlay(image, mask, colour, opacity)
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert np.array_equal(image, kept)  # the photo itself is left alone
    for row in range(5):
        for column in range(7):
            for channel, tint in enumerate(to_rgb(colour)):
                old = int(image[row, column, channel])
                new = old * (1 - opacity) + 255 * tint * opacity if mask[row, column] else old
                assert abs(int(found[row, column, channel]) - new) <= 0.5 + 1e-9


def test_the_photo_is_as_stored(expression: Expression) -> None:
    photo = photo_of(expression)
    assert photo.dtype == np.uint8 and photo.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(photo, np.asarray(Image.open(expression.image_path)))
    Image.fromarray(photo).convert("L").save(expression.image_path)
    assert photo_of(expression).shape == (HEIGHT, WIDTH, 3)


def test_the_outline_runs_around_the_target(expression: Expression) -> None:
    figure, (ax,) = grid_of(1, 1)
    draw_mask(ax, photo_of(expression), "a title", target=expression.mask())
    found = outlines(ax)
    assert [colour for colour, _ in found] == [to_rgba("white"), to_rgba(TARGET)]
    for _, corners in found:  # half a pixel outside the middles of the outermost pixels
        x, y = corners.T
        assert (x.min(), x.max()) == (COLUMNS[0] - 0.5, COLUMNS[1] + 0.5)
        assert (y.min(), y.max()) == (ROWS[0] - 0.5, ROWS[1] + 0.5)
    assert np.array_equal(ax.images[0].get_array(), photo_of(expression))  # and nothing is tinted
    assert ax.get_title() == "a title"
    assert has(pixels(figure), TARGET)


def test_what_is_predicted_keeps_its_colours_and_the_rest_fades(expression: Expression) -> None:
    photo = photo_of(expression)
    predicted = np.roll(rectangle(), 2, axis=1)
    figure, (ax,) = grid_of(1, 1)
    draw_mask(ax, photo, "", predicted=predicted)
    shown = np.asarray(ax.images[0].get_array())
    assert np.array_equal(shown[predicted], photo[predicted])
    assert (shown[~predicted] >= photo[~predicted]).all() and shown[~predicted].min() > 150
    assert [colour for colour, _ in outlines(ax)] == [to_rgba("white"), to_rgba(PREDICTED)]
    assert has(pixels(figure), PREDICTED)


@pytest.mark.parametrize("value", [False, True])
def test_a_target_without_an_edge_is_drawn_without_a_complaint(value: bool, recwarn) -> None:
    figure, (ax,) = grid_of(1, 1)
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    draw_mask(ax, image, "", target=np.full((HEIGHT, WIDTH), value))
    assert not has(pixels(figure), TARGET)
    assert not recwarn.list


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize("count, columns, rows", [(1, 4, 1), (4, 4, 1), (5, 4, 2), (3, 1, 3)])
def test_a_grid_has_room_and_hides_what_is_left_over(count: int, columns: int, rows: int) -> None:
    figure, axes = grid_of(count, columns)
    assert len(axes) == count and axes == figure.axes[:count]
    assert len(figure.axes) == rows * columns
    assert [ax.axison for ax in figure.axes] == [True] * count + [False] * (rows * columns - count)


def test_each_expression_has_its_text_and_its_outline(expression: Expression) -> None:
    figure = draw_expressions([expression] * 3, columns=2)
    assert isinstance(figure, Figure)
    shown = figure.axes[:3]
    assert [ax.get_title() for ax in shown] == ["“left cup”"] * 3
    assert all(len(outlines(ax)) == 2 for ax in shown)
    assert figure.get_label().endswith("outlined: “left cup”, “left cup”, “left cup”.")


def test_a_prediction_has_its_iou_its_mask_and_both_outlines(expression: Expression) -> None:
    shifted = np.roll(rectangle(), 2, axis=1)  # 10 columns wide: 8 in common, 12 together
    nothing = np.zeros_like(shifted)
    figure = draw_predictions([expression] * 3, [shifted, nothing, rectangle()], columns=3)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [f"“left cup”\nIoU {iou}" for iou in ("0.67", "0.00", "1.00")]
    assert "“left cup” IoU 0.67, “left cup” IoU 0.00" in figure.get_label()
    photo = photo_of(expression)
    for ax, mask in zip(figure.axes, (shifted, nothing, rectangle()), strict=True):
        assert len(outlines(ax)) == (4 if mask.any() else 2)  # each with a white edge
        faded = (ax.images[0].get_array() != photo).any(-1)
        assert np.array_equal(faded, ~mask)


def test_the_curves_are_the_history() -> None:
    figure = draw_curves(HISTORY)
    loss, iou = figure.axes
    curves = [line.get_xydata().tolist() for ax in (loss, iou) for line in ax.lines]
    assert curves == [
        [[10, 0.5], [20, 0.25]],
        [[10, 0.1], [20, 0.4]],
        [[10, 0.2], [20, 0.3]],
    ]
    assert [text.get_text() for text in iou.get_legend().get_texts()] == [
        "training batches",
        "validation",
    ]
    assert len({line.get_color() for line in iou.lines}) == 2
    assert len({line.get_marker() for line in iou.lines}) == 2  # told apart without colours too
    assert iou.get_ylim() == (0, 1) and loss.get_ylim()[0] == 0


def test_two_empty_masks_agree_as_they_do_in_the_metrics(expression: Expression) -> None:
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    empty = replace(expression, read_mask=lambda: nothing)
    figure = draw_predictions([empty, expression], [nothing, nothing])
    scores = [ax.get_title().split()[-1] for ax in figure.axes[:2]]
    none, some = torch.tensor([0]), torch.tensor([int(rectangle().sum())])
    assert scores == [f"{overall_iou(none, union):.2f}" for union in (none, some)]


# ---------------------------------------------------------------- in a script


@pytest.mark.fault
def test_a_script_prints_the_text_of_each_picture(capsys) -> None:
    """`fit(on_evaluation=live_curves())` trains on, evaluation after evaluation."""
    redraw = live_curves()
    for length in (1, 2):
        redraw(HISTORY[:length])
    show(draw_curves(HISTORY), "two curves")
    first, second, third = capsys.readouterr().out.splitlines()
    assert "step 10: loss 0.500" in first and "step 20: loss 0.250" in second
    assert third == "two curves"


# ---------------------------------------------------------------- in a notebook

CELLS = [
    """
from shnet_course.pictures.base import draw_curves, live_curves, show
show(draw_curves([{"step": 1, "loss": 1.0, "iou": 0.0, "val_overall_iou": 0.0}]), "two curves")
""",
    f"""
redraw = live_curves()
for length in range(1, 3):
    redraw({HISTORY!r}[:length])
""",
    "live_curves()([dict(step=7, loss=1.0, iou=0.0, val_overall_iou=0.0)])",
    """
figure = draw_curves([{"step": 1, "loss": 1.0, "iou": 0.0, "val_overall_iou": 0.0}])
figure.set_label("its own text")
show(figure)
""",
]


def test_every_picture_takes_its_look_from_the_one_sheet():
    """A setting of the sheet that a picture repeats would stay behind when the sheet changes."""
    figure = Figure()
    ax = figure.subplots()
    assert figure.dpi == 110 and figure.get_layout_engine() is not None
    assert not ax.spines["top"].get_visible()
    course = Path(pictures.__file__).parents[1]
    for file in sorted(course.rglob("*.py")):
        repeated = re.findall(r"layout='|layout=\"|\bdpi=|frameon=|spines\[\[", file.read_text())
        assert not repeated, file


def test_a_picture_without_a_text_is_not_shown():
    with pytest.raises(ValueError, match="no text.*set_label"):
        show(Figure())


def test_a_notebook_shows_a_picture_with_its_text_and_redraws_it_in_place(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.outputs for cell in notebook.cells]
    assert [len(outputs) for outputs in shown] == [1, 1, 1, 1]  # two redrawings, one display
    texts = [outputs[0].data["text/plain"] for outputs in shown]
    assert texts[0] == "two curves"
    assert "step 20: loss 0.250, validation overall IoU 0.300" in texts[1]
    assert "step 7" in texts[2]  # a display of its own
    assert texts[3] == "its own text"
    for outputs in shown:
        assert outputs[0].output_type == "display_data"
        picture = Image.open(io.BytesIO(base64.b64decode(outputs[0].data["image/png"])))
        assert picture.format == "PNG" and picture.width > 300
