"""The field's ways to count, each against a plain re-derivation; the bootstrap; Table 1."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from shnet_course.measure.conventions import (
    CONVENTIONS,
    TABLE_1,
    TABLE_1_COLUMNS,
    Answers,
    Convention,
    bootstrap,
    collect_answers,
    cost_of_dilation,
    count,
    discs,
    eleven_evaluations,
    headline,
    resize_target,
    sweep,
)
from shnet_lib.data import Expression
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.text import Vocabulary
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.config import configure
from shnet_lib.training.evaluate import compare_released, evaluate
from shnet_lib.training.metrics import mean_iou, overall_iou

S = 32


class OneMoreAWord(nn.Module):
    """Smooth logits that depend on the words alone, and say which expression they answer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch: dict) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        wave = torch.linspace(-3, 3, S)
        level = batch["words"].sum(1).float()[:, None, None]
        return torch.sin(wave[:, None] * level) * 3 + wave


@pytest.fixture(scope="module")
def expressions(tmp_path_factory) -> list[Expression]:
    """Seven expressions on three photos of three sizes."""
    folder: Path = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    found = []
    for image, (height, width) in enumerate(((20, 30), (40, 25), (32, 32))):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{image}.png")
        for number in range(2 + (image == 2)):
            mask = np.zeros((height, width), bool)
            mask[3 : 9 + 2 * number, 4 : 15 + number] = True
            np.save(folder / f"{image}-{number}.npy", mask)
            found.append(
                Expression(
                    image_path=folder / f"{image}.png", image_id=image, height=height, width=width,
                    ref_id=number, sent_id=len(found), text="abcdefg"[len(found)], category="",
                    family=None, read_mask=partial(np.load, folder / f"{image}-{number}.npy"),
                )
            )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def trained(expressions) -> TrainedSHNet:
    vocabulary = Vocabulary.from_texts(expression.text for expression in expressions)
    config = configure("tables", **{"model.image_size": S})
    return TrainedSHNet(OneMoreAWord().train(), vocabulary, config, {})


@pytest.fixture(scope="module")
def answers(trained, expressions) -> Answers:
    return collect_answers(trained, expressions)


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_answers_are_in_the_expressions_order_whatever_the_batch(trained, expressions, batch_size):
    shuffled = [expressions[i] for i in (5, 0, 3, 1, 6, 2, 4)]
    found = collect_answers(trained, shuffled, batch_size)
    assert len(found) == 7 and found.mask_logits.shape == (7, S, S)
    for expression, logits, target in zip(shuffled, found.mask_logits, found.targets, strict=True):
        alone = collect_answers(trained, [expression])
        assert torch.equal(logits, alone.mask_logits[0])
        assert np.array_equal(target.numpy(), expression.mask())
    assert trained.network.training  # as it was


def test_the_librarys_protocols_are_two_of_the_conventions(trained, expressions, answers):
    dataset = ReferringDataset(expressions, trained.vocabulary, S, evaluation=True)
    for protocol, convention in {
        "original": Convention("overall"),
        "released": CONVENTIONS["SHNet as released"],
    }.items():
        rows = evaluate(trained.network, dataset, protocol=protocol).rows
        intersection, union = count(answers, convention)
        assert [row["intersection"] for row in rows] == intersection.tolist()
        assert [row["union"] for row in rows] == union.tolist()


@pytest.mark.parametrize("threshold", [0.35, 0.5])
def test_a_square_convention_by_hand(answers, threshold):
    size = 48
    intersection, union = count(answers, Convention("mean", threshold, size))
    for n, (logits, target) in enumerate(zip(answers.mask_logits, answers.targets, strict=True)):
        image = Image.fromarray(logits.numpy(), mode="F").resize((size, size), Image.BILINEAR)
        prediction = 1 / (1 + np.exp(-np.asarray(image))) > threshold
        height, width = target.shape
        rows = ((np.arange(size) + 0.5) * height / size).astype(int)  # the nearest pixel's middle
        columns = ((np.arange(size) + 0.5) * width / size).astype(int)
        true = target.numpy()[rows][:, columns]
        assert int(intersection[n]) == (prediction & true).sum()
        assert int(union[n]) == (prediction | true).sum()


def test_each_convention_has_its_own_threshold_and_size():
    assert {name: (c.threshold, c.size, c.dilated) for name, c in CONVENTIONS.items()} == {
        "LSTM-CNN, RMI, CMPC": (0.5, None, False),
        "LAVT, ReLA (cIoU)": (0.5, 480, False),
        "LAVT, ReLA (mean, gIoU)": (0.5, 480, False),
        "CRIS": (0.35, None, False),
        "SHNet as released": (0.40, 160, True),
    }


def test_a_headline_is_the_measure_that_the_convention_names(answers):
    for convention in CONVENTIONS.values():
        measure = overall_iou if convention.headline == "overall" else mean_iou
        assert headline(answers, convention) == measure(*count(answers, convention))
    assert len({round(headline(answers, c), 6) for c in CONVENTIONS.values()}) == len(CONVENTIONS)


def test_a_dilated_target_holds_every_pixel_with_a_share():
    target = torch.zeros(8, 8, dtype=torch.bool)
    target[3, 3] = True
    assert resize_target(target, 16, dilated=False).sum() == 4
    assert resize_target(target, 16, dilated=True).sum() == 16  # and a ring around
    far = torch.full((1, 8, 8), 50.0).where(target, -50.0)[0]
    _, union = compare_released(far, target, 0.4)  # the library's dilates in the same way
    assert int(union) == resize_target(target, 160, dilated=True).sum()


def test_dilation_costs_small_discs_most_and_never_takes_away():
    costs = [cost_of_dilation(discs(r, 427, 640, 10, seed=0), 160) for r in (4, 12, 60)]
    agreements, growths = zip(*costs, strict=True)
    assert list(agreements) == sorted(agreements) and list(growths) == sorted(growths)[::-1]
    assert 0.7 < agreements[0] < 0.85 and agreements[2] > 0.97 and growths[2] > 0


def test_discs_are_round_of_their_size_and_at_different_places():
    found = discs(20, 120, 160, 5, seed=1)
    assert all(disc.shape == (120, 160) and disc.dtype == torch.bool for disc in found)
    assert all(abs(int(disc.sum()) / (np.pi * 400) - 1) < 0.01 for disc in found)
    assert len({tuple(disc.nonzero()[0].tolist()) for disc in found}) > 1
    assert all(
        torch.equal(a, b) for a, b in zip(found, discs(20, 120, 160, 5, seed=1), strict=True)
    )


def test_a_sweep_is_the_counts_at_each_threshold(answers):
    swept = sweep(answers, (0.3, 0.6))
    for row, threshold in enumerate(swept.thresholds):
        intersection, union = count(answers, Convention("overall", threshold))
        assert torch.equal(swept.intersection[row], intersection)
        assert torch.equal(swept.union[row], union)
        assert swept.measure(overall_iou)[row] == overall_iou(intersection, union)


def test_the_bootstrap_against_drawing_by_hand():
    random = np.random.default_rng(3)
    groups = ["a", "a", "b", "c", "c", "c"]
    union = torch.from_numpy(random.integers(50, 100, 6))
    intersection = union // 2 + torch.from_numpy(random.integers(-20, 20, 6))
    found = bootstrap(intersection, union, groups, draws=4000, seed=0)

    names = sorted(set(groups))
    slow = []
    for _ in range(4000):
        i = u = 0
        for name in random.choice(names, len(names)):
            rows = [row for row, group in enumerate(groups) if group == name]
            i, u = i + int(intersection[rows].sum()), u + int(union[rows].sum())
        slow.append(i / u)
    assert found.shape == (4000,)
    for share in (2.5, 50, 97.5):
        assert np.percentile(found, share) == pytest.approx(np.percentile(slow, share), abs=0.01)
    assert np.array_equal(found, bootstrap(intersection, union, groups, draws=4000, seed=0))


def test_expressions_that_stand_and_fall_together_make_the_interval_wider():
    intersection, union = torch.tensor([100] * 20 + [0] * 20), torch.full((40,), 100)
    together = bootstrap(intersection, union, [n // 5 for n in range(40)], 2000, seed=0)
    apart = bootstrap(intersection, union, range(40), 2000, seed=0)
    assert together.std() > 2 * apart.std()


def test_a_bootstrap_needs_a_group_a_row():
    with pytest.raises(ValueError, match="2 intersections, 2 unions and 1 names"):
        bootstrap(torch.ones(2), torch.ones(2), ["a"], 10, seed=0)


def test_a_bootstrap_of_nothing_but_empty_masks_is_one():
    zero = torch.zeros(3, dtype=torch.long)
    assert bootstrap(zero, zero, range(3), 5, seed=0).tolist() == [1.0] * 5


def test_table_1_says_what_section_4_3_says_of_it():
    own = dict(zip(TABLE_1_COLUMNS, TABLE_1["SHNet 320"], strict=True))
    efn = dict(zip(TABLE_1_COLUMNS, TABLE_1["EFN"], strict=True))
    assert all(len(values) == len(TABLE_1_COLUMNS) for values in TABLE_1.values())
    assert round(own["Referit test"] - efn["Referit test"], 2) == 1.68
    assert max(TABLE_1, key=lambda name: TABLE_1[name][6]) == "EFN"  # the best on G-Ref


def test_eleven_evaluations_say_where_they_can_be_read():
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in eleven_evaluations().splitlines()
    ]
    assert all(len(row) == len(head) == 7 for row in rows)
    assert sum(len(row[0].split(",")) for row in rows) == 11
    by_name = {row[0]: row for row in rows}
    assert len(by_name) == len(rows)
    for name, row in by_name.items():
        if name not in ("SHNet as released", "this course"):
            assert re.search(r"\]\(https://github\.com/\w[^/]*/[^/]+/blob/[0-9a-f]{40}/", row[6]), (
                name
            )
    # What is measured beside the table is what the table says.
    for name, key in (("CRIS", "CRIS"), ("SHNet as released", "SHNet as released")):
        assert float(by_name[name][3]) == CONVENTIONS[key].threshold
    assert str(CONVENTIONS["LAVT, ReLA (cIoU)"].size) in by_name["LAVT"][2]
