"""Pictures of lesson 09: what attends to what, how sure that is, and which answers fail how."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from shnet_course.measure.attention import Interval
from shnet_course.measure.failures import Answer
from shnet_course.pictures.base import (
    AMOUNT,
    PALETTE,
    SIGNED,
    TARGET,
    draw_mask,
    grid_of,
    iou_of,
    photo_of,
)
from shnet_lib.data import Expression

LEVELS = ("level 2", "level 3", "level 4")


def draw_lift_by_hand(attention: np.ndarray, cover: np.ndarray) -> Figure:
    """A tiny attention map with its numbers, and a thing that covers some of its cells."""
    figure = Figure(figsize=(6, 2.8), layout="constrained", dpi=100)
    for ax, plane, title in zip(
        figure.subplots(1, 2),
        (attention, cover),
        ("what a word takes from each cell", "how much of it the thing covers"),
        strict=True,
    ):
        ax.imshow(plane, cmap=AMOUNT, vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(plane):
            colour = "white" if value > 0.6 else "black"
            ax.text(column, row, f"{value:g}", ha="center", va="center", fontsize=13, color=colour)
        ax.set_title(title, fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def draw_words_over_pixels(
    photo: np.ndarray, words: Sequence[str], maps: np.ndarray, mask: np.ndarray | None = None
) -> Figure:
    """The photo, and over it what each word looks at in each layer, as Figure 7 shows of one.

    `photo` (height, width, 3) uint8, `maps` (layers, T, H, W), each with the sum 1; a layer has its
    own scale. `mask` (height, width) is outlined in the photo.
    """
    layers, columns = len(maps), len(words) + 1
    side = min(10 / (columns + 1), 2.2)
    figure = Figure(
        figsize=(side * (columns + 1), side * layers + 0.4), layout="constrained", dpi=100
    )
    axes = figure.subplots(layers, columns, squeeze=False)
    for layer, row in enumerate(axes):
        most = float(maps[layer].max())
        for ax, word, plane in zip(row[1:], words, maps[layer], strict=True):
            shown = _over(ax, photo, plane, most)
            ax.set_title("" if layer else f"“{word}”", fontsize=11)
        bar = figure.colorbar(shown, ax=row[1:], shrink=0.8, ticks=[0, most], format="{x:.0%}")
        bar.ax.tick_params(labelsize=9)
        ax = row[0]
        if layer == 0:
            draw_mask(ax, photo, "the answer", predicted=mask)
        ax.set_axis_off()
        ax.text(
            -0.06, 0.5, f"layer {layer + 1}", rotation=90, fontsize=11, transform=ax.transAxes,
            ha="right", va="center",
        )  # fmt: skip
    return figure


def _over(ax: Axes, photo: np.ndarray, plane: np.ndarray, most: float):
    """A grid of weights (H, W) in blue over a pale grey photo."""
    height, width = photo.shape[:2]
    ax.imshow(photo.mean(-1), cmap="gray", vmin=-510, vmax=255)
    shown = ax.imshow(
        plane,
        cmap=AMOUNT,
        vmin=0,
        vmax=most,
        alpha=0.85 * plane / most,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    return shown


def draw_word_word(words: Sequence[str], block: np.ndarray) -> Figure:
    """What each word (a row) takes from each word (a column), in per cent; `block` is (T, T)."""
    count = len(words)
    figure = Figure(figsize=(2.2 + 0.75 * count, 1.2 + 0.55 * count), layout="constrained", dpi=100)
    ax = figure.subplots()
    ax.imshow(block, cmap=AMOUNT, vmin=0, aspect="auto")
    digits = 0 if block.max() >= 0.1 else 1 if block.max() >= 0.01 else 3
    for (row, column), value in np.ndenumerate(block):
        colour = "white" if value > 0.6 * block.max() else "black"
        text = f"{100 * value:.{digits}f}"
        ax.text(column, row, text, ha="center", va="center", fontsize=10, color=colour)
    ax.set_xticks(range(count), words, fontsize=10)
    ax.set_yticks(range(count), words, fontsize=10)
    ax.set_xlabel("is asked", fontsize=10)
    ax.set_ylabel("asks", fontsize=10)
    ax.set_title("word-word attention, % of all that the row takes", fontsize=10)
    return figure


def draw_intervals(rows: Mapping[str, Interval], chance: float, label: str) -> Figure:
    """A point and its 95 % interval a row, against the value that means nothing."""
    figure = Figure(figsize=(8, 0.9 + 0.36 * len(rows)), layout="constrained", dpi=100)
    ax = figure.subplots()
    for y, found in enumerate(rows.values()):
        clear = found.low > chance or found.high < chance
        ax.plot([found.low, found.high], [y, y], color=TARGET, linewidth=2.5)
        ax.plot(found.mean, y, "o", color=TARGET, fillstyle="full" if clear else "none")
    ax.axvline(chance, color="black", linewidth=1, linestyle="--")
    ax.set_yticks(range(len(rows)), rows, fontsize=10)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(label, fontsize=10)
    ax.tick_params(labelsize=9, axis="x")
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_layers(tables: Mapping[str, np.ndarray], label: str) -> Figure:
    """Means by level (a row) and layer (a column), blue above 0 and orange below, one scale."""
    most = max(float(np.abs(table).max()) for table in tables.values())
    norm, digits = TwoSlopeNorm(0, vmin=-most, vmax=most), 1 if most >= 10 else 2
    figure = Figure(figsize=(min(0.9 + 2.7 * len(tables), 10), 2.6), layout="constrained", dpi=100)
    axes = figure.subplots(1, len(tables), squeeze=False)[0]
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        shown = ax.imshow(table, cmap=SIGNED, norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            colour = "white" if value > 0.7 * most else "black"
            text = f"{value:.{digits}f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=10, color=colour)
        ax.set_xticks(range(table.shape[1]), range(1, table.shape[1] + 1), fontsize=10)
        ax.set_yticks(range(len(table)), LEVELS if ax is axes[0] else [""] * 3, fontsize=10)
        ax.set_xlabel("layer of SFM", fontsize=10)
        ax.set_title(title, fontsize=10, wrap=True)
    figure.colorbar(shown, ax=axes, label=label).ax.tick_params(labelsize=9)
    return figure


def draw_kinds(table: Mapping[str, Mapping[str, int]]) -> Figure:
    """A bar a family: the share of each kind of answer, and how many expressions there are."""
    figure = Figure(figsize=(9, 0.9 + 0.42 * len(table)), layout="constrained", dpi=100)
    ax = figure.subplots()
    kinds = list(next(iter(table.values())))
    colours = dict(zip(kinds, ("0.85", *PALETTE), strict=False))
    counts = np.array([[row[kind] for kind in kinds] for row in table.values()], dtype=float)
    shares = 100 * counts / counts.sum(1, keepdims=True)
    starts = shares.cumsum(1) - shares
    for place, kind in enumerate(kinds):
        ax.barh(
            range(len(table)), shares[:, place], left=starts[:, place], label=kind,
            color=colours[kind], edgecolor="white",
        )  # fmt: skip
    for row, column in zip(*np.nonzero(shares >= 4), strict=True):
        middle = starts[row, column] + shares[row, column] / 2
        text, colour = f"{shares[row, column]:.0f}", "white" if column == 1 else "black"
        ax.text(middle, row, text, ha="center", va="center", fontsize=9, color=colour)
    names = [f"{family} ({int(total)})" for family, total in zip(table, counts.sum(1), strict=True)]
    ax.set_yticks(range(len(table)), names, fontsize=10)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("% of the expressions", fontsize=10)
    ax.tick_params(labelsize=9, axis="x")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=10, frameon=False)
    return figure


def draw_answers(answers: Sequence[Answer], columns: int = 4) -> Figure:
    """What was marked (orange), what was meant (blue), the phrase and the kind of answer."""
    figure, axes = grid_of(len(answers), columns, cell=10 / columns)
    for ax, answer in zip(axes, answers, strict=True):
        phrase = textwrap.fill(f"“{answer.expression.text}”", width=2 + 100 // columns)
        title = f"{answer.kind}, IoU {answer.iou:.2f}\n{phrase}"
        photo, target = photo_of(answer.expression), answer.expression.mask()
        draw_mask(ax, photo, title, target, answer.mask)
    return figure


def draw_by_network(
    expressions: Sequence[Expression], masks: Mapping[str, Sequence[np.ndarray]]
) -> Figure:
    """A row an expression, a column a network, as in Figure 5: marked (orange), meant (blue)."""
    figure, axes = grid_of(len(expressions) * len(masks), len(masks), cell=2.5)
    for number, ax in enumerate(axes):
        row, column = divmod(number, len(masks))
        expression, (name, found) = expressions[row], list(masks.items())[column]
        target = expression.mask()
        title = f"{name}, IoU {iou_of(found[row], target):.2f}"
        if column == len(masks) // 2:  # once a row, over the picture in the middle
            title = f"“{expression.text}”\n{title}"
        draw_mask(ax, photo_of(expression), title, target, found[row])
    return figure
