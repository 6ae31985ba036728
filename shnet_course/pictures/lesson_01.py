"""Pictures of lesson 01: examples, masks and their parts, what phrases are like, near words."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from shnet_course.measure.phrases import PhraseCounts, has_location_word
from shnet_course.pictures.base import PALETTE, PREDICTED, TARGET, draw_mask, frame, photo_of
from shnet_lib.data import DataError, Expression, read_expressions
from shnet_lib.data.refer import DATASETS
from shnet_lib.data.text import tokenize

# ---------------------------------------------------------------- one example


def draw_phrases(photo: np.ndarray, masks: Mapping[str, np.ndarray]) -> Figure:
    """One photo (H, W, 3) as often as there are phrases, each with its mask (H, W) outlined."""
    figure = Figure(figsize=(10, 2.7))
    for ax, (phrase, mask) in zip(figure.subplots(1, len(masks)), masks.items(), strict=True):
        draw_mask(ax, photo, f"“{phrase}”", target=mask)
    told = "; ".join(f"“{phrase}”, {mask.mean():.1%} of it" for phrase, mask in masks.items())
    figure.set_label(f"One photo, each time with another mask outlined: {told}.")
    return figure


def find_data_sets(folders: Iterable[Path | str]) -> dict[str, Path]:
    """The data sets whose annotations lie in one of the folders: name -> folder, in that order."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        for name, layout in DATASETS.items():
            if (folder / layout.folder / layout.refs_file).is_file():
                found.setdefault(name, folder)
        if (folder / "referit").is_dir():
            found.setdefault("referit", folder)
    return found


@lru_cache(maxsize=8)
def _examples(data: Path, dataset: str, split: str) -> list[Expression]:
    return read_expressions(data, dataset, split)


def count_examples(data: Path, dataset: str, split: str) -> int:
    """How many expressions a split has. DataError as read_expressions."""
    return len(_examples(Path(data), dataset, split))


def _example(data: Path, dataset: str, split: str, index: int) -> Expression:
    examples = _examples(Path(data), dataset, split)
    if not 0 <= index < len(examples):
        raise DataError(
            f"{dataset} {split} has no example {index}. Ask for 0 to {len(examples) - 1}."
        )
    return examples[index]


def draw_example(data: Path, dataset: str, split: str, index: int) -> Figure:
    """One example: the photo, what the phrase means outlined in it, and the mask alone.

    DataError where a file is missing or damaged, or where there is no such example.
    """
    example = _example(data, dataset, split, index)
    photo, mask = photo_of(example), example.mask()
    figure = Figure(figsize=(9, 3.5))
    left, middle, right = figure.subplots(1, 3)
    what = _kind_of_picture(dataset)
    draw_mask(left, photo, f"{what}, {example.width} x {example.height}")
    draw_mask(middle, photo, f"“{example.text}”", target=mask)
    draw_mask(right, 255 * mask[..., None].repeat(3, -1).astype(np.uint8), "its mask")
    kind = ", ".join(filter(None, (example.category, example.family)))
    figure.supxlabel(
        f"{dataset}, {split}, example {index}: ref {example.ref_id} ({kind or 'no category'}), "
        f"{mask.mean():.1%} of the {what}",
    )
    return figure


def _kind_of_picture(dataset: str) -> str:
    return "scene" if dataset.startswith("refshapes") else "photo"


def describe_example(data: Path, dataset: str, split: str, index: int) -> str:
    """The text for draw_example: the phrase, and where its mask lies. DataError as there."""
    example = _example(data, dataset, split, index)
    mask = example.mask()
    if not mask.any():
        return f"Example {index} of {dataset}, {split}: “{example.text}”. Its mask is empty."
    rows, columns = np.nonzero(mask)
    across, down = columns.mean() / example.width, rows.mean() / example.height
    return (
        f"Example {index} of {dataset}, {split}: “{example.text}”. What is meant covers "
        f"{mask.mean():.1%} of the {_kind_of_picture(dataset)}; its middle lies {across:.0%} from "
        f"the left and {down:.0%} from the top."
    )


# ---------------------------------------------------------------- masks


def draw_run_lengths(mask: np.ndarray) -> Figure:
    """A small mask, bool, with the order in which COCO's run-lengths visit its pixels."""
    height, width = mask.shape
    figure = Figure(figsize=(0.7 * width + 1.2, 0.7 * height + 0.8))
    ax = figure.subplots()
    ax.imshow(mask, cmap=ListedColormap(["white", PALETTE[4]]), vmin=0, vmax=1)
    order = np.arange(mask.size).reshape(width, height).T
    for (row, column), place in np.ndenumerate(order):
        ax.text(column, row, str(place), ha="center", va="center", fontsize=11)
    frame(ax, np.arange(width + 1) - 0.5, np.arange(height + 1) - 0.5)
    ax.grid(color="0.6")
    ax.set_title("blue: the thing")
    figure.set_label(
        f"A mask of {height} rows and {width} columns, its pixels numbered down the columns. The "
        f"thing is {', '.join(map(str, np.sort(order[mask])))}."
    )
    return figure


def draw_parts(photo: np.ndarray, parts: Sequence[np.ndarray], margin: int = 12) -> Figure:
    """What becomes of a thing whose mask is given in overlapping parts, each (H, W) bool.

    The photo, the sum of the parts, where that sum is 1, and their union, all cut out around it.
    """
    total = np.sum([part.astype(int) for part in parts], axis=0)
    rows, columns = np.nonzero(total)
    cut = (
        slice(max(rows.min() - margin, 0), rows.max() + margin + 1),
        slice(max(columns.min() - margin, 0), columns.max() + margin + 1),
    )
    figure = Figure(figsize=(9, 4.2))
    axes = figure.subplots(1, 4)
    axes[0].imshow(photo[cut])
    colours = ["white", PALETTE[4], PALETTE[5], PALETTE[7]][: total.max() + 1]
    axes[1].imshow(total[cut], cmap=ListedColormap(colours), vmin=0, vmax=total.max())
    keys = [
        Patch(facecolor=colour, edgecolor="0.5", label=str(value))
        for value, colour in enumerate(colours)
    ]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    axes[1].legend(handles=keys, ncols=len(keys), handlelength=1, **below)
    two = ListedColormap(["white", TARGET])
    axes[2].imshow(total[cut] == 1, cmap=two, vmin=0, vmax=1)
    axes[3].imshow(total[cut] > 0, cmap=two, vmin=0, vmax=1)
    titles = ("photo", "sum of the parts", "sum == 1", "union")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        frame(ax)
    figure.set_label(
        f"A thing in {len(parts)} parts; their sum, which is 2 or more at {(total > 1).sum()} "
        "pixels; where the sum is 1, with a hole at these; and the union, without a hole."
    )
    return figure


# ---------------------------------------------------------------- what the data sets are like


def draw_character(data_sets: Mapping[str, Sequence[Expression]]) -> Figure:
    """Data sets side by side: words an expression, share of location words, size of the things.

    Sizes are of refs: a thing that two sentences mean counts once.
    """
    names = list(data_sets)
    figure = Figure(figsize=(10, 3.6))
    words, places, sizes = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    for name, colour, mark in zip(names, PALETTE, "osD^vPX*", strict=False):
        counts = np.bincount([len(tokenize(e.text)) for e in data_sets[name]])
        shares = 100 * counts / counts.sum()
        words.plot(shares, f"{mark}-", color=colour, label=name, markersize=4, linewidth=1.2)
    words.set(xlabel="words in an expression", ylabel="% of the expressions", xlim=(0, None))
    words.set_ylim(0, None)
    words.legend()

    located = [100 * np.mean([has_location_word(e.text) for e in data_sets[n]]) for n in names]
    bars = places.barh(names, located, color=PALETTE[: len(names)])
    places.bar_label(bars, fmt="%.0f %%", padding=2, fontsize=9)
    places.set(xlabel="% with a location word", xlim=(0, 100))
    places.invert_yaxis()

    shown = [100 * np.array(_shares_of_photo(data_sets[name])) for name in names]
    boxes = sizes.boxplot(
        shown,
        orientation="horizontal",
        tick_labels=names,
        patch_artist=True,
        whis=(5, 95),
        showfliers=False,
        medianprops={"color": "black"},
    )
    for box, colour in zip(boxes["boxes"], PALETTE, strict=False):
        box.set_facecolor(colour)
    sizes.set_title("line: median; box: middle half; whiskers: 5 to 95 %")
    sizes.set(xlabel="% of the scene that the thing covers", xscale="log")
    sizes.set_xticks([2, 5, 10, 20, 50], labels=["2", "5", "10", "20", "50"])
    sizes.minorticks_off()
    sizes.invert_yaxis()
    told = ", ".join(
        f"{name} {share:.0f} % and {np.median(size):.0f} %"
        for name, share, size in zip(names, located, shown, strict=True)
    )
    figure.set_label(
        "Three plots of the data sets: words of an expression, location words, size of the things. "
        f"With a location word, and the median thing's share of its picture: {told}."
    )
    return figure


def _shares_of_photo(expressions: Sequence[Expression]) -> list[float]:
    """For each ref, the share of its photo that its mask covers."""
    refs = {expression.ref_id: expression for expression in expressions}
    return [expression.mask().mean() for expression in refs.values()]


# ---------------------------------------------------------------- how people speak


def draw_speech(counts: Mapping[str, PhraseCounts], most: int = 12) -> Figure:
    """Lists of phrases side by side: how many words a phrase has, and the most frequent words.

    The words of each list are given as their share of all its words.
    """
    figure = Figure(figsize=(10, 3.8))
    lengths, *lists = figure.subplots(1, 1 + len(counts), width_ratios=(1.6, *[1] * len(counts)))
    told = []
    for ax, (name, counted), colour, mark in zip(
        lists, counts.items(), (TARGET, PREDICTED, *PALETTE[2:]), "osD^", strict=False
    ):
        shares = [100 * counted.lengths[n] / counted.phrases for n in range(1, 16)]
        lengths.plot(range(1, 16), shares, f"{mark}-", color=colour, label=name, markersize=4)
        spoken = sum(length * count for length, count in counted.lengths.items())
        words = counted.words.most_common(most)
        ax.barh([word for word, _ in words], [100 * n / spoken for _, n in words], color=colour)
        ax.set(title=name, xlabel="% of all words")
        ax.invert_yaxis()
        told.append(f"{name}: {counted.mean_length:.1f} words, most often {words[0][0]}")
    lengths.set(xlabel="words in a phrase", ylabel="% of the phrases", ylim=(0, None))
    lengths.legend()
    figure.set_label(f"Length of phrases and their most frequent words. {'; '.join(told)}.")
    return figure


# ---------------------------------------------------------------- near words


def draw_neighbours(words: Sequence[str], vectors: np.ndarray, word: str, most: int = 10) -> Figure:
    """The words whose vectors point most nearly where that of `word` does, and how nearly.

    `vectors` (words, D) have length 1, so that a product of two is the cosine between them.

    Raises:
        ValueError: `word` is not among the words.
    """
    if word not in words:
        raise ValueError(f"nobody said {word!r} twice, so it has no vector: try another word")
    alike = vectors @ vectors[list(words).index(word)]
    nearest = np.argsort(-alike, kind="stable")
    nearest = nearest[nearest != list(words).index(word)][:most]
    figure = Figure(figsize=(7, 3))
    ax = figure.subplots()
    bars = ax.barh([words[i] for i in nearest], alike[nearest], color=TARGET)
    ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=9)
    ax.set(xlim=(0, 1.08), xlabel=f"cosine with “{word}”")
    ax.invert_yaxis()
    told = ", ".join(f"{words[i]} {alike[i]:.2f}" for i in nearest)
    figure.set_label(f"Words near “{word}”, with their cosines: {told}.")
    return figure
