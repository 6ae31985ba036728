"""Pictures of lesson 09: what attends to what, what difference it makes, which answers fail how.

Each figure carries the text for those who cannot see it as its label, which `show` reads.
"""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from shnet_course.measure.failures import Answer
from shnet_course.pictures.base import (
    AMOUNT,
    PALETTE,
    SIGNED,
    TARGET,
    draw_mask,
    frame,
    grid_of,
    iou_of,
    photo_of,
)
from shnet_course.pictures.lesson_03 import draw_token_attention
from shnet_lib.data import Expression

Interval = tuple[float, float, float]  # a mean, and where 95 % of the resampled means lie
DOUBLINGS = 3  # colours end at an eighth and at eight times an even look


def draw_look(
    photo: np.ndarray, weights: np.ndarray, grid: int, words: Sequence[str], token: int
) -> Figure:
    """What one token takes from all others, as in lesson 03."""
    figure = draw_token_attention(photo, weights, grid, words, token)
    pixels = grid**2
    row, column = divmod(token, grid)
    who = f"The pixel in row {row}, column {column}"
    who = who if token < pixels else f"The word “{words[token - pixels]}”"
    figure.set_label(
        f"{who} takes {weights[:pixels].sum():.1%} from the pixels, blue over the scene, and the "
        "rest from the words, shown as bars."
    )
    return figure


def draw_words_over_pixels(
    photo: np.ndarray, words: Sequence[str], maps: np.ndarray, mask: np.ndarray
) -> Figure:
    """The answer, and what each word looks at, as in Figure 7, all on one scale.

    `photo` (height, width, 3) uint8, `maps` (T, H, W), each with the sum 1, `mask` (height, width).
    White is an even look, blue more than that, orange less.
    """
    figure, axes = grid_of(len(words) + 1, 3, cell=3.1)
    height, width = photo.shape[:2]
    draw_mask(axes[0], photo, "the answer", predicted=mask)
    for ax, word, plane in zip(axes[1:], words, maps, strict=True):
        ax.imshow(photo.mean(-1), cmap="gray", vmin=-300, vmax=255)
        shown = ax.imshow(
            np.log2(np.maximum(plane * plane.size, 1e-9)),
            cmap=SIGNED,
            vmin=-DOUBLINGS,
            vmax=DOUBLINGS,
            alpha=0.8,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="nearest",
        )
        if mask.any() and not mask.all():
            ax.contour(mask, levels=[0.5], colors="black", linewidths=1.5)
        ax.set_title(f"“{word}”", fontsize=13)
        ax.set_axis_off()
    axes[0].set_title("the answer", fontsize=13)
    bar = figure.colorbar(shown, ax=axes, shrink=0.7, ticks=[-3, -2, -1, 0, 1, 2, 3])
    bar.ax.set_yticklabels(["⅛ or less", "¼", "½", "even", "2 times", "4 times", "8 or more"])
    figure.set_label(
        f"The answer to “{' '.join(words)}”, and where each of its words looks, with the answer's "
        "outline: blue is more than an even look, orange less."
    )
    return figure


def draw_lift_by_hand(attention: np.ndarray, cover: np.ndarray) -> Figure:
    """A tiny attention map with its numbers, and a thing that covers some of its cells."""
    figure = Figure(figsize=(7, 3.4))
    for ax, plane, title in zip(
        figure.subplots(1, 2),
        (attention, cover),
        ("what a word takes from each cell", "how much of each cell the thing covers"),
        strict=True,
    ):
        ax.imshow(plane, cmap=AMOUNT, vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(plane):
            colour = "white" if value > 0.6 else "black"
            ax.text(column, row, f"{value:g}", ha="center", va="center", fontsize=15, color=colour)
        ax.set_title(title)
        frame(ax)
    figure.set_label(
        f"An attention map of {attention.tolist()} beside a thing that covers {cover.tolist()} of "
        "its cells."
    )
    return figure


def draw_intervals(rows: Mapping[str, Interval], chance: float, label: str) -> Figure:
    """A point and its 95 % interval per row, against the value that means nothing."""
    figure = Figure(figsize=(9, 1.1 + 0.45 * len(rows)))
    ax = figure.subplots()
    for y, (mean, low, high) in enumerate(rows.values()):
        clear = low > chance or high < chance
        ax.plot([low, high], [y, y], color=TARGET, linewidth=3)
        ax.plot(mean, y, "o", color=TARGET, markersize=8, fillstyle="full" if clear else "none")
    ax.axvline(chance, color="black", linewidth=1, linestyle="--")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(label)
    ax.grid(axis="x", alpha=0.3)
    listed = "; ".join(f"{n} {m:.2f} ({lo:.2f} to {hi:.2f})" for n, (m, lo, hi) in rows.items())
    figure.set_label(f"{label}, mean and 95 % interval: {listed}.")
    return figure


def draw_blocked_pairs(masks: Mapping[str, np.ndarray], pixels: int) -> Figure:
    """Who may look at whom, (N, N) bool per name: `pixels` pixels, then words; closed is dark."""
    figure = Figure(figsize=(10, 3.1))
    for ax, (name, allowed) in zip(figure.subplots(1, len(masks)), masks.items(), strict=True):
        count = len(allowed)
        ax.imshow(allowed, cmap="gray", vmin=-0.6, vmax=1)
        for line in (ax.axhline, ax.axvline):
            for place in np.arange(0.5, count - 1):
                line(place, color="0.6", linewidth=0.8)
            line(pixels - 0.5, color=PALETTE[5], linewidth=2.5)
        middles = [(pixels - 1) / 2, (pixels + count - 1) / 2]
        ax.set_xticks(middles, ["pixels", "words"])
        ax.set_yticks(middles, ["pixels", "words"], rotation=90, va="center")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(True)
        ax.set_title(name)
    figure.supylabel("who asks")
    figure.supxlabel("who is asked")
    listed = "; ".join(f"{name}: {int((~m).sum())} of {m.size} closed" for name, m in masks.items())
    figure.set_label(f"Tables of who may look at whom. {listed}.")
    return figure


def draw_losses(table: Mapping[str, Mapping[str, Interval]], label: str) -> Figure:
    """A table of means with their 95 % intervals; the more is lost, the darker.

    Bold where the interval does not hold 0.
    """
    columns = list(next(iter(table.values())))
    means = np.array([[row[name][0] for name in columns] for row in table.values()])
    size = (2.4 + 1.35 * len(columns), 1.0 + 0.68 * len(table))
    figure = Figure(figsize=size)
    ax = figure.subplots()
    most = max(float(means.max()), 0.1)
    ax.imshow(means, cmap=AMOUNT, vmin=0, vmax=most, aspect="auto")
    for y, row in enumerate(table.values()):
        for x, name in enumerate(columns):
            mean, low, high = (round(value, 2) + 0.0 for value in row[name])  # no "-0.00"
            colour = "white" if mean > 0.6 * most else "black"
            weight = "bold" if low > 0 or high < 0 else "normal"
            ax.text(x, y - 0.13, f"{mean:.2f}", ha="center", va="center", fontsize=13,
                    color=colour, weight=weight)  # fmt: skip
            ax.text(x, y + 0.27, f"{low:.2f} to {high:.2f}", ha="center", va="center",
                    color=colour)  # fmt: skip
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(table)), table)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_xlabel(label)
    ax.spines[:].set_visible(False)
    listed = "; ".join(
        f"{name}: " + ", ".join(f"{column} {row[column][0]:.2f}" for column in columns)
        for name, row in table.items()
    )
    figure.set_label(f"A table, {label}. {listed}.")
    return figure


def draw_kinds(table: Mapping[str, Mapping[str, int]]) -> Figure:
    """A bar per family: the share of each kind of answer, and how many expressions there are."""
    figure = Figure(figsize=(10, 1.0 + 0.5 * len(table)))
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
        ax.text(middle, row, text, ha="center", va="center", fontsize=11, color=colour)
    names = [f"{family} ({int(total)})" for family, total in zip(table, counts.sum(1), strict=True)]
    ax.set_yticks(range(len(table)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("% of the expressions")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    right = "; ".join(
        f"{family} {row['right'] / sum(row.values()):.0%}" for family, row in table.items()
    )
    figure.set_label(f"A bar per family of expressions, cut by kind of answer. Right: {right}.")
    return figure


def draw_judged(answers: Sequence[Answer], columns: int = 3) -> Figure:
    """What was marked (orange), what was meant (blue), the phrase and the kind of answer."""
    figure, axes = grid_of(len(answers), columns, cell=10 / columns)
    for ax, answer in zip(axes, answers, strict=True):
        phrase = textwrap.fill(f"“{answer.expression.text}”", width=2 + 100 // columns)
        title = f"{phrase}\n{answer.kind}, IoU {answer.iou:.2f}"
        photo, target = photo_of(answer.expression), answer.expression.mask()
        draw_mask(ax, photo, title, target, answer.mask)
    listed = "; ".join(f"“{a.expression.text}”: {a.kind}, IoU {a.iou:.2f}" for a in answers)
    figure.set_label(f"Scenes with what was meant in blue and what was marked in orange. {listed}.")
    return figure


def draw_by_network(
    expressions: Sequence[Expression], masks: Mapping[str, Sequence[np.ndarray]]
) -> Figure:
    """A row per expression, a column per network, as in Figure 5: marked (orange), meant (blue)."""
    figure, axes = grid_of(len(expressions) * len(masks), len(masks), cell=2.7)
    listed = []
    for number, ax in enumerate(axes):
        row, column = divmod(number, len(masks))
        expression, (name, found) = expressions[row], list(masks.items())[column]
        target = expression.mask()
        iou = iou_of(found[row], target)
        draw_mask(ax, photo_of(expression), f"{name}, IoU {iou:.2f}", target, found[row])
        if column == 0:
            phrase = textwrap.fill(f"“{expression.text}”", width=14)
            ax.text(-0.06, 0.5, phrase, fontsize=12, ha="right", va="center",
                    transform=ax.transAxes)  # fmt: skip
        listed.append(f"“{expression.text}” by {name}: IoU {iou:.2f}")
    figure.set_label(f"Phrases answered by {len(masks)} networks. {'; '.join(listed)}.")
    return figure
