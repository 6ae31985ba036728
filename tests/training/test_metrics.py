"""The measures of section 4.1, against loops over pixels and against sums done by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shnet_lib.training.metrics import (
    intersection_and_union,
    mean_iou,
    overall_iou,
    precision_at,
    summarize,
)

masks = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=3, max_size=3)
counts = st.lists(
    st.integers(0, 40).flatmap(lambda u: st.tuples(st.integers(0, u), st.just(u))), min_size=1
)


def columns(pairs):
    intersection, union = zip(*pairs, strict=True)
    return torch.tensor(intersection), torch.tensor(union)


@given(st.lists(st.tuples(masks, masks), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_intersection_and_union_count_pixels(pairs):
    prediction = torch.tensor([pair[0] for pair in pairs])  # (B, 3, 4)
    target = torch.tensor([pair[1] for pair in pairs])
    intersection, union = intersection_and_union(prediction, target)
    for b, (first, second) in enumerate(pairs):
        both = either = 0
        for row in range(3):
            for column in range(4):
                both += first[row][column] and second[row][column]
                either += first[row][column] or second[row][column]
        assert (int(intersection[b]), int(union[b])) == (both, either)


@given(counts)
@settings(max_examples=100, deadline=None)
def test_measures_against_a_loop_over_expressions(pairs):
    intersection, union = columns(pairs)
    each = [1.0 if u == 0 else i / u for i, u in pairs]
    assert mean_iou(intersection, union) == pytest.approx(math.fsum(each) / len(each), abs=1e-12)
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        hits = sum(iou > threshold for iou in each)
        assert precision_at(intersection, union, threshold) == pytest.approx(hits / len(each))
    pixels = sum(u for _, u in pairs)
    expected = sum(i for i, _ in pairs) / pixels if pixels else 1.0
    assert overall_iou(intersection, union) == expected


def test_large_objects_dominate_the_overall_iou_and_not_the_mean():
    intersection, union = torch.tensor([900, 0]), torch.tensor([1000, 10])
    assert overall_iou(intersection, union) == 900 / 1010
    assert mean_iou(intersection, union) == 0.45


@pytest.mark.parametrize(("i", "u", "x"), [(1, 2, 0.5), (3, 5, 0.6), (7, 10, 0.7), (4, 5, 0.8),
                                           (9, 10, 0.9), (27, 30, 0.9), (21, 35, 0.6)])  # fmt: skip
def test_an_iou_of_exactly_the_threshold_is_no_hit(i, u, x):
    assert precision_at(torch.tensor([i]), torch.tensor([u]), x) == 0
    assert precision_at(torch.tensor([i * 1000 + 1]), torch.tensor([u * 1000]), x) == 1


def test_an_empty_prediction_is_zero_and_two_empty_masks_agree():
    nothing, something = torch.zeros(5, 5, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool)
    missed = intersection_and_union(nothing, something)
    agreed = intersection_and_union(nothing, nothing)
    assert [int(n) for n in missed] == [0, 25]
    assert [int(n) for n in agreed] == [0, 0]
    both = summarize(torch.stack([missed[0], agreed[0]]), torch.stack([missed[1], agreed[1]]))
    assert both["overall_iou"] == 0  # nothing is added to either sum
    assert both["mean_iou"] == both["precision@0.9"] == 0.5
    alone = summarize(agreed[0].reshape(1), agreed[1].reshape(1))
    assert set(alone.values()) == {1.0}


def test_sums_are_exact_beyond_float32():
    intersection, union = torch.tensor([2**24 + 1] * 3), torch.tensor([2**25] * 3)
    assert overall_iou(intersection, union) == (2**24 + 1) / 2**25


def test_summary_has_the_names_of_the_reports():
    summary = summarize(torch.tensor([3, 13]), torch.tensor([4, 20]))
    assert summary == {
        "overall_iou": 16 / 24,
        "mean_iou": (0.75 + 0.65) / 2,
        "precision@0.5": 1.0,
        "precision@0.6": 1.0,
        "precision@0.7": 0.5,
        "precision@0.8": 0.0,
        "precision@0.9": 0.0,
    }
    assert all(type(value) is float for value in summary.values())


def test_what_is_no_mask_or_no_count_is_refused():
    mask = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(TypeError, match="threshold"):
        intersection_and_union(mask.float(), mask)
    with pytest.raises(ValueError, match="resize"):
        intersection_and_union(mask, torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="no expression"):
        summarize(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long))
    for pair in ((5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="intersection"):
            overall_iou(*columns([pair]))
    with pytest.raises(ValueError, match="two"):
        mean_iou(torch.tensor([1, 2]), torch.tensor([3]))
