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
# # Exercise 09 · Looking inside
#
# *Belongs to [lesson 09](../notebooks/09_looking_inside.ipynb) · four exercises · 65 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how, and where the answer is a map it draws what was wanted beside yours. The fold-outs go from a hint to the whole solution.

# %%
import numpy as np
import torch
from torch import Tensor

from shnet_course.checks import check

# %% [markdown]
# ## Where each word looks
#
# *Difficulty: medium · 15 minutes · section 4.5: "Word-Pixel Attention" of Figure 7*
#
# SFM's attention is one map for each head, over $N = HW + T$ tokens: the pixels, row by row, then the words. Row $n$ says what token $n$ takes from each token. Figure 7 shows what each word takes from the pixels, as a picture. Average the heads first. Of row $HW + t$, that of word $t$, keep what lies on pixels, and scale it to the sum 1:
#
# $$A = \frac{1}{\text{heads}} \sum_h A_h \qquad M_{t,p} = \frac{A_{HW + t,\,p}}{\sum_{q < HW} A_{HW + t,\,q}}$$
#
# Then lay the $HW$ numbers out as a grid. The last words of a phrase may be padding. They ask like all others, but nobody reads what they get: their maps are to be 0.


# %%
def words_over_pixels(attention: Tensor, word_mask: Tensor, height: int, width: int) -> Tensor:
    """What each word takes from the pixels, as maps.

    Args:
        attention: (B, heads, N, N) with N = height * width + T; a row asks, and its shares of all
            columns sum to 1. Pixels come first, row by row, then words.
        word_mask: (B, T) bool, True = a real word.
        height, width: H and W of the grid.

    Returns:
        (B, T, H, W): the map of each real word sums to 1, that of a padded one is 0.
    """
    ### BEGIN SOLUTION: cut out the rows of words and the columns of pixels, scale, make a grid
    pixels = height * width
    given = attention.mean(dim=1)[:, pixels:, :pixels]  # (B, T, H*W)
    maps = given / given.sum(dim=-1, keepdim=True)
    maps = torch.where(word_mask[:, :, None], maps, 0.0)
    return maps.unflatten(-1, (height, width))  # (B, T, H, W)
    ### END SOLUTION


# %% tags=["check"]
check("where each word looks", words_over_pixels)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Five steps: the mean over the heads, (B, N, N); the block of words' rows and pixels' columns, (B, T, H\*W); divide by its sum over the pixels; zeros where there is padding; the grid.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `given.sum(dim=-1, keepdim=True)` is (B, T, 1) and divides each row by its own sum. `torch.where(word_mask[:, :, None], maps, 0.0)` keeps the rows of real words. Tokens stand row by row, so `maps.reshape(B, T, height, width)` is the grid; no axes have to be swapped.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you scale each head"</summary>
#
# A head in which a word looks at words most of the time has little to say on pixels. Scaled to 1 on its own it would count as much as the others. Average first, then there is one sum to divide by.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "that is what pixels take from words"</summary>
#
# Both are called word-pixel attention in one paper or another. A row asks. You want the rows of words, `[pixels:]` on the first of the two axes.
#
# </details>

# %% [markdown]
# ## A claim needs a control
#
# *Difficulty: medium · 20 minutes · section 4.5: "for each word appropriate region in the image is attended"*
#
# One bright spot on one star proves little: perhaps every look is drawn to the middle, and the star stands there. Take $K$ words instead. Word $k$ has a map $M_k$ that sums to 1 and a thing that covers the share $c_{k,p}$ of each cell. A large thing gets much even from a look that is spread evenly, so divide by that. The *lift* of thing $m$ in the look of word $k$ is
#
# $$\ell_{k,m} = \frac{\sum_p M_{k,p}\, c_{m,p}}{\frac{1}{HW} \sum_p c_{m,p}}$$
#
# 1 is no preference. Now the control: in the *same look*, the lift of a thing that belongs to *another word*, that of word $\pi(k)$. What the word's look gives to its own thing beyond that is
#
# $$g_k = \ell_{k,k} - \ell_{k,\pi(k)}$$
#
# If words look at nothing in particular, its mean is 0, wherever the looks are drawn.


# %%
def beyond_control(looks: np.ndarray, covers: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """How much more lift each word's look gives to its own thing than to its partner's.

    Args:
        looks: (K, H, W) float, each map sums to 1.
        covers: (K, H, W) float, the share of each cell that the thing of word k covers, 0 to 1; no
            thing covers nothing.
        partner: (K,) int, pi: the control of word k is the thing of word partner[k].

    Returns:
        (K,): the lift of word k's thing less that of word partner[k]'s thing, both in word k's look.
    """
    ### BEGIN SOLUTION: a lift for the own thing, a lift for the control, and their difference

    def lift(things):  # (K, H, W) -> (K,)
        return (looks * things).sum(axis=(1, 2)) / things.mean(axis=(1, 2))

    return lift(covers) - lift(covers[partner])
    ### END SOLUTION


# %% tags=["check"]
check("beyond a control", beyond_control)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write a function inside yours that takes K things and gives the lift of each in the look of the same number. You need it twice: for the things as they come, and for the things in the order of `partner`.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `covers[partner]` has the thing of word `partner[k]` at place k. `a.sum(axis=(1, 2))` sums over the grid and keeps the K cases apart; `a.mean(axis=(1, 2))` is what the formula divides by.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you moved looks and things together"</summary>
#
# If both are put in the order of `partner`, each look meets its own thing again, only at another place of the list. The look stays, and the thing is exchanged.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "those are shares, not lifts"</summary>
#
# The share of a look that lies on a thing grows with the thing. If meant things are larger than others, shares alone would "prove" the claim. Divide by the mean of the thing's cover, which is what an even look would give.
#
# </details>

# %% [markdown]
# ## The failing family
#
# *Difficulty: easy · 10 minutes · why: the first question after "how good is it?" is "at what is it bad?"*
#
# Each answer comes with the family of its phrase, “ordinal” or “negation” say, and its IoU. Rank the families by their mean IoU, the lowest first. There is a trap: a family with two phrases has a mean IoU of 0 if both fail, and that happens by chance. Rank only families that have at least `least` answers.


# %%
def rank_families(answers: list[tuple[str, float]], least: int) -> list[tuple[str, float]]:
    """The families that can be judged, the worst first.

    Args:
        answers: (family, IoU) of each answer, in any order.
        least: so many answers a family must have, or more, to be ranked.

    Returns:
        (family, mean IoU), by rising mean IoU.
    """
    ### BEGIN SOLUTION: collect the IoUs of each family, drop small families, sort by the mean
    ious = {}
    for family, iou in answers:
        ious.setdefault(family, []).append(iou)
    means = [(name, sum(found) / len(found)) for name, found in ious.items() if len(found) >= least]
    return sorted(means, key=lambda row: row[1])
    ### END SOLUTION


# %% tags=["check"]
check("the failing family", rank_families)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# First a dictionary from each family to the list of its IoUs. Then a list of tuples for the families whose list is long enough. Then `sorted`.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `ious.setdefault(family, []).append(iou)` makes the list of a new family. `sorted(rows, key=lambda row: row[1])` sorts by what stands at place 1 of each row, the smallest first.
#
# </details>

# %% [markdown]
# ## What kind of failure?
#
# *Difficulty: medium · 20 minutes · why: the paper keeps its failures for a supplement; with the masks of all things at hand they sort themselves*
#
# A low IoU can mean that nothing was marked, or the wrong thing, or half of the picture: three different faults. Here are the lesson's rules. Go through them in this order; the first one that holds names the kind:
#
# | kind | what holds |
# |---|---|
# | `"nothing"` | the answer covers less than 0.5 % of the picture |
# | `"right"` | IoU with the target of 0.7 or more |
# | `"another thing"` | what it fits best is not the target, and the IoU with that is above 0.5 |
# | `"several things"` | of each of two elements, or of more, half or more of the pixels are marked |
# | `"poor outline"` | what it fits best is the target, and the IoU with it is 0.3 or more |
# | `"in between"` | the rest |
#
# An *element* is a thing or a region of the ground. “Fits best” means the highest IoU.


# %%
def kind_of_answer(answer: np.ndarray, elements: np.ndarray, target: int) -> str:
    """Sort one answer.

    Args:
        answer: (H, W) bool, what was marked.
        elements: (M, H, W) bool, everything in the scene, each with a pixel at least.
        target: which of the M elements was meant.

    Returns:
        one of the six kinds.
    """
    ### BEGIN SOLUTION: the IoU with each element, what share of each is covered, then the rules
    shared = (elements & answer).sum(axis=(1, 2))  # (M,) pixels
    ious = shared / (elements | answer).sum(axis=(1, 2))
    covered = shared / elements.sum(axis=(1, 2))
    closest = ious.argmax()
    if answer.mean() < 0.005:
        return "nothing"
    if ious[target] >= 0.7:
        return "right"
    if closest != target and ious[closest] > 0.5:
        return "another thing"
    if (covered >= 0.5).sum() >= 2:
        return "several things"
    if closest == target and ious[target] >= 0.3:
        return "poor outline"
    return "in between"
    ### END SOLUTION


# %% tags=["check"]
check("what kind of failure", kind_of_answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two arrays of M numbers do all the work: the IoU of the answer with each element, and the share *of each element* that is marked. `elements & answer` is (M, H, W): the answer meets every element.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `(elements & answer).sum(axis=(1, 2))` counts the shared pixels of each element, `ious.argmax()` is the number of the element that fits best, and `answer.mean()` is the share of the picture that is marked. Then five `if` lines in the order of the table, each with its `return`.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "in result[2]: ..."</summary>
#
# The check hands your function several answers to one scene, and counts them from 0: an empty one, a few pixels, one on the line of 0.7, a part of the target, another thing, another thing and a small one, target and another thing, the ground, everything, pieces of two things, a part on the line of 0.3, a part of another thing on the line of 0.5, exactly half of two things, a little less than half of the target beside a larger share of another thing, and the target with much ground around it.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can turn a picture of attention into maps, into a number with a control, and a heap of answers into families and kinds. The course's versions stand in `shnet_course/measure/attention.py` and `shnet_course/measure/failures.py`, and the lesson runs them on the whole validation split.
