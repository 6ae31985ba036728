"""Every planted mistake is rejected, and named where it has a name; every right answer passes."""

import importlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from shnet_course.checks import EXERCISES, LESSONS, CheckFailed
from shnet_course.checks.core import Contest, Exercise, judge_answer

FILES = sorted((Path(__file__).parent / "planted").glob("lesson_*.py"))
PLANTED = [importlib.import_module(f"planted.{path.stem}") for path in FILES]
MISTAKES = [
    (name, label, answer, said)
    for planted in PLANTED
    for name, mistakes in planted.MISTAKES.items()
    for label, (answer, said) in mistakes.items()
]
ALTERNATIVES = [
    (name, label, answer)
    for planted in PLANTED
    for name, answers in planted.ALTERNATIVES.items()
    for label, answer in answers.items()
]
REFERENCES = [
    (name, "the reference", each.reference)
    for name, each in EXERCISES.items()
    if isinstance(each, Exercise)
]


def named(name, message):
    """Whether a planted answer has to be told `message`: it then gives what that mistake gives."""
    return any(said and said in message for other, _, _, said in MISTAKES if other == name)


UNNAMED = [
    (name, message, mistake, None)
    for name, each in EXERCISES.items()
    if isinstance(each, Exercise)
    for message, mistake in each.mistakes.items()
    if not named(name, message)
]
WITH_NETWORKS = {
    "freeze a backbone",
    "the forward pass",
    "one training step",
    "gradient accumulation",
    "stop and go on",
    "the baseline from parts",
    "a step in sixteen bits",
    "find the waits",
}


TRAINED = {"the mean of the levels", "gated levels"}  # a contest trains two networks for these


def seeds_of(name, label):
    """How many seeds the fast tests try, and how many the slow ones go on to.

    Fewer where each seed builds networks, and one where it trains them."""
    if isinstance(EXERCISES[name], Contest):
        return (0, 1) if label in TRAINED else (1, 1)
    return (1, 5) if name in WITH_NETWORKS else (4, 20)


def in_two_tiers(cases):
    """Each case on the first seeds, and among the slow tests on the rest."""
    found = []
    for name, label, *answer in cases:
        few, many = seeds_of(name, label)
        said = f"{name}: {label}"
        more = pytest.param(
            name, *answer, range(few, many), id=f"{said}, more seeds", marks=pytest.mark.slow
        )
        found += [pytest.param(name, *answer, range(few), id=said)] if few else []
        found += [more] if few < many else []
    return found


def judge_undrawn(exercise, answer, seed):
    """A figure takes longer than all the rest; one a mistake is enough to see that it is drawn."""
    if isinstance(exercise, Contest):
        exercise.play(answer, seed)
    else:
        judge_answer(exercise if seed == 0 else replace(exercise, draw=None), answer, seed)


@pytest.fixture(autouse=True)
def nobody_looks(monkeypatch):
    monkeypatch.setattr("shnet_course.checks.core.show", lambda figure, alt: None)


# Two of the planted mistakes step the schedule first, one is for a GPU alone: torch says so.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.filterwarnings("ignore:CUDA is not available or torch_xla:UserWarning")
@pytest.mark.parametrize(("name", "answer", "said", "seeds"), in_two_tiers(MISTAKES + UNNAMED))
def test_a_mistake_is_rejected_whatever_the_inputs(name, answer, said, seeds):
    """Those that are planted, and those that a check knows and no planted one makes."""
    messages = []
    for seed in seeds:
        with pytest.raises(CheckFailed) as failed:
            judge_undrawn(EXERCISES[name], answer, seed)
        messages.append(str(failed.value))
    if said:  # on some inputs two mistakes give the same numbers: most have to name the right one
        least = 0.7 if len(messages) == 4 else 0.8  # of four, one may name the other
        assert sum(said in message for message in messages) > least * len(messages), messages


@pytest.mark.parametrize(("name", "answer", "seeds"), in_two_tiers(ALTERNATIVES + REFERENCES))
def test_a_right_answer_passes_however_it_is_written(name, answer, seeds):
    for seed in seeds:
        judge_undrawn(EXERCISES[name], answer, seed)


@pytest.mark.parametrize("name", EXERCISES)
def test_every_check_has_its_mistakes_and_its_alternatives(name):
    """At least three mistakes, one with a name, and an answer that is written differently."""
    mistakes = [m for planted in PLANTED for m in planted.MISTAKES.get(name, {}).values()]
    assert len(mistakes) >= 3 and any(said for _, said in mistakes)
    assert any(planted.ALTERNATIVES.get(name) for planted in PLANTED)


def test_nothing_is_planted_for_a_check_that_does_not_exist():
    for planted in PLANTED:
        assert set(planted.MISTAKES) | set(planted.ALTERNATIVES) <= set(EXERCISES)


def test_every_lesson_of_checks_is_one_with_a_solution():
    solutions = Path(__file__).parents[2] / "solutions" / "text"
    for lesson in LESSONS:
        assert (solutions / f"{lesson}_sol.py").exists()


def test_the_inputs_of_a_check_are_fresh():
    for name, _, _ in REFERENCES:
        exercise, source = EXERCISES[name], random.Random(0)
        assert repr(exercise.make_inputs(source)) != repr(exercise.make_inputs(source))


def test_the_numbers(record_property):
    record_property("planted mistakes", len(MISTAKES))
    record_property("alternative right answers", len(ALTERNATIVES))
    assert len(MISTAKES) >= 3 * len(EXERCISES) and len(ALTERNATIVES) >= len(EXERCISES)
