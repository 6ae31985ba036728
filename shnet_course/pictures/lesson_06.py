"""Pictures of lesson 06: runs side by side, learning rates, number formats, a run played again.

Each figure carries the text for those who cannot see it as its label, which `show` reads.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from shnet_course.measure.replay import Replay
from shnet_course.pictures.base import AMOUNT, PALETTE, draw_mask, frame, iou_of

CURVE_LABELS = {
    "loss": "loss (BCE per pixel)",
    "iou": "overall IoU",
    "day_iou": "overall IoU, ordinary scenes",
}
LINE_STYLES = ("-", "--", ":", "-.")
# name: bits of the exponent and of the fraction; a sign and, unwritten, a leading 1 come with them
FLOAT_FORMATS = {"float32": (8, 23), "float16": (5, 10), "bfloat16": (8, 7)}


def draw_training_runs(runs: Mapping[str, Sequence[Mapping]], measures: Sequence[str]) -> Figure:
    """Runs against each other: one panel per measure, one line per run.

    Args:
        runs: name -> rows with a "step" and some of the measures; a run without a measure is left
            out of that panel. The first run is drawn solid, the others broken, so that they can be
            told apart without colours.

    Raises:
        ValueError: no run has one of the measures.
    """
    figure = Figure(figsize=(4.9 * len(measures), 3.2))
    axes = figure.subplots(1, len(measures), squeeze=False)[0]
    for ax, measure in zip(axes, measures, strict=True):
        for number, (name, rows) in enumerate(runs.items()):
            points = [(row["step"], row[measure]) for row in rows if measure in row]
            if points:
                style = LINE_STYLES[number % len(LINE_STYLES)]
                colour = PALETTE[number % len(PALETTE)]
                line = {"color": colour, "label": name, "linewidth": 2}
                # In front of the axis and not cut there: an IoU that stays 0 is a line too.
                ax.plot(*zip(*points, strict=True), style, **line, clip_on=False, zorder=3)
        if not ax.lines:
            raise ValueError(f"no run has {measure!r} in its rows")
        share = "iou" in measure
        ax.set(xlabel="step", ylabel=CURVE_LABELS.get(measure, measure))
        ax.set_ylim((0, 1.02) if share else (0, None))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
        ax.legend()
        ax.grid(alpha=0.3)
    told = [
        f"{name}: {measure} from {rows[0][measure]:.2f} to {rows[-1][measure]:.2f}"
        for measure in measures
        for name, rows in runs.items()
        if measure in rows[0]
    ]
    figure.set_label(f"Curves over the steps. {'; '.join(told)}.")
    return figure


# ---------------------------------------------------------------- learning rates


def draw_learning_rates(runs: Mapping[float, Sequence[Mapping]], know_nothing: float) -> Figure:
    """The last loss of runs that differ in their learning rate; the dotted line knows nothing.

    Args:
        runs: learning rate -> rows with a "loss". The highest loss on the way is drawn as well.
        know_nothing: the entropy of the targets.
    """
    rates = sorted(runs)
    last = [runs[rate][-1]["loss"] for rate in rates]
    highest = [max(row["loss"] for row in runs[rate]) for rate in rates]
    figure = Figure(figsize=(6.4, 3.4))
    ax = figure.subplots()
    ax.plot(rates, last, "o-", color=PALETTE[0], linewidth=2, label="at the end")
    ax.plot(rates, highest, "s--", color=PALETTE[1], label="highest on the way")
    ax.axhline(know_nothing, color="0.4", linestyle=":", label="knowing nothing (the entropy)")
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel=CURVE_LABELS["loss"])
    ax.legend()
    ax.grid(alpha=0.3)
    told = ", ".join(f"{rate:g}: {loss:.2f}" for rate, loss in zip(rates, last, strict=True))
    figure.set_label(f"The last loss against the learning rate. {told}.")
    return figure


# ---------------------------------------------------------------- number formats


def draw_formats() -> Figure:
    """The bits of three formats: what decides the range, and what decides the precision."""
    figure = Figure(figsize=(9.8, 2.1))
    ax = figure.subplots()
    for row, (name, (exponent, fraction)) in enumerate(FLOAT_FORMATS.items()):
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
    ax.set(xlim=(-5, 32.2), ylim=(1 - len(FLOAT_FORMATS) - 0.2, 1))
    ax.legend(loc="lower right")
    ax.set_axis_off()
    told = [f"{name}: 1 sign, {e} exponent, {f} fraction" for name, (e, f) in FLOAT_FORMATS.items()]
    figure.set_label(f"The bits of three formats. {'; '.join(told)}.")
    return figure


# ---------------------------------------------------------------- a run, played again


def draw_growing(replay: Replay, steps: Sequence[int]) -> Figure:
    """What the network marked at some steps: a row per phrase, a column per step.

    Raises:
        ValueError: one of the steps was not kept.
    """
    numbers = [_number_of(replay, step) for step in steps]
    count = len(replay.phrases)
    figure = Figure(figsize=(1.75 * len(steps), 2.3 * count))
    rows = figure.subfigures(count, 1, squeeze=False)[:, 0]
    told = []
    for phrase, (row, text) in enumerate(zip(rows, replay.phrases, strict=True)):
        row.suptitle(f"“{text}”")
        scores = []
        for ax, number in zip(row.subplots(1, len(steps)), numbers, strict=True):
            scores.append(
                _draw_answer(ax, replay, phrase, number, f"step {replay.steps[number]:,}")
            )
        told.append(f"“{text}” " + ", ".join(f"{score:.2f}" for score in scores))
    figure.set_label(f"Masks at the steps {', '.join(map(str, steps))}. IoU: {'; '.join(told)}.")
    return figure


def draw_replay(replay: Replay, step: int) -> Figure:
    """One step: where it lies on the curve, and per phrase the mask, an attention row and a gate.

    Raises:
        ValueError: the step was not kept.
    """
    number = _number_of(replay, step)
    count = len(replay.phrases)
    figure = Figure(figsize=(10.4, 2.75 * count))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.6))
    ax = left.subplots()
    at, _, score = replay.curve.T
    ax.plot(at, score, color=PALETTE[0], linewidth=2)
    ax.axvline(step, color=PALETTE[1], linewidth=2)
    ax.set(xlabel="step", ylabel="overall IoU, validation", ylim=(0, 1), xlim=(-20, at[-1] + 20))
    ax.set_title(f"step {step:,}")
    ax.grid(alpha=0.3)
    told = []
    axes = right.subplots(count, 3, squeeze=False)
    for phrase, (mask_ax, attention_ax, gate_ax) in enumerate(axes):
        text, word = replay.phrases[phrase], replay.words[phrase]
        score = _draw_answer(mask_ax, replay, phrase, number, f"“{text}”")
        maps = replay.attention[phrase], replay.gate[phrase]
        # One scale for all steps, so that a map that becomes darker has grown.
        most = float(maps[0].max()), 1.0
        titles = f"what “{word}” takes from pixels", f"gate, channel {replay.channel}"
        for ax, values, top, title in zip((attention_ax, gate_ax), maps, most, titles, strict=True):
            _draw_map(ax, values[number], replay.targets[phrase], top, title)
        told.append(f"“{text}” IoU {score:.2f}")
    figure.set_label(
        f"Step {step}: {'; '.join(told)}. Beside each mask, what one word takes from the pixels, "
        "and one channel of a gate."
    )
    return figure


def _number_of(replay: Replay, step: int) -> int:
    if step not in replay.steps:
        raise ValueError(f"step {step} was not kept; there are {replay.steps.tolist()}")
    return int(np.flatnonzero(replay.steps == step)[0])


def _draw_answer(ax: Axes, replay: Replay, phrase: int, number: int, title: str) -> float:
    """The scene with what was meant and what was marked; returns their IoU."""
    target, mask = replay.targets[phrase], replay.mask(phrase, number)
    score = iou_of(mask, target)
    draw_mask(ax, replay.photo, f"{title}\nIoU {score:.2f}", target, mask)
    return score


def _draw_map(ax: Axes, values: np.ndarray, target: np.ndarray, top: float, title: str) -> None:
    """A map (H, W) over the scene's place, with what was meant outlined."""
    height, width = target.shape
    box = (-0.5, width - 0.5, height - 0.5, -0.5)
    image = ax.imshow(values, cmap=AMOUNT, vmin=0, vmax=top, extent=box)
    ax.contour(target, levels=[0.5], colors="white", linewidths=3)
    ax.contour(target, levels=[0.5], colors=PALETTE[5], linewidths=1.5)
    ax.set_title(title)
    frame(ax)
    ax.figure.colorbar(image, ax=ax, shrink=0.75).ax.tick_params(labelsize=8)
