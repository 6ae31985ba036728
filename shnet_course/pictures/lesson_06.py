"""Pictures of lesson 06: runs side by side, learning rates, number formats, a dilated target.

Each figure carries the text for those who cannot see it as its label, which `show` reads.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from shnet_course.pictures.base import PALETTE, iou_of
from shnet_lib.training.fit import polynomial_decay

LEARNING_RATE, PLATEAU_FACTOR = 1.2e-4, 0.7  # section 4.2; the released code
LABELS = {
    "loss": "loss (BCE per pixel)",
    "iou": "overall IoU",
    "day_iou": "overall IoU, ordinary scenes",
}
MARGIN = 3  # pixels
MARKS = ("-", "--", ":", "-.")
# name: bits of the exponent and of the fraction; a sign and, unwritten, a leading 1 come with them
FORMATS = {"float32": (8, 23), "float16": (5, 10), "bfloat16": (8, 7)}


def draw_runs(runs: Mapping[str, Sequence[Mapping]], measures: Sequence[str]) -> Figure:
    """Runs against each other: one panel a measure, one line a run.

    Args:
        runs: name -> rows with a "step" and some of the measures; a run without a measure is left
            out of that panel. The first run is drawn solid, the others broken, so that they can be
            told apart without colours.

    Raises:
        ValueError: no run has one of the measures.
    """
    figure = Figure(figsize=(4.9 * len(measures), 3.2), layout="constrained", dpi=100)
    axes = figure.subplots(1, len(measures), squeeze=False)[0]
    for ax, measure in zip(axes, measures, strict=True):
        for number, (name, rows) in enumerate(runs.items()):
            points = [(row["step"], row[measure]) for row in rows if measure in row]
            if points:
                style = MARKS[number % len(MARKS)]
                colour = PALETTE[number % len(PALETTE)]
                line = {"color": colour, "label": name, "linewidth": 2}
                # In front of the axis and not cut there: an IoU that stays 0 is a line too.
                ax.plot(*zip(*points, strict=True), style, **line, clip_on=False, zorder=3)
        if not ax.lines:
            raise ValueError(f"no run has {measure!r} in its rows")
        share = "iou" in measure
        ax.set(xlabel="step", ylabel=LABELS.get(measure, measure))
        ax.set_ylim((0, 1.02) if share else (0, None))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
        ax.legend(fontsize=9)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    told = [
        f"{name}: {measure} from {rows[0][measure]:.2f} to {rows[-1][measure]:.2f}"
        for measure in measures
        for name, rows in runs.items()
        if measure in rows[0]
    ]
    figure.set_label(f"Curves over the steps. {'; '.join(told)}.")
    return figure


# ---------------------------------------------------------------- learning rates


def draw_rates(runs: Mapping[float, Sequence[Mapping]], know_nothing: float) -> Figure:
    """The last loss of runs that differ in their learning rate; the dotted line knows nothing.

    Args:
        runs: learning rate -> rows with a "loss". The highest loss on the way is drawn as well.
        know_nothing: the entropy of the targets.
    """
    rates = sorted(runs)
    last = [runs[rate][-1]["loss"] for rate in rates]
    highest = [max(row["loss"] for row in runs[rate]) for rate in rates]
    figure = Figure(figsize=(6.4, 3.4), layout="constrained", dpi=110)
    ax = figure.subplots()
    ax.plot(rates, last, "o-", color=PALETTE[0], linewidth=2, label="at the end")
    ax.plot(rates, highest, "s--", color=PALETTE[1], label="highest on the way")
    ax.axhline(know_nothing, color="0.4", linestyle=":", label="knowing nothing (the entropy)")
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel=LABELS["loss"])
    ax.legend(fontsize=9)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    told = ", ".join(f"{rate:g}: {loss:.2f}" for rate, loss in zip(rates, last, strict=True))
    figure.set_label(f"The last loss against the learning rate. {told}.")
    return figure


def plateau_rates(scores: Sequence[float], patience: int) -> list[float]:
    """The learning rate *before* each evaluation if it falls to 0.7 of itself at a plateau.

    As in the released code: after `patience` evaluations without a better score, the next one that
    is not better lowers the rate. torch's own scheduler does it.
    """
    optimizer = SGD([torch.zeros(1)], lr=LEARNING_RATE)
    scheduler = ReduceLROnPlateau(optimizer, "max", factor=PLATEAU_FACTOR, patience=patience)
    rates = []
    for score in scores:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(score)
    return rates


def draw_schedules(scores: Sequence[float], power: float, patience: int) -> Figure:
    """Both rules on one run: the paper's decay, and what the released code makes of its scores.

    Args:
        scores: validation's overall IoU at each evaluation.
    """
    number = np.arange(1, len(scores) + 1)
    decay = [LEARNING_RATE * polynomial_decay(n - 1, len(scores), power) for n in number]
    rates = plateau_rates(scores, patience)
    figure = Figure(figsize=(9.8, 3.2), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    left.plot(number, decay, color=PALETTE[0], linewidth=2, label=f"polynomial, power {power:g}")
    left.step(number, rates, "--", where="post", color=PALETTE[1], linewidth=2,
              label=f"plateau, patience {patience}")  # fmt: skip
    left.set(xlabel="evaluation", ylabel="learning rate", ylim=(0, 1.05 * LEARNING_RATE))
    left.ticklabel_format(axis="y", scilimits=(-4, -4))
    left.legend(fontsize=9, loc="lower left")
    right.plot(number, scores, "o-", color=PALETTE[7], markersize=4)
    right.set(xlabel="evaluation", ylabel="overall IoU, validation", ylim=(0, 1))
    right.set_title("what the plateau rule looks at", fontsize=10)
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    halfway = LEARNING_RATE * polynomial_decay(len(scores) // 2, len(scores), power)
    figure.set_label(
        f"Learning rates over {len(scores)} evaluations. Polynomial with power {power:g}: "
        f"{halfway:.2g} halfway, 0 at the end. On a plateau with patience {patience}: lowered "
        f"{len(set(rates)) - 1} times, {rates[-1]:.2g} before the last one."
    )
    return figure


# ---------------------------------------------------------------- number formats


def draw_formats() -> Figure:
    """The bits of three formats: what decides the range, and what decides the precision."""
    figure = Figure(figsize=(9.8, 2.1), layout="constrained", dpi=100)
    ax = figure.subplots()
    for row, (name, (exponent, fraction)) in enumerate(FORMATS.items()):
        parts = ((1, "0.75", "sign"), (exponent, PALETTE[1], "exponent: range"),
                 (fraction, PALETTE[4], "fraction: precision"))  # fmt: skip
        bit = 0
        for count, colour, label in parts:
            for place in range(bit, bit + count):
                box = Rectangle((place, -row), 0.94, 0.7, facecolor=colour, edgecolor="0.3")
                if row == 0 and place == bit:
                    box.set_label(label)
                ax.add_patch(box)
            bit += count
            middle = bit - count / 2
            ax.text(middle, 0.33 - row, str(count), ha="center", va="center", fontsize=11,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
        ax.text(-0.4, 0.33 - row, name, ha="right", va="center", fontsize=11)
    ax.set(xlim=(-5, 32.2), ylim=(1 - len(FORMATS) - 0.2, 1))
    ax.legend(fontsize=10, loc="lower right")
    ax.set_axis_off()
    told = [f"{name}: 1 sign, {e} exponent, {f} fraction" for name, (e, f) in FORMATS.items()]
    figure.set_label(f"The bits of three formats. {'; '.join(told)}.")
    return figure


# ---------------------------------------------------------------- targets


def draw_targets(target: np.ndarray, others: Mapping[str, np.ndarray]) -> Figure:
    """A mask (S, S), and beside it others of the same size: what they add, what they lack.

    Shown is the part of the plane that any of them needs, and `MARGIN` pixels around it.
    """
    rows, columns = np.nonzero(np.any([target, *others.values()], axis=0))
    near = tuple(
        slice(max(int(places.min()) - MARGIN, 0), int(places.max()) + MARGIN + 1)
        for places in (rows, columns)
    )
    figure = Figure(figsize=(2.9 * (1 + len(others)), 3.2), layout="constrained", dpi=100)
    axes = figure.subplots(1, 1 + len(others))
    for ax, (name, mask) in zip(axes, {"target": target, **others}.items(), strict=True):
        picture = np.ones((*mask.shape, 3))
        picture[mask & target] = to_rgb(PALETTE[0])
        picture[mask & ~target] = to_rgb(PALETTE[1])
        picture[~mask & target] = to_rgb(PALETTE[7])
        ax.imshow(picture[near], interpolation="nearest")
        title = name if mask is target else f"{name}\nIoU {iou_of(mask, target):.2f}"
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
    told = ", ".join(f"{name} with IoU {iou_of(mask, target):.2f}" for name, mask in others.items())
    figure.set_label(f"A mask, and beside it {told}: what is added and what is lacking.")
    return figure
