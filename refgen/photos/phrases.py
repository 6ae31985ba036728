"""Which phrases a photo gets.

For each object all queries that somebody might ask are listed with their wordings, family by
family. Those that denote the object and nothing else (`refers`) may be written; some are drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from refgen.queries import EXTREMES, Extreme, Not, Ordinal, Query, Relation, reading, refers
from refgen.typed import as_typed

from .scene import MIN_AREA, Middle, Objects, Placed, Scene, Thing
from .words import ON, PEOPLE, RIDDEN, RIDERS, ROLES, SPREAD, UPRIGHT, VAGUE, WITH, Noun, nouns_for

WEIGHTS = {  # of a family that an object can have: what few objects can have, these say more often
    "kind": 0.16,
    "place": 0.32,
    "ordinal": 0.2,
    "size": 0.07,
    "colour": 0.4,
    "clothing": 0.5,
    "relation": 0.16,
    "negation": 0.05,
}
ROW = 6  # of more than so many things, or where one is tiny or behind another, nobody counts
# Of what stands on one floor, the farther is drawn higher and is not above the nearer.
FLOOR = frozenset(
    "person,bed,couch,chair,bench,toilet,dining table,dog,cat,car,bus,truck,horse,cow,sheep,"
    "motorcycle,bicycle,elephant,suitcase,giraffe,zebra,bear".split(",")
)
COLOURED = frozenset(
    "car,bus,truck,motorcycle,train,boat,airplane,fire hydrant,bird,cat,dog,horse,cow,bear,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,snowboard,surfboard,kite,bottle,cup,bowl,"
    "chair,couch,bed,toilet,refrigerator,vase,teddy bear,remote,toothbrush".split(",")
)

_EXTREMES = {
    "left": ("left {}", "{} on the left", "leftmost {}", "far left {}", "{} to the left"),
    "right": ("right {}", "{} on the right", "rightmost {}", "far right {}", "{} to the right"),
    "top": ("top {}", "{} at the top", "upper {}", "highest {}"),
    "bottom": ("bottom {}", "{} at the bottom", "lower {}", "lowest {}"),
    "biggest": ("biggest {}", "largest {}"),
    "smallest": ("smallest {}",),
}
_PLACES = {
    ("left",): ("{} on the left", "{} on left side", "left {}", "{} at left"),
    ("right",): ("{} on the right", "{} on right side", "right {}", "{} at right"),
    ("top",): ("{} at the top", "top {}", "{} up top"),
    ("bottom",): ("{} at the bottom", "bottom {}", "{} at bottom of picture"),
    ("middle",): ("{} in the middle", "middle {}", "center {}", "{} in the center"),
    ("top", "left"): ("{} at the top left", "top left {}", "{} in upper left corner"),
    ("top", "right"): ("{} at the top right", "top right {}", "{} in upper right corner"),
    ("bottom", "left"): ("{} at the bottom left", "bottom left {}", "{} in lower left corner"),
    ("bottom", "right"): ("{} at the bottom right", "bottom right {}", "{} in lower right corner"),
}
_COUNTED = {1: ("first", "1st"), 2: ("second", "2nd"), 3: ("third", "3rd"), 4: ("fourth", "4th")}
_CLOTHES = (
    "{} in {c}",
    "{} wearing {c}",
    "{} dressed in {c}",
    "{} with {c} clothes",
    "{} in {c} top",
)
_RELATIONS = {
    "left of": ("{} left of {a}", "{} to the left of {a}"),
    "right of": ("{} right of {a}", "{} to the right of {a}"),
    "above": ("{} above {a}", "{} over {a}"),
    "below": ("{} below {a}", "{} under {a}"),
    "next to": ("{} next to {a}", "{} beside {a}", "{} by {a}", "{} near {a}"),
    "on": ("{} on {a}",),
    "riding": ("{} riding {a}", "{} on {a}"),
    "with": ("{} with {n}", "{} with {a}"),
}


@dataclass(frozen=True)
class Phrase:
    text: str
    raw: str  # as typed: a capital, a full stop, now and then a slip
    family: str
    query: Query


Asked = tuple[str, Query, tuple[str, ...]]  # family, query, wordings


def _objects(noun: Noun) -> Objects:
    return Objects(noun.kinds, noun.maybe)


def _named(thing: Thing) -> list[tuple[str, Objects]]:
    """The words that may be said for a thing, with what each denotes."""
    names = [(noun.word, _objects(noun)) for noun in nouns_for(thing.kind)]
    for word, (labels, maybe) in PEOPLE.items():
        if thing.label in labels:
            person = frozenset({"person"})
            names.append(
                (word, Objects(person, labels=frozenset(labels), maybe_labels=frozenset(maybe)))
            )
    return names


def _coloured(thing: Thing, word: str, things: Objects) -> Iterator[tuple[str, str, Objects]]:
    """Family, wording and query for each colour that a thing surely has."""
    for colour in sorted(thing.colours[0]):
        query = replace(things, colour=colour)
        if thing.kind == "person":
            yield from (("clothing", form.format(word, c=colour), query) for form in _CLOTHES)
        elif thing.kind in COLOURED:
            yield "colour", f"{colour} {word}", query


def ask(scene: Scene, target: int, word: str, things: Objects) -> Iterator[Asked]:
    """All queries about an object that begin with one word for it."""
    thing = scene.things[target]
    yield "kind", things, (word, f"the {word}")
    if thing.kind in VAGUE:
        return
    coloured = list(_coloured(thing, word, things))
    for family in ("colour", "clothing"):
        forms = tuple(text for name, text, _ in coloured if name == family)
        if forms:
            yield family, coloured[0][2], forms
    # Nobody says "the top one" of two that stand side by side.
    rivals = reading(things, scene).possibly - {target}
    others = [scene.things[i] for i in rivals]
    hidden = thing.cut or thing.kept < 1 or any(scene.gap(target, i) == 0 for i in rivals)
    upright = thing.kind in UPRIGHT or bool(others) and thing.kind in FLOOR
    upright |= any(
        abs(thing.y - other.y) < max(0.12, 0.7 * abs(thing.x - other.x)) for other in others
    )
    heads = [(things, word)] + ([(coloured[0][2], coloured[0][1])] if coloured else [])
    for query, said in heads:
        for side in EXTREMES:
            unseen = side == "smallest" and hidden or upright and side in ("top", "bottom")
            if not unseen:
                family = "size" if side in ("biggest", "smallest") else "place"
                forms = _EXTREMES[side] if query is things else _EXTREMES[side][:2]
                yield family, Extreme(query, side), tuple(form.format(said) for form in forms)
        for places, forms in _PLACES.items():
            if not (upright and {"top", "bottom"} & set(places)):
                yield "place", Placed(query, places), tuple(form.format(said) for form in forms)
    forms = (f"middle {word}", f"{word} in the middle", f"center {word}")
    yield "place", Middle(things), forms
    row = [thing, *others]
    apart = all(scene.gap(i, j) > 0 for i, j in combinations(sorted({target, *rivals}), 2))
    is_row = len(row) <= ROW and all(each.area >= MIN_AREA for each in row) and apart
    for n, counts in _COUNTED.items() if is_row and word not in ("bike", "bicycle") else ():
        for side in ("left", "right"):
            forms = tuple(
                f"{count} {word} from {the}{side}" for count in counts for the in ("", "the ")
            )
            yield "ordinal", Ordinal(things, n, side), forms
    yield from _relations(scene, target, word, things)
    yield from _negations(scene, target, word, things)


def _anchors(scene: Scene, target: int) -> Iterator[tuple[int, Thing, str, Objects]]:
    """Other things that one word names beyond doubt."""
    for i, other in enumerate(scene.things):
        wide_enough = other.area >= SPREAD.get(other.kind, 0)
        if i != target and not other.crowd and not other.doubtful and wide_enough:
            for noun in nouns_for(other.kind)[:2]:
                if refers(_objects(noun), scene) == i:
                    yield i, other, noun.word, _objects(noun)
                    break


def _relations(scene: Scene, target: int, word: str, things: Objects) -> Iterator[Asked]:
    thing = scene.things[target]
    for _, other, name, anchor in _anchors(scene, target):
        words = ["next to"]
        if other.kind in ON.get(thing.kind, ()):
            words = ["riding" if other.kind in RIDDEN else "on"]
        elif other.kind in WITH.get(thing.kind, ()):
            words = ["with"]
        elif other.kind != "dining table" and thing.kind != "dining table":
            words += ["left of", "right of"]
            if not FLOOR & {thing.kind, other.kind}:
                words += ["above", "below"]
        for relation in words:
            query = Relation(things, relation, anchor)
            forms = tuple(
                form.format(word, a=f"the {name}", n=name) for form in _RELATIONS[relation]
            )
            yield "relation", query, forms
            roles = RIDERS if relation == "riding" else ROLES
            if word == "person" and relation in ("with", "riding") and other.kind in roles:
                yield "relation", query, roles[other.kind]


def _negations(scene: Scene, target: int, word: str, things: Objects) -> Iterator[Asked]:
    thing = scene.things[target]
    rivals = [scene.things[i] for i in reading(things, scene).possibly if i != target]
    named = {colour for rival in rivals for colour in rival.colours[0]}
    for colour in sorted(named if thing.kind == "person" else named - {"black", "gray", "white"}):
        forms = (f"{word} not in {colour}", f"{word} not wearing {colour}")
        if thing.kind != "person":
            forms = (f"{word} that is not {colour}", f"not {colour} {word}")
        if thing.kind in COLOURED | {"person"}:
            yield "negation", Not(things, replace(things, colour=colour)), forms
    if rivals:
        for side in ("left", "right"):
            yield "negation", Not(things, Placed(things, (side,))), (f"{word} not on the {side}",)
        for _, other, name, anchor in _anchors(scene, target):
            if other.kind in ON.get(thing.kind, ()):
                query = Not(things, Relation(things, "on", anchor))
                yield "negation", query, (f"{word} not on the {name}",)
            elif other.kind in WITH.get(thing.kind, ()) and other.kind != "tie":
                query = Not(things, Relation(things, "with", anchor))
                yield "negation", query, (f"{word} without {name}", f"{word} without the {name}")


# ---------------------------------------------------------------- as people type

_SHORTER = (("the ", ""), ("second", "2nd"), ("third", "3rd"), ("with ", "w "))


def _typed(rng: np.random.Generator, text: str) -> str:
    """Now and then shorter, as somebody in a hurry types."""
    if rng.random() < 0.35:
        for long, short in _SHORTER[: 1 if rng.random() < 0.7 else None]:
            text = text.replace(long, short)
    return text


# ---------------------------------------------------------------- phrases of a photo


def why_not(scene: Scene, target: int) -> str | None:
    """Why no phrase may be made for an object, or None."""
    thing = scene.things[target]
    if thing.crowd:
        return "a crowd region"
    if not nouns_for(thing.kind):
        return "a kind that is never annotated completely"
    if thing.kind in scene.unknown:
        return scene.unknown[thing.kind]
    if scene.covered is not None and thing.kind not in scene.covered:
        return "a kind that is not annotated in this photo"
    if thing.area < max(MIN_AREA, SPREAD.get(thing.kind, 0)):
        return "too small"
    if not thing.referable:
        return "cut off or covered"
    return None


def write_phrases(
    rng: np.random.Generator, scene: Scene, count: int, tally: Counter
) -> dict[int, list[Phrase]]:
    """Up to `count` phrases for each object that can be told from all others: {object: phrases}.

    `tally` counts what was asked and what was left out, by (family, outcome) and ("object", why).
    """
    written: dict[int, list[Phrase]] = {}
    for target in scene.thing_ids:
        reason = why_not(scene, target)
        if reason is None:
            proved = _proved(scene, target, tally)
            reason = None if proved else "nothing tells it from the others"
            if proved:
                written[target] = _draw(rng, proved, count)
        tally["object", reason or "referred to"] += 1
    return written


def _proved(scene: Scene, target: int, tally: Counter) -> dict[str, list[Asked]]:
    """The queries by family that denote the target beyond doubt."""
    proved: dict[str, list[Asked]] = {}
    for word, things in _named(scene.things[target]):
        for asked in ask(scene, target, word, things):
            family, query, _ = asked
            found = reading(query, scene)
            if refers(query, scene) == target:
                proved.setdefault(family, []).append(asked)
                tally[family, "proved"] += 1
            elif target in found.possibly:
                tally[family, "not clear or not unique"] += 1
    return proved


def _draw(rng: np.random.Generator, proved: dict[str, list[Asked]], count: int) -> list[Phrase]:
    families = sorted(proved)
    weights = np.array([WEIGHTS[family] for family in families])
    found: dict[str, Phrase] = {}
    for _ in range(3 * count):
        family = families[int(rng.choice(len(families), p=weights / weights.sum()))]
        _, query, forms = proved[family][int(rng.integers(len(proved[family])))]
        # The first wording is the plain one.
        form = forms[0] if rng.random() < 0.4 else forms[int(rng.integers(len(forms)))]
        text = _typed(rng, form)
        if text not in found:
            found[text] = Phrase(text, as_typed(rng, text), family, query)
        if len(found) == count:
            break
    return list(found.values())
