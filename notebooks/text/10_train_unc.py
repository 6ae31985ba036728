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
# # 10 · Train and evaluate SHNet, end to end
#
# *Section 4, Experiments · 6 minutes on two CPU cores with the preset `quick`*
#
# **You need to know** what the lessons 01 to 07 show. Or just run it and look.
#
# In this lesson you will
#
# - check that a data set is whole, and look at what it asks;
# - build SHNet from named settings, and see how large it is;
# - train it, watching loss and overall IoU;
# - evaluate it on every split, with the paper's measures;
# - look at its best, its middling and its worst answers;
# - find the checkpoint, and use it on a phrase of your own.
#
# The same notebook trains on RefShapes, which is generated, and on the real data sets: only the parameters below differ. `make train` runs it from the command line:
#
# ```
# make train
# make train DATASET=unc DATA=/path/to/data PRESET=unc-320 \
#     SET="glove=/path/to/glove.840B.300d.txt model.backbone_weights=/path/to/deeplabv3plus_voc.pth"
# ```

# %% jupyter={"source_hidden": true} cellView="form" tags=["hide-input"]
# @title On Colab or Kaggle: get and install the course (elsewhere this does nothing)
# An archive or a folder of the course: uploaded, mounted, or an address; it has none of its own yet.
COURSE = "shnet-course.zip"

import importlib.util

if not importlib.util.find_spec("shnet_lib"):
    import runpy
    import shutil
    import urllib.request
    from pathlib import Path

    if not Path("shnet-course").exists():
        if "://" in COURSE:
            COURSE, _ = urllib.request.urlretrieve(COURSE, "shnet-course.zip")
        get = shutil.copytree if Path(COURSE).is_dir() else shutil.unpack_archive
        get(COURSE, "shnet-course")
    setup = next(Path("shnet-course").rglob("shnet_course/tools/elsewhere.py"))
    runpy.run_path(str(setup), run_name="__main__")

# %% [markdown]
# ## The parameters of this run
#
# `settings` changes any setting of the preset by its name: `"seed=1 model.fusion=conv3d"` trains row 5 of Table 2. A name that does not exist is an error that lists those that do.

# %% tags=["parameters"]
import os
import time

preset = os.environ.get("SHNET_PRESET", "quick")  # or "smoke", "unc-320", "unc-448", "unc+", ...
dataset = "refshapes-unc"  # or "unc", "unc+", "gref", "gref-umd", "refclef", "referit", ...
data = "../data/refshapes"
run_folder = time.strftime("../runs/%Y%m%d-%H%M%S")
resume = False  # True: go on with the run in run_folder
settings = ""  # "name=value name=value"

# %%
import shlex

from shnet_lib.training.config import configure, parse_settings

config = configure(preset, dataset=dataset, **parse_settings(shlex.split(settings)))
config

# %% [markdown]
# ## 1. Is the data there?
#
# `read_splits` reads the annotations of every split before anything else happens. If a file is missing it says which, where it looked, and what to do.

# %%
from shnet_lib.training.run import read_splits

expressions = read_splits(config, data)
for split, found in expressions.items():
    photos = len({expression.image_path for expression in found})
    print(f"{split:6}  {photos:6} images  {len(found):7} expressions")

# %% [markdown]
# ## 2. A look at the data
#
# One expression is one question: *which pixels does this phrase mean?* The blue outline is the answer.

# %%
from shnet_course.pictures.base import draw_expressions, show

val = expressions[config.val_split]
some = val[:: max(1, len(val) // 8)][:8]
listed = "; ".join(expression.text for expression in some)
show(draw_expressions(some), alt=f"Eight validation photos, the thing meant outlined: {listed}.")

# %% [markdown]
# ## 3. The model and its size
#
# Everything in which the rows of the paper's Tables 2 to 4 differ is one `ModelConfig`. The backbone is frozen (section 4.2), so only the rest is trained.

# %%
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.shnet import count_parameters

vocabulary = Vocabulary.from_texts(e.text for e in expressions[config.train_split])
print(f"{len(vocabulary)} words")
for part, trainable, frozen in count_parameters(config.model, len(vocabulary)):
    print(f"{part:12} {trainable / 1e6:8.3f} M trained  {frozen / 1e6:8.3f} M frozen")

# %% [markdown]
# ## 4. Training
#
# AdamW, polynomial decay with power 0.7, binary cross-entropy on every pixel (section 4.2). The network with the best overall IoU on the validation split is kept; the test splits are not looked at until the end. An interrupted run goes on where it was if you set `resume = True`.

# %%
from shnet_course.pictures.base import live_curves
from shnet_lib.training.fit import fit

fitted = fit(config, expressions, run_folder, resume, on_evaluation=live_curves())
print(f"best at step {fitted.best['step']} of {fitted.history[-1]['step']}")

# %% [markdown]
# ## 5. Evaluation on every split
#
# Overall IoU is the sum of all intersections over the sum of all unions (section 4.1): large things weigh more. The mean IoU weighs every expression alike. Precision@0.5 is the share of expressions whose IoU is greater than 0.5. Masks are compared at each photo's own size.

# %%
from shnet_lib.training.run import evaluate_splits, make_report, write_report

evaluations = evaluate_splits(fitted.trained, expressions)
report = make_report(fitted, evaluations)
write_report(run_folder, report, evaluations)

for split, evaluation in evaluations.items():
    figures = "  ".join(f"{name} {value:.3f}" for name, value in evaluation.metrics.items())
    print(f"{split:6} {figures}")

# %% [markdown]
# ## 6. Best, middling and worst
#
# A number hides what went wrong. Sorted by IoU, here are four answers from the top, the middle and the bottom of the validation split. What the model marks keeps its colours, outlined in orange; the blue outline is what was meant.

# %%
from shnet_course.pictures.base import draw_predictions
from shnet_lib.prediction import predict

ranked = sorted(evaluations[config.val_split].rows, key=lambda row: -row["iou"])
middle = len(ranked) // 2
chosen = {"best": ranked[:4], "median": ranked[middle - 2 : middle + 2], "worst": ranked[-4:]}

# %%
for name, rows in chosen.items():
    asked = [val[row["expression_index"]] for row in rows]
    masks = [predict(fitted.trained, e.photo(), e.text).mask for e in asked]
    phrases = "; ".join(f"{row['text']} ({row['iou']:.2f})" for row in rows)
    print(name)
    show(draw_predictions(asked, masks), alt=f"The {name} four of the validation split: {phrases}.")

# %% [markdown]
# ## 7. Where the checkpoint lies, and how to use it
#
# The folder `best` holds the network, its words, its settings and a card that says where it comes from; from `last` an interrupted run goes on. `expressions-*.csv` beside it hold one row an expression, to be sorted in any spreadsheet.

# %%
from pathlib import Path

for path in sorted(Path(run_folder).rglob("*")):
    if path.is_file():
        print(f"{path.relative_to(run_folder)!s:32} {path.stat().st_size / 1e6:8.3f} MB")

# %%
from shnet_lib import load_shnet

trained = load_shnet(Path(run_folder) / "best")
photo, phrase = val[0].photo(), val[0].text  # of your own: a path
prediction = predict(trained, photo, phrase)
print(f"“{phrase}” marks {prediction.mask.sum()} of {prediction.mask.size} pixels")
print("words it never saw:", prediction.unknown_words or "none")

# %% [markdown]
# ## What you have seen
#
# - The data was checked before anything was trained, and you have seen what it asks.
# - SHNet came from one `ModelConfig`; its backbone was frozen, the rest was trained.
# - Loss fell and overall IoU rose; the best network on validation was kept.
# - Every split was evaluated once, with overall IoU, mean IoU and precision@X.
# - The worst answers show more than the mean does.
# - `load_shnet` and `predict` are all you need to use what you trained.
