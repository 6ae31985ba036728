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
# # 08 · Ablations
#
# *Section 4.4, Tables 2, 3 and 4 · 25 minutes to read, 10 seconds to run on two CPU cores*
#
# **You need to know** the parts of the network (lessons 02 to 05) and what overall IoU is (lesson 07).
#
# In this lesson you will
#
# - build every row of Tables 2 and 4 from one `ModelConfig`, and count its parameters;
# - read runs of three seeds, and put an interval around a difference;
# - lay our differences beside the paper's, and see which of them are clear;
# - work out how often a single run misleads, and how many seeds a difference needs.

# %% [markdown]
# ## Which part carries the result?
#
# An *ablation* takes one part away and measures what is lost. The paper does that in Tables 2, 3 and 4: without SFM, without HCAM, with other aggregators, with one-hot words, without positions, with another backbone. It was a sound plan. Each part is tested alone and together with the other one, and Table 4 puts rival modules into the *same* network.
#
# Each number there is one run. A second run with another seed would give another number. So how large must a difference be to mean something?

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture(lit={"sfm", "hcam"}))

# %% [markdown]
# ## A row is a configuration
#
# Table 2 has eight rows and Table 4 has four. In the library a row is what the row changes in `ModelConfig`, and nothing else. `{}` changes nothing: that is SHNet, whose fusion is HCAM.

# %% tags=["nbval-check-output"]
from shnet_lib.model.shnet import TABLE_2, TABLE_4

for name, change in (TABLE_2 | TABLE_4).items():
    print(f"{name:16} {change}")

# %% [markdown]
# The rows do not cost the same, and a row with more parameters may win for that reason alone. Count the trained parameters of each row at the paper's size, for a vocabulary of 10,000 words whose vectors GloVe initialises. **Predict:** Table 4 compares HCAM with MGATE, TGFE and GBFM. Which of the four makes the largest network?

# %% tags=["nbval-check-output"]
from dataclasses import replace

from shnet_course.measure.trace import PAPER_WORDS, count_parameters
from shnet_lib.model.shnet import PAPER


def trained_millions(change: dict) -> float:
    _, trained, _ = count_parameters(replace(PAPER, **change), PAPER_WORDS)[-1]
    return trained / 1e6


sizes = {name: trained_millions(change) for name, change in (TABLE_2 | TABLE_4).items()}
for name in sorted(sizes, key=sizes.get):
    print(f"{name:16} {sizes[name]:6.1f} M")

# %% [markdown]
# MGATE makes a network as large as HCAM's; TGFE's has a third fewer trained parameters. The largest of all reads one-hot words: its LSTM has weights for every single word.
#
# **Now you:** [A row of Table 2, The baseline from parts](../exercises/08_ablations_ex.ipynb).
#
# ## Our runs
#
# The photos of UNC cannot be shipped, so we put the same questions to RefShapes. Its `unc` flavour has short phrases full of places, as UNC has. Each row was trained for 4,000 steps, with three seeds. `SHNet, Eq. 1 as printed` is lesson 03's other form of SFM. Here is the overall IoU on the validation split, and the command of the first run.

# %%
from pathlib import Path

from shnet_course.measure.ablations import by_row
from shnet_course.tables import Table
from shnet_lib.training.ablations import read_lines

lines = read_lines(Path("../docs/results/ablations.csv"))
values = by_row(lines, "val_overall_iou")
cells = [[row, *(f"{seeds[seed]:.3f}" for seed in (0, 1, 2))] for row, seeds in values.items()]
first = f"{lines[0]['command']} (torch {lines[0]['torch']}, {lines[0]['device']})"
Table(["row", "seed 0", "seed 1", "seed 2"], cells, note=first)

# %% [markdown]
# <details><summary><b>Aside:</b> which rows are missing?</summary>
#
# Row 6 of Table 2, “w/o GloVe”, has no counterpart here, because all our rows read one-hot words. The words of RefShapes are few, and mean what the scenes show.
#
# Table 3 compares backbones on photos: DeepLabv3+ against ResNet-101, at 320 and at 448. RefShapes has a small backbone of its own and cannot answer that. `model.backbone=resnet101` with `PRESET=unc-320` is the run ([lesson 10](10_train_unc.ipynb)).
#
# </details>
#
# ## Still learning?
#
# A row may end low because the network without its part cannot do it, or because this network learns later. Here is each row's validation over the steps, a line per seed, with SHNet's three runs in grey. **Predict:** has any row stopped rising?

# %%
from shnet_course.pictures.base import draw_learning_curves

show(draw_learning_curves(read_lines(Path("../docs/results/ablations_curves.csv")), to="SHNet"))

# %% [markdown]
# None has stopped: in the last 500 steps nearly every run still gains about a point, although the learning rate is close to zero by then. The rows that end near SHNet part from the others between steps 1,500 and 2,500. So 4,000 steps are what we could afford, and not where learning ends. Would a row without a part catch up later? Only a longer run would tell. The shipped SHNet took 20,000 steps and reaches 0.92.
#
# ## Seed by seed
#
# All rows of one seed see the same batches in the same order. A lucky order may help them all. So we subtract seed by seed, and only then take the mean. How much luck does that remove? Let $s$ be the standard deviation of the differences. If two rows had nothing in common, $s^2$ would be the sum of the squares of their own standard deviations. **Predict:** is $s$ smaller than that for every row?

# %%
from math import sqrt
from statistics import mean, stdev

differences_of = {
    row: [seeds[seed] - values["SHNet"][seed] for seed in (0, 1, 2)]
    for row, seeds in values.items()
    if row != "SHNet"
}
print("minus SHNet's             seed 0  seed 1  seed 2      s   if unrelated")
for row, d in differences_of.items():
    unrelated = sqrt(stdev(values[row].values()) ** 2 + stdev(values["SHNet"].values()) ** 2)
    print(f"{row:24}", *(f"{x:+7.3f}" for x in d), f"{stdev(d):8.3f} {unrelated:9.3f}")

# %% [markdown]
# Not for every row. “only HCAM”, “SHNet w/o P.E.”, GBFM and the printed form move with SHNet from seed to seed, and their $s$ is half of what it would be otherwise, or less; SFM+ConvLSTM stays within 0.6 points of it. The others share little or no luck with SHNet. There subtracting seed by seed gains nothing.
#
# ## How wide is an interval?
#
# If the differences $d_i$ are spread like a bell curve, the mean of $n$ of them lies within
#
# $$\bar d \pm t_{n-1} \frac{s}{\sqrt n}$$
#
# of the true one in 19 of 20 cases. $t_{n-1}$ is Student's factor. **Predict:** for many seeds the factor is 2. How large is it for two seeds?

# %% tags=["nbval-check-output"]
from scipy.stats import t as student

for seeds in (2, 3, 5, 10, 30):
    print(f"{seeds:3} seeds: factor {student.ppf(0.975, seeds - 1):6.2f}")

# %% [markdown]
# For two seeds the factor is huge, and for one there is no interval at all. By hand for the baseline of Table 2, and as the library has it:

# %%
from shnet_course.measure.ablations import differences

found = differences(values, to="SHNet")
d = differences_of["baseline"]
half_width = student.ppf(0.975, len(d) - 1) * stdev(d) / sqrt(len(d))
assert abs(half_width - found["baseline"].half_width) < 1e-9
print(f"by hand  {mean(d):+.3f} ± {half_width:.3f}")
print(f"library  {found['baseline']}")

# %% [markdown]
# **Now you:** [An interval over seeds, Is the difference clear?](../exercises/08_ablations_ex.ipynb)
#
# ## Beside the paper's
#
# How many points of overall IoU does a row lose against SHNet? Ours are measured on RefShapes and have intervals. The paper's are measured on UNC and stand as single diamonds. The data sets differ, so the sizes of the differences may differ too. What can be compared is their sign and their order.
#
# A difference is *clear* if its interval leaves zero out. **Predict:** which of them are clear?

# %%
from shnet_course.pictures.lesson_08 import draw_differences

show(draw_differences(found, "SHNet"))
for row, difference in found.items():
    print(f"{row:24} {difference}: {'clear' if difference.is_clear else 'not clear'}")

# %% [markdown]
# A row that is not clear is not refuted. The difference may be small, or there may be too few seeds.
#
# Section 4.4 also compares the parts with the baseline: +4.83 points for “only HCAM”, +7.46 for “only SFM”. Ours:

# %%
above = differences(values, to="baseline")
for row in ("only HCAM", "only SFM", "SHNet"):
    print(f"{row:10} {above[row]}")

# %% [markdown]
# ## What holds up
#
# On RefShapes, after 4,000 steps and with three seeds per row:
#
# - **The pair helps.** SHNet stands clearly above the baseline, by nine points, as in the paper.
# - **Neither part helps alone.** “only HCAM” and “only SFM” lie no higher than the baseline. In the paper each gains much by itself.
# - **That HCAM is better than ConvLSTM or Conv3D is not shown.** The three means are level, and Conv3D's interval is wide. In the paper SHNet leads by 0.68 and 0.82 points. And Conv3D has fewer parameters.
# - **Of Table 4's rivals one is clearly worse.** GBFM lies 13 points below HCAM, lower than the baseline. Phrases like “dotted green square” it hardly ever answers. MGATE and TGFE cannot be told from HCAM. In the paper HCAM leads all three by 1.0 to 1.4 points.
# - **Positions matter far more here**: some 18 points, against 0.91. Many of these phrases are about places ([lesson 01](01_data_and_words.ipynb) counts them).
# - **A large difference may not be clear.** “only SFM” lost six points with one seed and sixteen with another. The mean is -12, and its interval reaches zero. GBFM's seeds agree, and its mean of -13 is clear.
#
# Why the data sets differ so much, the table does not say. The learning curves above allow one guess: that a part helps late. Which kinds of phrases each part helps with, [lesson 09](09_looking_inside.ipynb) measures on three of these networks.
#
# ## What would it take?
#
# Suppose that SHNet truly leads Conv3D by the paper's 0.82 points, and that the luck of a seed is as large as ours: $s$ = 3.1 points. Then one pair of runs shows a difference from a bell curve around 0.82. **Predict:** how often does the better network lose?

# %%
from functools import partial

from ipywidgets import IntSlider

from shnet_course.pictures.lesson_08 import draw_luck
from shnet_course.widgets import explore

spread = 100 * stdev(differences_of["SFM+Conv3D"])
explore(partial(draw_luck, 0.82, spread), seeds=IntSlider(1, 1, 60))

# %% [markdown]
# Two times in five. So a lead of that size needs more than one run, in either direction. How many? Enough that the interval is narrower than the difference. Take the paper's differences, and the luck of our rows:

# %% tags=["nbval-check-output"]
from statistics import NormalDist

from shnet_course.measure.ablations import PRINTED_ROWS


def seeds_needed(gap, spread):
    """The fewest seeds whose interval is narrower than the gap on either side; both in points."""
    n = 2
    while student.ppf(0.975, n - 1) * spread / sqrt(n) >= gap:
        n += 1
    return n


for row in sorted(differences_of.keys() & PRINTED_ROWS, key=PRINTED_ROWS.get):
    gap, spread = PRINTED_ROWS["SHNet"] - PRINTED_ROWS[row], 100 * stdev(differences_of[row])
    wrong = NormalDist(gap, spread).cdf(0)
    print(f"{row:16} {gap:5.2f} points, s {spread:.2f}:", end=" ")
    print(f"one run each misleads {wrong:5.1%}, seeds needed {seeds_needed(gap, spread):2}")

# %% [markdown]
# A gap of nine points shows in any run. A gap of about one point needs three seeds or 74, by the luck of the row. For SFM+Conv3D 56 seeds are over a hundred runs: most of a day on RefShapes at ten minutes per run, and a hundred whole trainings on UNC. No paper does that, which is a reason to read small gaps with care.
#
# Two warnings. The luck was measured on RefShapes, and on UNC it may be smaller or larger. And an $s$ of three runs is itself rough: the true one can be half as large, or six times. SFM+ConvLSTM's 0.20 may be three differences that happened to agree. With the network of an earlier edition of this course, $s$ of the same two rows was 0.95, and eight seeds would have done.
#
# **Now you:** [The finale: a fusion of your own](../exercises/08_ablations_ex.ipynb) puts a module of yours in HCAM's place.
#
# ## What the paper does not say
#
# | open in the paper | this course |
# |---|---|
# | how many runs stand behind a number; Tables 2 to 4 give one each | three seeds |
# | whether the rows were trained equally long | the same steps, batches and learning rate, which may favour rows that learn fast |
# | how the baseline joins three levels: “visual features with the tiled textual feature” | all three side by side, mixed by a 1 × 1 convolution (`shnet_lib.model.fusion`) |
#
# The smallest gap that section 4.4 draws a conclusion from (“more refined maps”) is Precision@0.8 of SFM+Conv3D against SFM+ConvLSTM: 43.14 against 42.95.

# %% [markdown]
# ## Five questions
#
# 1. Which two settings does the baseline of Table 2 change?
# 2. Why do we subtract seed by seed before we take a mean?
# 3. An interval of a difference goes from -0.5 to 4.0 points. What may you say?
# 4. Row A has twice the parameters of row B and is clearly better. What would you run next?
# 5. You have time for eight runs and two ideas. How do you spend it?
#
# <details><summary>Answers</summary>
#
# 1. `sfm` and `fusion`: both are `none`.
# 2. Runs of one seed share their batches. What that luck does to both rows falls away in the difference.
# 3. That these seeds do not tell which row is better. Not that the rows are equal.
# 4. Row B made as large as A, for example with more channels.
# 5. Four seeds of one idea and four of the row it is compared with. For both ideas there are three rows, so two seeds each, and a factor of 13.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - Every row of Tables 2 and 4 was one `ModelConfig`, and the rows differed in parameters too.
# - Curves told what is still learning, and differences taken seed by seed had intervals.
# - On RefShapes SFM and HCAM helped together and not alone, and ConvLSTM and Conv3D did as well as HCAM.
# - With the luck of our seeds, a lead of 0.82 points in one run each is wrong two times in five, and needs more than fifty seeds.
#
# More seeds or rows: `shnet ablate --data data/refshapes --out runs/ablations.csv --seeds 3 4`.
#
# Practise: [the exercises of this lesson](../exercises/08_ablations_ex.ipynb).
#
# Next: [09 · Looking inside](09_looking_inside.ipynb).
