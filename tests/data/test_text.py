"""Words and the vocabulary."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.text import Vocabulary, tokenize

# Words.


def test_numbers_are_kept_or_lost_as_asked() -> None:
    text = "The 2nd man's H2O-bottle, no. 3!"
    assert tokenize(text) == ["the", "2nd", "man", "s", "h2o", "bottle", "no", "3"]
    assert tokenize(text, keep_numbers=False) == ["the", "man", "s", "bottle", "no"]
    assert tokenize(" ... ") == tokenize("") == tokenize("_ __") == []


@given(st.text(max_size=40))
@example("Café İSTANBUL 2½ ß_a")
@example("लाल गोला ❤\ufe0fcup 3\ufe0f\u20e3 e\u0301t\u00e9 \u0301a")
def test_words_are_runs_of_letters_digits_and_underscores_with_marks(text: str) -> None:
    """Literally, a letter at a time; a mark needs something to stand on."""
    runs, run = [], ""
    for letter in unicodedata.normalize("NFC", text).lower() + " ":
        mark = unicodedata.category(letter) in ("Mn", "Mc") and letter not in SELECTORS
        if letter.isalnum() or letter == "_" or (mark and run):
            run += letter
        else:
            runs.append(run)
            run = ""
    assert tokenize(text) == [run for run in runs if any(map(str.isalnum, run))]
    for word in tokenize(text, keep_numbers=False):
        assert word in runs and any(map(str.isalpha, word)) and not any(map(str.isdigit, word))


SELECTORS = [chr(number) for number in range(0xFE00, 0xFE10)]


def words_of_ascii(text: str, keep_numbers: bool) -> list[str]:
    """As old vocabularies were made."""
    pieces = re.split(r"(\W+)", text.lower())
    if keep_numbers:
        return [piece for piece in pieces if any(map(str.isalnum, piece))]
    return [piece for piece in pieces if piece.isalpha()]


@given(st.text(st.characters(codec="ascii"), max_size=40), st.booleans())
def test_plain_english_is_cut_as_it_always_was(text: str, keep_numbers: bool) -> None:
    assert tokenize(text, keep_numbers) == words_of_ascii(text, keep_numbers)


def test_real_phrases_are_cut_as_they_always_were(referit_queries: Path) -> None:
    queries = json.loads(referit_queries.read_bytes())
    phrases = [phrase for phrases in queries.values() for phrase in phrases]
    assert len(phrases) > 1000
    for keep_numbers in (True, False):
        for phrase in phrases:
            assert tokenize(phrase, keep_numbers) == words_of_ascii(phrase, keep_numbers)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("लाल गोला", ["लाल", "गोला"]),
        ("สีแดง ซ้าย", ["สีแดง", "ซ้าย"]),
        ("Cafe\u0301 A\u030a", ["café", "å"]),  # as macOS names files
        ("İSTANBUL", ["i\u0307stanbul"]),
        ("faq\u0301\u0323 cup", ["faq\u0323\u0301", "cup"]),
    ],
)
def test_marks_belong_to_their_words(text: str, words: list[str]) -> None:
    for form in ("NFC", "NFD"):
        assert tokenize(unicodedata.normalize(form, text)) == words
    assert tokenize(text, keep_numbers=False) == words


# The vocabulary.

TEXTS = ["left red circle", "left star", "2nd star from left", "top circle"]


def test_words_are_ordered_by_count_then_alphabet() -> None:
    vocabulary = Vocabulary.from_texts(TEXTS)
    expected = ["<pad>", "<unk>", "left", "circle", "star", "2nd", "from", "red", "top"]
    assert vocabulary.words == expected and len(vocabulary) == 9
    assert vocabulary.words[Vocabulary.PADDING] == "<pad>"
    assert vocabulary.words[Vocabulary.UNKNOWN] == "<unk>"
    assert Vocabulary.from_texts(reversed(TEXTS)).words == expected
    assert Vocabulary.from_texts(TEXTS, min_count=2).words == expected[:5]
    assert "2nd" not in Vocabulary.from_texts(TEXTS, keep_numbers=False).words


def test_encode_and_unknown() -> None:
    vocabulary = Vocabulary.from_texts(TEXTS)
    assert vocabulary.encode("LEFT purple star!") == [2, 1, 4]
    assert vocabulary.unknown("LEFT purple star, very purple") == ["purple", "very"]
    assert vocabulary.unknown("left star") == []
    assert vocabulary.encode("left " * 30) == [2] * 25
    assert vocabulary.encode("left red star", max_words=2) == [2, 7]
    assert vocabulary.encode("?!") == [Vocabulary.UNKNOWN]
    assert vocabulary.encode("<pad>") == [Vocabulary.UNKNOWN]  # a text cannot spell padding
    letters_only = Vocabulary.from_texts(TEXTS, keep_numbers=False)
    assert letters_only.encode("2nd") == [Vocabulary.UNKNOWN]
    assert letters_only.unknown("2nd star") == []


@given(st.lists(st.text(max_size=20), max_size=5), st.booleans())
def test_a_vocabulary_knows_its_texts_and_survives_json(texts: list[str], keep: bool) -> None:
    vocabulary = Vocabulary.from_texts(texts, keep_numbers=keep)
    saved = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert saved.words == vocabulary.words and saved.keep_numbers == keep
    for text in texts:
        words = tokenize(text, keep)
        assert vocabulary.unknown(text) == []
        if words:
            assert [saved.words[number] for number in saved.encode(text, 99)] == words
            assert min(saved.encode(text)) > Vocabulary.UNKNOWN


def test_a_damaged_vocabulary_is_refused() -> None:
    with pytest.raises(DataError, match="begins with"):
        Vocabulary(["left", "right", "top"])
    with pytest.raises(DataError, match="'left' twice"):
        Vocabulary(["<pad>", "<unk>", "left", "top", "left"])
    for saved in ({"words": []}, {"words": [], "keep_numbers": True, "more": 1}):
        with pytest.raises(DataError, match="fields words and keep_numbers"):
            Vocabulary.from_dict(saved)


def test_the_vocabulary_of_the_real_sample(refer_real: Path) -> None:
    train = [e.text for e in read_expressions(refer_real, "unc", "train")]
    vocabulary = Vocabulary.from_texts(train)
    assert all(not vocabulary.unknown(text) for text in train)
    assert {"left", "man"} <= set(vocabulary.words)
