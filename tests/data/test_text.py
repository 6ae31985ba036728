"""Words, the vocabulary, and vectors from a GloVe file."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.text import Vocabulary, read_glove, tokenize

# Words.


def test_numbers_are_kept_or_lost_as_asked() -> None:
    text = "The 2nd man's H2O-bottle, no. 3!"
    assert tokenize(text) == ["the", "2nd", "man", "s", "h2o", "bottle", "no", "3"]
    assert tokenize(text, keep_numbers=False) == ["the", "man", "s", "bottle", "no"]
    assert tokenize(" ... ") == tokenize("") == tokenize("_ __") == []


@given(st.text(max_size=40))
@example("Café İSTANBUL 2½ ß_a")
def test_words_are_runs_of_letters_digits_and_underscores(text: str) -> None:
    """Literally, a letter at a time."""
    runs, run = [], ""
    for letter in text.lower() + " ":
        if letter.isalnum() or letter == "_":
            run += letter
        else:
            runs.append(run)
            run = ""
    assert tokenize(text) == [run for run in runs if run.strip("_")]
    assert tokenize(text, keep_numbers=False) == [run for run in runs if run.isalpha()]


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


# GloVe.

LINES = [
    "the 0.5 -1.25 3",
    ". . . 1 1 1",
    "The 9 9 9",
    "left 1e-3 2 -0.125",
    "at name@domain.com 7 7 7",
    "at 4 5 6",
    "caf\u00e9\u00a0noir 8 8 8",
    "caf\u00e9 0.25 0.5 0.75",
    "left 3 3 3",
]


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def test_vectors_of_the_words_asked_for(glove: Path) -> None:
    words = ["left", "nowhere", "at", "café", ". . .", "at name@domain.com", "the", "café noir"]
    vectors, missing = read_glove(glove, words)
    assert vectors.dtype == np.float32 and vectors.shape == (8, 3)
    expected = [
        [1e-3, 2, -0.125],  # the first of two
        [0, 0, 0],
        [4, 5, 6],  # not the token that begins with it
        [0.25, 0.5, 0.75],
        [1, 1, 1],
        [7, 7, 7],
        [0.5, -1.25, 3],  # the vocabulary is cased
        [0, 0, 0],  # there with a no-break space only
    ]
    assert np.array_equal(vectors, np.array(expected, dtype=np.float32))
    assert missing == ["nowhere", "café noir"]


def test_windows_line_ends_and_no_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(b"a 1 2 3\r\nb 4 5 6\r\nc 7 8 9")
    vectors, missing = read_glove(path, ["c", "a", "b"])
    assert vectors.tolist() == [[7, 8, 9], [1, 2, 3], [4, 5, 6]] and missing == []


def test_lines_that_are_not_needed_are_not_parsed(glove: Path) -> None:
    with glove.open("a") as file:
        file.write("top 1 2\n")
    assert read_glove(glove, ["left", "nowhere"])[1] == ["nowhere"]
    with pytest.raises(DataError, match="line 10: not 3 finite numbers"):
        read_glove(glove, ["top"])


def test_reading_stops_with_the_last_word(glove: Path) -> None:
    size = 50_000_000  # one more line of zeros, which takes this memory only if it is read
    os.truncate(glove, size)
    tracemalloc.start()
    try:
        assert read_glove(glove, ["left", "the"])[1] == []
        assert tracemalloc.get_traced_memory()[1] < size / 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", ["top 1 x 3", "top 1 nan 3", "top 1 2", "top 1 inf 2", "top"])
def test_a_damaged_line_is_named(glove: Path, line: str) -> None:
    with glove.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"glove.txt: line 10: .*Unpack"):
        read_glove(glove, ["the", "top"])


@pytest.mark.parametrize("content", ["400000 300\na 1 2 3\n", "", "a\n"])
def test_a_header_or_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(DataError, match="line 1 is not a word and its vector"):
        read_glove(path, ["a"])
    with pytest.raises(DataError, match="nowhere.txt: no such file. Unpack"):
        read_glove(tmp_path / "nowhere.txt", ["a"])


def test_the_cache_gives_the_same_and_spares_the_text(glove: Path, tmp_path: Path) -> None:
    cache, words = tmp_path / "deep" / "cache", ["left", "nowhere", "at"]
    plain = read_glove(glove, words)
    first = read_glove(glove, words, cache)
    status = glove.stat()
    glove.write_bytes(b"x" * status.st_size)  # the text is spoilt, its identity is not
    os.utime(glove, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = read_glove(glove, words, cache)
    for vectors, missing in (first, second):
        assert vectors.dtype == np.float32 and np.array_equal(vectors, plain[0])
        assert missing == plain[1] == ["nowhere"]
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_the_cache_is_not_used_for_other_words_or_another_file(glove: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert read_glove(glove, ["left", "at"], cache)[0][1].tolist() == [4, 5, 6]
    assert read_glove(glove, ["at", "left"], cache)[0][0].tolist() == [4, 5, 6]
    assert read_glove(glove, ["at"], cache)[0].tolist() == [[4, 5, 6]]

    status = glove.stat()
    glove.write_text(glove.read_text().replace("at 4 5 6", "at 6 5 4"))  # as long as before
    os.utime(glove, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read_glove(glove, ["at"], cache)[0].tolist() == [[6, 5, 4]]

    changed = glove.stat().st_mtime_ns
    glove.write_text(glove.read_text().replace("at 6 5 4", "at 6 5 44"))  # changed in no time
    os.utime(glove, ns=(changed, changed))
    assert read_glove(glove, ["at"], cache)[0].tolist() == [[6, 5, 44]]

    other = tmp_path / "other.txt"
    other.write_text(glove.read_text().replace("at 6 5 44", "at 7 5 44"))
    os.utime(other, ns=(changed, changed))
    assert read_glove(other, ["at"], cache)[0].tolist() == [[7, 5, 44]]


def test_a_write_that_is_cut_off_leaves_nothing(glove: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # bytes: as if the disk were full
    try:
        with pytest.raises(OSError, match="File too large"):
            read_glove(glove, ["at"], cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(cache.iterdir()) == []
    assert read_glove(glove, ["at"], cache)[0].tolist() == [[4, 5, 6]]


def test_a_damaged_cache_is_named(glove: Path, tmp_path: Path) -> None:
    read_glove(glove, ["at"], tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(DataError, match=r"glove-.*npz: not readable.*Delete it"):
        read_glove(glove, ["at"], tmp_path / "cache")
