"""A check accepts every right answer, rejects every wrong one, and names the mistakes it knows."""

import random

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from shnet_course import progress
from shnet_course.checks import core
from shnet_course.checks.core import (
    CheckFailed,
    Contest,
    Exercise,
    add_exercise,
    check,
    difference,
    judge_answer,
)


def softmax_inputs(source: random.Random) -> tuple:
    torch.manual_seed(source.randrange(10**6))
    return (torch.randn(3, 4),)


SOFTMAX = Exercise(
    reference=lambda scores: scores.softmax(-1),
    make_inputs=softmax_inputs,
    mistakes={"your softmax runs over queries": lambda scores: scores.softmax(0)},
)


def by_hand(scores):
    weights = [[torch.exp(score) for score in row] for row in scores]
    return torch.stack([torch.stack(row) / sum(row) for row in weights])


@pytest.mark.parametrize(
    "answer",
    [
        by_hand,
        lambda scores: torch.softmax(scores.double(), 1),
        lambda scores: scores.softmax(1).numpy(),
        lambda scores: (
            (scores - scores.max()).exp() / (scores - scores.max()).exp().sum(1)[:, None]
        ),
    ],
)
def test_right_answers_pass_however_they_are_written(answer):
    for seed in range(5):
        judge_answer(SOFTMAX, answer, seed)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda scores: torch.exp(scores) / torch.exp(scores).sum(0), "runs over queries"),
        (lambda scores: scores.sigmoid(), r"is wanted at \[0, 0\], .* came, and \d+% of the num"),
        (lambda scores: scores.softmax(1)[0], r"the shape \(3, 4\) is wanted, \(4,\) came"),
        (lambda scores: None, "is there a `return`"),
        (lambda scores: "rows", "a Tensor is wanted, a str came"),
        (lambda scores: scores.softmax(1) / 0 * 0, "NaN or infinite"),
        (lambda scores: [scores.softmax(1)], "a Tensor is wanted, a list came"),
        (lambda scores: scores > 0, r"wanted at \[0, 0\], (True|False) came"),
        (lambda scores: scores.exp_() / scores.sum(1, keepdim=True), "changes its inputs"),
    ],
)
def test_wrong_answers_fail_and_the_message_says_how(answer, said):
    with pytest.raises(CheckFailed, match=said):
        judge_answer(SOFTMAX, answer, 0)


def test_a_failed_check_can_be_repeated():
    with pytest.raises(CheckFailed, match=r"check\(\.\.\., seed=17\) repeats this") as first:
        judge_answer(SOFTMAX, torch.sigmoid, 17)
    with pytest.raises(CheckFailed) as second:
        judge_answer(SOFTMAX, torch.sigmoid, 17)
    assert str(first.value) == str(second.value)


def test_inputs_are_fresh_each_time():
    seen = []
    for seed in (1, 2):
        judge_answer(SOFTMAX, lambda scores: seen.append(scores) or scores.softmax(1), seed)
    assert len({tuple(scores.flatten().tolist()) for scores in seen}) == 2 * core.TRIALS


@pytest.mark.parametrize(
    ("target", "found", "same"),
    [
        (1.0, 1.00001, True),
        (1.0, 1.1, False),
        (2, torch.tensor(2), True),
        (True, np.bool_(True), True),
        (torch.tensor([True]), torch.tensor([1]), False),
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["a"], False),
        (["a"], "a", False),
        ((torch.ones(2), 3), [np.ones(2), 3.0], True),
        ({"iou": 0.5}, {"iou": 0.5}, True),
        ({"iou": 0.5}, {"IoU": 0.5}, False),
        ({"iou": 0.5}, {"iou": 0.4}, False),
        ("left", "left", True),
        ("left", "right", False),
        (None, None, True),
    ],
)
def test_what_counts_as_the_same(target, found, same):
    assert (difference(target, found, 1e-4) is None) is same


def test_a_picture_is_drawn_where_it_tells_more(monkeypatch):
    shown = []
    monkeypatch.setattr(core, "show", lambda figure, alt: shown.append(alt))
    masks = Exercise(
        reference=lambda mask: ~mask,
        make_inputs=lambda source: (np.arange(6).reshape(2, 3) > source.randrange(5),),
        draw=lambda target, found: (Figure(), "target and yours"),
    )
    with pytest.raises(CheckFailed):
        judge_answer(masks, lambda mask: mask, 0)
    with pytest.raises(CheckFailed):  # of another shape: there is nothing to lay side by side
        judge_answer(masks, lambda mask: mask[0], 0)
    assert shown == ["target and yours"]


def test_an_answer_that_gives_no_numbers_is_asked_what_it_does():
    """A module, say: the reference, the answer and the mistakes are all asked alike."""
    scale = Exercise(
        reference=lambda: lambda number: 2 * number,
        make_inputs=lambda source: (source.randrange(1, 9),),
        mistakes={"you scale by 3": lambda: lambda number: number + number + number},
        ask=lambda make, number: {"of a number": make()(number), "of 1": make()(1)},
    )
    judge_answer(scale, lambda: lambda number: number + number, 0)
    with pytest.raises(CheckFailed, match="you scale by 3"):
        judge_answer(scale, lambda: lambda number: 3 * number, 0)
    with pytest.raises(CheckFailed, match=r"in result\['of a number'\]"):
        judge_answer(scale, lambda: lambda number: 5 * number, 0)


def test_a_mistake_that_makes_nan_has_a_name_too():
    masked = Exercise(
        reference=lambda scores: scores.softmax(1),
        make_inputs=softmax_inputs,
        mistakes={"all is masked": lambda scores: (scores - torch.inf).softmax(1)},
    )
    with pytest.raises(CheckFailed, match="all is masked"):
        judge_answer(
            masked, lambda scores: scores.masked_fill(scores < 99, -torch.inf).softmax(1), 0
        )
    with pytest.raises(CheckFailed, match="NaN or infinite"):
        judge_answer(masked, lambda scores: scores / 0, 0)


def test_a_passed_check_is_told_and_remembered_once(tmp_path, monkeypatch, capsys):
    noted = []
    monkeypatch.setattr(core, "remember", noted.append)
    monkeypatch.setattr(core, "EXERCISES", {})
    monkeypatch.setattr(core, "LESSONS", {})
    add_exercise("03_sfm", "softmax", SOFTMAX)
    with pytest.raises(ValueError, match="there is a check 'softmax' already"):
        add_exercise("04_hcam", "softmax", SOFTMAX)
    with pytest.raises(CheckFailed):
        check("softmax", torch.sigmoid)
    with pytest.raises(NotImplementedError):
        check("softmax", stub)
    assert not noted
    check("softmax", by_hand)
    assert noted == ["softmax"] and core.LESSONS == {"03_sfm": ["softmax"]}
    assert capsys.readouterr().out == "✓ softmax: right on 5 fresh inputs\n"


def test_a_contest_tells_its_score_and_has_the_same_seed_each_time(monkeypatch, capsys):
    def play(answer, seed):
        if answer(seed) <= 10:
            raise CheckFailed(f"{answer(seed)} is not above 10")
        return f"{answer(seed)} against 10"

    noted = []
    monkeypatch.setattr(core, "remember", noted.append)
    monkeypatch.setattr(core, "EXERCISES", {})
    monkeypatch.setattr(core, "LESSONS", {})
    add_exercise("08_ablations", "the finale", Contest(play))
    with pytest.raises(CheckFailed, match="10 is not above 10"):
        check("the finale", lambda seed: 10 + seed)
    assert not noted
    check("the finale", lambda seed: 10 + seed, seed=3)
    check("the finale", lambda seed: 11 + seed)
    assert noted == ["the finale"] * 2
    assert capsys.readouterr().out == ("✓ the finale: 13 against 10\n✓ the finale: 11 against 10\n")


def test_a_check_draws_nothing_from_the_generators_of_the_notebook(monkeypatch):
    """Seeded by a check, every cell after it would draw the same numbers."""
    contest = Contest(lambda answer, seed: f"{torch.manual_seed(seed).initial_seed()}")
    monkeypatch.setattr(core, "remember", lambda name: None)
    monkeypatch.setattr(core, "EXERCISES", {"softmax": SOFTMAX, "the finale": contest})
    for name, answer in (("softmax", by_hand), ("softmax", torch.sigmoid), ("the finale", None)):
        before = torch.get_rng_state(), random.getstate()
        try:
            check(name, answer)
        except CheckFailed:
            assert answer is torch.sigmoid
        assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


def stub(scores):
    raise NotImplementedError("your turn: softmax")


def test_in_a_notebook_a_failure_is_one_line():
    (line,) = CheckFailed("your softmax runs over queries")._render_traceback_()
    assert line.endswith("your softmax runs over queries") and "\n" not in line


# --- progress -------------------------------------------------------------------------------------


def test_what_was_passed_is_there_the_next_time(tmp_path):
    path = tmp_path / "progress.json"
    assert progress.read_passed(path) == {}
    progress.remember("softmax", path)
    first = path.read_bytes()
    progress.remember("softmax", path)
    assert path.read_bytes() == first
    progress.remember("union", path)
    assert set(progress.read_passed(path)) == {"softmax", "union"}
    assert [file.name for file in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("damage", ['{"softmax": ', "[1, 2]", '{"softmax": 3}', "\x00"])
def test_a_damaged_file_is_put_aside_and_not_lost(tmp_path, damage):
    path = tmp_path / "progress.json"
    path.write_text(damage)
    assert progress.read_passed(path) == {}
    assert (tmp_path / "progress.damaged.json").read_text() == damage
    progress.remember("union", path)
    assert set(progress.read_passed(path)) == {"union"}


def test_where_nothing_can_be_written_the_answer_is_right_all_the_same(tmp_path):
    progress.remember("softmax", tmp_path / "no folder" / "progress.json")
    assert not (tmp_path / "no folder").exists()


def test_the_page_counts_and_links(tmp_path):
    path = tmp_path / "progress.json"
    progress.remember("softmax", path)
    page = progress.progress_page({"03_sfm": ["softmax", "scale"], "04_hcam": ["affinity"]}, path)
    assert "| [03_sfm](../exercises/03_sfm_ex.ipynb) | 1 of 2 | scale |" in page
    assert "| [04_hcam](../exercises/04_hcam_ex.ipynb) | 0 of 1 | affinity |" in page
    assert page.endswith("| together | **1 of 3** | |")


def test_an_error_in_an_answer_is_shown_without_the_way_through_the_check():
    def unsolved(scores):
        raise NotImplementedError("your turn")

    with pytest.raises(NotImplementedError) as raised:
        judge_answer(SOFTMAX, unsolved, 0)
    frames = [entry.frame for entry in raised.traceback]
    shown = [frame.code.name for frame in frames if "__tracebackhide__" not in frame.f_locals]
    assert len(frames) > 2 and shown[-1] == "unsolved" and len(shown) == 2
