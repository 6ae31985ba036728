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
# *Section 4.4, Tables 2, 3 and 4 · 29 seconds on two CPU cores*
#
# **You need to know** the parts of the network (lessons 02 to 05) and what overall IoU is (lesson 07).
#
# In this lesson you will
#
# - build every row of Tables 2 and 4 from one `ModelConfig`, and count what each adds;
# - read runs of several seeds, and put an interval around a difference;
# - lay our differences beside the paper's, and see which of them are clear;
# - train two rows live, on a budget of a minute.

# %% [markdown]
# ## Which part carries the result?
#
# An ablation takes one part away and measures what is lost. The paper does it in Tables 2, 3 and 4: without SFM, without HCAM, with other aggregators, with one-hot words, without positions, with another backbone. Each number there is one run. A second run with another seed would give another number, so a reader has to ask how large the difference has to be to mean something.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(
    draw_architecture(lit={"sfm", "hcam"}),
    alt="The network as boxes from photo and phrase to the mask. SFM and HCAM are lit.",
)

# %% [markdown]
# ## A row is a configuration
#
# Table 2 has eight rows and Table 4 four. In the library a row is what it changes in `ModelConfig`, and nothing else. `{}` changes nothing: that is SHNet, whose fusion is HCAM.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.shnet import TABLE_2, TABLE_4

for name, change in (TABLE_2 | TABLE_4).items():
    print(f"{name:16} {change}")

# %% [markdown]
# The rows do not cost the same. Here are the trained parameters of each at the paper's size, in millions, for a vocabulary of 10,000 words, whose vectors GloVe initialises. (One-hot words cost most: the LSTM then has weights for every single word.) A row with more parameters may win for that reason alone.

# %%
# NBVAL_CHECK_OUTPUT
from dataclasses import replace

from shnet_course.measure.trace import PAPER_WORDS, count_parameters
from shnet_lib.model.shnet import PAPER


def trained_millions(change: dict) -> float:
    return count_parameters(replace(PAPER, **change), PAPER_WORDS)[-1][1] / 1e6


sizes = {name: trained_millions(change) for name, change in (TABLE_2 | TABLE_4).items()}
for name in sorted(sizes, key=sizes.get):
    print(f"{name:16} {sizes[name]:6.1f} M")

# %% [markdown]
# ## Our runs
#
# The photos of UNC cannot be shipped, so we ask the same questions of RefShapes. Its `unc` flavour has short phrases full of places, as UNC has. Each line of the table below is one run of the preset `quick`: its row, its seed, what came out. The rows that stand there are those that were run; the command at the end of the lesson adds others. Below the runs stands the command of the first.

# %%
from pathlib import Path

from shnet_lib.training.ablations import read_lines

lines = read_lines(Path("../docs/results/ablations.csv"))
for line in lines:
    print(f"{line['row']:24} seed {line['seed']}  val {float(line['val_overall_iou']):.3f}")
print()
print(lines[0]["command"])
print(f"torch {lines[0]['torch']}, {lines[0]['device']}, {lines[0]['threads']} thread")

# %% [markdown]
# All rows of one seed see the same batches in the same order. A lucky order may help them all. So we subtract seed by seed, and only then take the mean.

# %%
from shnet_course.measure.ablations import by_row, differences

values = by_row(lines, "val_overall_iou")
found = differences(values, to="SHNet")
for row, difference in found.items():
    print(f"{row:24} {difference}")

# %% [markdown]
# ## How wide is an interval?
#
# If the differences $d_i$ are spread like a bell curve, the mean of $n$ of them lies within
#
# $$\bar d \pm t_{n-1} \frac{s}{\sqrt n}$$
#
# of the true one in 19 of 20 cases, $s$ being their standard deviation and $t_{n-1}$ Student's factor. For two seeds that factor is huge, and for one there is no interval at all.

# %%
# NBVAL_CHECK_OUTPUT
from scipy.stats import t as student

for seeds in (2, 3, 5, 10, 30):
    print(f"{seeds:3} seeds: factor {student.ppf(0.975, seeds - 1):6.2f}")

# %% [markdown]
# By hand, for the baseline of Table 2, against the line above:

# %%
from math import sqrt
from statistics import mean, stdev

seeds = sorted(values["baseline"])
d = [values["baseline"][seed] - values["SHNet"][seed] for seed in seeds]
half_width = student.ppf(0.975, len(d) - 1) * stdev(d) / sqrt(len(d))
print([round(x, 3) for x in d])
print(f"{mean(d):+.3f} +- {half_width:.3f}")
assert abs(half_width - found["baseline"].half_width) < 1e-9

# %% [markdown]
# ## Beside the paper's
#
# Points of overall IoU that a row loses against SHNet: ours on RefShapes with intervals, the paper's on UNC as single diamonds. The two data sets differ, so the sizes of the differences may differ too. What can be compared is their sign and, where there are several rows, their order.

# %%
from shnet_course.measure.ablations import draw_differences

told = "; ".join(f"{row} {100 * d.mean:+.1f} points" for row, d in found.items())
show(
    draw_differences(found, "SHNet"),
    alt=f"Each row's overall IoU less SHNet's, on RefShapes: {told}.",
)

# %% [markdown]
# Which of ours are clear, in the sense that the interval leaves zero out?

# %%
for row, difference in found.items():
    verdict = "clear" if difference.is_clear else "not clear"
    print(f"{row:24} {verdict} ({difference.seeds} seeds)")

# %% [markdown]
# A row that is not clear is not refuted. It may be that the difference is small, or that there are too few seeds. The command at the end of this lesson adds more.
#
# ## What holds up
#
# Section 4.4 also compares the parts with the baseline: +4.83 points for “only HCAM”, +7.46 for “only SFM”. Ours:

# %%
above = differences(values, to="baseline")
for row in ("only HCAM", "only SFM", "SHNet"):
    print(f"{row:24} {above[row]}")

# %% [markdown]
# On RefShapes, with 4,000 steps and three seeds a row:
#
# - **The pair helps.** SHNet stands clearly above the baseline, as in the paper.
# - **Neither part helps alone.** What “only HCAM” and “only SFM” gain cannot be told from chance. In the paper each gains much by itself.
# - **That HCAM is better than Conv3D is not shown.** SFM+Conv3D was ahead of SHNet with each of the three seeds, though not clearly; in the paper SHNet leads by 0.82 points. And Conv3D has fewer parameters. A lead of that size needs more than one run in either direction.
# - **Positions matter far more here**: some 16 points, against 0.91. Many of these phrases are about places ([lesson 01](01_data_and_words.ipynb) counts them).
#
# Why the data sets differ so much in these, the table does not say. 4,000 steps are few, too: the shipped SHNet took 20,000.
#
# ## Two rows, live
#
# Here are SHNet and the baseline on a budget of a minute: 1,800 expressions, 150 steps each. That is far too little to rank them, and that is the point. Look at the two numbers, then change the seed and run the cell again.

# %%
from tempfile import TemporaryDirectory

from shnet_lib.data import read_expressions
from shnet_lib.training.config import configure
from shnet_lib.training.fit import fit

splits = {
    split: read_expressions("../data/refshapes", "refshapes-unc", split)
    for split in ("train", "val")
}
data = {"train": splits["train"][:1800], "val": splits["val"][:300]}


# %%
def short_run(change: dict, seed: int) -> float:
    settings = {f"model.{name}": value for name, value in change.items()}
    config = configure("quick", steps=150, evaluate_every=150, seed=seed, **settings)
    with TemporaryDirectory() as folder:
        return fit(config, data, Path(folder)).best["val_overall_iou"]


for row in ("SHNet", "baseline"):
    print(f"{row:10} {short_run(TABLE_2[row], seed=0):.3f}")

# %% [markdown]
# In the stored run the baseline leads, against the table above. After so few steps neither number means anything.
#
# ## What the paper does not say
#
# - How many runs stand behind a number. Tables 2 to 4 give one each. The smallest gap that section 4.4 draws a conclusion from (“more refined maps”) is Precision@0.8 of SFM+Conv3D against SFM+ConvLSTM: 43.14 against 42.95.
# - Whether the rows were trained equally long. Ours have the same steps, batches and learning rate, which may favour the rows that learn fast.
# - How the baseline joins three levels. Section 4.4 joins “visual features with the tiled textual feature” and does not say of which level; ours lays all three side by side and mixes them with a 1 × 1 convolution (`shnet_lib.model.fusion`).
# - Table 3 asks for backbones on photos: DeepLabv3+ against ResNet-101, at 320 and 448. RefShapes cannot answer that; its backbone is a small one of its own. `model.backbone=resnet101` with `PRESET=unc-320` is the run.
# - Row 6, “w/o GloVe”, has no counterpart here: all our rows read one-hot words, for the words of RefShapes are few and mean what the scenes show.

# %% [markdown]
# ## What you have seen
#
# - Every row of Tables 2 and 4 is one `ModelConfig`, and they differ in parameters too.
# - Runs of the same seed are compared with each other, and a difference has an interval.
# - On RefShapes SFM and HCAM help together and not alone, and Conv3D does as well as HCAM.
# - A minute of training ranks nothing.
#
# More seeds or rows: `shnet ablate --data data/refshapes --out docs/results/ablations.csv --seeds 3 4`.
#
# Practise: [the exercises of this lesson](../exercises/08_ablations_ex.ipynb).
#
# Next: [09 · Looking inside](09_looking_inside.ipynb).
