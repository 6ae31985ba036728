"""python -m shnet_course.tools.word_vectors --phrases referit_query_train.json

Word vectors of how people speak about pictures, from ReferIt's training phrases: how often words
stand together in a phrase, as positive pointwise mutual information, and of that the strongest
directions (truncated SVD; Levy and Goldberg 2014, Bullinaria and Levy 2007). In GloVe's text form.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import svds

from shnet_course.measure.phrases import read_phrases
from shnet_lib.data.text import tokenize
from shnet_lib.training.prepare import SHIPPED_VECTORS

SIZE = 50
MIN_COUNT = 2  # a word that was said once shows nothing of its company
SMOOTHING = 0.75  # of how often contexts are, so that rare ones do not look important
VECTOR_SPREAD = 0.4  # root mean square of the numbers of a word, about that of GloVe's


def co_occurrences(sentences: Iterable[list[str]], words: Sequence[str]) -> csr_matrix:
    """(words, 2 words): how often each stands before and behind each, near ones counting more."""
    ids = {word: number for number, word in enumerate(words)}
    counts: Counter = Counter()
    for sentence in sentences:
        known = [(place, ids[word]) for place, word in enumerate(sentence) if word in ids]
        for place, one in known:
            for other_place, other in known:
                if place != other_place:
                    context = other + (len(words) if other_place > place else 0)
                    counts[one, context] += 1 / abs(place - other_place)
    rows, columns = np.array(list(counts)).T
    return coo_matrix(
        (list(counts.values()), (rows, columns)), shape=(len(words), 2 * len(words))
    ).tocsr()


def ppmi(counts: csr_matrix) -> csr_matrix:
    """log of how much more often two stand together than by chance; what is rarer is 0."""
    of_word = np.asarray(counts.sum(axis=1)).ravel()
    of_context = np.asarray(counts.sum(axis=0)).ravel() ** SMOOTHING
    table = counts.tocoo()
    chance = of_word[table.row] * of_context[table.col] / of_context.sum()
    gain = np.maximum(np.log(table.data / chance), 0)
    return csr_matrix((gain, (table.row, table.col)), shape=counts.shape)


def word_vectors(phrases: Iterable[str], size: int = SIZE) -> tuple[list[str], np.ndarray]:
    """The words, the frequent first, and their vectors (words, size)."""
    sentences = [tokenize(phrase) for phrase in phrases]
    frequency = Counter(word for sentence in sentences for word in sentence)
    words = sorted(
        (word for word, count in frequency.items() if count >= MIN_COUNT),
        key=lambda word: (-frequency[word], word),
    )
    table = ppmi(co_occurrences(sentences, words))
    left, strength, _ = svds(table, k=size, v0=np.ones(len(words)))
    order = np.argsort(-strength)
    vectors = left[:, order] * np.sqrt(strength[order])
    # An SVD leaves each direction's sign open.
    vectors *= np.sign(vectors[abs(vectors).argmax(axis=0), np.arange(size)])
    spread = np.sqrt((vectors**2).mean(axis=1))
    told = np.flatnonzero(spread > 1e-6)  # the others always stand alone
    return [words[i] for i in told], vectors[told] * VECTOR_SPREAD / spread[told, None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shnet_course.tools.word_vectors")
    parser.add_argument("--phrases", required=True, help="JSON of lists of phrases by region")
    parser.add_argument("--out", default=SHIPPED_VECTORS, type=Path, help="default %(default)s")
    asked = parser.parse_args()
    phrases = read_phrases(asked.phrases)
    words, vectors = word_vectors(phrases)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        " ".join([word, *(f"{number:.3f}" for number in vector)])
        for word, vector in zip(words, vectors, strict=True)
    )
    asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{asked.out}: {len(words):,} words from {len(phrases):,} phrases")


if __name__ == "__main__":
    main()
