"""What a RefShapes picture shows, before a single pixel is drawn.

A scene is one to three background regions and three to seven things on them. All lengths are
fractions of the picture's side, x to the right and y down, so it can be drawn at any size.

Elements are numbered: things 0 .. n-1 from back to front, then the regions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from refgen.queries import stands

ROUND = ("circle", "ring", "heart", "moon")
CORNERED = ("square", "triangle", "star", "cross")
SHAPES = ROUND + CORNERED
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white")
SIZES = ("small", "big")
PATTERNS = ("plain", "striped", "dotted")
REGION_KINDS = ("sky", "grass", "sand", "water", "wall", "road")

# Area of a thing before occlusion, as a fraction of the picture.
AREA = {"small": (0.033, 0.043), "big": (0.092, 0.130)}
MIN_VISIBLE = 0.66  # share of itself that every thing keeps on the measuring grid; 0.6 is promised
MIN_DISTANCE = 0.13  # between the middles of two things
CELLS = 64  # side of the grid on which visibility and places are measured
MAX_ANGLE = 14.0  # degrees
SURE_ON = 0.80  # share of a thing that lies over the region
POSSIBLE_ON = 0.20


@dataclass(frozen=True)
class Border:
    """One edge of a region: everything `below` (or to the `right` of) a slanted, wavy line."""

    direction: str  # "below" or "right"
    offset: float  # where the line crosses the picture's middle
    slope: float
    amplitude: float
    waves: float  # periods over the picture
    phase: float

    def depth(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How far points (x, y) lie inside, in picture sides; negative outside. Same shape as x."""
        along, across = (x, y) if self.direction == "below" else (y, x)
        wave = self.amplitude * np.sin(2 * math.pi * (self.waves * along + self.phase))
        return across - self.offset - self.slope * (along - 0.5) - wave


@dataclass(frozen=True)
class Region:
    """A background region. It covers what lies inside all its borders and under no later region."""

    kind: str
    borders: tuple[Border, ...]
    x: float = 0.0  # centre of its extent (things on it not cut out)
    y: float = 0.0
    area: float = 0.0  # of its extent
    visible_area: float = 0.0  # with the things on it cut out


@dataclass(frozen=True)
class Thing:
    """A coloured shape. `x, y` is the centre of what is visible, `place` that of its outline."""

    shape: str
    colour: str
    size: str
    pattern: str
    place: tuple[float, float]
    angle: float  # degrees
    area: float  # before occlusion
    x: float = 0.0
    y: float = 0.0
    box: tuple[float, float, float, float] = (
        0.0,
        0.0,
        0.0,
        0.0,
    )  # left, top, right, bottom; visible
    visible: float = 1.0  # visible share of itself
    shares: tuple[float, ...] = ()  # share of its outline that lies over each region

    @property
    def radius(self) -> float:
        """Distance from its middle to its farthest point."""
        return reach(self.shape) * math.sqrt(self.area)


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    regions: tuple[Region, ...]
    texture: int  # seed of everything that carries no meaning: clouds, grain, bricks
    together: ClassVar[tuple[str, ...]] = ("on",)  # "on the grass" is on any patch of grass

    @property
    def thing_ids(self) -> range:
        return range(len(self.things))

    @property
    def region_ids(self) -> range:
        return range(len(self.things), len(self.things) + len(self.regions))

    def region(self, element: int) -> Region:
        return self.regions[element - len(self.things)]

    def element(self, element: int) -> Thing | Region:
        """The thing or region with this id."""
        return self.things[element] if element in self.thing_ids else self.region(element)

    def share_on(self, thing: int, regions: frozenset[int]) -> float:
        """The share of a thing that lies over these regions."""
        return sum(self.things[thing].shares[region - len(self.things)] for region in regions)

    def holds(self, element: int, word: str, anchors: frozenset[int]) -> tuple[bool, bool]:
        """Does a relation hold to the anchors: (surely, possibly).

        `word` is a direction, "on" (a thing on regions) or "with" (a region with a thing on it).
        """
        if word == "on":
            share = self.share_on(element, anchors)
            return share >= SURE_ON, share > POSSIBLE_ON
        (anchor,) = anchors
        if word == "with":
            share = self.share_on(anchor, frozenset({element}))
            return share >= SURE_ON, share > POSSIBLE_ON
        surely, possibly = stands(self.element(element), self.element(anchor), word)
        for thing, region in ((element, anchor), (anchor, element)):
            if thing in self.thing_ids and region in self.region_ids:
                surely = surely and self.share_on(thing, frozenset({region})) < POSSIBLE_ON
        return surely, possibly

    def kind_of(self, element: int) -> str:
        """The shape of a thing, the kind of a region."""
        item = self.element(element)
        return item.shape if isinstance(item, Thing) else item.kind


# ---------------------------------------------------------------- outlines


def _arc(radius: float, start: float, stop: float, points: int, centre: float = 0.0) -> np.ndarray:
    """Points on a circle around (centre, 0), angles in degrees, (points, 2)."""
    turn = np.radians(np.linspace(start, stop, points))
    return np.stack([centre + radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _raw_outline(shape: str) -> list[np.ndarray]:
    """Closed polygons, y down; the first is filled, a second one is a hole."""
    if shape == "circle":
        return [_arc(1.0, 0, 360, 64)]
    if shape == "ring":
        return [_arc(1.0, 0, 360, 64), _arc(0.52, 0, 360, 48)]
    if shape == "heart":
        t = np.linspace(0, 2 * math.pi, 72)
        up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return [np.stack([16 * np.sin(t) ** 3, -up], axis=1)]
    if shape == "moon":
        # Two circles through the horns: a wide outer arc and a flatter inner one.
        horn = 50.0
        tip_x, tip_y = math.cos(math.radians(horn)), math.sin(math.radians(horn))
        centre = 0.62
        radius = math.hypot(tip_x - centre, tip_y)
        bend = math.degrees(math.atan2(tip_y, tip_x - centre))
        outer = _arc(1.0, horn, 360 - horn, 56)
        inner = _arc(radius, 360 - bend, bend, 40, centre)
        return [np.concatenate([outer, inner])]
    if shape == "square":
        return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=float)]
    if shape == "triangle":
        return [_arc(1.0, -90, 150, 3)]
    if shape == "star":
        points = _arc(1.0, -90, 234, 10)
        points[1::2] *= 0.5
        return [points]
    if shape == "cross":
        a = 0.36
        corner = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)]
        return [np.array(corner + [(-x, -y) for x, y in corner], dtype=float)]
    raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")


def _area_and_centroid(polygon: np.ndarray) -> tuple[float, np.ndarray]:
    x, y = polygon.T
    x2, y2 = np.roll(polygon, -1, axis=0).T
    cross = x * y2 - x2 * y
    area = cross.sum() / 2
    centroid = np.array([((x + x2) * cross).sum(), ((y + y2) * cross).sum()]) / (6 * area)
    return abs(area), centroid


@cache
def outline(shape: str) -> tuple[np.ndarray, ...]:
    """The shape's polygons [(P, 2)], scaled to area 1 with its centroid at the origin."""
    polygons = _raw_outline(shape)
    area, centroid = _area_and_centroid(polygons[0])
    area -= sum(_area_and_centroid(hole)[0] for hole in polygons[1:])
    return tuple((polygon - centroid) / math.sqrt(area) for polygon in polygons)


@cache
def reach(shape: str) -> float:
    """Farthest point of the unit-area outline from its centroid."""
    return float(np.hypot(*outline(shape)[0].T).max())


def polygons_of(thing: Thing) -> list[np.ndarray]:
    """The thing's polygons where it stands in the picture, [(P, 2)] in picture sides."""
    turn = math.radians(thing.angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    scale = math.sqrt(thing.area)
    return [
        polygon @ rotation.T * scale + np.array(thing.place) for polygon in outline(thing.shape)
    ]


def fill(
    polygons: list[np.ndarray],
    width: int,
    height: int,
    scale: float,
    left: float = 0.0,
    top: float = 0.0,
) -> Image.Image:
    """Polygons as an "L" picture of 0 and 255, `scale` pixels a picture side, from (left, top)."""
    canvas = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(canvas)
    for i, polygon in enumerate(polygons):
        # A pixel belongs to the polygon that holds its centre, hence the half.
        corners = (polygon - (left, top)) * scale - 0.5
        pen.polygon(corners.ravel().tolist(), fill=0 if i else 255)
    return canvas


def pixel_centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, size) and y (size, 1) of the pixel centres, in picture sides."""
    middle = (np.arange(size, dtype=np.float32) + 0.5) / size
    return middle[None, :], middle[:, None]


# ---------------------------------------------------------------- making a scene

# What may lie above what: pictures should make sense to the eye.
_BANDS = {
    2: (
        ("sky", "grass"),
        ("sky", "sand"),
        ("sky", "water"),
        ("sky", "road"),
        ("wall", "grass"),
        ("wall", "road"),
        ("wall", "sand"),
        ("water", "sand"),
        ("grass", "road"),
        ("water", "grass"),
        ("grass", "sand"),
        ("sand", "water"),
    ),
    3: (
        ("sky", "water", "sand"),
        ("sky", "grass", "road"),
        ("wall", "grass", "road"),
        ("sky", "water", "grass"),
        ("sky", "wall", "road"),
        ("sky", "sand", "water"),
        ("grass", "road", "grass"),
        ("sand", "water", "sand"),
        ("grass", "water", "grass"),
    ),
}
_COLUMNS = {
    2: (
        ("grass", "sand"),
        ("sand", "grass"),
        ("water", "sand"),
        ("sand", "water"),
        ("grass", "road"),
        ("road", "grass"),
        ("grass", "water"),
        ("road", "sand"),
    ),
    3: (
        ("grass", "road", "grass"),
        ("sand", "road", "sand"),
        ("sand", "water", "sand"),
        ("grass", "sand", "water"),
        ("grass", "water", "grass"),
        ("road", "grass", "sand"),
    ),
}
_CORNER = (
    ("sky", "grass", "sand"),
    ("sky", "grass", "road"),
    ("sky", "water", "sand"),
    ("sky", "road", "grass"),
    ("wall", "grass", "road"),
    ("wall", "sand", "grass"),
    ("sky", "sand", "water"),
    ("wall", "road", "grass"),
)
_ALONE = ("grass", "sand", "water", "wall", "road")


def _border(rng: np.random.Generator, direction: str, offset: float) -> Border:
    wavy = rng.random() < 0.7
    return Border(
        direction=direction,
        offset=offset + rng.uniform(-0.05, 0.05),
        slope=rng.uniform(-0.14, 0.14),
        amplitude=rng.uniform(0.012, 0.03) if wavy else 0.0,
        waves=rng.uniform(0.8, 2.4),
        phase=rng.random(),
    )


def _choice(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _make_regions(rng: np.random.Generator) -> list[Region]:
    count = 1 + int(rng.choice(3, p=(0.12, 0.50, 0.38)))
    if count == 1:
        return [Region(_choice(rng, _ALONE), ())]
    layout = rng.choice(3, p=(0.5, 0.25, 0.25)) if count == 3 else rng.choice(2, p=(0.72, 0.28))
    if layout == 2:  # one band on top, two columns under it
        top, left, right = _choice(rng, _CORNER)
        under = _border(rng, "below", rng.uniform(0.32, 0.42))
        beside = _border(rng, "right", rng.uniform(0.42, 0.58))
        return [Region(top, ()), Region(left, (under,)), Region(right, (under, beside))]
    kinds = _choice(rng, (_BANDS if layout == 0 else _COLUMNS)[count])
    direction = "below" if layout == 0 else "right"
    offsets = (rng.uniform(0.35, 0.65),) if count == 2 else (0.33, 0.67)
    borders = [_border(rng, direction, offset) for offset in offsets]
    return [Region(kinds[0], ())] + [
        Region(k, (b,)) for k, b in zip(kinds[1:], borders, strict=True)
    ]


def region_map(regions: tuple[Region, ...] | list[Region], size: int) -> np.ndarray:
    """Which region each pixel belongs to, things left out: (size, size) uint8 of region indices."""
    x, y = pixel_centres(size)
    result = np.zeros((size, size), dtype=np.uint8)
    for i, region in enumerate(regions):
        inside = np.ones((size, size), dtype=bool)
        for border in region.borders:
            inside &= border.depth(x, y) >= 0
        result[inside] = i
    return result


def _attributes(rng: np.random.Generator, referable: tuple[str, ...]) -> list[dict[str, str]]:
    """Attributes of the scene's things: few shapes and colours, many near-twins."""
    count = 3 + int(rng.choice(5, p=(0.10, 0.22, 0.30, 0.24, 0.14)))
    shapes = [_choice(rng, referable)]
    shapes += [str(s) for s in rng.choice(SHAPES, size=int(rng.integers(1, 4)), replace=False)]
    colours = [str(c) for c in rng.choice(COLOURS, size=int(rng.integers(2, 5)), replace=False)]

    def fresh() -> dict[str, str]:
        return {
            "shape": shapes[0] if rng.random() < 0.4 else _choice(rng, shapes),
            "colour": _choice(rng, colours),
            "size": SIZES[int(rng.random() < 0.4)],
            "pattern": PATTERNS[int(rng.choice(3, p=(0.5, 0.27, 0.23)))],
        }

    first = fresh()
    first["shape"] = shapes[0]
    made = [first]
    while len(made) < count:
        draw = rng.random()
        if draw < 0.55:  # a near-twin: all but one attribute of an earlier thing
            twin = dict(_choice(rng, made))
            changed = _choice(rng, ("shape", "colour", "colour", "size", "pattern"))
            options = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "pattern": PATTERNS}
            twin[changed] = _choice(rng, [v for v in options[changed] if v != twin[changed]])
            made.append(twin)
        elif draw < 0.66:  # a double: only its place tells it apart
            made.append(dict(_choice(rng, made)))
        else:
            made.append(fresh())
    order = rng.permutation(count)
    return [made[i] for i in order]


def _grid_mask(thing: Thing) -> np.ndarray:
    return np.asarray(fill(polygons_of(thing), CELLS, CELLS, CELLS)) > 0


def _stand(thing: Thing, place: tuple[float, float]) -> Thing:
    return Thing(
        thing.shape, thing.colour, thing.size, thing.pattern, place, thing.angle, thing.area
    )


def _place_things(rng: np.random.Generator, things: list[Thing]) -> list[Thing] | None:
    """Give each thing a place, back to front; None if one finds no room."""
    placed: list[Thing] = []
    masks: list[np.ndarray] = []  # whole outlines
    seen: list[np.ndarray] = []  # what is visible of them
    for thing in things:
        overlap_wanted = rng.random() < 0.35
        margin = thing.radius + 0.01
        found = False
        for attempt in range(40):
            candidate = _stand(thing, tuple(rng.uniform(margin, 1 - margin, 2).tolist()))
            near = []
            for i, other in enumerate(placed):
                apart = math.dist(candidate.place, other.place)
                if apart < MIN_DISTANCE:
                    break
                if apart < candidate.radius + other.radius + 0.01:
                    near.append(i)
            else:
                # Two of one colour must not melt into one.
                same = any(placed[i].colour == candidate.colour for i in near)
                if same or (near and not overlap_wanted and attempt < 25):
                    continue
                mask = _grid_mask(candidate)
                left = {i: seen[i] & ~mask for i in near}
                if all(left[i].sum() >= MIN_VISIBLE * masks[i].sum() for i in near):
                    found = True
            if found:
                break
        if not found:
            return None
        for i in near:
            seen[i] = left[i]
        placed.append(candidate)
        masks.append(mask)
        seen.append(mask)
    return placed


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a mask on the grid, in picture sides."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return (
        float(columns[0] / CELLS),
        float(rows[0] / CELLS),
        float((columns[-1] + 1) / CELLS),
        float((rows[-1] + 1) / CELLS),
    )


def _measure(things: list[Thing], regions: list[Region], texture: int) -> Scene:
    """Fill in what is measured on the grid: visible centres and shares, extents of regions."""
    ground = region_map(regions, CELLS)
    x, y = pixel_centres(CELLS)
    x, y = (
        np.broadcast_to(x, (CELLS, CELLS)),
        np.broadcast_to(y, (CELLS, CELLS)),
    )
    covered = np.zeros((CELLS, CELLS), dtype=bool)
    measured = []
    for thing in reversed(things):
        whole = _grid_mask(thing)
        visible = whole & ~covered
        covered |= whole
        counts = np.bincount(ground[whole], minlength=len(regions)) / whole.sum()
        measured.append(
            Thing(
                thing.shape,
                thing.colour,
                thing.size,
                thing.pattern,
                tuple(round(v, 5) for v in thing.place),
                round(thing.angle, 3),
                round(thing.area, 6),
                x=round(float(x[visible].mean()), 4),
                y=round(float(y[visible].mean()), 4),
                box=_box(visible),
                visible=round(float(visible.sum() / whole.sum()), 4),
                shares=tuple(round(float(c), 3) for c in counts),
            )
        )
    extents = []
    for i, region in enumerate(regions):
        extent = ground == i
        extents.append(
            Region(
                region.kind,
                region.borders,
                x=round(float(x[extent].mean()), 4) if extent.any() else 0.0,
                y=round(float(y[extent].mean()), 4) if extent.any() else 0.0,
                area=round(float(extent.mean()), 4),
                visible_area=round(float((extent & ~covered).mean()), 4),
            )
        )
    return Scene(tuple(reversed(measured)), tuple(extents), texture)


def make_scene(rng: np.random.Generator, referable: tuple[str, ...] = SHAPES) -> Scene:
    """A new scene with at least one thing whose shape is in `referable`.

    Every thing lies wholly in the picture, covers 3-25 % of it, and keeps at least 60 % of itself
    visible; every region keeps at least 8 % of the picture.
    """
    while True:
        regions = _make_regions(rng)
        things = [
            Thing(
                **attributes,
                place=(0.5, 0.5),
                angle=rng.uniform(-MAX_ANGLE, MAX_ANGLE),
                area=rng.uniform(*AREA[attributes["size"]]),
            )
            for attributes in _attributes(rng, referable)
        ]
        texture = int(rng.integers(2**31))
        placed = _place_things(rng, things)
        if placed is None:
            continue
        scene = _measure(placed, regions, texture)
        if all(region.visible_area >= 0.08 for region in scene.regions):
            return scene
