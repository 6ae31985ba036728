"""Each kind of wrong answer, drawn by hand on a real scene's layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refgen.refshapes import Region, Scene, Thing
from shnet_course.measure.failures import ANSWER_KINDS, Answer, count_kinds, sort_answer
from shnet_course.measure.scene_graph import SceneGraph
from shnet_lib.data import Expression

THINGS = (
    Thing("star", "red", "small", "plain", (0, 0), 0, 0.04),
    Thing("star", "blue", "small", "dotted", (0, 0), 0, 0.04),
    Thing("ring", "red", "big", "striped", (0, 0), 0, 0.1),
)


def boxes() -> np.ndarray:
    """Three squares of 10 x 10 in 40 x 40, and the ground around them."""
    masks = np.zeros((4, 40, 40), bool)
    for place, (y, x) in enumerate(((0, 0), (0, 20), (20, 0))):
        masks[place, y : y + 10, x : x + 10] = True
    masks[3] = ~masks[:3].any(0)
    return masks


GRAPH = SceneGraph(Scene(THINGS, (Region("grass", ()),), 0), boxes(), first_id=100)
STAR = Expression(Path("x.png"), 1, 40, 40, 100, 0, "red star", "star", "attribute", lambda: None)


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "kind", "iou", "closest"),
    [
        (box(0, 10, 0, 10), "right", 1.0, 0),
        (box(0, 7, 0, 10), "right", 0.7, 0),  # just
        (box(0, 6, 0, 10), "poor outline", 0.6, 0),
        (box(0, 14, 0, 18), "poor outline", 100 / 252, 0),  # too much
        (box(0, 10, 20, 30), "another thing", 0.0, 1),
        (~boxes()[:3].any(0), "another thing", 0.0, 3),  # the ground
        (box(0, 10, 0, 10) | box(0, 10, 20, 30), "several things", 0.5, 0),
        (box(0, 10, 20, 30) | box(20, 30, 0, 10), "several things", 0.0, 1),
        (box(0, 2, 0, 3), "nothing", 0.06, 0),
        (box(0, 4, 0, 5) | box(20, 24, 0, 5), "in between", 20 / 120, 0),
    ],
)
def test_kinds(mask, kind, iou, closest):
    answer = sort_answer(STAR, mask, GRAPH)
    assert (answer.kind, answer.iou) == (kind, pytest.approx(iou))
    assert (answer.target, answer.closest) == (0, closest)
    assert kind in ANSWER_KINDS


def test_everything_marked_is_no_right_answer():
    assert (
        sort_answer(STAR, np.ones((40, 40), bool), GRAPH).kind == "another thing"
    )  # mostly ground


def test_counts_by_family_with_the_surest_family_first():
    def answer(family: str, kind: str) -> Answer:
        return Answer(replace(STAR, family=family), box(0, 1, 0, 1), kind, 0.0, 0, 0)

    table = count_kinds(
        [answer("ordinal", "nothing"), answer("region", "right"), answer("ordinal", "right")]
    )
    assert list(table) == ["region", "ordinal", "all"]
    assert table["ordinal"] == dict.fromkeys(ANSWER_KINDS, 0) | {"right": 1, "nothing": 1}
    assert table["all"] == dict.fromkeys(ANSWER_KINDS, 0) | {"right": 2, "nothing": 1}
