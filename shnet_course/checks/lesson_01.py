"""The checks of exercise 01: masks from polygons, words, padded batches, resized masks."""

import math
import random
import re
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from shnet_course.checks.core import Exercise, add_exercise
from shnet_course.pictures.checks import draw_masks
from shnet_lib.data.coco import rasterize
from shnet_lib.data.text import tokenize

LESSON = "01_data_and_words"

# --- masks ----------------------------------------------------------------------------------------


def _star(source: random.Random, x: float, y: float, smallest: float) -> np.ndarray:
    """A polygon around (x, y) that does not cross itself: (P, 2), x and y in pixels."""
    count = source.randrange(5, 9)
    turns = [(step + 0.6 * source.random()) / count for step in range(count)]
    radii = [smallest * source.uniform(1, 2.5) for _ in turns]
    return np.array(
        [
            (x + r * math.cos(2 * math.pi * t), y + r * math.sin(2 * math.pi * t))
            for t, r in zip(turns, radii, strict=True)
        ]
    )


def _one_polygon(source: random.Random) -> tuple[np.ndarray, int, int]:
    """A polygon that may reach outside of an image that is wider than high."""
    height, width = source.randrange(9, 13), source.randrange(14, 18)
    x, y = source.uniform(4, width - 4), source.uniform(3, height - 3)
    return _star(source, x, y, smallest=2.5), height, width


def polygon_mask(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """(P, 2) corners -> (height, width) bool: the pixels whose middle lies inside.

    A middle is inside if a line from it to the right crosses the outline an odd number of times.
    """
    return _inside(polygon, np.arange(width) + 0.5, np.arange(height) + 0.5)


def _inside(
    polygon: np.ndarray, x: np.ndarray, y: np.ndarray, closed: bool = True, odd: bool = True
) -> np.ndarray:
    """Points at all x (W,) and y (H,) -> (H, W) bool.

    Args:
        closed: the last corner joins the first.
        odd: inside is what crosses an odd number of edges; False: what crosses any.
    """
    y = y[:, None]  # (H, 1)
    inside = np.zeros((len(y), len(x)), dtype=bool)
    edges = zip(polygon, np.roll(polygon, -1, axis=0), strict=True)
    for (x1, y1), (x2, y2) in list(edges)[: len(polygon) if closed else -1]:
        passes = (y1 > y) != (y2 > y)  # (H, 1): the edge is at this height
        crossed = passes & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        inside = inside ^ crossed if odd else inside | crossed
    return inside


def _box(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


add_exercise(
    LESSON,
    "the pixels of a polygon",
    Exercise(
        polygon_mask,
        _one_polygon,
        {
            "you ask for each pixel's corner: ask for its middle, half a pixel further": (
                lambda polygon, h, w: _inside(polygon, np.arange(w), np.arange(h))
            ),
            "your polygon is open: an edge joins its last corner to its first": (
                lambda polygon, h, w: _inside(
                    polygon, np.arange(w) + 0.5, np.arange(h) + 0.5, closed=False
                )
            ),
            "you take whatever crosses an edge: inside is what crosses an *odd* number of them": (
                lambda polygon, h, w: _inside(
                    polygon, np.arange(w) + 0.5, np.arange(h) + 0.5, odd=False
                )
            ),
            "you swapped x and y: x counts columns, y counts rows": (
                lambda polygon, h, w: polygon_mask(polygon[:, ::-1], h, w)
            ),
            "that is the box around the polygon: its outline decides": _box,
            "your mask is inside out: True is where the polygon is": (
                lambda polygon, h, w: ~polygon_mask(polygon, h, w)
            ),
        },
        draw_masks,
    ),
)


def _three_polygons(source: random.Random) -> tuple[list[list[float]], int, int]:
    """Three polygons that have some pixels in pairs and some all together."""
    height, width = source.randrange(16, 20), source.randrange(21, 25)
    x, y = width / 2, height / 2
    near = [(x + source.uniform(-1, 1), y + source.uniform(-1, 1)) for _ in range(3)]
    polygons = [_star(source, *place, smallest=3.5) for place in near]
    return [polygon.ravel().tolist() for polygon in polygons], height, width


def _total(segmentation: list[list[float]], height: int, width: int) -> np.ndarray:
    """How many of the polygons cover each pixel, (height, width)."""
    parts = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(parts).sum(axis=2)


add_exercise(
    LESSON,
    "the union of polygons",
    Exercise(
        rasterize,
        _three_polygons,
        {
            "where polygons overlap the sum is 2 or 3, and == 1 punches a hole: take the union": (
                lambda segmentation, h, w: _total(segmentation, h, w) == 1
            ),
            "you count odd and even: a pixel of two polygons belongs to the thing too": (
                lambda segmentation, h, w: _total(segmentation, h, w) % 2 == 1
            ),
            "you keep what all polygons share: a pixel of any polygon belongs to the thing": (
                lambda segmentation, h, w: _total(segmentation, h, w) == len(segmentation)
            ),
            "you draw the first polygon alone: a thing may have several": (
                lambda segmentation, h, w: rasterize(segmentation[:1], h, w)
            ),
        },
        draw_masks,
    ),
)


def _mask_and_size(source: random.Random) -> tuple[np.ndarray, int, int]:
    """A thing in an image of odd height and width, and the size to bring it to.

    With odd sizes no new pixel's middle falls on the border of two old ones.
    """
    height, width = source.choice([13, 15, 17]), source.choice([19, 21, 23])
    mask = polygon_mask(_star(source, width / 2, height / 2, smallest=3), height, width)
    return mask, source.randrange(8, 12), source.randrange(24, 30)


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) -> (height, width), both bool: the old pixel in which the new one's middle lies."""
    return _resized(mask, height, width, mode="nearest-exact") > 0


def _resized(mask: np.ndarray, height: int, width: int, **how) -> np.ndarray:
    plane = torch.from_numpy(mask.astype(np.float32))[None, None]
    return F.interpolate(plane, size=(height, width), **how)[0, 0].numpy()


def _rounded(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Places rounded to whole numbers; those behind the last pixel are taken back to it."""

    def places(new: int, old: int) -> np.ndarray:
        return np.round((np.arange(new) + 0.5) * old / new).astype(int).clip(max=old - 1)

    return mask[places(height, mask.shape[0])][:, places(width, mask.shape[1])]


add_exercise(
    LESSON,
    "resize a mask",
    Exercise(
        resize_mask,
        _mask_and_size,
        {
            "bilinear and then > 0 makes the thing larger: any touch counts. Take one pixel": (
                lambda mask, h, w: _resized(mask, h, w, mode="bilinear") > 0
            ),
            "a smooth filter and then > 0 makes the thing larger: take one pixel, the nearest": (
                lambda mask, h, w: _resized(mask, h, w, mode="bilinear", antialias=True) > 0
            ),
            "you look from the new pixel's corner, which moves the thing: look from its middle": (
                lambda mask, h, w: _resized(mask, h, w, mode="nearest") > 0
            ),
            "you round to the nearest number: a place of 3.7 lies in pixel 3, so round down": (
                _rounded
            ),
            "that is blurred: a mask stays True and False": (
                lambda mask, h, w: _resized(mask, h, w, mode="bilinear")
            ),
        },
        draw_masks,
    ),
)

# --- words ----------------------------------------------------------------------------------------


def _random_text(source: random.Random) -> tuple[str]:
    """A phrase with capitals, a number, an accent, punctuation within and at the end."""
    pick = source.choice
    number = pick(["2nd", "3rd", "4th", "1st", "h2o"])
    words = [pick(["Man's", "Girl's", "Left-most"]), number, pick(["café", "jalapeño", "décor"])]
    if source.random() < 0.5:
        words[1:1] = [str(source.randrange(2, 9)), pick(["people", "Stars"])]
    gaps = [pick([", ", " / ", "  ", " - "]) for _ in words[1:]] + [pick(["!", "?!", " ...", "."])]
    return ("".join(word + gap for word, gap in zip(words, gaps, strict=True)),)


add_exercise(
    LESSON,
    "cut a phrase into words",
    Exercise(
        tokenize,
        _random_text,
        {
            "you keep letters only, and “2nd” is gone: it may be the point of the phrase": (
                lambda text: tokenize(text, keep_numbers=False)
            ),
            "you cut the number off: “2nd” is one word": (
                lambda text: re.findall(r"[^\W\d_]+", text.lower())
            ),
            "punctuation sticks to your words: “cup!” and “cup” would be two words": (
                lambda text: text.lower().split()
            ),
            "punctuation is among your words: keep pieces that have a letter or a digit": (
                lambda text: [p.strip() for p in re.split(r"(\W+)", text.lower()) if p.strip()]
            ),
            "an empty word is among yours: a cut at the end leaves nothing behind it": (
                lambda text: re.split(r"\W+", text.lower())
            ),
            "capitals stay: “Left” and “left” would be two words": (
                lambda text: re.findall(r"\w+", text)
            ),
            "é is a letter too: a range like a-z knows English letters alone": (
                lambda text: re.findall(r"[a-z0-9]+", text.lower())
            ),
        },
    ),
)

Phrases = list[list[str]]
IDS = ["<pad>", "<unk>", "left", "star", "red", "the", "of", "on", "road", "second", "ring"]


def _phrases(source: random.Random) -> tuple[Phrases, Phrases, dict[str, int], int]:
    """A batch with a phrase that has too many words, one without, words and the most of them."""
    known, most = IDS[2:], source.randrange(5, 8)
    batches = []
    for longest in (most + source.randrange(1, 3), most - source.randrange(1, 3)):
        batch = [source.choices(known, k=length) for length in (longest, 2, 1)]
        batch[1][source.randrange(2)] = source.choice(["zebra", "unicorn"])  # no id
        batch.append([])
        source.shuffle(batch)
        batches.append(batch)
    return *batches, {word: number for number, word in enumerate(IDS)}, most


def _ask_twice(
    answer: Callable, long: Phrases, short: Phrases, ids: dict[str, int], most: int
) -> dict:
    return {
        "a batch with a phrase that is too long": answer(long, ids, most),
        "a batch of short phrases": answer(short, ids, most),
    }


def encode_and_pad(
    phrases: Phrases, ids: dict[str, int], max_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """B lists of words -> words (B, T) int and word_mask (B, T) bool; T is the longest phrase."""
    return _pad([_encode(phrase, ids, max_words) for phrase in phrases])


def _encode(phrase: list[str], ids: dict[str, int], max_words: int | None) -> list[int]:
    return [ids.get(word, 1) for word in phrase[:max_words]] or [1]


def _pad(encoded: list[list[int]], length: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """To `length` or the longest phrase, with id 0 and False at the end."""
    longest = max(length, *map(len, encoded))
    words = np.array([row + [0] * (longest - len(row)) for row in encoded])
    return words, np.arange(longest) < np.array([[len(row)] for row in encoded])


def _pad_in_front(phrases: Phrases, ids: dict[str, int], most: int) -> tuple:
    words, word_mask = _pad([_encode(phrase, ids, most)[::-1] for phrase in phrases])
    return words[:, ::-1], word_mask[:, ::-1]


def _masks_the_unknown(phrases: Phrases, ids: dict[str, int], most: int) -> tuple:
    words, _ = encode_and_pad(phrases, ids, most)
    return words, words > 1


def _mask_inside_out(phrases: Phrases, ids: dict[str, int], most: int) -> tuple:
    words, word_mask = encode_and_pad(phrases, ids, most)
    return words, ~word_mask


add_exercise(
    LESSON,
    "encode and pad",
    Exercise(
        encode_and_pad,
        _phrases,
        {
            "your padding stands in front: the LSTM would read it before the words": _pad_in_front,
            "your mask is inside out: True means a real word": _mask_inside_out,
            "an unknown word is a real word: its id is 1, and its mask is True": _masks_the_unknown,
            "unknown words got id 0, which is padding: theirs is 1": (
                lambda phrases, ids, most: _pad(
                    [[ids.get(word, 0) for word in phrase[:most]] or [1] for phrase in phrases]
                )
            ),
            "you left unknown words out: each becomes id 1": (
                lambda phrases, ids, most: _pad(
                    [[ids[w] for w in phrase[:most] if w in ids] or [1] for phrase in phrases]
                )
            ),
            "a phrase without a word stays empty: make it one unknown word, or its mean is 0 / 0": (
                lambda phrases, ids, most: _pad(
                    [[ids.get(word, 1) for word in phrase[:most]] for phrase in phrases]
                )
            ),
            "you pad to max_words: the longest phrase of the batch is enough": (
                lambda phrases, ids, most: _pad([_encode(p, ids, most) for p in phrases], most)
            ),
            "you do not cut: at most max_words words of a phrase are read": (
                lambda phrases, ids, most: _pad([_encode(p, ids, None) for p in phrases])
            ),
            "you cut at the beginning: the first max_words words are read": (
                lambda phrases, ids, most: encode_and_pad([p[-most:] for p in phrases], ids, most)
            ),
        },
        ask=_ask_twice,
    ),
)
