"""Pictures of lesson 03: one sequence of pixels and words, its attention, positions and memory.

Each figure's label says in words what it shows, but for `draw_token_attention`'s.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from shnet_course.pictures.base import AMOUNT, PALETTE, SIGNED, TARGET, cut_into_cells, frame

BLOCK_COLOURS = {  # who asks and who is asked -> the colour of that block of the attention map
    "pixel-pixel": TARGET,
    "pixel-word": PALETTE[5],
    "word-pixel": PALETTE[2],
    "word-word": PALETTE[3],
}
PIXEL, WORD_COLOUR = TARGET, PALETTE[5]


def draw_sequence(photo: np.ndarray, grid: int, words: Sequence[str]) -> Figure:
    """A photo cut into grid x grid pixels, a phrase cut into words, and the one row they make.

    `photo` is (height, width, 3) uint8. A pixel of the real grid is a vector, not a piece of photo:
    the pieces only show where it stands.
    """
    figure = Figure(figsize=(10, 4.2))
    spaces = figure.subplot_mosaic(
        [["photo", "words"], ["row", "row"]], height_ratios=[2.6, 1], width_ratios=[1, 2]
    )
    height, width = photo.shape[:2]
    spaces["photo"].imshow(photo)
    for line in range(1, grid):
        spaces["photo"].axhline(line * height / grid - 0.5, color="white", linewidth=1.5)
        spaces["photo"].axvline(line * width / grid - 0.5, color="white", linewidth=1.5)
    spaces["photo"].set_title(f"{grid} x {grid} pixels", color=PIXEL)

    ax = spaces["words"]
    ax.set(xlim=(-0.5, max(len(words), 3) - 0.5), ylim=(0, 2))
    for t, word in enumerate(words):
        _box(ax, t, 1, word, WORD_COLOUR, half_width=0.46)
    ax.set_title(f"{len(words)} words", color=WORD_COLOUR)

    ax = spaces["row"]
    count = grid * grid + len(words)
    for n, piece in enumerate(cut_into_cells(photo, grid)):
        ax.imshow(piece, extent=(n - 0.45, n + 0.45, -0.45, 0.45))
    for t, word in enumerate(words, start=grid * grid):
        ax.add_patch(Rectangle((t - 0.45, -0.45), 0.9, 1.4, facecolor=WORD_COLOUR, alpha=0.2))
        ax.text(t, 0.25, word, ha="center", va="center", fontsize=9, rotation=90)
    for n in range(count):
        ax.text(n, -0.75, str(n), ha="center", va="center", fontsize=9)
    ax.set(xlim=(-0.6, count - 0.4), ylim=(-0.95, 1), aspect="equal")
    ax.set_title("one sequence: the pixels row by row, then the words")
    for ax in spaces.values():
        ax.set_axis_off()
    figure.set_label(
        f"A scene cut into {grid * grid} pixels and a phrase of {len(words)} words, then all "
        f"{count} in one row."
    )
    return figure


def draw_attention_blocks(weights: np.ndarray, pixels: int, names: Sequence[str]) -> Figure:
    """A small attention map (N, N) with its numbers and a frame around each of its four blocks.

    A row asks, a column is asked. The first `pixels` of the N tokens are pixels, the rest words;
    `names` has one per token.
    """
    count = len(weights)
    words = count - pixels
    figure = Figure(figsize=(6.6, 4.6))
    ax = figure.subplots()
    ax.imshow(weights, cmap=AMOUNT, vmin=0, vmax=1)
    for row, column in np.ndindex(count, count):
        value = weights[row, column]
        colour = "white" if value > 0.6 else "black"
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
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
                edgecolor=BLOCK_COLOURS[name],
                linewidth=3,
                label=name,
            )
        )
    ax.set_xticks(range(count), names, rotation=35, ha="right")
    ax.set_yticks(range(count), names)
    ax.set_xlabel("is asked (key)")
    ax.set_ylabel("asks (query)")
    ax.spines[:].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), title="asks-is asked")
    sizes = ", ".join(f"{name} {rows} x {across}" for name, (_, _, across, rows) in corners.items())
    figure.set_label(f"The {count} x {count} attention map, a frame around each block: {sizes}.")
    return figure


def draw_query_key_value(
    parts: Mapping[str, np.ndarray],
    weights: np.ndarray,
    names: Sequence[str],
    numbers: Sequence[str],
) -> Figure:
    """Tables (N, C) such as queries, keys and values beside the attention (N, N) they lead to.

    A row per token: `names`; the columns of each table are `numbers`.
    """
    count = len(names)
    widths = [len(numbers)] * len(parts) + [count + 0.5]
    figure = Figure(figsize=(10.5, 3.9))
    *axes, last = figure.subplots(1, len(parts) + 1, width_ratios=widths)
    largest = max(float(np.abs(part).max()) for part in parts.values())
    for ax, (title, part) in zip(axes, parts.items(), strict=True):
        ax.imshow(part, cmap=SIGNED, vmin=-largest, vmax=largest, aspect="auto")
        ax.set_title(title)
        ax.set_xticks(range(len(numbers)), numbers, rotation=35, ha="right")
        _numbers(ax, part, "{:.1f}")
    last.imshow(weights, cmap=AMOUNT, vmin=0, vmax=1, aspect="auto")
    last.set_title("attention")
    last.set_xticks(range(count), names, rotation=35, ha="right")
    _numbers(last, weights, "{:.2f}")
    for ax in (*axes, last):
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    axes[0].set_yticks(range(count), names)
    told = "; ".join(
        f"{name} most to {names[int(row.argmax())]}, {row.max():.2f}"
        for name, row in zip(names, weights, strict=True)
    )
    figure.set_label(f"{', '.join(parts)} of {count} tokens, and the attention: {told}.")
    return figure


def _numbers(ax: Axes, values: np.ndarray, form: str) -> None:
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if form.endswith("2f}") and value > 0.6 else "black"
        text = form.format(value + 0.0).replace("-0.0", "0.0")
        ax.text(column, row, text, ha="center", va="center", fontsize=9.5, color=colour)


def draw_word_maps(
    photo: np.ndarray, target: np.ndarray, maps: Mapping[str, np.ndarray], title: str
) -> Figure:
    """Attention between each word and the pixels, laid back on the grid: a map (H, W) per word.

    The target (H, W) is outlined. All maps share one scale, from 0 to the largest weight.
    """
    figure = Figure(figsize=(2.3 * (1 + len(maps)), 3.0))
    first, *axes = figure.subplots(1, 1 + len(maps))
    height, width = photo.shape[:2]
    box = (-0.5, width - 0.5, height - 0.5, -0.5)
    first.imshow(photo)
    first.set_title("scene")
    largest = max(float(values.max()) for values in maps.values())
    told = []
    for ax, (word, values) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=largest, extent=box)
        ax.set_title(f"“{word}”")
        y, x = divmod(int(values.argmax()), values.shape[1])
        told.append(f"{word} {values.max():.1%} at ({y}, {x})")
    for ax in (first, *axes):
        ax.contour(target, levels=[0.5], colors="white", linewidths=2)
        frame(ax)
    figure.colorbar(image, ax=axes, shrink=0.75, label="weight", format="{x:.0%}")
    figure.suptitle(title)
    figure.set_label(f"{title}. A map per word with its largest weight: {'; '.join(told)}.")
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
    figure = Figure(figsize=(9, 3.6))
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
    left.set_title(f"{asking} asks")
    middle.set_title(f"pixels: {weights[:pixels].sum():.1%} together")
    for ax in (left, middle):
        ax.set_axis_off()
    figure.colorbar(
        middle.images[-1], ax=(left, middle), shrink=0.75, label="weight", format="{x:.1%}"
    )
    bars = weights[pixels:]
    right.barh(range(len(words)), 100 * bars, color=WORD_COLOUR)
    right.set_yticks(range(len(words)), words)
    right.invert_yaxis()
    right.set_xlabel("weight in %")
    right.set_title(f"words: {bars.sum():.1%} together")
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
    row = attention[level - 2][layer - 1].mean(0)[token].cpu().numpy()  # heads averaged: (N,)
    pixels = len(row) - len(words)
    grid = round(pixels**0.5)
    figure = draw_token_attention(photo, row, grid, words, token)
    y, x = divmod(int(row[:pixels].argmax()), grid)
    asks = f"pixel {divmod(token, grid)}" if token < pixels else f"word {words[token - pixels]}"
    to_words = zip(words, row[pixels:], strict=True)
    shares = ", ".join(f"{word} {share:.0%}" for word, share in to_words)
    figure.set_label(
        f"At level {level}, layer {layer}, the {asks} gives {row[:pixels].sum():.0%} of its "
        f"attention to the pixels, most to pixel ({y}, {x}). To the words: {shares}."
    )
    return figure


def draw_positions(
    places: np.ndarray, grid: int, word_places: np.ndarray, pixel: tuple[int, int]
) -> Figure:
    """P_v: four of its channels and how alike one pixel's position is to all others'; and P_l.

    `places` (grid * grid, C) are the pixels', `word_places` (T, C) the words'; `pixel` is (y, x).
    """
    channels = places.shape[1]
    maps = places.reshape(grid, grid, channels)
    half, slow = channels // 2, channels // 8 // 2 * 2  # sines stand at even channels
    figure = Figure(figsize=(10, 4.9))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1])
    chosen = {0: "x, fastest", slow: "x, slower", half: "y, fastest", half + slow: "y, slower"}
    axes = top.subplots(1, 4)
    for ax, (channel, meaning) in zip(axes, chosen.items(), strict=True):
        image = ax.imshow(maps[..., channel], cmap=SIGNED, vmin=-1, vmax=1)
        ax.set_title(f"channel {channel}: {meaning}")
        frame(ax)
    top.colorbar(image, ax=axes, shrink=0.8)

    left, right = bottom.subplots(1, 2, width_ratios=[1, 2.4])
    y, x = pixel
    alike = maps @ maps[y, x] / (maps[y, x] @ maps[y, x])
    image = left.imshow(alike, cmap=AMOUNT, vmin=float(alike.min()), vmax=1)
    left.plot(x, y, "s", color=PALETTE[5], markersize=8, fillstyle="none", markeredgewidth=2)
    left.set_title(f"how alike to pixel ({y}, {x})")
    frame(left)
    bottom.colorbar(image, ax=left, shrink=0.9)
    image = right.imshow(word_places[:, ::2], cmap=SIGNED, vmin=-1, vmax=1, aspect="auto")
    right.set_title("the words' positions: a row per word, sines only")
    right.set_xlabel("frequency, from fast to slow")
    right.set_ylabel("word")
    right.spines[:].set_visible(True)
    figure.set_label(
        f"Four channels of the pixels' positions: stripes across and down, fast and slow. Below, "
        f"how alike pixel ({y}, {x}) is to all others: most to its neighbours, row and column. "
        f"Beside it the positions of {len(word_places)} words."
    )
    return figure


def word_share(grid: int, words: int) -> float:
    """What all words together get if a token looks at every token alike: T / (H*W + T)."""
    return words / (grid * grid + words)


def draw_memory(
    grids: Sequence[int], measured: Mapping[str, Sequence[float]], computed: Mapping[str, Sequence]
) -> Figure:
    """MiB per sample against the grid's side: points as `measured`, dashes as `computed`."""
    figure = Figure(figsize=(8, 3.8))
    ax = figure.subplots()
    for (label, values), colour, mark in zip(measured.items(), PALETTE, "osD^", strict=False):
        ax.plot(grids, values, mark + "-", color=colour, label=f"measured: {label}")
        ax.annotate(
            f"{values[-1]:,.0f}",
            (grids[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    for (label, values), colour in zip(computed.items(), PALETTE[3:], strict=False):
        ax.plot(grids, values, "--", color=colour, linewidth=2, label=f"computed: {label}")
    ax.set_xticks(grids)
    ax.set_xlabel("side of the grid, H = W")
    ax.set_ylabel("MiB per sample")
    ax.set_ylim(0, None)
    ax.margins(x=0.08)
    ax.legend(loc="upper left")
    ax.grid(alpha=0.3)
    told = "; ".join(f"{label} {values[-1]:,.0f}" for label, values in measured.items())
    figure.set_label(f"MiB per sample against the grid's side. At {grids[-1]}: {told}.")
    return figure


def _box(ax: Axes, x: float, y: float, text: str, colour: str, half_width: float) -> None:
    ax.add_patch(
        Rectangle((x - half_width, y - 0.25), 2 * half_width, 0.5, facecolor=colour, alpha=0.2)
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=12)
