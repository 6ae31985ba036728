"""Answers to exercise 09, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import numpy as np
import torch

from shnet_course.measure.attention import lifts


def maps(attention, mask, h, w, *, rows="words", heads="mean", scale="sum", grid="rows", pad=True):
    """Phrase by phrase and word by word, with whatever goes wrong."""
    batch, words = mask.shape
    result = torch.zeros(batch, words, h, w)
    for b in range(batch):
        each = attention[b] if heads == "scaled" else attention[b].mean(0, keepdim=True)
        if heads == "first":
            each = attention[b, :1]
        for t in range(words):
            if pad and not mask[b, t]:
                continue
            at = t if rows == "words first" else h * w + t
            taken = each[:, :, at] if rows == "columns" else each[:, at]
            taken = taken[:, words:] if rows == "words first" else taken[:, : h * w]
            if scale == "softmax":
                taken = taken.softmax(1)
            if scale == "sum" or scale == "softmax":
                taken = taken / taken.sum(1, keepdim=True)
            taken = taken.mean(0)
            if scale == "most":
                taken = taken / taken.max()
            result[b, t] = taken.reshape(w, h).T if grid == "columns" else taken.reshape(h, w)
    return result


def changed(**how):
    return lambda *given: maps(*given, **how)


def by_einsum(attention, mask, h, w):
    given = torch.einsum("bhnm->bnm", attention)[:, -mask.shape[1] :, : h * w]
    given = given.masked_fill(~mask[..., None], 0)
    total = torch.einsum("btp->bt", given)[..., None].clamp(min=1e-12)
    return (given / total).view(*mask.shape, h, w)


def renormalised(attention, mask, h, w):
    """A softmax over the logarithms is the same as dividing by the sum."""
    grid = attention.mean(1)[:, h * w :, : h * w].log().softmax(-1)
    return grid.reshape(len(mask), -1, h, w) * mask.float()[..., None, None]


def gains(looks, covers, partner, *, fair=True, swap="thing", sign=1, control=True):
    """Case by case."""
    result = []
    for k, p in enumerate(partner):
        thing, look = (covers[p], looks[k]) if swap == "thing" else (covers[k], looks[p])
        if swap == "both":
            thing = covers[p]
        own, other = np.sum(looks[k] * covers[k]), np.sum(look * thing)
        if fair:
            own, other = own / np.mean(covers[k]), other / np.mean(thing)
        result.append(sign * (own - other * control))
    return np.array(result)


def worst_first(answers, least, *, enough=lambda count, least: count >= least, score=np.mean):
    names = {name for name, _ in answers}
    found = {name: [iou for n, iou in answers if n == name] for name in names}
    rows = [(float(score(i)), name) for name, i in found.items() if enough(len(i), least)]
    return [(name, mean) for mean, name in sorted(rows)]


def kind(
    answer, elements, target, *, first="nothing", least=0.005, half=0.5, right=0.7, share="element"
):
    """Element by element."""
    ious, covered = [], 0
    for element in elements:
        both = np.logical_and(element, answer).sum()
        ious.append(both / np.logical_or(element, answer).sum())
        whole = element.sum() if share == "element" else max(answer.sum(), 1)
        covered += both >= half * whole and both > 0
    best = ious.index(max(ious))
    nothing = answer.sum() < least * answer.size
    if nothing and first == "nothing":
        return "nothing"
    if ious[target] >= right:
        return "right"
    if covered > 1 and first == "several":
        return "several things"
    if best != target and max(ious) > 0.5:
        return "another thing"
    if best == target and ious[target] >= 0.3 and first == "poor":
        return "poor outline"
    if covered > 1:
        return "several things"
    if best == target and ious[target] >= 0.3:
        return "poor outline"
    return "nothing" if nothing and first == "last" else "in between"


def sorted_by(**how):
    return lambda *given: kind(*given, **how)


def by_target_alone(answer, elements, target):
    iou = (answer & elements[target]).sum() / (answer | elements[target]).sum()
    if answer.mean() < 0.005:
        return "nothing"
    return "right" if iou >= 0.7 else "poor outline" if iou >= 0.3 else "another thing"


def by_pixels(answer, elements, target):
    """What shares most pixels is taken for what fits best."""
    told = kind(answer, elements, target)
    most = np.array([(element & answer).sum() for element in elements]).argmax()
    if told == "poor outline" and most != target:
        return "in between"
    return told


def any_outline(answer, elements, target):
    told = kind(answer, elements, target)
    iou = (answer & elements[target]).sum() / (answer | elements[target]).sum()
    return "poor outline" if told == "in between" and iou >= 0.3 else told


MISTAKES = {
    "where each word looks": {
        "each head scaled": (changed(heads="scaled"), "scale each head"),
        "columns of words": (changed(rows="columns", pad=False), "pixels take from words"),
        "not scaled": (changed(scale=""), "do not sum to 1"),
        "one sum for all": (
            lambda a, m, h, w: (
                (given := maps(a, m, h, w, scale="")) / given.flatten(1).sum(1)[:, None, None, None]
            ),
            "share one sum",
        ),
        "scaled by the largest": (changed(scale="most"), "brightest cell"),
        "softmax again": (changed(scale="softmax"), "softmax of shares"),
        "down the columns": (changed(grid="columns"), "down the columns"),
        "words first": (changed(rows="words first"), "words came first"),
        "padding kept": (changed(pad=False), "padded words"),
        "one sum for each pixel": (
            lambda a, m, h, w: (
                (given := maps(a, m, h, w, scale="", pad=False))
                / given.sum(1, keepdim=True)
                * m[..., None, None]
            ),
            "sum over the words",
        ),
        "first head": (changed(heads="first"), None),
        "flat": (lambda *given: maps(*given).flatten(2), None),
        "width and height swapped": (
            lambda a, m, h, w: maps(a, m, h, w).reshape(len(m), -1, w, h),
            None,
        ),
        "heads summed, not scaled": (lambda *given: 2 * maps(*given, scale=""), None),
    },
    "beyond a control": {
        "shares": (lambda *given: gains(*given, fair=False), "shares, not lifts"),
        "divided by the sum": (
            lambda looks, covers, p: (
                np.array([(m * c).sum() / c.sum() for m, c in zip(looks, covers)])
                - np.array([(m * c).sum() / c.sum() for m, c in zip(looks, covers[p])])
            ),
            "sum of the cover",
        ),
        "both exchanged": (lambda *given: gains(*given, swap="both"), "together"),
        "looks exchanged": (lambda *given: gains(*given, swap="look"), "exchanged the looks"),
        "no control": (lambda *given: gains(*given, control=False), "control is missing"),
        "an even look for control": (
            lambda looks, covers, p: lifts(looks, covers).diagonal() - 1,
            "subtract 1",
        ),
        "wrong way round": (lambda *given: gains(*given, sign=-1), "wrong way round"),
        "cells touched": (
            lambda looks, covers, p: gains(looks, np.ceil(covers), p),
            "half covered",
        ),
        "the mean": (lambda *given: np.mean(gains(*given)), "mean over the cases"),
        "a ratio": (
            lambda looks, covers, p: (
                gains(looks, covers, p, control=False)
                / (gains(looks, covers, p, control=False) - gains(looks, covers, p))
            ),
            "divide the lifts",
        ),
        "one fair share for all": (
            lambda looks, covers, p: gains(looks, covers, p, fair=False) / covers.mean(),
            "one mean for all",
        ),
        "partners the other way": (
            lambda looks, covers, p: gains(looks, covers, np.argsort(p)),
            "whose partner k is",
        ),
    },
    "the failing family": {
        "small families too": (
            lambda *given: worst_first(*given, enough=lambda count, least: True),
            "too few answers",
        ),
        "more than least": (
            lambda *given: worst_first(*given, enough=lambda count, least: count > least),
            "answers are enough",
        ),
        "sums": (lambda *given: worst_first(*given, score=sum), "sum the IoUs"),
        "median": (lambda *given: worst_first(*given, score=np.median), "median"),
        "worst answer": (lambda *given: worst_first(*given, score=min), "worst answer"),
        "best first": (lambda *given: list(reversed(worst_first(*given))), "comes first"),
        "by name": (lambda *given: sorted(worst_first(*given)), "by name"),
        "means first": (lambda *given: [(m, name) for name, m in worst_first(*given)], None),
        "names alone": (lambda *given: [name for name, _ in worst_first(*given)], None),
        "the worst alone": (lambda *given: worst_first(*given)[0], None),
        "share of failures": (
            lambda *given: worst_first(*given, score=lambda i: np.mean(np.array(i) < 0.5)),
            None,
        ),
    },
    "what kind of failure": {
        "nothing not asked": (sorted_by(first=""), "ask that first"),
        "half for 0.5 %": (sorted_by(least=0.5), "a share of 0.005"),
        "more than 0.7": (sorted_by(right=0.7001), "exactly 0.7"),
        "several before another": (sorted_by(first="several"), None),
        "several things first": (
            lambda a, e, t: "nothing" if a.mean() < 0.005 else sorted_by(first="several")(a, e, t),
            "several things before another",
        ),
        "outline first": (
            lambda a, e, t: "nothing" if a.mean() < 0.005 else sorted_by(first="poor")(a, e, t),
            "poor outline before",
        ),
        "touched": (sorted_by(half=1e-9), "are touched"),
        "half of the answer": (sorted_by(share="answer"), "of the *element*"),
        "the target alone": (by_target_alone, "not yet another thing"),
        "fits by pixels": (by_pixels, "most shared pixels"),
        "more than half": (sorted_by(half=0.5001), "exactly half"),
        "any outline": (any_outline, "fits best, and its IoU"),
        "numbers for kinds": (lambda *given: len(kind(*given)), None),
        "always right": (lambda *given: "right", None),
        "all of the element": (sorted_by(half=1.01), None),
    },
}

ALTERNATIVES = {
    "where each word looks": {
        "word by word": maps,
        "einsum": by_einsum,
        "softmax of logarithms": renormalised,
        "sum of the heads": lambda a, m, h, w: maps(a.sum(1, keepdim=True), m, h, w),
    },
    "beyond a control": {
        "case by case": gains,
        "all pairs": lambda looks, covers, p: (
            (table := lifts(looks, covers)).diagonal() - table[np.arange(len(p)), p]
        ),
        "einsum": lambda looks, covers, p: (
            np.einsum("khw,khw->k", looks, covers / covers.mean((1, 2), keepdims=True))
            - np.einsum("khw,khw->k", looks, (covers / covers.mean((1, 2), keepdims=True))[p])
        ),
    },
    "the failing family": {
        "by name and mean": worst_first,
        "lists for tuples": lambda *given: [list(row) for row in worst_first(*given)],
    },
    "what kind of failure": {
        "element by element": kind,
        "counts": lambda a, e, t: kind(a.astype(int), e.astype(int), t),
    },
}
