# ---
# jupyter:
#   jupytext:
#     formats: ipynb,text//py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercise 07 · Evaluation
#
# *Belongs to [lesson 07](../notebooks/07_evaluation.ipynb) · five exercises · 35 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how. The fold-outs go from a hint to the whole solution.

# %%
import numpy as np

from shnet_course.checks import check

# %% [markdown]
# ## Intersection and union
#
# *Difficulty: easy · 5 minutes · section 4.1*
#
# Every number of this field is made of two counts: pixels in both masks, and pixels in either. A pixel that is in both stands in the union once.


# %%
def intersection_and_union(prediction: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """How two masks overlap.

    Args:
        prediction, target: (H, W) bool.

    Returns:
        pixels in both masks, pixels in either of them.
    """
    ### BEGIN SOLUTION: count the pixels in both masks, and those in either
    intersection = (prediction & target).sum()
    union = (prediction | target).sum()
    return int(intersection), int(union)
    ### END SOLUTION


# %% tags=["check"]
check("intersection and union", intersection_and_union)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# For arrays of bool, `a & b` is True where both are, and `a.sum()` counts the True ones.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your union counts the intersection twice"</summary>
#
# `prediction.sum() + target.sum()` counts a pixel of both masks two times. Either subtract the intersection once, or use the operator that is True where at least one of the two is.
#
# </details>

# %% [markdown]
# ## Overall IoU
#
# *Difficulty: easy · 5 minutes · section 4.1: the paper's headline*
#
# $$\text{overall IoU} = \frac{\sum_n I_n}{\sum_n U_n}$$
#
# A large thing weighs more than a small one, since it brings more pixels to both sums.


# %%
def overall_iou(intersection: np.ndarray, union: np.ndarray) -> float:
    """The share of pixels in both masks among those in either, over all expressions.

    Args:
        intersection, union: (N,) int, pixels of each expression.
    """
    ### BEGIN SOLUTION: sum first, then divide
    return float(intersection.sum() / union.sum())
    ### END SOLUTION


# %% tags=["check"]
check("overall IoU", overall_iou)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# There is one division in the whole function.
#
# </details>

# %% [markdown]
# ## Mean IoU
#
# *Difficulty: easy · 5 minutes · the headline of later work*
#
# $$\text{mean IoU} = \frac{1}{N} \sum_n \frac{I_n}{U_n}$$
#
# Now every expression weighs the same. Tables of this field often say “IoU” and mean one or the other.


# %%
def mean_iou(intersection: np.ndarray, union: np.ndarray) -> float:
    """The mean of the expressions' IoUs.

    Args:
        intersection, union: (N,) int, pixels of each expression.
    """
    ### BEGIN SOLUTION: divide first, then take the mean
    return float((intersection / union).mean())
    ### END SOLUTION


# %% tags=["check"]
check("mean IoU", mean_iou)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `intersection / union` is an array with one IoU an expression.
#
# </details>

# %% [markdown]
# ## Precision@X
#
# *Difficulty: easy · 10 minutes · section 4.1*
#
# How many expressions were found at all? Precision@X is the share whose IoU is *greater than* X. The check brings an expression that lies exactly on the line.


# %%
def precision_at(intersection: np.ndarray, union: np.ndarray, threshold: float) -> float:
    """The share of expressions whose IoU is greater than the threshold.

    Args:
        intersection, union: (N,) int, pixels of each expression.
        threshold: the X of precision@X, between 0 and 1.
    """
    ### BEGIN SOLUTION: which share of the expressions has a greater IoU?
    hit = intersection / union > threshold
    return float(hit.mean())
    ### END SOLUTION


# %% tags=["check"]
check("precision@X", precision_at)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The mean of an array of bool is the share of the True ones.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "an IoU of exactly X is no hit"</summary>
#
# Much of the field counts `>=`. For masks of a few pixels that is another number: an IoU of exactly 0.5 is not rare there.
#
# </details>

# %% [markdown]
# ## Every expression once
#
# *Difficulty: easy · 10 minutes · why: the most frequent mistake of an evaluation on several GPUs*
#
# Two processes evaluate seven expressions in batches of two. Seven is odd, so the last batch is filled up with an expression that was measured before; samplers do this so that all processes do the same number of steps. Each row is a tuple `(expression, intersection, union)`. Collect them so that each expression counts once and none is missing.


# %%
def count_once(batches: list[list[tuple[int, int, int]]]) -> dict[int, tuple[int, int]]:
    """The rows of all batches, each expression once.

    Args:
        batches: the batches in any order, each a list of (expression, intersection, union).

    Returns:
        expression -> (intersection, union).
    """
    ### BEGIN SOLUTION: keep one row for each expression
    counted = {}
    for batch in batches:
        for expression, intersection, union in batch:
            counted[expression] = (intersection, union)
    return counted
    ### END SOLUTION


# %% tags=["check"]
check("every expression once", count_once)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A dictionary holds each key once.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# The expression is the key. The row that came twice says the same both times, so it does not matter which one stays.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can write the evaluation of section 4.1 alone, and you know three places where two code bases that say “IoU” differ. The library's own version stands in `shnet_lib/training/metrics.py`.
