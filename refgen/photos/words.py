"""What people call the kinds of COCO, and what else they might mean by the word."""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    """A word, the kinds it names, and kinds that some would call so too."""

    word: str
    kinds: frozenset[str]
    maybe: frozenset[str] = frozenset()


# word: the kinds it names | those it may name; a word alone is its kind
_TABLE = """
person; bike: bicycle | motorcycle; bicycle; car: car | truck; motorcycle: motorcycle | bicycle;
motorbike: motorcycle | bicycle; vehicle: car, bus, truck | motorcycle, bicycle, train;
plane: airplane; airplane; bus; train; truck: truck | car, bus; boat; traffic light;
hydrant: fire hydrant; fire hydrant; stop sign; parking meter; meter: parking meter;
bench: bench | chair, couch; bird; cat; dog; horse; sheep; cow; elephant;
bear: bear | teddy bear; zebra; giraffe;
animal: bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe | teddy bear;
backpack: backpack | handbag, suitcase; umbrella; handbag: handbag | backpack, suitcase;
purse: handbag | backpack, suitcase; bag: handbag, backpack | suitcase; tie;
suitcase: suitcase | backpack, handbag; luggage: suitcase | backpack, handbag; frisbee; skis;
snowboard: snowboard | skis; ball: sports ball; kite; bat: baseball bat; baseball bat;
glove: baseball glove; skateboard; surfboard; board: surfboard, skateboard, snowboard;
racket: tennis racket; tennis racket; bottle: bottle | vase; wine glass: wine glass | cup;
glass: wine glass | cup, bottle, vase; cup: cup | wine glass, bowl, vase;
fork: fork | knife, spoon; knife: knife | fork, spoon; spoon: spoon | knife, fork;
bowl: bowl | cup; banana; apple: apple | orange; sandwich: sandwich | hot dog;
orange: orange | apple; broccoli; carrot; hot dog: hot dog | sandwich; pizza;
donut: donut | cake; cake: cake | donut, sandwich; chair: chair | couch, bench;
couch: couch | chair, bed, bench; sofa: couch | chair, bed, bench; plant: potted plant | vase;
potted plant: potted plant | vase; bed: bed | couch; table: dining table | bench; toilet;
tv: tv | laptop; screen: tv | laptop, cell phone; laptop: laptop | tv; computer: laptop | tv;
mouse; remote: remote | cell phone; keyboard: keyboard | laptop; phone: cell phone | remote;
cell phone: cell phone | remote; microwave: microwave | oven; oven: oven | microwave;
stove: oven | microwave; toaster: toaster | microwave; sink; fridge: refrigerator; refrigerator;
clock; vase: vase | potted plant, bottle, cup, bowl; scissors; teddy bear: teddy bear | bear;
teddy: teddy bear | bear; hair dryer: hair drier; toothbrush
"""


def _forms(names: str) -> frozenset[str]:
    return frozenset(name.strip() for name in names.split(",") if name.strip())


def _read(table: str) -> list[Noun]:
    nouns = []
    for row in table.replace("\n", " ").strip().strip(";").split(";"):
        word, _, meaning = row.strip().partition(": ")
        kinds, _, maybe = (meaning or word).partition("|")
        nouns.append(Noun(word, _forms(kinds), _forms(maybe)))
    return nouns


NOUNS = _read(_TABLE)
KNOWN = frozenset().union(*(noun.kinds for noun in NOUNS)) | {"book"}
# Of these so many stand in one place that annotators stop: none is ever sure to be the only one.
NEVER = frozenset({"book"})
FOOD = frozenset("banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake".split(","))
UPRIGHT = frozenset({"person"})  # nobody says "the top person"
# Where one of these ends and the next begins is anybody's guess (a bunch, a heap, a bed of
# flowers): they are referred to by nothing but their kind.
VAGUE = frozenset("dining table,potted plant,banana,orange,broccoli,carrot".split(","))
# Many tables and chairs go without annotation, so that only large ones are referred to.
SPREAD = {"dining table": 0.15, "chair": 0.025, "potted plant": 0.03}

# Words for people need somebody who looked: word -> labels it surely and possibly stands for.
PEOPLE = {
    "man": ({"man"}, {"boy"}),
    "guy": ({"man"}, {"boy"}),
    "woman": ({"woman"}, {"girl"}),
    "lady": ({"woman"}, {"girl"}),
    "boy": ({"boy"}, {"man"}),
    "girl": ({"girl"}, {"woman"}),
    "kid": ({"boy", "girl"}, {"man", "woman"}),
    "child": ({"boy", "girl"}, set()),
}
PERSON_LABELS = ("man", "woman", "boy", "girl")


def nouns_for(kind: str) -> list[Noun]:
    """Words for a kind; one that COCO does not know is called by its name."""
    if kind in NEVER:
        return []
    if kind not in KNOWN:
        return [Noun(kind.replace("_", " ").lower(), frozenset({kind}))]
    return [noun for noun in NOUNS if kind in noun.kinds]


# A relation is asked for where it is natural: (what, on what).
RIDDEN = frozenset({"bicycle", "motorcycle", "horse", "elephant", "skateboard", "surfboard"})
SEATS = frozenset({"bench", "chair", "couch", "bed", "toilet"})
LOW = frozenset(
    "cup,bowl,bottle,wine glass,laptop,pizza,cake,sandwich,vase,potted plant,banana,donut,"
    "keyboard,cell phone,book,fork,knife,spoon,apple,orange,hot dog".split(",")
)
ON = {
    **dict.fromkeys(("person",), RIDDEN | SEATS | {"snowboard", "skis"}),
    **dict.fromkeys(("cat", "dog", "teddy bear"), SEATS | {"suitcase", "car", "laptop"}),
    **dict.fromkeys(LOW, frozenset({"dining table"})),
    "bird": frozenset({"bench", "boat", "car"}),
    "handbag": SEATS,
    "backpack": SEATS,
    "suitcase": SEATS,
}
WITH = {
    "person": frozenset(
        "umbrella,backpack,handbag,suitcase,surfboard,skateboard,snowboard,skis,tennis racket,"
        "baseball bat,baseball glove,frisbee,kite,tie,cell phone,laptop,bicycle".split(",")
    )
}
# Who a person with such a thing is called.
ROLES = {
    "tennis racket": ("tennis player", "player"),
    "baseball bat": ("batter",),
    "surfboard": ("surfer",),
    "skateboard": ("skateboarder", "skater"),
    "snowboard": ("snowboarder",),
    "skis": ("skier",),
}
RIDERS = {
    "bicycle": ("cyclist", "person riding a bike"),
    "motorcycle": ("motorcyclist", "person riding a motorcycle"),
    "horse": ("horse rider", "person riding a horse"),
    "elephant": ("person riding an elephant",),
}
