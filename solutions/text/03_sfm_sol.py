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
# # Exercise 03 · SFM: pixels and words in one sequence
#
# *Belongs to [lesson 03](../notebooks/03_sfm.ipynb) · four exercises · 70 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how, and where the answer is a map it draws what was wanted beside yours. The fold-outs go from a hint to the whole solution.

# %%
import torch
import torch.nn.functional as F
from torch import Tensor

from shnet_course.checks import check

# %% [markdown]
# ## Attention weights
#
# *Difficulty: medium · 15 minutes · section 3.2, inside MultiHead of Equation 1*
#
# Pixels and words stand in one sequence of $N = HW + T$ tokens, pixels first. Token $i$ asks with its query $q_i$, token $j$ answers with its key $k_j$, and the shares that $i$ gives to all tokens sum to 1:
#
# $$A_{ij} = \frac{\exp(q_i \cdot k_j / \sqrt{c})}{\sum_{n} \exp(q_i \cdot k_n / \sqrt{c})}$$
#
# The last words of a phrase may be padding. The sum runs over real tokens only, and a padded word gets nothing from anybody. (It asks like all others; nobody reads what it gets.)


# %%
def attention_weights(query: Tensor, key: Tensor, word_mask: Tensor) -> Tensor:
    """Who looks at whom, and how much.

    Args:
        query, key: (B, N, c) float; tokens are H*W pixels, then T words.
        word_mask: (B, T) bool, True = a real word. All pixels are real.

    Returns:
        (B, N, N): row i holds the shares that token i gives to each token.
    """
    ### BEGIN SOLUTION: score all pairs, keep padding out, take the softmax
    pixels = word_mask.new_ones(len(word_mask), query.shape[1] - word_mask.shape[1])
    keep = torch.cat((pixels, word_mask), dim=1)  # (B, N)
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5  # (B, N, N)
    scores = scores.masked_fill(~keep[:, None, :], float("-inf"))  # the same for every query
    return scores.softmax(dim=-1)
    ### END SOLUTION


# %% tags=["check"]
check("attention weights", attention_weights)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Four steps: a mask of N tokens from the mask of T words; scores (B, N, N) from one matrix product and the root of c; minus infinity in the columns of padded words; softmax along each row.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `key.transpose(1, 2)` is (B, c, N). `scores.masked_fill(mask, float("-inf"))` writes where the mask is True, and a mask of the shape (B, 1, N) holds for all rows.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your softmax runs over queries"</summary>
#
# Look at the picture: in the wanted map each row sums to 1. The rows ask, so the softmax runs along a row, over the last axis.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "a masked score of 0 still gets a share"</summary>
#
# $\exp(0) = 1$, which is no small share. $\exp(-\infty) = 0$.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "it holds NaN" or "you mask queries, and their rows are NaN"</summary>
#
# A row that holds nothing but minus infinity has no softmax: 0 / 0. You masked the *rows* of padded words. They may ask; what is forbidden is to look at them, and that is a column.
#
# </details>

# %% [markdown]
# ## The four blocks
#
# *Difficulty: easy · 5 minutes · section 3.2: "pixel-pixel, word-word and word-pixel interactions"*
#
# Pixels and words share one map, so the interactions that other methods compute one after the other are four blocks of it. Cut them out. The first name says who asks: “pixel-word” is what pixels give to words.


# %%
def four_blocks(weights: Tensor, pixels: int) -> dict[str, Tensor]:
    """Cut an attention map where the pixels end.

    Args:
        weights: (N, N), row i holds what token i gives to each token; pixels first, then words.
        pixels: H*W, how many of the tokens are pixels.

    Returns:
        "pixel-pixel" (H*W, H*W), "pixel-word" (H*W, T), "word-pixel" (T, H*W), "word-word" (T, T).
    """
    ### BEGIN SOLUTION: cut rows and columns where the pixels end
    return {
        "pixel-pixel": weights[:pixels, :pixels],
        "pixel-word": weights[:pixels, pixels:],
        "word-pixel": weights[pixels:, :pixels],
        "word-word": weights[pixels:, pixels:],
    }
    ### END SOLUTION


# %% tags=["check"]
check("the four blocks", four_blocks)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `weights[a:b, c:d]` cuts rows a to b and columns c to d. Rows ask, so the first slice belongs to the first name.
#
# </details>

# %% [markdown]
# ## Positions of pixels
#
# *Difficulty: medium · 25 minutes · section 3.2: $P_v$, as the released code has it*
#
# Attention does not know where a token stands, so a position is added. For a number $p$ and $d$ channels it is made of waves of falling frequency, a sine and a cosine of each in turn, for $k = 0, 1, \dots, d/2 - 1$:
#
# $$P(p)_{2k} = \sin\left(p \cdot 10000^{-2k/d}\right) \qquad P(p)_{2k+1} = \cos\left(p \cdot 10000^{-2k/d}\right)$$
#
# A pixel has two numbers: $x$, its column, and $y$, its row, both counted from 0. The first half of its $C$ channels is $P(x)$, the second half $P(y)$, each with $d = C/2$. Pixels come row by row, as `flatten` puts them.


# %%
def pixel_positions(height: int, width: int, channels: int) -> Tensor:
    """The positions of all pixels.

    Args:
        channels: C, a multiple of 4.

    Returns:
        (H*W, C), row by row: P(x) in the first C / 2 channels, P(y) in the others.
    """
    ### BEGIN SOLUTION: lay waves for x and for y out over the grid
    half = channels // 2
    frequencies = 10000.0 ** (-torch.arange(0, half, 2) / half)  # (C/4,)

    def waves(count):
        angles = torch.arange(count)[:, None] * frequencies  # (count, C/4)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # (count, C/2)

    across = waves(width).repeat(height, 1)  # (H*W, C/2): x runs 0, 1, 2, ..., 0, 1, 2, ...
    down = waves(height).repeat_interleave(width, dim=0)  # (H*W, C/2): y runs 0, 0, 0, ..., 1, 1
    return torch.cat((across, down), dim=1)
    ### END SOLUTION


# %% tags=["check"]
check("positions of pixels", pixel_positions)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write a function for one direction first: from `count` positions to (count, C / 2). All angles are one product, positions as a column times frequencies as a row.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)` lets sine and cosine alternate. In a grid that is read row by row, x runs 0, 1, 2, 0, 1, 2 and y runs 0, 0, 0, 1, 1, 1: `repeat` makes the one, `repeat_interleave` the other.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "x and y are swapped"</summary>
#
# In the picture each row is a pixel, in the order in which `flatten` reads the grid. From one pixel to the next the *column* changes, so that it is the first half of the channels, P(x), that changes from row to row of the picture.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your frequencies fall too slowly"</summary>
#
# In the formula $d$ is the number of channels that *one* direction has, C / 2. With C you would use only the faster half of the waves.
#
# </details>

# %% [markdown]
# ## Equation 1
#
# *Difficulty: hard · 25 minutes · section 3.2, Equation 1*
#
# $$X = \mathrm{LayerNorm}(V \odot L) \qquad X = X + (P_v \odot P_l) \qquad F = \mathrm{MultiHead}(X)$$
#
# This is the whole module as the paper prints it, where $\odot$ lays sequences end to end. To make it one function, everything that would be learnt comes as an argument. LayerNorm has no scale and no shift here: each token gets mean 0 and variance 1. MultiHead has four matrices. Queries, keys and values are `x @ weights["query"]` and so on; each is cut along its channels into `heads` equal pieces, piece after piece. Each head attends on its own, with the root of *its* number of channels as the scale. The heads' results stand side by side again, and the last matrix, `weights["out"]`, mixes them.


# %%
def sfm(
    visual: Tensor,
    word_feats: Tensor,
    word_mask: Tensor,
    positions: Tensor,
    weights: dict[str, Tensor],
    heads: int,
) -> Tensor:
    """Equation 1 as printed.

    Args:
        visual: V (B, C, H, W).
        word_feats: L (B, T, C).
        word_mask: (B, T) bool, True = a real word; no other word may be looked at.
        positions: P_v and P_l end to end, (N, C) with N = H*W + T.
        weights: "query", "key", "value" and "out", each (C, C), to be used as x @ weight.
        heads: into how many pieces the channels are cut; it divides C.

    Returns:
        F (B, N, C), pixels first, row by row, then words.
    """
    ### BEGIN SOLUTION: one line for each sign of the equation
    joint = torch.cat((visual.flatten(2).transpose(1, 2), word_feats), dim=1)  # (B, N, C)
    x = F.layer_norm(joint, joint.shape[-1:]) + positions  # (B, N, C)

    pixels = word_mask.new_ones(len(word_mask), joint.shape[1] - word_mask.shape[1])
    keep = torch.cat((pixels, word_mask), dim=1)[:, None, :]  # (B, 1, N)
    query, key, value = (
        (x @ weights[name]).chunk(heads, dim=-1) for name in ("query", "key", "value")
    )
    mixed = []
    for q, k, v in zip(query, key, value, strict=True):  # (B, N, C / heads) each
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5  # (B, N, N)
        mixed.append(scores.masked_fill(~keep, float("-inf")).softmax(dim=-1) @ v)
    return torch.cat(mixed, dim=-1) @ weights["out"]
    ### END SOLUTION


# %% tags=["check"]
check("Equation 1", sfm)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One line for each sign of the equation: `visual.flatten(2).transpose(1, 2)` makes (B, H\*W, C) of the pixels, `torch.cat` is $\odot$, `F.layer_norm(x, x.shape[-1:])` normalises each token, and positions are added to all three of queries, keys and values, since they are added to x.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `y.chunk(heads, dim=-1)` cuts the channels into pieces. Inside a head you need what you wrote in the first exercise, and then `weights @ v`. `F.scaled_dot_product_attention(q, k, v, attn_mask=keep)` does both in one, with `keep` of shape (B, 1, N), True where looking is allowed.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "mixes tokens and channels" or "your heads take channels in turn"</summary>
#
# A head keeps all tokens and takes C / heads channels that stand side by side. The numbers of a row lie in the order tokens, channels, so the channels are cut first, `y.view(B, N, heads, C // heads)`, and only then do the axes change places, `.transpose(1, 2)`. On the way back the other way round. `chunk` and `torch.cat` spare you both.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "reshape mixes pixels and channels"</summary>
#
# `visual.reshape(B, H * W, C)` has the right shape and the wrong numbers: it reads channel after channel and cuts the row anew. Flatten the pixels first, (B, C, H\*W), then swap the axes.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "that is the released code, not Eq. 1"</summary>
#
# The authors' code adds positions to queries and keys only, and a residual around the attention. You may have seen that in other transformers too. The equation has neither. The lesson compares the two under “What the paper does not say”.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can write Equation 1 from nothing but matrix products, and you know the places where such code goes wrong and still runs. The library's own version stands in `shnet_lib/model/sfm.py`: `PrintedSFM` is what you wrote, `ReleasedSFM` what the authors' code runs.
