"""Figure 2 of the paper in small: the way from photo and phrase to mask, today's part lit."""

from collections.abc import Collection

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from shnet_course.pictures.base import PALETTE

# name: label, then middle x and y, width and height, in a picture of 100 x 30
BOXES = {
    "photo": ("photo", 5, 22, 9, 7),
    "backbone": ("backbone\n(frozen)\n3.1", 19, 22, 12, 12),
    "levels": ("levels\n2, 3, 4\n→ one grid\n3.1", 34, 22, 12, 14),
    "phrase": ("phrase", 5, 5, 9, 7),
    "words": ("word vectors\n→ LSTM\n3.1", 26.5, 5, 15, 9),
    "sfm": ("SFM\n3.2", 49, 14, 9, 26),
    "hcam": ("HCAM\n3.3", 63, 14, 10, 16),
    "decoder": ("ASPP,\nup-sampling\n3.4", 79, 14, 13, 12),
    "mask": ("mask", 95, 14, 8, 7),
}
ARROWS = (
    ("photo", "backbone"),
    ("backbone", "levels"),
    ("levels", "sfm"),
    ("phrase", "words"),
    ("words", "sfm"),
    ("sfm", "hcam"),
    ("hcam", "decoder"),
    ("decoder", "mask"),
)


def draw_architecture(lit: Collection[str]) -> Figure:
    """The whole network with the parts named in `lit` coloured; numbers are the paper's sections.

    ValueError where there is no such part.
    """
    if unknown := set(lit) - set(BOXES):
        raise ValueError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(BOXES)}")
    figure = Figure(figsize=(10, 3), layout="constrained", dpi=100)
    ax = figure.subplots()
    for name, (label, x, y, width, height) in BOXES.items():
        on = name in lit
        box = FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1",
            facecolor=PALETTE[4] if on else "0.95",
            edgecolor=PALETTE[0] if on else "0.7",
            linewidth=2 if on else 1,
            label=name,
        )
        ax.add_patch(box)
        ax.text(x, y, label, ha="center", va="center", fontsize=10, color="black" if on else "0.45")
    for start, end in ARROWS:
        _, x, y, width, _ = BOXES[start]
        _, end_x, _, end_width, _ = BOXES[end]
        arrow = FancyArrowPatch(
            (x + width / 2, y), (end_x - end_width / 2, y), arrowstyle="-|>", mutation_scale=12,
            color="0.4",
        )  # fmt: skip
        ax.add_patch(arrow)
    ax.set(xlim=(0, 100), ylim=(0, 30))
    ax.set_axis_off()
    names = ", ".join(name for name in BOXES if name in lit) or "none"
    figure.set_label(f"The network as boxes from photo and phrase to the mask; lit: {names}.")
    return figure
