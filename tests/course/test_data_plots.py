"""Pictures of lesson 01: what they show is what is in the files."""

from pathlib import Path

import numpy as np
import pytest

from refgen.refshapes import generate
from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_01 import (
    count_examples,
    describe_example,
    draw_character,
    draw_example,
    draw_parts,
    draw_runs,
    find_data_sets,
    has_location_word,
)
from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.text import tokenize


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "refshapes"
    return generate(folder, {"train": 2, "val": 12, "testA": 2, "testB": 2}, size=64)


# ---------------------------------------------------------------- one example


def test_an_example_shows_its_photo_its_phrase_and_its_mask(data: Path) -> None:
    examples = read_expressions(data, "refshapes-unc", "val")
    for index in (0, 5, len(examples) - 1):
        left, middle, right = draw_example(data, "refshapes-unc", "val", index).axes
        assert np.array_equal(left.images[0].get_array(), photo_of(examples[index]))
        assert not left.collections and len(middle.collections) == 2  # the outline, and its rim
        assert middle.get_title() == f"“{examples[index].text}”"
        mask = np.asarray(right.images[0].get_array())
        assert np.array_equal(mask == 255, examples[index].mask()[..., None].repeat(3, -1))


def test_the_text_says_where_the_mask_lies(data: Path) -> None:
    example = read_expressions(data, "refshapes-unc", "val")[4]
    rows, columns = np.nonzero(example.mask())
    text = describe_example(data, "refshapes-unc", "val", 4)
    assert f"Example 4 of refshapes-unc, val: “{example.text}”" in text
    assert f"covers {len(rows) / 64**2:.1%} of the photo" in text
    assert (
        f"{columns.mean() / 64:.0%} from the left and {rows.mean() / 64:.0%} from the top" in text
    )


@pytest.mark.parametrize("index", [-1, 10**6])
def test_there_is_no_example_beyond_the_last(data: Path, index: int) -> None:
    last = count_examples(data, "refshapes-unc", "val") - 1
    for function in (draw_example, describe_example):
        with pytest.raises(DataError, match=f"Ask for 0 to {last}"):
            function(data, "refshapes-unc", "val", index)


def test_data_sets_are_found_where_their_annotations_lie(data: Path, tmp_path: Path) -> None:
    (tmp_path / "refcoco").mkdir()
    (tmp_path / "refcoco" / "refs(unc).p").touch()
    (tmp_path / "referit").mkdir()
    found = find_data_sets([data, tmp_path / "nothing", str(tmp_path)])
    flavours = [f"refshapes-{name}" for name in ("unc", "unc+", "gref", "referit")]
    assert found == dict.fromkeys(flavours, data) | {"unc": tmp_path, "referit": tmp_path}
    assert list(found)[0] == "refshapes-unc"


def test_photos_are_shown_too(photo_data: Path) -> None:
    found = find_data_sets([photo_data])
    assert set(found) == {"unc", "unc+", "gref"}
    photo, _, mask = draw_example(found["gref"], "gref", "val", 0).axes
    shape = np.asarray(photo.images[0].get_array()).shape
    assert shape == np.asarray(mask.images[0].get_array()).shape
    assert "% of the photo; its middle" in describe_example(found["gref"], "gref", "val", 0)


# ---------------------------------------------------------------- masks


def test_the_numbers_run_down_the_columns() -> None:
    mask = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    (ax,) = draw_runs(mask).axes
    order = {
        (round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts
    }
    count = 0
    for column in range(4):
        for row in range(3):
            assert order[row, column] == str(count)
            count += 1
    assert np.array_equal(ax.images[0].get_array(), mask)


def test_parts_are_added_compared_with_one_and_united() -> None:
    one, other = np.zeros((2, 30, 40), bool)
    one[10:16, 10:20] = True
    other[12:20, 15:22] = True
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    axes = draw_parts(photo, [one, other], margin=3).axes
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    cut = (slice(7, 23), slice(7, 25))
    assert np.array_equal(shown[0], photo[cut])
    assert np.array_equal(shown[1], (one.astype(int) + other)[cut])
    assert np.array_equal(shown[2], (one ^ other)[cut])
    assert np.array_equal(shown[3], (one | other)[cut])
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["0", "1", "2"]


# ---------------------------------------------------------------- what the data sets are like


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Left cup", True),
        ("the star at the TOP!", True),
        ("bottommost", True),
        ("the square left of nothing", True),
        ("sand under the stars", False),
        ("leftover pizza", False),
        ("", False),
    ],
)
def test_a_location_word_is_a_whole_word(text: str, expected: bool) -> None:
    assert has_location_word(text) is expected


def test_the_characters_are_those_of_the_expressions(data: Path) -> None:
    sets = {n: read_expressions(data, f"refshapes-{n}", "val") for n in ("unc", "unc+", "gref")}
    words, places, sizes = draw_character(sets).axes
    for (name, found), line, bar, box in zip(
        sets.items(), words.lines, places.patches, sizes.patches, strict=True
    ):
        assert line.get_label() == name
        for x, y in line.get_xydata():
            count = sum(len(tokenize(e.text)) == x for e in found)
            assert y == pytest.approx(100 * count / len(found))
        located = sum(has_location_word(e.text) for e in found)
        assert bar.get_width() == pytest.approx(100 * located / len(found))
        areas = [e.mask().mean() for e in {e.ref_id: e for e in found}.values()]
        quarters = box.get_path().vertices[:-1, 0]
        assert quarters.min() == pytest.approx(100 * np.quantile(areas, 0.25))
        assert quarters.max() == pytest.approx(100 * np.quantile(areas, 0.75))
    assert places.patches[1].get_width() == 0  # UNC+ has no location words
