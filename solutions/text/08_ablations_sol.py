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
# # Exercise 08 · Ablations
#
# *Belongs to [lesson 08](../notebooks/08_ablations.ipynb) · five exercises · 80 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how. The fold-outs go from a hint to the whole solution. The last exercise is the finale of the course: there the check holds a contest.

# %%
from dataclasses import replace
from inspect import getdoc
from math import sqrt
from statistics import mean, stdev

import torch
from scipy.stats import t as student
from torch import Tensor, nn

from shnet_course.checks import check
from shnet_course.measure.ablations import estimate  # the interval, as the lesson has it
from shnet_lib.model.shnet import CHOICES, ModelConfig

# %% [markdown]
# ## A row of Table 2
#
# *Difficulty: easy · 10 minutes · section 4.4, Table 2*
#
# Each row of Table 2 is SHNet with something taken away or exchanged. Given SHNet's configuration, make the row's. The settings that matter are `sfm`, `fusion`, `word_vectors` and `positions`; this prints what they can be:

# %%
print({name: CHOICES[name] for name in ("sfm", "fusion", "word_vectors")})


# %%
def configuration_of(row: str, shnet: ModelConfig) -> ModelConfig:
    """The configuration of a row of Table 2.

    Args:
        row: "baseline", "only HCAM", "only SFM", "SFM+ConvLSTM", "SFM+Conv3D", "SHNet w/o GloVe",
            "SHNet w/o P.E." (positional embedding) or "SHNet".
        shnet: SHNet's own, with sizes (channels, grid, ...) that the row shares.

    Returns:
        a new configuration; `shnet` stays as it is (it is frozen).
    """
    ### BEGIN SOLUTION: what does each row change?
    changes = {
        "baseline": {"sfm": "none", "fusion": "none"},
        "only HCAM": {"sfm": "none"},
        "only SFM": {"fusion": "none"},
        "SFM+ConvLSTM": {"fusion": "convlstm"},
        "SFM+Conv3D": {"fusion": "conv3d"},
        "SHNet w/o GloVe": {"word_vectors": "onehot"},
        "SHNet w/o P.E.": {"positions": False},
        "SHNet": {},
    }
    return replace(shnet, **changes[row])
    ### END SOLUTION


# %% tags=["check"]
check("a row of Table 2", configuration_of)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `replace(shnet, positions=False)` is a copy in which one setting differs. Settings that stand in a dict go in with two stars: `replace(shnet, **changes)`.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `fusion="none"` is no HCAM: levels side by side. The baseline lacks two things, each of the other rows lacks or exchanges one.
#
# </details>

# %% [markdown]
# ## The baseline from parts
#
# *Difficulty: medium · 20 minutes · section 4.4: "direct concatenation of visual features with the tiled textual feature"*
#
# A configuration hides how little a baseline is. Here are its modules, not yet connected; connect them. The phrase becomes one vector, the mean of its real words, and stands at each cell of the grid. The three levels and three copies of that map lie side by side:
#
# $$G = \text{mix}\big(\big[V_2;\, V_3;\, V_4;\, l^{avg};\, l^{avg};\, l^{avg}\big]\big)$$
#
# and the decoder is that of all rows: ASPP, then the up-sampling. (Three copies, since the library's module also serves “only SFM”, where SFM gave each level its own words.)

# %%
from shnet_course.checks.lesson_08 import BaselineParts

print(getdoc(BaselineParts))


# %%
def baseline(
    parts: BaselineParts,
    levels: list[Tensor],
    image_index: Tensor,
    words: Tensor,
    word_mask: Tensor,
) -> Tensor:
    """The forward pass of Table 2's first row.

    Args:
        parts: the modules, with the shapes printed above.
        levels: of the backbone, three (I, C_level, h, w), once an image.
        image_index: (B,) int, which image each phrase belongs to; I < B.
        words: (B, T) int, word ids, padded at the end.
        word_mask: (B, T) bool, True = a real word.

    Returns:
        (B, 1, 4H, 4W) logits.
    """
    ### BEGIN SOLUTION: project, encode, tile, concatenate, mix, decode
    visual = [  # (I, C_level, h, w) -> (I, C, H, W) -> (B, C, H, W)
        project(level)[image_index]
        for project, level in zip(parts.projections, levels, strict=True)
    ]
    word_feats = parts.word_encoder(words)  # (B, T, C)
    weights = word_mask.unsqueeze(-1).float()  # (B, T, 1)
    sentence = (word_feats * weights).sum(1) / weights.sum(1)  # (B, C)
    tiled = sentence[:, :, None, None].expand_as(visual[0])  # (B, C, H, W)
    context = parts.mix(torch.cat([*visual, tiled, tiled, tiled], dim=1))
    return parts.upsample(parts.aspp(context))
    ### END SOLUTION


# %% tags=["check"]
check("the baseline from parts", baseline)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `parts.projections` is a list of three modules, one for each level. `level[image_index]` repeats an image's features for each of its phrases: (I, ...) -> (B, ...).
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# A vector (B, C) becomes a map with `sentence[:, :, None, None].expand_as(visual[0])`. `torch.cat([...], dim=1)` lays maps side by side. The mean of the real words was an exercise of lesson 02.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "must match the existing size" or "Sizes of tensors must match"</summary>
#
# One of the maps still has the images' I in front and another has the phrases' B. Choose with `image_index` before you concatenate.
#
# </details>

# %% [markdown]
# ## An interval over seeds
#
# *Difficulty: easy · 10 minutes · why: each number of Table 2 is one run*
#
# A second run with another seed gives another number. From a few runs, where does the mean of very many lie? In 19 of 20 cases within
#
# $$\bar x \pm t_{n-1} \frac{s}{\sqrt n}\,, \qquad s^2 = \frac{1}{n - 1} \sum_i (x_i - \bar x)^2$$
#
# of the mean of the $n$ runs. $t_{n-1}$ is Student's factor: 2.5 % of its distribution with $n - 1$ degrees of freedom lie above it, and 2.5 % below $-t_{n-1}$.


# %%
def interval(values: list[float]) -> tuple[float, float]:
    """The mean of a few runs, and how far the true one may be from it.

    Args:
        values: (n,) floats, the overall IoU of each seed, n at least 2.

    Returns:
        the mean, half the width of its 95 % interval.
    """
    ### BEGIN SOLUTION: mean, standard deviation, Student's factor
    n = len(values)
    factor = student.ppf(0.975, n - 1)
    return mean(values), float(factor * stdev(values) / sqrt(n))
    ### END SOLUTION


# %% tags=["check"]
check("an interval over seeds", interval)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `student.ppf(p, freedom)` is the value below which the share p lies. Which share lies below $t_{n-1}$?
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your standard deviation divides by n"</summary>
#
# numpy's `std` divides by $n$ unless you say `ddof=1`; torch's `std` and `statistics.stdev` divide by $n - 1$. For three runs the two differ by a fifth.
#
# </details>

# %% [markdown]
# ## Is the difference clear?
#
# *Difficulty: medium · 10 minutes · why: two overlapping intervals say less than they seem to*
#
# Two rows, a few seeds each. Their intervals overlap. Are the rows equally good? That does not follow. Runs of the same seed see the same batches in the same order, and what is easy or hard in that order moves both rows together. Each row's own interval is wide because of that luck, and in the difference of two runs of one seed it falls away.
#
# So take the differences $d_i$ seed by seed, put the interval around *their* mean, and call the difference clear if zero lies outside.


# %%
def is_clear(ours: dict[int, float], theirs: dict[int, float]) -> bool:
    """Whether one of two rows is clearly better, whichever.

    Args:
        ours, theirs: seed -> overall IoU. They come in any order, and either may have seeds
            that the other lacks; two seeds or more stand in both.

    Returns:
        True if the 95 % interval of the mean difference leaves zero out. `estimate(values)` has
        the `.mean` and the `.half_width` of a list of values.
    """
    ### BEGIN SOLUTION: differences of runs that share a seed, then their interval
    differences = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    found = estimate(differences)
    return abs(found.mean) > found.half_width
    ### END SOLUTION


# %% tags=["check"]
check("is the difference clear?", is_clear)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The keys are the seeds. Which of them stand in both dicts?
#
# </details>

# %% [markdown]
# <details><summary>It fails with "two intervals that overlap do not make two rows equal"</summary>
#
# You compared two intervals with each other. There is only one that answers the question, the one around the differences. (Of intervals that do *not* overlap the rows do differ: that test is right when it says yes, and says it too rarely.)
#
# </details>

# %% [markdown]
# ## The finale: a fusion of your own
#
# *Difficulty: hard · 30 minutes · why: this is what the paper's authors did*
#
# Section 3.3 puts HCAM between SFM and the decoder, and Table 2 says that it beats a plain `Conv3D` there. Now it is your turn: write a module for that place, and beat `Conv3D` on RefShapes.
#
# The contest is the same for both:
#
# - both stand in the trained SHNet of this course, in the place of its HCAM. What comes before is fixed. The decoder goes on learning, since your $G$ is new to it;
# - both are trained on 400 expressions for 40 steps of 16, with AdamW and the poly schedule, from the same seed and in the same order;
# - both may have 125,000 parameters at most. `Conv3D` has 110,784. HCAM has 332,544 and is out;
# - the higher overall IoU on 200 expressions of val wins.
#
# Any module with HCAM's signature may take part:
#
# $$\text{three } f^v_i\ (B, C, H, W),\ \text{three } f^l_i\ (B, T, C),\ \text{the word mask}\ (B, T) \;\longrightarrow\; G\ (B, C, H, W)$$
#
# and whatever makes one of the other is allowed: gates, attention, pooling, more layers or none. What decides with so few steps? You may look at `shnet_lib/model/fusion.py`, where Tables 2 and 4 have theirs. The check takes about twenty seconds on one core the first time in a notebook, most of them for what comes before the fusion, and a few seconds each time after that. It prints both scores. One seed is one run: before you believe a difference, ask for others with `check("the finale", MyFusion, seed=1)`.


# %%
class MyFusion(nn.Module):
    """Three levels and their words -> one map, in HCAM's place."""

    def __init__(self, channels: int) -> None:
        """channels: C, here 64."""
        super().__init__()
        ### BEGIN SOLUTION: the layers that learn
        self.join = nn.Sequential(
            nn.Conv2d(3 * channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.gate = nn.Linear(3 * channels, channels)
        self.look_around = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(3 * channels, channels, 1)
        for last in (self.look_around, self.mix):  # begin as the mean of the levels
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        ### END SOLUTION

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        """Three (B, C, H, W), three (B, T, C), (B, T) bool -> (B, C, H, W)."""
        ### BEGIN SOLUTION: from three levels to one map
        weights = word_mask.unsqueeze(-1).float()  # (B, T, 1)
        sentences = [(level * weights).sum(1) / weights.sum(1) for level in words]  # (B, C) each
        gate = 1 + torch.tanh(self.gate(torch.cat(sentences, dim=1)))  # (B, 3C) -> (B, C)
        levels = torch.cat(visual, dim=1)  # (B, 3C, H, W)
        joined = self.join(levels) * gate[:, :, None, None]  # (B, C, H, W)
        return sum(visual) / 3 + self.mix(levels) + self.look_around(joined)
        ### END SOLUTION


# %% tags=["check"]
check("the finale", MyFusion)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Begin with something that passes the rules, such as `sum(visual) / 3` and no layer at all, and look at its score. It loses, but not by much: SFM's features are good as they are. `Conv3D` begins with random weights and has to find that again.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# Keep that mean, and *add* to it what layers make of the levels: a residual connection. If the last of these layers begins with zero weights (`nn.init.zeros_(layer.weight)`), the first step starts from the mean and every step improves on it.
#
# </details>

# %% [markdown]
# <details><summary>Hint 3</summary>
#
# `Conv3D` reads no words and has no non-linearity. A 1 x 1 convolution over the three levels, a BatchNorm and a ReLU make one map of them and cost few parameters, $3C \cdot C$; a 3 x 3 convolution can then look around in it. The mean of the words, through a linear layer, gives one number a channel: multiply the map with it, and the phrase says which channels count.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "not above it yet"</summary>
#
# Do other seeds say the same? If you lose by little on each of them, your module is about as good as `Conv3D`; ask what it can do at step 1. If your score is far below, something starts too large or blocks what SFM found: a sigmoid halves it, a random convolution mixes it up.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your module has … parameters"</summary>
#
# A 3 x 3 convolution from $3C$ channels to $C$ has $9 \cdot 3C \cdot C = 110{,}592$ weights at $C = 64$: nearly the whole budget. Bring the channels down with a 1 x 1 convolution first.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can build a row of Table 2 from a configuration and from modules, say what a few runs show and what they do not, and put a module of your own into a network and ask whether it is better. That is the work behind section 4.4. Whether it is better on photos, after whole epochs, is the next question; [notebook 10](../notebooks/10_train_unc.ipynb) trains on UNC.
