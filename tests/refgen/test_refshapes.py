"""RefShapes: what is written is true, and is what the settings say.

The judge of truth here is `Interpreter`, which takes a sentence's text apart and evaluates it over
scenes.json and the masks. It shares no code with the package: places are the centres of the masks'
pixels, nothing has a margin, and words are looked up in its own tables.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from refgen.refshapes import (
    SEMANTIC_CLASSES,
    All,
    Extreme,
    Not,
    Ordinal,
    Region,
    Regions,
    Relation,
    Scene,
    Thing,
    Things,
    denotation,
    describe,
    draw,
    generate,
    make_example,
    make_scene,
    read_scenes,
    refers,
)
from shnet_lib.data.errors import DataError
from shnet_lib.data.refer import read_refer

FLAVOURS = ("unc", "unc+", "gref", "referit")
FAMILIES = {"attribute", "extreme", "ordinal", "relation", "negation", "region"}
IMAGES = {"train": 110, "val": 20, "testA": 15, "testB": 15}
SIZE = 96
ROUND = {"circle", "ring", "heart", "moon"}
CORNERED = {"square", "triangle", "star", "cross"}


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("made") / "refshapes", IMAGES, SIZE, seed=3)


def load_refs(out: Path, flavour: str) -> list[dict]:
    with open(out / "refshapes" / f"refs({flavour}).p", "rb") as file:
        return pickle.load(file)


def sentences(out: Path, flavour: str) -> list[dict]:
    """All sentences, each with its ref's fields."""
    return [{**ref, **sent} for ref in load_refs(out, flavour) for sent in ref["sentences"]]


@pytest.fixture(scope="module")
def instances(out) -> dict:
    return json.loads((out / "refshapes" / "instances.json").read_text())


@pytest.fixture(scope="module")
def masks(instances) -> dict[int, np.ndarray]:
    return {
        a["id"]: coco_mask.decode(a["segmentation"]).astype(bool) for a in instances["annotations"]
    }


@pytest.fixture(scope="module")
def records(out) -> dict[int, dict]:
    listed = json.loads((out / "refshapes" / "scenes.json").read_text())
    return {record["image_id"]: record for record in listed}


# ---------------------------------------------------------------- the judge

SAME_WORD = {
    "disc": "circle", "hoop": "ring", "crescent": "moon", "box": "square", "plus": "cross",
    "little": "small", "large": "big", "solid": "plain", "stripy": "striped", "spotted": "dotted",
    "lawn": "grass", "beach": "sand", "sea": "water", "bricks": "wall", "street": "road",
    "over": "above", "under": "below", "largest": "biggest", "2nd": "second", "3rd": "third",
    "leftmost": "left", "rightmost": "right", "upper": "top", "highest": "top", "lower": "bottom",
    "lowest": "bottom", "image": "picture", "everywhere": "anywhere", "crosses": "cross",
    "shape": "thing", "one": "thing", "things": "thing",
}  # fmt: skip
SAME_WORD |= {s + "s": s for s in ROUND | CORNERED if s != "cross"}
KINDS = {"sky", "grass", "sand", "water", "wall", "road"}
VALUES = {
    "shape": ROUND | CORNERED,
    "colour": {"red", "orange", "yellow", "green", "blue", "purple", "white"},
    "size": {"small", "big"},
    "pattern": {"plain", "striped", "dotted"},
}
PADDING = (
    ("part of picture without", "anywhere but"), ("all of background that is not", "anywhere but"),
    ("part of background that is", ""), ("area covered with", ""), ("of all", ""), ("all of", ""),
    ("that you can see", ""), ("that is", ""), ("in picture", ""), ("in whole picture", ""),
    ("side of picture", ""), ("of picture", ""), ("somewhere", ""), ("only", ""), ("on it", ""),
    ("located", ""), ("sitting", ""), ("counting", ""), ("very", ""), ("far", ""),
    ("to left of", "left of"), ("to right of", "right of"),
    ("closest to", "at"), ("farthest to", "at"), ("with stripes", "STRIPES"), ("with dots", "DOTS"),
    ("without stripes", "not striped"), ("without dots", "not dotted"),
)  # fmt: skip
SIDE = "(left|right|top|bottom)"
RELATION = "(left of|right of|above|below|on|in)"


class Interpreter:
    """The ids that a sentence denotes in one scene, from its text alone."""

    def __init__(self, record: dict, masks: dict[int, np.ndarray]) -> None:
        self.items = {}
        for item in record["things"]:
            rows, columns = np.nonzero(masks[item["annotation_id"]])
            self.items[item["id"]] = {
                **item, "x": (columns.mean() + 0.5) / SIZE, "y": (rows.mean() + 0.5) / SIZE
            }  # fmt: skip
        self.things = set(self.items)
        self.items |= {item["id"]: item for item in record["regions"]}
        self.grounds = set(self.items) - self.things
        self.order = [item["id"] for item in record["regions"]]

    def __call__(self, text: str) -> set[int]:
        words = [w for w in text.split() if w not in ("the", "a", "an")]
        text = " ".join(SAME_WORD.get(word, word) for word in words)
        for padding, instead in PADDING:
            text = re.sub(rf"\b{padding}\b", instead, text)
        return self.phrase(" ".join(text.split()))

    def phrase(self, text: str) -> set[int]:
        if m := re.fullmatch(r"anywhere (?:but|not on|not in) (\w+)", text):
            return self.grounds - self.noun(m[1])
        if m := re.fullmatch(r"(.*) not (?:on|in) (\w+)", text):
            return {i for i in self.noun(m[1]) if not self.stands_on(i, m[2])}
        if m := re.fullmatch(r"(.*) not (\w+)", text):
            return self.noun(m[1]) - self.noun(m[2] + " thing")
        if m := re.fullmatch(rf"(?:(.*) )?(second|third)(?: (.*))? from {SIDE}", text):
            ids = sorted(self.noun(m[1] or m[3] or "thing"), key=lambda i: self.away(i, m[4]))
            return {ids[{"second": 1, "third": 2}[m[2]]]}
        if m := re.fullmatch(r"(\w+) with (.*)", text):
            (thing,) = self.noun(m[2])
            return {
                i for i in self.noun(m[1]) if self.items[thing]["shares"][self.order.index(i)] > 0.5
            }
        if m := re.match(rf"(.+?) {RELATION} (?!{SIDE}$)", text):
            return self.related(m[1], text[len(m[1]) + 1 :])
        if m := re.fullmatch(rf"(.*) (?:at|on) {SIDE}", text):
            return {min(self.noun(m[1]), key=lambda i: self.away(i, m[2]))}
        return self.maybe_extreme(text)

    def related(self, head: str, clauses: str) -> set[int]:
        ids = self.noun(head)
        for clause in clauses.split(" and "):
            word, anchor = re.fullmatch(rf"{RELATION} (.*)", clause).groups()
            if word in ("on", "in"):
                ids = {i for i in ids if self.stands_on(i, anchor)}
            else:
                anchors = self.maybe_extreme(anchor)
                assert anchors, clause
                ids = {i for i in ids - anchors if all(self.lies(i, word, a) for a in anchors)}
        return ids

    def maybe_extreme(self, text: str) -> set[int]:
        m = re.fullmatch(rf"{SIDE}|{SIDE} (.*)", text)
        if m:
            return {min(self.noun(m[3] or "thing"), key=lambda i: self.away(i, m[1] or m[2]))}
        m = re.fullmatch(r"(biggest|smallest) ?(.*)", text)
        if m:
            chosen = max if m[1] == "biggest" else min
            return {chosen(self.noun(m[2] or "thing"), key=lambda i: self.items[i]["area"])}
        return self.noun(text)

    def noun(self, text: str) -> set[int]:
        if text in KINDS:
            return {i for i in self.grounds if self.items[i]["kind"] == text}
        ids = set(self.things)
        for word in text.split():
            word = {"STRIPES": "striped", "DOTS": "dotted"}.get(word, word)
            if word == "thing":
                continue
            (name,) = [name for name, values in VALUES.items() if word in values]
            ids &= {i for i in ids if self.items[i][name] == word}
        return ids

    def away(self, i: int, side: str) -> float:
        x, y = self.items[i]["x"], self.items[i]["y"]
        return {"left": x, "right": -x, "top": y, "bottom": -y}[side]

    def lies(self, i: int, word: str, anchor: int) -> bool:
        side = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}[word]
        return self.away(i, side) < self.away(anchor, side)

    def stands_on(self, i: int, kind: str) -> bool:
        shares = self.items[i]["shares"]
        return sum(shares[self.order.index(g)] for g in self.noun(kind)) > 0.5


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_sentence_denotes_its_region_and_no_other(out, records, masks, flavour):
    judges = {image: Interpreter(record, masks) for image, record in records.items()}
    for sentence in sentences(out, flavour):
        element = sentence["ann_id"] - sentence["image_id"] * 20
        meant = judges[sentence["image_id"]](sentence["sent"])
        assert meant == {element}, (sentence["sent"], sentence["file_name"])


# ---------------------------------------------------------------- the evaluator, by hand


def thing(x: float, y: float, shares=(1.0,), shape="star", size="small", **looks) -> Thing:
    area = {"small": 0.04, "big": 0.1}[size]
    r = 0.1 if size == "small" else 0.2
    fields = {"colour": "red", "pattern": "plain", **looks}
    return Thing(
        shape, fields["colour"], size, fields["pattern"], (x, y), 0.0, area, x, y,
        box=(x - r, y - r, x + r, y + r), shares=shares,
    )  # fmt: skip


def scene(*things: Thing, kinds=("grass",)) -> Scene:
    middles = [(0.5, (2 * i + 1) / (2 * len(kinds))) for i in range(len(kinds))]
    regions = [
        Region(kind, (), x, y, 1 / len(kinds)) for kind, (x, y) in zip(kinds, middles, strict=True)
    ]
    return Scene(tuple(things), tuple(regions), 0)


STARS = Things("star")


def test_extreme_needs_a_lead_of_its_own_side():
    assert refers(Extreme(STARS, "left"), scene(thing(0.2, 0.5), thing(0.6, 0.5))) == 0
    # 0.05 apart: neither is the left one to the eye.
    assert refers(Extreme(STARS, "left"), scene(thing(0.20, 0.2), thing(0.25, 0.8))) is None
    # A big neighbour whose edge reaches further out.
    wide = scene(thing(0.2, 0.2), thing(0.3, 0.7, size="big"))
    assert refers(Extreme(STARS, "left"), wide) is None
    # Both on the right: "left star" would be found odd.
    assert refers(Extreme(STARS, "left"), scene(thing(0.6, 0.5), thing(0.9, 0.5))) is None
    # One star alone is not the left one of anything.
    assert refers(Extreme(STARS, "left"), scene(thing(0.2, 0.5))) is None


def test_biggest_must_be_clearly_bigger():
    two = scene(thing(0.2, 0.2), thing(0.7, 0.7, size="big"))
    assert (refers(Extreme(STARS, "biggest"), two), refers(Extreme(STARS, "smallest"), two)) == (
        1,
        0,
    )
    assert refers(Extreme(STARS, "biggest"), scene(thing(0.2, 0.2), thing(0.7, 0.7))) is None
    with pytest.raises(ValueError, match="only things"):
        refers(Extreme(Regions(), "biggest"), scene(kinds=("sky", "grass")))


def test_ordinals_count_from_each_side_and_need_gaps():
    row = scene(*(thing(x, 0.5) for x in (0.15, 0.4, 0.65, 0.85)))
    found = [refers(Ordinal(STARS, n, side), row) for side in ("left", "right") for n in (2, 3)]
    assert found == [1, 2, 2, 1]
    assert refers(Ordinal(STARS, 4, "left"), row) is None  # that is the last one
    crowded = scene(*(thing(x, 0.5) for x in (0.15, 0.40, 0.45, 0.85)))
    assert refers(Ordinal(STARS, 2, "left"), crowded) is None
    # By centres the third comes after the second, by outer edges before it.
    wide = scene(thing(0.15, 0.2), thing(0.40, 0.8), thing(0.485, 0.3, size="big"), thing(0.8, 0.8))
    assert refers(Ordinal(STARS, 2, "left"), wide) is None
    with pytest.raises(ValueError, match="only things"):
        refers(Ordinal(Regions(), 2, "left"), scene(kinds=("sky", "grass")))


def test_relations_are_strict_about_what_they_claim_and_generous_about_rivals():
    ring = thing(0.6, 0.5, shape="ring")
    left = Relation(STARS, "left of", Things("ring"))
    assert refers(left, scene(thing(0.2, 0.5), thing(0.8, 0.5), ring)) == 0
    # The second star is a little left of the ring: someone may mean it.
    assert refers(left, scene(thing(0.2, 0.5), thing(0.57, 0.9), ring)) is None
    # Or level with it, as near as the eye can tell.
    assert refers(left, scene(thing(0.2, 0.5), thing(0.61, 0.9), ring)) is None
    assert refers(left, scene(thing(0.2, 0.5), thing(0.65, 0.9), ring)) == 0
    # Far more below than left.
    assert refers(left, scene(thing(0.45, 0.95), ring)) is None
    # Two rings: which one?
    assert refers(left, scene(thing(0.2, 0.5), ring, thing(0.9, 0.9, shape="ring"))) is None
    both = Relation(STARS, "left of", All(Things("ring")))
    assert refers(both, scene(thing(0.2, 0.5), ring, thing(0.9, 0.7, shape="ring"))) == 0
    assert refers(both, scene(thing(0.2, 0.5), ring)) is None  # "the rings", of one


@pytest.mark.parametrize(
    "word, there, opposite",
    [
        ("left of", (0.1, 0.5), (0.9, 0.5)),
        ("right of", (0.9, 0.5), (0.1, 0.5)),
        ("above", (0.5, 0.1), (0.5, 0.9)),
        ("below", (0.5, 0.9), (0.5, 0.1)),
    ],
)
def test_each_direction(word, there, opposite):
    around = scene(thing(*opposite), thing(0.5, 0.5, shape="ring"), thing(*there))
    assert refers(Relation(STARS, word, Things("ring")), around) == 2


@pytest.mark.parametrize(
    "share, on, off", [(0.9, {0}, set()), (0.5, set(), set()), (0.1, set(), {0})]
)
def test_half_on_the_grass_is_neither_on_nor_off(share, on, off):
    half = scene(thing(0.5, 0.5, shares=(1 - share, share)), kinds=("sky", "grass"))
    standing = Relation(STARS, "on", Regions("grass"))
    assert denotation(standing, half) == on
    assert denotation(Not(STARS, standing), half) == off


def test_region_queries():
    three = scene(
        thing(0.5, 0.2, shares=(1, 0, 0)), thing(0.3, 0.2, shares=(1, 0, 0)),
        kinds=("grass", "road", "grass"),
    )  # fmt: skip
    assert denotation(Regions("grass"), three) == {2, 4}
    assert refers(Regions("grass"), three) is None
    assert refers(Extreme(Regions("grass"), "top"), three) == 2
    assert refers(Not(Regions(), Regions("grass")), three) == 3
    assert refers(Relation(Regions("grass"), "below", Regions("road")), three) == 4
    assert refers(Relation(Regions("grass"), "below", All(STARS)), three) == 4
    assert refers(Relation(Regions("grass"), "with", STARS), three) is None  # which star
    assert refers(Relation(Regions("grass"), "with", STARS), scene(thing(0.5, 0.5))) == 1


@pytest.mark.parametrize(
    "query, text",
    [
        (Things("circle", "red", "small", "striped"), "small striped red circle"),
        (Extreme(Things("star"), "left"), "left star"),
        (Ordinal(Things("star"), 2, "left"), "second star from left"),
        (Relation(Things("star"), "below", Things("ring")), "star below the ring"),
        (Relation(Regions("sand"), "below", All(Things("cross"))), "sand below the crosses"),
        (Not(Things("square"), Things(pattern="striped")), "square not striped"),
        (Not(Regions(), Regions("grass")), "anywhere not on the grass"),
    ],
)
def test_describe(query, text):
    assert describe(query) == text


def test_not_a_query_is_said_so():
    with pytest.raises(TypeError, match="not a query"):
        denotation("left star", scene())
    with pytest.raises(TypeError, match="not a query"):
        describe("left star")


# ---------------------------------------------------------------- pictures and masks


def test_masks_match_the_picture_and_share_no_pixel(out, instances, masks, records):
    size_of = {i["id"]: i for i in instances["images"]}
    names = {c["id"]: c["name"] for c in instances["categories"]}
    total: dict[int, np.ndarray] = {}
    for a in instances["annotations"]:
        mask = masks[a["id"]]
        assert mask.shape == (SIZE, SIZE) and mask.any() and a["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y, w, h = a["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
        total[a["image_id"]] = total.get(a["image_id"], 0) + mask.astype(int)
        semantic = Image.open(out / "refshapes/semantic" / size_of[a["image_id"]]["file_name"])
        assert (np.asarray(semantic)[mask] == SEMANTIC_CLASSES.index(names[a["category_id"]])).all()
    assert set(total) == set(records)
    assert all((t == 1).all() for t in total.values())  # every pixel shows exactly one element


def test_things_cover_3_to_25_percent_and_stay_visible(records):
    for record in records.values():
        assert 3 <= len(record["things"]) <= 7
        for item in record["things"]:
            assert 0.03 <= item["area"] <= 0.25
            # The outline is drawn on pixels: allow its border's worth of rounding.
            assert item["visible_pixels"] >= 0.6 * item["area"] * SIZE**2 * 0.97


def test_a_mask_is_as_large_as_its_outline(records):
    whole = [t for r in records.values() for t in r["things"] if t["visible"] == 1]
    ratios = np.array([t["visible_pixels"] / (t["area"] * SIZE**2) for t in whole])
    assert len(ratios) > 300
    # Pillow fills the fine pixels on the outline too: an eighth of a pixel all round.
    assert 1.0 < ratios.mean() < 1.04 and 0.93 < ratios.min() and ratios.max() < 1.1


def test_a_mask_is_where_its_colour_is(out):
    """The mean colour inside each plain thing's mask is nearest to its own ink."""
    from refgen.refshapes.draw import INK

    inks = np.array(list(INK.values()), dtype=float)
    seen = 0
    for index in range(25):
        made, _ = make_example("train", index)
        picture, drawn = draw(made, 128)
        for item, mask in zip(made.things, drawn, strict=False):
            if item.pattern == "plain":
                seen += 1
                away = np.abs(inks - np.median(picture[mask], axis=0)).sum(axis=1)
                assert list(INK)[away.argmin()] == item.colour
    assert seen > 30


def test_a_scene_is_the_same_at_every_size():
    made, _ = make_example("train", 5)
    _, small = draw(made, 64)
    _, large = draw(made, 256)
    halves = large.reshape(len(large), 64, 4, 64, 4).mean(axis=(2, 4)) >= 0.5
    overlap = (small & halves).sum(axis=(1, 2)) / (small | halves).sum(axis=(1, 2))
    assert overlap.min() > 0.85


def test_most_scenes_have_near_twins(records):
    def near_twins(record):
        looks = [[t[n] for n in ("shape", "colour", "size", "pattern")] for t in record["things"]]
        return any(
            sum(a != b for a, b in zip(one, other, strict=True)) == 1
            for k, one in enumerate(looks) for other in looks[:k]
        )  # fmt: skip

    assert np.mean([near_twins(r) for r in records.values()]) > 0.7


def test_make_scene_holds_a_referable_shape():
    for seed in range(10):
        made = make_scene(np.random.default_rng(seed), ("star",))
        assert "star" in {item.shape for item in made.things}


# ---------------------------------------------------------------- flavours and splits


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_records_are_whole(out, instances, flavour):
    refs = load_refs(out, flavour)
    annotations = {a["id"]: a for a in instances["annotations"]}
    assert len({ref["ref_id"] for ref in refs}) == len(refs)
    sent_ids = [i for ref in refs for i in ref["sent_ids"]]
    assert len(set(sent_ids)) == len(sent_ids)
    for ref in refs:
        annotation = annotations[ref["ann_id"]]
        for name in ("image_id", "category_id"):
            assert ref[name] == annotation[name]
        assert ref["sent_ids"] == [s["sent_id"] for s in ref["sentences"]]
        for s in ref["sentences"]:
            assert s["tokens"] == s["sent"].split() and 1 <= len(s["tokens"]) <= 25
            assert s["family"] in FAMILIES
            assert re.fullmatch(r"[a-z0-9 ]+", s["sent"])
            typed = sorted(s["raw"].lower().rstrip("."))
            assert typed == sorted(s["sent"])  # only capitals, a full stop, swapped letters
    raws = [s["raw"] != s["sent"] for ref in refs for s in ref["sentences"]]
    assert 0.1 < np.mean(raws) < 0.4


def test_flavours_keep_their_character(out):
    words = {f: [s["tokens"] for s in sentences(out, f)] for f in FLAVOURS}
    mean = {f: np.mean([len(t) for t in tokens]) for f, tokens in words.items()}
    assert mean["unc"] < 4 and mean["gref"] >= 8
    where = set(
        "left leftmost right rightmost top upper highest bottom lower lowest above over below "
        "under far farthest closest second third 2nd 3rd from at side".split()
    )
    assert not where & {w for tokens in words["unc+"] for w in tokens}
    assert where & {w for tokens in words["unc"] for w in tokens}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_families(out, flavour):
    found = {s["family"] for s in sentences(out, flavour)}
    assert found == FAMILIES - ({"ordinal"} if flavour == "unc+" else set())


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_splits_refer_to_what_they_should(out, instances, flavour):
    names = {c["id"]: c["name"] for c in instances["categories"]}
    of_split: dict[str, set[str]] = {}
    images: dict[str, set[int]] = {}
    for ref in load_refs(out, flavour):
        of_split.setdefault(ref["split"], set()).add(names[ref["category_id"]])
        images.setdefault(ref["split"], set()).add(ref["image_id"])
    assert {split: len(ids) for split, ids in images.items()} == IMAGES  # every image, once
    assert sum(IMAGES.values()) == len(set.union(*images.values()))
    extra = KINDS if flavour == "referit" else set()
    assert of_split["testA"] <= ROUND | extra and of_split["testA"] & ROUND
    assert of_split["testB"] <= CORNERED | extra and of_split["testB"] & CORNERED
    assert of_split["train"] & KINDS and of_split["train"] >= ROUND | CORNERED


def test_no_scene_is_shared(out):
    assert len(set(read_scenes(out).values())) == sum(IMAGES.values())


# ---------------------------------------------------------------- files


def files_under(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


FEW = {"train": 4, "val": 2, "testA": 1, "testB": 1}


def test_equal_settings_give_equal_bytes(tmp_path):
    one, two = (generate(tmp_path / name, FEW, 64, seed=1) for name in ("one", "two"))
    assert files_under(one) == files_under(two)
    _, different, errors = filecmp.cmpfiles(one, two, map(str, files_under(one)), shallow=False)
    assert (different, errors) == ([], [])
    other = generate(tmp_path / "other", FEW, 64, seed=2)
    photo = "images/refshapes/refshapes_val_000000.png"
    assert (one / photo).read_bytes() != (other / photo).read_bytes()


def test_more_train_images_change_nothing_else(tmp_path):
    small = generate(tmp_path / "small", FEW, 64)
    large = generate(tmp_path / "large", FEW | {"train": 7}, 64)
    for path in files_under(small):
        if path.suffix == ".png":
            assert (small / path).read_bytes() == (large / path).read_bytes()
    for flavour in FLAVOURS:
        more = {ref["ref_id"]: ref for ref in load_refs(large, flavour)}
        assert all(more[ref["ref_id"]] == ref for ref in load_refs(small, flavour))
        held_out = [
            [r for r in load_refs(o, flavour) if r["split"] != "train"] for o in (small, large)
        ]
        assert held_out[0] == held_out[1]


def test_a_folder_is_never_overwritten(tmp_path):
    out = generate(tmp_path / "made", FEW, 64)
    photo = out / "images/refshapes/refshapes_val_000000.png"
    before = photo.stat().st_mtime_ns
    assert generate(out, FEW, 64) == out and photo.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="'size': 64.*'size': 96.*Remove"):
        generate(out, FEW, 96)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        generate(theirs, FEW, 64)
    assert files_under(theirs) == [Path("thesis.tex")]


def test_a_broken_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(tmp_path / "made", FEW, 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"images": {"train": 1}}, "splits"),
        ({"images": FEW | {"val": -1}}, "-1 images for val"),
        ({"size": 8}, "size 8"),
    ],
)
def test_impossible_settings(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "made", **settings)


def test_scenes_are_read_back(out):
    read = read_scenes(out)
    assert len(read) == sum(IMAGES.values())
    assert read[1] == make_example("train", 0, seed=3)[0]
    with pytest.raises(DataError, match="shnet data make refshapes"):
        read_scenes(out / "nothing")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_refer_reader_reads_it(out, masks, flavour):
    written = [s for s in sentences(out, flavour) if s["split"] == "val"]
    expressions = read_refer(out, f"refshapes-{flavour}", "val")
    assert [e.text for e in expressions] == [s["sent"] for s in written]
    assert [e.family for e in expressions] == [s["family"] for s in written]
    assert np.array_equal(expressions[-1].mask(), masks[written[-1]["ann_id"]])
    assert Image.open(expressions[0].image_path).size == (SIZE, SIZE)


def test_command(tmp_path):
    counts = [f"--{split}={count}" for split, count in FEW.items()]
    command = [sys.executable, "-m", "refgen.refshapes", "--out", str(tmp_path / "made")]
    done = subprocess.run([*command, *counts, "--size", "64"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "8 images" in done.stdout
    assert len(read_scenes(tmp_path / "made")) == 8
    again = subprocess.run([*command, *counts, "--size", "80"], capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.startswith("error: ") and "Remove" in again.stderr


def test_phrases_are_those_of_before_the_evaluator_was_shared():
    """Photos use the same evaluator; nothing in RefShapes may change with it."""
    digest = hashlib.sha256()
    for split in ("train", "val", "testA", "testB"):
        for index in range(25):
            _, written = make_example(split, index, seed=5)
            for flavour, elements in written.items():
                for element, made in elements.items():
                    for s in made:
                        line = f"{split} {index} {flavour} {element} {s.family} {s.text} | {s.raw}"
                        digest.update(f"{line} | {s.query}\n".encode())
    assert digest.hexdigest()[:16] == "febe41b0d8706c8e"
