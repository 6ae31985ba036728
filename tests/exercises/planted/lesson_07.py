"""Answers to exercise 07, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import numpy as np

MISTAKES = {
    "intersection and union": {
        "union as I + U": (lambda p, t: (np.logical_and(p, t).sum(), p.sum() + t.sum()), "twice"),
        "union is the target": (lambda p, t: ((p * t).sum(), t.sum()), "marked wrongly"),
        "agreement for intersection": (
            lambda p, t: ((~(p ^ t)).sum(), (p | t).sum()),
            "background",
        ),
        "swapped": (lambda p, t: ((p | t).sum(), (p & t).sum()), "comes first"),
        "exclusive or for union": (lambda p, t: ((p & t).sum(), (p ^ t).sum()), "leaves out"),
        "all pixels for union": (lambda p, t: ((p & t).sum(), p.size), None),
    },
    "overall IoU": {
        "mean for overall": (lambda i, u: np.mean([a / b for a, b in zip(i, u)]), "mean IoU"),
        "the intersection added to the union": (
            lambda i, u: sum(i) / sum(i + u),
            "already holds",
        ),
        "whole numbers": (lambda i, u: i.sum() // u.sum(), None),
        "upside down": (lambda i, u: u.sum() / max(i.sum(), 1), None),
        "per cent": (lambda i, u: 100 * i.sum() / u.sum(), "per cent"),
    },
    "mean IoU": {
        "overall for mean": (lambda i, u: i.sum() / u.sum(), "overall IoU"),
        "median": (lambda i, u: sorted(i / u)[2] / 2 + sorted(i / u)[3] / 2, "median"),
        "sum": (lambda i, u: (i / u).sum(), None),
        "per cent": (lambda i, u: 100 * (i / u).mean(), "per cent"),
    },
    "precision@X": {
        "greater or equal": (
            lambda i, u, x: np.mean([a >= x * b for a, b in zip(i, u)]),
            "exactly",
        ),
        "intersection against X": (lambda i, u, x: np.mean(i > x), "divide it by the union"),
        "a count": (lambda i, u, x: sum(a / b > x for a, b in zip(i, u)), "a count"),
        "per cent": (lambda i, u, x: 100 * np.mean(i / u > x), "per cent"),
        "mean IoU of the hits": (
            lambda i, u, x: np.mean([a / b for a, b in zip(i, u) if a / b > x]),
            "mean IoU of the hits",
        ),
        "misses for hits": (lambda i, u, x: (i / u <= x).mean(), None),
        "mean of the hits": (lambda i, u, x: np.where(i / u > x, i / u, 0).mean(), None),
    },
    "every expression once": {
        "repeated rows added": (
            lambda batches: {
                n: tuple(sum(c) for c in zip(*[r[1:] for b in batches for r in b if r[0] == n]))
                for n in {r[0] for b in batches for r in b}
            },
            "counted twice",
        ),
        "last batch dropped": (
            lambda batches: {r[0]: r[1:] for b in batches[: len(batches) - 1] for r in b},
            "last batch is missing",
        ),
        "first row of each batch": (lambda batches: {b[0][0]: b[0][1:] for b in batches}, None),
        "numbered by place": (
            lambda batches: dict(enumerate(r[1:] for b in batches for r in b)),
            None,
        ),
    },
}

ALTERNATIVES = {
    "intersection and union": {
        "loops": lambda p, t: (
            sum(a and b for a, b in zip(p.flat, t.flat)),
            sum(a or b for a, b in zip(p.flat, t.flat)),
        ),
        "inclusion and exclusion": lambda p, t: (
            (p * t).sum(),
            p.sum() + t.sum() - (p * t).sum(),
        ),
        "minimum and maximum": lambda p, t: (np.minimum(p, t).sum(), np.maximum(p, t).sum()),
    },
    "overall IoU": {
        "loops": lambda i, u: sum(float(a) for a in i) / sum(float(b) for b in u),
        "weighted mean": lambda i, u: np.average(i / u, weights=u),
        "mean over mean": lambda i, u: np.mean(i) / np.mean(u),
    },
    "mean IoU": {
        "loops": lambda i, u: sum(a / b for a, b in zip(i, u)) / len(i),
        "dot product": lambda i, u: np.dot(i, 1 / u) / i.size,
    },
    "precision@X": {
        "loops": lambda i, u, x: len([1 for a, b in zip(i, u) if a / b > x]) / len(u),
        "without dividing": lambda i, u, x: np.count_nonzero(i > x * u) / i.size,
    },
    "every expression once": {
        "first one stays": lambda batches: _first(batches),
        "sorted": lambda batches: {
            n: (i, u) for n, i, u in sorted({r for b in batches for r in b})
        },
    },
}


def _first(batches):
    seen = {}
    for batch in batches:
        for index, i, u in batch:
            if index not in seen:
                seen[index] = [i, u]
    return seen
