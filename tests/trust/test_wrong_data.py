"""What people meet in real folders: each is an error that names the place and the remedy, or is
read with a warning that counts it. Nothing is dropped without a word."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from safetensors.torch import save_file
from scipy.io import savemat
from small import (
    HEIGHT,
    PHOTOS,
    WIDTH,
    changed,
    image_name,
    make_instances,
    make_refs,
    photo,
    write_small,
)

from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.dataset import ImageBatchSampler, ReferringDataset, collate
from shnet_lib.data.images import warn_of_turned
from shnet_lib.data.refer import PUBLISHED_REFS
from shnet_lib.data.text import Vocabulary, tokenize
from shnet_lib.model.backbone import ShapesBackbone, build_backbone
from shnet_lib.model.weights import WeightsError, load_state
from shnet_lib.prediction import read_photo

pytestmark = pytest.mark.fault


def read(data: Path, split: str = "train"):
    return read_expressions(data, "unc", split)


def dataset_of(data: Path, split: str = "train") -> ReferringDataset:
    expressions = read(data, split)
    vocabulary = Vocabulary.from_texts(expression.text for expression in expressions)
    return ReferringDataset(expressions, vocabulary, 32)


def whole_epoch(dataset: ReferringDataset) -> int:
    """Make every batch; how many expressions were in them."""
    sampler = ImageBatchSampler(dataset, 2, 2, training=False)
    batches = [collate([dataset[indices] for indices in batch]) for batch in sampler]
    return sum(len(batch["expression_index"]) for batch in batches)


def refused(data: Path, message: str, split: str = "train") -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(data, split)
    assert str(data) in str(caught.value), "the message says which file"


# Photos.


def test_a_photo_that_is_missing(tmp_path):
    data = write_small(tmp_path)
    (data / PHOTOS / image_name(2)).unlink()
    refused(data, r"000002.jpg: no such image \(1 of 3 image files are missing\). Point DATA at")


@pytest.mark.parametrize("share", [0.99, 0.5, 0.1])
def test_a_photo_that_is_cut_short(tmp_path, share):
    data = write_small(tmp_path)
    whole = photo(2)
    (data / PHOTOS / image_name(2)).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=f"{image_name(2)}: not a readable image.*Fetch the file"):
        whole_epoch(dataset_of(data))


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
def test_a_photo_that_is_no_image(tmp_path, content):
    data = write_small(tmp_path)
    (data / PHOTOS / image_name(2)).write_bytes(content)
    with pytest.raises(DataError, match=f"{image_name(2)}: not a readable image"):
        whole_epoch(dataset_of(data))


def test_a_gif_that_is_called_jpg(tmp_path):
    """ReferIt has one; it would be decoded to several pictures or none."""
    data = write_small(tmp_path)
    Image.new("P", (WIDTH, HEIGHT)).save(data / PHOTOS / image_name(2), "GIF")
    with pytest.raises(DataError, match=f"{image_name(2)}: not a readable image, JPEG or PNG"):
        whole_epoch(dataset_of(data))


def test_a_photo_of_another_size_than_its_annotations(tmp_path):
    data = write_small(tmp_path)
    Image.new("RGB", (HEIGHT, WIDTH)).save(data / PHOTOS / image_name(2))  # turned
    said = f"{image_name(2)}: 48 x 64 pixels .width x height., where the annotations say 64 x 48"
    with pytest.raises(DataError, match=said + ".*must not be scaled or turned"):
        whole_epoch(dataset_of(data))


def test_a_photo_of_sixteen_bits(tmp_path):
    data = write_small(tmp_path)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(data / PHOTOS / image_name(2), "PNG")
    with pytest.raises(DataError, match=f"{image_name(2)}: more than 8 bits per colour"):
        whole_epoch(dataset_of(data))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_photo_that_says_it_is_turned(tmp_path, orientation):
    """The mask lies on the pixels as stored, so these are what is trained and predicted on."""
    data = write_small(tmp_path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = data / PHOTOS / image_name(2)
    stored = Image.open(path).convert("RGB")
    stored.save(path, "PNG", exif=exif)
    expressions = read(data)
    turned = next(e for e in expressions if e.image_path == path)
    assert np.array_equal(turned.photo(), np.array(stored))
    assert turned.photo().shape[:2] == turned.mask().shape
    assert not np.array_equal(np.array(read_photo(path)), turned.photo()), "as people see it"
    photos = [expression.image_path for expression in expressions]
    with pytest.warns(UserWarning, match=f"1 photos, the first {path}, say that they are turned"):
        warn_of_turned(photos)
    stored.save(path, "PNG")
    with warnings.catch_warnings(action="error"):
        warn_of_turned(photos)


def test_a_photo_of_a_data_set_that_is_transparent(tmp_path):
    """The network sees the colours below, in training, in evaluation and in `photo`."""
    data = write_small(tmp_path)
    path = data / PHOTOS / image_name(2)
    stored = np.array(Image.open(path).convert("RGBA"))
    stored[:, :, 3] = 0
    Image.fromarray(stored).save(path, "PNG")
    dataset = dataset_of(data)
    row = dataset.image_row[path]
    first = dataset.expressions[dataset.expressions_of_image[row][0]]
    assert np.array_equal(first.photo(), stored[:, :, :3])
    assert np.array_equal(dataset.read_image(row).permute(1, 2, 0).numpy(), first.photo())


def test_no_lesson_predicts_on_the_file_of_a_data_set():
    """predict turns a file upright and lays it on white: other pixels than the mask's."""
    lessons = sorted((Path(__file__).parents[2] / "notebooks" / "text").glob("*.py"))
    assert lessons
    for lesson in lessons:
        assert not re.search(r"predict\([^()]*image_path", lesson.read_text()), lesson.name


# Refs and annotations.


def test_a_ref_without_its_annotation(tmp_path):
    data = write_small(tmp_path, refs=changed(make_refs(), 1, "ann_id", 999))
    refused(data, r"refs\(unc\).p: ref 1: .*instances.json has no annotation 999. Put the refs")


def test_a_ref_without_a_sentence(tmp_path):
    data = write_small(tmp_path, refs=changed(make_refs(), 1, "sentences", []))
    refused(data, r"ref 1 has no sentence")


def test_an_annotation_without_a_mask(tmp_path):
    data = write_small(
        tmp_path, None, changed(make_instances(), "annotations", 1, "segmentation", [])
    )
    refused(data, "annotation 20 has no polygon and no run-lengths. Fetch the annotations again")
    assert len(read(data, "val")) == 2, "the split that does not need it can be read"


@pytest.mark.parametrize("polygon", [[], [1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5]])
def test_a_polygon_of_fewer_than_three_points(tmp_path, polygon):
    instances = changed(make_instances(), "annotations", 1, "segmentation", [polygon])
    data = write_small(tmp_path, None, instances)
    refused(data, "annotation 20: a polygon is a list of x, y, x, y, ... of three points or more")


def test_a_polygon_that_reaches_outside_is_drawn_inside_and_counted(tmp_path):
    polygon = [[-20, -20, 30, -20, 30, 90, -20, 90]]
    instances = changed(make_instances(), "annotations", 1, "segmentation", polygon)
    data = write_small(tmp_path, None, instances)
    with pytest.warns(UserWarning, match="instances.json: 1 annotations, the first 20, reach outs"):
        mask = read(data)[2].mask()
    assert mask[:, :30].all() and not mask[:, 30:].any()


@pytest.mark.parametrize("shift", [-60, 66])
def test_a_polygon_that_lies_outside_altogether(tmp_path, shift):
    polygon = [[shift + x if i % 2 == 0 else x for i, x in enumerate([5, 5, 20, 5, 20, 20])]]
    instances = changed(make_instances(), "annotations", 1, "segmentation", polygon)
    refused(write_small(tmp_path, None, instances), "annotation 20: all of it lies outside")


def test_a_polygon_of_another_images_size(tmp_path):
    polygon = [[500, 400, 600, 400, 600, 450]]
    instances = changed(make_instances(), "annotations", 1, "segmentation", polygon)
    said = r"annotation 20: a polygon from \(500, 400\) to \(600, 450\) for an image of 64 x 48"
    refused(write_small(tmp_path, None, instances), said)


def test_run_lengths_of_another_size(tmp_path):
    runs = {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}
    instances = changed(make_instances(), "annotations", 1, "segmentation", runs)
    said = r"annotation 20: run-lengths of size \[64, 48\] for an image of 48 x 64. Take instances"
    refused(write_small(tmp_path, None, instances), said)


@pytest.mark.parametrize("counts", [[5, 5], [-5, HEIGHT * WIDTH + 5], [1.5], "~", "oo"])
def test_run_lengths_that_do_not_fill_their_image(tmp_path, counts):
    """They are unpacked when the mask is drawn: the first epoch meets every one."""
    runs = {"size": [HEIGHT, WIDTH], "counts": counts}
    instances = changed(make_instances(), "annotations", 1, "segmentation", runs)
    with pytest.raises(DataError, match="instances.json: annotation 20: "):
        whole_epoch(dataset_of(write_small(tmp_path, None, instances)))


@pytest.mark.parametrize("table", ["images", "annotations", "categories"])
def test_an_id_that_is_there_twice(tmp_path, table):
    instances = make_instances()
    instances[table].append(instances[table][0])
    number = instances[table][0]["id"]
    refused(write_small(tmp_path, None, instances), rf"instances.json: \w+ {number} is there twice")


@pytest.mark.parametrize("what", ["ref", "sentence"])
def test_a_ref_or_a_sentence_that_is_there_twice(tmp_path, what):
    refs = changed(make_refs(), 1, "ref_id", 0)
    if what == "sentence":
        refs = changed(make_refs(), 1, "sentences", 0, "sent_id", 2)
    refused(write_small(tmp_path, refs), r"refs\(unc\).p: ref \d.* is there twice")


def test_a_split_that_does_not_exist(tmp_path):
    data = write_small(tmp_path)
    with pytest.raises(DataError, match="unc has no split 'test'. Ask for train, val, testA, tes"):
        read(data, "test")
    refused(data, "no ref is of the split 'testA'", "testA")


def test_refs_that_lie_on_other_images_than_their_annotations(tmp_path):
    """What a refs file of another data set usually does."""
    data = write_small(tmp_path, changed(make_refs(), 1, "image_id", 3))
    refused(data, "ref 1 is on image 3, but its annotation 20 is on image 2 in .*of one release")


@pytest.mark.parametrize("other", ["unc+", "gref", "gref-umd"])
def test_refs_of_another_data_set_that_fit(tmp_path, other):
    """UNC's and UNC+'s refs are on the same annotations: the published numbers tell them apart."""
    ref = make_refs()[0]
    splits = [s for s, count in PUBLISHED_REFS[other].items() for _ in range(count)]
    refs = [
        {**ref, "ref_id": n, "split": split, "sentences": [{"sent_id": n, "sent": "cup"}]}
        for n, split in enumerate(splits)
    ]
    said = (
        "is of split 'test'" if other == "gref-umd" else f"these are the refs of {re.escape(other)}"
    )
    refused(write_small(tmp_path, refs), said)


# Sentences.


def test_a_sentence_without_a_word(tmp_path):
    refs = changed(make_refs(), 1, "sentences", 0, "sent", " ?!")
    refs = changed(refs, 2, "sentences", 0, "sent", "")
    with pytest.warns(UserWarning, match="2 expressions hold no word and are read as <unk>"):
        dataset = dataset_of(write_small(tmp_path, refs))
    assert whole_epoch(dataset) == 6, "none is left out"


def test_a_sentence_of_more_than_25_words(tmp_path):
    long = "the cup " * 13
    with pytest.warns(
        UserWarning, match="1 of 6 expressions are longer than 25 words .the lon"
    ) as w:
        dataset = dataset_of(
            write_small(tmp_path, changed(make_refs(), 1, "sentences", 0, "sent", long))
        )
    assert "the longest has 26" in str(w[0].message)
    assert [len(words) for words in dataset.words] == [2, 3, 25, 3, 2, 3]
    assert whole_epoch(dataset) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("la tasse à café", ["la", "tasse", "à", "café"]),
        ("الكوب الأيسر", ["الكوب", "الأيسر"]),
        ("הכוס השמאלית", ["הכוס", "השמאלית"]),
        ("左边的杯子", ["左边的杯子"]),
        ("Straße ΟΔΟΣ", ["straße", "οδος"]),
        ("\u202eleft\u202c cup 🙂", ["left", "cup"]),
    ],
)
def test_text_that_is_not_ascii_or_runs_from_right_to_left(tmp_path, text, words):
    data = write_small(tmp_path, changed(make_refs(), 1, "sentences", 0, "sent", text))
    expressions = read(data)
    assert expressions[2].text == text and tokenize(text) == words
    dataset = dataset_of(data)
    assert [dataset.vocabulary.words[number] for number in dataset.words[2]] == words
    assert whole_epoch(dataset) == 6


def test_text_that_is_half_a_character(tmp_path):
    data = write_small(tmp_path, changed(make_refs(), 1, "sentences", 0, "sent", "cup \ud83d"))
    refused(data, "ref 1: sentence 4 is no valid text")
    instances = changed(make_instances(), "images", 0, "file_name", "\ud83d.jpg")
    (data / "refcoco" / "instances.json").write_text(json.dumps(instances))
    refused(data, "image 1: its file_name is no valid text")


# Files as a whole.


@pytest.mark.parametrize("name", ["refs(unc).p", "instances.json"])
def test_annotations_that_are_missing_or_cut_short(tmp_path, name):
    data = write_small(tmp_path)
    path = data / "refcoco" / name
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        refused(data, re.escape(str(path)) + ": not ")
    path.unlink()
    refused(data, re.escape(str(path)) + ": no such file. Point DATA at")


def referit(data: Path, **queries: object) -> Path:
    """ReferIt with one region, and the queries of train as they are told."""
    (data / "referit" / "images").mkdir(parents=True)
    (data / "referit" / "mask").mkdir()
    text = json.dumps(queries or {"25_1": ["sky"]})
    (data / "referit" / "referit_query_train.json").write_text(text)
    (data / "referit" / "images" / "25.jpg").write_bytes(photo(1))
    savemat(
        data / "referit" / "mask" / "25_1.mat", {"segimg_t": np.ones((HEIGHT, WIDTH), np.uint8)}
    )
    return data


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        ({"25_1": []}, "region '25_1' does not hold a list of expressions"),
        ({"25_1": "sky"}, "region '25_1' does not hold a list of expressions"),
        ({"25": ["sky"]}, "'25' is not <image>_<region>"),
        ({"../25_1": ["sky"]}, "'../25_1' is not <image>_<region>"),
        ({"25_1": ["\ud83d"]}, "an expression of region '25_1' is no valid text"),
        ({"26_1": ["sky"]}, "26.jpg: no such image"),
        ({"25_2": ["sky"]}, "25_2.mat: no such mask"),
    ],
)
def test_a_wrong_region_of_referit(tmp_path, queries, said):
    with pytest.raises(DataError, match=said):
        read_expressions(referit(tmp_path, **queries), "referit", "train")


@pytest.mark.parametrize(
    "content",
    [
        {"segimg_t": np.ones((WIDTH, HEIGHT))},
        {"segimg_t": np.full((HEIGHT, WIDTH), "a", dtype=object)},
        {"other": np.ones((HEIGHT, WIDTH))},
    ],
)
def test_a_wrong_mask_of_referit(tmp_path, content):
    data = referit(tmp_path)
    path = data / "referit" / "mask" / "25_1.mat"
    savemat(path, content)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*Fetch the file again"):
        read_expressions(data, "referit", "train")[0].mask()


# Weights. (DeepLabv3+ and weights trained on COCO: tests/model/test_backbone.py.)


def test_weights_that_hold_nan(tmp_path):
    state = ShapesBackbone().state_dict()
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="is damaged: layer2.0.conv1.weight holds NaN"):
        build_backbone("shapes", str(tmp_path / "weights.safetensors"))


def test_weights_of_another_architecture(tmp_path):
    state = ShapesBackbone().state_dict()
    first = next(iter(state))
    wrong = {"head.weight": torch.zeros(1), **state, first: torch.zeros(2, 3)}
    del wrong["layer4.1.bn2.bias"]
    save_file(wrong, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError) as caught:
        build_backbone("shapes", str(tmp_path / "weights.safetensors"))
    for said in (
        "'layer4.1.bn2.bias'",
        "'head.weight'",
        f"{first} is (2, 3), expected (32, 3, 3, 3)",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"conv1.weight": "text"}, "'conv1.weight' is a str and not a tensor"),
        ({5: torch.zeros(1)}, "5 is a Tensor and not a tensor"),
        ({"conv1.weight": torch.zeros(2, 2).to_sparse()}, "not a tensor of plain numbers"),
        ({"conv1.weight": torch.zeros(2, dtype=torch.complex64)}, "not a tensor of plain numbers"),
    ],
)
def test_weights_that_are_no_state_dict(tmp_path, state, said):
    torch.save(state, tmp_path / "weights.pth")
    for name in ("shapes", "resnet18"):
        with pytest.raises(WeightsError, match=f"weights.pth: .*{said}"):
            build_backbone(name, str(tmp_path / "weights.pth"))
    torch.save({"model_state": 5}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="weights.pth holds a int where a state_dict belongs"):
        build_backbone("deeplabv3plus", str(tmp_path / "weights.pth"))
    with pytest.raises(WeightsError, match="not a tensor"):
        load_state(ShapesBackbone(), state, "here")


def test_refs_that_are_no_records(tmp_path):
    for place, refs in enumerate(([5], [None], [[]], [{}], {"refs": []}, "refs", 5)):
        data = write_small(tmp_path / str(place))
        (data / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
        refused(data, r"refs\(unc\).p: (ref at 0|holds a)")
