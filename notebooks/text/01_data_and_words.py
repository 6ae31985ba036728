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
# # 01 · Data and words
#
# *Section 4.1 and the words of section 4.2 · 13 seconds on two CPU cores*
#
# **You need to know** Python, dictionaries and lists, and a little NumPy. No PyTorch yet.
#
# In this lesson you will
#
# - read a REFER data set field by field, and step around its two traps;
# - turn run-lengths and polygons into masks, by hand and with pycocotools;
# - leaf through any data set, and see in plots what sets UNC, UNC+, G-Ref and ReferIt apart;
# - cut a phrase into words, and see what a careless tokeniser loses;
# - make a padded batch of word ids, and read vectors from a GloVe file.

# %% [markdown]
# ## What is one example?
#
# A network learns from examples. Here an example has three parts: a photo, a phrase, and the mask of what the phrase means. The network is given the first two and is asked for the third. Everything between them is the subject of the lessons 02 to 05. Today we look at both ends.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(
    draw_architecture(lit={"photo", "phrase", "mask"}),
    alt="The network as boxes: photo to backbone to levels, phrase to word vectors and LSTM, both "
    "to SFM, then HCAM, then the decoder, then the mask. Photo, phrase and mask are lit.",
)

# %% [markdown]
# ## The files, field by field
#
# UNC, UNC+ and G-Ref are published in one layout, called REFER after the tool that came with it. RefShapes, the data set that this course generates, is written in the same layout, so what you learn on it holds for the others. Two entries are RefShapes' own: `scenes.json`, which we shall use, and `semantic`, on which the backbone of lesson 02 was trained. `make data` puts all of it here:

# %%
from pathlib import Path

data = Path("../data/refshapes")
sorted(path.name for path in (data / "refshapes").iterdir())

# %% [markdown]
# `refs(unc).p` says who is referred to and how. It is a *pickle*, Python's own file of objects, and a pickle can run code while it is opened. Let us make one that does:

# %%
# NBVAL_CHECK_OUTPUT
import pickle


class Hostile:
    def __reduce__(self):
        return print, ("this ran on your machine",)


pickle.loads(pickle.dumps(Hostile()))
# %% [markdown]
# Such files come from mirrors and archives (`data/README.md`), so the library opens them with a reader that knows lists, dictionaries, numbers and strings, and nothing else:

# %%
# NBVAL_CHECK_OUTPUT
import tempfile

from shnet_lib.data import DataError
from shnet_lib.data.refer import load_refs

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "refs(unc).p"
    path.write_bytes(pickle.dumps(Hostile()))
    try:
        load_refs(path)
    except DataError as error:
        print(str(error).partition(": ")[2])

# %% [markdown]
# An honest file is a list of *refs*. A ref is one thing in one photo, with all sentences that people wrote about it.

# %%
# NBVAL_CHECK_OUTPUT
from pprint import pprint

refs = load_refs(data / "refshapes" / "refs(unc).p")
val_refs = [ref for ref in refs if ref["split"] == "val"]
ref = val_refs[3]
pprint(ref, sort_dicts=False)

# %% [markdown]
# - `ref_id` is the ref's own number; `ann_id`, `image_id` and `category_id` point into the second file, `instances.json`.
# - `split` is `train`, `val`, `testA` or `testB`. In UNC, testA refers to people and testB to everything else (Yu et al., 2016); in RefShapes, to round and to cornered things, as the next cell prints.
# - Each sentence has `raw`, as somebody typed it, and `sent`, corrected. The library reads `sent`. `tokens` are its words.
# - `family` is RefShapes' own: what kind of phrase it is. Real files lack it.
#
# The second file is COCO's: photos, the outlines of things ("annotations"), and the names of their kinds.

# %%
# NBVAL_CHECK_OUTPUT
import json

document = json.loads((data / "refshapes" / "instances.json").read_text())
images = {image["id"]: image for image in document["images"]}
annotations = {annotation["id"]: annotation for annotation in document["annotations"]}
pprint(images[ref["image_id"]])
pprint(annotations[ref["ann_id"]])

kinds = {kind["id"]: kind["name"] for kind in document["categories"]}
for split in ("testA", "testB"):
    print(split, sorted({kinds[r["category_id"]] for r in refs if r["split"] == split}))

# %% [markdown]
# ## First trap: `file_name`
#
# Both records have a `file_name`. The ref's looks right, and names no file. Is that one odd record?

# %%
# NBVAL_CHECK_OUTPUT
photos = data / "images" / "refshapes"
by_ref = sum((photos / ref["file_name"]).exists() for ref in val_refs)
by_image = sum((photos / images[ref["image_id"]]["file_name"]).exists() for ref in val_refs)
print(ref["file_name"], "|", images[ref["image_id"]]["file_name"])
print(f"of {len(val_refs)} refs: {by_ref} files found by the ref, {by_image} by its image_id")

# %% [markdown]
# It is all of them. RefShapes copies this trap from UNC, where a ref says `COCO_train2014_000000581857_16.jpg`: COCO's name with a number behind it. The way to the photo is `image_id`. A second surprise in the real files: the photos of val and test lie in COCO's *train2014* folder too (`data/README.md`).

# %% [markdown]
# ## Masks
#
# `segmentation` holds the mask as *run-lengths*: so many pixels of background, so many of the thing, and so on. In which order are the pixels counted? Column by column from the left, each from top to bottom. A small example:

# %%
import numpy as np

from shnet_course.pictures.lesson_01 import draw_runs

small = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
show(
    draw_runs(small),
    alt="A mask of 3 rows and 4 columns, pixels numbered down the columns. The thing is 3, 4, 6, 11.",
)

# %% [markdown]
# Follow the numbers: three white pixels (0 to 2), two blue (3, 4), one white, one blue (6), four white, one blue. As a function:


# %%
# NBVAL_CHECK_OUTPUT
def run_lengths(mask):
    """The runs of a mask (H, W), column by column; the first run is background."""
    pixels = mask.T.ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff([0, *changes, mask.size]).tolist()
    return [0, *runs] if pixels[0] else runs


run_lengths(small)

# %% [markdown]
# pycocotools, which wrote these files, reads our runs; and it writes the same runs as a short text, the form that you saw in `counts`.

# %%
# NBVAL_CHECK_OUTPUT
from pycocotools import mask as coco_mask

packed = coco_mask.frPyObjects({"size": [3, 4], "counts": run_lengths(small)}, 3, 4)
assert np.array_equal(coco_mask.decode(packed), small)
print(packed)

# %% [markdown]
# And the mask of our ref is one line, the same that the library's `rasterize` gives:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.data.coco import rasterize

annotation = annotations[ref["ann_id"]]
mask = coco_mask.decode(annotation["segmentation"]).astype(bool)  # (128, 128)
assert np.array_equal(mask, rasterize(annotation["segmentation"], 128, 128))
print(f"{mask.sum()} pixels; the record says {annotation['area']}")

# %% [markdown]
# ## Second trap: overlapping polygons
#
# COCO gives most things as a list of polygons, `[[x, y, x, y, ...], ...]`, and polygons of one thing may overlap. RefShapes stores run-lengths, so let us make such a record. Our ref is a cross, and a cross is two bars. `scenes.json` lists the things of each scene with their corners.

# %%
from refgen.refshapes.scene import polygons_of
from refgen.refshapes.write import read_scenes

cross = read_scenes(data)[ref["image_id"]].things[1]
corners = 128 * polygons_of(cross)[0]  # (12, 2), x and y in pixels
upright, across = corners[[0, 1, 6, 7]], corners[[3, 4, 9, 10]]  # the ends of each bar
segmentation = [upright.ravel().tolist(), across.ravel().tolist()]

# %% [markdown]
# Now the obvious code: decode each polygon, add the masks, and ask where the sum is 1.

# %%
# NBVAL_CHECK_OUTPUT
bars = coco_mask.decode(coco_mask.frPyObjects(segmentation, 128, 128))  # (128, 128, 2)
total = bars.sum(axis=2)
for value in range(3):
    print(f"the sum is {value} at {(total == value).sum():5} pixels")

# %%
from PIL import Image

from shnet_course.pictures.lesson_01 import draw_parts

photo = np.asarray(Image.open(photos / images[ref["image_id"]]["file_name"]))
show(
    draw_parts(photo, [bar.astype(bool) for bar in np.moveaxis(bars, 2, 0)]),
    alt="A striped cross; the sum of its two bars, 2 where they cross; the pixels where the sum is "
    "1, a cross with a square hole in its middle; and the union, a whole cross.",
)

# %% [markdown]
# Where the bars cross, the sum is 2, and `== 1` punches a hole. The union has none. How much does it matter? *Intersection over union* (IoU) compares two masks: the pixels that both have, divided by those that either has.


# %%
# NBVAL_CHECK_OUTPUT
def iou(one, other):
    return (one & other).sum() / (one | other).sum()


union = total > 0
assert np.array_equal(union, rasterize(segmentation, 128, 128))  # the library takes the union
print(f"sum == 1: IoU {iou(total == 1, mask):.2f}   union: IoU {iou(union, mask):.2f}")
print(f"the union and the mask differ at {(union ^ mask).sum()} of {mask.sum()} pixels")

# %% [markdown]
# The union is not the mask to the pixel, since pycocotools and RefShapes draw an edge a little differently.
#
# ## The reader
#
# `read_expressions` does all of this, checks every record, and makes an `Expression` of each sentence. Does it agree with what we did by hand?

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.data import read_expressions

val = read_expressions(data, "refshapes-unc", "val")
ours = [(ref["ann_id"], s["sent"]) for ref in val_refs for s in ref["sentences"]]
assert [(e.ref_id, e.text) for e in val] == ours
for expression in val[::40]:
    packed = annotations[expression.ref_id]["segmentation"]
    assert np.array_equal(expression.mask(), coco_mask.decode(packed).astype(bool))
    assert expression.image_path == photos / images[expression.image_id]["file_name"]
print(f"{len(val)} expressions of {len(val_refs)} refs on {len({e.image_id for e in val})} photos")

# %% [markdown]
# One photo serves several expressions: 6.0 here, 7.1 in UNC (142,209 on 19,994 photos, section 4.1). So what a network computes from the photo alone it need compute only once for all of them.
#
# ## Leaf through the data
#
# Choose a data set, a split and a number. RefShapes comes in four flavours, each made after one of the four data sets of section 4.1. If you have real data, put it in `data/unc` or add your folder to the list; it then stands in the same menu. How often can you name the thing before you look at the mask?

# %%
from shnet_course.pictures.lesson_01 import find_data_sets
from shnet_course.widgets import browse

browse(find_data_sets(["../data/refshapes", "../data/unc"]), split="val", index=17)

# %% [markdown]
# ## Four data sets, four characters
#
# Section 4.1 of the paper describes its data:
#
# | | expressions | images | objects | character |
# |---|---|---|---|---|
# | UNC | 142,209 | 19,994 | 50,000 | location words; fewer than 4 words on average |
# | UNC+ | 141,564 | 19,992 | 50,000 | no location words; fewer than 4 |
# | G-Ref | 104,560 | 26,711 | 50,000 | long sentences, 8.4 words |
# | ReferIt | 130,525 | 19,894 | 96,654 | regions too: sky, mountains, ground; fewer than 4 |
#
# Do RefShapes' four flavours have the same character? Measured by hand on the validation split:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.pictures.lesson_01 import LOCATION_WORDS

names = ("unc", "unc+", "gref", "referit")
flavours = {name: read_expressions(data, f"refshapes-{name}", "val") for name in names}
for name, found in flavours.items():
    words = [e.text.split() for e in found]
    located = np.mean([bool(LOCATION_WORDS & set(w)) for w in words])
    regions = np.mean([e.family == "region" for e in found])
    print(
        f"{name:8} {len(found)} expressions, {np.mean([len(w) for w in words]):4.1f} words, "
        f"{located:4.0%} with a location word, {regions:4.0%} mean a region"
    )

# %%
from shnet_course.pictures.lesson_01 import draw_character

show(
    draw_character(flavours),
    alt="Three plots of the four flavours. Words: unc, unc+ and referit peak at 3 or 4, gref at 8 "
    "with a tail to 23. Location words: in about half of unc and gref, a third of referit, none "
    "of unc+. Size: half of the things cover 4 to 10 % of the photo, in referit 4 to 27 %.",
)

# %% [markdown]
# So they have, with two differences to keep in mind. The `gref` phrases are longer than G-Ref's, 10.3 words against 8.4. And what RefShapes refers to is not small. In the last plot a box holds the middle half of the things, its line is the median, and the whiskers leave out one thing in twenty on each side: nineteen of twenty cover more than 3 % of their photo. G-Ref "has extremely small target objects" (section 4.3). Lesson 02 shows what smallness costs.

# %% [markdown]
# ## Words
#
# A network reads numbers, so a phrase is cut into words first. A simple way: split at everything that is neither letter nor digit, and keep the pieces that consist of letters.

# %%
# NBVAL_CHECK_OUTPUT
import re


def letters_only(text):
    return [piece for piece in re.split(r"(\W+)", text.lower()) if piece.isalpha()]


for text in ("2nd star from left", "3 people, back row", "the man's h2o", "#5"):
    print(f"{text:20} -> {letters_only(text)}")

# %% [markdown]
# The number is gone, and in the first phrase the number was the point. "#5" is left with nothing. The library keeps every piece that has a letter or a digit; `keep_numbers=False` gives the simple way. How many expressions lose a word by it?

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.data.text import tokenize

for name, found in flavours.items():
    texts = [expression.text for expression in found]
    assert all(letters_only(t) == tokenize(t, keep_numbers=False) for t in texts)
    losing = [t for t in texts if tokenize(t) != letters_only(t)]
    print(f"{name:8} {len(losing) / len(texts):5.1%}  {losing[:2]}")

# %% [markdown]
# ## A vocabulary, and padding
#
# Each word gets an id. Id 0 is padding, id 1 every word that is not in the list. By hand: count, sort, number. (We count the validation split, which is small; a training run counts its training split.)

# %%
# NBVAL_CHECK_OUTPUT
from collections import Counter

from shnet_lib.data.text import Vocabulary

texts = [expression.text for expression in val]
counts = Counter(word for text in texts for word in tokenize(text))
by_count = sorted(counts, key=lambda word: (-counts[word], word))
ids = {word: number for number, word in enumerate(["<pad>", "<unk>", *by_count])}

vocabulary = Vocabulary.from_texts(texts)
assert vocabulary.words == list(ids)
print(len(vocabulary), "words:", *vocabulary.words[:12])

# %%
# NBVAL_CHECK_OUTPUT
phrases = ["2nd star from left", "the road", "the left zebra"]
encoded = [vocabulary.encode(phrase) for phrase in phrases]
assert encoded == [[ids.get(word, 1) for word in tokenize(phrase)] for phrase in phrases]
print(encoded, "unknown:", vocabulary.unknown(phrases[2]))

# %% [markdown]
# A batch of phrases is a rectangle of numbers, but phrases differ in length: short ones are filled up with 0 at the end. That is *padding*. `word_mask` remembers which words are real; every later part of the network needs it. `B` is the number of phrases, `T` the longest of them.


# %%
# NBVAL_CHECK_OUTPUT
def pad(encoded):
    """Lists of ids -> words (B, T), 0 where padded, and word_mask (B, T), True = a real word."""
    longest = max(map(len, encoded))
    words = np.array([ids + [0] * (longest - len(ids)) for ids in encoded])
    word_mask = np.arange(longest) < np.array([[len(ids)] for ids in encoded])
    return words, word_mask


words, word_mask = pad(encoded)
print(words)
print(word_mask.astype(int))

# %% [markdown]
# The library makes batches of real examples. Here are the first three expressions, all of one photo, and so with one image among them. `image_index` says which image each expression belongs to, `expression_index` where it stands in the data set.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.data.dataset import ReferringDataset, collate

dataset = ReferringDataset(val, vocabulary, image_size=128)
batch = collate([dataset[(0, 1, 2)]])
ours = pad([vocabulary.encode(expression.text) for expression in val[:3]])
assert np.array_equal(batch["words"], ours[0]) and np.array_equal(batch["word_mask"], ours[1])
for name, value in batch.items():
    print(f"{name:17} {tuple(value.shape)}")

# %% [markdown]
# ## GloVe: words that come with a meaning
#
# An id says nothing about a word. GloVe's vectors do: words used alike lie close together (Pennington et al., 2014). The paper takes those made from 840 billion words (section 4.2), a text file of 2.2 million lines and some 5 GB, one word and 300 numbers a line. We write a tiny one, with three numbers a word, in the same form:

# %%
lines = [
    "the 0.1 0.2 0.3",
    ". . . 0.4 0.5 0.6",  # one token, with spaces in it: the real file has such
    "left -0.5 0.1 0.9",
    "Left 0.7 0.7 0.7",
    "star 0.2 -0.4 0.6",
]
folder = tempfile.TemporaryDirectory()
glove = Path(folder.name) / "tiny.txt"
_ = glove.write_text("\n".join(lines) + "\n")

# %% [markdown]
# The obvious way to read a line is to split it at its spaces: the word is what comes first.

# %%
# NBVAL_CHECK_OUTPUT
for line in lines:
    word, *numbers = line.split(" ")
    try:
        print(f"{word!r:8}", [float(number) for number in numbers])
    except ValueError as error:
        print(f"{word!r:8}", error)

# %% [markdown]
# The second line breaks it. From the right there is no doubt, since the number of numbers is known: `rsplit` splits three times and leaves the rest whole.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.data.glove import read_glove

by_hand = {}
for line in lines:
    word, *numbers = line.rsplit(" ", 3)
    by_hand[word] = [float(number) for number in numbers]

asked = ["left", ". . .", "star", "zebra"]
vectors, missing = read_glove(glove, asked)  # (4, 3)
assert np.allclose(vectors, [by_hand.get(word, [0, 0, 0]) for word in asked])
print(vectors.round(1), "missing:", missing)
folder.cleanup()

# %% [markdown]
# "left" and "Left" are two words there: the 840B file tells capitals apart, and our tokeniser gives small letters. A word that the file lacks gets zeros, and the reader says which. Fetching a data set with `--glove` keeps the lines of its words alone, so that the 5 GB are read once.

# %% [markdown]
# ## What the paper does not say
#
# - **Which text.** The paper does not say whether it reads `raw` or `sent`. How often do they differ?

# %%
# NBVAL_CHECK_OUTPUT
pairs = [(s["raw"], s["sent"]) for ref in val_refs for s in ref["sentences"]]
typed = [(raw, sent) for raw, sent in pairs if tokenize(raw) != tokenize(sent)]
print(f"{len(typed) / len(pairs):.1%} have other words in raw, such as {typed[0]}")

# %% [markdown]
# - **How words are cut**, and so whether "2nd" is dropped (counted above).
# - **How many words.** The paper reads at most 25; the README of the released code asks for 30. No sentence of ours is cut at either:

# %%
# NBVAL_CHECK_OUTPUT
print({name: max(len(tokenize(e.text)) for e in found) for name, found in flavours.items()})

# %% [markdown]
# - **What GloVe is for.** The paper lets it "initialize" an embedding (section 4.2), which then may learn. The released code looks fixed vectors up and never trains them.
# - **Which G-Ref.** 104,560 expressions count a test split that was never released; the published files hold 95,010. And "50,000 objects" is rounded for all but UNC:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.data.refer import PUBLISHED_REFS

for name, splits in PUBLISHED_REFS.items():
    print(f"{name:9} {sum(splits.values()):6} refs  {splits}")

# %% [markdown]
# ## What you have seen
#
# - You read refs and instances field by field; `file_name` named no file, and `image_id` led to every photo.
# - Runs go down the columns; your masks equalled pycocotools' and the library's; a sum of polygons had a hole, the union none.
# - You leafed through the data, and in the plots UNC+ had no location words, G-Ref three times as many words, ReferIt the regions.
# - A tokeniser that keeps letters only lost "2nd", and with it the point of some phrases.
# - You padded a batch and kept its `word_mask`; GloVe's lines had to be split from the right.
#
# Practise: [the exercises of this lesson](../exercises/01_data_and_words_ex.ipynb).
#
# Next: [02 · Features](02_features.ipynb), where photo and phrase become numbers that can be compared.
