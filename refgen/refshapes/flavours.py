"""Which sentences a scene gets in each of the four flavours.

For a chosen element and family, queries are guessed around the element until one denotes it and
nothing else (`queries.refers`); only then is it put into words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refgen.queries import (
    EXTREMES,
    SIDES,
    All,
    Extreme,
    Not,
    Ordinal,
    Query,
    Relation,
    reading,
    refers,
)
from refgen.typed import as_typed

from . import sentences
from .queries import Regions, Things, family
from .scene import Scene, Thing

MAX_WORDS = 25
TRIES = 12  # guesses at a query of one family


@dataclass(frozen=True)
class Flavour:
    """How one flavour talks.

    `weights` are for things; a family that a thing cannot have gives way to another, so they are
    not the shares that come out. `region_share` is the share of referents
    that are regions, where the split allows any.
    """

    name: str
    weights: dict[str, float]
    region_share: float
    referents: tuple[int, int]  # fewest and most an image
    sentences: tuple[int, int]  # and a referent
    long: bool = False
    locations: bool = True  # may a sentence say where something is
    regions_everywhere: bool = False  # in testA and testB too


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            "unc",
            {
                "attribute": 0.05,
                "extreme": 0.37,
                "ordinal": 0.28,
                "relation": 0.33,
                "negation": 0.09,
            },
            region_share=0.12,
            referents=(2, 3),
            sentences=(2, 3),
        ),
        Flavour(
            "unc+",
            {"attribute": 0.27, "extreme": 0.30, "relation": 0.20, "negation": 0.23},
            region_share=0.10,
            referents=(2, 3),
            sentences=(2, 3),
            locations=False,
        ),
        Flavour(
            "gref",
            {
                "attribute": 0.03,
                "extreme": 0.12,
                "ordinal": 0.12,
                "relation": 0.61,
                "negation": 0.12,
            },
            region_share=0.08,
            referents=(2, 4),
            sentences=(1, 2),
            long=True,
        ),
        Flavour(
            "referit",
            {
                "attribute": 0.20,
                "extreme": 0.30,
                "ordinal": 0.12,
                "relation": 0.26,
                "negation": 0.12,
            },
            region_share=0.40,
            referents=(3, 4),
            sentences=(1, 3),
            regions_everywhere=True,
        ),
    )
}


@dataclass(frozen=True)
class Sentence:
    text: str
    raw: str  # as typed: capitals, a full stop, now and then a slip
    family: str
    query: Query


# ---------------------------------------------------------------- guessing queries


def _one(rng: np.random.Generator, options):
    return options[int(rng.random() * len(options))]


def _weighted(rng: np.random.Generator, weights: dict[str, float]) -> str:
    names = list(weights)
    heights = np.cumsum(list(weights.values()))
    return names[int(np.searchsorted(heights, rng.random() * heights[-1], side="right"))]


def _looks(
    rng: np.random.Generator,
    thing: Thing,
    shape: float = 0.8,
    colour: float = 0.45,
    size: float = 0.15,
    pattern: float = 0.2,
) -> Things:
    """Some of a thing's attributes, each kept with its probability."""
    kept = rng.random(4) < (shape, colour, size, pattern)
    return Things(
        *(
            value if keep else None
            for value, keep in zip(
                (thing.shape, thing.colour, thing.size, thing.pattern), kept, strict=True
            )
        )
    )


def _everything(thing: Thing) -> Things:
    return Things(thing.shape, thing.colour, thing.size, thing.pattern)


def _group(rng: np.random.Generator, thing: Thing) -> Things:
    """A loose description that other things may share."""
    return _looks(rng, thing, shape=0.75, colour=0.3, size=0.08, pattern=0.12)


def _direction(scene: Scene, one: int, other: int) -> str:
    """The direction in which `one` lies from `other`, whichever is the most marked."""
    here, there = scene.element(one), scene.element(other)
    dx, dy = here.x - there.x, here.y - there.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def _beside(
    rng: np.random.Generator, scene: Scene, target: int, inner: Query, long: bool
) -> Relation:
    """`inner` where the target stands from some other thing; at least three things are there."""
    for _ in range(3):
        other = _one(rng, [i for i in scene.thing_ids if i != target])
        thing = scene.things[other]
        if rng.random() < 0.3:
            anchor = Things(shape=thing.shape)
            if len(reading(anchor, scene).surely - {target}) > 1:
                return Relation(inner, _direction(scene, target, other), All(anchor))
        if long and rng.random() < 0.15:
            anchor = Extreme(_looks(rng, thing, 0.9, 0.3, 0.0, 0.0), _one(rng, EXTREMES))
        elif long:
            anchor = _looks(rng, thing, 0.95, 0.8, 0.4, 0.3)
        else:
            anchor = _looks(rng, thing, 0.85, 0.5, 0.08, 0.12)
        if refers(anchor, scene) == other:
            break
    return Relation(inner, _direction(scene, target, other), anchor)


def _on(scene: Scene, target: int, inner: Query) -> Relation:
    """`inner` on the region that the target mostly stands on."""
    region = int(np.argmax(scene.things[target].shares))
    return Relation(inner, "on", Regions(scene.regions[region].kind))


def _guess_attribute(rng, scene: Scene, target: int, flavour: Flavour) -> Query:
    thing = scene.things[target]
    if flavour.long:
        return _looks(rng, thing, 0.95, 0.85, 0.6, 0.5)
    return _looks(rng, thing, 0.75, 0.6, 0.3, 0.35)


def _guess_extreme(rng, scene: Scene, target: int, flavour: Flavour) -> Query:
    sides = EXTREMES if flavour.locations else EXTREMES[4:]
    side = _one(rng, SIDES) if flavour.locations and rng.random() < 0.7 else _one(rng, sides)
    return Extreme(_group(rng, scene.things[target]), side)


def _guess_ordinal(rng, scene: Scene, target: int, flavour: Flavour) -> Query:
    n = 2 if rng.random() < 0.75 else 3
    # Looser still: counting needs a crowd.
    group = _looks(rng, scene.things[target], 0.55, 0.2, 0.05, 0.08)
    return Ordinal(group, n, SIDES[int(rng.choice(4, p=(0.35, 0.35, 0.15, 0.15)))])


def _guess_relation(rng, scene: Scene, target: int, flavour: Flavour) -> Query:
    thing = scene.things[target]
    head = _looks(rng, thing, 0.9, 0.5, 0.25, 0.25) if flavour.long else _group(rng, thing)
    if not flavour.locations:
        return _on(scene, target, _looks(rng, thing, 0.7, 0.4, 0.15, 0.2))
    draw = rng.random()
    if draw < 0.25:
        head = _on(scene, target, head)
        if not flavour.long or draw < 0.06:
            return head
    elif flavour.long and draw < 0.45:
        head = _beside(rng, scene, target, head, True)
    return _beside(rng, scene, target, head, flavour.long)


def _guess_negation(rng, scene: Scene, target: int, flavour: Flavour) -> Query:
    thing = scene.things[target]
    inner = _group(rng, thing)
    if len(scene.regions) > 1 and rng.random() < 0.3:
        kind = _one(rng, scene.regions).kind
        return Not(inner, Relation(Things(), "on", Regions(kind)))
    free = [name for name in ("colour", "pattern", "size") if getattr(inner, name) is None]
    if not free:
        return inner  # negates nothing, is refused
    name = _one(rng, free)
    others = sorted({getattr(t, name) for t in scene.things} - {getattr(thing, name)})
    return Not(inner, Things(**{name: _one(rng, others)})) if others else inner


def _guess_region(rng, scene: Scene, target: int, flavour: Flavour) -> Query:
    region = Regions(scene.region(target).kind)
    draw = rng.random()
    if not flavour.locations:  # only what is said without a direction
        draw = 0.0 if draw < 0.7 else 0.7 + rng.random() * 0.3
    if draw < (0.2 if flavour.long else 0.35):
        return region
    if draw < 0.40:
        return Extreme(region, _one(rng, SIDES))
    if draw < 0.46:
        other = _one(rng, scene.region_ids)
        return Relation(region, _direction(scene, target, other), Regions(scene.kind_of(other)))
    if draw < 0.7:
        other = _one(rng, scene.thing_ids)
        group = _looks(rng, scene.things[other], 1.0, 0.2, 0.0, 0.0)
        several = len(reading(group, scene).surely) > 1
        return Relation(region, _direction(scene, target, other), All(group) if several else group)
    if draw < 0.82:
        return Relation(region, "with", _looks(rng, _one(rng, scene.things), 0.95, 0.5, 0.05, 0.05))
    return Not(Regions(), Regions(_one(rng, scene.regions).kind))


_GUESS = {
    "attribute": _guess_attribute,
    "extreme": _guess_extreme,
    "ordinal": _guess_ordinal,
    "relation": _guess_relation,
    "negation": _guess_negation,
    "region": _guess_region,
}


def _anchored(anchor: Query | All, scene: Scene) -> frozenset[int]:
    return reading(anchor.query if isinstance(anchor, All) else anchor, scene).surely


def _says_something(query: Query, scene: Scene) -> bool:
    """Would fewer words have left a doubt? Not asked of attributes and region relations."""
    match query:
        case Not(inner, _) | Relation(Things() as inner, _, _):
            return len(reading(inner, scene).surely) > 1
        case Relation(Relation() as inner, _, anchor):
            twice = _anchored(inner.anchor, scene) == _anchored(anchor, scene)
            return not twice and len(reading(inner.query, scene).surely) > 1
    return True


def find_query(
    rng: np.random.Generator, scene: Scene, target: int, wanted: str, flavour: Flavour
) -> Query | None:
    """A query of a family that denotes `target` alone, or None if none was found."""
    if wanted == "attribute" and refers(_everything(scene.things[target]), scene) is None:
        return None
    for _ in range(TRIES):
        query = _GUESS[wanted](rng, scene, target, flavour)
        if refers(query, scene) == target and _says_something(query, scene):
            return query
    return None


# ---------------------------------------------------------------- sentences of a scene


def _sentences_for(
    rng: np.random.Generator, scene: Scene, target: int, flavour: Flavour, count: int
) -> list[Sentence]:
    weights = {"region": 1.0} if target in scene.region_ids else dict(flavour.weights)
    found: dict[str, Sentence] = {}
    for _ in range(3 * count):
        if not weights or len(found) == count:
            break
        name = _weighted(rng, weights)
        query = find_query(rng, scene, target, name, flavour)
        if query is None:
            del weights[name]
            continue
        text = (sentences.long if flavour.long else sentences.short)(query, rng)
        if text not in found and len(text.split()) <= MAX_WORDS:
            found[text] = Sentence(text, as_typed(rng, text), family(query), query)
    return list(found.values())


def write_flavour(
    rng: np.random.Generator, scene: Scene, flavour: Flavour, shapes: tuple[str, ...], regions: bool
) -> dict[int, list[Sentence]]:
    """Sentences of a scene in one flavour: {element id: its sentences}, at least one each.

    Only things of the given `shapes` are referred to, and regions only if `regions` (or the flavour
    refers to them in every split).
    """
    things = [i for i in scene.thing_ids if scene.things[i].shape in shapes]
    grounds = list(scene.region_ids) if regions or flavour.regions_everywhere else []
    things, grounds = [list(rng.permutation(ids)) for ids in (things, grounds)]
    fewest, most = flavour.referents
    chosen: list[int] = []
    for _ in range(int(rng.integers(fewest, most + 1))):
        pool = grounds if grounds and rng.random() < flavour.region_share else things
        pool = pool or grounds
        if pool:
            chosen.append(int(pool.pop()))
    fewest, most = flavour.sentences
    written = {}
    for target in sorted(chosen):
        count = int(rng.integers(fewest, most + 1))
        made = _sentences_for(rng, scene, target, flavour, count)
        if made:
            written[target] = made
    return written
