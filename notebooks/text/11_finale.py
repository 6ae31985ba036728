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
# # 11 · The finale: a fusion of your own
#
# *Sections 3.3 and 4.4 · 20 minutes to read, 1 minute to run on two CPU cores*
#
# **You need to know** what HCAM does ([04 · HCAM](04_hcam.ipynb)), and how little one seed says ([08 · Ablations](08_ablations.ipynb)).
#
# In this lesson you will
#
# - take HCAM out of a trained network, and put other modules in its place;
# - predict, then measure, which of them learns most in forty steps;
# - read a table of what has been reached, seed by seed;
# - enter a module of your own.

# %% [markdown]
# ## What the authors did, in small
#
# Section 3.3 puts a new module between SFM and the decoder. Table 2 says that it beats a plain Conv3D there, and Table 4 that it beats three modules of others. To have an idea for that place, to build it and to compare it fairly is the work behind the paper. Here you do the same.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"hcam"}))

# %% [markdown]
# ## The rules
#
# A comparison is fair if everything but the module is the same:
#
# - Each module stands in the trained SHNet of this course, in the place of its HCAM. What comes before is fixed. The decoder goes on learning, since the new $G$ is strange to it.
# - Each one gets the same few steps on the same expressions in the same order.
# - Each one has the same budget of parameters, so that nobody wins by size alone.
# - The overall IoU on expressions of val decides.

# %% tags=["nbval-check-output"]
from shnet_course.checks.finale import BATCH_SIZE, CHANNELS, EXPRESSIONS, PARAMETERS, STEPS

print(f"{STEPS} steps of {BATCH_SIZE}, from {EXPRESSIONS['train']} expressions of train")
print(f"{EXPRESSIONS['val']} expressions of val; C = {CHANNELS}")
print(f"at most {PARAMETERS:,} parameters")

# %% [markdown]
# A module takes what HCAM takes, and gives what HCAM gives: three $f^v_i$ (B, C, H, W), three $f^l_i$ (B, T, C) and the word mask (B, T) become one $G$ (B, C, H, W). What it does between is free. The smallest entry has no layer at all:

# %% tags=["nbval-check-output"]
import torch
from torch import nn


class Mean(nn.Module):
    """The mean of the three levels. It reads no words."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, visual, words, word_mask):
        return sum(visual) / 3


levels = [torch.randn(2, CHANNELS, 16, 16) for _ in range(3)]
words, word_mask = [torch.randn(2, 5, CHANNELS)] * 3, torch.ones(2, 5, dtype=torch.bool)
print(tuple(Mean(CHANNELS)(levels, words, word_mask).shape))

# %% [markdown]
# `keep_the_rules` looks at an entry before it is trained. HCAM itself is too large:

# %% tags=["nbval-check-output"]
from shnet_course.checks import CheckFailed
from shnet_course.checks.finale import keep_the_rules
from shnet_lib.model.fusion import Conv3D
from shnet_lib.model.hcam import HCAM

for make in (Mean, Conv3D, HCAM):
    try:
        keep_the_rules(make(CHANNELS))
        print(f"{make.__name__}: may take part")
    except CheckFailed as error:
        print(f"{make.__name__}: {error}")

# %% [markdown]
# ## What has been reached
#
# HCAM and Conv3D have run already, with three seeds each. HCAM stands outside the contest, as a measure. All of its weights are new, as those of Conv3D are. **Predict** before you read on: who learns more in forty steps, Conv3D with 110,784 parameters or HCAM with 332,544? And where will `Mean` land, which has no parameter at all?

# %%
from pathlib import Path

from shnet_course.checks.finale import enter, reached_table
from shnet_lib.training.ablations import read_lines

seeds = (0, 1, 2)
lines = read_lines(Path("../docs/results/finale.csv")) + enter("mean of the levels", Mean, seeds)
reached_table(lines)

# %% [markdown]
# Conv3D leads with all three seeds. HCAM has three times its parameters and ends beside `Mean`, and its seeds lie 0.10 apart. So the size of a module does not buy speed: 332,544 new weights have to be found in forty steps, and until then the decoder reads noise. `Mean` hands it maps that it nearly knows.
#
# ## Your entry
#
# Two things to think about before you write. Where does your module *begin*: is its first $G$ one that the decoder can use, or noise? And does it read the phrase? The entry below is a modest one: it begins as the mean and may leave it. Change it, or write another one, and run the three cells again as often as you like.


# %%
class MyFusion(nn.Module):
    """The mean of the levels, and what a 1 x 1 convolution adds to it."""

    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Conv2d(3 * channels, channels, 1)
        nn.init.zeros_(self.mix.weight)  # at first it adds nothing
        nn.init.zeros_(self.mix.bias)

    def forward(self, visual, words, word_mask):
        return sum(visual) / 3 + self.mix(torch.cat(visual, dim=1))


keep_the_rules(MyFusion(CHANNELS))

# %%
lines = [line for line in lines if line["module"] != "yours"] + enter("yours", MyFusion, seeds)
reached_table(lines)

# %% [markdown]
# Is a difference more than luck? Every seed gave all entries the same batches, so take the difference seed by seed. With three seeds the interval of a mean is 4.3 standard errors wide on each side (lesson 08). A full dot lies clear of 0.

# %%
from shnet_course.measure.ablations import by_row, differences
from shnet_course.pictures.lesson_09 import draw_intervals

found = differences(by_row(lines, "overall_iou", row="module"), to="Conv3D (Table 2)")
more = {
    name: (d.mean, d.mean - d.half_width, d.mean + d.half_width)
    for name, d in sorted(found.items(), key=lambda item: -item[1].mean)
}
show(draw_intervals(more, 0, "overall IoU minus Conv3D's"))

# %% [markdown]
# The modest entry leads with all three seeds, and its interval ends just above 0: clear, by little. The module begins with maps that the decoder nearly knows, and may move away from them. `Mean` is behind Conv3D by four points on average, and its interval ends just below 0. HCAM's is the widest, since its seeds differ most. Three seeds are few.
#
# **Now you:** [The finale: a fusion of your own](../exercises/08_ablations_ex.ipynb), the last exercise of the course. Its check holds this contest and notes that you won. Its hints lead to a module that wins clearly.
#
# ## What forty steps cannot say
#
# - *They reward a good start.* The paper trains for many epochs, and there a module that starts badly has time to catch up.
# - *What comes before was trained with HCAM.* SFM learned to give HCAM what it needs. A whole training could have helped another module.
# - *These are scenes.* Nothing says that the order is the same on photos.
# - *The 200 expressions were looked at.* Whoever tries twenty modules has chosen on them. Keep testA for one last look.
#
# So the contest answers its own question, and a paper has to ask a larger one: the same length for all, several seeds, and a split that nobody has seen.

# %% [markdown]
# ## Five questions
#
# 1. Why does the decoder go on learning in the contest?
# 2. A module begins with random weights and loses after forty steps. What do you not know yet?
# 3. Why is the difference taken seed by seed?
# 4. Your module wins by 0.02 on seed 0. What do you do before you tell anybody?
# 5. What would you have to run to say that it beats HCAM "as in Table 2"?
#
# <details><summary>Answers</summary>
#
# 1. The decoder learned to read HCAM's $G$. With fixed weights the contest would ask who imitates HCAM best.
# 2. Whether it would have caught up. Forty steps measure how fast one starts.
# 3. The batches of a seed are easy or hard for all entries. What they share falls away in the difference.
# 4. Run other seeds, and look at an interval of the differences.
# 5. Whole trainings of both from the start, equally long, several seeds, on the paper's data.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - A trained network took other modules in HCAM's place, with everything else the same.
# - You had an order in mind before forty steps gave theirs.
# - The table told parameters and seeds beside each score, and only a difference clear of 0 is worth a sentence.
# - Your own module stood in the same table.
#
# What other networks changed since SHNet: [after SHNet](../docs/after_shnet.md).
