"""The leaves of RefShapes's queries; refgen/queries.py has the rest and evaluates them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refgen.queries import Extreme, Not, Ordinal, Query, Reading, Relation, leaf

from .scene import Scene


@dataclass(frozen=True)
class Things:
    """All things with these attributes; None: any."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    pattern: str | None = None
    countable: ClassVar[bool] = True

    def reading(self, scene: Scene) -> Reading:
        ids = frozenset(
            i
            for i, thing in enumerate(scene.things)
            if self.shape in (None, thing.shape)
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
            and self.pattern in (None, thing.pattern)
        )
        return Reading(ids, ids)


@dataclass(frozen=True)
class Regions:
    """All background regions of a kind; None: any."""

    kind: str | None = None
    countable: ClassVar[bool] = False

    def reading(self, scene: Scene) -> Reading:
        kinds = {i: scene.region(i).kind for i in scene.region_ids}
        ids = frozenset(i for i, kind in kinds.items() if self.kind in (None, kind))
        return Reading(ids, ids)


def about_regions(query: Query) -> bool:
    """Does the query denote regions rather than things?"""
    return isinstance(leaf(query), Regions)


def family(query: Query) -> str:
    """The family a sentence is counted in: its outermost idea, or "region" if it denotes one."""
    if isinstance(query, Not):
        return "negation"
    if about_regions(query):
        return "region"
    return {
        Things: "attribute",
        Extreme: "extreme",
        Ordinal: "ordinal",
        Relation: "relation",
    }[type(query)]
