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
# *Sections 4.1 and 4.3, Table 1 · 35 minutes to read, 30 seconds to run on two CPU cores*
#
# **You need to know** what a mask and a logit are (lesson 05).
#
# In this lesson you will
#
# - build two predictors that overall IoU and mean IoU rank the other way round;
# - measure every expression once, with one command, and see what two careless ways of counting do;
# - move the threshold, and see what the released code's protocol does to a number;
# - measure one network in five conventions of this field;
# - put an interval around a result, and read Table 1 with it;
# - measure a real case, in which one phrase of 32 moves the result.

# %% [markdown]
# ## How good is a mask?
#
# A network marks some pixels, and some pixels were meant. Section 4.1 reduces the two masks to two counts: the intersection $I$, pixels in both, and the union $U$, pixels in either. All numbers in this field's tables are made of these two counts, but in different ways, and a table rarely says in which.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture(lit={"mask"}))

# %% [markdown]
# ## Two ways to sum up
#
# Section 4.1: overall IoU "calculates the ratio of the intersection and the union computed between the predicted segmentation mask and the ground truth mask over all test samples". With $I_n$ and $U_n$ of expression $n$, and beside it the mean IoU, which later work prefers:
#
# $$\text{overall IoU} = \frac{\sum_n I_n}{\sum_n U_n} \qquad\qquad \text{mean IoU} = \frac{1}{N} \sum_n \frac{I_n}{U_n}$$
#
# Take one large thing and two small ones. Predictor A finds the large thing and misses the small ones. Predictor B finds the small things and half of the large one. **Predict:** which predictor is better?

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

# %% tags=["nbval-check-output"]
from shnet_course.pictures.lesson_07 import draw_agreement

show(draw_agreement({"A": A.numpy(), "B": B.numpy()}, targets.numpy()))  # titles are I / U
print("A  overall", round((36 + 0 + 0) / (36 + 4 + 4), 2), " mean", round((1 + 0 + 0) / 3, 2))
print("B  overall", round((18 + 2 + 2) / (36 + 2 + 2), 2), " mean", round((0.5 + 1 + 1) / 3, 2))

# %% [markdown]
# A is better by the paper's measure, and B by the mean IoU. Overall IoU weighs an expression by its pixels, so that large things decide it. Mean IoU weighs all expressions alike. As functions, beside the library's:


# %% tags=["nbval-check-output"]
from shnet_lib.training.metrics import mean_iou, overall_iou


def count_pixels(predictions, targets):
    """(N, H, W) bool twice -> I and U, (N,) each."""
    return (predictions & targets).sum((1, 2)), (predictions | targets).sum((1, 2))


def overall(i, u):
    return (i.sum() / u.sum()).item()


def mean(i, u):
    return (i / u).mean().item()


for name, predictions in {"A": A, "B": B}.items():
    i, u = count_pixels(predictions, targets)
    print(name, f"overall {overall(i, u):.2f}, mean {mean(i, u):.2f}; the library's", end=" ")
    print(f"{overall_iou(i, u):.2f} and {mean_iou(i, u):.2f}")

# %% [markdown]
# **Now you:** [Overall IoU, Mean IoU](../exercises/07_evaluation_ex.ipynb).
#
# ## Precision@X, and a mask on the line
#
# Precision@X is the share of expressions whose IoU is *greater than* X (section 4.1). Much of the field's code counts *greater or equal*. B's first mask has an IoU of exactly 0.5:

# %% tags=["nbval-check-output"]
from shnet_lib.training.metrics import intersection_and_union, ious, precision_at

i, u = intersection_and_union(B, targets)
print("greater than 0.5:  ", round(precision_at(i, u, 0.5), 2))
print("greater or equal:  ", round((ious(i, u) >= 0.5).double().mean().item(), 2))

# %% [markdown]
# **Now you:** [Precision@X](../exercises/07_evaluation_ex.ipynb).
#
# ## Nothing meant, nothing marked
#
# If both masks are empty, $I / U$ is $0 / 0$. With one such expression the plain mean is not a number. Some codes count it as 0, some as 1. Four expressions, three of them perfect:

# %% tags=["nbval-check-output"]
i, u = torch.tensor([36, 2, 2, 0]), torch.tensor([36, 2, 2, 0])
print("plain    ", (i / u).mean().item())
print("counts 0 ", torch.where(u == 0, 0, i / u).mean().item())
print("library  ", mean_iou(i, u))

# %% [markdown]
# The library counts the fourth expression as 1: to mark nothing where nothing was meant is right.
#
# ## A trained network
#
# The network of the other lessons has an overall IoU of 0.92 on RefShapes. No method of Table 1 comes near that. So we evaluate a weaker one, after 4,000 steps, with about 0.65. `collect_answers` runs it once and keeps the logits; the rest of the lesson measures them again and again.

# %%
from pathlib import Path

from shnet_course.measure.conventions import Convention, collect_answers, count
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions
from shnet_lib.training.metrics import summarize

trained = load_shnet("../data/weights/figure_5/SHNet")
val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")
answers = collect_answers(trained, val)

i, u = count(answers, Convention("overall"))
for name, value in summarize(i, u).items():
    print(f"{name:14} {value:.3f}")

# %% [markdown]
# Overall IoU is well above the mean. **Predict:** are large things outlined better, or do they only have more pixels? Sort by size:

# %%
size = torch.tensor([target.sum() for target in answers.targets])
largest = size.argsort(descending=True)[: len(size) // 4]
rest = size.argsort(descending=True)[len(size) // 4 :]
print(f"the largest quarter has {u[largest].sum() / u.sum():.0%} of all pixels of unions")
print(f"overall IoU of the largest quarter {overall_iou(i[largest], u[largest]):.3f}")
print(f"overall IoU of the rest            {overall_iou(i[rest], u[rest]):.3f}")

# %% [markdown]
# Both: large things are outlined better, and they decide most of the number.
#
# ## Every expression once
#
# Two ways to get this sum wrong look harmless: to average over batches, or to drop a last batch that is not full.

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
# A result must not depend on the batch size. The library's `evaluate` makes one row per expression. The function gives no number if a row is missing or came twice, as can happen on several GPUs. The same number must come out:

# %%
import time

from shnet_lib.training.evaluate import evaluate

began = time.perf_counter()
evaluation = evaluate(trained.network, trained.evaluation_set(val), batch_size=50)
seconds = time.perf_counter() - began
assert [row["expression_index"] for row in evaluation.rows] == list(range(len(val)))
assert abs(evaluation.metrics["overall_iou"] - overall_iou(i, u)) < 1e-3
print(len(evaluation.rows), "rows, each expression once, and the same overall IoU")
print(f"{1000 * seconds / len(val):.1f} ms per expression")

# %% [markdown]
# **Now you:** [Every expression once](../exercises/07_evaluation_ex.ipynb).
#
# ### Evaluation as engineering
#
# One command measures a saved network on any split:
#
# ```bash
# shnet evaluate data/weights/figure_5/SHNet --data data/refshapes --split val
# ```
#
# Four things make such a run fast and safe. Read them in `shnet_lib/training/evaluate.py`:
#
# - *Evaluation mode and no gradient.* No activations are kept, so a batch may be larger than in training.
# - *Expressions of one photo share a batch.* The backbone runs once per photo.
# - *Masks of different sizes stay a list.* Each true mask keeps its photo's size, and the probabilities are resized to it.
# - *Counts travel, not masks.* Two integers per expression leave the GPU. Several GPUs gather rows, and only then is anything divided.
#
# ## The threshold
#
# A pixel belongs to the mask if its probability is above 0.5. Why 0.5? The paper states no threshold. The released code has 0.40, and others have 0.35. **Predict:** which measure gains from a lower threshold, overall IoU or mean IoU?

# %%
from shnet_course.measure.conventions import sweep
from shnet_course.pictures.lesson_07 import draw_sweep

swept = sweep(answers, [k / 20 for k in range(1, 20)])
show(draw_sweep(swept, {0.35: "CRIS", 0.4: "SHNet as released", 0.5: "this course"}))
for name, measure in {"overall IoU": overall_iou, "mean IoU": mean_iou}.items():
    best, threshold = max(zip(swept.measure(measure), swept.thresholds, strict=True))
    at_half = swept.measure(measure)[9]
    print(f"best {name} {best:.3f}, at threshold {threshold:.2f}; at 0.50 it is {at_half:.3f}")

# %% [markdown]
# Both gain, and mean IoU gains more: this network is too careful, and small faint things come back. A threshold is a setting like any other: choose it on the validation split. Move it, and watch maps, masks and measures:

# %%
from functools import partial

from ipywidgets import FloatSlider

from shnet_course.pictures.lesson_07 import draw_threshold
from shnet_course.widgets import explore

explore(
    partial(draw_threshold, answers, swept, shown=(136, 393, 294)),
    threshold=FloatSlider(0.5, min=0.05, max=0.95, step=0.05),
)

# %% [markdown]
# ## The released protocol
#
# The released code compares at 160 × 160 pixels, with the threshold 0.40. The code also resizes the *true* mask, bilinearly, with aligned corners and without antialiasing, and then takes what is > 0. So a new pixel belongs to the thing as soon as one of the photo's four pixels around it does: the truth is *dilated*. The same mask is the target in the released training. By how much does it grow? Thirty discs at random places, in photos of two common sizes:

# %%
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

show(draw_dilation(radii, agreement))

# %% [markdown]
# A *perfect* mask of a small disc cannot reach 1 there, and a mask that is a little too fat gets more; the lower threshold makes masks fatter. On our answers, one step at a time:

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
# A network trained on dilated masks, as the released one was, finds them again. But nobody drew them.
#
# ## Why tables of this field do not compare
#
# Eleven evaluations, and the file in which each can be read. A *hit* is what Precision@X counts.

# %% tags=["nbval-check-output"]
from IPython.display import Markdown

from shnet_course.measure.conventions import eleven_evaluations

Markdown(eleven_evaluations())

# %% [markdown]
# One network, one set of answers, and the number that each code would print first (VLT, MCN and SimREC have settings instead). **Predict:** how many points lie between the highest and the lowest number?

# %%
from shnet_course.measure.conventions import CONVENTIONS, headline
from shnet_course.pictures.lesson_07 import draw_dots

printed = {name: headline(answers, convention) for name, convention in CONVENTIONS.items()}
show(draw_dots(printed, "the headline number"))
spread = 100 * (max(printed.values()) - min(printed.values()))
print(f"highest minus lowest: {spread:.1f} points")

# %% [markdown]
# No network got better or worse between the dots. The whole of HCAM is worth 1.82 points in the paper's Table 2 (row 8 minus row 3), and the choice between mean and overall IoU is worth more than that here. So a number without its convention compares with no other.
#
# ## How sure is a number?
#
# Other scenes would have given another number. The *bootstrap* asks how different: draw as many scenes as there are, with replacement, measure again, and repeat that 4,000 times. We draw scenes and not expressions, because the expressions of one scene succeed and fail together.

# %%
import numpy as np

from shnet_course.measure.conventions import bootstrap
from shnet_course.pictures.lesson_07 import draw_bootstrap

i, u = count(answers, Convention("overall"))
scenes = [expression.image_id for expression in val]
samples = {
    "drawing scenes": bootstrap(i, u, scenes, draws=4000, seed=0),
    "drawing expressions": bootstrap(i, u, range(len(val)), draws=4000, seed=0),
}
show(draw_bootstrap(samples, overall_iou(i, u)))
for name, values in samples.items():
    low, high = np.percentile(values, (2.5, 97.5))
    print(f"{name:20} overall IoU {overall_iou(i, u):.3f}, 95 % interval {low:.3f} to {high:.3f}")

# %% [markdown]
# The interval is nearly six points wide. To draw expressions pretends to know more than one does.
#
# Where two networks answered the *same* scenes, bootstrap their difference: what is hard for one is often hard for the other, and two separate intervals hide that. The same seed gives both the same draws. Is SHNet better than “only SFM”, the network without HCAM?

# %%
without = collect_answers(load_shnet("../data/weights/figure_5/only_SFM"), val)
of_two = {"SHNet": (i, u), "only SFM": count(without, Convention("overall"))}
drawn = {name: bootstrap(*pair, scenes, draws=4000, seed=0) for name, pair in of_two.items()}
drawn["difference"] = drawn["SHNet"] - drawn["only SFM"]
for name, values in drawn.items():
    low, high = np.percentile(values, (2.5, 97.5))
    print(f"{name:10} 95 % interval {low:6.3f} to {high:6.3f}, width {high - low:.3f}")

# %% [markdown]
# SHNet is better: the interval lies above 0.
#
# ## Table 1, read critically
#
# How wide would such an interval be in Table 1? Nobody can say without those networks' answers. A guess is possible, since our network has an IoU like theirs: an interval shrinks with the root of the number of photos. The grey band stands around SHNet at 320.

# %%
from shnet_course.measure.conventions import TABLE_1_PHOTOS
from shnet_course.pictures.lesson_07 import draw_table_1

low, high = np.percentile(samples["drawing scenes"], (2.5, 97.5))
ours = 100 * (high - low) / 2
half_widths = [ours * (len(set(scenes)) / photos) ** 0.5 for photos in TABLE_1_PHOTOS]
show(draw_table_1(half_widths))

# %% tags=["nbval-check-output"]
from shnet_course.measure.conventions import TABLE_1, TABLE_1_COLUMNS

at_320 = {name: values for name, values in TABLE_1.items() if name != "SHNet 448"}
own = at_320.pop("SHNet 320")
for column, name in enumerate(TABLE_1_COLUMNS):
    others = {m: values[column] for m, values in at_320.items() if values[column]}
    best = max(others, key=others.get)
    ahead = sum(value > own[column] for value in others.values())
    gap = own[column] - others[best]
    print(f"{name:13} SHNet {own[column]}, {best} {others[best]}: {gap:+.2f}, place {1 + ahead}")

# %% [markdown]
# What the table shows, and what it does not:
#
# - **UNC and ReferIt at 320.** SHNet leads by 1.2 and 1.8 points on UNC's val and testA, about as much as the band is wide, and by 1.68 on ReferIt, almost four bands. On testB the lead is 0.10.
# - **UNC+.** The "consistent performance gains on the UNC+ dataset at all splits" (section 4.3) are 0.29, 0.35 and 0.32 points, from one run each. Each lies inside its band, which is a guess from other data. So the table alone cannot tell such a gain from chance.
# - **G-Ref.** Section 4.3 calls SHNet "marginally below BusNet". This verdict holds for 448 pixels (49.90 against 49.98). At 320, the size of the other rows, SHNet lies 1.03 below BUSNet and also below CMPC and EFN: place four.
# - **Post-processing.** Rows without an asterisk were refined by a dense CRF, which moves a mask's border to edges of the photo. SHNet leads those rows without that help.
#
# ### Who has seen the test photos?
#
# UNC, UNC+ and G-Ref are all made from MS-COCO photos. A backbone trained on COCO's masks has seen the answer to "where is the cup". So section 4.3 compares only with backbones trained on Pascal VOC, and rightly.
#
# The section names a second leak. EFN's 51.93 on G-Ref was fine-tuned from a network trained on UNC, whose training photos overlap with G-Ref's test photos. How much is that worth?

# %% tags=["nbval-check-output"]
from_scratch, after_unc = (
    dict(zip(TABLE_1_COLUMNS, TABLE_1["SHNet 320"], strict=True))["G-Ref val"],
    56.44,
)
print(f"SHNet on G-Ref: {from_scratch} from scratch, {after_unc} after UNC (section 4.3)")
at_448 = after_unc - TABLE_1["SHNet 448"][6]
print(f"{after_unc - from_scratch:+.2f} points, or {at_448:+.2f} if that run was at 448")

# %% [markdown]
# Between six and eight points: more than lies between any two neighbours in that column. The authors publish the number, call the set-up incorrect, and keep it out of their table.
#
# G-Ref's own split (`google`) keeps things apart and not photos, which the paper does not mention. This function counts those that training and validation share, here for RefShapes:


# %% tags=["nbval-check-output"]
def shared_images(data, dataset, one="train", other="val"):
    """How many photos or scenes stand in both splits."""
    splits = (read_expressions(Path(data), dataset, split) for split in (one, other))
    return len(set.intersection(*({e.image_id for e in split} for split in splits)))


print(shared_images("../data/refshapes", "refshapes-unc"), "scenes in both train and val")

# %% [markdown]
# ## A real case
#
# In RefShapes no phrase has a word that training did not show. Here are 32 phrases and masks of ours on five photos that scikit-image ships, answered by lesson 00's network for photos. From best to worst, every fifth:

# %%
from refgen.own_example import write_own_example
from shnet_course.pictures.base import draw_predictions
from shnet_lib import predict

write_own_example(Path("../runs/own_example"))  # its test split needs scikit-learn
own = [
    e for split in ("train", "val") for e in read_expressions("../runs/own_example", "own", split)
]
of_photos = load_shnet("../data/weights/shnet_photos")
answers = collect_answers(of_photos, own)
i, u = count(answers, Convention("overall"))

ranked = ious(i, u).argsort(descending=True, stable=True)
chosen = [own[n] for n in ranked[:30:5]]
masks = [predict(of_photos, e.photo(), e.text).mask for e in chosen]
show(draw_predictions(chosen, masks, columns=3))

# %% [markdown]
# For “the space shuttle” it marks the astronaut, who is five times as large. **Predict:** what does that one phrase of 32 cost overall IoU, and what mean IoU? Would a lower threshold help, as above?


# %%
def tell(name, chosen, threshold=0.5):
    i, u = count(answers, Convention("overall", threshold))
    i, u = i[chosen], u[chosen]
    print(
        f"{name:28} {len(i):2} phrases  overall {overall_iou(i, u):.3f}  mean {mean_iou(i, u):.3f}"
    )


every = torch.ones(len(own), dtype=torch.bool)
known = torch.tensor([not of_photos.vocabulary.unknown(e.text) for e in own])
tell("all", every)
tell("without the shuttle", torch.tensor([e.text != "the space shuttle" for e in own]))
for threshold in (0.3, 0.7):
    tell(f"all, threshold {threshold}", every, threshold)
tell("each word was trained", known)
tell("some word was not", ~known)
low, high = np.percentile(bootstrap(i, u, [e.image_id for e in own], 4000, 0), (2.5, 97.5))
print(f"overall IoU of all: 95 % interval over five photos {low:.3f} to {high:.3f}")

# %% [markdown]
# The wrong mask takes 1.2 points off overall IoU, because the astronaut is large, and 0.9 off the mean, as any miss does. No threshold moves a mask elsewhere. Known words matter. The interval is eleven points wide.
#
# ## What the paper does not say
#
# - **The threshold, the size, and what to do with an empty union.** The released code divides by zero there. The course has both protocols (`evaluate(..., protocol="released")`).
# - **Which checkpoint was measured.** The released code keeps the one that is best on the split it evaluates, and for ReferIt that is the *test* split. This course refuses a test split.
# - **How many runs.** There are no seeds and no intervals, as in most papers of that time. An interval over photos does not cover the seed. Lesson 08 has several.
#
# ## Five questions
#
# 1. A network gets better on small things only. Which measure shows it more?
# 2. Why must an evaluation not average over batches?
# 3. Precision@0.5 of one network is 61.0 with ">" and 61.2 with "≥". What happened?
# 4. Why does the bootstrap draw scenes or photos, and not expressions?
# 5. Two intervals overlap. Are the two networks equal?
#
# <details><summary>Answers</summary>
#
# 1. Mean IoU, because it weighs all expressions alike. Large things dominate the sums of overall IoU.
# 2. A mean of ratios is not the ratio of the sums, and the result would depend on the batch size.
# 3. Some masks have an IoU of exactly 0.5: 0.2 % of the expressions.
# 4. The expressions of one photo succeed and fail together.
# 5. Not necessarily. On the same photos the difference has a narrower interval of its own, and only that one answers.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - A was better by overall IoU and B by mean IoU, on the same three masks.
# - One command counted every expression once; the mean over batches, and a dropped batch, gave other numbers.
# - The threshold and the dilated truth each moved the number, the latter most for small things.
# - The same answers got different headline numbers in five conventions, points apart.
# - An overall IoU has an interval. Some gaps of Table 1 are wider than such an interval, and some are not.
# - On photographs one wrong answer of 32 cost 1.2 points, and unknown words far more.
#
# Practise: [the exercises of this lesson](../exercises/07_evaluation_ex.ipynb).
#
# Next: [08 · Ablations](08_ablations.ipynb).
