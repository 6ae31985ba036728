"""Other pictures from the same photo: a part of it, its mirror image, other light, things added.

Masks go through every change pixel by pixel, so that they stay exact, and what is pasted covers
what was there. Phrases are made afterwards, from what is then in the picture.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from .scene import Thing

SMALLEST_CROP = 0.6  # of the photo's sides
PASTED_AREA = (0.015, 0.10)  # of the picture
# What stands by itself and is still itself in another place.
MOVABLE = frozenset(
    "person,bicycle,motorcycle,fire hydrant,stop sign,bird,cat,dog,horse,sheep,cow,elephant,bear,"
    "zebra,giraffe,backpack,umbrella,handbag,suitcase,frisbee,sports ball,kite,skateboard,"
    "surfboard,bottle,wine glass,cup,bowl,banana,apple,orange,donut,pizza,chair,potted plant,"
    "laptop,clock,vase,teddy bear,car,airplane".split(",")
)


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return np.count_nonzero(part) / np.count_nonzero(whole)


def crop(
    rng: np.random.Generator, pixels: np.ndarray, things: list[Thing]
) -> tuple[np.ndarray, list[Thing]]:
    """A part of the photo; things outside it are gone, those at its edge are cut."""
    height, width = pixels.shape[:2]
    high, wide = (int(side * rng.uniform(SMALLEST_CROP, 1.0)) for side in (height, width))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    part = np.s_[top : top + high, left : left + wide]
    cut = []
    for thing in things:
        mask = thing.mask[part]
        if mask.any():
            cut.append(replace(thing, mask=mask, kept=thing.kept * _share(mask, thing.mask)))
    return pixels[part], cut


def flip(pixels: np.ndarray, things: list[Thing]) -> tuple[np.ndarray, list[Thing]]:
    """The mirror image."""
    return pixels[:, ::-1], [replace(thing, mask=thing.mask[:, ::-1]) for thing in things]


def relight(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Brighter or darker, flatter or harder, a little warmer or colder."""
    gamma, contrast = rng.uniform(0.75, 1.33), rng.uniform(0.85, 1.15)
    tint = rng.uniform(0.94, 1.06, 3)
    levels = (np.arange(256) / 255.0) ** gamma
    levels = np.clip(((levels - 0.5) * contrast + 0.5)[:, None] * tint, 0, 1)
    table = (levels * 255 + 0.5).astype(np.uint8)
    return np.stack([table[pixels[..., i], i] for i in range(3)], axis=-1)


def can_be_moved(thing: Thing) -> bool:
    """Is it whole, by itself and large enough to be cut out? Its box must be measured."""
    left, top, right, bottom = thing.box
    inside = min(left, top, 1 - right, 1 - bottom) > 0.005
    solid = thing.area > 0.35 * (right - left) * (bottom - top)
    dark = "black" in thing.colours[0]  # in another light it would be a hole
    part = thing.kind == "person" and bottom - top < right - left  # of somebody behind something
    fit = thing.kind in MOVABLE and not thing.crowd and not dark and not part
    return inside and solid and fit and thing.area > 0.012 and thing.whole > 0.95


def paste(
    rng: np.random.Generator,
    pixels: np.ndarray,
    things: list[Thing],
    source: np.ndarray,
    piece: Thing,
) -> tuple[np.ndarray, list[Thing]]:
    """The picture with a thing of another photo in front; it covers what is behind it."""
    rows, columns = np.nonzero(piece.mask)
    part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    colour, mask = source[part], piece.mask[part]
    if rng.random() < 0.5:
        colour, mask = colour[:, ::-1], mask[:, ::-1]
    height, width = pixels.shape[:2]
    wanted = rng.uniform(*PASTED_AREA) * height * width
    scale = min(
        np.sqrt(wanted / mask.sum()), 1.3, 0.8 * height / len(mask), 0.8 * width / mask.shape[1]
    )
    size = max(int(mask.shape[1] * scale), 1), max(int(len(mask) * scale), 1)
    colour = np.asarray(Image.fromarray(np.ascontiguousarray(colour)).resize(size, Image.BILINEAR))
    soft = Image.fromarray(np.ascontiguousarray(mask).astype(np.uint8) * 255)
    soft = np.asarray(soft.resize(size, Image.BILINEAR))
    top = int(rng.integers((height - size[1]) // 2, height - size[1] + 1))  # rarely in the air
    left = int(rng.integers(width - size[0] + 1))
    place = np.s_[top : top + size[1], left : left + size[0]]
    share = soft[..., None] / 255.0
    made = pixels.copy()
    made[place] = (share * colour + (1 - share) * pixels[place] + 0.5).astype(np.uint8)
    front = np.zeros((height, width), dtype=bool)
    front[place] = soft >= 128
    behind = []
    for thing in things:
        left_over = thing.mask & ~front
        if left_over.any():
            kept = thing.kept * _share(left_over, thing.mask)
            behind.append(replace(thing, mask=left_over, kept=kept))
    return made, behind + [replace(piece, mask=front, kept=1.0)]


def vary(
    rng: np.random.Generator, pixels: np.ndarray, things: list[Thing], another
) -> tuple[np.ndarray, list[Thing]]:
    """A variant. `another(rng)` gives the pixels of another photo and a thing to cut out, or None.

    At least one of the changes is made.
    """
    while True:
        changes = rng.random(4) < (0.7, 0.5, 0.5, 0.7)
        if changes.any():
            break
    if changes[0]:
        pixels, things = crop(rng, pixels, things)
    if changes[1]:
        pixels, things = flip(pixels, things)
    if changes[2]:
        for _ in range(1 + int(rng.random() < 0.4)):
            found = another(rng)
            if found is not None:
                pixels, things = paste(rng, pixels, things, *found)
    if changes[3]:
        pixels = relight(rng, pixels)
    return np.ascontiguousarray(pixels), things
