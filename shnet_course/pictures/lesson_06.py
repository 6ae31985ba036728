"""Pictures of lesson 06: runs side by side, learning rates, number formats, a dilated target."""

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
    "loss": "loss (BCE a pixel)",
    "iou": "overall IoU",
    "day_iou": "overall IoU, ordinary photos",
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
    return figure


# ---------------------------------------------------------------- learning rates


def validation_of(epochs: int, noise: float, seed: int = 0) -> list[float]:
    """An invented overall IoU after each epoch: it climbs, flattens, and trembles by `noise`."""
    random = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    return (0.65 * (1 - np.exp(-epoch / 3)) + noise * random.standard_normal(epochs)).tolist()


def plateau_rates(scores: Sequence[float], patience: int) -> list[float]:
    """The learning rate *during* each epoch if it falls to 0.7 of itself at a plateau.

    As in the released code: after `patience` epochs without a better score, the next one that is
    not better lowers the rate. torch's own scheduler does it.
    """
    optimizer = SGD([torch.zeros(1)], lr=LEARNING_RATE)
    scheduler = ReduceLROnPlateau(optimizer, "max", factor=PLATEAU_FACTOR, patience=patience)
    rates = []
    for score in scores:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(score)
    return rates


def draw_schedules(power: float, patience: int, noise: float, epochs: int = 30) -> Figure:
    """The paper's decay with some power, and the released code's answer to an invented run."""
    epoch = np.arange(1, epochs + 1)
    scores = validation_of(epochs, noise)
    decay = [LEARNING_RATE * polynomial_decay(e - 1, epochs, power) for e in epoch]
    figure = Figure(figsize=(9.8, 3.2), layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2)
    left.plot(epoch, decay, color=PALETTE[0], linewidth=2, label=f"polynomial, power {power:g}")
    rates = plateau_rates(scores, patience)
    left.step(epoch, rates, "--", where="post", color=PALETTE[1], linewidth=2,
              label=f"plateau, patience {patience}")  # fmt: skip
    left.set(xlabel="epoch", ylabel="learning rate", ylim=(0, 1.05 * LEARNING_RATE))
    left.ticklabel_format(axis="y", scilimits=(-4, -4))
    left.legend(fontsize=9, loc="lower left")
    right.plot(epoch, scores, "o-", color=PALETTE[7], markersize=4)
    right.set(xlabel="epoch", ylabel="overall IoU (invented)", ylim=(0, 0.8))
    right.set_title("what the plateau rule looks at", fontsize=10)
    for ax in (left, right):
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def describe_schedules(power: float, patience: int, noise: float, epochs: int = 30) -> str:
    """The same picture in words."""
    rates = plateau_rates(validation_of(epochs, noise), patience)
    halfway = LEARNING_RATE * polynomial_decay(epochs // 2, epochs, power)
    return (
        f"Learning rates over {epochs} epochs. Polynomial with power {power:g}: {halfway:.2g} "
        f"halfway, 0 at the end. On a plateau with patience {patience}: lowered "
        f"{len(set(rates)) - 1} times, {rates[-1]:.2g} in the last epoch."
    )


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
    return figure
