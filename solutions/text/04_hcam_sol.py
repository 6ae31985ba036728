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
# # Exercise 04 · HCAM: gates between levels
#
# *Belongs to [lesson 04](../notebooks/04_hcam.ipynb) · four exercises · 60 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how, and where the answer is a map it draws what was wanted beside yours. The fold-outs go from a hint to the whole solution.

# %%
import torch
import torch.nn.functional as F
from torch import Tensor

from shnet_course.checks import check

# %% [markdown]
# ## An affinity
#
# *Difficulty: easy · 10 minutes · section 3.3, Equation 2*
#
# Level $i$ has pixels, level $j$ has heard a sentence. Where in its grid should $i$ listen to $j$? Equation 2 puts the one vector of the sentence beside every pixel, convolves the two together and makes a gate between 0 and 1 of each number:
#
# $$\Lambda_{ij} = \sigma(\mathrm{Conv}([f^v_i\,;\,f^{l\,avg}_j]))$$
#
# “Conv” is one 3 x 3 convolution here, with neither bias nor BatchNorm. Around the grid it reads zeros, so that the grid keeps its size. Neither pixels nor sentence stand there.


# %%
def affinity(visual: Tensor, sentence: Tensor, kernel: Tensor) -> Tensor:
    """Equation 2: how far each number of another level may come in.

    Args:
        visual: f^v_i (B, C, H, W).
        sentence: f^{l avg}_j (B, C), one vector a phrase.
        kernel: (C, 2C, 3, 3); its first C inputs are for the pixels, the others for the sentence.

    Returns:
        Lambda_ij (B, C, H, W), between 0 and 1.
    """
    ### BEGIN SOLUTION: put the sentence beside every pixel, convolve, make gates
    tiled = sentence[:, :, None, None].expand_as(visual)  # (B, C) -> (B, C, H, W)
    stacked = torch.cat((visual, tiled), dim=1)  # (B, 2C, H, W)
    return torch.sigmoid(F.conv2d(stacked, kernel, padding=1))
    ### END SOLUTION


# %% tags=["check"]
check("an affinity", affinity)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `sentence[:, :, None, None]` has the shape (B, C, 1, 1), and `expand_as` or `expand(-1, -1, H, W)` repeats it over the grid. Then it can be joined to the pixels along the channels.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `F.conv2d(x, kernel, padding=1)` reads one cell of zeros around the grid.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "softmax shares 1 out"</summary>
#
# Gates do not compete. Each is open or shut for itself: all of them may be open, and none.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your sentence goes on beyond the grid"</summary>
#
# Look at the border in the picture of the difference: inside there is none. At a corner the kernel has only four of its nine taps on the grid, so that it meets the sentence four times, not nine. Tile first, then convolve.
#
# </details>

# %% [markdown]
# ## The exchange
#
# *Difficulty: easy · 10 minutes · section 3.3, Equation 3, first line*
#
# Now each level takes from the *other* two what the gates let in. The sign $\circ$ multiplies number by number:
#
# $$g_i = f^v_i + \sum_{j \ne i} \Lambda_{ij} \circ f^v_j$$
#
# All levels do so at the same time: what is passed on is what SFM gave, $f^v$, and never what a level has just received.


# %%
def exchange(visual: Tensor, affinity: Tensor) -> Tensor:
    """Equation 3, first line.

    Args:
        visual: f^v (3, B, C, H, W); the paper's levels 2, 3, 4 are 0, 1, 2 here.
        affinity: (3, 3, B, C, H, W); affinity[i, j] is Lambda_ij. Somebody computed all nine.

    Returns:
        g (3, B, C, H, W).
    """
    ### BEGIN SOLUTION: add to each level what it takes from the others
    exchanged = []
    for i in range(3):
        g = visual[i]
        for j in range(3):
            if j != i:
                g = g + affinity[i, j] * visual[j]
        exchanged.append(g)
    return torch.stack(exchanged)
    ### END SOLUTION


# %% tags=["check"]
check("the exchange", exchange)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Six products in all. Two loops and one `if` say which; `torch.stack` makes one tensor of a list of three.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your sum over j includes i"</summary>
#
# Under the sum stands $j \ne i$. A level has itself already, whole, as the first term.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you pass on what a level has just received"</summary>
#
# `visual[i] += ...` writes the new level into the place that the next level reads from. Keep the new ones in a list of their own. (`g = visual[i]` and then `g += ...` writes into `visual` too: `g` is only another name for it.)
#
# </details>

# %% [markdown]
# ## Conv3D
#
# *Difficulty: medium · 15 minutes · section 3.3, Equation 3, second line*
#
# $$G = \mathrm{Conv3D}([g_2; g_3; g_4])$$
#
# Three levels lie on top of each other, and a kernel three levels deep makes one map of them. Around the *grid* it reads a cell of zeros, as before. Above level 2 and below level 4 there is nothing, not even zeros: the kernel fits in one place, and one level is left.


# %%
def aggregate(levels: list[Tensor], kernel: Tensor, bias: Tensor) -> Tensor:
    """Equation 3, second line.

    Args:
        levels: g_2, g_3, g_4, each (B, C, H, W).
        kernel: (C', C, 3, 3, 3): outputs, inputs, levels, rows, columns; the levels from 2 to 4.
        bias: (C',), added once.

    Returns:
        G (B, C', H, W).
    """
    ### BEGIN SOLUTION: stack the levels, convolve them as one
    stack = torch.stack(levels, dim=2)  # (B, C, 3, H, W)
    deep = F.conv3d(stack, kernel, bias, padding=(0, 1, 1))  # (B, C', 1, H, W)
    return deep.squeeze(2)
    ### END SOLUTION


# %% tags=["check"]
check("Conv3D", aggregate)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# There are two good ways. `F.conv3d` wants (B, C, depth, H, W), so ask where a new axis for the levels has to go, and give `padding` one number for each of the three directions. Or: three 2-D convolutions, one for each level with its slice of the kernel, `kernel[:, :, n]`, added up.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "padded in depth"</summary>
#
# `padding=1` is a cell of zeros in all three directions, depth too. Then the kernel fits in three places, and twice one of its three slices reads nothing. `padding=(0, 1, 1)` leaves the depth alone.
#
# </details>

# %% [markdown]
# <details><summary>It fails with a shape that has an axis too few</summary>
#
# `squeeze()` takes away *every* axis of length 1, and B as well if there is one phrase. `squeeze(2)` or `[:, :, 0]` takes the depth alone.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "levels and channels are mixed up" or "expected input ... to have 3 channels"</summary>
#
# The kernel's second axis is channels, its third one levels, and what it meets must be in the same order: (B, C, 3, H, W). The paper writes $\mathbb{R}^{3 \times C \times H \times W}$, levels first, and in the check C is 3 as well, so that torch has nothing to complain about. If you write it as a 2-D convolution of `torch.cat(levels, dim=1)`, the channels of level 2 come first, then those of level 3: bring the kernel into that order with a `transpose` before you flatten it.
#
# </details>

# %% [markdown]
# ## The whole module
#
# *Difficulty: hard · 25 minutes · section 3.3, Figure 3*
#
# Now from what SFM gave to the context $G$, with everything that would be learnt as an argument. “Length-wise average” in the paper means: the mean of a phrase's words. Padding is no word. Each level $j$ has its own reading of the words, so that there are three sentence vectors, and each level $i$ has its own kernel for Equation 2, which serves both of its $j$.


# %%
def hcam(
    visual: list[Tensor],
    words: list[Tensor],
    word_mask: Tensor,
    kernels: list[Tensor],
    depth_kernel: Tensor,
) -> Tensor:
    """Equations 2 and 3, without biases and BatchNorms.

    Args:
        visual: f^v of the levels 2, 3, 4, each (B, C, H, W).
        words: f^l of the levels 2, 3, 4, each (B, T, C).
        word_mask: (B, T) bool, True = a real word.
        kernels: of the convolution in Equation 2, one for each level i: (C, 2C, 3, 3), first the
            inputs for the pixels.
        depth_kernel: of Conv3D, (C, C, 3, 3, 3): outputs, inputs, levels, rows, columns.

    Returns:
        G (B, C, H, W).
    """
    ### BEGIN SOLUTION: sentences, gates, exchange, Conv3D
    real = word_mask[:, :, None].float()  # (B, T, 1)
    sentences = [(level * real).sum(1) / real.sum(1) for level in words]  # three (B, C)

    exchanged = []
    for i in range(3):
        g = visual[i]
        for j in range(3):
            if j != i:
                tiled = sentences[j][:, :, None, None].expand_as(visual[i])
                stacked = torch.cat((visual[i], tiled), dim=1)  # (B, 2C, H, W)
                gate = torch.sigmoid(F.conv2d(stacked, kernels[i], padding=1))  # Eq. 2
                g = g + gate * visual[j]
        exchanged.append(g)

    stack = torch.stack(exchanged, dim=2)  # (B, C, 3, H, W)
    return F.conv3d(stack, depth_kernel, padding=(0, 1, 1)).squeeze(2)
    ### END SOLUTION


# %% tags=["check"]
check("HCAM", hcam)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Your functions from above do nearly all of it, if you have written them: `affinity` for each pair, `aggregate` with `torch.zeros` of C numbers as bias. `exchange` wants tensors, so `torch.stack(visual)` and the gates stacked to (3, 3, B, C, H, W) (those on the diagonal are not used), and gives one; `list(g)` makes of it what `aggregate` takes. What is new are the three sentence vectors, and which level, which sentence and which kernel meet in the gate of a pair.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# Read the indices of $\Lambda_{ij} = \sigma(\mathrm{Conv}([f^v_i; f^{l\,avg}_j]))$ aloud: pixels of $i$, sentence of $j$. The kernel belongs to $i$. What then goes through the gate are the pixels of $j$. For the mean: `word_mask[:, :, None]` times the words makes padding 0; divide by how many are real.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your gate hears the level's own sentence"</summary>
#
# Then nothing of level $j$'s words reaches level $i$. That sentence is the bridge between the levels, says the paper: it tells level $i$ what $j$ has heard.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can write section 3.3 from convolutions and sums, and tell which index belongs where. The library's own version stands in `shnet_lib/model/hcam.py`. It gives the same numbers and does less work for them: the half of Equation 2 that reads pixels is computed once for both $j$, and Conv3D is a 2-D convolution.
