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
# # 07 · Evaluation
#
# *Sections 4.1 and 4.3, Table 1 · 15 seconds on two CPU cores*
#
# **You need to know** what a mask and a logit are (lesson 05). No training is needed: the course ships a trained network.
#
# In this lesson you will
#
# - build two predictors that overall IoU and mean IoU rank the other way round;
# - measure every expression once, and see what two careless ways of counting do;
# - move the threshold, and see what the released code's protocol does to a number;
# - measure one network in five conventions of this field;
# - put an interval around a result, and read Table 1 with it.

# %% [markdown]
# ## How good is a mask?
#
# A network marks some pixels, and some pixels were meant. Section 4.1 reduces the two masks to two counts: the intersection $I$, pixels in both, and the union $U$, pixels in either. All numbers in this field's tables are made of these counts. They are made of them in different ways, and a table rarely says in which.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(
    draw_architecture(lit={"mask"}),
    alt="The network as boxes from photo and phrase to the mask. Only the mask is lit.",
)

# %% [markdown]
# ## Two ways to sum up
#
# Section 4.1: overall IoU "calculates the ratio of the intersection and the union computed between the predicted segmentation mask and the ground truth mask over all test samples". With $I_n$ and $U_n$ of expression $n$, and beside it the mean IoU that later work prefers:
#
# $$\text{overall IoU} = \frac{\sum_n I_n}{\sum_n U_n} \qquad\qquad \text{mean IoU} = \frac{1}{N} \sum_n \frac{I_n}{U_n}$$
#
# Take one large thing and two small ones. Predictor A finds the large one and misses the others. B finds the small ones and half of the large one.

# %%
import torch


def rectangle(rows, columns):
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


targets = torch.stack(
    [rectangle(slice(1, 7), slice(1, 7)), rectangle(2, slice(1, 3)), rectangle(5, slice(4, 6))]
)
A = torch.stack([targets[0], rectangle(2, slice(4, 6)), rectangle(2, slice(4, 6))])
B = torch.stack([rectangle(slice(1, 7), slice(1, 4)), targets[1], targets[2]])

# %%
from shnet_course.pictures.lesson_07 import draw_agreement

show(
    draw_agreement({"A": A.numpy(), "B": B.numpy()}, targets.numpy()),
    alt="Three tiny targets, two predictors. A: 36 of 36, 0 of 4, 0 of 4 pixels. B: 18 of 36, "
    "2 of 2, 2 of 2.",
)

# %% [markdown]
# The numbers above the masks are $I / U$. By hand:

# %%
# NBVAL_CHECK_OUTPUT
print("A  overall", round((36 + 0 + 0) / (36 + 4 + 4), 2), " mean", round((1 + 0 + 0) / 3, 2))
print("B  overall", round((18 + 2 + 2) / (36 + 2 + 2), 2), " mean", round((0.5 + 1 + 1) / 3, 2))

# %% [markdown]
# By the paper's measure A is better, by the other one B. As a function, and against the library's:


# %%
def count_pixels(predictions, targets):
    """(N, H, W) bool twice -> I and U, (N,) each."""
    return (predictions & targets).sum((1, 2)), (predictions | targets).sum((1, 2))


def overall(i, u):
    return (i.sum() / u.sum()).item()


def mean(i, u):
    return (i / u).mean().item()


# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.training.metrics import intersection_and_union, mean_iou, overall_iou

for name, predictions in {"A": A, "B": B}.items():
    i, u = count_pixels(predictions, targets)
    own = overall(i, u), mean(i, u)
    i, u = intersection_and_union(predictions, targets)
    assert torch.allclose(torch.tensor(own), torch.tensor([overall_iou(i, u), mean_iou(i, u)]))
    print(name, f"overall {own[0]:.2f}, mean {own[1]:.2f}: lesson and library agree")

# %% [markdown]
# ## Precision@X, and a mask on the line
#
# Precision@X is the share of expressions whose IoU is *greater than* X (section 4.1). Much of the field's code counts *greater or equal*. B's first mask has an IoU of exactly 0.5:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.training.metrics import ious, precision_at

i, u = intersection_and_union(B, targets)
print("greater than 0.5:  ", round(precision_at(i, u, 0.5), 2))
print("greater or equal:  ", round((ious(i, u) >= 0.5).double().mean().item(), 2))

# %% [markdown]
# ## Nothing meant, nothing marked
#
# If both masks are empty, $I / U$ is $0 / 0$. One such expression among four, and the plain mean is not a number. Codes that met this chose 0, or 1, or a small $\varepsilon$ below the line (which is 0 again). Four expressions, three of them perfect:

# %%
# NBVAL_CHECK_OUTPUT
i, u = torch.tensor([36, 2, 2, 0]), torch.tensor([36, 2, 2, 0])
print("plain    ", (i / u).mean().item())
print("counts 0 ", torch.where(u == 0, 0, i / u).mean().item())
print("library  ", mean_iou(i, u))

# %% [markdown]
# The library counts such an expression as 1: to mark nothing where nothing was meant is right.

# %% [markdown]
# ## A real network
#
# Now the shipped network and 400 expressions of the validation split. `collect_answers` runs it once and keeps the logits. What follows only measures them again and again.

# %%
from pathlib import Path

from shnet_course.measure.conventions import collect_answers
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions

trained = load_shnet("../data/weights/shnet_refshapes")
val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")[:400]
answers = collect_answers(trained, val)
print(tuple(answers.mask_logits.shape), "logits,", len({e.image_id for e in val}), "photos")

# %%
from shnet_course.measure.conventions import Convention, count
from shnet_lib.training.metrics import summarize

i, u = count(answers, Convention("overall"))
for name, value in summarize(i, u).items():
    print(f"{name:14} {value:.3f}")

# %% [markdown]
# Overall IoU is clearly above the mean. Who decides it? Sort by the size of what was meant:

# %%
size = torch.tensor([target.sum() for target in answers.targets])
largest = size.argsort(descending=True)[: len(size) // 4]
rest = size.argsort(descending=True)[len(size) // 4 :]
print(f"the largest quarter has {u[largest].sum() / u.sum():.0%} of all pixels of unions")
print(f"overall IoU of the largest quarter {overall_iou(i[largest], u[largest]):.3f}")
print(f"overall IoU of the rest            {overall_iou(i[rest], u[rest]):.3f}")

# %% [markdown]
# ## Every expression once
#
# A sum over *all test samples* is easy to get wrong. Two ways that look harmless: average the overall IoU of each batch; or drop the last batch because it is not full.

# %%
print(f"every expression once       {overall_iou(i, u):.4f}")
for batch in (8, 32, 64):
    of_batches = [overall_iou(a, b) for a, b in zip(i.split(batch), u.split(batch), strict=True)]
    full = len(i) // batch * batch
    print(
        f"batches of {batch:2}: their mean {sum(of_batches) / len(of_batches):.4f},"
        f" last one dropped {overall_iou(i[:full], u[:full]):.4f}"
    )

# %% [markdown]
# A result must not depend on the batch size. The library's `evaluate` makes one row an expression, and it refuses to give a number if one is missing or came twice, as can happen on several GPUs (`tests/training/test_evaluate.py` tries both). It must find what we found:

# %%
from shnet_lib.training.evaluate import evaluate

evaluation = evaluate(trained.network, trained.evaluation_set(val), batch_size=32)
assert [row["expression_index"] for row in evaluation.rows] == list(range(len(val)))
assert abs(evaluation.metrics["overall_iou"] - overall_iou(i, u)) < 1e-3
print(len(evaluation.rows), "rows, each expression once, and the same overall IoU")

# %% [markdown]
# ## The threshold
#
# A pixel belongs to the mask if its probability is above 0.5. Why 0.5? The paper states no threshold. The released code has 0.40, others 0.35. What does it change?

# %%
from shnet_course.measure.conventions import sweep
from shnet_course.pictures.lesson_07 import draw_sweep

swept = sweep(answers, [k / 20 for k in range(1, 20)])
show(
    draw_sweep(swept, {0.35: "CRIS", 0.4: "SHNet as released", 0.5: "this course"}),
    alt="Overall IoU, mean IoU and precision@0.5 against the threshold: three flat hills, steep only "
    "at the ends.",
)
for name, measure in {"overall IoU": overall_iou, "mean IoU": mean_iou}.items():
    best, threshold = max(zip(swept.measure(measure), swept.thresholds, strict=True))
    print(f"best {name} {best:.3f}, at threshold {threshold:.2f}")

# %% [markdown]
# The hills are flat and have different tops. A threshold is a setting like any other: choose it on the validation split or not at all. Chosen on a test split, it has seen the answers. Look at single answers while you move it:

# %%
from functools import partial

from ipywidgets import FloatSlider

from shnet_course.pictures.lesson_07 import draw_threshold
from shnet_course.widgets import explore

explore(
    partial(draw_threshold, answers, swept, shown=(136, 393, 294)),
    "Three answers cut at the threshold {threshold:.2f}, and that threshold on the curves.".format,
    threshold=FloatSlider(0.5, min=0.05, max=0.95, step=0.05),
)

# %% [markdown]
# ## The released protocol
#
# The released code compares at 160 × 160 pixels, with the threshold 0.40, and with the *true* mask resized bilinearly, corners on corners, and then taken > 0. A new pixel then is the thing's as soon as one of the photo's four pixels around its place is: the truth is *dilated*. (That is bilinear without `antialias`. With it the truth grows more; lesson 06 has both.) By how much? Thirty discs at random places, in photos of two common sizes:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.measure.conventions import cost_of_dilation, discs

radii = (4, 8, 12, 20, 30, 60)
agreement = {}
print("photo        radius    IoU  area")
for height, width in ((427, 640), (480, 640)):
    costs = [cost_of_dilation(discs(r, height, width, 30, seed=0), 160) for r in radii]
    agreement[f"{height} × {width}"] = [iou for iou, _ in costs]
    for radius, (iou, growth) in zip(radii, costs, strict=True):
        print(f"{height} x {width} {radius:8} {iou:8.2f} {growth:+6.0%}")

# %%
from shnet_course.pictures.lesson_07 import draw_dilation

show(
    draw_dilation(radii, agreement),
    alt="IoU of a true disc with the dilated one: below 0.8 at radius 4, and near 1 from a radius "
    "of 60 pixels on; at most radii lower in photos of 427 rows than of 480.",
)

# %% [markdown]
# A *perfect* mask of a small disc cannot reach 1 there, and a mask that is a little too fat gets more. The lower threshold makes predicted masks fatter too. On our answers, one step at a time:

# %%
steps = {
    "photo's size, 0.50 (this course)": Convention("overall"),
    "160 × 160, nearest pixel, 0.50": Convention("overall", size=160),
    "160 × 160, dilated, 0.50": Convention("overall", size=160, dilated=True),
    "160 × 160, dilated, 0.40 (released)": Convention("overall", 0.40, 160, dilated=True),
    "160 × 160, nearest pixel, 0.40": Convention("overall", 0.40, 160),
}
for name, convention in steps.items():
    i, u = count(answers, convention)
    print(f"{name:36} overall {overall_iou(i, u):.3f}  mean {mean_iou(i, u):.3f}")

# %% [markdown]
# The two changes pull in opposite directions for this network. It was trained on untouched masks, so a fatter truth costs it something; the lower threshold fattens its masks and pays part of that back. A network trained on dilated masks, as the released one was (lesson 06), meets the truth it has learned. Either way the number is about another task: how well a mask agrees with one that nobody drew.

# %% [markdown]
# ## Why tables of this field do not compare
#
# What the published evaluation codes do. A *hit* is what Precision@X counts:
#
# | code | headline | compares at | threshold | hit if | empty union |
# |---|---|---|---|---|---|
# | LSTM-CNN, RMI, CMPC | sum I / sum U | the photo's size | logit 0, so 0.5 | IoU ≥ X | not guarded |
# | LAVT | both | truth resized to 480 | the likelier class, so 0.5 | ≥ | 0 |
# | CRIS | mean IoU | the photo's size | 0.35 | > | ε |
# | VLT, MCN, SimREC | mean IoU | varies | 0.35 to 0.5 | > | 1 |
# | ReLA | both ("cIoU", "gIoU") | 480 | the same | ≥, from 0.7 | 0 |
# | SHNet as released | sum I / sum U | 160, truth dilated | 0.40 | – | divides by zero |
#
# One network, one set of answers, and the number that each would print first, or both (the fourth row, whose sizes vary, is left out):

# %%
from shnet_course.measure.conventions import CONVENTIONS, headline
from shnet_course.pictures.lesson_07 import draw_ladder

printed = {name: headline(answers, convention) for name, convention in CONVENTIONS.items()}
listed = ", ".join(f"{name} {value:.3f}" for name, value in printed.items())
show(draw_ladder(printed, "the headline number"), alt=f"Bars of the same answers: {listed}.")

# %%
spread = 100 * (max(printed.values()) - min(printed.values()))
print(f"highest less lowest: {spread:.1f} points")

# %% [markdown]
# No network got better or worse between the bars. The whole of HCAM is worth 1.82 points in the paper's Table 2 (row 8 less row 3). The choice between mean and overall is worth more than that here. A number quoted without its convention cannot be compared with another.

# %% [markdown]
# ## How sure is a number?
#
# Other photos would have given another number. The *bootstrap* asks how different: draw as many photos as there are, with replacement, measure again, and repeat 4,000 times. Photos and not expressions are drawn, since the expressions of one photo succeed and fail together.

# %%
import numpy as np

from shnet_course.measure.conventions import bootstrap

i, u = count(answers, Convention("overall"))
photos = [expression.image_id for expression in val]
samples = {
    "drawing photos": bootstrap(i, u, photos, draws=4000, seed=0),
    "drawing expressions": bootstrap(i, u, range(len(val)), draws=4000, seed=0),
}
for name, values in samples.items():
    low, high = np.percentile(values, (2.5, 97.5))
    print(f"{name:20} overall IoU {overall_iou(i, u):.3f}, 95 % interval {low:.3f} to {high:.3f}")

# %%
from shnet_course.pictures.lesson_07 import draw_bootstrap

show(
    draw_bootstrap(samples, overall_iou(i, u)),
    alt="Two histograms of overall IoU around the measured value: that of drawing photos is wider "
    "than that of drawing expressions.",
)

# %% [markdown]
# Drawing expressions pretends to know more than one does. UNC's val has 1,500 photos. If they vary like ours, an interval shrinks with the root of their number:

# %%
low, high = np.percentile(samples["drawing photos"], (2.5, 97.5))
half_width = 100 * (high - low) / 2 * (len(set(photos)) / 1500) ** 0.5
print(
    f"about ± {half_width:.1f} points on 1,500 photos: a guess from other data, not a measurement"
)

# %% [markdown]
# It covers the choice of photos only. Another seed of the training would move the number too (lesson 08). Where two networks answered the *same* photos, bootstrap the difference: what is hard for one is often hard for the other, and two separate intervals hide that.

# %% [markdown]
# ## Table 1, read critically
#
# Overall IoU of ten rows, each point with that bar:

# %%
from shnet_course.pictures.lesson_07 import draw_table_1

show(
    draw_table_1(half_width),
    alt="Table 1 as eight plots, one a data set and split, the ten methods below each other. SHNet "
    "is furthest right everywhere except on G-Ref, where EFN and BUSNet lie before it.",
)

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.measure.conventions import TABLE_1, TABLE_1_COLUMNS

at_320 = {name: values for name, values in TABLE_1.items() if name != "SHNet 448"}
own = at_320.pop("SHNet 320")
for column, name in enumerate(TABLE_1_COLUMNS):
    others = {m: values[column] for m, values in at_320.items() if values[column]}
    best = max(others, key=others.get)
    ahead = sum(value > own[column] for value in others.values())
    print(f"{name:13} SHNet {own[column]}, best other {best} {others[best]}"
          f" {own[column] - others[best]:+.2f}, place {1 + ahead}")  # fmt: skip

# %% [markdown]
# What the table shows, and what it does not:
#
# - **UNC and ReferIt at 320.** SHNet leads by 1.2 and 1.8 points on UNC's val and testA, and by 1.68 on ReferIt. On testB the lead is 0.10.
# - **UNC+.** The "consistent performance gains on the UNC+ dataset at all splits" (section 4.3) are 0.29, 0.35 and 0.32 points. Each is smaller than the ± above and comes from one run: the table alone cannot tell them from chance.
# - **G-Ref.** Section 4.3 calls SHNet "marginally below BusNet". That holds for 448 pixels (49.90 against 49.98). At 320, where the others are, it lies 1.03 below BUSNet and also below CMPC and EFN: place four.
# - **448 against 320.** Table 1 says so, but the last row sees nearly twice as many pixels as all rows above it.
# - **Post-processing.** Rows without an asterisk were refined by a dense CRF, which moves a mask's border to edges of the photo. SHNet, BUSNet and EFN do without (Table 1's caption), so SHNet leads those rows without that help.
# - **Two values of one run.** UNC val at 448 is 65.32 in Table 1 and 65.29 in Table 3.
#
# ### Who has seen the test photos?
#
# UNC, UNC+ and G-Ref are all made from MS-COCO photos. A backbone trained on COCO's masks has seen the answer to "where is the cup". Section 4.3 therefore compares only with backbones trained on Pascal VOC, and it is right to.
#
# The same section tells a second leak. EFN's 51.93 on G-Ref was fine-tuned from a network trained on UNC, whose training photos overlap with G-Ref's test photos. How much is that worth?

# %%
# NBVAL_CHECK_OUTPUT
from_scratch, after_unc = (
    dict(zip(TABLE_1_COLUMNS, TABLE_1["SHNet 320"], strict=True))["G-Ref val"],
    56.44,
)
print(f"SHNet on G-Ref: {from_scratch} from scratch, {after_unc} after UNC (section 4.3)")
print(
    f"{after_unc - from_scratch:+.2f} points, or {after_unc - TABLE_1['SHNet 448'][6]:+.2f} if that run was at 448"
)

# %% [markdown]
# Between six and eight points: more than lies between any two neighbours in that column of Table 1. The authors publish the number, call the set-up incorrect, and leave it out of their table. That is how it should be done. (EFN's number stays in, underlined.) It remains unsaid how much of the gain is leaked photos, and how much is simply more data: UNC's 142,209 expressions beside G-Ref's 104,560 (section 4.1).
#
# One thing the paper does not mention: G-Ref's own split (`google`) keeps things apart and not photos, so that its training and validation share photos too. Whoever has the files can count them with the function below. RefShapes shares none:


# %%
# NBVAL_CHECK_OUTPUT
def shared_photos(data, dataset, one="train", other="val"):
    """How many photos stand in both splits."""
    splits = (read_expressions(Path(data), dataset, split) for split in (one, other))
    return len(set.intersection(*({e.image_id for e in split} for split in splits)))


print(shared_photos("../data/refshapes", "refshapes-unc"), "photos in both train and val")

# %% [markdown]
# ## What the paper does not say
#
# - **The threshold, the size, and what to do with an empty union.** The released code has 0.40, 160 × 160 with a dilated truth, and a division by zero. This course compares at the photo's own size, at 0.5, with the untouched mask, and shows the released protocol beside it (`evaluate(..., protocol="released")`).
# - **Which checkpoint was measured.** The released code keeps the one that is best on the split it evaluates; for ReferIt that is the *test* split. This course chooses on validation and refuses a test split.
# - **How many runs.** No seeds, no intervals. Lesson 08 has both for RefShapes.

# %% [markdown]
# ## What you have seen
#
# - A was better by overall IoU and B by mean IoU, on the same three masks.
# - Every expression counted once; the mean over batches, and a dropped batch, gave other numbers.
# - The threshold and the dilated truth each moved the number, the latter most for small things.
# - The same answers got different headline numbers in five conventions, points apart.
# - Its overall IoU has an interval. Some gaps of Table 1 are wider than such an interval, some are not.
#
# Practise: [the exercises of this lesson](../exercises/07_evaluation_ex.ipynb).
#
# Next: [08 · Ablations](08_ablations.ipynb).
