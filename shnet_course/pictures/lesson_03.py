"""Pictures of lesson 03: one sequence of pixels and words, its attention, positions and memory."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from shnet_course.pictures.base import AMOUNT, PALETTE, SIGNED, TARGET, cut_into_cells

BLOCKS = {  # who asks and who is asked -> the colour of that block of the attention map
    "pixel-pixel": TARGET,
    "pixel-word": PALETTE[5],
    "word-pixel": PALETTE[2],
    "word-word": PALETTE[3],
}
PIXEL, WORD = TARGET, PALETTE[5]


def draw_sequence(photo: np.ndarray, grid: int, words: Sequence[str]) -> Figure:
    """A photo cut into grid x grid pixels, a phrase cut into words, and the one row they make.

    `photo` is (height, width, 3) uint8. A pixel of the real grid is a vector, not a piece of photo:
    the pieces only show where it stands.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=100)
    spaces = figure.subplot_mosaic(
        [["photo", "words"], ["row", "row"]], height_ratios=[2.6, 1], width_ratios=[1, 2]
    )
    height, width = photo.shape[:2]
    spaces["photo"].imshow(photo)
    for line in range(1, grid):
        spaces["photo"].axhline(line * height / grid - 0.5, color="white", linewidth=1.5)
        spaces["photo"].axvline(line * width / grid - 0.5, color="white", linewidth=1.5)
    spaces["photo"].set_title(f"{grid} x {grid} pixels", fontsize=11, color=PIXEL)

    ax = spaces["words"]
    ax.set(xlim=(-0.5, max(len(words), 3) - 0.5), ylim=(0, 2))
    for t, word in enumerate(words):
        _box(ax, t, 1, word, WORD, half_width=0.46)
    ax.set_title(f"{len(words)} words", fontsize=11, color=WORD)

    ax = spaces["row"]
    count = grid * grid + len(words)
    for n, piece in enumerate(cut_into_cells(photo, grid)):
        ax.imshow(piece, extent=(n - 0.45, n + 0.45, -0.45, 0.45))
    for t, word in enumerate(words, start=grid * grid):
        ax.add_patch(Rectangle((t - 0.45, -0.45), 0.9, 1.4, facecolor=WORD, alpha=0.2))
        ax.text(t, 0.25, word, ha="center", va="center", fontsize=9, rotation=90)
    for n in range(count):
        ax.text(n, -0.75, str(n), ha="center", va="center", fontsize=9)
    ax.set(xlim=(-0.6, count - 0.4), ylim=(-0.95, 1), aspect="equal")
    ax.set_title("one sequence: the pixels row by row, then the words", fontsize=11)
    for ax in spaces.values():
        ax.set_axis_off()
    return figure


def draw_blocks(weights: np.ndarray, pixels: int, names: Sequence[str]) -> Figure:
    """A small attention map (N, N) with its numbers and a frame around each of its four blocks.

    A row asks, a column is asked. The first `pixels` of the N tokens are pixels, the rest words;
    `names` has one a token.
    """
    count = len(weights)
    words = count - pixels
    figure = Figure(figsize=(6.6, 4.6), layout="constrained", dpi=100)
    ax = figure.subplots()
    ax.imshow(weights, cmap=AMOUNT, vmin=0, vmax=1)
    for row, column in np.ndindex(count, count):
        value = weights[row, column]
        colour = "white" if value > 0.6 else "black"
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=10, color=colour)
    corners = {
        "pixel-pixel": (0, 0, pixels, pixels),
        "pixel-word": (pixels, 0, words, pixels),
        "word-pixel": (0, pixels, pixels, words),
        "word-word": (pixels, pixels, words, words),
    }
    for name, (x, y, width, height) in corners.items():
        ax.add_patch(
            Rectangle(
                (x - 0.44, y - 0.44),
                width - 0.12,
                height - 0.12,
                fill=False,
                edgecolor=BLOCKS[name],
                linewidth=3,
                label=name,
            )
        )
    ax.set_xticks(range(count), names, fontsize=10, rotation=35, ha="right")
    ax.set_yticks(range(count), names, fontsize=10)
    ax.set_xlabel("is asked (key)", fontsize=11)
    ax.set_ylabel("asks (query)", fontsize=11)
    ax.spines[:].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=10, title="asks-is asked")
    return figure


def draw_four_blocks(weights: np.ndarray, words: Sequence[str]) -> Figure:
    """The attention map (N, N) of a real grid, taken apart into blocks that are wide enough to see.

    All four share one colour scale, on which small weights are lifted (their square root).
    """
    pixels = len(weights) - len(words)
    norm = PowerNorm(0.5, vmin=0, vmax=float(weights.max()))
    figure = Figure(figsize=(9, 6.2), layout="constrained", dpi=100)
    axes = figure.subplots(2, 2, width_ratios=[3, 1.1], height_ratios=[3, 1.1])
    parts = {
        "pixel-pixel": weights[:pixels, :pixels],
        "pixel-word": weights[:pixels, pixels:],
        "word-pixel": weights[pixels:, :pixels],
        "word-word": weights[pixels:, pixels:],
    }
    for ax, (name, part) in zip(axes.flat, parts.items(), strict=True):
        image = ax.imshow(part, cmap=AMOUNT, norm=norm, aspect="auto", interpolation="nearest")
        ax.set_title(name, fontsize=11, color=BLOCKS[name])
        ax.spines[:].set(color=BLOCKS[name], linewidth=2)
        ax.tick_params(labelsize=9)
        if name.endswith("word"):
            ax.set_xticks(range(len(words)), words, rotation=35, ha="right", fontsize=10)
        if name.startswith("word"):
            ax.set_yticks(range(len(words)), words, fontsize=10)
    axes[0, 0].set_ylabel("pixel that asks, row by row", fontsize=10)
    axes[1, 0].set_xlabel("pixel that is asked, row by row", fontsize=10)
    figure.colorbar(image, ax=axes, label="attention weight", shrink=0.8)
    return figure


def draw_token_attention(
    photo: np.ndarray, weights: np.ndarray, grid: int, words: Sequence[str], token: int
) -> Figure:
    """What one token takes from all others: the pixels over the photo, the words as bars.

    `weights` (N,) is the token's row of an attention map, which sums to 1; `token` counts the
    pixels row by row, then the words.
    """
    pixels = grid * grid
    height, width = photo.shape[:2]
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=100)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 1.3, 1])
    left.imshow(photo)
    grey = photo.mean(-1)
    middle.imshow(grey, cmap="gray", vmin=-255, vmax=400)  # pale, so that the blue can be seen
    box = (-0.5, width - 0.5, height - 0.5, -0.5)
    over = weights[:pixels].reshape(grid, grid)
    norm = Normalize(0, max(float(over.max()), 1e-9))
    opacity = 0.85 * norm(over)
    middle.imshow(over, cmap=AMOUNT, norm=norm, alpha=opacity, extent=box, interpolation="nearest")
    middle.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if token < pixels:
        y, x = divmod(token, grid)
        asking = f"pixel ({y}, {x})"
        for ax in (left, middle):
            ax.add_patch(
                Rectangle(
                    (x * width / grid - 0.5, y * height / grid - 0.5),
                    width / grid,
                    height / grid,
                    fill=False,
                    edgecolor=PALETTE[5],
                    linewidth=2.5,
                )
            )
    else:
        asking = f"word “{words[token - pixels]}”"
    left.set_title(f"{asking} asks", fontsize=11)
    middle.set_title(f"pixels: {weights[:pixels].sum():.1%} together", fontsize=11)
    for ax in (left, middle):
        ax.set_axis_off()
    scale = figure.colorbar(
        middle.images[-1], ax=(left, middle), shrink=0.75, label="weight", format="{x:.1%}"
    )
    scale.ax.tick_params(labelsize=9)
    bars = weights[pixels:]
    right.barh(range(len(words)), 100 * bars, color=WORD)
    right.set_yticks(range(len(words)), words, fontsize=10)
    right.invert_yaxis()
    right.set_xlabel("weight in %", fontsize=10)
    right.set_title(f"words: {bars.sum():.1%} together", fontsize=11)
    right.spines[["top", "right"]].set_visible(False)
    return figure


def draw_attention_of(
    photo: np.ndarray,
    attention: Sequence[Sequence[Tensor]],
    words: Sequence[str],
    token: int,
    level: int,
    layer: int,
) -> Figure:
    """`draw_token_attention` for a token, a level (2, 3, 4) and a layer (1, 2, ...) of a network.

    `attention` is what inside.attention_inside gives; the heads are averaged.
    """
    row = _row(attention, token, level, layer)
    grid = round((len(row) - len(words)) ** 0.5)
    return draw_token_attention(photo, row, grid, words, token)


def describe_attention_of(
    photo: np.ndarray,
    attention: Sequence[Sequence[Tensor]],
    words: Sequence[str],
    token: int,
    level: int,
    layer: int,
) -> str:
    """The same in words, for those who cannot see it."""
    row = _row(attention, token, level, layer)
    pixels = len(row) - len(words)
    grid = round(pixels**0.5)
    y, x = divmod(int(row[:pixels].argmax()), grid)
    asks = f"pixel {divmod(token, grid)}" if token < pixels else f"word {words[token - pixels]}"
    to_words = zip(words, row[pixels:], strict=True)
    shares = ", ".join(f"{word} {share:.0%}" for word, share in to_words)
    return (
        f"At level {level}, layer {layer}, the {asks} gives {row[:pixels].sum():.0%} of its "
        f"attention to the pixels, most to pixel ({y}, {x}). To the words: {shares}."
    )


def _row(attention: Sequence[Sequence[Tensor]], token: int, level: int, layer: int) -> np.ndarray:
    return attention[level - 2][layer - 1].mean(0)[token].cpu().numpy()  # heads averaged: (N,)


def draw_positions(
    places: np.ndarray, grid: int, word_places: np.ndarray, pixel: tuple[int, int]
) -> Figure:
    """P_v: four of its channels and how alike one pixel's position is to all others'; and P_l.

    `places` (grid * grid, C) are the pixels', `word_places` (T, C) the words'; `pixel` is (y, x).
    """
    channels = places.shape[1]
    maps = places.reshape(grid, grid, channels)
    half, slow = channels // 2, channels // 8 // 2 * 2  # sines stand at even channels
    figure = Figure(figsize=(10, 4.9), layout="constrained", dpi=100)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1])
    chosen = {0: "x, fastest", slow: "x, slower", half: "y, fastest", half + slow: "y, slower"}
    axes = top.subplots(1, 4)
    for ax, (channel, meaning) in zip(axes, chosen.items(), strict=True):
        image = ax.imshow(maps[..., channel], cmap=SIGNED, vmin=-1, vmax=1)
        ax.set_title(f"channel {channel}: {meaning}", fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
    top.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=9)

    left, right = bottom.subplots(1, 2, width_ratios=[1, 2.4])
    y, x = pixel
    alike = maps @ maps[y, x] / (maps[y, x] @ maps[y, x])
    image = left.imshow(alike, cmap=AMOUNT, vmin=float(alike.min()), vmax=1)
    left.plot(x, y, "s", color=PALETTE[5], markersize=8, fillstyle="none", markeredgewidth=2)
    left.set_title(f"how alike to pixel ({y}, {x})", fontsize=10)
    left.set_xticks([])
    left.set_yticks([])
    bottom.colorbar(image, ax=left, shrink=0.9).ax.tick_params(labelsize=9)
    image = right.imshow(word_places[:, ::2], cmap=SIGNED, vmin=-1, vmax=1, aspect="auto")
    right.set_title("the words' positions: a row a word, sines only", fontsize=10)
    right.set_xlabel("frequency, from fast to slow", fontsize=10)
    right.set_ylabel("word", fontsize=10)
    right.tick_params(labelsize=9)
    return figure


def word_share(grid: int, words: int) -> float:
    """What all words together get if a token looks at every token alike: T / (H*W + T)."""
    return words / (grid * grid + words)


def draw_word_share(lengths: Sequence[int], marked: Sequence[int], upto: int = 40) -> Figure:
    """Uniform attention's share for the words against the grid's side; grids `marked` with numbers.

    The numbers are those of the first of `lengths`.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained", dpi=100)
    ax = figure.subplots()
    sides = np.arange(4, upto + 1)
    styles = ("-", "--", ":", "-.")
    for length, colour, style in zip(lengths, PALETTE, styles, strict=False):
        shares = [100 * word_share(side, length) for side in sides]
        ax.plot(sides, shares, style, color=colour, linewidth=2, label=f"{length} words")
    for side in marked:
        share = 100 * word_share(side, lengths[0])
        ax.plot(side, share, "o", color=PALETTE[0])
        ax.annotate(
            f"{side} x {side}: {share:.2g} %",
            (side, share),
            xytext=(10, 36) if side < 0.8 * upto else (-70, 52),  # clear of the other curves
            textcoords="offset points",
            fontsize=10,
            arrowprops={"arrowstyle": "-", "color": "grey"},
        )
    ax.set_yscale("log")
    ax.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    ax.minorticks_off()
    ax.set_xlabel("side of the grid, H = W", fontsize=10)
    ax.set_ylabel("share of the words, %", fontsize=10)
    ax.legend(fontsize=10)
    _plain(ax)
    return figure


def draw_memory(
    grids: Sequence[int], measured: Mapping[str, Sequence[float]], computed: Mapping[str, Sequence]
) -> Figure:
    """MiB a sample against the grid's side: what was `measured` as points, `computed` as dashes."""
    figure = Figure(figsize=(8, 3.8), layout="constrained", dpi=100)
    ax = figure.subplots()
    for (label, values), colour, mark in zip(measured.items(), PALETTE, "osD^", strict=False):
        ax.plot(grids, values, mark + "-", color=colour, label=f"measured: {label}")
        ax.annotate(
            f"{values[-1]:,.0f}",
            (grids[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    for (label, values), colour in zip(computed.items(), PALETTE[3:], strict=False):
        ax.plot(grids, values, "--", color=colour, linewidth=2, label=f"computed: {label}")
    ax.set_xticks(grids)
    ax.set_xlabel("side of the grid, H = W", fontsize=10)
    ax.set_ylabel("MiB a sample", fontsize=10)
    ax.set_ylim(0, None)
    ax.margins(x=0.08)
    ax.legend(fontsize=10, loc="upper left")
    _plain(ax)
    return figure


def _box(ax: Axes, x: float, y: float, text: str, colour: str, half_width: float) -> None:
    ax.add_patch(
        Rectangle((x - half_width, y - 0.25), 2 * half_width, 0.5, facecolor=colour, alpha=0.2)
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=12)


def _plain(ax: Axes) -> None:
    ax.grid(alpha=0.3)
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
