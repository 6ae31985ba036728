"""Every planted mistake is rejected, and named where it has a name; every right answer passes."""

import importlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from shnet_course.checks import EXERCISES, LESSONS, CheckFailed
from shnet_course.checks.core import Contest, Exercise, judge

SEEDS = range(20)
WITH_REFERENCE = [name for name, each in EXERCISES.items() if isinstance(each, Exercise)]
FILES = sorted((Path(__file__).parent / "planted").glob("lesson_*.py"))
PLANTED = [importlib.import_module(f"planted.{path.stem}") for path in FILES]
MISTAKES = [
    pytest.param(name, answer, said, id=f"{name}: {label}")
    for planted in PLANTED
    for name, mistakes in planted.MISTAKES.items()
    for label, (answer, said) in mistakes.items()
]
ALTERNATIVES = [
    pytest.param(name, answer, id=f"{name}: {label}")
    for planted in PLANTED
    for name, answers in planted.ALTERNATIVES.items()
    for label, answer in answers.items()
]


def judge_undrawn(exercise, answer, seed):
    """A figure takes longer than all the rest; one a mistake is enough to see that it is drawn."""
    if isinstance(exercise, Contest):
        exercise.play(answer, seed)
    else:
        judge(exercise if seed == SEEDS[0] else replace(exercise, draw=None), answer, seed)


WITH_NETWORKS = {
    "freeze a backbone",
    "the forward pass",
    "one training step",
    "gradient accumulation",
    "stop and go on",
    "the baseline from parts",
}


def seeds_of(name):
    """Fewer where each one builds networks, and one where it trains two of them for seconds."""
    if isinstance(EXERCISES[name], Contest):
        return SEEDS[:1]
    return SEEDS[:5] if name in WITH_NETWORKS else SEEDS


@pytest.fixture(autouse=True)
def nobody_looks(monkeypatch):
    monkeypatch.setattr("shnet_course.checks.core.show", lambda figure, alt: None)


@pytest.mark.parametrize(("name", "answer", "said"), MISTAKES)
def test_a_mistake_is_rejected_whatever_the_inputs(name, answer, said):
    messages = []
    for seed in seeds_of(name):
        with pytest.raises(CheckFailed) as failed:
            judge_undrawn(EXERCISES[name], answer, seed)
        messages.append(str(failed.value))
    if said:  # on some inputs two mistakes give the same numbers: most have to name the right one
        assert sum(said in message for message in messages) > 0.8 * len(messages), messages


@pytest.mark.parametrize(("name", "answer"), ALTERNATIVES)
def test_a_right_answer_passes_however_it_is_written(name, answer):
    for seed in seeds_of(name):
        judge_undrawn(EXERCISES[name], answer, seed)


@pytest.mark.parametrize("name", EXERCISES)
def test_every_check_has_its_mistakes_and_its_alternatives(name):
    """At least three mistakes, one with a name, and an answer that is written differently."""
    mistakes = [m for planted in PLANTED for m in planted.MISTAKES.get(name, {}).values()]
    assert len(mistakes) >= 3 and any(said for _, said in mistakes)
    assert any(planted.ALTERNATIVES.get(name) for planted in PLANTED)


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_every_known_mistake_of_a_check_is_a_mistake_and_the_reference_is_right(name):
    exercise = EXERCISES[name]
    for seed in seeds_of(name):
        judge(exercise, exercise.reference, seed)
        for mistake in exercise.mistakes.values():
            with pytest.raises(CheckFailed):
                judge_undrawn(exercise, mistake, seed)


def test_nothing_is_planted_for_a_check_that_does_not_exist():
    for planted in PLANTED:
        assert set(planted.MISTAKES) | set(planted.ALTERNATIVES) <= set(EXERCISES)


def test_every_lesson_of_checks_is_one_with_a_solution():
    solutions = Path(__file__).parents[2] / "solutions" / "text"
    for lesson in LESSONS:
        assert (solutions / f"{lesson}_sol.py").exists()


def test_the_inputs_of_a_check_are_fresh():
    for name in WITH_REFERENCE:
        exercise, source = EXERCISES[name], random.Random(0)
        assert repr(exercise.make_inputs(source)) != repr(exercise.make_inputs(source))


def test_the_numbers(record_property):
    record_property("planted mistakes", len(MISTAKES))
    record_property("alternative right answers", len(ALTERNATIVES))
    assert len(MISTAKES) >= 3 * len(EXERCISES) and len(ALTERNATIVES) >= len(EXERCISES)
