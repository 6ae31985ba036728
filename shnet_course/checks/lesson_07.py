"""The checks of exercise 07: metrics, and counting each expression once."""

import random

import numpy as np

from shnet_course.checks.core import Exercise, add_exercise

LESSON = "07_evaluation"


def _masks(source: random.Random, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets (count, 6, 7) bool; no target is empty, a prediction may be."""
    generator = np.random.default_rng(source.randrange(10**6))
    target = generator.random((count, 6, 7)) < 0.4
    target[:, 0, 0] = True
    prediction = target ^ (generator.random((count, 6, 7)) < 0.25)
    prediction[0] = source.random() < 0.5
    return prediction, target


def _two_masks(source: random.Random) -> tuple[np.ndarray, np.ndarray]:
    prediction, target = _masks(source)
    index = source.randrange(len(target))
    return prediction[index], target[index]


def _counts(source: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """(N,) intersections and unions in pixels, of things of very different size."""
    union = np.array([source.choice([7, 40, 300, 5000]) + source.randrange(5) for _ in range(6)])
    intersection = np.array([source.randrange(int(u) + 1) for u in union])
    return intersection, union


def intersection_and_union(prediction: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """(H, W) bool twice -> pixels in both, pixels in either."""
    return int((prediction & target).sum()), int((prediction | target).sum())


def overall_iou(intersection: np.ndarray, union: np.ndarray) -> float:
    """Section 4.1: sum of I over sum of U."""
    return float(intersection.sum() / union.sum())


def mean_iou(intersection: np.ndarray, union: np.ndarray) -> float:
    """The mean of I / U."""
    return float((intersection / union).mean())


def precision_at(intersection: np.ndarray, union: np.ndarray, threshold: float) -> float:
    """Section 4.1: the share of expressions whose IoU is greater than the threshold."""
    return float((intersection / union > threshold).mean())


def _counts_on_the_line(source: random.Random) -> tuple[np.ndarray, np.ndarray, float]:
    """As _counts, with one IoU that *is* the threshold, and a hit that is not perfect."""
    intersection, union = _counts(source)
    threshold = source.choice([0.5, 0.75])
    intersection[0], union[0] = int(threshold * 40), 40
    intersection[1], union[1] = source.randrange(240, 295), 300
    return intersection, union, threshold


def count_once(batches: list[list[tuple[int, int, int]]]) -> dict[int, tuple[int, int]]:
    """Rows (expression, I, U) of several processes -> expression -> (I, U)."""
    return {index: (i, u) for batch in batches for index, i, u in batch}


def _padded_batches(source: random.Random) -> tuple[list[list[tuple[int, int, int]]]]:
    """Two processes whose last batch was filled up with rows of the first, as samplers do."""
    rows = [(n, source.randrange(1, 50), source.randrange(50, 99)) for n in range(7)]
    return ([rows[0:2], rows[2:4], rows[4:6], [rows[6], rows[0]]],)


add_exercise(
    LESSON,
    "intersection and union",
    Exercise(
        intersection_and_union,
        _two_masks,
        {
            "your union counts the intersection twice: |A or B| = |A| + |B| - |A and B|": (
                lambda p, t: (int((p & t).sum()), int(p.sum() + t.sum()))
            ),
            "your union is the target alone: pixels that were marked wrongly belong to it too": (
                lambda p, t: (int((p & t).sum()), int(t.sum()))
            ),
            "your union leaves out the pixels of both masks: they are in either, too": (
                lambda p, t: (int((p & t).sum()), int((p ^ t).sum()))
            ),
            "your intersection counts the background that both leave out: only marked pixels do": (
                lambda p, t: (int((p == t).sum()), int((p | t).sum()))
            ),
            "you return the union first: the intersection comes first": (
                lambda p, t: (int((p | t).sum()), int((p & t).sum()))
            ),
        },
    ),
)
add_exercise(
    LESSON,
    "overall IoU",
    Exercise(
        overall_iou,
        _counts,
        {
            "that is the mean IoU: overall IoU sums all I and all U before it divides": mean_iou,
            "you divide by U without I's pixels: the union already holds the intersection": (
                lambda i, u: float(i.sum() / (i.sum() + u.sum()))
            ),
            "that is in per cent: a share between 0 and 1 is wanted": (
                lambda i, u: 100 * overall_iou(i, u)
            ),
        },
    ),
)
add_exercise(
    LESSON,
    "mean IoU",
    Exercise(
        mean_iou,
        _counts,
        {
            "that is the overall IoU: mean IoU divides for each expression, then takes the mean": (
                overall_iou
            ),
            "you took the median: one expression in the middle would decide": (
                lambda i, u: float(np.median(i / u))
            ),
            "that is in per cent: a share between 0 and 1 is wanted": (
                lambda i, u: 100 * mean_iou(i, u)
            ),
        },
    ),
)
add_exercise(
    LESSON,
    "precision@X",
    Exercise(
        precision_at,
        _counts_on_the_line,
        {
            "an IoU of exactly X is no hit: the paper says greater than": (
                lambda i, u, x: float((i / u >= x).mean())
            ),
            "that is the mean IoU of the hits: their share among all is wanted": (
                lambda i, u, x: float((i / u)[i / u > x].mean())
            ),
            "you compare the intersection with X: divide it by the union first": (
                lambda i, u, x: float((i > x).mean())
            ),
            "that is a count: divide by the number of expressions": (
                lambda i, u, x: float((i / u > x).sum())
            ),
            "that is in per cent: a share between 0 and 1 is wanted": (
                lambda i, u, x: 100 * precision_at(i, u, x)
            ),
        },
    ),
)
add_exercise(
    LESSON,
    "every expression once",
    Exercise(
        count_once,
        _padded_batches,
        {
            "an expression that came twice is counted twice: a sampler fills up its last batch": (
                lambda batches: _added(batches)
            ),
            "the last batch is missing: it is shorter, or filled up, but it counts": (
                lambda batches: count_once(batches[:-1])
            ),
        },
    ),
)


def _added(batches: list[list[tuple[int, int, int]]]) -> dict[int, tuple[int, int]]:
    sums: dict[int, tuple[int, int]] = {}
    for batch in batches:
        for index, i, u in batch:
            old = sums.get(index, (0, 0))
            sums[index] = (old[0] + i, old[1] + u)
    return sums
