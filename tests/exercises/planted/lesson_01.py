"""Answers to exercise 01, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import re

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.path import Path
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask


def contains(polygon, height, width, shift=0.5):
    """matplotlib's answer, point by point."""
    points = [(column + shift, row + shift) for row in range(height) for column in range(width)]
    return Path(polygon).contains_points(points).reshape(height, width)


def by_loops(polygon, height, width):
    mask = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y, inside = column + 0.5, row + 0.5, False
            for number in range(len(polygon)):
                (x1, y1), (x2, y2) = polygon[number - 1], polygon[number]
                if min(y1, y2) < y <= max(y1, y2):
                    if (x2 - x1) * (y - y1) / (y2 - y1) > x - x1:
                        inside = not inside
            mask[row, column] = inside
    return mask


def by_pillow(polygon, height, width):
    """Draws the outline's pixels too."""
    picture = Image.new("1", (width, height))
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in polygon], fill=1, outline=1)
    return np.array(picture)


def open_polygon(polygon, height, width):
    """Edges from each corner to the next, and none from the last."""
    mask = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            crossed = 0
            for (x1, y1), (x2, y2) in zip(polygon[:-1], polygon[1:]):
                if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                    crossed += 1
            mask[row, column] = crossed % 2
    return mask


def any_edge(polygon, height, width):
    """Every point from which a walk to the right meets the outline at all."""
    mask = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]]):
                if min(y1, y2) < y < max(y1, y2) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                    mask[row, column] = True
    return mask


def parts_of(segmentation, height, width):
    return [
        coco_mask.decode(coco_mask.frPyObjects([polygon], height, width))[:, :, 0]
        for polygon in segmentation
    ]


def with_or(segmentation, height, width):
    mask = np.zeros((height, width), dtype=bool)
    for part in parts_of(segmentation, height, width):
        mask |= part.astype(bool)
    return mask


def with_xor(segmentation, height, width):
    mask = np.zeros((height, width), dtype=bool)
    for part in parts_of(segmentation, height, width):
        mask ^= part.astype(bool)
    return mask


def at_size(mask, height, width, **how):
    plane = torch.tensor(mask)[None, None].float()
    return F.interpolate(plane, (height, width), **how)[0, 0].numpy()


def picked(mask, height, width, shift):
    """The old pixel at a new pixel's corner (shift 0), middle (0.5) or far corner (1)."""
    result = np.zeros((height, width), dtype=bool)
    for i in range(height):
        for j in range(width):
            row = int((i + shift) * mask.shape[0] / height)
            column = int((j + shift) * mask.shape[1] / width)
            result[i, j] = mask[min(row, mask.shape[0] - 1), min(column, mask.shape[1] - 1)]
    return result


def rounded_and_kept_inside(mask, height, width):
    rows = [min(round((i + 0.5) * len(mask) / height), len(mask) - 1) for i in range(height)]
    last = mask.shape[1] - 1
    columns = [min(round((j + 0.5) * mask.shape[1] / width), last) for j in range(width)]
    return np.array([[mask[row, column] for column in columns] for row in rows])


def letters_and_digits(text):
    words = [""]
    for letter in text.lower():
        if letter.isalnum():
            words[-1] += letter
        elif words[-1]:
            words.append("")
    return [word for word in words if word]


def padded(phrases, ids, most, unknown=1, front=False, longest=None, mask_of=None, empty=(1,)):
    rows = []
    for phrase in phrases:
        row = [ids[word] if word in ids else unknown for word in phrase][:most]
        rows.append(row or list(empty))
    longest = longest or max(map(len, rows))
    words, word_mask = [], []
    for row in rows:
        rest = longest - len(row)
        words.append([0] * rest + row if front else row + [0] * rest)
        real, not_real = [True] * len(row), [False] * rest
        word_mask.append(not_real + real if front else real + not_real)
    words, word_mask = np.array(words), np.array(word_mask)
    return words, mask_of(words) if mask_of else word_mask


def with_torch(phrases, ids, most):
    rows = [torch.tensor([ids.get(w, 1) for w in p[:most]] or [1]) for p in phrases]
    words = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return words, words != 0


MISTAKES = {
    "the pixels of a polygon": {
        "corner of the pixel": (lambda p, h, w: contains(p, h, w, shift=0), "corner"),
        "the far corner": (lambda p, h, w: contains(p, h, w, shift=1), None),
        "open": (open_polygon, "open"),
        "any edge to the right": (any_edge, "whatever crosses an edge"),
        "x for y": (lambda p, h, w: contains(np.fliplr(p), h, w), "swapped x and y"),
        "the box": (
            lambda p, h, w: contains(
                [
                    (p[:, 0].min(), p[:, 1].min()),
                    (p[:, 0].max(), p[:, 1].min()),
                    (p[:, 0].max(), p[:, 1].max()),
                    (p[:, 0].min(), p[:, 1].max()),
                ],
                h,
                w,
            ),
            "the box",
        ),
        "inside out": (lambda p, h, w: ~by_loops(p, h, w), "inside out"),
        "Pillow's outline": (by_pillow, None),
        "corners rounded": (lambda p, h, w: contains(np.round(p) + 0.01, h, w), None),
        "height for width": (lambda p, h, w: by_loops(p, w, h), None),
    },
    "the union of polygons": {
        "sum is 1": (lambda s, h, w: sum(parts_of(s, h, w)) == 1, "punches a hole"),
        "even-odd": (with_xor, "odd and even"),
        "what all share": (
            lambda s, h, w: np.logical_and.reduce(parts_of(s, h, w)),
            "what all polygons share",
        ),
        "the first alone": (lambda s, h, w: parts_of(s, h, w)[0] == 1, "first polygon alone"),
        "numbers": (lambda s, h, w: sum(parts_of(s, h, w)), None),
        "one long polygon": (lambda s, h, w: parts_of([sum(s, [])], h, w)[0] > 0, None),
        "height for width": (lambda s, h, w: with_or(s, w, h), None),
    },
    "resize a mask": {
        "bilinear, then > 0": (
            lambda m, h, w: at_size(m, h, w, mode="bilinear", align_corners=False) > 0,
            "larger",
        ),
        "Pillow's bilinear, then > 0": (
            lambda m, h, w: (
                np.array(Image.fromarray(m.astype(np.uint8) * 255).resize((w, h), 2)) > 0
            ),
            None,
        ),
        "upper left corner": (lambda m, h, w: picked(m, h, w, 0), "from its middle"),
        "lower right corner": (lambda m, h, w: picked(m, h, w, 1), None),
        "rounded": (rounded_and_kept_inside, "you round"),
        "left blurred": (
            lambda m, h, w: at_size(m, h, w, mode="bilinear", align_corners=False),
            "True and False",
        ),
        "corners aligned": (
            lambda m, h, w: at_size(m, h, w, mode="bilinear", align_corners=True) > 0.5,
            None,
        ),
        "any touch": (
            lambda m, h, w: F.adaptive_max_pool2d(torch.tensor(m)[None].float(), (h, w))[0] > 0,
            None,
        ),
        "height for width": (lambda m, h, w: picked(m, w, h, 0.5), None),
    },
    "cut a phrase into words": {
        "isalpha": (
            lambda text: [p for p in re.split(r"(\W+)", text.lower()) if p.isalpha()],
            "letters only",
        ),
        "digits cut off": (
            lambda text: re.findall(r"[a-zà-ÿ]+", text.lower()),
            "cut the number off",
        ),
        "split": (lambda text: str.split(text.lower()), "punctuation sticks"),
        "punctuation kept": (
            lambda text: [p for p in re.findall(r"\w+|[^\w\s]+(?:\s+[^\w\s]+)*", text.lower())],
            "among your words",
        ),
        "empty word": (lambda text: re.compile(r"[\W_]+").split(text.lower()), "empty word"),
        "capitals": (lambda text: [w for w in re.split(r"\W+", text) if w], "capitals"),
        "English letters": (
            lambda text: [w for w in re.split(r"[^a-z0-9]+", text.lower()) if w],
            "a letter too",
        ),
        "letters": (lambda text: list(text.lower()), None),
        "sorted": (lambda text: sorted(letters_and_digits(text)), None),
        "each word once, as a set": (lambda text: set(letters_and_digits(text)), None),
    },
    "encode and pad": {
        "in front": (lambda *given: padded(*given, front=True), "in front"),
        "inside out": (lambda *given: padded(*given, mask_of=lambda w: w == 0), "inside out"),
        "unknown masked": (
            lambda *given: padded(*given, mask_of=lambda w: w >= 2),
            "unknown word is a real word",
        ),
        "unknown is 0": (lambda *given: padded(*given, unknown=0), "theirs is 1"),
        "unknown left out": (
            lambda phrases, ids, most: padded(
                [[w for w in phrase[:most] if w in ids] for phrase in phrases], ids, most
            ),
            "left unknown words out",
        ),
        "empty stays empty": (lambda *given: padded(*given, empty=()), "without a word"),
        "always max_words": (
            lambda phrases, ids, most: padded(phrases, ids, most, longest=most),
            "longest phrase of the batch",
        ),
        "not cut": (lambda phrases, ids, most: padded(phrases, ids, 99), "do not cut"),
        "the end kept": (
            lambda phrases, ids, most: padded([p[::-1][:most][::-1] for p in phrases], ids, most),
            "first max_words",
        ),
        "the words alone": (lambda *given: padded(*given)[0], None),
        "mask of numbers": (
            lambda *given: (padded(*given)[0], padded(*given)[1].astype(float)),
            None,
        ),
    },
}

ALTERNATIVES = {
    "the pixels of a polygon": {"loops": by_loops, "matplotlib": contains},
    "the union of polygons": {
        "or": with_or,
        "merged run-lengths": lambda s, h, w: (
            coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(s, h, w))) == 1
        ),
        "sum": lambda s, h, w: sum(parts_of(s, h, w)) >= 1,
        "maximum": lambda s, h, w: np.max(parts_of(s, h, w), axis=0).astype(bool),
    },
    "resize a mask": {
        "loops": lambda m, h, w: picked(m, h, w, 0.5),
        "torch": lambda m, h, w: at_size(m, h, w, mode="nearest-exact").astype(bool),
        "Pillow": lambda m, h, w: np.array(
            Image.fromarray(m).resize((w, h), Image.Resampling.NEAREST)
        ),
        "np.ix_": lambda m, h, w: m[
            np.ix_(
                ((2 * np.arange(h) + 1) * m.shape[0]) // (2 * h),
                ((2 * np.arange(w) + 1) * m.shape[1]) // (2 * w),
            )
        ],
    },
    "cut a phrase into words": {
        "letter by letter": letters_and_digits,
        "split and filter": lambda text: [w.lower() for w in re.split(r"\W+", text) if w],
        "spaces for the rest": lambda text: (
            "".join(c if c.isalnum() else " " for c in text).lower().split()
        ),
    },
    "encode and pad": {
        "lists": padded,
        "the mask from the ids": lambda *given: padded(*given, mask_of=lambda words: words > 0),
        "torch": with_torch,
    },
}
