"""The example of own data: real photos, where the packages that ship them are installed."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from refgen import own_example
from refgen.own_example import EXAMPLE, main, write_own_example
from shnet_lib.data import read_expressions, splits_of

needs_scikit_image = pytest.mark.skipif(
    not find_spec("skimage"), reason="scikit-image, which ships the photos, is not installed"
)
NO_FLOWER = () if find_spec("sklearn") else ("flower.jpg",)  # scikit-learn's; the course has none
PHRASES = {"train": 27, "val": 5} | ({} if NO_FLOWER else {"test": 3})


@needs_scikit_image
def test_every_mask_of_the_example_lies_on_its_photo(tmp_path: Path) -> None:
    assert tuple(write_own_example(tmp_path)) == NO_FLOWER
    assert splits_of("own", tmp_path) == tuple(PHRASES)
    with warnings.catch_warnings(action="error"):
        splits = {split: read_expressions(tmp_path, "own", split) for split in PHRASES}
    assert {split: len(found) for split, found in splits.items()} == PHRASES
    for expression in (each for found in splits.values() for each in found):
        mask, photo = expression.mask(), expression.photo()
        assert photo.shape == (*mask.shape, 3) and 0 < mask.mean() < 0.9


@needs_scikit_image
@pytest.mark.parametrize(
    ("phrase", "colour"),
    [
        ("large orange flower", (207, 127, 74)),
        ("the flag", (120, 72, 85)),
        ("astronaut in the orange suit", (162, 95, 75)),
        ("plate under the cup", (137, 37, 16)),
    ],
)
def test_a_phrase_means_what_it_says(tmp_path: Path, phrase: str, colour: tuple) -> None:
    write_own_example(tmp_path)
    found = [e for split in PHRASES for e in read_expressions(tmp_path, "own", split)]
    if NO_FLOWER and "flower" in phrase:
        pytest.skip("scikit-learn, which ships the flower, is not installed")
    (expression,) = [each for each in found if each.text == phrase]
    inside = expression.photo()[expression.mask()].mean(axis=0)
    outside = expression.photo()[~expression.mask()].mean(axis=0)
    assert abs(inside - colour).max() < 10 and abs(inside - outside).max() > 20


@needs_scikit_image
def test_without_one_package_its_photo_is_left_out_with_its_phrases(tmp_path, monkeypatch, capsys):
    """The course installs scikit-image alone: its lessons show the rest of the example."""
    monkeypatch.setattr(
        own_example, "find_spec", lambda n: find_spec(n) if n != "sklearn" else None
    )
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("their package is not installed: flower.jpg")
    assert splits_of("own", tmp_path) == ("train", "val")
    assert not (tmp_path / "images" / "flower.jpg").exists()
    phrases = {e.text for s in ("train", "val") for e in read_expressions(tmp_path, "own", s)}
    assert len(phrases) == 32 and "large orange flower" not in phrases


def test_the_example_holds_no_photo() -> None:
    assert sorted(path.name for path in EXAMPLE.iterdir()) == ["instances.json", "refs.json"]
    refs = json.loads((EXAMPLE / "refs.json").read_text())
    phrases = [(ref["split"], phrase) for ref in refs for phrase in ref["sentences"]]
    assert len(set(phrases)) == len(phrases), "a phrase means one thing"


@pytest.mark.fault
def test_a_photo_that_a_package_no_longer_ships_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(own_example, "PHOTOS", {"skimage": "gone", "sklearn": "gone"})
    assert main(["--out", str(tmp_path / "mine")]) == 2
    assert "astronaut.png" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.fault
def test_the_example_without_the_packages_that_ship_its_photos(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(own_example, "find_spec", lambda name: None)
    assert main(["--out", str(tmp_path / "mine")]) == 2
    assert "pip install scikit-image scikit-learn" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
