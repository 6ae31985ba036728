"""Pictures of lesson 02: feature levels, what a grid can hold, LSTM states, drifting features."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from shnet_course.pictures.base import PALETTE
from shnet_lib.data.text import Vocabulary, tokenize
from shnet_lib.model.features import WordEncoder

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


def draw_levels(photo: np.ndarray, levels: Sequence[Tensor]) -> Figure:
    """A photo (H, W, 3) and its levels, each (C, h, w), as principal_colours shows them."""
    figure = Figure(figsize=(10, 2.9), layout="constrained", dpi=100)
    axes = figure.subplots(1, 1 + len(levels))
    axes[0].imshow(photo)
    axes[0].set_title(f"photo, {photo.shape[1]} x {photo.shape[0]}", fontsize=10)
    for ax, number, level in zip(axes[1:], LEVELS, levels, strict=True):
        channels, height, width = level.shape
        ax.imshow(principal_colours(level), interpolation="nearest")
        ax.set_title(f"level {number}: {channels} x {height} x {width}", fontsize=10)
    for ax in axes:
        ax.set_axis_off()
    return figure


def draw_channel(photo: np.ndarray, levels: Sequence[Tensor], level: int, channel: int) -> Figure:
    """A photo and one channel of one of its levels (2, 3 or 4), laid beside it and over it.

    ValueError where there is no such level, IndexError where it has no such channel.
    """
    answer = levels[LEVELS.index(level)][channel].numpy()
    height, width = photo.shape[:2]
    figure = Figure(figsize=(9, 3.1), layout="constrained", dpi=100)
    left, middle, right = figure.subplots(1, 3)
    left.imshow(photo)
    left.set_title("photo", fontsize=10)
    seen = middle.imshow(answer, cmap="viridis", interpolation="nearest")
    middle.set_title(f"level {level}, channel {channel}", fontsize=10)
    figure.colorbar(seen, ax=middle, shrink=0.8).ax.tick_params(labelsize=9)
    right.imshow(photo.mean(-1), cmap="gray", extent=(0, width, height, 0))
    right.imshow(
        answer, cmap="viridis", alpha=0.5, extent=(0, width, height, 0), interpolation="nearest"
    )
    right.set_title("one over the other", fontsize=10)
    for ax in (left, middle, right):
        ax.set_axis_off()
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


def shrink(masks: Tensor, times: int) -> Tensor:
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
    figure = Figure(figsize=(10, 2.1), layout="constrained", dpi=100)
    axes = figure.subplots(1, 1 + len(grids))
    pictures = [mask] + [on_grid(mask[None], grid)[0] for grid in grids]
    titles = [f"mask, {size} x {size}"] + [f"grid {grid} x {grid}" for grid in grids]
    for ax, picture, title in zip(axes, pictures, titles, strict=True):
        ax.imshow(picture, cmap="Blues", vmin=0, vmax=1.8, extent=(0, size, size, 0))
        ax.contour(centres, centres, outlined, [0.5], colors=PALETTE[1], linewidths=1.5)
        lines = np.linspace(0, size, len(picture) + 1) if picture is not mask else []
        ax.set_xticks(lines, labels=[])
        ax.set_yticks(lines, labels=[])
        ax.tick_params(length=0)
        ax.grid(color="0.75", linewidth=0.6)
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set_title(title, fontsize=10)
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
    figure = Figure(figsize=(7, 3.2), layout="constrained", dpi=100)
    ax = figure.subplots()
    places = np.arange(len(grids))
    for (name, values), colour, mark in zip(shares.items(), PALETTE, "osD^vPX*", strict=False):
        ax.plot(places, 100 * np.asarray(values), f"{mark}-", color=colour, label=name)
    ax.set_xticks(places, labels=[f"{grid} x {grid}" for grid in grids])
    ax.set(xlabel="grid", ylabel="% of the things that survive", ylim=(0, 103))
    ax.legend(fontsize=9, title="things", title_fontsize=9)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


# ---------------------------------------------------------------- words


def draw_states(encoder: WordEncoder, vocabulary: Vocabulary, phrase: str) -> Figure:
    """The LSTM's state after each word of a phrase, and how far each word moved it.

    A phrase without a word is read as one unknown word.
    """
    ids = vocabulary.encode(phrase)
    labels = tokenize(phrase, vocabulary.keep_numbers)[: len(ids)] or ["(no word)"]
    unknown = vocabulary.unknown(phrase)
    labels = [f"{label} (unknown)" if label in unknown else label for label in labels]
    with torch.no_grad():
        states = encoder(torch.tensor([ids]))[0]  # (T, C)
    before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
    moved = (states - before).norm(dim=1).numpy()
    figure = Figure(figsize=(9, 1.6 + 0.32 * len(ids)), layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2, width_ratios=(2.4, 1))
    most = states.abs().max().item()
    seen = left.imshow(
        states, cmap="PuOr", vmin=-most, vmax=most, aspect="auto", interpolation="nearest"
    )
    left.set_yticks(range(len(labels)), labels=labels)
    left.set_xlabel("channel of the state")
    figure.colorbar(seen, ax=left).ax.tick_params(labelsize=9)
    right.barh(range(len(labels)), moved, color=PALETTE[0])
    right.set_yticks([])
    right.set_ylim(len(labels) - 0.5, -0.5)
    right.set_xlabel("distance from the state before")
    right.spines[["top", "right"]].set_visible(False)
    return figure


# ---------------------------------------------------------------- frozen, or not


def draw_drift(changes: Mapping[str, np.ndarray]) -> Figure:
    """How far features have moved after each batch: name -> (batches + 1, levels), relative."""
    figure = Figure(figsize=(9, 3.2), layout="constrained", dpi=100)
    axes = figure.subplots(1, len(changes), sharey=True)
    for ax, (name, moved) in zip(np.atleast_1d(axes), changes.items(), strict=True):
        for number, line, colour, mark in zip(LEVELS, moved.T, PALETTE, "osD", strict=False):
            ax.plot(100 * line, f"{mark}-", color=colour, label=f"level {number}", markersize=4)
        ax.set(xlabel="batches seen", title=name)
        ax.title.set_fontsize(10)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].set_ylabel("change of the features, %")
    np.atleast_1d(axes)[0].legend(fontsize=9)
    return figure
