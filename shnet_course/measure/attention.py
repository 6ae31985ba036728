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
from shnet_course.measure.scene_graph import SceneGraph
from shnet_lib.data import Expression
from shnet_lib.data.dataset import ImageBatchSampler, collate
from shnet_lib.data.text import tokenize
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import evaluating, probability_at, to_device

BLOCKS = ("pixel-pixel", "pixel-word", "word-pixel", "word-word")  # who asks, who is asked
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"} | {
    "leftmost": "rightmost", "rightmost": "leftmost", "highest": "lowest", "lowest": "highest",
    "upper": "lower", "lower": "upper", "above": "below", "below": "above",
    "over": "under", "under": "over",
}  # fmt: skip
ACROSS = ("left", "right", "leftmost", "rightmost")
TOWARDS_ZERO = ("left", "leftmost", "top", "highest", "upper", "above", "over")  # of x, of y


def _flat(rows: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset(word for row in rows for word in row)


KINDS = {  # of the words of RefShapes; every other word is a "function" word
    "shape": _flat(sentences.NOUNS.values()),
    "colour": frozenset(COLOURS),
    "size": _flat(sentences.SIZES.values()) | {"biggest", "largest", "smallest"},
    "pattern": _flat(sentences.PATTERNS.values()) | {"stripes", "dots"},
    "place": frozenset(OPPOSITE) | {"second", "2nd", "third", "3rd"},
    "ground": _flat(sentences.GROUNDS.values()),
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

    def pixels_over_words(self) -> np.ndarray:
        """Where the pixels stand that take from each word; shaped and scaled the same."""
        return self._maps(self.block("pixel-word").swapaxes(-1, -2))

    def _maps(self, block: np.ndarray) -> np.ndarray:
        maps = block / block.sum(-1, keepdims=True)
        return maps.reshape(*maps.shape[:-1], self.grid, self.grid)


def attend(
    trained: TrainedSHNet, expressions: Sequence[Expression], batch_size: int = 32
) -> Iterator[Look]:
    """The looks of a trained network, one an expression and in their order, made as they are read.

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


def shrink(masks: np.ndarray, grid: int) -> np.ndarray:
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


def centres(maps: np.ndarray) -> np.ndarray:
    """Where maps that sum to 1 have their middle: (..., H, W) -> (..., 2), x and y in 0 .. 1."""
    height, width = maps.shape[-2:]
    x = (maps.sum(-2) * (np.arange(width) + 0.5)).sum(-1) / width
    y = (maps.sum(-1) * (np.arange(height) + 0.5)).sum(-1) / height
    return np.stack([x, y], axis=-1)


def agreement(look: Look) -> np.ndarray:
    """Do words look where they are looked at from? (levels, layers), the mean over the words.

    The correlation, over the grid's cells, of what a word takes from the pixels with what the
    pixels take from it.
    """
    given, taken = look.words_over_pixels(), look.pixels_over_words()
    given, taken = (maps - maps.mean((-1, -2), keepdims=True) for maps in (given, taken))
    covariance = (given * taken).mean((-1, -2))
    return (covariance / (given.std((-1, -2)) * taken.std((-1, -2)))).mean(-1)


def kind_of_word(word: str) -> str:
    """One of KINDS, or "function": the, on, not, thing, from ..."""
    return next((kind for kind, words in KINDS.items() if word in words), "function")


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
    *(("size", size, words) for size, words in sentences.SIZES.items()),
    *(("pattern", pattern, words) for pattern, words in sentences.PATTERNS.items()),
    *(("pattern", pattern, words.split()) for pattern, words in sentences.WITH.items()),
)


# --- what is measured of many looks ---------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The numbers of one look. All but the last hold a level and a layer each, in this order."""

    image: int | str
    words: list[str]
    target: int  # the element referred to; smaller than len(things) if it is a thing
    things: tuple[Thing, ...]
    word_lifts: np.ndarray  # (levels, layers, T, things): what each word gives to each thing
    pixel_lifts: np.ndarray  # (levels, layers, things): what the empty background gives to them
    received: np.ndarray  # (levels, layers, T): from the other words; 1 is an even share
    word_centres: np.ndarray  # (levels, layers, T, 2): middle of what each word looks at, x and y
    answer_centre: np.ndarray  # (2,): middle of the answer's probability


def measure(look: Look, graph: SceneGraph) -> Measured:
    """Reduce a look to what the statistics need. Raises DataError if the graph is another's."""
    things = graph.scene.things
    covers = shrink(graph.masks[: len(things)], look.grid)
    maps = look.words_over_pixels()
    empty = (1 - covers.sum(0)).clip(0).ravel()
    given = (look.block("pixel-pixel") * empty[:, None]).sum(-2)  # (levels, layers, H * W)
    given = (given / given.sum(-1, keepdims=True)).reshape(*given.shape[:-1], *covers.shape[1:])
    return Measured(
        look.expression.image_id,
        look.words,
        graph.target(look.expression),
        things,
        lifts(maps, covers),
        lifts(given, covers),
        _received(look.block("word-word")),
        centres(maps),
        centres(look.probability / look.probability.sum()),
    )


def _received(block: np.ndarray) -> np.ndarray:
    """(levels, layers, T, T) -> (levels, layers, T): each word's share of the others' attention.

    What a word takes from itself is left out; of T words, each then gets 1 from an even look. NaN
    where there is one word only.
    """
    count = block.shape[-1]
    if count == 1:
        return np.full(block.shape[:-1], np.nan)
    others = block * (1 - np.eye(count))
    return (others / others.sum(-1, keepdims=True)).sum(-2)


@dataclass(frozen=True)
class Sample:
    """One value of a statistic for each case, by level and layer, and the scene it comes from."""

    values: np.ndarray  # (cases, levels, layers)
    scenes: np.ndarray  # (cases,)

    def __sub__(self, other: "Sample") -> "Sample":
        """Case by case: both have to be of the same cases."""
        if not np.array_equal(self.scenes, other.scenes):
            raise ValueError("these samples are of different cases: there are no pairs to compare")
        return Sample(self.values - other.values, self.scenes)


def _sample(cases: list[tuple[int | str, np.ndarray]]) -> Sample:
    if not cases:
        raise ValueError("no phrase gives a case of this kind: measure more of them")
    return Sample(np.stack([value for _, value in cases]), np.array([scene for scene, _ in cases]))


def named_and_others(measured: Iterable[Measured], kind: str) -> tuple[Sample, Sample]:
    """The lift that words of a kind give the thing referred to, and the other things of its size.

    A case is a word of a phrase that refers to a thing, in a scene with another thing that is as
    big or as small. The others' lift is their mean.
    """
    named, others = [], []
    for each in measured:
        if each.target >= len(each.things):
            continue
        size = each.things[each.target].size
        rest = [i for i, t in enumerate(each.things) if t.size == size and i != each.target]
        for place, word in enumerate(each.words if rest else ()):
            if kind_of_word(word) == kind:
                lift = each.word_lifts[:, :, place]  # (levels, layers, things)
                named.append((each.image, lift[..., each.target]))
                others.append((each.image, lift[..., rest].mean(-1)))
    return _sample(named), _sample(others)


def when_named(measured: Iterable[Measured], asking: str) -> Sample:
    """A thing's lift when a phrase means it, less its lift when phrases mean other things.

    A case is a thing; its size, colour and place are the same on both sides. `asking` is "words"
    (the mean of all words of a phrase) or "pixels" (those of the empty background).
    """
    found: dict[tuple, dict[bool, list]] = {}
    for each in measured:
        lift = each.word_lifts.mean(2) if asking == "words" else each.pixel_lifts
        for thing in range(len(each.things)):
            sides = found.setdefault((each.image, thing), {True: [], False: []})
            sides[each.target == thing].append(lift[..., thing])
    return _sample(
        [
            (image, np.mean(sides[True], 0) - np.mean(sides[False], 0))
            for (image, _), sides in found.items()
            if sides[True] and sides[False]
        ]
    )


def namesakes(measured: Iterable[Measured]) -> Sample:
    """What a shape's word gives to things it fits but does not mean, less what it gives to others.

    A case is a phrase with the shape of its thing, in a scene with another thing of this shape and
    one of another shape.
    """
    cases = []
    for each in measured:
        meant = each.things[each.target] if each.target < len(each.things) else None
        for place, word in enumerate(each.words if meant else ()):
            if kind_of_word(word) != "shape" or rules_out(word, [meant]) != 0:
                continue
            fit = [rules_out(word, [thing]) == 0 for thing in each.things]
            same = [i for i, fits in enumerate(fit) if fits and i != each.target]
            rest = [i for i, fits in enumerate(fit) if not fits]
            if same and rest:
                lift = each.word_lifts[:, :, place]
                cases.append((each.image, lift[..., same].mean(-1) - lift[..., rest].mean(-1)))
    return _sample(cases)


def received_by(measured: Iterable[Measured], kind: str) -> Sample:
    """The attention that words of a kind get from the other words; 1 is an even share."""
    return _sample(
        [
            (each.image, each.received[:, :, place])
            for each in measured
            if len(each.words) > 1
            for place, word in enumerate(each.words)
            if kind_of_word(word) == kind
        ]
    )


def telling_word(measured: Iterable[Measured]) -> Sample:
    """What the word that rules out most things gets from the others, less what the weakest gets.

    A case is a phrase with two or more words for shape, colour, size or pattern that do not rule
    out equally many of the scene's things.
    """
    cases = []
    for each in measured:
        counts = {place: rules_out(word, each.things) for place, word in enumerate(each.words)}
        counts = {place: count for place, count in counts.items() if count is not None}
        if len(set(counts.values())) > 1:
            best, worst = max(counts, key=counts.get), min(counts, key=counts.get)
            cases.append((each.image, each.received[:, :, best] - each.received[:, :, worst]))
    return _sample(cases)


def turned(text: str) -> str | None:
    """The phrase with its side word turned round, "left star" -> "right star".

    None where it has no such word, or several.
    """
    words = tokenize(text)
    if sum(word in OPPOSITE for word in words) != 1:
        return None
    return " ".join(OPPOSITE.get(word, word) for word in words)


def side_shifts(
    measured: Iterable[Measured], turned_round: Iterable[Measured], across: bool
) -> dict[str, Sample]:
    """How far looks move to the side that a word names, against the same phrase `turned`.

    In picture sides, for "left", "right" ... if `across`, else for "top", "above", "bottom" ...

    Phrases of one word are left out. Returns samples of the same cases: "side word" (the word
    itself), "other words" (the mean of the phrase's other words), "wrong axis" (the word itself, at
    right angles) and "answer" (the middle of what is marked).
    """
    cases: dict[str, list] = {"side word": [], "other words": [], "wrong axis": [], "answer": []}
    for one, other in zip(measured, turned_round, strict=True):
        place = next(i for i, word in enumerate(one.words) if word in OPPOSITE)
        rest = [i for i in range(len(one.words)) if i != place]
        word = one.words[place]
        if (word in ACROSS) != across or not rest:
            continue
        axis, sign = (0 if across else 1), (-1 if word in TOWARDS_ZERO else 1)
        moved = sign * (one.word_centres - other.word_centres)  # (levels, layers, T, 2)
        answer = sign * (one.answer_centre - other.answer_centre)[axis]
        for name, value in (
            ("side word", moved[:, :, place, axis]),
            ("other words", moved[:, :, rest, axis].mean(-1)),
            ("wrong axis", moved[:, :, place, 1 - axis]),
            ("answer", np.full(moved.shape[:2], answer)),
        ):
            cases[name].append((one.image, value))
    return {name: _sample(found) for name, found in cases.items()}


# --- how sure one can be --------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A mean and where 95 % of the means of resampled scenes lie."""

    mean: float
    low: float
    high: float
    cases: int
    scenes: int

    def __str__(self) -> str:
        return (
            f"{self.mean:6.2f}  [{self.low:5.2f}, {self.high:5.2f}]  "
            f"{self.cases} cases in {self.scenes} scenes"
        )


def interval(sample: Sample, resamples: int = 2000) -> Interval:
    """The mean over cases, levels and layers, with the 95 % interval of a bootstrap over scenes.

    Phrases of one scene are no independent cases: whole scenes are drawn, with replacement.
    """
    values = sample.values.mean((1, 2))
    _, scene = np.unique(sample.scenes, return_inverse=True)
    sums, counts = np.bincount(scene, values), np.bincount(scene)
    random = np.random.default_rng(0)
    drawn = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), resamples)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high), len(values), len(counts))


def report(samples: dict[str, Sample]) -> str:
    """A line each: mean, 95 % interval, and of how many cases."""
    width = max(map(len, samples))
    return "\n".join(f"{name:{width}} {interval(sample)}" for name, sample in samples.items())
