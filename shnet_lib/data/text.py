"""Sentences -> words -> ids, and the words' vectors from a GloVe file.

Section 4.2 of the paper: GloVe trained on 840B tokens, at most 25 words in an expression.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shnet_lib.data.errors import DataError, require_file

MAX_LINE, MAX_VECTOR = 2**16, 4096  # bytes in a line of a GloVe file, numbers in a vector
GLOVE_REMEDY = "Unpack glove.840B.300d.zip again (nlp.stanford.edu/data/glove.840B.300d.zip)."


def tokenize(text: str, keep_numbers: bool = True) -> list[str]:
    """Lower-case words: "Man's 2nd cup!" -> man, s, 2nd, cup.

    `keep_numbers=False` keeps words of letters only, as the code of this field does: it loses
    "2nd", "3" and "h2o", and with them what some expressions are about.
    """
    pieces = re.split(r"(\W+)", text.lower())
    if keep_numbers:
        return [piece for piece in pieces if any(letter.isalnum() for letter in piece)]
    return [piece for piece in pieces if piece.isalpha()]


class Vocabulary:
    """The words that have an id. Id 0 stands for padding, id 1 for every unknown word."""

    PADDING = 0
    UNKNOWN = 1
    SPECIAL = ("<pad>", "<unk>")

    def __init__(self, words: Sequence[str], keep_numbers: bool = True) -> None:
        """`words` from id 0 on: SPECIAL, then the rest, none twice; DataError otherwise."""
        if tuple(words[:2]) != self.SPECIAL:
            raise DataError(
                f"A vocabulary begins with {self.SPECIAL}, not {tuple(words[:2])}. "
                "Make it with Vocabulary.from_texts."
            )
        self.words = list(words)
        self.keep_numbers = keep_numbers
        self._ids = {word: number for number, word in enumerate(self.words)}
        if len(self._ids) < len(self.words):
            twice = Counter(self.words).most_common(1)[0][0]
            raise DataError(f"The vocabulary holds {twice!r} twice. Leave one out.")

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], min_count: int = 1, keep_numbers: bool = True
    ) -> Vocabulary:
        """The words seen `min_count` times or more, the frequent first, equals by alphabet."""
        counts = Counter(word for text in texts for word in tokenize(text, keep_numbers))
        kept = [word for word, count in counts.items() if count >= min_count]
        kept.sort(key=lambda word: (-counts[word], word))
        return cls([*cls.SPECIAL, *kept], keep_numbers)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str, max_words: int = 25) -> list[int]:
        """The ids of the first `max_words` words, never empty.

        A text without one word ("???") becomes [UNKNOWN]: the model takes means over an
        expression's words, and a mean over none does not exist.
        """
        words = tokenize(text, self.keep_numbers)[:max_words]
        return [self._ids.get(word, self.UNKNOWN) for word in words] or [self.UNKNOWN]

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that have no id, in order, each once."""
        words = tokenize(text, self.keep_numbers)
        return list(dict.fromkeys(word for word in words if word not in self._ids))

    def to_dict(self) -> dict[str, Any]:
        """For JSON and checkpoints; from_dict reads it."""
        return {"words": list(self.words), "keep_numbers": self.keep_numbers}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Vocabulary:
        """The vocabulary that to_dict saved; DataError if `saved` is something else."""
        if set(saved) != {"words", "keep_numbers"}:
            raise DataError(
                f"A saved vocabulary has the fields words and keep_numbers, not {sorted(saved)}. "
                "Save it with Vocabulary.to_dict."
            )
        return cls(saved["words"], saved["keep_numbers"])


def read_glove(
    path: Path, words: Sequence[str], cache: Path | None = None
) -> tuple[np.ndarray, list[str]]:
    """The vectors of `words` from a GloVe text file, and the words that it lacks.

    Returns float32 (len(words), D), rows of zeros for the missing, and the missing in order.
    D is read off the first line. Words are looked up as they are: the 840B file tells
    "apple" from "Apple", and tokenize gives lower case. Where the file has a word twice, the
    first counts. Only lines that are needed are parsed, and reading stops with the last of them.

    With `cache`, a folder, the result is kept there, under the identity of the file (path, size,
    time of change) and of the words; 5 GB of text are read once.
    DataError where a file is missing or a needed line is not a word and D finite numbers.
    """
    path = Path(path)
    require_file(path, GLOVE_REMEDY)
    if cache is None:
        vectors, found = _parse_glove(path, words)
    else:
        kept = Path(cache) / f"glove-{_cache_key(path, words)}.npz"
        if not kept.exists():
            _write_cache(kept, *_parse_glove(path, words))
        vectors, found = _read_cache(kept, len(words))
    return vectors, [word for word, there in zip(words, found, strict=True) if not there]


def _parse_glove(path: Path, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """float32 (len(words), D) and bool (len(words),), True where the file has the word."""
    vectors: dict[bytes, np.ndarray] = {}
    with path.open("rb") as file:
        size, lines = select_glove_lines(file, words, path)
        for number, word, line in lines:
            numbers = line.rstrip().rsplit(b" ", size)[1:]
            vectors[word] = _vector(numbers, size, f"{path.absolute()}: line {number}")
    table = np.zeros((len(words), size), dtype=np.float32)
    for row, word in enumerate(words):
        table[row] = vectors.get(word.encode(), 0.0)
    return table, np.array([word.encode() in vectors for word in words], dtype=bool)


def select_glove_lines(
    file: BinaryIO, words: Sequence[str], path: Path
) -> tuple[int, Iterator[tuple[int, bytes, bytes]]]:
    """D, and the lines of `words` in an opened GloVe text: the line's number, its word, the line.

    `path` is for messages. DataError where the first line is not a word and its vector, or where
    a line is too long for one.
    """
    first = file.readline(MAX_LINE)
    size = _vector_size(path, first)
    return size, _select(file, first, {word.encode() for word in words}, size, path)


def _select(
    file: BinaryIO, first: bytes, wanted: set[bytes], size: int, path: Path
) -> Iterator[tuple[int, bytes, bytes]]:
    # A token may contain spaces (". . ."), so what stands before the first one only rules out.
    heads = {word.split(b" ", 1)[0] for word in wanted}
    # A file without line ends would be read into memory as one line.
    lines = chain([first], iter(lambda: file.readline(MAX_LINE), b""))
    for number, line in enumerate(lines, start=1):
        if len(line) == MAX_LINE:
            raise DataError(
                f"{path.absolute()}: line {number} has {MAX_LINE:,} bytes or more. {GLOVE_REMEDY}"
            )
        if line.split(b" ", 1)[0].rstrip() not in heads:
            continue
        word = line.rstrip().rsplit(b" ", size)[0]
        if word in wanted:
            yield number, word, line
            wanted.remove(word)
            if not wanted:
                return


def _vector_size(path: Path, first_line: bytes) -> int:
    """D: how many numbers follow the first line's word."""
    size = len(first_line.split(b" ")) - 1
    if not 2 <= size <= MAX_VECTOR:
        raise DataError(
            f"{path.absolute()}: line 1 is not a word and its vector but {first_line[:40]!r}. "
            f"Take off a header (word2vec's and fastText's), or: {GLOVE_REMEDY}"
        )
    return size


def _vector(numbers: list[bytes], size: int, where: str) -> np.ndarray:
    try:
        vector = np.array([float(number) for number in numbers], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: {error}. {GLOVE_REMEDY}") from error
    if len(vector) != size or not np.isfinite(vector).all():
        raise DataError(f"{where}: not {size} finite numbers. {GLOVE_REMEDY}")
    return vector


def _cache_key(path: Path, words: Sequence[str]) -> str:
    status = path.stat()
    identity = [str(path.resolve()), status.st_size, status.st_mtime_ns, list(words)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _write_cache(path: Path, vectors: np.ndarray, found: np.ndarray) -> None:
    """Write beside `path` first and rename then: nobody ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".unfinished")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, vectors=vectors, found=found)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def _read_cache(path: Path, words: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as kept:
            vectors, found = kept["vectors"], kept["found"]
    except Exception as error:  # a damaged zip file can raise nearly every kind of error
        raise DataError(f"{path.absolute()}: not readable ({error}). Delete it.") from error
    if vectors.dtype != np.float32 or vectors.shape[:1] != (words,) or found.shape != (words,):
        raise DataError(f"{path.absolute()}: not the vectors of {words} words. Delete it.")
    return vectors, found
