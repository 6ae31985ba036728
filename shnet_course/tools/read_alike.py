"""Let a trained network read words that it never saw as one that it knows.

    python -m shnet_course.tools.read_alike runs/photos/best --word person --out FOLDER

Made phrases know people as "person" and no other word: annotations do not say more. In the course's
word vectors (`data/vectors/referit-50.txt`) the words that people use stand next to it: man, lady,
kid. Each word to which `--word` is the nearest of all known ones, at a cosine of 0.6 or more, gets
its trained vector. What tells a man from a lady is not learnt by it.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shnet_lib.data.glove import read_glove
from shnet_lib.data.text import Vocabulary
from shnet_lib.errors import ShnetError, report_error
from shnet_lib.training.checkpoint import TrainedSHNet, load_shnet, save_model
from shnet_lib.training.prepare import SHIPPED_VECTORS

ALIKE = 0.6  # cosine


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where something is wrong; one line says what."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network", type=Path, help="folder of the trained network")
    parser.add_argument("--word", required=True, help="a word that it knows")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the network")
    given = parser.parse_args(arguments)
    try:
        trained = load_shnet(given.network)
        if given.word not in trained.vocabulary.words:
            raise ShnetError(f"{given.network}: {given.word!r} is no word that it knows")
        words = words_like(given.word, trained.vocabulary.words, shipped_vectors())
        save_model(given.out, *read_as(trained, words, given.word), trained.card)
    except (ShnetError, FileExistsError) as error:
        return report_error(error)
    print(f"{len(words)} words are read as {given.word!r}: {', '.join(words)}")
    return 0


def shipped_vectors() -> dict[str, Tensor]:
    """The course's word vectors, (50,) each."""
    lines = SHIPPED_VECTORS.read_text(encoding="utf-8").splitlines()
    words = [line.split(" ", 1)[0] for line in lines]
    vectors, _ = read_glove(SHIPPED_VECTORS, words)
    return dict(zip(words, torch.from_numpy(vectors), strict=True))


def words_like(word: str, known: Sequence[str], vectors: Mapping[str, Tensor]) -> list[str]:
    """The unknown words of `vectors` to which `word` is the nearest known one, nearest first."""
    names = [name for name in known if name in vectors]
    rows = F.normalize(torch.stack([vectors[name] for name in names]), dim=1)  # (known, D)
    cosine = {}
    for other in vectors.keys() - set(known):
        cosines = rows @ F.normalize(vectors[other], dim=0)
        if names[int(cosines.argmax())] == word and cosines.max() >= ALIKE:
            cosine[other] = float(cosines.max())
    return sorted(cosine, key=lambda other: (-cosine[other], other))


def read_as(trained: TrainedSHNet, words: Sequence[str], word: str) -> tuple:
    """The network with `words` in its vocabulary, each with the trained vector of `word`.

    Returns:
        network, its settings, its vocabulary.
    """
    vocabulary = Vocabulary([*trained.vocabulary.words, *words], trained.vocabulary.keep_numbers)
    encoder = trained.network.word_encoder
    rows = encoder.embedding.weight.detach()  # (known, D)
    row = rows[trained.vocabulary.words.index(word)]
    more = torch.cat([rows, row.repeat(len(words), 1)])
    encoder.embedding = nn.Embedding.from_pretrained(more, freeze=False)
    return trained.network, trained.config, vocabulary


if __name__ == "__main__":
    sys.exit(main())
