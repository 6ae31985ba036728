"""Figure 2 of the paper in small: the way from photo and phrase to mask, today's part lit."""

from collections.abc import Collection

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from shnet_course.pictures.base import PALETTE

LANES = (31, 23, 15)  # the y of the levels 2, 3, 4; the words run below them
WORDS = 5

# name: label, then middle x, width, and the lowest and highest y, in a picture of 100 x 38
BOXES = {
    "photo": ("photo", 4.5, 8, 19, 27),
    "backbone": ("backbone\n(frozen)\n3.1", 18, 11, 11, 35),
    "levels": ("level {}\nto one grid\n3.1", 35, 12, 0, 0),  # three boxes, one on each lane
    "phrase": ("phrase", 4.5, 8, 1, 9),
    "words": ("word vectors\n→ LSTM\n3.1", 35, 12, 1, 9),
    "sfm": ("SFM\n3.2", 53, 9, 1, 35),
    "hcam": ("HCAM\n3.3", 71, 9, 1, 35),
    "decoder": ("ASPP, up-\nsampling\n3.4", 84.5, 10, 12, 24),
    "mask": ("mask", 96, 7.5, 14, 22),
}
# from, to, and the y of each arrow between them with what runs along it
ARROWS = {
    ("photo", "backbone"): {23: ""},
    ("backbone", "levels"): dict.fromkeys(LANES, ""),
    ("levels", "sfm"): dict(zip(LANES, ("$V_2$", "$V_3$", "$V_4$"), strict=True)),
    ("phrase", "words"): {WORDS: ""},
    ("words", "sfm"): {WORDS: "$L$"},
    ("sfm", "hcam"): dict(
        zip((*LANES, WORDS), ("$f^v_2$", "$f^v_3$", "$f^v_4$", "3 × $f^l$"), strict=True)
    ),
    ("hcam", "decoder"): {18: "$G$"},
    ("decoder", "mask"): {18: ""},
}


def draw_architecture(lit: Collection[str]) -> Figure:
    """The whole network with the parts named in `lit` coloured; numbers are the paper's sections.

    Raises:
        ValueError: there is no such part.
    """
    if unknown := set(lit) - set(BOXES):
        raise ValueError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(BOXES)}")
    figure = Figure(figsize=(10, 3.9))
    ax = figure.subplots()
    for name, (label, x, width, low, high) in BOXES.items():
        if name == "levels":
            for level, lane in zip((2, 3, 4), LANES, strict=True):
                _box(ax, name, label.format(level), x, width, lane - 3.6, lane + 3.6, name in lit)
        else:
            _box(ax, name, label, x, width, low, high, name in lit)
    for (start, end), lanes in ARROWS.items():
        left = BOXES[start][1] + BOXES[start][2] / 2
        right = BOXES[end][1] - BOXES[end][2] / 2
        for y, carries in lanes.items():
            arrow = FancyArrowPatch(
                (left, y), (right, y), arrowstyle="-|>", mutation_scale=12, color="0.4", shrinkA=0
            )
            ax.add_patch(arrow)
            ax.text((left + right) / 2, y + 0.6, carries, ha="center", va="bottom", fontsize=11)
    ax.set(xlim=(0, 100), ylim=(0, 37))
    ax.set_axis_off()
    names = ", ".join(name for name in BOXES if name in lit) or "none"
    figure.set_label(
        "The network as boxes: photo, backbone and three levels; phrase and word vectors; SFM "
        "joins both, HCAM takes three levels and their words, then the decoder and the mask. "
        f"Lit: {names}."
    )
    return figure


def _box(
    ax: Axes, name: str, label: str, x: float, width: float, low: float, high: float, on: bool
) -> None:
    box = FancyBboxPatch(
        (x - width / 2, low),
        width,
        high - low,
        boxstyle="round,pad=0,rounding_size=1",
        facecolor=PALETTE[4] if on else "0.95",
        edgecolor=PALETTE[0] if on else "0.6",
        linewidth=2 if on else 1,
        label=name,
    )
    ax.add_patch(box)
    middle = (low + high) / 2
    ax.text(x, middle, label, ha="center", va="center", color="0" if on else "0.3")
