"""Queries as English. Nothing here looks at a scene or decides whether a sentence is true.

Two styles: `short`, as people type to tell one thing from another, and `long`, as people write when
asked for a description. `describe(query)` without a generator gives the plainest wording.
"""

from __future__ import annotations

import numpy as np

from refgen.queries import All, Extreme, Not, Ordinal, Query, Relation

from .queries import Regions, Things, about_regions

# The first of each row is the plain word and the most frequent one.
NOUNS = {
    "circle": ("circle", "disc"),
    "ring": ("ring", "hoop"),
    "heart": ("heart",),
    "moon": ("moon", "crescent"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "plus"),
}
ANY = ("thing", "shape", "one")
SIZE_TEXTS = {"small": ("small", "little"), "big": ("big", "large")}
PATTERN_TEXTS = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
}
WITH_PATTERN = {"striped": "with stripes", "dotted": "with dots"}
GROUNDS = {
    "sky": ("sky",),
    "grass": ("grass", "lawn"),
    "sand": ("sand", "beach"),
    "water": ("water", "sea"),
    "wall": ("wall", "bricks"),
    "road": ("road", "street"),
}
BEFORE = {  # an extreme said before the noun
    "left": ("left", "leftmost"),
    "right": ("right", "rightmost"),
    "top": ("top", "upper", "highest"),
    "bottom": ("bottom", "lower", "lowest"),
    "biggest": ("biggest", "largest"),
    "smallest": ("smallest",),
}
ALONE = {  # and without any noun
    "left": ("leftmost", "far left"),
    "right": ("rightmost", "far right"),
    "top": ("top", "highest"),
    "bottom": ("bottom", "lowest"),
    "biggest": ("biggest", "largest"),
    "smallest": ("smallest",),
}
BEHIND = {  # and behind it
    "left": ("on left", "on the left"),
    "right": ("on right", "on the right"),
    "top": ("at top", "at the top"),
    "bottom": ("at bottom", "at the bottom"),
}
DIRECTION_TEXTS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OUTERMOST = {"left": "leftmost", "right": "rightmost", "top": "highest", "bottom": "lowest"}
COUNTED = {2: ("second", "2nd"), 3: ("third", "3rd")}
IN = ("sky", "water")  # things are in these and on the others

Generator = np.random.Generator | None


def pick(rng: Generator, options, first: float = 0.6):
    """The first option with that probability, else one of the others; the first if no rng."""
    if rng is None or len(options) == 1 or rng.random() < first:
        return options[0]
    return options[1 + int(rng.integers(len(options) - 1))]


def chance(rng: Generator, probability: float) -> bool:
    """True with this probability; never without a generator."""
    return rng is not None and rng.random() < probability


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


# ---------------------------------------------------------------- noun phrases, both styles


def things(query: Things, rng: Generator, many: bool = False, noun: str | None = None) -> str:
    """As in "small striped red circle", "red circle with stripes". `many` needs a shape."""
    adjectives, tail = [], ""
    if query.size:
        adjectives.append(pick(rng, SIZE_TEXTS[query.size], 0.7))
    if query.pattern in WITH_PATTERN and chance(rng, 0.2):
        tail = " " + WITH_PATTERN[query.pattern]
    elif query.pattern:
        adjectives.append(pick(rng, PATTERN_TEXTS[query.pattern], 0.8))
    if query.colour:
        adjectives.append(query.colour)
    if noun is None:
        if many:  # plain words only
            noun = NOUNS[query.shape][0]
        else:
            noun = pick(rng, NOUNS[query.shape], 0.88) if query.shape else pick(rng, ANY)
    return " ".join(adjectives + [plural(noun) if many else noun]) + tail


def ground(kind: str, rng: Generator) -> str:
    return pick(rng, GROUNDS[kind], 0.85)


def _head(query: Query, rng: Generator, many: bool = False) -> str:
    """The noun phrase at the bottom of a query."""
    if isinstance(query, Things):
        return things(query, rng, many)
    if query.kind is None:
        return "place"
    return ground(query.kind, rng)


def _standing(kind: str, rng: Generator, article: bool) -> str:
    """As in "on the grass", "in sky"."""
    where = "in" if kind in IN else "on"
    return f"{where} {'the ' if article else ''}{ground(kind, rng)}"


def _before(query: Extreme, rng: Generator) -> str:
    return f"{pick(rng, BEFORE[query.side], 0.7)} {_head(query.query, rng)}"


# ---------------------------------------------------------------- short


def short(query: Query, rng: Generator = None) -> str:
    """A short phrase, most articles dropped: "2nd star from left", "square not striped"."""
    words = _short(query, rng)
    if chance(rng, 0.07) and words.split()[0] not in ("anywhere", "everywhere", "far"):
        words = "the " + words
    return words


def _short(query: Query, rng: Generator) -> str:
    match query:
        case Things(shape=None, colour=str(), pattern=None) if chance(rng, 0.25):
            return " ".join(things(query, rng, noun="x").split()[:-1])  # "small red"
        case Things() | Regions():
            return _head(query, rng)
        case Extreme(Things(None, None, None, None), side) if chance(rng, 0.5):
            return pick(rng, ALONE[side])
        case Extreme(inner, side):
            if side in BEHIND and chance(rng, 0.35):
                return f"{_head(inner, rng)} {pick(rng, BEHIND[side])}"
            return _before(query, rng)
        case Ordinal(inner, n, side):
            counted = pick(rng, COUNTED[n], 0.55)
            article = "the " if chance(rng, 0.3) else ""
            if inner == Things() and chance(rng, 0.4):
                return f"{counted} from {article}{side}"
            return f"{counted} {_head(inner, rng)} from {article}{side}"
        case Relation():
            return f"{_head(query.query, rng)} {_short_relation(query, rng)}"
        case Not(Regions(), Regions(kind)):
            if chance(rng, 0.5):
                return f"{pick(rng, ('anywhere but', 'everywhere but'))} the {ground(kind, rng)}"
            return f"anywhere not {_standing(kind, rng, article=True)}"
        case Not(inner, excluded):
            return f"{_head(inner, rng)} {_short_not(excluded, rng)}"
    raise TypeError(f"not a query: {query!r}")


def _anchor(anchor: Query | All, rng: Generator, article: bool) -> str:
    start = "the " if article else ""
    if isinstance(anchor, All):
        return start + _head(anchor.query, rng, many=True)
    if isinstance(anchor, Extreme):
        word = OUTERMOST.get(anchor.side, anchor.side)
        return f"{start}{word} {_head(anchor.query, rng)}"
    return start + _head(anchor, rng)


def _direction(query: Relation, rng: Generator, first: float) -> str:
    if query.word == "above" and about_regions(query.query):
        return "above"  # a region is hardly "over" a thing
    return pick(rng, DIRECTION_TEXTS[query.word], first)


def _short_relation(query: Relation, rng: Generator) -> str:
    article = rng is None or chance(rng, 0.4)
    if query.word == "on":
        return _standing(query.anchor.kind, rng, article)
    if query.word == "with":
        return f"with {_anchor(query.anchor, rng, article)}"
    return f"{_direction(query, rng, 0.75)} {_anchor(query.anchor, rng, article)}"


def _short_not(excluded: Query, rng: Generator) -> str:
    """As in "not striped", "without stripes", "not on the grass"."""
    if isinstance(excluded, Relation):
        return "not " + _standing(excluded.anchor.kind, rng, rng is None or chance(rng, 0.6))
    if excluded.pattern in WITH_PATTERN and chance(rng, 0.25):
        return WITH_PATTERN[excluded.pattern].replace("with", "without")
    joint = pick(rng, ("not", "that is not"))
    return f"{joint} {_adjective(excluded, rng)}"


def _adjective(query: Things, rng: Generator) -> str:
    if query.colour:
        return query.colour
    return pick(rng, (SIZE_TEXTS | PATTERN_TEXTS)[query.size or query.pattern], 0.8)


# ---------------------------------------------------------------- long

PICTURE = ("picture", "image")


def long(query: Query, rng: Generator = None) -> str:
    """A whole description: "the small red star that is to the left of the big blue circle"."""
    match query:
        case Things() | Regions():
            return _long_plain(query, rng)
        case Extreme(inner, side):
            return _long_extreme(inner, side, rng)
        case Ordinal(inner, n, side):
            counted, what = COUNTED[n][0], _head(inner, rng)
            end = f"the {side} {_side_end(side, rng)}"
            if chance(rng, 0.4):
                return f"the {what} that is {counted} from {end}"
            return f"the {counted} {what} {pick(rng, ('from', 'counting from'))} {end}"
        case Relation():
            return _long_relation(query, rng)
        case Not(Regions(), Regions(kind)):
            opening = pick(
                rng, ("all of the background that is not", "the part of the picture without")
            )
            return f"{opening} {ground(kind, rng)}"
        case Not(inner, excluded):
            return _long_not(inner, excluded, rng)
    raise TypeError(f"not a query: {query!r}")


def _with_article(phrase: str, rng: Generator) -> str:
    """Mostly "the red star", now and then "a red star" or "an orange star"."""
    return f"{pick(rng, ('the', 'an' if phrase[0] in 'aeio' else 'a'), 0.8)} {phrase}"


def _side_end(side: str, rng: Generator) -> str:
    picture = pick(rng, PICTURE)
    return f"side of the {picture}" if side in ("left", "right") else f"of the {picture}"


def _long_plain(query: Things | Regions, rng: Generator) -> str:
    what, picture = _head(query, rng), pick(rng, PICTURE)
    if isinstance(query, Regions):
        opening = pick(
            rng, ("the part of the background that is", "the area covered with", "all of the")
        )
        return f"{opening} {what} in the {picture}"
    return pick(
        rng,
        (
            f"the only {what} in the {picture}",
            f"{_with_article(what, rng)} that you can see in the {picture}",
            f"{_with_article(what, rng)} somewhere in the {picture}",
        ),
        0.4,
    )


def _long_extreme(inner: Query, side: str, rng: Generator) -> str:
    what, picture = _head(inner, rng), pick(rng, PICTURE)
    if side in ("biggest", "smallest"):
        word = pick(rng, BEFORE[side])
        if inner.shape and chance(rng, 0.5):
            return f"the {word} of all the {things(inner, rng, many=True)} in the {picture}"
        return f"the {word} {what} in the whole {picture}"
    options = [
        f"the {what} that is closest to the {side} {_side_end(side, rng)}",
        f"the {OUTERMOST[side]} {what} in the whole {picture}",
    ]
    if side in ("left", "right"):
        options.append(f"the {what} that is farthest to the {side}")
    else:
        options.append(f"the {what} at the very {side} of the {picture}")
    return pick(rng, options, 0.3)


def _long_relation(query: Relation, rng: Generator) -> str:
    clause = _long_clause(query, rng)
    inner = query.query
    if isinstance(inner, Relation):  # two relations at once
        start = _with_article(_head(inner.query, rng), rng)
        return f"{start} that is {_long_clause(inner, rng)} and {clause}"
    if query.word == "with":
        return f"the {_head(inner, rng)} {clause}"
    if about_regions(inner):
        return f"the {_head(inner, rng)} {pick(rng, ('that is', 'located'))} {clause}"
    joints = ("that is", "sitting", "located")
    return f"{_with_article(_head(inner, rng), rng)} {pick(rng, joints)} {clause}"


def _long_clause(query: Relation, rng: Generator) -> str:
    if query.word == "on":
        return _standing(query.anchor.kind, rng, article=True)
    if query.word == "with":
        return f"with {_anchor(query.anchor, rng, True)} on it"
    first = 0.0 if query.word.endswith("of") else 0.6  # "to the left of", never "left of"
    return f"{_direction(query, rng, first)} {_anchor(query.anchor, rng, True)}"


def _long_not(inner: Query, excluded: Query, rng: Generator) -> str:
    what, picture = _head(inner, rng), pick(rng, PICTURE)
    if isinstance(excluded, Relation):
        where = _standing(excluded.anchor.kind, rng, article=True)
        return pick(
            rng, (f"the {what} that is not {where}", f"the only {what} that is not {where}")
        )
    word = _adjective(excluded, rng)
    options = [
        f"the {what} in the {picture} that is not {word}",
        f"the only {what} that is not {word}",
    ]
    if excluded.pattern in WITH_PATTERN:
        options.append(
            f"the {what} in the {picture} "
            + WITH_PATTERN[excluded.pattern].replace("with", "without")
        )
    return pick(rng, options, 0.5)


def describe(query: Query) -> str:
    """The plainest short wording of a query, always the same."""
    return short(query)
