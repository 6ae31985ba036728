"""Which colour something surely has, and which it possibly has, as people name colours.

A pixel is judged in CIELAB by lightness, chroma and hue. Each name has a narrow core, which nobody
would call otherwise, and a wide neighbourhood, which somebody might call so. Something is surely
red if its median lies in the core and most of it in the neighbourhood, and possibly red if a third
of it lies in the neighbourhood.
"""

from __future__ import annotations

from functools import cache

import numpy as np

# Lightness, chroma and hue (degrees; from > to passes through 0): core, then neighbourhood.
RANGES = {
    "black": (((0, 23), (0, 9), (0, 360)), ((0, 38), (0, 22), (0, 360))),
    "white": (((70, 101), (0, 11), (0, 360)), ((58, 101), (0, 18), (0, 360))),
    "gray": (((40, 57), (0, 8), (0, 360)), ((24, 80), (0, 15), (0, 360))),
    "red": (((18, 62), (32, 200), (10, 44)), ((8, 78), (22, 200), (345, 50))),
    "orange": (((48, 82), (45, 200), (52, 74)), ((36, 92), (26, 200), (38, 84))),
    "yellow": (((64, 101), (38, 200), (80, 106)), ((46, 101), (22, 200), (68, 116))),
    "green": (((15, 90), (16, 200), (115, 170)), ((6, 101), (7, 200), (95, 195))),
    "blue": (((10, 85), (16, 200), (235, 294)), ((4, 95), (7, 200), (205, 314))),
    "purple": (((12, 80), (18, 200), (312, 332)), ((5, 95), (8, 200), (294, 348))),
    "pink": (((58, 92), (20, 200), (345, 16)), ((42, 96), (10, 200), (325, 36))),
    "brown": (((16, 44), (12, 50), (46, 76)), ((6, 62), (6, 70), (28, 90))),
}
COLOUR_NAMES = tuple(RANGES)
SURE_SHARE = 0.58  # of the neighbourhood
RIVAL_SHARE = 0.3  # no other name's core may take so much of it
POSSIBLE_SHARE = 0.33  # of the neighbourhood, in what decides or in all of it
SAMPLE = 2000  # about so many pixels are looked at
ENOUGH = 40  # pixels that decide; with fewer none is sure
GRAYSCALE = 4.0  # mean chroma of a photo without colours
DARK = 22.0  # median lightness of a photo that is too dark to name colours


def lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) of 0 .. 255 -> CIELAB under D65 (..., 3)."""
    linear = rgb / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _inside(lightness, chroma, hue, ranges) -> np.ndarray:
    (low, high), (faint, strong), (start, stop) = ranges
    turn = (hue >= start) & (hue <= stop) if start < stop else (hue >= start) | (hue <= stop)
    return (lightness >= low) & (lightness < high) & (chroma >= faint) & (chroma < strong) & turn


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """For each of 32,768 colours (5 bits a channel): bits of the names whose core holds it, and
    of those whose neighbourhood does; and its lightness, a and b."""
    steps = np.arange(32) * 8 + 4
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, a, b = lab(rgb.astype(float)).T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    bits = np.zeros((2, len(rgb)), dtype=np.uint16)
    for name, ranges in enumerate(RANGES.values()):
        for width in (0, 1):
            bits[width] |= _inside(lightness, chroma, hue, ranges[width]).astype(np.uint16) << name
    return bits, np.stack([lightness, a, b])


def code(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) row of `_table` for each pixel."""
    red, green, blue = np.moveaxis(pixels.astype(np.uint16) >> 3, -1, 0)
    return red << 10 | green << 5 | blue


def lightness(codes: np.ndarray) -> float:
    """The median, 0 to 100."""
    return float(np.median(_table()[1][0, codes]))


def without_colours(codes: np.ndarray) -> bool:
    """Is the photo grey or too dark, so that no colour in it is sure?"""
    lightness, a, b = _table()[1][:, codes[::4, ::4].ravel()]
    return np.hypot(a, b).mean() < GRAYSCALE or np.median(lightness) < DARK


def shares(codes: np.ndarray) -> np.ndarray:
    """(2, names): the share of these pixels in each name's core and neighbourhood."""
    bits = _table()[0][:, codes]
    names = np.arange(len(COLOUR_NAMES), dtype=np.uint16)[:, None]
    return ((bits[:, None, :] >> names) & 1).mean(axis=-1)


def colours(part: np.ndarray, whole: np.ndarray) -> tuple[frozenset[str], frozenset[str]]:
    """Names that something surely and possibly has.

    `part` are the codes of the pixels that decide, `whole` those of all of it: a person in black
    trousers is possibly "in black".
    """
    part, whole = (codes[:: 1 + len(codes) // SAMPLE] for codes in (part, whole))
    if len(part) < ENOUGH:
        near = shares(whole)[1]
        return frozenset(), frozenset(
            COLOUR_NAMES[i] for i in np.flatnonzero(near > 0.6 * POSSIBLE_SHARE)
        )
    core, near = shares(part)
    lightness, a, b = np.median(_table()[1][:, part], axis=1)
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    surely = set()
    for i, name in enumerate(COLOUR_NAMES):
        rivals = np.delete(core, i)
        if name in ("black", "white", "gray"):  # dark blue is no black
            rivals = np.append(rivals, near[3:])
        if near[i] >= SURE_SHARE and rivals.max() < RIVAL_SHARE:
            if _inside(lightness, chroma, hue, RANGES[name][0]):
                surely.add(name)
    near = np.maximum(near, shares(whole)[1])
    possible = {COLOUR_NAMES[i] for i in np.flatnonzero(near > POSSIBLE_SHARE)}
    return frozenset(surely), frozenset(possible | surely)
