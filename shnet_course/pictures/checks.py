"""What a check draws when an answer is a picture: the target against yours."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from shnet_course.pictures.base import PREDICTED, TARGET, frame

RIGHT_PIXELS = "#B0B0B0"  # pixels that are right


def draw_masks(target: np.ndarray, found: np.ndarray) -> tuple[Figure, str]:
    """Two masks (H, W) bool, and where they differ: the figure and its alt text."""
    found = np.asarray(found).astype(bool)
    missing, surplus = target & ~found, found & ~target
    figure = Figure(figsize=(9, 3))
    wanted, yours, difference = figure.subplots(1, 3)
    _paint(wanted, {TARGET: target}, "wanted")
    _paint(yours, {PREDICTED: found}, "yours")
    _paint(
        difference,
        {RIGHT_PIXELS: target & found, TARGET: missing, PREDICTED: surplus},
        "difference",
    )
    counts = f"{missing.sum()} pixels missing, {surplus.sum()} too many"
    difference.set_xlabel(f"blue: {missing.sum()} missing, orange: {surplus.sum()} too many")
    return figure, f"The wanted mask, yours, and their difference: {counts}."


def _paint(ax, masks: dict[str, np.ndarray], title: str) -> None:
    """Masks (H, W), each in its colour, pixel by pixel."""
    height, width = next(iter(masks.values())).shape
    picture = np.ones((height, width, 3))
    for colour, mask in masks.items():
        picture[mask] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    ax.imshow(picture)
    frame(ax, np.arange(width + 1) - 0.5, np.arange(height + 1) - 0.5)
    ax.grid(color="#E0E0E0", linewidth=0.5)
    ax.set_title(title)


def compare_maps(target: Tensor, found: Tensor, rows: str, columns: str) -> tuple[Figure, str]:
    """Two matrices (R, C), or the pair of a batch (B, R, C) that differs most, on one scale."""
    target, found = target.detach().float(), found.detach().float()
    if target.dim() == 3:
        differing = torch.isclose(target, found, rtol=1e-4, atol=1e-4).logical_not().sum((1, 2))
        target, found = target[differing.argmax()], found[differing.argmax()]
    colours = colormaps["viridis"].with_extremes(bad="white")  # where there is NaN
    low, high = float(target.min()), float(target.max())
    figure = Figure(figsize=(9, 3.6))
    axes = figure.subplots(1, 2)
    for ax, values, title in zip(axes, (target, found), ("wanted", "yours"), strict=True):
        image = ax.imshow(values.numpy(), cmap=colours, vmin=low, vmax=high, aspect="auto")
        ax.set_title(title)
        ax.locator_params(integer=True)
        ax.set_xlabel(columns if values.isfinite().all() else f"{columns} (white: NaN)")
    axes[0].set_ylabel(rows)
    figure.colorbar(image, ax=axes)
    return figure, f"Two matrices of {rows} and {columns} beside each other: the wanted one, yours."


def draw_grids(target: Tensor, found: Tensor) -> tuple[Figure, str]:
    """Of many grids (..., H, W) the one that differs most: wanted, yours, and the difference."""
    target, found = (
        grids.detach().float().reshape(-1, *grids.shape[-2:]) for grids in (target, found)
    )
    difference = found - target
    worst = int(difference.nan_to_num(posinf=1e9, neginf=-1e9).square().sum((1, 2)).argmax())
    low, high = float(target[worst].min()), float(target[worst].max())
    most = float(difference[worst].nan_to_num(0, 0, 0).abs().max()) or 1.0
    panels = (
        ("wanted", target, {"cmap": "viridis", "vmin": low, "vmax": high}),
        ("yours", found, {"cmap": "viridis", "vmin": low, "vmax": high}),
        ("yours minus wanted", difference, {"cmap": "PuOr", "vmin": -most, "vmax": most}),
    )
    figure = Figure(figsize=(9.5, 3))
    axes = figure.subplots(1, 3)
    for ax, (title, grids, colours) in zip(axes, panels, strict=True):
        image = ax.imshow(grids[worst].numpy(), **colours)
        ax.set_title(title)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        if ax is not axes[0]:  # the first two share a scale
            figure.colorbar(image, ax=ax, shrink=0.8)
    return figure, (
        "The wanted map, yours on the same scale, and their difference, "
        f"{most:.2g} where it is largest."
    )
