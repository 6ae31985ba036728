"""The course's pictures: one palette, one function an idea, each returning its figure.

The colours are Okabe and Ito's, which people with any colour vision can tell apart.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import DisplayHandle, display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from shnet_lib.data import Expression
from shnet_lib.training.metrics import ious

TARGET = "#0072B2"  # blue: what is right
PREDICTED = "#E69F00"  # orange: what the model says
PALETTE = (TARGET, PREDICTED, "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
AMOUNT = LinearSegmentedColormap.from_list("amount", ["white", TARGET])  # from nothing to most
SIGNED = LinearSegmentedColormap.from_list("signed", [PREDICTED, "white", TARGET])


def show(figure: Figure, alt: str | None = None) -> None:
    """Display a figure with a text for those who cannot see it: `alt`, or the figure's label.

    A script prints the text alone.

    Raises:
        ValueError: neither says anything.
    """
    if not (text := alt or figure.get_label()):
        raise ValueError("this figure has no text: give `alt`, or call figure.set_label(...)")
    if get_ipython() is None:
        print(text)
        return
    shown = _shown(figure, text)
    display(shown["data"], metadata=shown["metadata"], raw=True)


def _shown(figure: Figure, alt: str) -> dict[str, Any]:
    """What `display` shows: the picture, and its text for readers, in print and for the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    data = {"image/png": buffer.getvalue(), "text/plain": alt}
    return {"data": data, "metadata": {"image/png": {"alt": alt}}}


def frame(ax: Axes, columns: Sequence[float] = (), rows: Sequence[float] = ()) -> None:
    """What a map has where a plot has axes: a line on each side, and no numbers.

    `columns` and `rows` are where `ax.grid` draws lines between the cells.
    """
    ax.set_xticks(columns, labels=[])
    ax.set_yticks(rows, labels=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(True)


def photo_of(expression: Expression) -> np.ndarray:
    """The expression's photo, (H, W, 3) uint8, as stored: the masks' pixels are its pixels."""
    return np.asarray(Image.open(expression.image_path).convert("RGB"))


def overlay(image: np.ndarray, mask: np.ndarray, colour: str, opacity: float = 0.55) -> np.ndarray:
    """(H, W, 3) uint8 with the True pixels of (H, W) tinted, as uint8 of the same shape."""
    tint = 255 * np.array(to_rgb(colour))
    weight = opacity * mask[..., None]
    return (image * (1 - weight) + tint * weight).round().astype(np.uint8)


def draw_mask(
    axes: Axes,
    image: np.ndarray,
    title: str,
    target: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
) -> None:
    """A photo with its target outlined in blue; what the model marks keeps its colours.

    The rest fades: a tint could not be told from a thing of the same colour.
    """
    axes.imshow(image if predicted is None else overlay(image, ~predicted, "white", 0.7))
    for mask, colour in ((predicted, PREDICTED), (target, TARGET)):
        if mask is not None and mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors="white", linewidths=3)
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=1.5)
    axes.set_title(title, wrap=True)
    axes.set_axis_off()


def iou_of(mask: np.ndarray, target: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) bool; 1 where both are empty, as in `ious`."""
    counts = [int((mask & target).sum())], [int((mask | target).sum())]
    return ious(*map(torch.tensor, counts)).item()


def cut_into_cells(photo: np.ndarray, grid: int) -> list[np.ndarray]:
    """The part of a photo (H, W, 3) behind each cell of a grid, row by row."""
    height, width = photo.shape[:2]
    rows = np.linspace(0, height, grid + 1).round().astype(int)
    columns = np.linspace(0, width, grid + 1).round().astype(int)
    return [
        photo[rows[y] : rows[y + 1], columns[x] : columns[x + 1]]
        for y in range(grid)
        for x in range(grid)
    ]


def grid_of(count: int, columns: int, cell: float = 2.6) -> tuple[Figure, list[Axes]]:
    """A figure with room for `count` pictures; the axes left over are hidden."""
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * cell, rows * (cell + 0.3)))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def draw_expressions(expressions: Sequence[Expression], columns: int = 4) -> Figure:
    """What is referred to, outlined in each expression's photo."""
    figure, axes = grid_of(len(expressions), columns)
    for ax, expression in zip(axes, expressions, strict=True):
        draw_mask(ax, photo_of(expression), f"“{expression.text}”", target=expression.mask())
    phrases = ", ".join(f"“{expression.text}”" for expression in expressions)
    figure.set_label(f"Pictures, each with what its phrase means outlined: {phrases}.")
    return figure


def draw_predictions(
    expressions: Sequence[Expression], masks: Sequence[np.ndarray], columns: int = 4
) -> Figure:
    """What the model marks (orange outline), what was meant (blue), and the IoU in the title."""
    figure, axes = grid_of(len(expressions), columns)
    told = []
    for ax, expression, mask in zip(axes, expressions, masks, strict=True):
        target = expression.mask()
        iou = f"IoU {iou_of(mask, target):.2f}"
        draw_mask(ax, photo_of(expression), f"“{expression.text}”\n{iou}", target, mask)
        told.append(f"“{expression.text}” {iou}")
    figure.set_label(f"What the model marks, and what was meant: {', '.join(told)}.")
    return figure


def draw_curves(history: Sequence[dict]) -> Figure:
    """The loss of training, and overall IoU on both splits, at each evaluation so far."""
    steps = [row["step"] for row in history]
    figure = Figure(figsize=(9, 3))
    left, right = figure.subplots(1, 2)
    left.plot(steps, [row["loss"] for row in history], "o-", color=PALETTE[0], markersize=3)
    left.set(xlabel="step", ylabel="loss (BCE per pixel)", title="Training loss", ylim=(0, None))
    for name, label, colour, mark in (
        ("iou", "training batches", PALETTE[0], "o-"),
        ("val_overall_iou", "validation", PALETTE[1], "s-"),
    ):
        right.plot(steps, [r[name] for r in history], mark, color=colour, label=label, markersize=3)
    right.set(xlabel="step", ylabel="overall IoU", title="Overall IoU", ylim=(0, 1))
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return figure


def draw_learning_curves(lines: Sequence[Mapping[str, str]], to: str) -> Figure:
    """Validation over the steps: a plot per row, a line per seed, the runs of the row `to` in grey.

    Args:
        lines: of a `_curves.csv` that `shnet ablate` wrote.
    """
    runs: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        points = runs.setdefault(line["row"], {}).setdefault(line["seed"], [])
        points.append((int(line["step"]), float(line["val_overall_iou"])))
    grey = runs.pop(to)
    columns = min(len(runs), 5)
    rows = ceil(len(runs) / columns)
    figure = Figure(figsize=(9.6, 0.7 + (1.9 if columns > 1 else 2.6) * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for place, ((row, seeds), ax) in enumerate(zip(runs.items(), axes, strict=False)):
        for points in grey.values():
            ax.plot(*zip(*points, strict=True), color="0.7", linewidth=1)
        for points in seeds.values():
            ax.plot(*zip(*points, strict=True), color=TARGET, linewidth=1.5)
        ax.set_title(row, fontsize=9)
        ax.grid(alpha=0.3)
        ax.tick_params(labelbottom=place + columns >= len(runs))  # no plot below
    for ax in axes:
        ax.set_axis_off()
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("overall IoU on val", fontsize=10)
    told = "; ".join(f"{row} {_ends(seeds)}" for row, seeds in runs.items())
    figure.set_label(
        f"Overall IoU on val over the steps, a plot per row, {to} in grey. After the last step:"
        f" {to} {_ends(grey)}; {told}."
    )
    return figure


def _ends(seeds: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    return ", ".join(f"{points[-1][1]:.2f}" for points in seeds.values())


def live_picture() -> Callable[[Figure, str], None]:
    """A place in the notebook for one picture: call the result with each new figure and its text.

    The first call displays, the later ones redraw in place, also from a widget's callback. What
    is stored with the notebook is the last picture. A script prints each text instead.
    """
    handle: list[DisplayHandle] = []

    def redraw(figure: Figure, alt: str) -> None:
        if get_ipython() is None:
            print(alt)
            return
        shown = _shown(figure, alt)
        if handle:
            handle[0].update(shown["data"], metadata=shown["metadata"], raw=True)
        else:
            handle.append(
                display(shown["data"], metadata=shown["metadata"], raw=True, display_id=True)
            )

    return redraw


def live_curves() -> Callable[[list[dict]], None]:
    """A picture that redraws itself: give the result to `fit(on_evaluation=...)`."""
    redraw = live_picture()

    def redraw_curves(history: list[dict]) -> None:
        last = history[-1]
        alt = (
            f"Curves of training up to step {last['step']}: loss {last['loss']:.3f}, validation "
            f"overall IoU {last['val_overall_iou']:.3f}."
        )
        redraw(draw_curves(history), alt)

    return redraw_curves
