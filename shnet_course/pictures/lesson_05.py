"""Pictures of lesson 05: taps, up-sampling, gradients, a scene's way through the network, cost.

Each figure's label says in words what it shows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from shnet_course.measure.trace import Flow, Shape
from shnet_course.pictures.base import (
    AMOUNT,
    PALETTE,
    SIGNED,
    draw_mask,
    frame,
    grid_of,
    iou_of,
)

ASPP_RATES = (6, 12, 24)


def taps_inside(grid: int, rate: int) -> np.ndarray:
    """How many of the 9 taps of a 3 x 3 kernel at that rate fall on the map, at each of its pixels.

    (grid, grid) int. The other taps read the padding's zeros.
    """
    middle = np.arange(grid)
    along = sum(((middle + step >= 0) & (middle + step < grid)) for step in (-rate, 0, rate))
    return np.outer(along, along)


def draw_taps(grid: int) -> Figure:
    """For ASPP's three rates, at each pixel of a grid, the taps that read the map."""
    figure, axes = grid_of(len(ASPP_RATES), len(ASPP_RATES), cell=3.0)
    for ax, rate in zip(axes, ASPP_RATES, strict=True):
        inside = taps_inside(grid, rate)
        image = ax.imshow(inside, cmap="cividis", vmin=0, vmax=9)
        outside = 1 - inside.mean() / 9
        ax.set_title(f"rate {rate}: {outside:.0%} of the taps\nread padding")
        ax.set(xticks=[0, grid - 1], yticks=[0, grid - 1])
        ax.set_xlabel("column")
    axes[0].set_ylabel("row")
    bar = figure.colorbar(image, ax=axes, ticks=range(0, 10, 3), shrink=0.8)
    bar.set_label("taps on the map, of 9")
    shares = [f"{1 - taps_inside(grid, rate).mean() / 9:.0%} at rate {rate}" for rate in ASPP_RATES]
    figure.set_label(
        f"Three maps of a {grid} by {grid} grid: at each cell, how many of the nine taps fall on "
        f"the map. Padding is read by {', '.join(shares)}."
    )
    return figure


def draw_planes(planes: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Maps of numbers from 0 (dark) to 1 (light) side by side, each pixel a square."""
    figure, axes = grid_of(len(planes), len(planes), cell=2.5)
    for ax, plane, title in zip(axes, planes, titles, strict=True):
        ax.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title)
        ax.set_axis_off()
    figure.set_label(f"Maps from dark (0) to light (1), side by side: {'; '.join(titles)}.")
    return figure


def draw_gradients(logits: np.ndarray, curves: dict[str, np.ndarray]) -> Figure:
    """The gradient against the logit of a background pixel; a curve for each way to the loss."""
    figure = Figure(figsize=(8, 3.2))
    ax = figure.subplots()
    for row, (name, gradient) in enumerate(curves.items()):
        colour, style = PALETTE[row], ("-", "--", ":")[row]
        ax.plot(logits, gradient, style, color=colour, linewidth=2.5, label=name)
    ax.set_xlabel("logit of a background pixel: further right is more wrong")
    ax.set_ylabel("gradient of the loss")
    ax.set_ylim(-0.05, 1.1)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(curves))
    ax.grid(alpha=0.3)
    ends = "; ".join(
        f"{name}, at most {gradient.max():.2f} and {gradient[-1]:.2f} at logit {logits[-1]:g}"
        for name, gradient in curves.items()
    )
    figure.set_label(f"The gradient against the logit of a background pixel: {ends}.")
    return figure


# --- one scene, from phrase to mask ---------------------------------------------------------------


def draw_words_alike(words: Sequence[str], alike: np.ndarray) -> Figure:
    """How alike the features of a phrase's words are: cosines (T, T), with their numbers."""
    side = 1.6 + 0.75 * len(words)
    figure = Figure(figsize=(side + 0.6, side))
    ax = figure.subplots()
    image = ax.imshow(alike, cmap=SIGNED, vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(alike):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=11)
    ax.set_xticks(range(len(words)), words)
    ax.set_yticks(range(len(words)), words)
    ax.spines[:].set_visible(True)
    figure.colorbar(image, ax=ax, shrink=0.8, label="cosine")
    apart = alike + 2 * np.eye(len(words))
    first, second = np.unravel_index(apart.argmin(), apart.shape)
    figure.set_label(
        f"The cosine of each pair of the words {', '.join(words)}. Least alike are "
        f"{words[first]} and {words[second]}, {alike[first, second]:.2f}."
    )
    return figure


def draw_cells_alike(
    photo: np.ndarray, maps: Mapping[str, np.ndarray], cell: tuple[int, int]
) -> Figure:
    """How alike all cells of a grid are to one `cell` (y, x), framed: a cosine for each, (H, W).

    One picture per entry of `maps`, beside the photo (H, W, 3).
    """
    figure = Figure(figsize=(2.5 * (1 + len(maps)), 2.9))
    first, *axes = figure.subplots(1, 1 + len(maps))
    height, width = photo.shape[:2]
    rows, columns = next(iter(maps.values())).shape
    first.imshow(photo)
    first.set_title("scene, and the cell")
    _mark_cell(first, cell, height / rows, width / columns)
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(values, cmap=SIGNED, vmin=-1, vmax=1)
        ax.set_title(title)
        _mark_cell(ax, cell, 1, 1)
    for ax in (first, *axes):
        frame(ax)
    figure.colorbar(image, ax=axes, shrink=0.8, label="cosine")
    told = "; ".join(
        f"{title.replace('$', '')}: {(values > 0.5).sum()} cells" for title, values in maps.items()
    )
    figure.set_label(
        f"The scene with a frame around cell {tuple(cell)}, and maps of how alike every cell is to "
        f"it. With a cosine above 0.5: {told}."
    )
    return figure


def _mark_cell(ax: Axes, cell: tuple[int, int], height: float, width: float) -> None:
    y, x = cell
    corner = (x * width - 0.5, y * height - 0.5)
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=PALETTE[5], linewidth=2.5))


def draw_gates(gates: Mapping[tuple[int, int], np.ndarray]) -> Figure:
    """Of each affinity Lambda_ij (C, H, W), by (i, j): the channel that varies most."""
    figure, axes = grid_of(len(gates), 3, cell=2.7)
    told = []
    for ax, ((i, j), affinity) in zip(axes, gates.items(), strict=True):
        channel = int(affinity.reshape(len(affinity), -1).var(-1).argmax())
        image = ax.imshow(affinity[channel], cmap=AMOUNT, vmin=0, vmax=1)
        ax.set_title(f"Λ$_{{{i}{j}}}$, channel {channel}")
        frame(ax)
        values = affinity[channel]
        told.append(f"Λ{i}{j} channel {channel} from {values.min():.2f} to {values.max():.2f}")
    figure.colorbar(image, ax=axes, shrink=0.8, label="gate: 0 shut, 1 open")
    figure.set_label(f"Six gates over the grid, one channel each: {'; '.join(told)}.")
    return figure


def draw_last_steps(
    photo: np.ndarray, logits: np.ndarray, mask: np.ndarray, target: np.ndarray, phrase: str
) -> Figure:
    """Logits on the decoder's grid; the mask (orange) and the target (blue) over the picture."""
    figure = Figure(figsize=(9, 3.9))
    left, right = figure.subplots(1, 2)
    limit = min(float(np.abs(logits).max()), 15)  # beyond it a pixel is as sure as can be
    image = left.imshow(logits, cmap=SIGNED, vmin=-limit, vmax=limit)
    height, width = logits.shape
    left.set_title(f"logits, {height} × {width}")
    frame(left)
    figure.colorbar(image, ax=left, shrink=0.8, label="logit: above 0 is marked")
    iou = iou_of(mask, target)
    draw_mask(right, photo, f"“{phrase}”: IoU {iou:.2f}", target, mask)
    figure.set_label(
        f"The logits on {height} by {width} cells, from {logits.min():.0f} to {logits.max():.0f}, "
        f"and the mask for “{phrase}”: {mask.mean():.1%} of the picture, IoU {iou:.2f}."
    )
    return figure


def shape_text(shapes: Sequence[Shape]) -> str:
    """(5, 25, 512) -> "5×25×512", a line each; equal neighbours share one, "3 of 5×25×512"."""
    lines: list[list] = []
    for shape in shapes:
        if lines and lines[-1][1] == shape:
            lines[-1][0] += 1
        else:
            lines.append([1, shape])
    return "\n".join(
        f"{times} of " * (times > 1) + "×".join(map(str, shape)) for times, shape in lines
    )


# Middle x, middle y, width, height of each part's box, in a picture of 100 x 54
_PLACES = {
    "backbone": (15.5, 38, 8, 30),
    "projections.0": (40, 49, 11, 8),
    "projections.1": (40, 38, 11, 8),
    "projections.2": (40, 27, 11, 8),
    "word_encoder": (40, 16, 11, 8),
    "sfm": (62, 32.5, 8, 41),
    "fusion": (84, 32.5, 11, 41),
    "aspp": (75, 4, 9, 7),
    "upsample": (50, 4, 14, 7),
    "mask_logits": (25, 4, 11, 7),
}
_LABELS = {
    "projections.0": "level 2\nto the grid",
    "projections.1": "level 3\nto the grid",
    "projections.2": "level 4\nto the grid",
    "word_encoder": "words,\nLSTM",
    "upsample": "Upsampling-\nConvolution",
    "mask_logits": "bilinear",
    "backbone": "back-\nbone",
}
_LANES = (49, 38, 27, 16)  # the y of the levels 2, 3, 4 and of the words


def draw_trace(rows: Sequence[Flow]) -> Figure:
    """Figure 2 of the paper with the shapes that really went along its arrows.

    `rows` are trace_shapes' of a batch that holds images. A network without SFM has none drawn.

    Raises:
        ValueError: the backbone did not run, since the batch held frozen `levels`.
    """
    flow = {row.part: row for row in rows}
    if "backbone" not in flow:
        raise ValueError("no backbone in the trace: trace a batch that holds images, not levels")
    figure = Figure(figsize=(10, 5.4))
    ax = figure.subplots()
    ax.set(xlim=(0, 100), ylim=(-1, 54))
    ax.set_axis_off()

    def left(part: str) -> float:
        return _PLACES[part][0] - _PLACES[part][2] / 2

    def right(part: str) -> float:
        return _PLACES[part][0] + _PLACES[part][2] / 2

    def arrow(start: tuple[float, float], end: tuple[float, float], shapes: Sequence[Shape]):
        ax.annotate(
            "", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.35", "shrinkA": 0,
            "shrinkB": 0},
        )  # fmt: skip
        x, y = (start[0] + end[0]) / 2, start[1]
        ax.text(x, y + 0.6, shape_text(shapes), fontsize=9, ha="center", va="bottom")

    for part, row in flow.items():
        x, y, width, height = _PLACES[part]
        colour = "0.9" if part == "backbone" else "#CFE5F3"
        ax.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                label=part,
                facecolor=colour,
                boxstyle="round,pad=0,rounding_size=1",
                edgecolor=PALETTE[0],
            )  # fmt: skip
        )
        ax.text(x, y, _LABELS.get(part, row.kind), ha="center", va="center", fontsize=9.5)

    arrow((0, 38), (left("backbone"), 38), flow["backbone"].inputs)
    arrow((12, 16), (left("word_encoder"), 16), flow["word_encoder"].inputs)
    for lane, level in enumerate(("projections.0", "projections.1", "projections.2")):
        y = _LANES[lane]
        arrow((right("backbone"), y), (left(level), y), flow[level].inputs)
    after = "sfm" if "sfm" in flow else "fusion"
    sources = ("projections.0", "projections.1", "projections.2", "word_encoder")
    for lane, source in enumerate(sources):
        arrow(
            (right(source), _LANES[lane]), (left(after), _LANES[lane]), [flow[after].inputs[lane]]
        )
    if after == "sfm":
        outputs = flow["sfm"].outputs  # three levels, then the words of each
        for lane, shapes in enumerate(([outputs[0]], [outputs[1]], [outputs[2]], outputs[3:])):
            arrow((right("sfm"), _LANES[lane]), (left("fusion"), _LANES[lane]), shapes)

    ax.plot([84, 84], [12, 4], color="0.35", linewidth=1)
    ax.text(85, 7, shape_text(flow["fusion"].outputs), fontsize=9, va="center")
    ax.annotate("", (right("aspp"), 4), (84, 4), arrowprops={"arrowstyle": "-|>", "color": "0.35"})
    arrow((left("aspp"), 4), (right("upsample"), 4), flow["aspp"].outputs)
    arrow((left("upsample"), 4), (right("mask_logits"), 4), flow["upsample"].outputs)
    arrow((left("mask_logits"), 4), (6, 4), flow["mask_logits"].outputs)
    for x, y, label in ((0, 34.5, "images"), (12, 12.5, "words"), (6, 0.5, "mask_logits")):
        ax.text(x, y, label, weight="bold", ha="left")
    parts = "; ".join(f"{row.part} {shape_text(row.outputs[:1])}" for row in rows)
    figure.set_label(f"Figure 2 as boxes and arrows; the shapes that leave each part: {parts}.")
    return figure


def draw_cost(rows: Sequence[tuple[str, float, float]]) -> Figure:
    """Of each part, in the order of Figure 2: millions of trained parameters, and GFLOP."""
    names = [name for name, _, _ in rows]
    figure = Figure(figsize=(9, 3.2))
    titles = ("trained parameters, millions", "GFLOP per photo and expression")
    for column, (ax, title) in enumerate(zip(figure.subplots(1, 2), titles, strict=True)):
        values = [row[1 + column] for row in rows]
        bars = ax.barh(names, values, color=PALETTE[column])
        ax.bar_label(bars, [f"{value:.1f}" for value in values], padding=3, fontsize=9)
        ax.set_title(title)
        ax.set_xlim(0, 1.15 * max(values))
        ax.invert_yaxis()
    told = "; ".join(f"{name} {size:.1f} and {work:.1f}" for name, size, work in rows)
    figure.set_label(f"Bars per part, trained parameters in millions and GFLOP: {told}.")
    return figure
