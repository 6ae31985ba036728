"""Reading runs of several seeds: means with intervals, differences by seed, and their picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from matplotlib.figure import Figure
from scipy.stats import t as student

from shnet_course.pictures.base import PREDICTED, TARGET

# Overall IoU on UNC val at 320 x 320, Tables 2 and 4 of the paper: one run each, no interval.
PRINTED_ROWS = {
    "baseline": 54.70,
    "only HCAM": 59.53,
    "only SFM": 62.16,
    "SFM+ConvLSTM": 63.30,
    "SFM+Conv3D": 63.16,
    "SHNet w/o P.E.": 63.07,
    "MGATE": 62.59,
    "TGFE": 62.94,
    "GBFM": 62.72,
    "SHNet": 63.98,
}


@dataclass(frozen=True)
class Estimate:
    """A mean of several seeds and half the width of its 95 % interval (Student's t)."""

    mean: float
    half_width: float  # infinite for a single seed: one run says nothing about the next
    seeds: int

    def __str__(self) -> str:
        width = "  ?  " if self.seeds < 2 else f"{self.half_width:.3f}"
        return f"{self.mean:+.3f} +- {width} ({self.seeds} seeds)"

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of at least one value, with its 95 % interval."""
    count = len(values)
    if count < 2:
        return Estimate(mean(values), float("inf"), count)
    half_width = student.ppf(0.975, count - 1) * stdev(values) / sqrt(count)
    return Estimate(mean(values), float(half_width), count)


def by_row(lines: Sequence[Mapping[str, str]], metric: str) -> dict[str, dict[int, float]]:
    """The CSV as row -> seed -> a metric ("val_overall_iou"), rows in the order of the CSV."""
    values: dict[str, dict[int, float]] = {}
    for line in lines:
        values.setdefault(line["row"], {})[int(line["seed"])] = float(line[metric])
    return values


def differences(values: Mapping[str, Mapping[int, float]], to: str) -> dict[str, Estimate]:
    """Each other row less the row `to`, seed by seed: what both seeds share falls away.

    Rows without a common seed are left out.
    """
    found = {}
    for row, seeds in values.items():
        common = sorted(set(seeds) & set(values[to]))
        if row != to and common:
            found[row] = estimate([seeds[seed] - values[to][seed] for seed in common])
    return found


def draw_differences(found: Mapping[str, Estimate], to: str) -> Figure:
    """Our differences with their intervals, in points of overall IoU, beside the paper's."""
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(found)), layout="constrained", dpi=100)
    ax = figure.subplots()
    for place, (row, ours) in enumerate(found.items()):
        reach = 100 * ours.half_width if ours.seeds > 1 else 0
        ax.errorbar(
            100 * ours.mean, place, xerr=reach, fmt="o", color=TARGET, capsize=4,
            label="RefShapes: mean and 95 % interval" if place == 0 else None,
        )  # fmt: skip
        if row in PRINTED_ROWS:
            ax.plot(
                PRINTED_ROWS[row] - PRINTED_ROWS[to], place, "D", color=PREDICTED, markersize=7,
                label="the paper on UNC: one run" if place == 0 else None,
            )  # fmt: skip
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_yticks(range(len(found)), list(found))
    ax.invert_yaxis()
    ax.set_xlabel(f"overall IoU on val, in points, less {to}'s")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, fontsize=9, frameon=False)
    ax.margins(y=0.15)
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
