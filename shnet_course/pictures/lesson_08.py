"""Pictures of lesson 08: differences with their intervals, and what luck makes of a difference.

Each figure carries the text for those who cannot see it as its label, which `show` reads.
"""

from collections.abc import Mapping
from math import sqrt
from statistics import NormalDist

import numpy as np
from matplotlib.figure import Figure

from shnet_course.measure.ablations import PRINTED_ROWS, Estimate
from shnet_course.pictures.base import PREDICTED, TARGET


def draw_differences(found: Mapping[str, Estimate], to: str) -> Figure:
    """Our differences with their intervals, in points of overall IoU, beside the paper's."""
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(found)))
    ax = figure.subplots()
    told = []
    for place, (row, ours) in enumerate(found.items()):
        reach = 100 * ours.half_width if ours.seeds > 1 else 0
        ax.errorbar(
            100 * ours.mean, place, xerr=reach, fmt="o", color=TARGET, capsize=4,
            label="RefShapes: mean and 95 % interval" if place == 0 else None,
        )  # fmt: skip
        told.append(f"{row} {100 * ours.mean:+.1f}")
        if row in PRINTED_ROWS:
            papers = PRINTED_ROWS[row] - PRINTED_ROWS[to]
            ax.plot(
                papers, place, "D", color=PREDICTED, markersize=7,
                label="the paper on UNC: one run" if place == 0 else None,
            )  # fmt: skip
            told[-1] += f" (the paper {papers:+.1f})"
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_yticks(range(len(found)), list(found))
    ax.invert_yaxis()
    ax.set_xlabel(f"overall IoU on val minus {to}'s, in points")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    ax.margins(y=0.15)
    ax.grid(axis="x", alpha=0.3)
    figure.set_label(f"Overall IoU minus {to}'s, in points, on RefShapes: {'; '.join(told)}.")
    return figure


def draw_luck(gap: float, spread: float, seeds: int) -> Figure:
    """What the mean of some seeds shows, where the true difference is `gap` points.

    Args:
        gap: the true difference in points, above 0.
        spread: standard deviation of the difference of one pair of runs, in points.
        seeds: how many pairs are averaged.
    """
    shown = NormalDist(gap, spread / sqrt(seeds))
    wrong = shown.cdf(0)
    reach = max(3.5 * spread, gap)
    x = np.linspace(gap - reach, gap + reach, 601)
    y = np.array([shown.pdf(value) for value in x])
    figure = Figure(figsize=(9, 3.2))
    ax = figure.subplots()
    ax.fill_between(x, y, where=x >= 0, color=TARGET, alpha=0.5, linewidth=0)
    ax.fill_between(x, y, where=x <= 0, color=PREDICTED, linewidth=0)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.axvline(gap, color=TARGET, linewidth=1.5, linestyle="--")
    title = f"Wrong sign: {wrong:.1%} of the comparisons of {seeds} seed" + "s" * (seeds > 1)
    ax.set_title(title)
    ax.set_xlabel("the difference that is measured, in points; dashed: the true one")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    figure.set_label(
        f"A bell curve around the true difference of {gap:g} points. {title}, in orange."
    )
    return figure
