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
# *Section 1, Introduction · 6 seconds on two CPU cores*
#
# **You need to know** how to run a notebook cell: click into it and press Shift+Enter.
#
# In this lesson you will
#
# - see what referring segmentation is, on a scene made for this course;
# - ask a trained SHNet with words of your own, and see where it is unsure;
# - check that everything the course needs is on your machine;
# - find out which lesson holds what.

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
# ## What this course builds
#
# The course builds **SHNet**, the network of *Comprehensive Multi-Modal Interactions for Referring Image Segmentation* (Jain and Gandhi, Findings of ACL 2022), from its parts. “The paper” is always this one; sections, equations, tables and figures are named by its numbers.
#
# ## Is everything there?
#
# Each line is a check. A line that begins with `--` says on the next line what to do.

# %%
from shnet_course.environment import check_environment, report

print(report(check_environment()))

# %% [markdown]
# ## A phrase, a photo, a mask
#
# Given a photo and a phrase, *referring image segmentation* outlines what the phrase means. It differs from ordinary segmentation, which gives every pixel one of a fixed list of classes. Here there is no list: the same photo has another answer when another phrase asks for another thing.
#
# The photos of the data sets that the paper uses cannot be shipped with a course. So the course generates scenes, **RefShapes**, with phrases of the same kinds. Below are the phrases of one scene, and then three of them. The blue outline is the right answer; it is known exactly, since the scene was generated.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.data import read_expressions

val = read_expressions("../data/refshapes", "refshapes-unc", "val")
scenes = sorted({expression.image_path for expression in val})
of_scene = {e.text: e for e in val if e.image_path == scenes[36]}
list(of_scene)

# %%
from shnet_course.pictures.base import draw_expressions, show

phrases = ["orange thing with dots", "second thing from the right", "anywhere but the road"]
three = [of_scene[phrase] for phrase in phrases]
show(
    draw_expressions(three, columns=3),
    alt=f"One scene three times, each time another answer outlined: {'; '.join(phrases)}.",
)

# %% [markdown]
# To answer, it is not enough to know what a circle looks like. “The second star from the left” needs counting, “the square that is not striped” needs every square, “the sand under the stars” needs the stars too. The paper's point is that words and pixels should look at each other *at the same time* (its Figure 1), and that coarse and fine views of the photo should exchange what they found (section 1).

# %% [markdown]
# ## Ask it yourself
#
# The course ships a small SHNet, trained on RefShapes. It is the network of the paper, only smaller.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.answer import describe_answer, draw_answer
from shnet_lib import load_shnet

trained = load_shnet("../data/weights/shnet_refshapes")
print(f"It knows {len(trained.vocabulary)} words: {', '.join(trained.vocabulary.words[2:])}")

# %% [markdown]
# Type a phrase and press Enter; move the slider for another scene. What the network marks keeps its colours; the map on the right is its probability for each pixel. Try a word that it does not know: the picture will name it.

# %%
from ipywidgets import IntSlider

from shnet_course.widgets import explore


def ask(scene: int, phrase: str):
    return draw_answer(trained, scenes[scene], phrase)


def tell(scene: int, phrase: str) -> str:
    return describe_answer(trained, scenes[scene], phrase)


explore(ask, tell, scene=IntSlider(36, 0, len(scenes) - 1), phrase="second thing from the right")

# %% [markdown]
# The first answer is not perfect: with the white heart it marks a piece of the square behind it. How good is it over many phrases? The network comes with a card that says what made it and what it reaches on three sets of scenes that it was not trained on. *Overall IoU* takes the pixels that the mask and the right answer have in common, and divides them by those that either has, summed over all phrases: 0 is nothing, 1 is perfect. *Mean IoU* divides phrase by phrase and takes the mean. Lesson 01 says what the three sets are, lesson 07 why one number is not enough.

# %%
# NBVAL_CHECK_OUTPUT
for split, metrics in trained.card["metrics"].items():
    print(f"{split:6} overall IoU {metrics['overall_iou']:.3f}  mean IoU {metrics['mean_iou']:.3f}")

# %% [markdown]
# ## The way through the course
#
# Photo and phrase go in on the left, the mask comes out on the right. The numbers are the sections of the paper; the lessons follow them, and each says what the names in its boxes mean.

# %%
from shnet_course.pictures.architecture import BOXES, draw_architecture

show(
    draw_architecture(lit=BOXES),
    alt="SHNet from photo and phrase to mask: backbone and LSTM, SFM, HCAM, ASPP and up-sampling.",
)

# %% [markdown]
# | lesson | what you build | paper |
# |---|---|---|
# | [01 · Data and words](01_data_and_words.ipynb) | from files on disk to expressions, masks and words | 4.1 |
# | [02 · Features](02_features.ipynb) | a frozen backbone, one grid, an LSTM | 3.1 |
# | [03 · SFM](03_sfm.ipynb) | attention over pixels and words together | 3.2 |
# | [04 · HCAM](04_hcam.ipynb) | levels that ask each other where to look | 3.3 |
# | [05 · The mask decoder and the whole model](05_decoder_and_shnet.ipynb) | from features to a mask | 3.4 |
# | [06 · Training](06_training.ipynb) | a loop in twenty lines, and how to read its curves | 4.2 |
# | [06b · Training on a GPU](06b_training_on_a_gpu.ipynb) | a loop that keeps a GPU busy, and two processes with one gradient | 4.2 |
# | [07 · Evaluation](07_evaluation.ipynb) | metrics, and why tables do not compare | 4.1, 4.3 |
# | [08 · Ablations](08_ablations.ipynb) | which part carries the result | 4.4 |
# | [09 · Looking inside](09_looking_inside.ipynb) | what attends to what, measured | 4.5 |
# | [10 · Train and evaluate](10_train_unc.ipynb) | the whole run, on RefShapes or on real photos | 4 |
#
# Each lesson stands alone: what it needs of the others it imports from `shnet_lib`, the package beside the notebooks. No lesson needs a GPU or the web.

# %% [markdown]
# ## Exercises, and how far you are
#
# Where a lesson has exercises, its last lines lead to them: you write what is missing, and a check says at once whether it is right. What you have passed is noted in one file on this machine, `.progress.json` in the course's folder; `!rm ../.progress.json` in a cell deletes it.

# %%
from IPython.display import Markdown

from shnet_course.checks import LESSONS
from shnet_course.progress import progress_page

Markdown(progress_page(LESSONS))

# %% [markdown]
# ## What you have seen
#
# - Referring segmentation gives one photo another mask for each phrase.
# - SHNet answered your words, marked those it never saw, and showed where it was unsure.
# - The checks told you what is there and what to do about the rest.
# - The lessons follow the paper's sections; go on with [01 · Data and words](01_data_and_words.ipynb).
