"""Answers sorted by what went wrong, told by the masks of everything in the scene."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shnet_course.measure.scene_graph import SceneGraph
from shnet_lib.data import Expression

RIGHT, OTHER, FOUND = 0.7, 0.5, 0.3  # IoU of a right answer, with another element, and "found it"
HALF = 0.5  # of an element, which an answer has to cover to count as being on it
LEAST = 0.005  # of the picture: an answer smaller than this is none
ANSWER_KINDS = ("right", "poor outline", "another thing", "several things", "nothing", "in between")


@dataclass(frozen=True)
class Answer:
    """What was marked for one expression, and what kind of answer that is."""

    expression: Expression
    mask: np.ndarray  # (height, width) bool
    kind: str  # one of ANSWER_KINDS
    iou: float  # with the target
    target: int  # the element referred to
    closest: int  # the element that the mask fits best


def sort_answer(expression: Expression, mask: np.ndarray, graph: SceneGraph) -> Answer:
    """Sort one answer. The first that holds:

    nothing         it covers less than 0.5 % of the picture
    right           IoU with the target of 0.7 or more
    another thing   IoU above 0.5 with another element of the scene, thing or region
    several things  it covers half or more of two elements or more
    poor outline    the target is what it fits best, with an IoU of 0.3 or more
    in between      the rest: pieces of this and that
    """
    intersections = (graph.masks & mask).sum((1, 2))
    ious = intersections / (graph.masks | mask).sum((1, 2))
    target, closest = graph.target(expression), int(ious.argmax())
    covered = (intersections >= HALF * graph.masks.sum((1, 2))).sum()
    if mask.mean() < LEAST:
        kind = "nothing"
    elif ious[target] >= RIGHT:
        kind = "right"
    elif closest != target and ious[closest] > OTHER:
        kind = "another thing"
    elif covered >= 2:
        kind = "several things"
    elif closest == target and ious[target] >= FOUND:
        kind = "poor outline"
    else:
        kind = "in between"
    return Answer(expression, mask, kind, float(ious[target]), target, closest)


def count_kinds(answers: Iterable[Answer]) -> dict[str, dict[str, int]]:
    """Family of expressions -> kind of answer -> how many; families by their share of right ones.

    The last row, "all", is the sum.
    """
    families: dict[str, Counter] = {}
    for answer in answers:
        families.setdefault(answer.expression.family, Counter())[answer.kind] += 1
    families = dict(sorted(families.items(), key=lambda row: -row[1]["right"] / row[1].total()))
    families["all"] = sum(families.values(), Counter())
    return {
        family: {kind: found[kind] for kind in ANSWER_KINDS} for family, found in families.items()
    }
