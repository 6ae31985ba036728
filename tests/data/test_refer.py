"""REFER files: what is read, and what is refused with which message."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as run_lengths

from shnet_lib.data import DataError, Expression, read_expressions, splits_of
from shnet_lib.data.errors import require_files
from shnet_lib.data.refer import DATASETS, load_refs, rasterize, read_refer

ROOT = Path(__file__).resolve().parents[2]

# A data set of three photos, in memory and on disk.

SQUARE = [[2, 2, 10, 2, 10, 10, 2, 10]]
INSTANCES = {
    "images": [
        {"id": 7, "file_name": "photo_7.jpg", "height": 12, "width": 16},
        {"id": 8, "file_name": "photo_8.jpg", "height": 12, "width": 16},
        {"id": 9, "file_name": "photo_9.jpg", "height": 12, "width": 16},
    ],
    "annotations": [
        {"id": 70, "image_id": 7, "category_id": 1, "segmentation": SQUARE},
        {"id": 80, "image_id": 8, "category_id": 2, "segmentation": SQUARE},
        {"id": 90, "image_id": 9, "category_id": 2, "segmentation": SQUARE},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "cup"}],
}


def make_ref(ref_id: int, ann_id: int, image_id: int, split: str, *sentences: tuple) -> dict:
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "file_name": f"photo_{image_id}_{ref_id}.jpg",
        "split": split,
        "sent_ids": [sent_id for sent_id, _ in sentences],
        "sentences": [
            {"sent_id": sent_id, "raw": f"{text} (raw)", "sent": text, "tokens": text.split()}
            for sent_id, text in sentences
        ],
    }


REFS = [
    make_ref(0, 70, 7, "train", (0, "left person"), (1, "man")),
    make_ref(1, 80, 8, "train", (2, "cup")),
    make_ref(2, 90, 9, "val", (3, "red cup")),
]


def write(data: Path, dataset: str = "unc", refs: object = REFS, instances: object = INSTANCES):
    layout = DATASETS[dataset]
    (data / layout.folder).mkdir(parents=True, exist_ok=True)
    (data / layout.image_folder).mkdir(parents=True, exist_ok=True)
    (data / layout.folder / layout.refs_file).write_bytes(pickle.dumps(refs, protocol=2))
    (data / layout.folder / "instances.json").write_text(json.dumps(instances))
    for image in INSTANCES["images"]:
        path = data / layout.image_folder / image["file_name"]
        Image.new("RGB", (image["width"], image["height"])).save(path)
    return data


def changed(document: object, change) -> object:
    document = copy.deepcopy(document)
    change(document)
    return document


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_is_read_from_its_place(tmp_path: Path, dataset: str) -> None:
    write(tmp_path, dataset)
    expressions = read_expressions(tmp_path, dataset, "train")
    assert [e.text for e in expressions] == ["left person", "man", "cup"]
    assert [e.sent_id for e in expressions] == [0, 1, 2]
    assert [e.ref_id for e in expressions] == [0, 0, 1]
    assert [e.image_id for e in expressions] == [7, 7, 8]
    assert [e.category for e in expressions] == ["person", "person", "cup"]
    assert [e.image_path.name for e in expressions] == ["photo_7.jpg", "photo_7.jpg", "photo_8.jpg"]
    assert all(e.image_path.is_file() and e.family is None for e in expressions)
    assert all((e.height, e.width) == (12, 16) for e in expressions)
    assert expressions[0].mask().sum() == 64
    assert [e.text for e in read_expressions(str(tmp_path), dataset, "val")] == ["red cup"]


PLACES = {  # as published: refs file, splits
    "unc": ("refcoco/refs(unc).p", "train val testA testB"),
    "unc+": ("refcoco+/refs(unc).p", "train val testA testB"),
    "gref": ("refcocog/refs(google).p", "train val"),
    "gref-umd": ("refcocog/refs(umd).p", "train val test"),
    "refclef": ("refclef/refs(unc).p", "train val testA testB testC"),
    "refclef-berkeley": ("refclef/refs(berkeley).p", "train val test"),
    "refshapes-unc": ("refshapes/refs(unc).p", "train val testA testB"),
    "refshapes-unc+": ("refshapes/refs(unc+).p", "train val testA testB"),
    "refshapes-gref": ("refshapes/refs(gref).p", "train val testA testB"),
    "refshapes-referit": ("refshapes/refs(referit).p", "train val testA testB"),
    "photos": ("photos/refs(made).p", "train val test"),
}


def test_the_places_are_those_of_the_published_files() -> None:
    found = {n: (f"{la.folder}/{la.refs_file}", " ".join(la.splits)) for n, la in DATASETS.items()}
    assert found == PLACES
    folders = {layout.folder: layout.image_folder for layout in DATASETS.values()}
    assert folders == {
        "refcoco": "images/mscoco/images/train2014",
        "refcoco+": "images/mscoco/images/train2014",
        "refcocog": "images/mscoco/images/train2014",
        "refclef": "images/saiapr_tc-12",
        "refshapes": "images/refshapes",
        "photos": "images/photos",
    }


def test_family_comes_from_the_sentence(tmp_path: Path) -> None:
    refs = changed(REFS, lambda refs: refs[0]["sentences"][0].update(family="ordinals"))
    write(tmp_path, "refshapes-unc", refs)
    families = [e.family for e in read_refer(tmp_path, "refshapes-unc", "train")]
    assert families == ["ordinals", None, None]


def test_an_expression_survives_a_loader_worker(tmp_path: Path) -> None:
    expressions = read_refer(write(tmp_path), "unc", "train")
    returned: list[Expression] = pickle.loads(pickle.dumps(expressions))
    assert returned == expressions
    assert np.array_equal(returned[0].mask(), expressions[0].mask())


def test_refclef_splits_with_several_letters(tmp_path: Path) -> None:
    refs = copy.deepcopy(REFS)
    for ref, split in zip(refs, ("testAB", "testABC", "testC"), strict=True):
        ref["split"] = split
    write(tmp_path, "refclef", refs)
    ids = {s: {e.ref_id for e in read_refer(tmp_path, "refclef", s)} for s in ("testA", "testC")}
    assert ids == {"testA": {0, 1}, "testC": {1, 2}}


def test_ids_may_be_strings(tmp_path: Path) -> None:
    instances = changed(INSTANCES, lambda i: i["annotations"][0].update(id="7_1"))
    refs = changed(REFS, lambda refs: refs[0].update(ann_id="7_1"))
    write(tmp_path, "refclef", refs, instances)
    assert len(read_refer(tmp_path, "refclef", "train")) == 3


# What is refused: (change of the refs, change of the instances, what the message must hold).


def refs_change(*path_and_value):
    *path, key, value = path_and_value

    def change(refs: list) -> None:
        record = refs
        for step in path:
            record = record[step]
        record[key] = value

    return change


REFUSED_REFS = {
    "no annotation": (refs_change(1, "ann_id", 99), "ref 1: .*instances.json has no annotation 99"),
    "other image": (refs_change(1, "image_id", 7), "ref 1 is on image 7, but .* 80 is on image 8"),
    "other splits": (refs_change(2, "split", "testC"), "ref 2 is of split 'testC', not of train"),
    "plain test": (refs_change(2, "split", "test"), "ref 2 is of split 'test', not of train"),
    "ref twice": (refs_change(2, "ref_id", 0), "ref 0 is there twice"),
    "sentence twice": (
        refs_change(1, "sentences", 0, "sent_id", 1),
        "ref 1: sentence 1 is .*twice",
    ),
    "no sent": (
        lambda r: r[1]["sentences"][0].pop("sent"),
        "ref 1: a sentence has no field 'sent'",
    ),
    "no split": (lambda r: r[1].pop("split"), "ref at 1 has no field 'split'"),
    "list as id": (refs_change(0, "ann_id", [70]), "ref at 0: field 'ann_id' is of type list"),
    "no record": (lambda r: r.append(5), "ref at 3 is a int, not a record"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED_REFS.values(), ids=REFUSED_REFS)
def test_a_wrong_ref_is_named(tmp_path: Path, change, message: str) -> None:
    write(tmp_path, "unc", changed(REFS, change))
    for split in ("train", "val"):  # the file is checked as a whole
        with pytest.raises(DataError, match=message) as caught:
            read_refer(tmp_path, "unc", split)
        assert str(tmp_path / "refcoco" / "refs(unc).p") in str(caught.value)
        assert "of one release side by side" in str(caught.value)


REFUSED_INSTANCES = {
    "no images": (lambda i: i.pop("images"), "has no field 'images'"),
    "no size": (lambda i: i["images"][1].pop("width"), "image at 1 has no field 'width'"),
    "image twice": (lambda i: i["images"][1].update(id=7), "image 7 is there twice"),
    "annotation twice": (
        lambda i: i["annotations"][1].update(id=70),
        "annotation 70 is there twice",
    ),
    "unlisted image": (lambda i: i["images"].pop(0), "ref 0: .* has no image_id 7"),
    "unlisted category": (lambda i: i["categories"].pop(0), "ref 0: .* has no category_id 1"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED_INSTANCES.values(), ids=REFUSED_INSTANCES)
def test_a_wrong_instance_is_named(tmp_path: Path, change, message: str) -> None:
    write(tmp_path, "unc", REFS, changed(INSTANCES, change))
    with pytest.raises(DataError, match=message) as caught:
        read_refer(tmp_path, "unc", "train")
    assert str(tmp_path / "refcoco" / "instances.json") in str(caught.value)


def test_unknown_data_sets_and_splits_are_answered_with_the_known(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=r"no data set 'refcoco'.*unc\+.*referit"):
        read_expressions(tmp_path, "refcoco", "train")
    with pytest.raises(DataError, match=r"no data set 'refcoco'.*unc\+"):
        read_refer(tmp_path, "refcoco", "train")
    with pytest.raises(DataError, match="unc has no split 'test'.*train, val, testA, testB"):
        read_expressions(tmp_path, "unc", "test")
    with pytest.raises(DataError, match="no ref is of the split 'testA'"):
        read_expressions(tmp_path, "unc", "testA")
    assert splits_of("gref") == ("train", "val")
    assert splits_of("referit") == ("train", "val", "trainval", "test")


@pytest.mark.parametrize("name", ["refs(unc).p", "instances.json"])
def test_a_missing_file_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    path = write(tmp_path) / "refcoco" / name
    path.unlink()
    with pytest.raises(DataError, match=re.escape(f"{path}: no such file. Point DATA at")):
        read_refer(tmp_path, "unc", "train")


def test_the_remedy_for_missing_refshapes_works(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_refer(tmp_path / "new", "refshapes-unc", "val")
    program, *arguments = re.search("`(.*)`", str(caught.value))[1].split()
    assert program == "shnet"
    few = ["--train", "2", "--val", "2", "--testA", "2", "--testB", "2"]
    subprocess.run(
        [sys.executable, "-m", "shnet_lib", *arguments, *few], cwd=ROOT, check=True, timeout=600
    )
    assert read_refer(tmp_path / "new", "refshapes-unc", "val")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe{}"])
def test_a_damaged_instances_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path) / "refcoco" / "instances.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_refer(tmp_path, "unc", "train")


def test_missing_images_are_counted_once_each(tmp_path: Path) -> None:
    folder = write(tmp_path) / DATASETS["unc"].image_folder
    (folder / "photo_7.jpg").unlink()  # has two expressions
    with pytest.raises(DataError, match=r"photo_7.jpg: no such image \(1 of 2 image files"):
        read_refer(tmp_path, "unc", "train")
    assert len(read_refer(tmp_path, "unc", "val")) == 1  # its photo is there
    (folder / "photo_8.jpg").unlink()
    (folder / "photo_8.jpg").mkdir()
    with pytest.raises(DataError, match=r"photo_7.jpg: no such image \(2 of 2 image files"):
        read_refer(tmp_path, "unc", "train")
    with pytest.raises(DataError, match=r"\(1 of 1 image files are missing\)\. Do this\."):
        require_files([tmp_path / "nowhere" / "a.jpg"], "image", "Do this.")


# Pickles.


class Hostile:
    """Its pickle creates a file as soon as it is loaded by an ordinary unpickler."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    harmed, refs = tmp_path / "harmed", tmp_path / "refs(unc).p"
    refs.write_bytes(pickle.dumps([*REFS, Hostile(harmed)], protocol=protocol))
    with pytest.raises(DataError, match="which a refs file never needs") as caught:
        load_refs(refs)
    assert str(refs) in str(caught.value) and not harmed.exists()
    pickle.loads(refs.read_bytes())  # the trap is a real one
    assert harmed.exists()


@pytest.mark.parametrize("value", [range(3), {1}, len, np.float64(1), complex(1, 2)])
def test_no_global_at_all_is_allowed(tmp_path: Path, value: object) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps([value], protocol=2))
    with pytest.raises(DataError, match="never needs"):
        load_refs(path)


def test_strings_of_python_2_are_read_as_latin1(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(b"\x80\x02]U\x04caf\xe9a.")  # pickle.dumps(["caf\xe9"], 2) in Python 2
    assert load_refs(path) == ["café"]
    path.write_bytes(b"(lp0\nS'caf\\xe9'\np1\naS'cup'\np2\na.")  # in its protocol 0
    assert load_refs(path) == ["café", "cup"]
    path.write_bytes(b"\x80\x02]U\x03cupa.")
    assert load_refs(path) == ["cup"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_pickle_is_a_data_error_or_a_list(tmp_path_factory, data) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.p"
    content = bytearray(pickle.dumps(REFS[:1], protocol=2))
    place = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(data.draw(st.sampled_from([bytes(content[:place]), content[place:], b""])))
    try:
        assert isinstance(load_refs(path), list)
    except DataError as error:
        assert str(path) in str(error)


def test_a_pickled_dict_is_not_a_refs_file(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps({"refs": REFS}))
    with pytest.raises(DataError, match="holds a dict, not a list"):
        load_refs(path)


# Masks.

HEIGHT, WIDTH = 24, 31


def distance(x: float, y: float, start: tuple, end: tuple) -> float:
    """From a point to the segment between two points."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = along_x**2 + along_y**2
    part = ((x - start[0]) * along_x + (y - start[1]) * along_y) / length if length else 0.0
    part = min(1.0, max(0.0, part))
    return math.hypot(x - start[0] - part * along_x, y - start[1] - part * along_y)


def literal_polygon(polygon: list[float], height: int, width: int) -> np.ndarray:
    """1 where a pixel's centre is inside, 0 outside, -1 where the outline is nearer than 1.5 px.

    A ray to the right crosses the outline of a polygon an odd number of times from inside.
    """
    points = list(zip(polygon[0::2], polygon[1::2], strict=True))
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    answer = np.zeros((height, width), dtype=int)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            if min(distance(x, y, *edge) for edge in edges) < 1.5:
                answer[row, column] = -1
                continue
            for (x1, y1), (x2, y2) in edges:
                if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                    answer[row, column] = 1 - answer[row, column]
    return answer


@st.composite
def stars(draw) -> list[float]:
    """A polygon around a centre, corners in the order of their angle: no edge crosses another."""
    x, y = draw(st.floats(4, WIDTH - 4)), draw(st.floats(4, HEIGHT - 4))
    angles = sorted(draw(st.lists(st.floats(0, 2 * math.pi), min_size=3, max_size=9, unique=True)))
    radii = [draw(st.floats(2, 14)) for _ in angles]
    corners = [
        (x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)
    ]
    return [
        float(np.clip(value, 0, limit))
        for corner in corners
        for value, limit in zip(corner, (WIDTH, HEIGHT), strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(stars(), min_size=1, max_size=3))
def test_polygons_are_the_union_of_points_inside(polygons: list) -> None:
    mask = rasterize(polygons, HEIGHT, WIDTH)
    assert mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool
    literal = np.stack([literal_polygon(polygon, HEIGHT, WIDTH) for polygon in polygons])
    assert mask[(literal == 1).any(axis=0)].all()
    assert not mask[(literal == 0).all(axis=0)].any()
    alone = [rasterize([polygon], HEIGHT, WIDTH) for polygon in polygons]
    assert np.array_equal(mask, np.logical_or.reduce(alone))


def test_polygons_that_overlap_leave_no_hole() -> None:
    left, right = [2, 2, 16, 2, 16, 20, 2, 20], [10, 2, 28, 2, 28, 20, 10, 20]
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[2:20, 2:28] = True
    assert np.array_equal(rasterize([left, right], HEIGHT, WIDTH), expected)
    assert np.array_equal(rasterize([left, right, left], HEIGHT, WIDTH), expected)


def literal_counts(mask: np.ndarray) -> list[int]:
    """Lengths of the runs down the columns, the first of background (perhaps 0)."""
    counts, value = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if bool(mask[row, column]) != value:
                counts.append(0)
                value = not value
            counts[-1] += 1
    return counts


masks = st.builds(
    lambda seed, height, width, share: np.random.default_rng(seed).random((height, width)) < share,
    st.integers(0, 1000),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.02, 0.3, 0.98, 1.0]),
)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_run_lengths_of_all_three_encodings_agree(mask: np.ndarray) -> None:
    height, width = mask.shape
    compressed = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    crowd = {"size": [height, width], "counts": literal_counts(mask)}
    as_text = {"size": [height, width], "counts": compressed["counts"].decode()}
    for segmentation in (crowd, compressed, as_text, [crowd], [compressed], [as_text]):
        drawn = rasterize(segmentation, height, width)
        assert drawn.shape == mask.shape and drawn.dtype == bool
        assert np.array_equal(drawn, mask)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_several_run_lengths_are_a_union(seed: int) -> None:
    parts = np.random.default_rng(seed).random((3, 9, 8)) < 0.3
    segmentation = [{"size": [9, 8], "counts": literal_counts(part)} for part in parts]
    assert np.array_equal(rasterize(segmentation, 9, 8), parts[0] | parts[1] | parts[2])


def test_large_run_lengths_survive_compression() -> None:
    mask = np.zeros((480, 640), dtype=bool)
    mask[100:300, 5:6] = mask[3, 400] = mask[:, 500:] = True
    compressed = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(rasterize(compressed, 480, 640), mask)


GOOD = run_lengths.encode(np.asfortranarray(np.eye(20, 30, dtype=np.uint8)))["counts"]
DAMAGED = {
    "nothing": ([], "no polygon"),
    "two points": ([[1, 1, 5, 5]], "three points or more"),
    "odd": ([[1, 1, 5, 5, 1, 5, 3]], "three points or more"),
    "flat": ([1, 1, 5, 5, 1, 5], "three points or more"),
    "other size": ({"size": [30, 20], "counts": [600]}, r"size \[30, 20\] for an image of 20 x 30"),
    "too short": ({"size": [20, 30], "counts": [5, 5]}, "of 10 pixels for 20 x 30"),
    "negative": ({"size": [20, 30], "counts": [601, -1]}, "not a number of pixels"),
    "no counts": ({"size": [20, 30]}, "no field 'counts'"),
    "empty text": ({"size": [20, 30], "counts": ""}, "of 0 pixels"),
    "cut text": ({"size": [20, 30], "counts": GOOD[:-4]}, "pixels for 20 x 30"),
    "cut number": ({"size": [20, 30], "counts": GOOD + b"Q"}, "end within a number"),
    "not a digit": ({"size": [20, 30], "counts": GOOD + b"~"}, "'~' is not part"),
}


@pytest.mark.parametrize(("segmentation", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_mask_is_refused(segmentation, message: str) -> None:
    with pytest.raises(DataError, match=f"the record.*{message}"):
        rasterize(segmentation, 20, 30, "the record")


def test_the_message_of_a_damaged_mask_names_the_annotation(tmp_path: Path) -> None:
    instances = changed(INSTANCES, lambda i: i["annotations"][1].update(segmentation=[[1, 2]]))
    write(tmp_path, "unc", REFS, instances)
    with pytest.raises(DataError, match="instances.json: annotation 80: a polygon is"):
        read_refer(tmp_path, "unc", "train")
    assert len(read_refer(tmp_path, "unc", "val")) == 1  # does not need that annotation


# Real files.

COUNTS = {  # from the README of the sample: images, refs, sentences
    ("unc", "train"): (56, 173, 494),
    ("unc", "val"): (8, 31, 91),
    ("unc", "testA"): (8, 31, 87),
    ("unc", "testB"): (8, 30, 87),
    ("unc+", "train"): (56, 131, 131),
    ("unc+", "val"): (8, 27, 27),
    ("unc+", "testA"): (8, 28, 28),
    ("unc+", "testB"): (8, 26, 26),
    ("gref", "train"): (61, 77, 77),
    ("gref", "val"): (15, 23, 23),
}


@pytest.mark.parametrize(("dataset", "split"), COUNTS)
def test_real_splits_have_their_counts(refer_real: Path, dataset: str, split: str) -> None:
    expressions = read_expressions(refer_real, dataset, split)
    images = {e.image_id for e in expressions}
    assert (len(images), len({e.ref_id for e in expressions}), len(expressions)) == COUNTS[
        dataset, split
    ]
    assert len({e.sent_id for e in expressions}) == len(expressions)
    if split in ("testA", "testB"):
        assert {e.category == "person" for e in expressions} == {split == "testA"}
    for path in {e.image_path for e in expressions}:
        size = {(e.width, e.height) for e in expressions if e.image_path == path}
        with Image.open(path) as photo:
            assert size == {photo.size}


def test_every_mask_of_photos_agrees_with_its_annotation(photo_data: Path) -> None:
    """A crowd pixel by pixel; polygons by their area and box, within the outline's length."""
    document = json.loads((photo_data / "refcoco" / "instances.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    crowds = 0
    for annotation in document["annotations"]:
        segmentation = annotation["segmentation"]
        mask = rasterize(segmentation, *sizes[annotation["image_id"]])
        if annotation["iscrowd"]:
            crowds += 1
            pixels = []
            for position, count in enumerate(segmentation["counts"]):
                pixels += [position % 2 == 1] * count
            assert [bool(pixel) for column in mask.T for pixel in column] == pixels
            continue
        x, y, width, height = annotation["bbox"]
        assert abs(mask.sum() - annotation["area"]) <= 2 * (width + height) * len(segmentation)
        rows, columns = np.nonzero(mask)
        assert columns.min() >= x - 1.5 and columns.max() <= x + width + 1.5
        assert rows.min() >= y - 1.5 and rows.max() <= y + height + 1.5
    assert crowds


def test_a_mask_of_photos_agrees_with_points_inside(photo_data: Path) -> None:
    """A few polygons, literally, on the window around them."""
    document = json.loads((photo_data / "refcoco" / "instances.json").read_text())
    small = [
        annotation
        for annotation in document["annotations"]
        if isinstance(annotation["segmentation"], list) and 300 < annotation["area"] < 900
    ]
    assert len(small) >= 3
    for annotation in random.Random(0).sample(small, min(len(small), 5)):
        polygons = [
            [value - (annotation["bbox"][i % 2] // 1 - 3) for i, value in enumerate(polygon)]
            for polygon in annotation["segmentation"]
        ]
        width, height = (int(side) + 8 for side in annotation["bbox"][2:])
        literal = np.stack([literal_polygon(p, height, width) for p in polygons])
        mask = rasterize(polygons, height, width)
        assert mask[(literal == 1).any(axis=0)].all()
        assert not mask[(literal == 0).all(axis=0)].any()
