"""Pictures of lesson 01: what they show is what is in the files."""

from pathlib import Path

import numpy as np
import pytest

from refgen.refshapes import generate
from shnet_course.measure.phrases import count_phrases, has_location_word
from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_01 import (
    count_examples,
    describe_example,
    draw_character,
    draw_example,
    draw_neighbours,
    draw_parts,
    draw_phrases,
    draw_run_lengths,
    draw_speech,
    find_data_sets,
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
    assert f"covers {len(rows) / 64**2:.1%} of the scene" in text
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


def test_each_phrase_has_its_mask_outlined_in_the_photo() -> None:
    photo = np.zeros((20, 30, 3), np.uint8)
    masks = {"left half": np.zeros((20, 30), bool), "a corner": np.zeros((20, 30), bool)}
    masks["left half"][:, :15] = masks["a corner"][:10, :3] = True
    figure = draw_phrases(photo, masks)
    assert [ax.get_title() for ax in figure.axes] == ["“left half”", "“a corner”"]
    assert all(len(ax.collections) == 2 for ax in figure.axes)  # the outline, and its rim
    assert "“left half”, 50.0% of it; “a corner”, 5.0% of it" in figure.get_label()


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
    (ax,) = draw_run_lengths(mask).axes
    order = {
        (round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts
    }
    count = 0
    for column in range(4):
        for row in range(3):
            assert order[row, column] == str(count)
            count += 1
    assert np.array_equal(ax.images[0].get_array(), mask)
    assert draw_run_lengths(mask).get_label().endswith("The thing is 3, 4, 6, 11.")


def test_parts_are_added_compared_with_one_and_united() -> None:
    one, other = np.zeros((2, 30, 40), bool)
    one[10:16, 10:20] = True
    other[12:20, 15:22] = True
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    figure = draw_parts(photo, [one, other], margin=3)
    axes = figure.axes
    assert f"2 or more at {(one & other).sum()} pixels" in figure.get_label()
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    cut = (slice(7, 23), slice(7, 25))
    assert np.array_equal(shown[0], photo[cut])
    assert np.array_equal(shown[1], (one.astype(int) + other)[cut])
    assert np.array_equal(shown[2], (one ^ other)[cut])
    assert np.array_equal(shown[3], (one | other)[cut])
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["0", "1", "2"]


# ---------------------------------------------------------------- what the data sets are like


def test_the_characters_are_those_of_the_expressions(data: Path) -> None:
    sets = {n: read_expressions(data, f"refshapes-{n}", "val") for n in ("unc", "unc+", "gref")}
    figure = draw_character(sets)
    words, places, sizes = figure.axes
    assert "median thing" in figure.get_label() and "unc+ 0 % and" in figure.get_label()
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


# ---------------------------------------------------------------- how people speak


def test_lists_of_phrases_are_shown_beside_each_other_as_shares() -> None:
    counts = {"a": count_phrases(["left", "left cup"]), "b": count_phrases(["the cup " * 2])}
    figure = draw_speech(counts, most=2)
    lengths, a, b = figure.axes
    assert [line.get_label() for line in lengths.lines] == ["a", "b"]
    assert lengths.lines[0].get_ydata()[:3].tolist() == [50, 50, 0]
    assert lengths.lines[1].get_ydata()[3] == 100
    assert [bar.get_width() for bar in a.patches] == pytest.approx([200 / 3, 100 / 3])
    assert [bar.get_width() for bar in b.patches] == [50, 50]
    assert "a: 1.5 words, most often left; b: 4.0 words" in figure.get_label()


# ---------------------------------------------------------------- near words


def test_neighbours_are_the_other_words_the_nearest_first() -> None:
    angles = np.radians([0, 10, 90, 45])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    words = ["cup", "mug", "sky", "glass"]
    figure = draw_neighbours(words, vectors, "cup", most=2)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["mug", "glass"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(np.cos(angles[[1, 3]]))
    assert figure.get_label() == "Words near “cup”, with their cosines: mug 0.98, glass 0.71."


def test_a_word_without_a_vector_is_named() -> None:
    with pytest.raises(ValueError, match="'zebra'.*try another word"):
        draw_neighbours(["cup"], np.ones((1, 1)), "zebra")
