"""ReferIt: made-up files in its layout, with real .mat masks."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.referit import REFERIT_SPLITS

HEIGHT, WIDTH = 9, 14
QUERIES = {"25_1": ["sky", "the blue sky"], "25_3": ["man"], "112_2": ["Tree 2"]}


def region_map(region: str) -> np.ndarray:
    """0 on a rectangle that depends on the region, other numbers (1 to 3) elsewhere."""
    first = int(region[-1])
    regions = np.random.default_rng(first).integers(1, 4, (HEIGHT, WIDTH)).astype(np.uint8)
    regions[first : first + 4, 2 : first + 6] = 0
    return regions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "referit"
    (folder / "images").mkdir(parents=True)
    (folder / "mask").mkdir()
    for split in REFERIT_SPLITS:
        (folder / f"referit_query_{split}.json").write_text(json.dumps(QUERIES))
    for region in QUERIES:
        savemat(folder / "mask" / f"{region}.mat", {"segimg_t": region_map(region)})
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / f"{region.split('_')[0]}.jpg")
    return tmp_path


def rewrite(data: Path, queries: object, split: str = "train") -> Path:
    path = data / "referit" / f"referit_query_{split}.json"
    path.write_text(json.dumps(queries))
    return path


@pytest.mark.parametrize("split", REFERIT_SPLITS)
def test_every_split_is_read(data: Path, split: str) -> None:
    rewrite(data, {**QUERIES, "112_2": [split]}, split)
    with warnings.catch_warnings(action="error"):  # nothing is left out, nothing is said
        expressions = read_expressions(data, "referit", split)
    assert [e.text for e in expressions] == ["sky", "the blue sky", "man", split]
    assert [e.ref_id for e in expressions] == ["25_1", "25_1", "25_3", "112_2"]
    assert [e.sent_id for e in expressions] == ["25_1_0", "25_1_1", "25_3_0", "112_2_0"]
    assert [e.image_id for e in expressions] == ["25", "25", "25", "112"]
    assert [e.image_path.name for e in expressions] == ["25.jpg", "25.jpg", "25.jpg", "112.jpg"]
    assert all((e.height, e.width) == (HEIGHT, WIDTH) for e in expressions)
    assert all(e.category == "" and e.family is None for e in expressions)


def test_zero_is_the_foreground(data: Path) -> None:
    for expression in pickle.loads(pickle.dumps(read_expressions(data, "referit", "train"))):
        mask = expression.mask()
        assert mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool
        first = int(expression.ref_id[-1])
        expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
        expected[first : first + 4, 2 : first + 6] = True
        assert np.array_equal(mask, expected)


def test_the_known_bad_images_are_left_out_and_counted(data: Path) -> None:
    bad = {"19579_1": ["a", "b"], "19575_1": ["c"], "17975_1": ["d"], "17975_2": ["e", "f"]}
    rewrite(data, {**bad, **QUERIES})
    with pytest.warns(
        UserWarning, match="left out 6 expressions of 4 regions.*17975, 19575, 19579"
    ):
        expressions = read_expressions(data, "referit", "train")
    assert [e.text for e in expressions] == ["sky", "the blue sky", "man", "Tree 2"]
    rewrite(data, bad)
    with pytest.raises(DataError, match="no region with a usable image"):
        read_expressions(data, "referit", "train")


def test_missing_files_are_named_and_counted(data: Path) -> None:
    folder = data / "referit"
    (folder / "mask" / "25_3.mat").unlink()
    with pytest.raises(DataError, match=r"25_3.mat: no such mask \(1 of 3 mask files"):
        read_expressions(data, "referit", "train")
    (folder / "images" / "25.jpg").unlink()
    with pytest.raises(DataError, match=r"25.jpg: no such image \(1 of 2 image files"):
        read_expressions(data, "referit", "train")
    path = folder / "referit_query_val.json"
    path.unlink()
    with pytest.raises(DataError, match=re.escape(f"{path}: no such file. Point DATA at")):
        read_expressions(data, "referit", "val")
    with pytest.raises(DataError, match="no split 'testA'.*train, val, trainval, test"):
        read_expressions(data, "referit", "testA")


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ({"25": ["sky"]}, "'25' is not <image>_<region>"),
        ({"25_1_2": ["sky"]}, "'25_1_2' is not <image>_<region>"),
        ({"../25_1": ["sky"]}, "is not <image>_<region>"),
        ({"25_1": "sky"}, "region '25_1' does not hold a list"),
        ({"25_1": ["sky", 3]}, "region '25_1' does not hold a list"),
        ([], "holds a list, not a JSON object"),
        ({}, "no region with a usable image"),
    ],
)
def test_a_malformed_record_is_named(data: Path, queries: object, message: str) -> None:
    path = rewrite(data, queries)
    with pytest.raises(DataError, match=message) as caught:
        read_expressions(data, "referit", "train")
    assert str(path) in str(caught.value)


def test_a_damaged_photo_is_named(data: Path) -> None:
    path = data / "referit" / "images" / "112.jpg"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=re.escape(f"{path}: not a readable image")):
        read_expressions(data, "referit", "train")


def damage_mask(path: Path, how: str) -> None:
    if how == "cut":
        path.write_bytes(path.read_bytes()[:150])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("<html>404</html>" * 20)
    elif how == "other array":
        savemat(path, {"segimg": np.zeros((HEIGHT, WIDTH))})
    else:
        savemat(path, {"segimg_t": np.zeros((WIDTH, HEIGHT))})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "not a readable .mat file"),
        ("empty", "not a readable .mat file"),
        ("text", "not a readable .mat file"),
        ("other array", "holds no array `segimg_t`"),
        ("turned", r"a mask of \(14, 9\) for a photo of \(9, 14\)"),
    ],
)
def test_a_damaged_mask_is_named(data: Path, how: str, message: str) -> None:
    path = data / "referit" / "mask" / "112_2.mat"
    damage_mask(path, how)
    expression = read_expressions(data, "referit", "train")[-1]
    with pytest.raises(DataError, match=message) as caught:
        expression.mask()
    assert str(path) in str(caught.value)
