"""Sentences -> words -> ids.

Section 4.2 of the paper: at most 25 words in an expression.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from shnet_lib.data.errors import DataError

# What a letter carries: the vowel signs of Hindi or Thai, an accent that has no letter of its own.
# An emoji's variation selectors are of the same kind in Unicode, and no part of a word.
MARKS = "".join(
    mark
    for mark in map(chr, range(0x1FFFF))
    if unicodedata.category(mark) in ("Mn", "Mc") and not "\ufe00" <= mark <= "\ufe0f"
)
WORD = re.compile(rf"\w[\w{MARKS}]*")
NO_MARKS = dict.fromkeys(map(ord, MARKS))


def tokenize(text: str, keep_numbers: bool = True) -> list[str]:
    """Lower-case words: "Man's 2nd cup!" -> man, s, 2nd, cup.

    A word is a run of letters, digits and underscores with the marks on them. However an accent
    was typed, as one character or as two, the word is the same (Unicode's form NFC). Languages that
    put no spaces between words are not cut: a Chinese phrase is one word.

    `keep_numbers=False` keeps words of letters only, as the code of this field does: it loses
    "2nd", "3" and "h2o", and with them what some expressions are about.
    """
    pieces = WORD.findall(unicodedata.normalize("NFC", text).lower())
    if keep_numbers:
        return [piece for piece in pieces if any(letter.isalnum() for letter in piece)]
    return [piece for piece in pieces if piece.translate(NO_MARKS).isalpha()]


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
    ) -> "Vocabulary":
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
    def from_dict(cls, saved: dict[str, Any]) -> "Vocabulary":
        """The vocabulary that to_dict saved; DataError if `saved` is something else."""
        if set(saved) != {"words", "keep_numbers"}:
            raise DataError(
                f"A saved vocabulary has the fields words and keep_numbers, not {sorted(saved)}. "
                "Save it with Vocabulary.to_dict."
            )
        return cls(saved["words"], saved["keep_numbers"])
