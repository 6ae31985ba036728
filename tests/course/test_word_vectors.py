"""The shipped word vectors: what is used alike lies side by side, and GloVe's reader reads it."""

from pathlib import Path

import numpy as np
import pytest

from shnet_course.tools.word_vectors import SIZE, co_occurrences, ppmi, word_vectors
from shnet_lib.data.glove import read_glove
from shnet_lib.training.prepare import SHIPPED_VECTORS


@pytest.fixture(scope="module")
def shipped() -> tuple[list[str], np.ndarray]:
    lines = SHIPPED_VECTORS.read_text(encoding="utf-8").splitlines()
    words = [line.split(" ", 1)[0] for line in lines]
    vectors, missing = read_glove(SHIPPED_VECTORS, words)
    assert not missing
    return words, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_file_is_small_and_of_one_size(shipped):
    words, vectors = shipped
    assert SHIPPED_VECTORS.stat().st_size < 1_500_000
    assert vectors.shape == (len(words), SIZE) and len(set(words)) == len(words) > 1500


@pytest.mark.parametrize(
    "word, near",
    [
        ("left", "right"), ("lady", "woman"), ("man", "guy"), ("red", "blue"), ("2nd", "second"),
        ("cup", "bottle"), ("shirt", "jacket"), ("bottom", "top"),
    ],
)  # fmt: skip
def test_words_that_are_used_alike_are_neighbours(shipped, word, near):
    words, vectors = shipped
    first = np.argsort(-(vectors @ vectors[words.index(word)]))[1:9]
    assert near in [words[i] for i in first]


def test_counts_are_of_both_sides_and_near_words_count_more():
    table = co_occurrences([["red", "left", "cup"]], ["cup", "left", "red"]).toarray()
    assert table.tolist() == [
        [0, 1, 0.5, 0, 0, 0],  # before cup: left, and red two words away
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0.5, 1, 0],
    ]


def test_ppmi_is_zero_for_what_stands_together_by_chance_or_less():
    table = ppmi(co_occurrences([["a", "b"], ["c", "d"]], ["a", "b", "c", "d"])).toarray()
    assert table[0, 5] > 0 and table[2, 7] > 0
    assert np.count_nonzero(table) == 4


def test_words_of_one_use_get_one_vector():
    phrases = [
        f"{who} on the {side}" for who in ("man", "guy", "dog") for side in ("left", "right")
    ]
    words, vectors = word_vectors(phrases * 2, size=4)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    assert alike[words.index("man"), words.index("guy")] > 0.99
    assert alike[words.index("left"), words.index("right")] > 0.99
    assert alike[words.index("left"), words.index("guy")] < 0.5
    again = word_vectors(phrases * 2, size=4)[1]
    assert np.allclose(again, word_vectors(phrases * 2, size=4)[1])


def test_nobody_ignores_the_folder():
    ignored = Path(__file__).parents[2].joinpath(".gitignore").read_text(encoding="utf-8")
    assert "!/data/vectors/" in ignored.splitlines()
