"""Phrases for photos: what is written is true of what is annotated.

The photos are drawn here and their annotations made by hand. The judge `Interpreter` takes a
phrase's text apart and looks its words up in its own tables; it shares no code with the package.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from refgen.photos import colours, variants, words
from refgen.photos.phrases import MIN_AREA, ask, why_not, write_phrases
from refgen.photos.scene import Middle, Objects, Placed, Scene, Thing
from refgen.photos.write import (
    CARD,
    PHRASES,
    Settings,
    Source,
    _read_people,
    generate,
    measure,
)
from refgen.queries import Extreme, Not, Ordinal, Relation, refers
from shnet_course.paths import COURSE
from shnet_lib.data import read_expressions
from shnet_lib.data.errors import DataError

WIDTH, HEIGHT = 160, 120
RED, BLUE, WHITE, GRASS = (200, 20, 30), (40, 90, 190), (240, 240, 240), (90, 150, 60)
CUPS, DOGS = Objects(frozenset({"cup"})), Objects(frozenset({"dog"}))
PERSONS = Objects(frozenset({"person"}))
CATEGORIES = {"person": 1, "dog": 18, "cup": 47, "laptop": 73, "gadget": 900}


def box(left, top, width=30, height=30):
    return (left, top, left + width, top + height)


def thing(kind: str, where, colour=GRASS, **told) -> tuple[Thing, tuple]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    left, top, right, bottom = where
    mask[top:bottom, left:right] = True
    return Thing(kind, mask, **told), colour


def paint(*things) -> np.ndarray:
    picture = Image.new("RGB", (WIDTH, HEIGHT), GRASS)
    pen = ImageDraw.Draw(picture)
    for item, colour in things:
        rows, columns = np.nonzero(item.mask)
        corners = columns.min(), rows.min(), columns.max(), rows.max()
        pen.rectangle([int(corner) for corner in corners], fill=colour)
    return np.array(picture)


def scene(*things, covered=None) -> Scene:
    items = [item for item, _ in things]
    measure(paint(*things), items)
    return Scene(items, covered)


# ---------------------------------------------------------------- colours


@pytest.mark.parametrize(
    "rgb, name",
    [
        ((200, 20, 30), "red"), ((255, 130, 20), "orange"), ((250, 220, 30), "yellow"),
        ((20, 120, 40), "green"), ((40, 90, 190), "blue"), ((80, 110, 150), "blue"),
        ((110, 40, 140), "purple"), ((240, 150, 180), "pink"), ((90, 60, 35), "brown"),
        ((15, 15, 18), "black"), ((240, 240, 240), "white"), ((128, 128, 130), "gray"),
    ],
)  # fmt: skip
def test_a_plain_colour_has_its_name_and_no_other(rgb, name):
    codes = colours.code(np.full((20, 20, 3), rgb, dtype=np.uint8)).ravel()
    assert colours.colours(codes, codes)[0] == {name}


def test_between_two_colours_nothing_is_sure():
    for rgb in ((225, 75, 25), (200, 150, 125), (60, 62, 66)):  # red or orange; skin; black or gray
        codes = colours.code(np.full((20, 20, 3), rgb, dtype=np.uint8)).ravel()
        assert colours.colours(codes, codes)[0] == frozenset(), rgb


def test_lab_of_colours_that_are_published():
    red, green, white = colours.lab(np.array([(255.0, 0, 0), (0, 255, 0), (255, 255, 255)]))
    assert red == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert green == pytest.approx([87.73, -86.18, 83.18], abs=0.05)
    assert white == pytest.approx([100, 0, 0], abs=0.05)


def test_no_colour_is_named_in_a_gray_photo():
    gray = np.full((HEIGHT, WIDTH, 3), 120, dtype=np.uint8)
    item = thing("car", box(10, 10))[0]
    measure(gray, [item])
    assert item.colours == (frozenset(), frozenset(colours.COLOUR_NAMES))


# ---------------------------------------------------------------- what a query denotes


def test_what_is_crowded_or_not_annotated_is_never_sure():
    two = [thing("dog", box(10, 40)), thing("cup", box(110, 40))]
    assert refers(DOGS, scene(*two)) == 0
    assert refers(DOGS, scene(*two, thing("dog", box(60, 90, 60, 20), crowd=True))) is None
    assert refers(DOGS, scene(*two, covered=frozenset({"cup"}))) is None
    assert refers(DOGS, scene(*two, covered=frozenset({"cup", "dog"}))) == 0
    tiny = thing("dog", (80, 80, 84, 84))
    assert refers(DOGS, scene(tiny, two[1])) is None
    assert refers(DOGS, scene(*two, tiny)) is None
    assert refers(Placed(DOGS, ("left",)), scene(*two, tiny)) is None
    far = thing("dog", (150, 80, 154, 84))
    assert refers(Placed(DOGS, ("left",)), scene(*two, far)) == 0


def test_a_word_that_others_would_use_for_another_kind_is_not_sure():
    cup = next(noun for noun in words.NOUNS if noun.word == "cup")
    query = Objects(cup.kinds, cup.maybe)
    assert refers(query, scene(thing("cup", box(10, 40)), thing("dog", box(110, 40)))) == 0
    assert (
        refers(query, scene(thing("cup", box(10, 40)), thing("wine glass", box(110, 40)))) is None
    )


def test_sides_places_ordinals_and_the_middle():
    row = scene(*(thing("dog", box(x, 40, 24)) for x in (4, 60, 130)))
    assert refers(Extreme(DOGS, "left"), row) == 0
    assert refers(Ordinal(DOGS, 2, "right"), row) == 1
    assert refers(Middle(DOGS), row) == refers(Placed(DOGS, ("middle",)), row) == 1
    assert refers(Placed(DOGS, ("right",)), row) == 2
    assert refers(Middle(DOGS), scene(*(thing("dog", box(x, 40, 24)) for x in (4, 60)))) is None
    corner = scene(thing("dog", box(2, 2)), thing("dog", box(2, 88)))
    assert refers(Placed(DOGS, ("top", "left")), corner) == 0
    assert refers(Placed(DOGS, ("left",)), corner) is None


def test_only_a_short_row_of_things_that_can_be_seen_is_counted():
    def counted(*things) -> set[str]:
        asked = ask(scene(*things), 0, "dog", DOGS)
        return {text for family, _, forms in asked if family == "ordinal" for text in forms}

    row = [thing("dog", box(x, 40, 20)) for x in range(4, 150, 26)]
    assert {"first dog from left", "2nd dog from the right"} < counted(*row)
    assert counted(*row, thing("dog", (4, 96, 24, 116))) == set()  # the seventh
    small = thing("dog", (150, 100, 158, 106))
    assert MIN_AREA > 8 * 6 / (WIDTH * HEIGHT) > 0.0012
    assert counted(*row[:3], small) == set()


def test_a_colour_leaves_out_only_what_surely_has_another():
    red = replace(CUPS, colour="red")
    assert refers(red, scene(thing("cup", box(10, 40), RED), thing("cup", box(110, 40), BLUE))) == 0
    pinkish = thing("cup", box(110, 40), (235, 110, 130))
    assert refers(red, scene(thing("cup", box(10, 40), RED), pinkish)) is None
    not_red = Not(CUPS, red)
    assert refers(not_red, scene(thing("cup", box(10, 40), RED), thing("cup", box(110, 40), BLUE)))
    assert refers(not_red, scene(thing("cup", box(10, 40), RED), pinkish)) is None


def test_relations_leave_out_rivals_that_are_near_too():
    laptop = Objects(frozenset({"laptop"}))
    query = Relation(CUPS, "next to", laptop)
    near, far = thing("cup", box(10, 40, 20)), thing("cup", box(136, 40, 20))
    assert refers(query, scene(near, thing("laptop", box(36, 40)), far)) == 0
    rival = thing("cup", box(72, 40, 20))
    assert refers(query, scene(near, thing("laptop", box(36, 40)), rival)) is None
    bench = thing("bench", box(20, 70, 60, 30))
    sitting, standing = thing("person", box(30, 30, 20, 55)), thing("person", box(120, 30, 20, 60))
    on = Relation(PERSONS, "on", Objects(frozenset({"bench"})))
    assert refers(on, scene(bench, sitting, standing)) == 1
    assert refers(Not(PERSONS, on), scene(bench, sitting, standing)) == 2


def test_labels_of_people_say_what_annotations_do_not():
    people = [thing("person", box(x, 20, 24, 80), label=label)
              for x, label in ((10, "man"), (60, "woman"), (120, None))]  # fmt: skip
    man = replace(PERSONS, labels=frozenset({"man"}), maybe_labels=frozenset({"boy"}))
    assert refers(man, scene(*people)) is None  # the third may be a man
    assert refers(man, scene(*people[:2])) == 0


def test_why_an_object_gets_no_phrase():
    in_two = thing("bus", (30, 80, 44, 110))
    in_two[0].mask[90:94] = False
    one = scene(
        thing("dog", box(10, 10)), thing("book", box(60, 10)), thing("cup", (5, 90, 12, 97)),
        thing("laptop", box(100, 10), kept=0.4), thing("cat", (156, 10, 160, 90)),
        thing("sheep", box(60, 80), crowd=True), thing("sheep", box(100, 80)), in_two,
    )  # fmt: skip
    reasons = [why_not(one, i) for i in one.thing_ids]
    assert reasons[:2] == [None, "a kind that is never annotated completely"]
    assert reasons[2:5] == ["too small", "cut off or covered", "cut off or covered"]
    assert reasons[5:] == ["a crowd region", "a crowd of its kind", "cut off or covered"]


# ---------------------------------------------------------------- variants


def test_what_is_pasted_covers_exactly_what_is_behind_it():
    rng = np.random.default_rng(0)
    behind = thing("laptop", (0, 0, WIDTH, HEIGHT))
    piece = thing("cup", box(60, 40), RED)
    source = paint(piece)
    made, things = variants.paste(rng, paint(behind), [behind[0]], source, piece[0])
    assert not (things[0].mask & things[1].mask).any()
    assert (things[0].mask | things[1].mask).all()
    assert things[0].kept == pytest.approx(things[0].mask.mean())
    seen = np.abs(made.astype(int) - RED).sum(axis=-1) < 30
    assert (seen == things[1].mask).mean() > 0.995  # but for the soft edge


def test_a_mirror_image_turns_left_into_right():
    pair = [thing("dog", box(4, 40)), thing("dog", box(120, 40))]
    pixels, things = variants.flip(paint(*pair), [item for item, _ in pair])
    measure(pixels, things)
    assert refers(Extreme(DOGS, "left"), Scene(things)) == 1


def test_a_crop_says_how_much_of_each_thing_is_left():
    whole = thing("dog", (0, 0, WIDTH, HEIGHT))[0]
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for seed in range(5):
        part, (left,) = variants.crop(np.random.default_rng(seed), pixels, [whole])
        assert left.mask.shape == part.shape[:2] and left.mask.all()
        assert left.kept == pytest.approx(part.size / pixels.size)


# ---------------------------------------------------------------- a data set


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve drawn photos of dogs, cups, a person, a laptop and a kind that COCO does not know."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, 13):
        columns = rng.permutation([8, 46, 84, 122])
        kinds = (
            ("cup", "cup", "laptop", "gadget") if number % 2 else ("dog", "dog", "dog", "person")
        )
        things = [
            thing(kind, box(x, int(rng.integers(10, 80)), 26, 26), colour)
            for kind, x, colour in zip(
                kinds, columns.tolist(), (RED, BLUE, WHITE, GRASS), strict=True
            )
        ]
        Image.fromarray(paint(*things)).save(folder / f"{number}.jpg", quality=95)
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}
        )
        for item, _ in things:
            rows, columns = np.nonzero(item.mask)
            x, y, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            corners = [int(v) for v in (x, y, right, y, right, bottom, x, bottom)]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0, "area": 676,
                 "bbox": [int(x), int(y), 26, 26], "segmentation": [corners],
                 "category_id": CATEGORIES[item.kind]}
            )  # fmt: skip
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in CATEGORIES.items()],
    }
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


def make(photos: Path, out: Path, workers: int = 1, **told) -> dict:
    settings = Settings(str(photos / "instances.json"), str(photos), **{"variants": 4, **told})
    return generate(settings, out, workers)


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data")
    make(photos, out)
    return out


def read(data: Path) -> tuple[dict, list[dict]]:
    return (
        json.loads((data / "photos/instances.json").read_text()),
        pickle.loads((data / "photos/refs(made).p").read_bytes()),
    )


def test_the_library_reads_it_and_no_photo_is_in_two_splits(data):
    instances, refs = read(data)
    photo = {image["id"]: image["photo"] for image in instances["images"]}
    variant = {image["id"]: image["variant"] for image in instances["images"]}
    seen: dict[int, set[str]] = {}
    for ref in refs:
        seen.setdefault(photo[ref["image_id"]], set()).add(ref["split"])
        assert ref["split"] == "train" or variant[ref["image_id"]] == 0
    assert all(len(splits) == 1 for splits in seen.values())
    assert max(variant.values()) == 3
    for split in ("train", "val", "test"):
        expressions = read_expressions(data, "photos", split)
        assert expressions and all(e.mask().sum() > 50 and e.family for e in expressions)
        for expression in expressions:
            size = Image.open(expression.image_path).size
            assert size == (expression.width, expression.height)


@pytest.mark.parametrize("others", [1, 4])
def test_photos_that_the_shipped_network_saw_are_never_measured_on(photos, tmp_path, others):
    """By their COCO numbers; with too few others, val and test are filled up with them."""
    shown = json.loads(CARD.read_text())["trained_on"]
    document = json.loads((photos / "instances.json").read_text())
    for image, number in zip(document["images"][others:], shown, strict=False):
        image["file_name"] = f"COCO_val2014_{number:012}.jpg"
    (tmp_path / "instances.json").write_text(json.dumps(document))
    unseen = {image["id"] for image in document["images"][:others]}
    for seed in range(5):
        split = Source(Settings(str(tmp_path / "instances.json"), "", seed=seed)).split
        measured = {photo for photo, name in split.items() if name != "train"}
        assert len(measured) == 2
        assert measured <= unseen if others > 1 else unseen < measured


class Interpreter:
    """The annotations that a phrase can mean, from its text, the masks and the pixels."""

    NAMES = {"dog": "dog", "animal": "dog", "cup": "cup", "laptop": "laptop", "computer": "laptop",
             "gadget": "gadget", "person": "person"}  # fmt: skip
    SIDES = {"left": (0, 1), "leftmost": (0, 1), "right": (0, -1), "rightmost": (0, -1),
             "top": (1, 1), "upper": (1, 1), "highest": (1, 1), "bottom": (1, -1),
             "lower": (1, -1), "lowest": (1, -1)}  # fmt: skip

    def __init__(self, found: list[dict], kinds: dict[int, str]) -> None:
        self.places, self.kinds, self.areas = {}, {}, {}
        for a in found:
            mask = coco_mask.decode(a["segmentation"])
            rows, columns = np.nonzero(mask)
            self.places[a["id"]] = (columns.mean() / mask.shape[1], rows.mean() / mask.shape[0])
            self.kinds[a["id"]] = kinds[a["category_id"]]
            self.areas[a["id"]] = int(mask.sum())

    def __call__(self, text: str, family: str) -> set[int]:
        said = [word for word in text.split() if word != "the"]
        noun = next(word for word in said if word in self.NAMES)
        ids = {i for i, kind in self.kinds.items() if kind == self.NAMES[noun]}
        if family in ("place", "ordinal"):
            sides = [word for word in said if word in self.SIDES]
            if "middle" in said or "center" in said:
                return {min(ids, key=lambda i: abs(self.places[i][0] - 0.5))}
            if family == "ordinal":
                n = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3}[said[0]]
                axis, sign = self.SIDES[sides[-1]]
                return {sorted(ids, key=lambda i: sign * self.places[i][axis])[n - 1]}
            score = {
                i: sum(self.SIDES[s][1] * self.places[i][self.SIDES[s][0]] for s in sides)
                for i in ids
            }
            return {min(score, key=score.__getitem__)}
        if family == "size":
            sign = -1 if said[0] in ("big", "biggest", "largest") else 1
            return {min(ids, key=lambda i: sign * self.areas[i])}
        return ids  # colours and relations only narrow it


def test_every_phrase_is_true_to_a_reader_who_knows_only_masks_and_words(data):
    instances, refs = read(data)
    kinds = {record["id"]: record["name"] for record in instances["categories"]}
    by_image: dict[int, list[dict]] = {}
    for annotation in instances["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    checked = {"place": 0, "ordinal": 0, "size": 0, "kind": 0}
    for ref in refs:
        interpret = Interpreter(by_image[ref["image_id"]], kinds)
        for sentence in ref["sentences"]:
            text, family = sentence["sent"], sentence["family"]
            if family in checked and not {"red", "blue", "white", "green"} & set(text.split()):
                checked[family] += 1
                assert interpret(text, family) == {ref["ann_id"]}, (text, ref["image_id"])
    assert all(checked.values()), checked


def test_masks_of_a_picture_do_not_overlap_and_fit_its_size(data):
    instances, _ = read(data)
    sizes = {image["id"]: (image["height"], image["width"]) for image in instances["images"]}
    total = {number: np.zeros(size, dtype=int) for number, size in sizes.items()}
    for annotation in instances["annotations"]:
        total[annotation["image_id"]] += coco_mask.decode(annotation["segmentation"])
    assert all(count.max() <= 1 for count in total.values())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_number_of_processes_changes_nothing_and_the_seed_does(photos, data, tmp_path):
    make(photos, tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(data)
    make(photos, tmp_path / "other", seed=1)
    assert contents(tmp_path / "other").keys() != contents(data).keys()


def test_the_report_counts_what_was_written_and_what_was_left_out(data):
    report = json.loads((data / "photos/report.json").read_text())
    _, refs = read(data)
    for split, told in report.items():
        own = [ref for ref in refs if ref["split"] == split]
        families = [s["family"] for ref in own for s in ref["sentences"]]
        assert told["phrases"] == len(families) == sum(told["phrases_per_family"].values())
        assert told["objects"].get("referred to", 0) == len(own)
        assert all(len(ref["sentences"]) <= PHRASES for ref in own)
    assert {"kind", "place", "colour", "relation"} <= set(report["train"]["phrases_per_family"])


def test_the_command_says_what_is_there_and_refuses_what_is_not(photos, tmp_path):
    command = [sys.executable, "-m", "refgen.photos", "--photos", str(photos), "--variants", "1"]
    command += ["--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--instances", str(photos / "instances.json")], capture_output=True, text=True
    )
    assert done.returncode == 0 and "train: 10 photos" in done.stdout, done.stderr
    (tmp_path / "photos" / "photos.json").unlink()
    done = subprocess.run(
        [*command, "--instances", str(photos / "instances.json")], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr


@pytest.mark.fault
def test_a_photo_of_another_size_is_named(photos, tmp_path):
    document = json.loads((photos / "instances.json").read_text())
    document["images"][3]["width"] += 1
    (tmp_path / "instances.json").write_text(json.dumps(document))
    settings = Settings(str(tmp_path / "instances.json"), str(photos), variants=1)
    with pytest.raises(DataError, match="4.jpg: 160 x 120 pixels"):
        generate(settings, tmp_path / "out")
    assert not (tmp_path / "out" / "photos").exists()


@pytest.mark.fault
def test_phrases_made_with_other_settings_are_not_overwritten(photos, data):
    before = contents(data)
    with pytest.raises(DataError, match="made with other settings"):
        make(photos, data, variants=2)
    assert contents(data) == before
    assert make(photos, data) == json.loads(before["photos/report.json"])  # it is there already


@pytest.mark.fault
def test_an_annotation_of_a_photo_that_is_not_there(photos, tmp_path):
    document = json.loads((photos / "instances.json").read_text())
    document["annotations"][5]["image_id"] = 77
    (tmp_path / "instances.json").write_text(json.dumps(document))
    settings = Settings(str(tmp_path / "instances.json"), str(photos), variants=1)
    with pytest.raises(DataError, match="annotation 6 is on image 77"):
        generate(settings, tmp_path / "out")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ('{"guy": [1]}', "with the labels man, woman, boy, girl"),
        ('{"man": 1}', "should hold annotation ids by label"),
        ("[1, 2]", "should hold annotation ids by label"),
        ('{"man": [3, 1], "boy": [1]}', "annotation 1 is there twice"),
    ],
)
def test_labels_of_people_are_checked(photos, tmp_path, told, message):
    (tmp_path / "people.json").write_text(told)
    with pytest.raises(DataError, match=f"people.json: .*{message}"):
        make(photos, tmp_path / "out", people=str(tmp_path / "people.json"))


def test_the_shipped_labels_of_people_are_read():
    labels = _read_people(str(COURSE / "data" / "coco_people.json"))
    assert Counter(labels.values()) == {"man": 339, "woman": 122, "boy": 25, "girl": 23}


def test_phrases_are_drawn_from_every_family_that_an_object_has():
    pair = [thing("cup", box(8, 40), RED), thing("cup", box(60, 40), BLUE)]
    pair += [thing("laptop", box(100, 40))]
    tally: Counter = Counter()
    written = write_phrases(np.random.default_rng(0), scene(*pair), 30, tally)
    families = {phrase.family for i in (0, 1) for phrase in written[i]}
    assert {"place", "colour", "relation", "negation"} <= families
    assert tally["object", "referred to"] == 3
