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
# # Exercise 02 · Features
#
# *Belongs to [lesson 02](../notebooks/02_features.ipynb) · four exercises · 50 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how. The fold-outs go from a hint to the whole solution.

# %%
import torch
from torch import Tensor, nn

from shnet_course.checks import check

# %% [markdown]
# ## The mean of the real words
#
# *Difficulty: easy · 5 minutes · section 3.3: the "length-wise average" in Equation 2*
#
# HCAM will need one vector for the whole phrase: the mean of its words' features. The phrases of a batch are padded, and the LSTM writes states into the padding too. They mean nothing. With $m_t = 1$ at real words and 0 elsewhere:
#
# $$f^{l\,avg} = \frac{\sum_t m_t\, l_t}{\sum_t m_t}$$


# %%
def average_words(word_feats: Tensor, word_mask: Tensor) -> Tensor:
    """The mean over the real words of each phrase.

    Args:
        word_feats: (B, T, C) float.
        word_mask: (B, T) bool, True = a real word; each phrase has at least one.

    Returns:
        (B, C).
    """
    ### BEGIN SOLUTION: sum the real words, divide by how many
    weights = word_mask.unsqueeze(-1).float()  # (B, T, 1)
    return (word_feats * weights).sum(1) / weights.sum(1)
    ### END SOLUTION


# %% tags=["check"]
check("the mean of the real words", average_words)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `word_mask.unsqueeze(-1)` has the shape (B, T, 1). Multiply with it, and what stands in padding becomes 0.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you divide by T"</summary>
#
# `.mean(1)` divides by T, the longest phrase of the batch. Then the vector of a short phrase shrinks if a longer one shares its batch. Divide by `word_mask.sum(1)`, with an axis added for C.
#
# </details>

# %% [markdown]
# ## The last real state
#
# *Difficulty: easy · 10 minutes · section 3.1: $l_i$ is the LSTM's state at step $i$*
#
# Another way to one vector for the whole phrase: the LSTM's state after the last word, since by then it has read all of it. Which of the T states is that? In a padded batch a different one for each phrase.


# %%
def last_state(word_feats: Tensor, word_mask: Tensor) -> Tensor:
    """The state after the last real word of each phrase.

    Args:
        word_feats: (B, T, C) float, the state after each word.
        word_mask: (B, T) bool, True = a real word. Padding stands at the end; each phrase has at
            least one word.

    Returns:
        (B, C).
    """
    ### BEGIN SOLUTION: take the state at each last word
    last = word_mask.sum(1) - 1  # (B,), the place of the last word
    return word_feats[torch.arange(len(word_feats)), last]
    ### END SOLUTION


# %% tags=["check"]
check("the last real state", last_state)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many words has each phrase? The mask knows: True counts as 1.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# Two lists of indices, of the same length, choose pairs: `a[[0, 1], [3, 2]]` is `a[0, 3]` and `a[1, 2]`. A plain loop over the phrases is just as right.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "index 6 is out of bounds"</summary>
#
# A phrase of 6 words has its states at the places 0 to 5. How many words there are is one more than the place of the last.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "the shape (4, 5) is wanted, (4, 4, 5) came"</summary>
#
# `word_feats[:, last]` takes *all* the places in `last` from *each* phrase. Put `torch.arange(len(word_feats))` in the place of the colon.
#
# </details>

# %% [markdown]
# ## Pool to a grid
#
# *Difficulty: medium · 15 minutes · section 3.1: "through pooling and convolution operations"*
#
# Levels of different size become one grid. The released code pools first: it cuts a level into as many windows as the grid has cells, and takes the largest number of each window, channel by channel. The windows do not always fit. So the window of cell $i$ begins and ends at
#
# $$\left\lfloor i\,\frac{h}{G} \right\rfloor \quad\text{and}\quad \left\lceil (i + 1)\,\frac{h}{G} \right\rceil$$
#
# for a level that is $h$ high and a grid of $G$ cells; the end no longer belongs to the window. Columns likewise. If $G$ does not divide $h$ neighbours share a row, and if $G > h$ rows are used several times. PyTorch has this as one function. Write it without.


# %%
def pool_to_grid(level: Tensor, grid: int) -> Tensor:
    """Adaptive max-pooling.

    Args:
        level: (C, h, w) float; h and w may differ, and be larger or smaller than the grid.
        grid: G, how many cells the result is high and wide.

    Returns:
        (C, G, G), in each cell the largest numbers of its window.
    """
    ### BEGIN SOLUTION: take the maximum of the window of each cell
    channels, height, width = level.shape
    pooled = level.new_empty(channels, grid, grid)
    for i in range(grid):
        top, bottom = i * height // grid, -(-(i + 1) * height // grid)
        for j in range(grid):
            left, right = j * width // grid, -(-(j + 1) * width // grid)
            window = level[:, top:bottom, left:right]  # (C, rows, columns)
            pooled[:, i, j] = window.amax(dim=(1, 2))
    return pooled
    ### END SOLUTION


# %% tags=["check"]
check("pool to a grid", pool_to_grid)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two loops over the cells, and inside them one slice: `level[:, top:bottom, left:right]`.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `a // b` rounds down. `math.ceil(a / b)` rounds up, and so does `-(-a // b)`.
#
# </details>

# %% [markdown]
# <details><summary>It fails with torch's own "Expected reduction dim ..."</summary>
#
# A window was empty. Where $G > h$, $i\,h/G$ and $(i + 1)\,h/G$ often round *down* to the same number; the end is rounded up. Or your columns are cut with h: they are cut with w.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your maximum starts at 0"</summary>
#
# Features can be negative. If you begin with zeros and keep the larger number, a window of negative ones gives 0. Take the maximum of the window alone.
#
# </details>

# %% [markdown]
# ## Freeze a backbone
#
# *Difficulty: medium · 20 minutes · section 4.2: "both backbone's parameters are fixed during training"*
#
# A frozen network is one that training cannot change. After `freeze`, this has to hold, whatever the model around it is told:
#
# - no parameter asks for a gradient;
# - the features of a photo are those that the network gave in evaluation mode, and they do not depend on which other photos share its batch;
# - both still hold after `model.train()`, and after any number of steps.
#
# The check puts your frozen network into a model, calls `model.train()`, trains the model a little and looks at the features again.


# %%
def freeze(network: nn.Module) -> nn.Module:
    """A network that training cannot change.

    Args:
        network: a CNN with BatchNorms, images (I, 3, S, S) -> features (I, C, h, w).

    Returns:
        a module with the same features: the network itself, or one around it.
    """
    ### BEGIN SOLUTION: stop gradients, and keep it in evaluation mode

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network.requires_grad_(False).eval()

        def train(self, mode=True):
            return super().train(False)  # whatever is asked for

        def forward(self, images):
            return self.network(images)

    return Frozen()
    ### END SOLUTION


# %% tags=["check"]
check("freeze a backbone", freeze)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two different things move a network: gradients move its parameters, and in training mode a BatchNorm moves its running mean and variance without any gradient. `requires_grad_(False)` stops the first, `eval()` the second, until somebody calls `train()`.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `model.train()` calls `train(True)` on each module inside it. `train` is a method like any other: a class of your own, with the network inside, can have a `train` that does not do as it is told.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "model.train() wakes your BatchNorms"</summary>
#
# You called `eval()` once, and that was right, once. The training loop calls `model.train()` before each epoch, and that reaches every part of the model, yours too. What happens in your part when `train(True)` is called is for you to say.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "the statistics stay, but in training mode BatchNorm uses the batch's own"</summary>
#
# With `momentum = 0` the running statistics are not moved, and in training mode they are not *used* either: a BatchNorm then subtracts the mean of the batch. It has to be in evaluation mode.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can bring a level to the grid, take from a padded batch what is real, and freeze a network so that it stays frozen. The library's own versions stand in `shnet_lib/model/features.py` and, as `FrozenBackbone`, in `shnet_lib/model/backbone.py`.
