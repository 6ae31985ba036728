"""How well masks agree: the measures of the paper's section 4.1 (evaluation metrics).

Everything starts from two counts an expression, the pixels of the intersection I and of the union U
of the predicted and the true mask. The two ways to sum them up are not the same number:

- *overall IoU* (the paper's headline): sum of all I over sum of all U. Large objects dominate.
- *mean IoU* (the headline of some later work): the mean of I / U, every expression counts alike.

Conventions, so that nothing here ever divides by zero:

- an empty prediction on a non-empty target is an IoU of 0 (I = 0, U > 0);
- both masks empty (U = 0) is a perfect answer: an IoU of 1 in the mean and in the precisions, and
  nothing in the two sums of the overall IoU (which is 1 if no mask holds a single pixel).
"""

import torch
from torch import Tensor

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)  # X of precision@X, section 4.1


def intersection_and_union(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in both masks and pixels in either of them.

    Args:
        prediction, target: (..., H, W) bool, the same shape.

    Returns:
        intersection, union: (...) int64, one count a mask.

    Raises:
        TypeError: a mask is not bool (a probability has to be thresholded first).
        ValueError: the shapes differ.
    """
    if prediction.dtype != torch.bool or target.dtype != torch.bool:
        raise TypeError(
            f"masks are bool, not {prediction.dtype} and {target.dtype}: compare with a threshold"
        )
    if prediction.shape != target.shape:
        raise ValueError(
            f"the prediction is {tuple(prediction.shape)}, the target {tuple(target.shape)}: "
            "resize the prediction's probabilities to the target's size first"
        )
    intersection = (prediction & target).sum(dim=(-2, -1))
    union = (prediction | target).sum(dim=(-2, -1))
    return intersection, union


def ious(intersection: Tensor, union: Tensor) -> Tensor:
    """I / U of each expression, 1 where both masks are empty.

    Args:
        intersection, union: (N,) int64.

    Returns:
        (N,) float64. Double precision, so that 3 / 5 is the very number that 0.6 is written as
        and "greater than 0.6" means what it says.

    Raises:
        ValueError: the counts are of no expression, of different lengths, or impossible (I > U).
    """
    if intersection.shape != union.shape or intersection.dim() != 1:
        raise ValueError(
            f"expected two (N,) counts, got {tuple(intersection.shape)} and {tuple(union.shape)}"
        )
    if len(intersection) == 0:
        raise ValueError("there is no expression to measure: is the split empty?")
    if bool((intersection > union).any()) or bool((intersection < 0).any()):
        raise ValueError("an intersection is negative or larger than its union: counts mixed up?")
    return torch.where(union == 0, 1.0, intersection.double() / union.clamp(min=1).double())


def overall_iou(intersection: Tensor, union: Tensor) -> float:
    """Sum of intersections over sum of unions (section 4.1, "overall IoU"); (N,) int64 each."""
    ious(intersection, union)  # the counts are checked there
    pixels = int(union.sum())
    return int(intersection.sum()) / pixels if pixels else 1.0


def mean_iou(intersection: Tensor, union: Tensor) -> float:
    """Mean of the expressions' IoUs; (N,) int64 each."""
    return float(ious(intersection, union).mean())


def precision_at(intersection: Tensor, union: Tensor, threshold: float) -> float:
    """Share of expressions whose IoU is *greater than* the threshold (section 4.1, Precision@X).

    Some of the field counts "greater or equal": an IoU of exactly 0.5 is a hit there, not here.
    """
    return float((ious(intersection, union) > threshold).double().mean())


def summarize(intersection: Tensor, union: Tensor) -> dict[str, float]:
    """Every measure of section 4.1 under the names that reports use; (N,) int64 counts."""
    return {
        "overall_iou": overall_iou(intersection, union),
        "mean_iou": mean_iou(intersection, union),
        **{f"precision@{x}": precision_at(intersection, union, x) for x in THRESHOLDS},
    }
