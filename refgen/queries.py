"""What a phrase asks for, and what it denotes in a scene.

A query is a small tree. `reading` evaluates it and is the only judge of whether a phrase may be
written: it knows nothing of words. Because places are judged by eye, every answer comes twice: the
elements that are *surely* meant and those that *possibly* are. A star a hair's breadth further left
than the next is possibly, not surely, the left one. A phrase is fit to be written when both sets
are the same single element (`refers`).

The leaves of the tree, which say what kinds of elements there are, belong to a data set: RefShapes
has things and regions, photos have what people annotated. A leaf reads itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

EXTREME_MARGIN = 0.07  # the winner's lead over the runner-up, in picture sides
ORDINAL_MARGIN = 0.08  # between neighbours when counting
EDGE_MARGIN = 0.03  # and its outer edge must lead too, or a big neighbour looks further out
OWN_SIDE = 0.55  # the left one must lie in the left 55 % of the picture, and so on
AREA_RATIO = 1.6  # the biggest against the next
RADIUS_RATIO = 1.08
SURE_STEP = 0.12  # how far apart two centres must be to be surely "left of", ...
POSSIBLE_STEP = -0.02  # a rival level with the anchor may still pass for it

SIDES = ("left", "right", "top", "bottom")
EXTREMES = SIDES + ("biggest", "smallest")
DIRECTIONS = ("left of", "right of", "above", "below")


class Element(Protocol):
    """Something in a scene; lengths in picture sides, x to the right and y down."""

    x: float  # the centre of what is visible
    y: float
    box: tuple[float, float, float, float]  # left, top, right, bottom of what is visible
    area: float
    radius: float


class Scene(Protocol):
    together: tuple[str, ...]  # relations that hold to several anchors taken as one

    @property
    def thing_ids(self) -> range:
        """The elements that have a size and can be counted."""

    def element(self, element: int) -> Element:
        """The element with this id."""

    def holds(self, element: int, word: str, anchors: frozenset[int]) -> tuple[bool, bool]:
        """Does the relation hold to the anchors: (surely, possibly)."""


class Leaf(Protocol):
    countable: ClassVar[bool]  # things, which have a size, and not regions

    def reading(self, scene: Scene) -> Reading:
        """What it surely and what it possibly denotes."""


@dataclass(frozen=True)
class Extreme:
    """The one of `query` that is furthest to a side, or biggest or smallest. One of EXTREMES."""

    query: Query
    side: str


@dataclass(frozen=True)
class Ordinal:
    """The n-th of `query` counted from a side: Ordinal(Things("star"), 2, "left")."""

    query: Query
    n: int
    side: str


@dataclass(frozen=True)
class Relation:
    """Those of `query` that stand in a relation to the anchor.

    `word` is one of DIRECTIONS or one that only the scene knows.
    The anchor denotes one element, or several if it is `All(...)`: then to each of them.
    """

    query: Query
    word: str
    anchor: Query | All


@dataclass(frozen=True)
class All:
    """Every element of `query`, at least two, as the anchor of a relation ("under the stars")."""

    query: Query


@dataclass(frozen=True)
class Not:
    """Those of `query` that are not in `excluded`."""

    query: Query
    excluded: Query


Query = Leaf | Extreme | Ordinal | Relation | Not


@dataclass(frozen=True)
class Reading:
    """Element ids that a query surely and possibly denotes; surely is a subset of possibly."""

    surely: frozenset[int]
    possibly: frozenset[int]

    @property
    def clear(self) -> bool:
        return self.surely == self.possibly


def unclear(ids: frozenset[int]) -> Reading:
    """Any of these may be meant."""
    return Reading(frozenset(), ids)


def _from_side(scene: Scene, element: int, side: str) -> float:
    """Distance of an element's centre from a side of the picture."""
    item = scene.element(element)
    return {"left": item.x, "right": 1 - item.x, "top": item.y, "bottom": 1 - item.y}[side]


def _edge(thing: Element, side: str) -> float:
    """Distance of a thing's nearest visible point from a side of the picture."""
    left, top, right, bottom = thing.box
    return {"left": left, "right": 1 - right, "top": top, "bottom": 1 - bottom}[side]


def _extreme(query: Extreme, scene: Scene) -> Reading:
    found = reading(query.query, scene)
    if not found.clear or len(found.surely) < 2:
        return unclear(found.possibly)
    if query.side in ("biggest", "smallest"):
        return _extreme_size(found.surely, query.side, scene)
    away = {i: _from_side(scene, i, query.side) for i in found.surely}
    least = min(away.values())
    winners = frozenset(i for i, value in away.items() if value < least + EXTREME_MARGIN)
    if found.surely <= set(scene.thing_ids):
        first = min(away, key=away.__getitem__)
        edges = {i: _edge(scene.element(i), query.side) for i in found.surely}
        winners |= {i for i, edge in edges.items() if edge < edges[first] + EDGE_MARGIN}
    clear = len(winners) == 1 and least <= OWN_SIDE
    return Reading(winners, winners) if clear else unclear(winners)


def _extreme_size(ids: frozenset[int], side: str, scene: Scene) -> Reading:
    def beats(one: Element, other: Element) -> bool:
        big, small = (one, other) if side == "biggest" else (other, one)
        return big.area >= AREA_RATIO * small.area and big.radius >= RADIUS_RATIO * small.radius

    if not ids <= set(scene.thing_ids):
        raise ValueError(f"only things have a {side!r}; ask for a side of the picture instead")
    for i in ids:
        if all(beats(scene.element(i), scene.element(j)) for j in ids - {i}):
            return Reading(frozenset({i}), frozenset({i}))
    return unclear(ids)


def _ordinal(query: Ordinal, scene: Scene) -> Reading:
    found = reading(query.query, scene)
    if not leaf(query).countable:
        raise ValueError(f"only things are counted, not regions: {query}")
    if not found.clear or len(found.surely) <= query.n:
        return unclear(found.possibly)
    order = sorted(found.surely, key=lambda i: _from_side(scene, i, query.side))
    places = [_from_side(scene, i, query.side) for i in order[: query.n + 1]]
    gaps = [after - before for before, after in pairwise(places)]
    edges = [_edge(scene.element(i), query.side) for i in order]
    # Whoever goes by outer edges instead of centres must count the same.
    agree = all(edge < min(edges[k + 1 :]) for k, edge in enumerate(edges[: query.n]))
    if min(gaps) < ORDINAL_MARGIN or not agree:
        return unclear(found.possibly)
    chosen = frozenset({order[query.n - 1]})
    return Reading(chosen, chosen)


def stands(one: Element, other: Element, word: str) -> tuple[bool, bool]:
    """Does `one` lie in a direction, one of DIRECTIONS, of `other`: (surely, possibly)."""
    dx, dy = one.x - other.x, one.y - other.y
    step, aside = {
        "left of": (-dx, dy),
        "right of": (dx, dy),
        "above": (-dy, dx),
        "below": (dy, dx),
    }[word]
    return step >= SURE_STEP and step >= 0.9 * abs(aside), step > POSSIBLE_STEP


def _relation(query: Relation, scene: Scene) -> Reading:
    heads = reading(query.query, scene)
    plural = isinstance(query.anchor, All)
    anchors = reading(query.anchor.query if plural else query.anchor, scene)
    if query.word in scene.together:
        enough, groups = bool(anchors.surely), [anchors.surely]
    else:
        enough = len(anchors.surely) >= 2 if plural else len(anchors.surely) == 1
        groups = [frozenset({anchor}) for anchor in anchors.surely]
    if not anchors.clear or not enough:
        return unclear(heads.possibly)
    surely, possibly = set(), set()
    for i in heads.possibly - anchors.surely:
        answers = [scene.holds(i, query.word, group) for group in groups]
        if i in heads.surely and all(sure for sure, _ in answers):
            surely.add(i)
        if all(possible for _, possible in answers):
            possibly.add(i)
    return Reading(frozenset(surely), frozenset(possibly))


def reading(query: Query, scene: Scene) -> Reading:
    """Evaluate a query: what it surely and what it possibly denotes."""
    match query:
        case Extreme():
            return _extreme(query, scene)
        case Ordinal():
            return _ordinal(query, scene)
        case Relation():
            return _relation(query, scene)
        case Not(inner, excluded):
            kept, gone = reading(inner, scene), reading(excluded, scene)
            return Reading(kept.surely - gone.possibly, kept.possibly - gone.surely)
    if not hasattr(query, "reading"):
        raise TypeError(f"not a query: {query!r}")
    return query.reading(scene)


def denotation(query: Query, scene: Scene) -> set[int]:
    """Ids of the elements that the query surely denotes; see `reading` for the doubtful ones."""
    return set(reading(query, scene).surely)


def refers(query: Query, scene: Scene) -> int | None:
    """The one element the query denotes beyond doubt, or None if there is no such one."""
    found = reading(query, scene)
    if found.clear and len(found.surely) == 1:
        return next(iter(found.surely))
    return None


def leaf(query: Query) -> Leaf:
    """The leaf that says what kind of element a query denotes."""
    while isinstance(query, Extreme | Ordinal | Relation | Not):
        query = query.query
    return query
