"""What is annotated in a photo, and the leaves and places of the queries about it.

As in refgen/queries.py, lengths are fractions of the photo's sides. What annotations leave open is
left open here: a kind with a crowd region, a kind that nobody annotated in this photo and a kind
of which there are suspiciously many are unclear as a whole, and something tiny, or of which a crop
left little, is only possibly there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from typing import ClassVar

import numpy as np
from scipy import ndimage

from refgen.queries import DIRECTIONS, Ordinal, Query, Reading, reading, stands, unclear

from . import colours, words

MIN_AREA = 0.012  # of the photo's area: what phrases are made for
TINY = 0.0012  # smaller ones are only possibly there
KEPT = 0.75  # of an object's pixels that a variant must keep, or it is not referred to
WHOLE = 0.75  # of an object's pixels that are in one piece, or it is not referred to
SLIVER = 0.25  # of which less is kept is only possibly there
MANY = 13  # annotators stop counting about here
TOUCH_GRID = 96  # the longer side of the masks that touching is judged on
STRIP = 0.07  # of a side
LIGHT_ENOUGH = 20.0  # lightness that a thing or what is around it must have, or nobody makes it out
FULL = 0.98  # of a photo: one that reaches beyond it is cut

PLACES = ("left", "right", "top", "bottom", "middle")


@dataclass
class Thing:
    """An annotated object: what of it is visible, and what its colours are."""

    kind: str
    mask: np.ndarray  # (H, W) bool, visible pixels
    annotation: int | str = 0
    crowd: bool = False
    kept: float = 1.0  # of the pixels that were annotated
    label: str | None = None  # of a person: one of LABELS, from somebody who looked
    x: float = 0.0
    y: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    area: float = 0.0
    whole: float = 1.0  # of its pixels, those in the largest piece
    light: float = 100.0  # median lightness of its pixels or of those around it, the higher one
    colours: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset(colours.COLOUR_NAMES))

    @property
    def radius(self) -> float:
        """Half the diagonal of its box."""
        left, top, right, bottom = self.box
        return float(np.hypot(right - left, bottom - top)) / 2

    @property
    def doubtful(self) -> bool:
        return self.area < TINY or self.kept < SLIVER

    @property
    def referable(self) -> bool:
        whole = self.kept >= KEPT and self.whole >= WHOLE and not self.strip
        large = self.area >= MIN_AREA
        return not self.crowd and large and whole and self.light >= LIGHT_ENOUGH

    @property
    def cut(self) -> bool:
        """Does it reach the photo's edge, so that nobody sees how big it is?"""
        left, top, right, bottom = self.box
        return min(left, top) < 1 - FULL or max(right, bottom) > FULL

    @property
    def strip(self) -> bool:
        """A narrow strip at the photo's edge: too little to know it by."""
        left, top, right, bottom = self.box
        at_side = (left < 1 - FULL or right > FULL) and right - left < STRIP
        return at_side or ((top < 1 - FULL or bottom > FULL) and bottom - top < STRIP)

    def measure(self, codes: np.ndarray, has_colours: bool) -> None:
        """Fill in where it is, how well it is seen and, where the photo has colours, which it has.

        `codes` are those of the photo's pixels (H, W).
        """
        height, width = self.mask.shape
        self.colours = frozenset(), frozenset(colours.COLOUR_NAMES)
        down, across = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not len(down):
            return
        first, start = down[0], across[0]
        rows, columns = np.nonzero(self.mask[first : down[-1] + 1, start : across[-1] + 1])
        rows, columns = rows + first, columns + start
        self.area = len(rows) / self.mask.size
        pieces, _ = ndimage.label(self.mask[first : rows.max() + 1, start : columns.max() + 1])
        self.whole = float(np.bincount(pieces.flat)[1:].max() / len(rows))
        self.x, self.y = (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        self.box = (left / width, top / height, right / width, bottom / height)
        if self.area < TINY:
            return
        around = codes[first : rows.max() + 1, start : columns.max() + 1]
        around = around[~self.mask[first : rows.max() + 1, start : columns.max() + 1]]
        self.light = colours.lightness(codes[rows, columns])
        if len(around):
            self.light = max(self.light, colours.lightness(around))
        if not has_colours:
            return
        part = np.ones(len(rows), dtype=bool)
        if self.kind == "person":
            part = _clothes(rows - top, columns, bottom - top, right - left, self.box[3] > FULL)
        whole = codes[rows, columns]
        self.colours = colours.colours(whole[part], whole)


def _clothes(rows, columns, height: int, width: int, cut: bool) -> np.ndarray:
    """Which pixels of a person are clothes above the hips, hair and arms left out; maybe none.

    `cut`: the photo ends below, so that the person's lower part is not in it.
    """
    if not 1.0 <= height / width <= 4.5 or (height / width < 1.7 and not cut):
        return np.zeros(len(rows), dtype=bool)
    first, last = (0.5, 0.9) if height / width < 1.7 else (0.24, 0.5)
    band = (rows >= first * height) & (rows < last * height)
    if not band.any():
        return band
    middle, spread = columns[band].mean(), columns[band].std()
    return band & (abs(columns - middle) <= 1.2 * spread)


def _overlap(one: Thing, other: Thing) -> bool:
    """Do two boxes meet? A slice of a pizza is in the pizza, or beside the next slice."""
    (left, top, right, bottom), (left_2, top_2, right_2, bottom_2) = one.box, other.box
    across = min(right, right_2) - max(left, left_2)
    return across > 0 and min(bottom, bottom_2) - max(top, top_2) > 0


@dataclass
class Scene:
    """The objects of a photo, and which kinds are annotated in it (None: all)."""

    things: list[Thing]
    covered: frozenset[str] | None = None
    together: ClassVar[tuple[str, ...]] = ()
    _read: dict = field(default_factory=dict, repr=False)

    @property
    def thing_ids(self) -> range:
        return range(len(self.things))

    def element(self, element: int) -> Thing:
        return self.things[element]

    @cached_property
    def unknown(self) -> dict[str, str]:
        """Kinds of which nobody knows how many there are, and why."""
        counts = Counter(thing.kind for thing in self.things)
        reasons = {kind: "many of its kind" for kind, count in counts.items() if count >= MANY}
        for one, other in permutations(self.things, 2):
            if one.kind == other.kind and one.kind in words.FOOD and _overlap(one, other):
                reasons[one.kind] = "pieces of one another"
        return reasons | {thing.kind: "a crowd of its kind" for thing in self.things if thing.crowd}

    def knows(self, kinds: frozenset[str]) -> bool:
        """Is every object of these kinds annotated, one by one?"""
        return not (kinds & self.unknown.keys()) and (self.covered is None or kinds <= self.covered)

    # ------------------------------------------------------------ relations

    @cached_property
    def _shape(self) -> tuple[int, int]:
        return self.things[0].mask.shape

    def _pixels(self, element: int) -> tuple[float, float, float, float]:
        height, width = self._shape
        left, top, right, bottom = self.things[element].box
        return left * width, top * height, right * width, bottom * height

    def gap(self, one: int, other: int) -> float:
        """Between two boxes, in pixels; 0 if they overlap."""
        left, top, right, bottom = self._pixels(one)
        left_2, top_2, right_2, bottom_2 = self._pixels(other)
        across = max(left - right_2, left_2 - right, 0)
        return float(np.hypot(across, max(top - bottom_2, top_2 - bottom, 0)))

    def _coarse(self, element: int) -> np.ndarray:
        """The thing's mask, `step` times smaller: cells that hold a pixel of it."""
        if ("coarse", element) not in self._read:
            step = max(1, max(self._shape) // TOUCH_GRID)
            mask = np.zeros([-(-side // step) for side in self._shape], dtype=bool)
            rows, columns = np.nonzero(self.things[element].mask)
            mask[rows // step, columns // step] = True
            self._read["coarse", element] = mask
        return self._read["coarse", element]

    def _touch(self, one: int, other: int) -> bool:
        """Do two masks meet, as far as the eye can tell?"""
        grown = self._coarse(one), self._coarse(other)
        near = grown[0].copy()
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            near |= np.roll(grown[0], shift, axis)
        return bool((near & grown[1]).any())

    def holds(self, element: int, word: str, anchors: frozenset[int]) -> tuple[bool, bool]:
        """Does a relation hold to the anchor: (surely, possibly).

        `word` is a direction, "next to", "on", "with" (carrying, wearing) or "riding".
        """
        (anchor,) = anchors
        left, top, right, bottom = self._pixels(element)
        left_2, top_2, right_2, bottom_2 = self._pixels(anchor)
        if word in DIRECTIONS:  # what stands before another is neither left nor right of it
            surely, possibly = stands(self.things[element], self.things[anchor], word)
            across = word in ("left of", "right of")
            shared = min(right, right_2) - max(left, left_2)
            shared = shared if across else min(bottom, bottom_2) - max(top, top_2)
            sides = (right - left, right_2 - left_2) if across else (bottom - top, bottom_2 - top_2)
            return surely and bool(shared <= 0.2 * min(sides)), possibly
        width, height = min(right - left, right_2 - left_2), min(bottom - top, bottom_2 - top_2)
        sizes = [np.sqrt((right - left) * (bottom - top))]
        sizes += [np.sqrt((right_2 - left_2) * (bottom_2 - top_2))]
        gap = self.gap(element, anchor)
        inside_x = left_2 <= (left + right) / 2 <= right_2
        if word == "next to":
            beside = max(left, left_2) - min(right, right_2)  # negative where they overlap
            level = min(bottom, bottom_2) - max(top, top_2) >= 0.5 * height
            surely = level and -0.3 * width <= beside <= 0.6 * width and max(sizes) < 4 * min(sizes)
            return bool(surely), gap < 1.6 * max(sizes)
        one, other = self.things[element], self.things[anchor]
        if word in ("on", "riding"):
            # What is under it is seen below it: its lowest point lies on the anchor.
            rests = top_2 < bottom <= bottom_2 + 0.1 * (bottom_2 - top_2) and one.y < other.y
            surely = inside_x and rests and self._touch(element, anchor)
            return bool(surely), gap < 0.02 * max(self._shape)
        if word == "with":
            grown = 0.15 * sizes[0]
            held = left - grown <= (left_2 + right_2) / 2 <= right + grown
            held = held and top - grown <= (top_2 + bottom_2) / 2 <= bottom + grown
            surely = held and self._touch(element, anchor)
            return bool(surely), gap < 0.05 * max(self._shape)
        raise ValueError(f"no such relation: {word!r}")


@dataclass(frozen=True)
class Objects:
    """All objects of these kinds, of a colour, and with a label; those of `maybe` kinds perhaps."""

    kinds: frozenset[str]
    maybe: frozenset[str] = frozenset()
    colour: str | None = None  # of a person: of the clothes
    labels: frozenset[str] | None = None
    maybe_labels: frozenset[str] = frozenset()
    countable: ClassVar[bool] = True

    def reading(self, scene: Scene) -> Reading:
        if self not in scene._read:
            scene._read[self] = self._evaluate(scene)
        return scene._read[self]

    def _evaluate(self, scene: Scene) -> Reading:
        surely, possibly = set(), set()
        for i, thing in enumerate(scene.things):
            if thing.kind not in self.kinds | self.maybe:
                continue
            sure = thing.kind in self.kinds and not thing.doubtful
            if self.colour is not None:
                if self.colour not in thing.colours[1]:
                    continue
                sure = sure and self.colour in thing.colours[0]
            if self.labels is not None:
                if thing.label not in (None, *self.labels, *self.maybe_labels):
                    continue
                sure = sure and thing.label in self.labels
            possibly.add(i)
            if sure:
                surely.add(i)
        if not scene.knows(self.kinds | self.maybe):
            return unclear(frozenset(possibly))
        return Reading(frozenset(surely), frozenset(possibly))


@dataclass(frozen=True)
class Placed:
    """Those of `query` that stand in parts of the photo, one or two of PLACES."""

    query: Query
    places: tuple[str, ...]
    countable: ClassVar[bool] = True

    def reading(self, scene: Scene) -> Reading:
        found = reading(self.query, scene)
        things = scene.things
        surely = {i for i in found.surely if all(_within(things[i], p)[0] for p in self.places)}
        possibly = {i for i in found.possibly if all(_within(things[i], p)[1] for p in self.places)}
        return Reading(frozenset(surely), frozenset(possibly))


def _within(thing: Thing, place: str) -> tuple[bool, bool]:
    left, top, right, bottom = thing.box
    if place == "middle":
        off = abs(thing.x - 0.5)
        return off < 0.1 and right - left < 0.6, off < 0.25
    centre, near_edge, far_edge = {
        "left": (thing.x, left, right),
        "right": (1 - thing.x, 1 - right, 1 - left),
        "top": (thing.y, top, bottom),
        "bottom": (1 - thing.y, 1 - bottom, 1 - top),
    }[place]
    return centre < 0.36 and far_edge < 0.62, centre < 0.55


@dataclass(frozen=True)
class Middle:
    """Of exactly three of `query`, side by side, the one between the others."""

    query: Query
    countable: ClassVar[bool] = True

    def reading(self, scene: Scene) -> Reading:
        found = reading(self.query, scene)
        if len(found.possibly) != 3:
            return unclear(found.possibly)
        left, right = (reading(Ordinal(self.query, 2, side), scene) for side in ("left", "right"))
        # Whoever thinks of the photo's middle must mean the same.
        off = {i: abs(scene.things[i].x - 0.5) for i in found.possibly}
        central = min(off, key=lambda i: off[i])
        clear = left == right and central in left.surely and off[central] < 0.2
        return left if clear else unclear(found.possibly)
