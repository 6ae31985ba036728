"""Vectors from a GloVe file: the right ones, and never a table of zeros without a word."""

import gzip
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shnet_lib.data import DataError
from shnet_lib.data.glove import read_glove

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
    size = 20_000_000  # one more line, which takes this memory only if it is read
    with glove.open("ab") as file:
        file.write(b"0" * size)
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


@pytest.mark.fault
@pytest.mark.parametrize(
    ("name", "kind"),
    [("glove.txt.gz", "a gzip file"), ("glove.zip", "a zip file"), ("glove.bin", "a binary file")],
)
def test_a_file_of_vectors_that_is_no_text(glove: Path, name: str, kind: str) -> None:
    path, text = glove.with_name(name), glove.read_bytes()
    if kind == "a gzip file":
        path.write_bytes(gzip.compress(text))
    elif kind == "a zip file":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("glove.txt", text)
    else:  # as word2vec writes it
        path.write_bytes(b"2 3\n" + b"".join(b"left " + np.ones(3, "<f4").tobytes() for _ in "ab"))
    with pytest.raises(DataError, match=f"{name} is {kind}"):
        read_glove(path, ["left"])


@pytest.mark.fault
@pytest.mark.parametrize("content", ["once upon a time\n", "a 1 2 three\n", "a 1 2 nan\n"])
def test_a_text_that_holds_no_vectors(tmp_path: Path, content: str) -> None:
    """A first line of three words or more is not yet a vector."""
    path = tmp_path / "novel.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=r"novel.txt: line 1: .*Unpack"):
        read_glove(path, ["left", "right"])


@pytest.mark.fault
@pytest.mark.parametrize("words", [["rot", "blau"], ["left", "rot", "blau"]])
def test_vectors_that_most_words_lack(glove: Path, words: list[str]) -> None:
    said = rf"glove.txt: 2 of {len(words)} words have no vector in it, the first 'rot'.*onehot"
    with pytest.raises(DataError, match=said):
        read_glove(glove, words)
    assert read_glove(glove, ["left", "rot"])[1] == ["rot"]


@pytest.mark.fault
def test_a_space_behind_every_vector(tmp_path: Path) -> None:
    """As fastText writes it."""
    path = tmp_path / "wiki.vec"
    path.write_text("the 1 2 3 \nleft 4 5 6 \n")
    vectors, missing = read_glove(path, ["left", "the"])
    assert vectors.tolist() == [[4, 5, 6], [1, 2, 3]] and missing == []


@pytest.mark.fault
def test_a_file_of_vectors_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.txt: no such file. Name .* its full path"):
        read_glove(tmp_path / "nowhere.txt", ["a"])


@pytest.mark.fault
def test_nothing_is_written_beside_the_vectors(glove: Path) -> None:
    """So their folder may be read-only. (The tests may run as root, who can write everywhere.)"""
    read_glove(glove, ["left", "at"])
    assert [path.name for path in glove.parent.iterdir()] == ["glove.txt"]
