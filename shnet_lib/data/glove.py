"""The vectors of words from a text file as GloVe's.

Section 4.2 of the paper: GloVe trained on 840B tokens, 300 numbers per word.
"""

import re
from collections.abc import Iterator, Sequence
from io import BufferedReader
from itertools import chain
from pathlib import Path

import numpy as np

from shnet_lib.data.errors import DataError, require_file

MAX_LINE, MAX_VECTOR = 2**16, 4096  # bytes in a line of a GloVe file, numbers in a vector
UNPACK_AGAIN = "Unpack glove.840B.300d.zip again (nlp.stanford.edu/data/glove.840B.300d.zip)."
NOT_TEXT = {  # how a file begins that is no text
    rb"\x1f\x8b": "a gzip file. Unpack it (gunzip), and name the text",
    rb"PK\x03\x04": "a zip file. Unpack it, and name the text in it",
    rb"(?s).*[\x00-\x08]": "a binary file. Take the vectors as a text file",
}


def read_glove(path: Path, words: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The vectors of `words` from a GloVe text file, and the words that it lacks.

    Words are looked up as they are: the 840B file tells "apple" from "Apple", and tokenize gives
    lower case. Where the file has a word twice, the first counts. Only lines that are needed are
    parsed, and reading stops with the last of them. Nothing is written.

    Returns:
        float32 (len(words), D), rows of zeros for the missing words, and these in order. D is
        read off the first line.

    Raises:
        DataError: the file is missing or no text, its first line or a needed one is not a word and
            D finite numbers, or it lacks more than half of the words.
    """
    path = Path(path)
    require_file(path, "Name the file of the word vectors with its full path.")
    vectors: dict[bytes, np.ndarray] = {}
    with path.open("rb") as file:
        size, lines = select_glove_lines(file, words, path)
        for number, word, line in lines:
            vectors[word] = _vector(line, size, f"{path.absolute()}: line {number}")
    table = np.zeros((len(words), size), dtype=np.float32)
    for row, word in enumerate(words):
        table[row] = vectors.get(word.encode(), 0.0)
    missing = [word for word in words if word.encode() not in vectors]
    if 2 * len(missing) > len(words):
        raise DataError(
            f"{path.absolute()}: {len(missing)} of {len(words)} words have no vector in it, the "
            f"first {missing[0]!r}. Name a file of vectors for the language of these words, or "
            "train without one (model.word_vectors=onehot)."
        )
    return table, missing


def select_glove_lines(
    file: BufferedReader, words: Sequence[str], path: Path
) -> tuple[int, Iterator[tuple[int, bytes, bytes]]]:
    """D, and the lines of `words` in an opened GloVe text: the line's number, its word, the line.

    `path` is for messages.

    Raises:
        DataError: the first line is not a word and its vector, or a line is too long for one.
    """
    begins = file.peek(4096)[:4096]
    for pattern, kind in NOT_TEXT.items():
        if re.match(pattern, begins):
            raise DataError(f"{path.absolute()} is {kind}.")
    first = file.readline(MAX_LINE)
    size = len(first.rstrip().split(b" ")) - 1
    where = f"{path.absolute()}: line 1"
    if not 2 <= size <= MAX_VECTOR:
        raise DataError(
            f"{where} is not a word and its vector but {first[:40]!r}. "
            f"Take off a header (word2vec's and fastText's), or: {UNPACK_AGAIN}"
        )
    _vector(first, size, where)
    return size, _select(file, first, {word.encode() for word in words}, size, path)


def _select(
    file: BufferedReader, first: bytes, wanted: set[bytes], size: int, path: Path
) -> Iterator[tuple[int, bytes, bytes]]:
    # A token may contain spaces (". . ."), so what stands before the first one only rules out.
    heads = {word.split(b" ", 1)[0] for word in wanted}
    # A file without line ends would be read into memory as one line.
    lines = chain([first], iter(lambda: file.readline(MAX_LINE), b""))
    for number, line in enumerate(lines, start=1):
        if len(line) == MAX_LINE:
            raise DataError(
                f"{path.absolute()}: line {number} has {MAX_LINE:,} bytes or more. {UNPACK_AGAIN}"
            )
        if line.split(b" ", 1)[0].rstrip() not in heads:
            continue
        word = line.rstrip().rsplit(b" ", size)[0]
        if word in wanted:
            yield number, word, line
            wanted.remove(word)  # the first of two counts
            if not wanted:
                return


def _vector(line: bytes, size: int, where: str) -> np.ndarray:
    """The last `size` pieces of a line as float32 (D,); DataError where they are no vector."""
    try:
        numbers = [float(number) for number in line.rstrip().rsplit(b" ", size)[1:]]
    except ValueError as error:
        raise DataError(f"{where}: {error}. {UNPACK_AGAIN}") from error
    vector = np.array(numbers, dtype=np.float32)
    if len(vector) != size or not np.isfinite(vector).all():
        raise DataError(f"{where}: not {size} finite numbers. {UNPACK_AGAIN}")
    return vector
