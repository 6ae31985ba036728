"""Evaluation against loops over pixels, on photos of several sizes."""

import csv
import math

import pytest
import torch
from torch import Tensor, nn

from shnet_lib.data import read_expressions
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.text import Vocabulary
from shnet_lib.files import write_table
from shnet_lib.training.evaluate import (
    RELEASED_SIZE,
    _one_of_each,
    compare_released,
    evaluate,
    probability_at,
)

S = 16


class KnownAnswers(nn.Module):
    """A network whose logits for each expression are known beforehand."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)  # (expressions, S, S)

    def forward(self, batch: dict) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        assert batch["words"].shape == batch["word_mask"].shape
        return self.logits[batch["expression_index"]]


@pytest.fixture(scope="module")
def dataset(squares):
    vocabulary = Vocabulary.from_texts(expression.text for expression in squares["train"])
    return ReferringDataset(squares["val"], vocabulary, S, evaluation=True)


@pytest.fixture(scope="module")
def answers(dataset):
    """Blobs: smooth logits, so that the masks are no salt and pepper."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(len(dataset), 1, 4, 4, generator=generator) * 4
    return KnownAnswers(nn.functional.interpolate(coarse, size=S, mode="bicubic").squeeze(1))


def bilinear(
    plane: list[list[float]], height: int, width: int, corners: bool = False
) -> list[list[float]]:
    """Pixel by pixel: the centre of each new pixel, looked up between the old centres.

    With `corners`, the first and the last centres of both stand upon each other.
    """
    rows, columns = len(plane), len(plane[0])

    def place(index: int, new: int, old: int) -> tuple[int, int, float]:
        at = max((index + 0.5) * old / new - 0.5, 0.0)
        at = index * (old - 1) / (new - 1) if corners else at
        low = min(int(math.floor(at)), old - 1)
        return low, min(low + 1, old - 1), at - low

    result = []
    for y in range(height):
        top, bottom, down = place(y, height, rows)
        line = []
        for x in range(width):
            left, right, along = place(x, width, columns)
            upper = plane[top][left] * (1 - along) + plane[top][right] * along
            lower = plane[bottom][left] * (1 - along) + plane[bottom][right] * along
            line.append(upper * (1 - down) + lower * down)
        result.append(line)
    return result


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def count(prediction, target) -> tuple[int, int]:
    pairs = [
        (p, t) for row, line in zip(prediction, target, strict=True)
        for p, t in zip(row, line, strict=True)
    ]  # fmt: skip
    return sum(p and t for p, t in pairs), sum(p or t for p, t in pairs)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_original_protocol_against_a_loop_over_the_photo(dataset, answers, threshold):
    rows = evaluate(answers, dataset, threshold=threshold, batch_size=5).rows
    for row in rows:
        index = row["expression_index"]
        expression = dataset.expressions[index]
        small = [[sigmoid(x) for x in line] for line in answers.logits[index].tolist()]
        large = bilinear(small, expression.height, expression.width)
        limit = 0.5 if threshold is None else threshold
        prediction = [[p > limit for p in line] for line in large]
        expected = count(prediction, expression.mask().tolist())
        assert (row["intersection"], row["union"]) == expected
    assert len({(row["intersection"], row["union"]) for row in rows}) > 6


def test_released_protocol_against_a_loop_at_160(dataset, answers):
    rows = evaluate(answers, dataset, protocol="released").rows
    for row in rows[:3]:
        expression = dataset.expressions[row["expression_index"]]
        logits = bilinear(answers.logits[row["expression_index"]].tolist(), 160, 160, corners=True)
        prediction = [[sigmoid(x) > 0.4 for x in line] for line in logits]
        target = bilinear(expression.mask().astype(float).tolist(), 160, 160, corners=True)
        dilated = [[y > 0 for y in line] for line in target]
        assert (row["intersection"], row["union"]) == count(prediction, dilated)


@pytest.mark.parametrize(("radius", "agreement"), [(8, 0.74), (60, 0.96)])
def test_released_protocol_dilates_small_objects(radius, agreement):
    """What a mask at 160 x 160 by torch's "nearest" is worth there, by the size of the object.

    Half a pixel of that is the shift of "nearest"; lesson 07 compares with "nearest-exact".
    """
    y, x = torch.meshgrid(torch.arange(480), torch.arange(640), indexing="ij")
    disc = (y - 240) ** 2 + (x - 320) ** 2 <= radius**2
    nearest = nn.functional.interpolate(disc[None, None].float(), size=RELEASED_SIZE)[0, 0]
    intersection, union = compare_released((nearest - 0.5) * 99, disc, 0.4)
    assert int(intersection) / int(union) == pytest.approx(agreement, abs=0.011)


def test_an_empty_prediction_is_zero_and_a_full_one_is_the_targets_share(dataset):
    nothing = evaluate(KnownAnswers(torch.full((len(dataset), S, S), -9.0)), dataset)
    assert set(nothing.metrics.values()) == {0.0}
    everything = evaluate(KnownAnswers(torch.full((len(dataset), S, S), 9.0)), dataset)
    for row in everything.rows:
        assert row["iou"] == pytest.approx(row["target_share"], rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 7, 100])
def test_every_expression_once_whatever_the_batch(dataset, answers, batch_size):
    assert len(dataset) % 5 and len(dataset) % 7
    whole = evaluate(answers, dataset)
    parts = evaluate(answers, dataset, batch_size=batch_size)
    assert parts.rows == whole.rows
    assert parts.metrics == whole.metrics
    assert [row["expression_index"] for row in whole.rows] == list(range(len(dataset)))


def test_rows_say_whose_they_are_and_sum_up_to_the_metrics(dataset, answers, tmp_path):
    evaluation = evaluate(answers, dataset)
    for row, expression in zip(evaluation.rows, dataset.expressions, strict=True):
        assert row["sent_id"] == expression.sent_id
        assert row["text"] == expression.text
        assert row["image"] == expression.image_path.name
        assert row["family"] == expression.family in ("attribute", "location")
        assert row["words"] == len(expression.text.split())
        assert row["target_share"] == pytest.approx(expression.mask().mean(), rel=1e-6)
        assert row["iou"] == row["intersection"] / row["union"]
    summed = sum(row["intersection"] for row in evaluation.rows)
    assert evaluation.metrics["overall_iou"] == summed / sum(r["union"] for r in evaluation.rows)
    hits = [row["iou"] > 0.5 for row in evaluation.rows]
    assert evaluation.metrics["precision@0.5"] == sum(hits) / len(hits)

    write_table(tmp_path / "new" / "rows.csv", evaluation.rows)
    with (tmp_path / "new" / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["text"] for row in table] == [row["text"] for row in evaluation.rows]
    assert [float(row["iou"]) for row in table] == [row["iou"] for row in evaluation.rows]


def test_the_networks_mode_is_put_back(dataset, answers):
    for mode in (True, False):
        answers.train(mode)
        evaluate(answers, dataset)
        assert answers.training is mode


def test_probabilities_are_interpolated_and_not_logits():
    logits = torch.tensor([[[9.0, -1.0], [9.0, -1.0]]])  # (1, 2, 2)
    row = probability_at(logits, (2, 6))[0, 0].tolist()
    low, high = sigmoid(-1), sigmoid(9)  # their centres fall on pixels 1 and 4 of the six
    third = (high - low) / 3
    assert row == pytest.approx([high, high, high - third, low + third, low, low], abs=1e-6)


def test_double_and_missing_rows_are_errors():
    rows = [{"expression_index": index} for index in (2, 0, 1)]
    assert [row["expression_index"] for row in _one_of_each(rows, 3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"twice: \[1\], missing: \[\]"):
        _one_of_each([*rows, {"expression_index": 1}], 3)
    with pytest.raises(RuntimeError, match=r"twice: \[\], missing: \[3\]"):
        _one_of_each(rows, 4)


def test_an_unknown_protocol_is_an_error(dataset, answers):
    with pytest.raises(ValueError, match="no protocol 'relased'.*original, released"):
        evaluate(answers, dataset, protocol="relased")


def test_photos_keep_their_own_sizes(photo_data):
    expressions = read_expressions(photo_data, "unc", "val")
    vocabulary = Vocabulary.from_texts(["a"])
    dataset = ReferringDataset(expressions, vocabulary, S, evaluation=True)
    ones = KnownAnswers(torch.full((len(expressions), S, S), 9.0))
    rows = evaluate(ones, dataset, batch_size=16).rows
    assert [row["union"] for row in rows] == [e.height * e.width for e in expressions]
    assert [row["intersection"] for row in rows] == [int(e.mask().sum()) for e in expressions]
    assert len({row["union"] for row in rows}) >= 2
