"""Checks of the exercises: is the answer right, and if not, which mistake is it?

    check("attention", attention)

runs the learner's `attention` on fresh random inputs beside a reference. An answer is right if it
gives the same numbers, however it is written. A wrong one is compared with the well-known wrong
ones: each check carries its misconceptions as *functions that make them*, so that the message can
name the one that was made. `add_exercise` makes a check known; those of lesson 03 stand in
lesson_03.py.
"""

import copy
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from shnet_course.pictures.base import show
from shnet_course.progress import remember

TRIALS = 5  # fresh inputs per check
FRESH_SEED = random.SystemRandom()  # the seed of a check, whatever the learner has seeded

Batch = dict[str, Tensor]  # what a network reads


class CheckFailed(AssertionError):
    """A wrong answer. In a notebook it is one line, not a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"\x1b[31mNot yet:\x1b[0m {self}"]


def _call(answer: Callable[..., Any], *inputs: Any) -> Any:
    __tracebackhide__ = True
    return answer(*inputs)


@dataclass(frozen=True)
class Exercise:
    """A reference, how to make inputs for it, and the mistakes that are known.

    `mistakes` maps what to tell the learner to a function that makes the mistake. `draw`, if given,
    makes a figure of (target, answer) for what is better seen than read. `ask` puts the question to
    an answer, the reference and the mistakes alike: for answers that give no numbers themselves, a
    module say, it uses what they give and returns what is to be seen then.
    """

    reference: Any
    make_inputs: Callable[[random.Random], tuple]
    mistakes: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Any, Any], tuple[Figure, str]] | None = None
    ask: Callable[..., Any] = _call
    tolerance: float = 1e-4


@dataclass(frozen=True)
class Contest:
    """An answer that has to be better than another one, not equal to a reference.

    `play` gets the answer and a seed. It returns what to tell of a won contest, and raises
    CheckFailed where the answer breaks a rule or loses.
    """

    play: Callable[[Any, int], str]


EXERCISES: dict[str, Exercise | Contest] = {}
LESSONS: dict[str, list[str]] = {}  # lesson -> the names of its checks


def seed_torch(source: random.Random) -> None:
    torch.manual_seed(source.randrange(10**6))


def padded_words(source: random.Random, phrases: int) -> Tensor:
    """A word_mask (B, 4) bool; every phrase has padding, and the phrases differ in length."""
    lengths = torch.tensor(source.sample([1, 2, 3], k=phrases))
    return torch.arange(4) < lengths[:, None]


def add_exercise(lesson: str, name: str, exercise: Exercise | Contest) -> None:
    """Make a check known by its name. A name is given once."""
    if name in EXERCISES:
        raise ValueError(f"there is a check {name!r} already")
    EXERCISES[name] = exercise
    LESSONS.setdefault(lesson, []).append(name)


def check(name: str, answer: Any, seed: int | None = None) -> None:
    """Try an answer on fresh inputs; print a line if it is right, and remember that.

    Args:
        answer: a function as a rule, or what else the exercise asks for.
        seed: of the inputs; a failed check tells its own, so that it can be repeated. A contest
            has the seed 0 unless told otherwise, so that a score compares with the one before.

    Raises:
        CheckFailed: the answer is wrong; the message says how.
        What the answer itself raises, NotImplementedError("your turn: ...") among it.
    """
    __tracebackhide__ = True  # what an answer raises is shown in the answer, not on the way to it
    exercise = EXERCISES[name]
    # The learner's cells draw on as if there had been no check, which seeds torch for its inputs.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if isinstance(exercise, Contest):
            told = exercise.play(answer, seed or 0)
        else:
            judge_answer(exercise, answer, FRESH_SEED.randrange(10**6) if seed is None else seed)
            told = f"right on {TRIALS} fresh inputs"
    remember(name)
    print(f"✓ {name}: {told}")


def judge_answer(exercise: Exercise, answer: Any, seed: int) -> None:
    """Compare an answer with the reference on `TRIALS` fresh inputs.

    Raises:
        CheckFailed: with the name of the mistake if it is a known one.
    """
    __tracebackhide__ = True
    source = random.Random(seed)
    for trial in range(TRIALS):
        seed_torch(source)  # for answers that draw numbers themselves
        inputs = exercise.make_inputs(source)
        target = exercise.ask(exercise.reference, *copy.deepcopy(inputs))
        given = copy.deepcopy(inputs)
        found = exercise.ask(answer, *given)
        if (problem := difference(target, found, exercise.tolerance)) is None:
            if difference(inputs, given, 0.0) is not None:
                raise CheckFailed("your answer is right, but it changes its inputs: copy them")
            continue
        if exercise.draw and type(found) is type(target) and np.shape(found) == np.shape(target):
            figure, alt = exercise.draw(target, found)
            show(figure, alt)
        for message, mistake in exercise.mistakes.items():
            if _makes(exercise, mistake, inputs, found):
                raise CheckFailed(f"{message} (check(..., seed={seed}) repeats this)")
        raise CheckFailed(f"{problem} (trial {trial + 1}; check(..., seed={seed}) repeats this)")


def _makes(exercise: Exercise, mistake: Any, inputs: tuple, found: Any) -> bool:
    """Whether a known mistake gives what was found. A mistake may be impossible on some inputs.

    What it warns of is kept from the learner, who may have made another one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = exercise.ask(mistake, *copy.deepcopy(inputs))
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        return False
    return difference(made, found, exercise.tolerance) is None


def difference(target: Any, found: Any, tolerance: float) -> str | None:
    """How two results differ, in words; None if they agree.

    Tensors, arrays and numbers agree within the tolerance (relative and absolute); dtypes of one
    kind (whole, floating, bool) are not told apart. Sequences and dicts agree if their items do.
    """
    if isinstance(target, Mapping):
        wanted = f"a dict with the keys {sorted(target, key=str)} is wanted"
        if not isinstance(found, Mapping):
            return f"{wanted}, not {_kind(found)}"
        if target.keys() != found.keys():
            return f"{wanted}, those of yours are {sorted(found, key=str)}"
        parts = [(f"[{key!r}]", target[key], found[key]) for key in target]
    elif isinstance(target, Sequence) and not isinstance(target, str):
        if not isinstance(found, Sequence) or isinstance(found, str):
            return (
                f"{len(target)} results in a {type(target).__name__} are wanted, not {_kind(found)}"
            )
        if len(target) != len(found):
            return f"{len(target)} results are wanted, {len(found)} came"
        parts = [(f"[{i}]", t, f) for i, (t, f) in enumerate(zip(target, found, strict=True))]
    else:
        return _difference_of_values(target, found, tolerance)
    for place, wanted, came in parts:
        if problem := difference(wanted, came, tolerance):
            return f"in result{place}: {problem}"
    return None


def _difference_of_values(target: Any, found: Any, tolerance: float) -> str | None:
    if found is None and target is not None:
        return "it returns None: is there a `return`?"
    if not isinstance(target, (Tensor, np.ndarray, int, float, bool, np.generic)):
        return None if target == found else f"{target!r} is wanted, {found!r} came"
    try:
        wanted, came = _as_array(target), _as_array(found)
    except (TypeError, ValueError):
        return f"{_kind(target)} is wanted, {_kind(found)} came"
    if wanted.shape != came.shape:
        return f"the shape {wanted.shape} is wanted, {came.shape} came"
    if wanted.dtype.kind == "b" and came.dtype.kind != "b":
        return f"True and False are wanted, {came.dtype} came"
    if came.dtype.kind == "f" and not np.isfinite(came).all() and np.isfinite(wanted).all():
        return "it holds NaN or infinite numbers"
    # A reference holds no NaN; a known mistake may, and is told by having it in the same places.
    close = np.isclose(
        came.astype(float), wanted.astype(float), rtol=tolerance, atol=tolerance, equal_nan=True
    )
    if close.all():
        return None
    place = tuple(int(i) for i in np.argwhere(~close)[0])
    at = f" at {list(place)}" if place else ""
    share = f", and {(~close).mean():.0%} of the numbers differ" if close.size > 1 else ""
    return f"{_told(wanted[place])} is wanted{at}, {_told(came[place])} came{share}"


def _told(value: np.generic) -> str:
    return str(value) if value.dtype.kind == "b" else f"{value:.5g}"


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, (np.ndarray, int, float, bool, np.generic)):
        raise TypeError
    return np.asarray(value)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
