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
# # 00 · Start here
#
# *Section 1, Introduction · 15 minutes to read, 10 seconds to run on two CPU cores*
#
# **You need to know** how to run a notebook cell: click into it and press Shift+Enter.
#
# In this lesson you will
#
# - ask a trained SHNet about photos, with words and a photo of your own;
# - see RefShapes, the laboratory in which everything is known;
# - ask a second SHNet about its scenes, and compare its answers with what was meant;
# - check that everything the course needs is on your machine;
# - find your way: in two hours, or lesson by lesson.

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
# ## A photo and a phrase, a mask
#
# Given a photo and a phrase, *referring image segmentation* outlines what the phrase means:

# %%
from skimage import data

from shnet_course.answer import draw_answers
from shnet_course.pictures.base import show
from shnet_lib import load_shnet

of_photos = load_shnet("../data/weights/shnet_photos")
photos = {
    "cat": data.chelsea(),
    "woman": data.astronaut(),
    "motorcycle": data.stereo_motorcycle()[0],
    "cup": data.coffee(),
}
show(draw_answers(of_photos, [(photos[name], name) for name in ("cat", "woman", "motorcycle")]))

# %% [markdown]
# What the network marks keeps its colours. Ordinary segmentation gives every pixel one of a fixed list of classes. Here there is no list: another phrase has another answer in the same photo.
#
# Type a phrase and press Enter, choose another photo, or name a file of your own, seen from the folder `notebooks`. The map on the right is the network's probability for each pixel. **Predict:** what will it mark if you ask for a “dog” where there is a cat?

# %%
from shnet_course.widgets import ask_photos

ask_photos(of_photos, photos, phrase="cat")

# %% [markdown]
# This network is often wrong. Its training phrases were made by a program from the masks of a few hundred photos: kind, place, size, colour, relation ([docs/photos.md](../docs/photos.md) says how, and what such phrases cannot teach). Each network of the course comes with a card that says what made it, and what it reaches on pictures that it was not trained on:


# %% tags=["nbval-check-output"]
def print_card(trained):
    for split, metrics in trained.card["metrics"].items():
        overall, mean = metrics["overall_iou"], metrics["mean_iou"]
        print(f"{split:6} overall IoU {overall:.3f}  mean IoU {mean:.3f}")


print_card(of_photos)

# %% [markdown]
# 0 is useless and 1 is perfect. Lesson 07 says what the two measures are, and why one number is not enough.
#
# The course builds **SHNet**, the network behind these answers, from its parts: *Comprehensive Multi-Modal Interactions for Referring Image Segmentation* (Jain and Gandhi, Findings of ACL 2022). “The paper” is always this one; sections, equations, tables and figures are named by its numbers.

# %% [markdown]
# ## The laboratory: RefShapes
#
# Why was an answer wrong? Was the phrase ambiguous, a word unknown, the thing too small, or is there a fault in the network? On photos nobody can be sure. And the photos that the paper uses cannot be shipped with a course. So the course draws *scenes*, the data set **RefShapes**, with phrases of the same kinds. Everything in a scene is known: what is meant, to the pixel, and every other thing that could have been meant. So what a lesson claims about the network, it measures on hundreds of scenes.
#
# Below are the phrases of one scene, and then three of them. The blue outline is the right answer.

# %% tags=["nbval-check-output"]
from shnet_lib.data import read_expressions

val = read_expressions("../data/refshapes", "refshapes-unc", "val")
scenes = sorted({expression.image_path for expression in val})
of_scene = {e.text: e for e in val if e.image_path == scenes[36]}
list(of_scene)

# %%
from shnet_course.pictures.base import draw_expressions

phrases = ["orange thing with dots", "second thing from the right", "anywhere but the road"]
three = [of_scene[phrase] for phrase in phrases]
show(draw_expressions(three, columns=3))

# %% [markdown]
# To answer, it is not enough to know what a circle looks like. “The second star from the left” needs counting, “the square that is not striped” needs every square, “the sand under the stars” needs the stars too. The paper has two ideas for this. Take “anywhere but the road”: a network that first finds what the words name finds the road, and the mistake stays to the end. So words and pixels should look at each other *at the same time* (its Figure 1 argues so on a photo). And coarse and fine views of the picture should exchange what they found (section 1).

# %% [markdown]
# ## Ask it yourself
#
# This small SHNet was trained on RefShapes. The modules are the paper's, each of them smaller. The backbone is a small one of the course's own, and the words are one-hot vectors, not GloVe's.

# %% tags=["nbval-check-output"]
from shnet_course.answer import draw_answer

trained = load_shnet("../data/weights/shnet_refshapes")
print(f"It knows {len(trained.vocabulary)} words: {', '.join(trained.vocabulary.words[2:])}")

# %% [markdown]
# Type a phrase and press Enter; move the slider for another scene. The first answer is a good one. **Predict:** will it find the “second thing from the right”? And what will it do with a word that it does not know?

# %%
from ipywidgets import IntSlider

from shnet_course.widgets import explore


def ask(scene: int, phrase: str):
    return draw_answer(trained, scenes[scene], phrase)


explore(ask, scene=IntSlider(36, 0, len(scenes) - 1), phrase="orange thing with dots")

# %% [markdown]
# ## Right or wrong?
#
# Here are its answers to the three phrases, in orange, beside what was meant, in blue. The number is the *IoU*, intersection over union: the area inside both outlines, divided by the area inside either. A perfect answer has 1, a useless one 0.

# %%
from shnet_course.pictures.base import draw_predictions
from shnet_lib import predict

masks = [predict(trained, e.photo(), e.text).mask for e in three]
show(draw_predictions(three, masks, columns=3))

# %% [markdown]
# For the white heart, the second thing from the right, the network also marks a piece of the square behind the heart. How good is the network over many phrases? Its card tells. Lesson 01 says what the three sets are.

# %% tags=["nbval-check-output"]
print_card(trained)

# %% [markdown]
# ## Is everything there?
#
# Each line is a check. A line that begins with `--` says on the next line what to do.

# %%
from shnet_course.environment import check_environment, report

print(report(check_environment()))

# %% [markdown]
# ## The way through the course
#
# Photo and phrase go in on the left, the mask comes out on the right. The numbers are the sections of the paper; the lessons follow them, and each says what the names in its boxes mean.

# %%
from shnet_course.pictures.architecture import BOXES, draw_architecture

show(draw_architecture(lit=BOXES))

# %% [markdown]
# | lesson | what you build | paper | minutes to read |
# |---|---|---|---|
# | [01 · Data and words](01_data_and_words.ipynb) | from files on disk to expressions, masks and words | 4.1 | 40 |
# | [02 · Features](02_features.ipynb) | a frozen backbone, one grid, an LSTM | 3.1 | 40 |
# | [03 · SFM](03_sfm.ipynb) | attention over pixels and words together | 3.2 | 45 |
# | [04 · HCAM](04_hcam.ipynb) | levels that ask each other where to look | 3.3 | 35 |
# | [05 · The mask decoder and the whole model](05_decoder_and_shnet.ipynb) | from features to a mask | 3.4 | 40 |
# | [06 · Training](06_training.ipynb) | a loop in twenty lines, and how to read its curves | 4.2 | 40 |
# | [06b · Training on a GPU](06b_training_on_a_gpu.ipynb) | a loop that keeps a GPU busy, and two processes with one gradient | 4.2 | 30 |
# | [07 · Evaluation](07_evaluation.ipynb) | metrics, and why tables do not compare | 4.1, 4.3 | 35 |
# | [08 · Ablations](08_ablations.ipynb) | which part carries the result | 4.4 | 25 |
# | [09 · Looking inside](09_looking_inside.ipynb) | what attends to what, measured | 4.5 | 40 |
# | [10 · Train and evaluate](10_train_unc.ipynb) | the whole run, on RefShapes or on real photos | 4 | 20 |
# | [11 · The finale](11_finale.ipynb) | a module of your own in HCAM's place, in a contest | 3.3, 4.4 | 20 |
#
# Each lesson stands alone: what it needs of the others it imports from `shnet_lib`, the package beside the notebooks. No lesson needs a GPU or the web. What other networks changed since then: [after SHNet](../docs/after_shnet.md).
#
# ### If you have two hours
#
# | minutes | read |
# |---|---|
# | 15 | this lesson |
# | 35 | [03 · SFM](03_sfm.ipynb): “Six tokens by hand”, “The four blocks”, “Query, key and value”, then “What a trained SFM looks at” |
# | 20 | [04 · HCAM](04_hcam.ipynb): “An affinity by hand”, “The exchange”, “The aggregation” |
# | 20 | [05 · The mask decoder and the whole model](05_decoder_and_shnet.ipynb): “Assemble the network”, “One scene, from phrase to mask” |
# | 30 | [09 · Looking inside](09_looking_inside.ipynb): “Figure 7, again”, “From a picture to a number”, “Measure 1”, then “Closing a path” |
#
# Run each lesson whole before you begin to read it: what you read then has its results.

# %% [markdown]
# ## The symbols
#
# One name for one thing, in the text, in the lessons' code and in the library. Come back here when a letter is strange.
#
# | symbol | in code | shape | what it is | lesson |
# |---|---|---|---|---|
# | $B$ | `B` | | phrases in a batch | 01 |
# | $T$ | `T` | | words of the longest phrase in the batch | 01 |
# | | `word_mask` | (B, T) | True at a real word, False at padding | 01 |
# | $C$ | `C` | | channels: so many numbers stand for a pixel or a word | 02 |
# | $H$, $W$ | `H`, `W` | | rows and columns of the grid; each cell is called a pixel | 02 |
# | $V$ | `visual_feats` | (B, C, H, W) at each of the levels 2, 3, 4 | what the pixels are | 02 |
# | $L$ | `word_feats` | (B, T, C) | what the words are | 02 |
# | $N$ | `N` | | tokens: $HW$ pixels and $T$ words | 03 |
# | $F$ | `fused` | (B, N, C) at each level | pixels $f^v$ and words $f^l$ after SFM | 03 |
# | $\Lambda_{ij}$ | `affinity` | (B, C, H, W) | the gate of level $i$ for what comes from level $j$ | 04 |
# | $G$ | `context` | (B, C, H, W) | three levels in one map, after HCAM | 04 |
# | $S$ | `mask_logits` | (B, height, width) | above 0: more likely meant than not | 05 |
# | $Y$ | `target` | (B, height, width) | what was meant | 05 |
# | $I$, $U$ | `intersection`, `union` | (B,) | pixels inside both masks, and inside either | 07 |

# %% [markdown]
# ## Exercises, and how far you are
#
# Where it says **Now you**, a lesson leads to an exercise: you write what is missing, and a check says at once whether it is right. What you have passed is noted in one file on this machine, `.progress.json` in the course's folder; `!rm ../.progress.json` in a cell deletes it.

# %%
from IPython.display import Markdown

from shnet_course.checks import LESSONS
from shnet_course.progress import progress_page

Markdown(progress_page(LESSONS))

# %% [markdown]
# ## What you have seen
#
# - SHNet gave one photo another mask for each phrase, and showed where it was unsure.
# - In RefShapes everything is known, so that claims can be measured.
# - An IoU said how well two outlines agree; a card says how well over many phrases.
# - The checks told you what is there and what to do about the rest.
# - The lessons follow the paper's sections; go on with [01 · Data and words](01_data_and_words.ipynb), or take the path of two hours.
