"""What SFM's attention looks at, and what can be said of it that is more than one picture.

A row of an attention map asks, a column is asked. One sequence holds pixels and words, so that a
map has four blocks; "word-pixel" is what words take from pixels. Figure 7 of the paper shows three.

A *lift* says how much attention a thing gets for its size: 1 is what a look spread evenly over the
picture would give it, 2 twice that. So a large thing has no advantage over a small one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from refgen.refshapes import sentences
from refgen.refshapes.scene import COLOURS, Thing
from shnet_lib.data import Expression
from shnet_lib.data.dataset import ImageBatchSampler, collate
from shnet_lib.data.text import tokenize
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import evaluating, probability_at, to_device

BLOCKS = ("pixel-pixel", "pixel-word", "word-pixel", "word-word")  # who asks, who is asked


def _flattened(rows: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset(word for row in rows for word in row)


WORD_KINDS = {  # of the words of RefShapes; every other word is a "function" word
    "shape": _flattened(sentences.NOUNS.values()),
    "colour": frozenset(COLOURS),
    "size": _flattened(sentences.SIZE_TEXTS.values()) | {"biggest", "largest", "smallest"},
    "pattern": _flattened(sentences.PATTERN_TEXTS.values()) | {"stripes", "dots"},
    "place": frozenset(
        "left right top bottom leftmost rightmost highest lowest upper lower above below over "
        "under second 2nd third 3rd".split()
    ),
    "ground": _flattened(sentences.GROUNDS.values()),
}


@dataclass(frozen=True)
class Look:
    """One phrase on one picture: who looked at what, and the answer."""

    expression: Expression
    words: list[str]  # T of them, as the network read them
    grid: int  # H = W
    weights: np.ndarray  # (levels, layers, N, N), the mean of the heads; a row sums to 1
    probability: np.ndarray  # (height, width) of the picture

    @property
    def pixels(self) -> int:
        """H * W: so many tokens are pixels, row by row; the words come behind them."""
        return self.grid**2

    def block(self, name: str) -> np.ndarray:
        """(levels, layers, asking, asked) of one of BLOCKS. ValueError where there is none such."""
        if name not in BLOCKS:
            raise ValueError(f"there is no block {name!r}; there are {', '.join(BLOCKS)}")
        part = {"pixel": slice(None, self.pixels), "word": slice(self.pixels, None)}
        asking, asked = name.split("-")
        return self.weights[:, :, part[asking], part[asked]]

    def words_over_pixels(self) -> np.ndarray:
        """What each word takes from each pixel, (levels, layers, T, H, W); each map sums to 1."""
        return self._maps(self.block("word-pixel"))

    def pixels_over_pixels(self, asking: np.ndarray) -> np.ndarray:
        """What the pixels that ask, (H, W) with a weight each, take together from each pixel.

        (levels, layers, H, W); each map sums to 1.
        """
        return self._maps((self.block("pixel-pixel") * asking.reshape(-1, 1)).sum(-2))

    def _maps(self, block: np.ndarray) -> np.ndarray:
        maps = block / block.sum(-1, keepdims=True)
        return maps.reshape(*maps.shape[:-1], self.grid, self.grid)


def attend(
    trained: TrainedSHNet, expressions: Sequence[Expression], batch_size: int = 32
) -> Iterator[Look]:
    """The looks of a trained network, one per expression and in their order, made as they are read.

    Expressions of one picture should stand together: the picture is then read once.

    Raises:
        ValueError: the network has no SFM.
        DataError: a picture cannot be read.
    """
    network, config = trained.network, trained.config
    if network.sfm is None:
        raise ValueError('this network has no SFM to look into: its model.sfm is "none"')
    dataset = trained.evaluation_set(expressions)
    sampler = ImageBatchSampler(dataset, batch_size, batch_size, training=False)
    device = next(network.parameters()).device
    waiting: dict[int, Look] = {}  # the sampler goes by pictures
    due = 0
    for batch in DataLoader(dataset, batch_sampler=sampler, collate_fn=collate):
        with evaluating(network), torch.inference_mode():
            mask_logits, attention = network(to_device(batch, device), return_attention=True)
        weights = torch.stack([torch.stack(level).mean(2) for level in attention])
        weights = weights.float().cpu().numpy()  # (levels, layers, B, N, N), N with padding
        for b, index in enumerate(batch["expression_index"].tolist()):
            expression = dataset.expressions[index]
            words = tokenize(expression.text, trained.vocabulary.keep_numbers)[: config.max_words]
            tokens = config.model.grid**2 + len(words)
            size = expression.height, expression.width
            waiting[index] = Look(
                expression,
                words,
                config.model.grid,
                weights[:, :, b, :tokens, :tokens],
                probability_at(mask_logits[b : b + 1].float(), size)[0].cpu().numpy(),
            )
        while due in waiting:
            yield waiting.pop(due)
            due += 1


def shrink_to_grid(masks: np.ndarray, grid: int) -> np.ndarray:
    """How much of each cell each mask covers: (M, height, width) -> (M, grid, grid)."""
    planes = torch.from_numpy(np.ascontiguousarray(masks)).float()[None]
    return F.interpolate(planes, size=(grid, grid), mode="area")[0].numpy()


def lifts(maps: np.ndarray, covers: np.ndarray) -> np.ndarray:
    """The lift of M things in any number of maps: (..., H, W), (M, H, W) -> (..., M).

    Each map sums to 1. NaN where a thing covers nothing.
    """
    got = np.einsum("...hw,mhw->...m", maps, covers)
    fair = covers.mean((1, 2))
    return np.divide(got, fair, out=np.full_like(got, np.nan), where=fair > 0)


def kind_of_word(word: str) -> str:
    """One of WORD_KINDS, or "function": the, on, not, thing, from ..."""
    return next((kind for kind, words in WORD_KINDS.items() if word in words), "function")


def rules_out(word: str, things: Sequence[Thing]) -> int | None:
    """How many of the things a shape, colour, size or pattern word does not fit.

    None for words that say nothing of a thing alone: "left", "biggest", "on".
    """
    for name, plain, synonyms in _SAID:
        if word != "with" and (word == plain or word in synonyms):
            return sum(getattr(thing, name) != plain for thing in things)
    return None


_SAID = (  # attribute, its value, the other words for it
    *(("shape", shape, nouns) for shape, nouns in sentences.NOUNS.items()),
    *(("colour", colour, ()) for colour in COLOURS),
    *(("size", size, words) for size, words in sentences.SIZE_TEXTS.items()),
    *(("pattern", pattern, words) for pattern, words in sentences.PATTERN_TEXTS.items()),
    *(("pattern", pattern, words.split()) for pattern, words in sentences.WITH_PATTERN.items()),
)


def received(block: np.ndarray) -> np.ndarray:
    """Of a word-word block, each word's share of the others' attention: (..., T, T) -> (..., T).

    What a word takes from itself is left out; of T words, each then gets 1 from an even look. NaN
    where there is one word only.
    """
    count = block.shape[-1]
    if count == 1:
        return np.full(block.shape[:-1], np.nan)
    others = block * (1 - np.eye(count))
    return (others / others.sum(-1, keepdims=True)).sum(-2)
