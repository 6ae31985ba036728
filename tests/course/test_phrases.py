"""What phrases are like: the counts, their file, and what was counted over ReferIt."""

import csv
from collections import Counter

import pytest

from shnet_course.measure import phrases
from shnet_course.measure.phrases import (
    REFERIT_COUNTS,
    count_phrases,
    has_location_word,
    read_counts,
    read_phrases,
    slips_of,
    write_counts,
)
from shnet_lib.data.text import tokenize


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


def test_phrases_are_counted_as_the_library_cuts_them() -> None:
    counts = count_phrases(["The 2nd cup", "cup, left", "LEFT", "???"])
    assert (counts.phrases, counts.placed, counts.numbered) == (4, 2, 1)
    assert counts.lengths == Counter({0: 1, 1: 1, 2: 1, 3: 1}) and counts.mean_length == 1.5
    assert counts.shorter_than(3) == 0.75
    assert list(counts.words) == ["cup", "left", "2nd", "the"]  # equals by alphabet
    assert (counts.distinct, counts.once) == (4, 2)


@pytest.mark.parametrize("slip", ["botom", "bottomm", "botton", "bottmo", "nbottom"])
def test_one_slip_of_the_finger_is_found(slip: str) -> None:
    assert slips_of("bottom", {"bottom": 100, slip: 1}) == [slip]


def test_another_word_is_no_slip() -> None:
    counts = {"bottom": 100, "button": 1, "botm": 1, "top": 1, "blossom": 1}
    assert slips_of("bottom", counts) == []
    assert slips_of("bottom", {"bottom": 100, "botom": 2}) == []  # too often for a slip


def test_a_phrase_with_two_slips_counts_once_and_short_words_are_not_looked_at() -> None:
    right = ["bottom of the middle"] * 100
    counts = count_phrases([*right, "botom midle", "th bottom", "bottem"])
    assert counts.slipped == 2
    assert counts.spellings == Counter({"bottom": 101, "bottem": 1, "botom": 1})


def test_the_file_gives_back_what_was_counted(tmp_path) -> None:
    counts = count_phrases(["left cup", "left", "the cup on the 2nd table"])
    write_counts(counts, tmp_path / "counts.csv")
    assert read_counts(tmp_path / "counts.csv") == counts


def test_the_command_counts_a_query_file(tmp_path, monkeypatch, capsys) -> None:
    query = tmp_path / "query.json"
    query.write_text('{"1_1": ["the sky", "sky"], "1_2": ["left tree"]}', encoding="utf-8")
    out = tmp_path / "counts.csv"
    monkeypatch.setattr("sys.argv", ["phrases", "--phrases", str(query), "--out", str(out)])
    phrases.main()
    assert "3 phrases, 1.7 words on average" in capsys.readouterr().out
    assert read_counts(out) == count_phrases(read_phrases(query))


def test_the_counts_of_referit_fit_each_other() -> None:
    counts = read_counts()
    assert counts.phrases == 54134 == sum(counts.lengths.values())
    assert counts.once < counts.distinct and counts.placed < counts.phrases
    assert max(counts.words, key=counts.words.get) == "the"
    assert counts.spellings["bottom"] == counts.words["bottom"]


def test_the_counts_of_referit_hold_words_and_no_phrase() -> None:
    with REFERIT_COUNTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) < 100
    assert all(len(tokenize(row["of"])) <= 1 for row in rows)
