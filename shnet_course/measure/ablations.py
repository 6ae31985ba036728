"""Reading runs of several seeds: means with intervals, and differences by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

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
        plural = "s" * (self.seeds > 1)
        return f"{self.mean:+.3f} ± {width} ({self.seeds} seed{plural})"

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


def by_row(
    lines: Sequence[Mapping[str, Any]], metric: str, row: str = "row"
) -> dict[str, dict[int, float]]:
    """The CSV as row -> seed -> a metric ("val_overall_iou"), rows in the order of the CSV.

    Args:
        row: the column that names the row.
    """
    values: dict[str, dict[int, float]] = {}
    for line in lines:
        values.setdefault(line[row], {})[int(line["seed"])] = float(line[metric])
    return values


def differences(values: Mapping[str, Mapping[int, float]], to: str) -> dict[str, Estimate]:
    """Each other row minus the row `to`, seed by seed: what both seeds share falls away.

    Rows without a common seed are left out.
    """
    found = {}
    for row, seeds in values.items():
        common = sorted(set(seeds) & set(values[to]))
        if row != to and common:
            found[row] = estimate([seeds[seed] - values[to][seed] for seed in common])
    return found
