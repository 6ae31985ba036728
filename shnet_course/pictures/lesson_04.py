"""Pictures of lesson 04: small maps by hand, gates over a photo, and six ways to fuse levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from shnet_course.pictures.base import AMOUNT, PALETTE, SIGNED, TARGET

LEVEL_COLOURS = {2: PALETTE[4], 3: PALETTE[0], 4: PALETTE[2]}  # the same in every picture


def draw_maps(maps: Mapping[str, np.ndarray], signs: Sequence[str]) -> Figure:
    """Small maps (H, W) in a row with their numbers, and between them what is done: "x", "+", "=".

    One sign fewer than maps. All share one colour scale, orange below zero and blue above.
    """
    largest = max(float(np.abs(values).max()) for values in maps.values())
    figure = Figure(figsize=(min(10, 1.9 * len(maps)), 2.1), layout="constrained", dpi=100)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (name, values), sign in zip(axes, maps.items(), [*signs, ""], strict=True):
        ax.imshow(values, cmap=SIGNED, vmin=-largest, vmax=largest)
        for (y, x), value in np.ndenumerate(values):
            ax.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=11)
        ax.set_title(name, fontsize=11)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.text(1.11, 0.5, sign, transform=ax.transAxes, ha="center", va="center", fontsize=15)
    return figure


def draw_nine_values(nine: np.ndarray, large: np.ndarray) -> Figure:
    """One output channel of a convolution over a tiled vector: a 3 x 3 grid, and a larger one.

    `nine` (3, 3) and `large` (H, W). A cell of the large grid shows the number of the small one's
    cell whose value it has.

    Raises:
        ValueError: a cell of the large grid has a value that the small one does not.
    """
    distance = np.abs(large[..., None] - nine.flatten())
    if distance.min(-1).max() > 1e-5:
        raise ValueError("the large grid has a value that none of the nine is")
    which = distance.argmin(-1)
    figure = Figure(figsize=(7.6, 3.7), layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2)
    largest = float(np.abs(nine).max())
    for ax, values in ((left, nine), (right, large)):
        image = ax.imshow(values, cmap=SIGNED, vmin=-largest, vmax=largest)
        ax.set_xticks([])
        ax.set_yticks([])
    for number, (y, x) in enumerate(np.ndindex(3, 3), start=1):
        text = f"{number}\n{nine[y, x]:.2f}"
        left.text(x, y, text, ha="center", va="center", fontsize=11)
    for (y, x), number in np.ndenumerate(which):
        right.text(x, y, str(number + 1), ha="center", va="center", fontsize=9)
    left.set_title("convolved on a 3 x 3 grid", fontsize=11)
    right.set_title(f"convolved on the {large.shape[0]} x {large.shape[1]} grid", fontsize=11)
    figure.colorbar(image, ax=[left, right], shrink=0.8).ax.tick_params(labelsize=9)
    return figure


def draw_affinity(
    photo: np.ndarray, affinity: np.ndarray, channels: Sequence[int], title: str
) -> Figure:
    """One affinity Lambda_ij over its photo: the mean of all channels, then single `channels`.

    `affinity` (C, H, W) lies between 0, which keeps everything out, and 1, which lets all through.
    """
    shown = {f"mean of {len(affinity)} channels": affinity.mean(0)}
    shown |= {f"channel {channel}": affinity[channel] for channel in channels}
    figure = Figure(figsize=(10, 2.4), layout="constrained", dpi=100)
    first, *axes = figure.subplots(1, 1 + len(shown))
    first.imshow(photo)
    first.set_title("photo", fontsize=10)
    first.set_axis_off()
    for ax, (name, values) in zip(axes, shown.items(), strict=True):
        image = ax.imshow(values, cmap=AMOUNT, vmin=0, vmax=1)
        ax.set_title(name, fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
    figure.colorbar(image, ax=axes, shrink=0.8, label="gate").ax.tick_params(labelsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_affinity_of(
    photo: np.ndarray, affinities: Mapping[tuple[int, int], np.ndarray], pair: tuple[int, int]
) -> Figure:
    """`draw_affinity` of one pair (i, j) of levels, with the four channels that vary most.

    `affinities` is what inside.affinities_inside gives, as arrays.
    """
    affinity = affinities[pair]
    title = f"Λ$_{{{pair[0]}{pair[1]}}}$: what level {pair[0]} lets in of level {pair[1]}"
    return draw_affinity(photo, affinity, most_varied(affinity), title)


def describe_affinity_of(
    photo: np.ndarray, affinities: Mapping[tuple[int, int], np.ndarray], pair: tuple[int, int]
) -> str:
    """The same in words, for those who cannot see it."""
    affinity = affinities[pair]
    mean = affinity.mean(0)
    channels = ", ".join(str(channel) for channel in most_varied(affinity))
    return (
        f"The affinity of levels {pair[0]} and {pair[1]}: averaged over its channels it runs from "
        f"{mean.min():.2f} to {mean.max():.2f}; channels {channels} vary most over the grid."
    )


def most_varied(affinity: np.ndarray, count: int = 4) -> list[int]:
    """The channels of (C, H, W) that differ most from pixel to pixel, most first."""
    varied = affinity.reshape(len(affinity), -1).var(-1)
    return np.argsort(-varied, kind="stable")[:count].tolist()


def draw_inside_outside(
    inside: Mapping[str, Sequence[float]], outside: Mapping[str, Sequence[float]]
) -> Figure:
    """How open gates stand in the target and elsewhere: a dot a phrase, a column a pair of levels.

    Both map a column's name to one number a phrase, in the same order.
    """
    figure = Figure(figsize=(9, 3.3), layout="constrained", dpi=100)
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
    ax.set_xticks(range(len(inside)), inside, fontsize=10)
    ax.set_ylim(0, 1)
    ax.set_xlabel("affinity", fontsize=10)
    ax.set_ylabel("mean gate", fontsize=10)
    ax.tick_params(axis="y", labelsize=9)
    ax.legend(fontsize=10, ncols=3, loc="upper right")
    ax.grid(alpha=0.3, axis="y")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


# --- the diagrams of Tables 2 and 4 ---------------------------------------------------------------


@dataclass(frozen=True)
class Diagram:
    """Boxes by name: (label, x, y, width) in a picture of 100 x 60; and arrows between them."""

    title: str
    says: str
    boxes: Mapping[str, tuple[str, float, float, float]]
    arrows: Sequence[tuple[str, str]]


HEIGHT = 10  # of a box
_LEVELS = {
    "2": ("$f^v_2$", 8, 10, 11),
    "3": ("$f^v_3$", 8, 30, 11),
    "4": ("$f^v_4$", 8, 50, 11),
}

DIAGRAMS = {
    "hcam": Diagram(
        "HCAM (the paper, Figure 3)",
        "each level takes from the other two,\nthrough a gate that their sentence opens",
        _LEVELS
        | {
            "a2": ("+ Λ$_{23}$∘$f^v_3$ + Λ$_{24}$∘$f^v_4$", 42, 10, 40),
            "a3": ("+ Λ$_{32}$∘$f^v_2$ + Λ$_{34}$∘$f^v_4$", 42, 30, 40),
            "a4": ("+ Λ$_{42}$∘$f^v_2$ + Λ$_{43}$∘$f^v_3$", 42, 50, 40),
            "conv": ("Conv3D", 76, 30, 16),
            "out": ("G", 94, 30, 8),
        },
        [("2", "a2"), ("3", "a3"), ("4", "a4")]
        + [("a2", "conv"), ("a3", "conv"), ("a4", "conv"), ("conv", "out")],
    ),
    "conv3d": Diagram(
        "Conv3D (Table 2, row 5)",
        "stack the levels, one 3 x 3 x 3 kernel;\nHCAM without the exchange",
        _LEVELS | {"conv": ("Conv3D", 52, 30, 18), "out": ("G", 92, 30, 9)},
        [("2", "conv"), ("3", "conv"), ("4", "conv"), ("conv", "out")],
    ),
    "convlstm": Diagram(
        "ConvLSTM (Table 2, row 4)",
        "the levels one after the other;\nthe last state is the answer",
        _LEVELS
        | {
            "l2": ("ConvLSTM", 40, 10, 22),
            "l3": ("ConvLSTM", 40, 30, 22),
            "l4": ("ConvLSTM", 40, 50, 22),
            "out": ("G", 92, 50, 9),
        },
        [("2", "l2"), ("3", "l3"), ("4", "l4"), ("l2", "l3"), ("l3", "l4"), ("l4", "out")],
    ),
    "mgate": Diagram(
        "MGATE (Table 4)",
        "each level's own gates decide how much\nof the other two's memory it takes",
        _LEVELS
        | {
            "m2": ("gates of 2: memory of 3, 4", 43, 10, 44),
            "m3": ("gates of 3: memory of 2, 4", 43, 30, 44),
            "m4": ("gates of 4: memory of 2, 3", 43, 50, 44),
            "sum": ("+", 78, 30, 8),
            "out": ("G", 93, 30, 9),
        },
        [("2", "m2"), ("3", "m3"), ("4", "m4")]
        + [("m2", "sum"), ("m3", "sum"), ("m4", "sum"), ("sum", "out")],
    ),
    "tgfe": Diagram(
        "TGFE (Table 4)",
        "a level and the sentence make one vector;\nit gates what the others send. Twice",
        _LEVELS
        | {
            "r2": ("+ gate$_2$∘(3, 4)", 33, 10, 24),
            "r3": ("+ gate$_3$∘(2, 4)", 33, 30, 24),
            "r4": ("+ gate$_4$∘(2, 3)", 33, 50, 24),
            "s2": ("+ gate$_2$∘(3, 4)", 63, 10, 24),
            "s3": ("+ gate$_3$∘(2, 4)", 63, 30, 24),
            "s4": ("+ gate$_4$∘(2, 3)", 63, 50, 24),
            "sum": ("+", 83, 30, 6),
            "out": ("G", 95, 30, 8),
        },
        [("2", "r2"), ("3", "r3"), ("4", "r4"), ("r2", "s2"), ("r3", "s3"), ("r4", "s4")]
        + [("s2", "sum"), ("s3", "sum"), ("s4", "sum"), ("sum", "out")],
    ),
    "gbfm": Diagram(
        "GBFM (Table 4)",
        "gate(a, b): what a passes on to b;\nfrom both ends at once",
        _LEVELS
        | {
            "d43": ("gate(4, 3)", 35, 50, 20),
            "d32": ("gate(3, 2)", 35, 36.5, 20),
            "u34": ("gate(3, 4)", 35, 23.5, 20),
            "u23": ("gate(2, 3)", 35, 10, 20),
            "down": ("gate", 60, 43, 12),
            "up": ("gate", 60, 17, 12),
            "sum": ("+, conv", 79, 30, 15),
            "out": ("G", 95, 30, 8),
        },
        [("4", "d43"), ("3", "d43"), ("3", "d32"), ("2", "d32"), ("3", "u34"), ("4", "u34")]
        + [("2", "u23"), ("3", "u23"), ("d43", "down"), ("d32", "down"), ("u23", "up")]
        + [("u34", "up"), ("down", "sum"), ("up", "sum"), ("sum", "out")],
    ),
}


def draw_fusions(names: Sequence[str]) -> Figure:
    """Diagrams of ways to make one map of three levels; `names` as in model.fusion's FUSIONS.

    KeyError where there is no such diagram.
    """
    diagrams = [DIAGRAMS[name] for name in names]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(5 * columns, 3.3 * rows), layout="constrained", dpi=100)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, diagram in zip(axes.flat, diagrams, strict=False):
        _draw_diagram(ax, diagram)
    return figure


def _draw_diagram(ax: Axes, diagram: Diagram) -> None:
    for name, (label, x, y, width) in diagram.boxes.items():
        level = name in ("2", "3", "4")
        box = FancyBboxPatch(
            (x - width / 2, y - HEIGHT / 2),
            width,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=1.5",
            facecolor=LEVEL_COLOURS[int(name)] if level else "0.95",
            alpha=0.35 if level else 1,
            edgecolor="0.4",
        )
        ax.add_patch(box)
        ax.text(x, y, label, ha="center", va="center", fontsize=10)
    for start, end in diagram.arrows:
        ax.add_patch(_arrow(diagram.boxes[start], diagram.boxes[end]))
    ax.set(xlim=(0, 100), ylim=(2, 72))
    ax.set_title(diagram.title, fontsize=11, fontweight="bold")
    ax.text(50, 72, diagram.says, ha="center", va="top", fontsize=10)


def _arrow(start: tuple, end: tuple) -> FancyArrowPatch:
    """From side to side; from top to bottom where one box stands above the other."""
    _, x, y, width = start
    _, end_x, end_y, end_width = end
    if x == end_x:
        step = HEIGHT / 2 if end_y > y else -HEIGHT / 2
        places = (x, y + step), (end_x, end_y - step)
    else:
        places = (x + width / 2, y), (end_x - end_width / 2, end_y)
    return FancyArrowPatch(*places, arrowstyle="-|>", mutation_scale=10, color="0.35", shrinkA=0)
