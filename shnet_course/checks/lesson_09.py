"""The checks of exercise 09: maps of words, looks with a control, families and kinds of answers."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shnet_course.checks.core import Exercise, add_exercise, seed_torch
from shnet_course.pictures.checks import compare_maps

LESSON = "09_looking_inside"

# --- maps of words --------------------------------------------------------------------------------


def _attention(source: random.Random) -> tuple[Tensor, Tensor, int, int]:
    """(B, heads, N, N) of a grid that is no square, whose heads differ in how they share.

    One phrase of the batch is a word long, so that each batch has padding.
    """
    seed_torch(source)
    (height, width), words = source.choice([(2, 4), (3, 2), (4, 3)]), 3
    pixels = height * width
    lengths = torch.tensor([1, words])
    word_mask = torch.arange(words) < lengths[:, None]
    scores = torch.randn(2, 2, pixels + words, pixels + words)
    scores[:, 0, :, pixels:] += 3  # the first head looks at words
    keep = torch.cat((word_mask.new_ones(2, pixels), word_mask), dim=1)  # (B, N)
    scores = scores.masked_fill(~keep[:, None, None], float("-inf"))
    return scores.softmax(-1), word_mask, height, width


def words_over_pixels(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    """(B, heads, N, N), (B, T) -> (B, T, H, W): what words take from pixels, each map's sum 1."""
    return _maps(attention.mean(1)[:, height * width :, : height * width], word_mask, height, width)


def _maps(given: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    """(B, T, H*W) -> (B, T, H, W), scaled, 0 for padding."""
    maps = given / given.sum(-1, keepdim=True)
    return (maps * word_mask[..., None]).unflatten(-1, (height, width))


def _each_head_scaled(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    given = attention[:, :, height * width :, : height * width]
    given = (given / given.sum(-1, keepdim=True)).mean(1)
    return _maps(given, word_mask, height, width)


def _from_pixels(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    """Nobody takes anything from padding, so that its map is 0 / 0."""
    given = attention.mean(1)[:, : height * width, height * width :].mT
    return _maps(given, word_mask, height, width)


def _unscaled(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    given = attention.mean(1)[:, height * width :, : height * width]
    return (given * word_mask[..., None]).unflatten(-1, (height, width))


def _one_scale_for_all(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    maps = _unscaled(attention, word_mask, height, width)
    return maps / maps.sum((1, 2, 3), keepdim=True)


def _scaled_over_words(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    given = attention.mean(1)[:, height * width :, : height * width]
    given = given / given.sum(1, keepdim=True)
    return (given * word_mask[..., None]).unflatten(-1, (height, width))


def _brightest_is_1(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    maps = words_over_pixels(attention, word_mask, height, width)
    return maps / maps.amax((2, 3), keepdim=True).clamp(min=1e-9)


def _softmax_again(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    given = attention.mean(1)[:, height * width :, : height * width].softmax(-1)
    return _maps(given, word_mask, height, width)


def _down_the_columns(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    return words_over_pixels(attention, word_mask, width, height).mT


def _words_before_pixels(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    words = word_mask.shape[1]
    return _maps(attention.mean(1)[:, :words, words:], word_mask, height, width)


add_exercise(
    LESSON,
    "where each word looks",
    Exercise(
        words_over_pixels,
        _attention,
        {
            "you scale each head: take the mean of the heads first, then scale once": (
                _each_head_scaled
            ),
            "that is what pixels take from words: rows ask, and you want the rows of words": (
                _from_pixels
            ),
            "your maps do not sum to 1: divide by what the word gives to pixels": (_unscaled),
            "all words of a phrase share one sum: scale the map of each word by its own": (
                _one_scale_for_all
            ),
            "you divide by the sum over the words: a word's map is to sum to 1 over the pixels": (
                _scaled_over_words
            ),
            "your brightest cell is 1: each map's *sum* has to be 1": _brightest_is_1,
            "you take a softmax of shares: they are one already; divide by their sum": (
                _softmax_again
            ),
            "your grid runs down the columns: pixels come row by row": _down_the_columns,
            "you cut as if words came first: pixels come first, then words": _words_before_pixels,
            "padded words have a map: set it to 0": (
                lambda a, mask, h, w: words_over_pixels(a, torch.ones_like(mask), h, w)
            ),
        },
        lambda target, found: compare_maps(
            target.flatten(2), found.flatten(2), "words", "pixels, row by row"
        ),
    ),
)

# --- a look with a control ------------------------------------------------------------------------


def _looks_and_things(source: random.Random) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """looks and covers (5, H, W), and a ring of partners: nobody is their own.

    Things are boxes of different sizes whose outline cuts through cells; looks lean to their own.
    """
    generator = np.random.default_rng(source.randrange(10**6))
    height, width = source.choice([(4, 6), (5, 3), (6, 5)])
    covers = np.zeros((5, height, width))
    for number, cover in enumerate(covers):
        tall, wide = 1 + number % 2, 1 + number % 3  # 1 x 1 to 2 x 3 cells
        top, left = source.randrange(height - tall + 1), source.randrange(width - wide + 1)
        cover[top : top + tall, left : left + wide] = generator.uniform(0.2, 1, (tall, wide))
    looks = generator.random((5, height, width)) + covers
    order = generator.permutation(5)
    partner = np.empty(5, dtype=int)
    partner[order] = np.roll(order, 1)
    return looks / looks.sum((1, 2), keepdims=True), covers, partner


def _lift(looks: np.ndarray, covers: np.ndarray) -> np.ndarray:
    """(K, H, W) twice -> (K,): the lift of thing k in look k."""
    return (looks * covers).sum((1, 2)) / covers.mean((1, 2))


def beyond_control(looks: np.ndarray, covers: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """(K,): the lift of each look's own thing, less that of the partner's thing in that look."""
    return _lift(looks, covers) - _lift(looks, covers[partner])


def _shares(looks: np.ndarray, covers: np.ndarray) -> np.ndarray:
    return (looks * covers).sum((1, 2))


def _means_on(looks: np.ndarray, covers: np.ndarray) -> np.ndarray:
    return _shares(looks, covers) / covers.sum((1, 2))


def _differences(lift: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    return lambda looks, covers, partner: lift(looks, covers) - lift(looks, covers[partner])


add_exercise(
    LESSON,
    "beyond a control",
    Exercise(
        beyond_control,
        _looks_and_things,
        {
            "those are shares, not lifts: a large thing gets more, so divide by its mean cover": (
                _differences(_shares)
            ),
            "that is HW times too small: what an even look would give is the mean, not the sum of "
            "the cover": (_differences(_means_on)),
            "you moved looks and things together: keep the look, exchange the thing": (
                lambda looks, covers, p: _lift(looks, covers) - _lift(looks[p], covers[p])
            ),
            "you exchanged the looks: the control is another thing in the *same* look": (
                lambda looks, covers, p: _lift(looks, covers) - _lift(looks[p], covers)
            ),
            "your control is missing: subtract the lift of the partner's thing": (
                lambda looks, covers, p: _lift(looks, covers)
            ),
            "you subtract 1, an even look: the control is another thing, looked at as it is": (
                lambda looks, covers, p: _lift(looks, covers) - 1
            ),
            "your difference is the wrong way round: own thing less control": (
                lambda looks, covers, p: -beyond_control(looks, covers, p)
            ),
            "you divide both shares by one thing's cover: each thing has its own": (
                lambda looks, covers, p: (
                    (_shares(looks, covers) - _shares(looks, covers[p])) / covers.mean((1, 2))
                )
            ),
            "you divide by one mean for all things: each thing has its own": (
                lambda looks, covers, p: _differences(_shares)(looks, covers, p) / covers.mean()
            ),
            "you divide the lifts: subtract the control's": (
                lambda looks, covers, p: _lift(looks, covers) / _lift(looks, covers[p])
            ),
            "your control is the word whose partner k is: it is word partner[k]": (
                lambda looks, covers, p: beyond_control(looks, covers, np.argsort(p))
            ),
            "you count cells that are touched: a cell half covered counts by half": (
                lambda looks, covers, p: beyond_control(looks, (covers > 0).astype(float), p)
            ),
            "that is the mean over the cases: one number for each is wanted": (
                lambda looks, covers, p: beyond_control(looks, covers, p).mean()
            ),
        },
    ),
)

# --- families and kinds of answers ----------------------------------------------------------------


def _answers(source: random.Random) -> tuple[list[tuple[str, float]], int]:
    """Five families, one of them too small and the worst, another exactly large enough.

    By sums, by the worst single answer, by the number of failures and by name they rank otherwise.
    """
    least = source.randrange(3, 6)
    names = source.sample(["attribute", "extreme", "negation", "ordinal", "region", "relation"], 5)
    few, just, bad, fair, many = names
    ious = {
        few: [source.uniform(0.0, 0.1) for _ in range(least - 1)],
        just: [source.uniform(0.5, 0.55) for _ in range(least)],
        bad: [source.uniform(0.3, 0.35) for _ in range(3 * least)],
        fair: [0.0, 0.0] + [source.uniform(0.85, 0.9) for _ in range(2 * least)],
        many: [source.uniform(0.1, 0.2) for _ in range(4)]
        + [source.uniform(0.9, 1) for _ in range(6 * least)],
    }
    answers = [(name, iou) for name, found in ious.items() for iou in found]
    source.shuffle(answers)
    return answers, least


def _by_family(answers: list[tuple[str, float]]) -> dict[str, list[float]]:
    families: dict[str, list[float]] = {}
    for family, iou in answers:
        families.setdefault(family, []).append(iou)
    return families


def _ranked(
    answers: list[tuple[str, float]], least: int, score: Callable = np.mean, key: int = 1
) -> list[tuple[str, float]]:
    rows = [(f, float(score(i))) for f, i in _by_family(answers).items() if len(i) >= least]
    return sorted(rows, key=lambda row: row[key])


def rank_families(answers: list[tuple[str, float]], least: int) -> list[tuple[str, float]]:
    """(family, IoU) rows -> (family, mean IoU) of families of `least` answers or more, rising."""
    return _ranked(answers, least)


add_exercise(
    LESSON,
    "the failing family",
    Exercise(
        rank_families,
        _answers,
        {
            "a family of too few answers is ranked: so few fail by chance": (
                lambda answers, least: _ranked(answers, 1)
            ),
            "`least` answers are enough: you ask for more than that": (
                lambda answers, least: _ranked(answers, least + 1)
            ),
            "you sum the IoUs: then a small family is always bad; divide by how many": (
                lambda answers, least: _ranked(answers, least, np.sum)
            ),
            "you took the median: two lost answers in ten would not be seen": (
                lambda answers, least: _ranked(answers, least, np.median)
            ),
            "you took each family's worst answer: its mean decides": (
                lambda answers, least: _ranked(answers, least, np.min)
            ),
            "your best family comes first: the worst one should": (
                lambda answers, least: _ranked(answers, least)[::-1]
            ),
            "you sorted by name: sort by the mean IoU": (
                lambda answers, least: _ranked(answers, least, key=0)
            ),
        },
    ),
)


def _scene_and_answers(source: random.Random) -> tuple[np.ndarray, np.ndarray, int]:
    """Fifteen answers (15, H, W) to a scene of two things, a small one and the ground; the target.

    Each thing stands in a quarter of its own of 40 x 44 pixels: the target 10 x 10, the other 9 x
    10, the small one 4 x 5.
    """
    places = [(top, left) for top in (0, 20) for left in (0, 22)]
    quarters = iter(source.sample(places, 3))

    def box(height: int, width: int) -> np.ndarray:
        top, left = next(quarters)
        top, left = top + source.randrange(21 - height), left + source.randrange(23 - width)
        mask = np.zeros((40, 44), dtype=bool)
        mask[top : top + height, left : left + width] = True
        return mask

    target, other, small = box(10, 10), box(9, 10), box(4, 5)
    ground = ~(target | other | small)
    order = source.sample(range(4), 4)
    elements = np.stack([(target, other, small, ground)[number] for number in order])
    answers = [
        np.zeros_like(target),
        _first(target, 6),  # fewer than 0.5 % of 1,760
        _first(target, 70),  # an IoU of 0.7
        _first(target, 60),
        other,
        other | small,
        target | other,
        ground,
        np.ones_like(target),
        _first(target, 20) | _first(other, 20),
        _first(target, 30),  # an IoU of 0.3
        _first(other, 45),  # an IoU of 0.5 with another thing
        _first(target, 50) | _first(other, 45),  # half of both
        _first(target, 46) | _first(other, 49),  # IoUs of 0.31 and 0.36
        target | _first(ground, 110),  # most of it lies on the ground, which it does not fit
    ]
    return np.stack(answers), elements, order.index(0)


def _first(mask: np.ndarray, count: int) -> np.ndarray:
    """The first pixels of a mask, row by row."""
    part = np.zeros_like(mask)
    part.flat[np.flatnonzero(mask)[:count]] = True
    return part


ORDER = ("nothing", "right", "another thing", "several things", "poor outline")


def kind_of_answer(
    answer: np.ndarray,
    elements: np.ndarray,
    target: int,
    order: tuple[str, ...] = ORDER,
    least: float = 0.005,
    line: Callable = np.greater_equal,
    half: Callable = np.greater_equal,
    above: Callable = np.greater,
    fits_by_pixels: bool = False,
    fits_at_all: bool = False,
    touched: bool = False,
    of_answer: bool = False,
) -> str:
    """(H, W) bool, (M, H, W) bool, which one is meant -> the kind, by the lesson's rules.

    The other arguments make the mistakes.
    """
    shared = (elements & answer).sum((1, 2))
    ious = shared / (elements | answer).sum((1, 2))
    covered = shared / (max(answer.sum(), 1) if of_answer else elements.sum((1, 2)))
    closest = int((shared if fits_by_pixels else ious).argmax())
    holds = {
        "nothing": answer.mean() < least,
        "right": line(ious[target], 0.7),
        "another thing": closest != target and above(ious[closest], 0.5),
        "several things": ((covered > 0) if touched else half(covered, 0.5)).sum() >= 2,
        "poor outline": (fits_at_all or closest == target) and ious[target] >= 0.3,
    }
    return next((kind for kind in order if holds[kind]), "in between")


def _with(**changes) -> Callable[..., str]:
    return lambda answer, elements, target: kind_of_answer(answer, elements, target, **changes)


def _by_target_alone(answer: np.ndarray, elements: np.ndarray, target: int) -> str:
    """Whatever fits the target badly is taken for another thing."""
    order = ("nothing", "right", "poor outline")
    kind = kind_of_answer(answer, elements, target, order=order, fits_at_all=True)
    return "another thing" if kind == "in between" else kind


add_exercise(
    LESSON,
    "what kind of failure",
    Exercise(
        kind_of_answer,
        _scene_and_answers,
        {
            "an answer of no pixels, or of a few, is nothing: ask that first": (
                _with(order=ORDER[1:])
            ),
            "0.5 % of the picture is a share of 0.005, not half of the picture": _with(least=0.5),
            "an IoU of exactly 0.7 is right: 0.7 or more": _with(line=np.greater),
            "you ask for several things before another thing: keep the table's order": (
                _with(order=("nothing", "right", "several things", "another thing", "poor outline"))
            ),
            "you ask for a poor outline before several things: keep the table's order": (
                _with(order=("nothing", "right", "another thing", "poor outline", "several things"))
            ),
            "you count things that are touched: half of a thing has to be marked": (
                _with(touched=True)
            ),
            "you divide by the answer's pixels: half of the *element* has to be marked": (
                _with(of_answer=True)
            ),
            "an IoU of exactly 0.5 is not above 0.5: that is not yet another thing": (
                _with(above=np.greater_equal)
            ),
            "exactly half of an element counts: half or more": _with(half=np.greater),
            "what it fits best has the highest IoU, not the most shared pixels": (
                _with(fits_by_pixels=True)
            ),
            "a poor outline asks for two: the target fits best, and its IoU is 0.3 or more": (
                _with(fits_at_all=True)
            ),
            "a low IoU with the target is not yet another thing: one has to fit, above 0.5": (
                _by_target_alone
            ),
        },
        ask=lambda sort, answers, elements, target: [sort(a, elements, target) for a in answers],
    ),
)
