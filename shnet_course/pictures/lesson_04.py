"""Pictures of lesson 04: small maps by hand, Figure 3, and gates over scenes.

Each figure's label says in words what it shows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from shnet_course.pictures.base import AMOUNT, PALETTE, SIGNED, TARGET, frame, grid_of

LEVEL_COLOURS = {2: PALETTE[4], 3: PALETTE[0], 4: PALETTE[2]}  # the same in every picture


def draw_maps(maps: Mapping[str, np.ndarray], signs: Sequence[str]) -> Figure:
    """Small maps (H, W) in a row with their numbers, and between them what is done: "x", "+", "=".

    One sign fewer than maps. All share one colour scale, orange below zero and blue above.
    """
    largest = max(float(np.abs(values).max()) for values in maps.values())
    figure = Figure(figsize=(min(10, 1.9 * len(maps)), 2.1))
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (name, values), sign in zip(axes, maps.items(), [*signs, ""], strict=True):
        ax.imshow(values, cmap=SIGNED, vmin=-largest, vmax=largest)
        for (y, x), value in np.ndenumerate(values):
            ax.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=11)
        ax.set_title(name)
        frame(ax)
        ax.text(1.11, 0.5, sign, transform=ax.transAxes, ha="center", va="center", fontsize=15)
    told = "; ".join(
        f"{name.replace('$', '')} {', '.join(f'{value:.2f}' for value in values.flatten())}"
        for name, values in maps.items()
    )
    figure.set_label(f"Small maps in a row, joined by {' '.join(signs)}: {told}.")
    return figure


def draw_affinity(
    photo: np.ndarray, affinity: np.ndarray, channels: Sequence[int], title: str
) -> Figure:
    """One affinity Lambda_ij over its photo: the mean of all channels, then single `channels`.

    `affinity` (C, H, W) lies between 0, which keeps everything out, and 1, which lets all through.
    """
    shown = {f"mean of {len(affinity)} channels": affinity.mean(0)}
    shown |= {f"channel {channel}": affinity[channel] for channel in channels}
    figure, (first, *axes) = grid_of(1 + len(shown), 3, cell=2.7)
    first.imshow(photo)
    first.set_title("scene")
    first.set_axis_off()
    for ax, (name, values) in zip(axes, shown.items(), strict=True):
        image = ax.imshow(values, cmap=AMOUNT, vmin=0, vmax=1)
        ax.set_title(name)
        frame(ax)
    figure.colorbar(image, ax=axes, shrink=0.8, label="gate")
    figure.suptitle(title)
    return figure


def draw_affinity_of(
    photo: np.ndarray, affinities: Mapping[tuple[int, int], np.ndarray], pair: tuple[int, int]
) -> Figure:
    """`draw_affinity` of one pair (i, j) of levels, with the four channels that vary most.

    `affinities` is what inside.affinities_inside gives, as arrays.
    """
    affinity = affinities[pair]
    title = f"Λ$_{{{pair[0]}{pair[1]}}}$: what level {pair[0]} lets in of level {pair[1]}"
    channels = most_varied(affinity)
    figure = draw_affinity(photo, affinity, channels, title)
    mean = affinity.mean(0)
    figure.set_label(
        f"The affinity of levels {pair[0]} and {pair[1]}: averaged over its channels it runs from "
        f"{mean.min():.2f} to {mean.max():.2f}; channels {', '.join(map(str, channels))} vary most."
    )
    return figure


def most_varied(affinity: np.ndarray, count: int = 4) -> list[int]:
    """The channels of (C, H, W) that differ most from pixel to pixel, most first."""
    varied = affinity.reshape(len(affinity), -1).var(-1)
    return np.argsort(-varied, kind="stable")[:count].tolist()


def draw_inside_outside(
    inside: Mapping[str, Sequence[float]], outside: Mapping[str, Sequence[float]]
) -> Figure:
    """How open gates stand in the target and elsewhere: a dot per phrase, a column per pair.

    Both map a column's name to one number per phrase, in the same order.
    """
    figure = Figure(figsize=(9, 3.3))
    ax = figure.subplots()
    for column, name in enumerate(inside):
        for values, shift, colour, mark in (
            (inside[name], -0.15, TARGET, "o"),
            (outside[name], 0.15, PALETTE[1], "s"),
        ):
            places = np.full(len(values), column + shift)
            ax.plot(places, values, mark, color=colour, alpha=0.35, markersize=4)
            ax.plot(column + shift, np.mean(values), "_", color="black", markersize=22)
    ax.plot([], [], "o", color=TARGET, label="in the target")
    ax.plot([], [], "s", color=PALETTE[1], label="elsewhere")
    ax.plot([], [], "_", color="black", markersize=14, label="mean")
    ax.set_xticks(range(len(inside)), inside)
    ax.set_ylim(0, 1)
    ax.set_xlabel("affinity")
    ax.set_ylabel("mean gate")
    ax.legend(ncols=3, loc="upper right")
    ax.grid(alpha=0.3, axis="y")
    told = ", ".join(f"{n} {np.mean(inside[n]) - np.mean(outside[n]):+.2f}" for n in inside)
    figure.set_label(f"Mean gate, a dot per phrase. In the target minus elsewhere: {told}.")
    return figure


def draw_channel(
    scenes: Sequence[tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]], name: str
) -> Figure:
    """One channel of a gate in several scenes, a column each: the scene, then the gate per phrase.

    Of each scene its photo (H, W, 3), the target (H, W) of the first phrase, and phrase -> gate
    (h, w). The target is outlined in blue in every picture.
    """
    rows = 1 + max(len(gates) for _, _, gates in scenes)
    size = (2.5 * len(scenes) + 0.6, 2.75 * rows)
    figure = Figure(figsize=size)
    columns = figure.subplots(rows, len(scenes), squeeze=False).T
    told = []
    for axes, (photo, target, gates) in zip(columns, scenes, strict=True):
        axes[0].imshow(photo)
        height, width = target.shape
        for ax, (phrase, gate) in zip(axes[1:], gates.items(), strict=False):
            box = (-0.5, width - 0.5, height - 0.5, -0.5)
            image = ax.imshow(gate, cmap=AMOUNT, vmin=0, vmax=1, extent=box)
            ax.set_title(f"“{phrase}”", wrap=True)
            inside = _on_grid(target, gate.shape)
            told.append(f"“{phrase}” {gate[inside].mean():.2f} in, {gate[~inside].mean():.2f} out")
        for ax in axes:
            ax.contour(target, levels=[0.5], colors="white", linewidths=3.5)
            ax.contour(target, levels=[0.5], colors=PALETTE[5], linewidths=2)
            frame(ax)
    figure.colorbar(image, ax=columns[:, 1:].ravel().tolist(), shrink=0.6, label="gate")
    figure.suptitle(name)
    figure.set_label(f"{name} in {len(scenes)} scenes; mean gate in the target: {'; '.join(told)}.")
    return figure


def _on_grid(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask (H, W) at the middles of the cells of a grid: (h, w) bool."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * pixels / cells).astype(int)
        for cells, pixels in zip(shape, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


# --- Figure 3 -------------------------------------------------------------------------------------


def draw_figure_3() -> Figure:
    """Figure 3 of the paper: above how one affinity comes about, below what is done with them.

    Level 2 asks with the sentence of level 4, in the levels' colours.
    """
    figure = Figure(figsize=(10, 5.6))
    ax = figure.subplots()
    ax.set(xlim=(0, 100), ylim=(-3, 56), aspect="equal")
    ax.set_axis_off()
    asking, asked, third = (LEVEL_COLOURS[level] for level in (2, 4, 3))

    # Eq. 2: words -> average -> tile; join with the pixels -> convolution -> sigmoid
    for number in range(4):
        ax.add_patch(Rectangle((3 + 2.4 * number, 42), 1.6, 8, facecolor=asked, edgecolor="0.2"))
    _write(ax, 7.5, 39.6, "words of level 4\n$f^l_4$: T × C")
    _join(ax, (14, 46), (21, 46), "average")
    ax.add_patch(Rectangle((21.6, 42), 1.6, 8, facecolor=asked, edgecolor="0.2"))
    _write(ax, 22.5, 39.6, "sentence\nC")
    _join(ax, (24.2, 46), (31, 46), "tile")
    _stack(ax, 32, 42.5, asked, "C × H × W", label_y=39.6)
    _stack(ax, 32, 27, asking, "pixels of level 2\n$f^v_2$: C × H × W", label_y=24)
    _join(ax, (43, 46), (49.5, 41))
    _join(ax, (43, 31), (49.5, 36))
    _write(ax, 48.5, 46, "join")
    _stack(ax, 50.5, 38, asked, "")
    _stack(ax, 50.5, 33.5, asking, "2C × H × W", label_y=30.5)
    _join(ax, (61, 38.5), (65, 38.5))
    _box(ax, 65, 34, 13, 9, "convolution\n3 × 3, from\n2C to C")
    _join(ax, (78, 38.5), (81, 38.5))
    ax.add_patch(Circle((83.4, 38.5), 2.4, facecolor="0.95", edgecolor="0.2"))
    _write(ax, 83.4, 39.7, "σ", size=14)
    _join(ax, (85.8, 38.5), (88.5, 38.5))
    _stack(ax, 89, 35, "0.75", "the gate $Λ_{24}$\nC × H × W", label_y=32)

    # Eq. 3: products, sum, convolution over depth
    ax.plot([0, 100], [19, 19], color="0.8", linewidth=1)
    y = 3
    _stack(ax, 2, y, asking, "$f^v_2$", label_y=0)
    _write(ax, 14.5, y + 5, "+", size=16)
    _stack(ax, 17, y, "0.75", "$Λ_{24}$", label_y=0)
    _write(ax, 29, y + 5, "∘", size=16)
    _stack(ax, 31, y, asked, "$f^v_4$", label_y=0)
    _write(ax, 43, y + 5, "+", size=16)
    _stack(ax, 45, y, "0.75", "$Λ_{23}$", label_y=0)
    _write(ax, 57, y + 5, "∘", size=16)
    _stack(ax, 59, y, third, "$f^v_3$", label_y=0)
    _join(ax, (69.5, y + 4), (72.5, y + 4))
    for number, colour in enumerate((asking, third, asked)):
        ax.add_patch(
            Rectangle((73, y - 0.5 + 3.2 * number), 6, 2.6, facecolor=colour, edgecolor="0.2")
        )
        _write(ax, 76, y + 2 + 3.2 * number, f"$g_{number + 2}$")
    _join(ax, (79.2, y + 4), (82, y + 4))
    _box(ax, 82, y - 0.5, 9, 9, "Conv3D")
    _join(ax, (91, y + 4), (93, y + 4))
    _box(ax, 93, y + 0.5, 6, 7, "G")
    _write(ax, 1, 55.5, "Equation 2: one gate", size=12, left=True)
    _write(ax, 1, 18, "Equation 3: the exchange, then one map of three", size=12, left=True)
    figure.set_label(
        "Figure 3 redrawn. Above: the words of level 4 are averaged to one sentence vector, tiled "
        "over the grid, joined with the pixels of level 2, convolved, and put through a sigmoid: "
        "the gate Λ24. Below: level 2 plus gate times level 4 plus gate times level 3 is g2; a "
        "Conv3D makes one map G of g2, g3 and g4."
    )
    return figure


def _stack(
    ax: Axes, x: float, y: float, colour: str, label: str, label_y: float | None = None
) -> None:
    """Channels as planes one behind the other, each a small grid; about 10 wide and 9 high."""
    for plane in (2, 1, 0):
        corner = x + 1.3 * plane, y + 1.1 * plane
        ax.add_patch(Rectangle(corner, 7, 6.5, facecolor=colour, edgecolor="0.2"))
        if plane == 0:
            for step in (1, 2):
                ax.plot([x, x + 7], [y + 6.5 * step / 3] * 2, color="0.2", linewidth=0.6)
                ax.plot([x + 7 * step / 3] * 2, [y, y + 6.5], color="0.2", linewidth=0.6)
    if label:
        _write(ax, x + 4.8, y - 0.6 if label_y is None else label_y + 1.8, label)


def _box(ax: Axes, x: float, y: float, width: float, height: float, label: str) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1",
            facecolor="0.95",
            edgecolor="0.2",
        )  # fmt: skip
    )
    ax.text(x + width / 2, y + height / 2, label, ha="center", va="center", fontsize=10.5)


def _join(ax: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    arrow = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=arrow)
    if label:
        ax.text((start[0] + end[0]) / 2, start[1] + 0.8, label, ha="center", fontsize=10.5)


def _write(ax: Axes, x: float, y: float, text: str, size: float = 10.5, left: bool = False) -> None:
    """Text that hangs from (x, y)."""
    ax.text(x, y, text, ha="left" if left else "center", va="top", fontsize=size)
