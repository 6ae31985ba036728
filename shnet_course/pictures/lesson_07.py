"""Pictures of lesson 07: masks that agree or not, thresholds, intervals, the paper's Table 1."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from shnet_course.measure.conventions import TABLE_1, TABLE_1_COLUMNS, Answers, Sweep
from shnet_course.pictures.base import (
    PALETTE,
    PREDICTED,
    TARGET,
    draw_mask,
    grid_of,
    iou_of,
    photo_of,
)
from shnet_lib.training.evaluate import probability_at
from shnet_lib.training.metrics import mean_iou, overall_iou, precision_at

BOTH = PALETTE[2]  # green


def agreement_image(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(H, W) bool twice -> (H, W, 3): green in both, orange only predicted, blue only true."""
    image = np.full((*target.shape, 3), 0.93)
    image[prediction & target] = to_rgb(BOTH)
    image[prediction & ~target] = to_rgb(PREDICTED)
    image[~prediction & target] = to_rgb(TARGET)
    return image


def draw_agreement(
    rows: Mapping[str, Sequence[np.ndarray]], targets: Sequence[np.ndarray], legend: bool = True
) -> Figure:
    """Small masks of several predictors, a row each, against the same targets, with I / U."""
    count = len(targets)
    figure = Figure(figsize=(2.6 * count + 1, 2.3 * len(rows) + 0.5), layout="constrained", dpi=100)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes, (name, predictions) in zip(grid, rows.items(), strict=True):
        for ax, prediction, target in zip(axes, predictions, targets, strict=True):
            ax.imshow(agreement_image(prediction, target), interpolation="nearest")
            i, u = (prediction & target).sum(), (prediction | target).sum()
            ax.set_title(f"{i} / {u}", fontsize=10)
            height, width = target.shape
            ax.set_xticks(np.arange(-0.5, width), [])
            ax.set_yticks(np.arange(-0.5, height), [])
            ax.tick_params(length=0)
            if max(height, width) <= 16:
                ax.grid(color="white", linewidth=1)
        axes[0].set_ylabel(name, fontsize=11)
    if legend:
        colours = {"in both": BOTH, "only predicted": PREDICTED, "only true": TARGET}
        patches = [Patch(color=colour, label=label) for label, colour in colours.items()]
        figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=10)
    return figure


def draw_threshold(
    answers: Answers, swept: Sweep, threshold: float, shown: Sequence[int] = (0, 1, 2)
) -> Figure:
    """Some answers cut at a threshold, and where it stands on the curves of all of them."""
    figure = Figure(figsize=(10, 2.9), layout="constrained", dpi=100)
    axes = figure.subplots(1, len(shown) + 1, width_ratios=[1] * len(shown) + [1.7])
    for ax, index in zip(axes[:-1], shown, strict=True):
        expression, target = answers.expressions[index], answers.targets[index].numpy()
        probability = probability_at(answers.mask_logits[index][None], target.shape)[0].numpy()
        mask = probability > threshold
        title = f"“{expression.text}”\nIoU {iou_of(mask, target):.2f}"
        draw_mask(ax, photo_of(expression), title, target, mask)
    _curves(axes[-1], swept)
    axes[-1].axvline(threshold, color="black", linewidth=1.5)
    axes[-1].set_title(f"threshold {threshold:.2f}", fontsize=10)
    return figure


def draw_sweep(swept: Sweep, marked: Mapping[float, str]) -> Figure:
    """The measures of section 4.1 against the threshold; some thresholds marked with a name."""
    figure = Figure(figsize=(8, 3.6), layout="constrained", dpi=100)
    ax = figure.subplots()
    _curves(ax, swept)
    for threshold, name in marked.items():
        ax.axvline(threshold, color="0.4", linewidth=1, linestyle=":")
        ax.text(threshold, 0.02, f" {name}", fontsize=9, rotation=90, va="bottom", ha="right")
    return figure


def _curves(ax: Axes, swept: Sweep) -> None:
    measures = {
        "overall IoU": overall_iou,
        "mean IoU": mean_iou,
        "precision@0.5": lambda i, u: precision_at(i, u, 0.5),
    }
    styles = zip(PALETTE, ("-", "--", ":"), strict=False)
    for (name, measure), (colour, style) in zip(measures.items(), styles, strict=True):
        values = swept.measure(measure)
        ax.plot(swept.thresholds, values, style, color=colour, linewidth=2, label=name)
    ax.set_xlabel("threshold on the probability", fontsize=10)
    ax.set(ylim=(0, 1), xlim=(min(swept.thresholds), max(swept.thresholds)))
    ax.legend(loc="lower right", fontsize=9)  # the curves keep to the upper half
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def draw_ladder(values: Mapping[str, float], unit: str = "") -> Figure:
    """Named numbers as bars, the number at its end."""
    figure = Figure(figsize=(8, 0.5 * len(values) + 0.8), layout="constrained", dpi=100)
    ax = figure.subplots()
    bars = ax.barh(list(values), list(values.values()), color=PALETTE[4])
    ax.bar_label(bars, [f"{value:.3f}" for value in values.values()], padding=3, fontsize=10)
    ax.set_xlim(0, 1.15 * max(values.values()))
    ax.set_xlabel(unit, fontsize=10)
    ax.invert_yaxis()
    ax.tick_params(labelsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_dilation(radii: Sequence[float], agreement: Mapping[str, Sequence[float]]) -> Figure:
    """What a perfect mask gets against the dilated one, by radius; a curve a photo size."""
    figure = Figure(figsize=(7, 3), layout="constrained", dpi=100)
    ax = figure.subplots()
    for row, (name, values) in enumerate(agreement.items()):
        ax.plot(radii, values, "os"[row] + "-", color=PALETTE[row], label=name)
    ax.set_xlabel("radius of the disc, pixels of the photo", fontsize=10)
    ax.set_ylabel("IoU of the true mask\nwith the dilated one", fontsize=10)
    ax.set(ylim=(0.5, 1.02), xlim=(0, None))
    ax.legend(loc="lower right", fontsize=10)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_bootstrap(samples: Mapping[str, np.ndarray], measured: float) -> Figure:
    """Histograms of bootstrapped overall IoU, each with its 95 % interval as a bar below."""
    figure = Figure(figsize=(8, 3.2), layout="constrained", dpi=100)
    ax = figure.subplots()
    together = np.concatenate(list(samples.values()))
    edges = np.linspace(together.min(), together.max(), 60)
    for row, (name, values) in enumerate(samples.items()):
        colour = PALETTE[row]
        heights, _, _ = ax.hist(
            values, edges, histtype="stepfilled", alpha=0.35, color=colour, label=name
        )
        low, high = np.percentile(values, (2.5, 97.5))
        y = -0.06 * (row + 1) * heights.max()
        ax.plot([low, high], [y, y], color=colour, linewidth=4, solid_capstyle="butt")
    ax.axvline(measured, color="black", linewidth=1.5, label=f"measured: {measured:.3f}")
    ax.set_xlabel("overall IoU; the bars below are the 95 % intervals", fontsize=10)
    ax.set_yticks([])
    ax.legend(fontsize=10)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def draw_table_1(half_width: float) -> Figure:
    """Every column of Table 1 as points, SHNet's marked, with a bar of +- `half_width` points."""
    figure, axes = grid_of(len(TABLE_1_COLUMNS), 4, cell=2.4)
    for column, (ax, title) in enumerate(zip(axes, TABLE_1_COLUMNS, strict=True)):
        for row, (method, values) in enumerate(reversed(TABLE_1.items())):
            value, own = values[column], method.startswith("SHNet")
            if value is None:
                continue
            colour, mark = (PALETTE[5], "s") if own else (PALETTE[0], "o")
            ax.errorbar(
                value, row, xerr=half_width, fmt=mark, color=colour, markersize=4, elinewidth=1
            )
        ax.set_title(title, fontsize=10)
        ax.set_yticks(range(len(TABLE_1)), list(reversed(TABLE_1)), fontsize=9)
        if column % 4:
            ax.set_yticklabels([])
        ax.grid(alpha=0.3)
        ax.tick_params(labelsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("overall IoU in per cent; each plot has its own scale", fontsize=10)
    return figure
