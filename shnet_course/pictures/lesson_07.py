"""Pictures of lesson 07: masks that agree or not, thresholds, intervals, the paper's Table 1.

Each figure carries the text for those who cannot see it as its label, which `show` reads.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from shnet_course.measure.conventions import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_1_PHOTOS,
    Answers,
    Sweep,
)
from shnet_course.pictures.base import (
    PALETTE,
    PREDICTED,
    TARGET,
    draw_mask,
    frame,
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
    """Small masks of several predictors, one row per predictor, with I / U over each."""
    count = len(targets)
    figure = Figure(figsize=(2.6 * count + 1, 2.3 * len(rows) + 0.5))
    grid = figure.subplots(len(rows), count, squeeze=False)
    told = []
    for axes, (name, predictions) in zip(grid, rows.items(), strict=True):
        for ax, prediction, target in zip(axes, predictions, targets, strict=True):
            ax.imshow(agreement_image(prediction, target), interpolation="nearest")
            i, u = (prediction & target).sum(), (prediction | target).sum()
            ax.set_title(f"{i} / {u}", fontsize=13)
            told.append(f"{name} {i} of {u}")
            height, width = target.shape
            frame(ax, np.arange(-0.5, width), np.arange(-0.5, height))
            if max(height, width) <= 16:
                ax.grid(color="white", linewidth=1)
        axes[0].set_ylabel(name, fontsize=14)
    if legend:
        colours = {"in both": BOTH, "only predicted": PREDICTED, "only true": TARGET}
        patches = [Patch(color=colour, label=label) for label, colour in colours.items()]
        figure.legend(handles=patches, loc="outside lower center", ncols=3)
    figure.set_label(f"Small masks; pixels of the intersection and the union: {', '.join(told)}.")
    return figure


def draw_threshold(
    answers: Answers, swept: Sweep, threshold: float, shown: Sequence[int] = (0, 1, 2)
) -> Figure:
    """Probability maps cut at a threshold, and where it stands on the curves of all answers."""
    figure = Figure(figsize=(10, 4.4))
    left, right = figure.subfigures(1, 2, width_ratios=[1.35, 1])
    maps, masks = left.subplots(2, len(shown))
    told = []
    for above, below, index in zip(maps, masks, shown, strict=True):
        expression, target = answers.expressions[index], answers.targets[index].numpy()
        probability = probability_at(answers.mask_logits[index][None], target.shape)[0].numpy()
        mask = probability > threshold
        drawn = above.imshow(probability, vmin=0, vmax=1, cmap="cividis")
        if mask.any() and not mask.all():
            above.contour(probability, levels=[threshold], colors=PREDICTED, linewidths=2)
        above.set_title(f"“{expression.text}”", wrap=True)
        above.set_axis_off()
        told.append(f"IoU {iou_of(mask, target):.2f}")
        draw_mask(below, photo_of(expression), told[-1], target, mask)
    left.colorbar(drawn, ax=maps, shrink=0.8, label="probability")

    curves = right.subplots()
    _curves(curves, swept)
    told_of_all = []
    lines = list(curves.lines)
    for line in lines:
        value = np.interp(threshold, swept.thresholds, line.get_ydata())
        curves.plot(threshold, value, "o", color=line.get_color(), markersize=8)
        told_of_all.append(f"{line.get_label()} {value:.3f}")
    curves.axvline(threshold, color="black", linewidth=1.5)
    curves.set_title(f"threshold {threshold:.2f}, all {len(answers.targets):,} answers")
    curves.legend(lines, told_of_all, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    figure.set_label(
        f"Three probability maps cut at {threshold:.2f}, and the masks: {', '.join(told)}. "
        f"All answers: {', '.join(told_of_all)}."
    )
    return figure


def draw_sweep(swept: Sweep, marked: Mapping[float, str]) -> Figure:
    """The measures of section 4.1 against the threshold; some thresholds marked with a name."""
    figure = Figure(figsize=(9, 4.6))
    ax = figure.subplots()
    _curves(ax, swept)
    low = ax.get_ylim()[0]
    for threshold, name in marked.items():
        ax.axvline(threshold, color="0.4", linewidth=1, linestyle=":")
        ax.text(threshold, low, f" {name} ", fontsize=11, rotation=90, va="bottom", ha="right")
    best = ", ".join(
        "{} {:.3f} at {:.2f}".format(
            name, *max(zip(swept.measure(of), swept.thresholds, strict=True))
        )
        for name, of in (("overall IoU", overall_iou), ("mean IoU", mean_iou))
    )
    figure.set_label(f"Three measures against the threshold. Highest: {best}.")
    return figure


def _curves(ax: Axes, swept: Sweep) -> None:
    measures = {
        "overall IoU": overall_iou,
        "mean IoU": mean_iou,
        "precision@0.5": lambda i, u: precision_at(i, u, 0.5),
    }
    styles = zip(PALETTE, ("-", "--", ":"), strict=False)
    lowest = 1.0
    for (name, measure), (colour, style) in zip(measures.items(), styles, strict=True):
        values = swept.measure(measure)
        ax.plot(swept.thresholds, values, style, color=colour, linewidth=2.5, label=name)
        lowest = min(lowest, *values)
    ax.set_xlabel("threshold on the probability")
    low = max(0.0, np.floor(10 * lowest) / 10 - 0.1)
    ax.set(ylim=(low, None), xlim=(min(swept.thresholds), max(swept.thresholds)))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    ax.grid(alpha=0.3)


def draw_dots(values: Mapping[str, float], label: str) -> Figure:
    """Named numbers as dots on a scale that begins near the smallest, the number beside each."""
    figure = Figure(figsize=(9, 0.55 * len(values) + 1))
    ax = figure.subplots()
    numbers = list(values.values())
    low = np.floor(20 * min(numbers)) / 20  # down to the next 0.05
    high = np.ceil(20 * max(numbers)) / 20
    ax.hlines(range(len(values)), low, numbers, color="0.8", linewidth=1.5)
    ax.plot(numbers, range(len(values)), "o", color=TARGET, markersize=9)
    for row, value in enumerate(numbers):
        ax.annotate(f"{value:.3f}", (value, row), (9, 0), textcoords="offset points",
                    va="center", fontsize=12)  # fmt: skip
    ax.set_yticks(range(len(values)), values)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlim(low, high + 0.15 * (high - low))
    ax.set_xlabel(f"{label}; the scale begins at {low:.2f}")
    ax.grid(axis="x", alpha=0.3)
    ax.spines["left"].set_visible(False)
    listed = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
    figure.set_label(f"Dots of {label}: {listed}.")
    return figure


def draw_dilation(radii: Sequence[float], agreement: Mapping[str, Sequence[float]]) -> Figure:
    """What a perfect mask gets against the dilated one, by radius; one curve per photo size."""
    figure = Figure(figsize=(8, 3.8))
    ax = figure.subplots()
    for row, (name, values) in enumerate(agreement.items()):
        ax.plot(radii, values, "os"[row] + "-", color=PALETTE[row], label=name)
    ax.set_xlabel("radius of the disc, pixels of the photo")
    ax.set_ylabel("IoU of the true mask\nwith the dilated one")
    ax.set(ylim=(0.5, 1.02), xlim=(0, None))
    ax.legend(loc="lower right")
    listed = "; ".join(
        f"{name}: " + ", ".join(f"{r} px {v:.2f}" for r, v in zip(radii, values, strict=True))
        for name, values in agreement.items()
    )
    figure.set_label(f"IoU of a true disc with the dilated one, by radius. {listed}.")
    ax.grid(alpha=0.3)
    return figure


def draw_bootstrap(samples: Mapping[str, np.ndarray], measured: float) -> Figure:
    """Histograms of bootstrapped overall IoU, each with its 95 % interval as a bar below."""
    figure = Figure(figsize=(9, 3.8))
    ax = figure.subplots()
    told = []
    together = np.concatenate(list(samples.values()))
    edges = np.linspace(together.min(), together.max(), 60)
    for row, (name, values) in enumerate(samples.items()):
        colour = PALETTE[row]
        heights, _, _ = ax.hist(
            values, edges, histtype="stepfilled", alpha=0.35, color=colour, label=name
        )
        low, high = np.percentile(values, (2.5, 97.5))
        y = -0.06 * (row + 1) * heights.max()
        ax.plot([low, high], [y, y], color=colour, linewidth=5, solid_capstyle="butt")
        told.append(f"{name} {low:.3f} to {high:.3f}")
    ax.axvline(measured, color="black", linewidth=1.5, label=f"measured: {measured:.3f}")
    ax.set_xlabel("overall IoU; the bars below are the 95 % intervals")
    ax.set_yticks([])
    ax.legend()
    figure.set_label(f"Histograms of overall IoU with 95 % intervals: {'; '.join(told)}.")
    ax.spines["left"].set_visible(False)
    return figure


def draw_table_1(half_widths: Sequence[float]) -> Figure:
    """Every column of Table 1 as points, SHNet's marked; the grey band is one interval wide.

    The band stands around SHNet at 320: a method inside it is no farther away than `half_widths`
    (points, one per column), which photos alone can account for.
    """
    figure, axes = grid_of(len(TABLE_1_COLUMNS), 4, cell=3.0)
    columns = zip(axes, TABLE_1_COLUMNS, TABLE_1_PHOTOS, half_widths, strict=True)
    for column, (ax, title, photos, half) in enumerate(columns):
        own = TABLE_1["SHNet 320"][column]
        ax.axvspan(own - half, own + half, color="0.88", linewidth=0)
        for row, (method, values) in enumerate(reversed(TABLE_1.items())):
            if values[column] is not None:
                colour, mark = (PALETTE[5], "s") if method.startswith("SHNet") else (TARGET, "o")
                ax.plot(values[column], row, mark, color=colour, markersize=6)
        ax.set_title(f"{title}\n{photos:,} photos, ± {half:.1f}")
        ax.set_yticks(range(len(TABLE_1)), list(reversed(TABLE_1)))
        if column % 4:
            ax.set_yticklabels([])
        ax.grid(alpha=0.3)
    figure.supxlabel("overall IoU in per cent; each plot has its own scale")
    listed = ", ".join(f"{n} {h:.1f}" for n, h in zip(TABLE_1_COLUMNS, half_widths, strict=True))
    figure.set_label(
        "Table 1 as eight plots with one point per method. A grey band around SHNet at 320 has "
        f"half the width, in points: {listed}."
    )
    return figure
