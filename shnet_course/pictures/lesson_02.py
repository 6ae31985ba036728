"""Pictures of lesson 02: feature levels, cells that are alike, what a grid can hold, phrases."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from shnet_course.pictures.base import PALETTE, SIGNED, frame

LEVELS = (2, 3, 4)  # as the paper counts them


# ---------------------------------------------------------------- levels


def principal_colours(level: Tensor) -> np.ndarray:
    """A feature map (C, h, w) as colours (h, w, 3) in 0 .. 1: cells alike in features look alike.

    Red, green and blue are the first three principal components over the cells, each stretched
    between its 2nd and 98th percentile. The colours of two maps cannot be compared.
    """
    channels, height, width = level.shape
    cells = level.reshape(channels, -1).T.double()  # (h*w, C)
    cells = cells - cells.mean(0)
    _, _, axes = torch.linalg.svd(cells, full_matrices=False)
    scores = (cells @ axes[:3].T).numpy()  # (h*w, 3)
    low, high = np.percentile(scores, (2, 98), axis=0)
    stretched = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1)
    return stretched.reshape(height, width, 3)


def draw_levels(pictures: Mapping[str, tuple[np.ndarray, Sequence[Tensor]]]) -> Figure:
    """A row per picture: itself (H, W, 3), and its levels (C, h, w) in principal_colours.

    A map has the shape of its picture, though a backbone sees every picture square.
    """
    heights = [photo.shape[0] / photo.shape[1] for photo, _ in pictures.values()]
    figure = Figure(figsize=(10, 2.5 * sum(heights) + 0.35))
    rows = figure.subplots(len(pictures), 4, squeeze=False, height_ratios=heights)
    told = []
    for axes, (name, (photo, levels)) in zip(rows, pictures.items(), strict=True):
        height, width = photo.shape[:2]
        axes[0].imshow(photo)
        axes[0].set_title(f"{name}, {width} x {height}")
        for ax, number, level in zip(axes[1:], LEVELS, levels, strict=True):
            colours = principal_colours(level)
            ax.imshow(colours, interpolation="nearest", extent=(0, width, height, 0))
            shape = " x ".join(map(str, level.shape))
            ax.set_title(f"level {number}: {shape}")
        told.append(f"{name}, levels {', '.join(str(level.shape[-1]) for level in levels)} wide")
        for ax in axes:
            ax.set_axis_off()
    figure.set_label(
        f"Levels 2, 3 and 4 in colours, like cells alike: {'; '.join(told)}. From level to level "
        "the cells grow and show less outline."
    )
    return figure


def draw_similar(photo: np.ndarray, alike: Tensor, row: int, column: int) -> Figure:
    """Which cells are like one of them: the photo with that cell, and the map (h, w) over it.

    A cell is the stronger orange the more it is like the one asked for; 0 and below leave the
    photo as it is.
    """
    height, width = photo.shape[:2]
    down, across = (size / cells for size, cells in zip((height, width), alike.shape, strict=True))
    figure = Figure(figsize=(9.5, 4.75 * height / width + 0.35))
    left, right = figure.subplots(1, 2)
    left.imshow(photo)
    left.set_title("the cell that asks")
    box = (0, width, height, 0)
    right.imshow(photo.mean(-1), cmap="gray", extent=box)
    shown = np.zeros((*alike.shape, 4))
    shown[..., :3] = to_rgb(PALETTE[5])
    shown[..., 3] = 0.9 * alike.clamp(0, 1).numpy()
    right.imshow(shown, extent=box, interpolation="nearest")
    right.set_title("orange: cells with a like feature")
    for ax in (left, right):
        corner = (column * across, row * down)
        ax.add_patch(Rectangle(corner, across, down, fill=False, edgecolor="white", linewidth=2))
        ax.set_axis_off()
    own = alike.clone()
    own[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = -1  # it and its neighbours
    best = int(own.argmax())
    there = (best // alike.shape[1], best % alike.shape[1])
    figure.set_label(
        f"The cell of row {row} and column {column}, and the cells like it. Most like it, apart "
        f"from its neighbours, is row {there[0]} and column {there[1]}, at {own.max():.2f}."
    )
    return figure


# ---------------------------------------------------------------- what a grid can hold


def on_grid(masks: Tensor, grid: int) -> Tensor:
    """Which cells a mask fills by half or more: (M, S, S) bool -> (M, grid, grid) bool.

    Each mask is averaged over the area of each cell, also where cells do not end between pixels.
    """
    size = masks.shape[-1]
    edges = torch.arange(grid + 1) * size / grid  # in pixels
    pixel = torch.arange(size)
    # (grid, S): the share of each cell's width that lies in each pixel
    cover = torch.minimum(edges[1:, None], pixel + 1.0) - torch.maximum(edges[:-1, None], pixel)
    cover = cover.clamp(min=0) * grid / size
    shares = cover @ masks.float() @ cover.T
    return shares >= 0.5 - 1e-6


def shrink_times(masks: Tensor, times: int) -> Tensor:
    """Masks `times` smaller in width and height, in the middle of an empty field of the old size.

    (M, S, S) bool -> (M, S, S) bool. A pixel is filled where half of what it stands for is.
    """
    size = masks.shape[-1]
    small = F.avg_pool2d(masks[:, None].float(), times)[:, 0] >= 0.5
    room = size - small.shape[-1]
    before = room // 2
    return F.pad(small, (before, room - before, before, room - before))


def draw_on_grids(mask: Tensor, grids: Sequence[int]) -> Figure:
    """A mask (S, S), bool, and the cells that it fills by half at each of the grids, from near.

    All pictures show the same part of the field. The mask is outlined in each, and where there is
    a grid its lines are drawn.
    """
    size = len(mask)
    top, left, bottom, right = _surroundings(mask)
    centres = np.arange(size) + 0.5
    outlined = mask.float().numpy()
    figure = Figure(figsize=(10, 2.1))
    axes = figure.subplots(1, 1 + len(grids))
    pictures = [mask] + [on_grid(mask[None], grid)[0] for grid in grids]
    titles = [f"mask, {size} x {size}"] + [f"grid {grid} x {grid}" for grid in grids]
    for ax, picture, title in zip(axes, pictures, titles, strict=True):
        ax.imshow(picture, cmap="Blues", vmin=0, vmax=1.8, extent=(0, size, size, 0))
        ax.contour(centres, centres, outlined, [0.5], colors=PALETTE[1], linewidths=1.5)
        lines = np.linspace(0, size, len(picture) + 1) if picture is not mask else []
        frame(ax, lines, lines)
        ax.grid(color="0.75", linewidth=0.6)
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set_title(title)
    counts = [int(picture.sum()) for picture in pictures[1:]]
    told = ", ".join(f"{n} at {grid} x {grid}" for n, grid in zip(counts, grids, strict=True))
    figure.set_label(f"A mask, and how many cells of a grid it fills by half: {told}.")
    return figure


def _surroundings(mask: Tensor) -> tuple[float, float, float, float]:
    """Top, left, bottom and right of a square in a field (S, S), three times its mask's size."""
    rows, columns = mask.nonzero().T
    (top, bottom), (left, right) = ((int(n.min()), int(n.max()) + 1) for n in (rows, columns))
    side = min(3 * max(bottom - top, right - left), len(mask))
    y = min(max((top + bottom - side) / 2, 0), len(mask) - side)
    x = min(max((left + right - side) / 2, 0), len(mask) - side)
    return y, x, y + side, x + side


def draw_survival(shares: Mapping[str, Sequence[float]], grids: Sequence[int]) -> Figure:
    """The share of things that fill at least one cell by half, a line for each size of things."""
    figure = Figure(figsize=(7, 3.2))
    ax = figure.subplots()
    places = np.arange(len(grids))
    for (name, values), colour, mark in zip(shares.items(), PALETTE, "osD^vPX*", strict=False):
        ax.plot(places, 100 * np.asarray(values), f"{mark}-", color=colour, label=name)
    ax.set_xticks(places, labels=[f"{grid} x {grid}" for grid in grids])
    ax.set(xlabel="grid", ylabel="% of the things that survive", ylim=(0, 103))
    ax.legend(title="things")
    ax.grid(alpha=0.3)
    told = "; ".join(
        f"things of {name} " + ", ".join(f"{value:.0%}" for value in values)
        for name, values in shares.items()
    )
    figure.set_label(f"Things that survive on grids of {', '.join(map(str, grids))}: {told}.")
    return figure


# ---------------------------------------------------------------- words


def draw_alike(names: Sequence[str], tables: Mapping[str, np.ndarray]) -> Figure:
    """How alike phrases are: a table (n, n) of cosines per title, with the numbers in it."""
    figure = Figure(figsize=(10, 3.9))
    axes = np.atleast_1d(figure.subplots(1, len(tables), sharey=True))
    numbers = range(len(names))
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        ax.imshow(table, cmap=SIGNED, vmin=-1.2, vmax=1.2)
        for (row, column), value in np.ndenumerate(table):
            ax.text(column, row, f"{round(value, 1) + 0:.1f}", ha="center", va="center", fontsize=9)
        ax.set_title(title)
        ax.set_xticks(numbers, labels=[str(number + 1) for number in numbers])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(True)
    axes[0].set_yticks(numbers, labels=[f"{name}  {n + 1}" for n, name in enumerate(names)])
    told = "; ".join(
        f"{title}: " + ", ".join(f"{round(value, 1) + 0:.1f}" for value in table[0, 1:])
        for title, table in tables.items()
    )
    figure.set_label(
        f"Cosines between {len(names)} phrases; of “{names[0]}” with the rest: {told}."
    )
    return figure
