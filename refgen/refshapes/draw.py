"""A scene as pixels: the picture and the mask of every element.

Edges are anti-aliased; an element's mask is where it covers at least half of the pixel. Everything
is drawn from the scene alone, so the same scene always gives the same bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from .scene import Region, Scene, Thing, fill, pixel_centres, polygons_of

INK = {
    "red": (214, 48, 58),
    "orange": (243, 129, 38),
    "yellow": (252, 208, 52),
    "green": (26, 140, 82),
    "blue": (44, 92, 200),
    "purple": (132, 66, 168),
    "white": (246, 244, 238),
}
# The second colour of stripes and dots: light on dark inks, dark on light ones.
SECOND = {
    "red": (255, 226, 214),
    "orange": (255, 240, 214),
    "yellow": (196, 132, 10),
    "green": (206, 244, 196),
    "blue": (206, 226, 255),
    "purple": (240, 214, 250),
    "white": (150, 160, 182),
}
GROUND = {
    "sky": (158, 205, 236),
    "grass": (140, 178, 92),
    "sand": (226, 202, 156),
    "water": (92, 172, 186),
    "wall": (186, 140, 118),
    "road": (134, 136, 142),
}
SUPERSAMPLE = 4
STRIPE_PERIOD = 0.075  # picture sides
DOT_PERIOD = 0.072


# ---------------------------------------------------------------- textures


def _smooth_noise(rng: np.random.Generator, cells_x: int, cells_y: int, size: int) -> np.ndarray:
    """Noise with about that many bumps across and down, (size, size), mean 0, deviation 1."""
    coarse = Image.fromarray(rng.standard_normal((cells_y + 2, cells_x + 2)).astype(np.float32))
    fine = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return (fine - fine.mean()) / fine.std()


@lru_cache(maxsize=8)
def _noise_bank(size: int) -> dict[str, np.ndarray]:
    """Fixed tiles, each (4, 2*size, 2*size); a scene cuts its own windows out of them."""
    rng = np.random.default_rng(20)
    cells = {  # across, down; of a tile two pictures wide
        "cloud": (10, 16),
        "blade": (110, 36),
        "ripple": (14, 70),
        "grain": (120, 120),
        "blotch": (12, 12),
    }
    tiles = {
        name: np.stack([_smooth_noise(rng, *shape, 2 * size) for _ in range(4)]).astype(np.float32)
        for name, shape in cells.items()
    }
    tiles["speck"] = rng.standard_normal((4, 2 * size, 2 * size)).astype(np.float32)
    return tiles


class _Noise:
    """Windows of the bank, chosen by the scene's texture seed."""

    def __init__(self, seed: int, size: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.bank = _noise_bank(size)
        self.size = size

    def __call__(self, name: str) -> np.ndarray:
        """A window (size, size) of the named noise."""
        tile = int(self.rng.integers(4))
        # Places are drawn as fractions: the same window at every size.
        top, left = (int(v * self.size) for v in self.rng.random(2))
        return self.bank[name][tile, top : top + self.size, left : left + self.size]


def _texture(kind: str, noise: _Noise) -> np.ndarray:
    """A region kind's surface over the whole picture, (S, S, 3) float32 in 0..255."""
    size = noise.size
    x, y = pixel_centres(size)
    base = np.array(GROUND[kind], dtype=np.float32)
    light = 4.0 * noise("blotch")
    if kind == "sky":
        clouds = np.clip(0.9 * noise("cloud") - 0.35, 0, 1)[..., None] * 0.75
        fading = base + (y[..., None] - 0.3) * np.array([48, 26, 6], dtype=np.float32)
        return fading * (1 - clouds) + np.array([250, 251, 252], dtype=np.float32) * clouds
    if kind == "grass":
        light = light * 1.4 + 9.0 * noise("blade") + 3.0 * noise("grain")
        return base + light[..., None] * np.array([0.9, 1.0, 0.6], dtype=np.float32)
    if kind == "sand":
        light = light + 4.5 * noise("ripple") + 4.0 * noise("grain")
    elif kind == "water":
        waves = np.sin(2 * math.pi * (15 * y + 0.5 * noise("ripple") + 0.25 * noise("blotch")))
        light = light + 15.0 * np.clip(waves - 0.35, 0, 1) + 2.5 * noise("ripple")
        return base + light[..., None] * np.array([1.4, 1.1, 1.0], dtype=np.float32)
    elif kind == "wall":
        return _bricks(base, noise) + light[..., None]
    elif kind == "road":
        light = light + 5.0 * noise("grain") + 3.0 * noise("speck")
    return base + light[..., None]


def _bricks(base: np.ndarray, noise: _Noise) -> np.ndarray:
    """Rows of bricks with pale mortar, (S, S, 3)."""
    x, y = pixel_centres(noise.size)
    rows, columns = 13, 6.5
    row = np.floor(y * rows)
    along = x * columns + 0.5 * (row % 2)
    tones = noise.rng.normal(0, 8, (rows + 1, int(columns) + 3)).astype(np.float32)
    tone = tones[row.astype(int), np.floor(along).astype(int)]
    mortar_half = 0.006
    to_row = np.abs((y * rows + 0.5) % 1 - 0.5) / rows
    to_column = np.abs((along + 0.5) % 1 - 0.5) / columns
    distance = np.minimum(np.broadcast_to(to_row, tone.shape), to_column)
    mortar = np.clip((mortar_half - distance) * noise.size * 0.8 + 0.5, 0, 1)[..., None] * 0.6
    brick = base + (tone + 3.0 * noise("grain"))[..., None] * np.array([1, 0.85, 0.8], np.float32)
    return brick * (1 - mortar) + np.array([222, 208, 192], dtype=np.float32) * mortar


def _region_cover(region: Region, size: int) -> np.ndarray:
    """How much of each pixel lies inside the region's borders, (size, size) in 0..1."""
    x, y = pixel_centres(size)
    cover = np.ones((size, size), dtype=np.float32)
    for border in region.borders:
        cover = np.minimum(cover, np.clip(border.depth(x, y) * size + 0.5, 0, 1))
    return cover


# ---------------------------------------------------------------- things


def _window(thing: Thing, size: int, padding: float) -> tuple[slice, slice]:
    """Rows and columns of the pixels that the thing and its shadow may touch."""
    reach = thing.radius + padding
    slices = []
    for middle in (thing.place[1], thing.place[0]):
        start = max(0, math.floor((middle - reach) * size))
        slices.append(slice(start, min(size, math.ceil((middle + reach) * size))))
    return slices[0], slices[1]


def _thing_cover(thing: Thing, size: int, rows: slice, columns: slice) -> Image.Image:
    """How much of each pixel of the window the thing covers, "L" 0..255."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    fine = fill(
        polygons_of(thing),
        width * SUPERSAMPLE,
        height * SUPERSAMPLE,
        size * SUPERSAMPLE,
        columns.start / size,
        rows.start / size,
    )
    return fine.reduce(SUPERSAMPLE)


def _pattern(thing: Thing, u: np.ndarray, v: np.ndarray, size: int) -> np.ndarray:
    """Share of the second colour at points (u, v) of the thing's own axes, same shape, 0..1."""
    if thing.pattern == "plain":
        return np.zeros_like(u)
    if thing.pattern == "striped":
        along = (u + v) / math.sqrt(2) / STRIPE_PERIOD
        distance = (0.21 - np.abs((along + 0.5) % 1 - 0.5)) * STRIPE_PERIOD
    else:
        row = np.floor(v / DOT_PERIOD + 0.5)
        across = u / DOT_PERIOD + 0.5 * (row % 2)
        du = (across + 0.5) % 1 - 0.5
        dv = v / DOT_PERIOD - row
        distance = (0.31 - np.hypot(du, dv)) * DOT_PERIOD
    return np.clip(distance * size + 0.5, 0, 1)


def _paint_thing(canvas: np.ndarray, thing: Thing, size: int) -> np.ndarray:
    """Paint shadow and thing onto canvas (S, S, 3) in place; its cover (S, S) in 0..1."""
    rows, columns = _window(thing, size, padding=0.07)
    shape = _thing_cover(thing, size, rows, columns)
    cover = np.asarray(shape, dtype=np.float32) / 255
    unit = size / 128
    patch = canvas[rows, columns]

    soft = np.asarray(shape.filter(ImageFilter.GaussianBlur(2.2 * unit)), dtype=np.float32) / 255
    down, right = round(2.4 * unit), round(1.4 * unit)
    shadow = np.zeros_like(soft)
    shadow[down:, right:] = soft[: soft.shape[0] - down, : soft.shape[1] - right]
    patch *= 1 - 0.42 * shadow[..., None]

    x, y = pixel_centres(size)
    dx, dy = x[:, columns] - thing.place[0], y[rows] - thing.place[1]
    turn = math.radians(thing.angle)
    u = dx * math.cos(turn) + dy * math.sin(turn)
    v = dy * math.cos(turn) - dx * math.sin(turn)
    second = _pattern(thing, u, v, size)[..., None]
    ink = np.array(INK[thing.colour], np.float32) * (1 - second)
    ink = ink + np.array(SECOND[thing.colour], np.float32) * second
    # Light from the top left, and a darker rim that sets the thing off from any ground.
    glow = 1.03 - 0.16 * (dx + dy) / thing.radius / math.sqrt(2)
    inner = np.asarray(shape.filter(ImageFilter.GaussianBlur(1.1 * unit)), dtype=np.float32) / 255
    rim = 0.66 + 0.34 * np.clip((inner - 0.5) / 0.42, 0, 1)
    patch += (ink * (glow * rim)[..., None] - patch) * cover[..., None]

    whole = np.zeros((size, size), dtype=np.float32)
    whole[rows, columns] = cover
    return whole


# ---------------------------------------------------------------- the whole


def draw(scene: Scene, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: picture (size, size, 3) uint8 and visible masks (elements, size, size) bool.

    Masks come in the order of the element ids: things, then regions. They share no pixel and
    together cover the picture.
    """
    noise = _Noise(scene.texture, size)
    owner = np.zeros((size, size), dtype=np.uint8)  # which element each pixel shows
    canvas = np.zeros((size, size, 3), dtype=np.float32)
    for element, region in zip(scene.region_ids, scene.regions, strict=True):
        cover = _region_cover(region, size)
        canvas += (_texture(region.kind, noise) - canvas) * cover[..., None]
        owner[cover >= 0.5] = element
    for element, thing in enumerate(scene.things):
        cover = _paint_thing(canvas, thing, size)
        owner[cover >= 0.5] = element
    canvas += 2.2 * noise("speck")[..., None]
    picture = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    elements = np.arange(len(scene.things) + len(scene.regions), dtype=np.uint8)
    return picture, owner[None] == elements[:, None, None]


def semantic_map(scene: Scene, masks: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """The class of each pixel, (S, S) uint8 of indices into `classes`, from `draw`'s masks."""
    result = np.zeros(masks.shape[1:], dtype=np.uint8)
    for element, mask in enumerate(masks):
        result[mask] = classes.index(scene.kind_of(element))
    return result
