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
# *Section 4.1 and the words of section 4.2 · 40 minutes to read, 20 seconds to run on two CPU cores*
#
# **You need to know** Python, dictionaries and lists, and a little NumPy. No PyTorch yet.
#
# In this lesson you will
#
# - read a data set of photos, phrases and masks field by field, and step around its two traps;
# - turn run-lengths and polygons into masks, by hand and with pycocotools;
# - find out how people speak about photos, and what made phrases lack;
# - cut phrases into words, and make a padded batch of ids;
# - read word vectors, and meet the nearest neighbours of “left”, “lady” and “cup”.

# %% [markdown]
# ## What is one example?
#
# An example has three parts: a photo, a phrase, and the mask of what the phrase means. The network is given the first two and is asked for the third. Today we look at both ends; lessons 02 to 05 fill in what lies between.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"photo", "phrase", "mask"}))

# %% [markdown]
# Here are three examples on one photo. The photo comes with scikit-image; phrases and outlines are ours.

# %%
import json
from pathlib import Path

from skimage import data as samples

from shnet_course.pictures.lesson_01 import draw_phrases
from shnet_lib.data.coco import rasterize

photo = samples.coffee()  # (400, 600, 3)
own = json.loads(Path("../data/own_example/instances.json").read_text())
outlines = {annotation["id"]: annotation["segmentation"] for annotation in own["annotations"]}
cup, spoon, saucer = (rasterize(outlines[number], 400, 600) for number in (6, 7, 8))
asked = {"red cup with the coffee in it": cup, "shiny thing beside the cup": spoon}
show(draw_phrases(photo, asked | {"plate under the cup": saucer}))

# %% [markdown]
# There is no list of classes to choose from: the spoon is a “shiny thing”, found by what stands beside it.
#
# ## The files, field by field
#
# UNC, UNC+ and G-Ref are published in one layout, called REFER after the tool that came with it. Their photos cannot be shipped with a course. So the course generates drawn *scenes*, the data set RefShapes, in the same layout.
#
# The first file, `refs(unc).p`, is a list of *refs*. A ref is one thing in one scene, with all sentences about it.

# %% tags=["nbval-check-output"]
from pprint import pprint

from shnet_lib.data.refer import load_refs

data = Path("../data/refshapes")
refs = load_refs(data / "refshapes" / "refs(unc).p")
val_refs = [ref for ref in refs if ref["split"] == "val"]
ref = val_refs[3]
pprint(ref, sort_dicts=False)

# %% [markdown]
# - `ref_id` is the ref's own number; `ann_id`, `image_id` and `category_id` point into the second file.
# - `split` is `train`, `val`, `testA` or `testB`. In UNC, testA refers to people and testB to everything else (Yu et al., 2016); in RefShapes, to round and to cornered things.
# - Each sentence has `raw`, as somebody typed it, and `sent`, corrected. `tokens` are its words.
# - `family` is RefShapes' own: the kind of phrase. Real files lack it.
#
# <details><summary><b>Aside:</b> why <code>load_refs</code>, and not <code>pickle.load</code>?</summary>
#
# `.p` means *pickle*, Python's own file of objects. A pickle can run code while it is opened, as this one does:
#
# ```python
# class Hostile:
#     def __reduce__(self):
#         return print, ("this ran on your machine",)
# ```
#
# `pickle.loads(pickle.dumps(Hostile()))` prints the sentence; it could as well delete your files. The data sets' pickles come from mirrors and archives. So the library opens them with a reader that knows lists, dictionaries, numbers and strings, and nothing else.
#
# </details>
#
# The second file, `instances.json`, is COCO's: images, and the outlines of things (“annotations”).

# %% tags=["nbval-check-output"]
document = json.loads((data / "refshapes" / "instances.json").read_text())
images = {image["id"]: image for image in document["images"]}
annotations = {annotation["id"]: annotation for annotation in document["annotations"]}
pprint(images[ref["image_id"]])
pprint(annotations[ref["ann_id"]])

# %% [markdown]
# ## First trap: `file_name`
#
# Both records have a `file_name`, and the ref's looks right. **Predict:** how many refs of the validation split name a file that exists?

# %% tags=["nbval-check-output"]
folder = data / "images" / "refshapes"
by_ref = sum((folder / ref["file_name"]).exists() for ref in val_refs)
by_image = sum((folder / images[ref["image_id"]]["file_name"]).exists() for ref in val_refs)
print(ref["file_name"], "|", images[ref["image_id"]]["file_name"])
print(f"of {len(val_refs)} refs: {by_ref} files found by the ref, {by_image} by its image_id")

# %% [markdown]
# None. RefShapes copies this trap from UNC, where a ref says `COCO_train2014_000000581857_16.jpg`: COCO's name with a number behind it. The way to the photo is `image_id`. (All photos of UNC lie in COCO's *train2014*.)
#
# ## Masks
#
# `segmentation` holds the mask as *run-lengths*: so many pixels of background, so many of the thing, and so on. In which order? Column by column from the left, each from top to bottom.

# %%
import numpy as np

from shnet_course.pictures.lesson_01 import draw_run_lengths

small = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
show(draw_run_lengths(small))

# %% [markdown]
# Follow the numbers: three white pixels (0 to 2), two blue (3, 4), one white, one blue (6), four white, one blue. As a function, and against pycocotools, which wrote these files:


# %% tags=["nbval-check-output"]
from pycocotools import mask as coco_mask


def run_lengths(mask):
    """The runs of a mask (H, W), column by column; the first run is background."""
    pixels = mask.T.ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff([0, *changes, mask.size]).tolist()
    return [0, *runs] if pixels[0] else runs


packed = coco_mask.frPyObjects({"size": [3, 4], "counts": run_lengths(small)}, 3, 4)
assert np.array_equal(coco_mask.decode(packed), small)
mask = coco_mask.decode(annotations[ref["ann_id"]]["segmentation"]).astype(bool)  # (128, 128)
print(run_lengths(small), "are packed as", packed["counts"])
print(f"our ref: {sum(run_lengths(mask)[1::2])} pixels in {len(run_lengths(mask)) // 2} runs")

# %% [markdown]
# COCO gives most things as polygons instead, `[[x, y, x, y, ...], ...]` in pixels. **Now you:** [The pixels of a polygon](../exercises/01_data_and_words_ex.ipynb).
#
# ## Second trap: overlapping polygons
#
# One thing may have several polygons, and they may overlap. Take the spoon: somebody outlines its bowl, and then its handle, which reaches a little into the bowl. The obvious code decodes each polygon, adds the masks, and asks where the sum is 1. **Predict:** what becomes of the spoon?

# %%
from shnet_course.pictures.lesson_01 import draw_parts

bowl = outlines[7][0]
handle = [410, 70, 416, 76, 380, 252, 364, 248]
parts = coco_mask.decode(coco_mask.frPyObjects([bowl, handle], 400, 600))  # (400, 600, 2)
show(draw_parts(photo, [part.astype(bool) for part in np.moveaxis(parts, 2, 0)]))

# %% [markdown]
# Where the polygons overlap, the sum is 2, and `== 1` punches a hole. The *union* has none. What does it cost? *Intersection over union* (IoU) compares two masks: the pixels that both have, divided by those that either has.


# %% tags=["nbval-check-output"]
def iou(one, other):
    return (one & other).sum() / (one | other).sum()


total = parts.sum(axis=2)  # (400, 600)
union = total > 0
assert np.array_equal(union, rasterize([bowl, handle], 400, 600))  # the library takes the union
print(f"IoU of the spoon with the hole and the whole spoon: {iou(total == 1, union):.3f}")

# %% [markdown]
# Three per cent, and no error message. **Now you:** [The union of polygons](../exercises/01_data_and_words_ex.ipynb).
#
# ## The reader
#
# `read_expressions` does all of this, checks every record, and makes an `Expression` of each sentence. Does it agree with us?

# %% tags=["nbval-check-output"]
from shnet_lib.data import read_expressions

val = read_expressions(data, "refshapes-unc", "val")
by_hand = [(ref["ann_id"], s["sent"]) for ref in val_refs for s in ref["sentences"]]
assert [(e.ref_id, e.text) for e in val] == by_hand
for expression in val[::40]:
    packed = annotations[expression.ref_id]["segmentation"]
    assert np.array_equal(expression.mask(), coco_mask.decode(packed).astype(bool))
    assert expression.image_path == folder / images[expression.image_id]["file_name"]
print(f"{len(val)} expressions of {len(val_refs)} refs in {len({e.image_id for e in val})} scenes")

# %% [markdown]
# One scene serves 6.0 expressions here, one photo 7.1 in UNC. What a network computes from the photo alone, it need compute only once for all of them.
#
# Now leaf through the data. RefShapes comes in four flavours, made after the four data sets of section 4.1. Real data in `data/unc` stands in the same menu. How often can you name the thing before you look at the mask?

# %%
from shnet_course.pictures.lesson_01 import find_data_sets
from shnet_course.widgets import browse

browse(find_data_sets(["../data/refshapes", "../data/unc"]), split="val", index=17)

# %% [markdown]
# ## Four data sets, four characters
#
# Section 4.1 describes the paper's data:
#
# | | expressions | images | objects | character |
# |---|---|---|---|---|
# | UNC | 142,209 | 19,994 | 50,000 | location words; fewer than 4 words on average |
# | UNC+ | 141,564 | 19,992 | 50,000 | no location words; fewer than 4 |
# | G-Ref | 104,560 | 26,711 | 50,000 | long sentences, 8.4 words |
# | ReferIt | 130,525 | 19,894 | 96,654 | regions too: sky, mountains, ground; fewer than 4 |
#
# Do RefShapes' flavours have the same character?

# %%
from shnet_course.pictures.lesson_01 import draw_character

names = ("unc", "unc+", "gref", "referit")
flavours = {name: read_expressions(data, f"refshapes-{name}", "val") for name in names}
show(draw_character(flavours))

# %% [markdown]
# Yes, except in two ways. The `gref` phrases are longer than G-Ref's, 10.3 words against 8.4. And nothing is small: 95 % of the things cover more than 3 % of their scene, while G-Ref “has extremely small target objects” (section 4.3). Lesson 02 shows what smallness costs.
#
# ## How people speak
#
# A generator chooses phrases that can be *proved* to mean one thing. People say what strikes them. For ReferIt, one player of a game wrote a phrase, and another had to find the thing by it (Kazemzadeh et al., 2014). Its training phrases are not shipped, but counted (`shnet_course/measure/phrases.py`). Beside them stand those of RefShapes' `referit` flavour. A *place word* is one such as left, top or corner. **Predict:** how many of a hundred real phrases are a single word? How many have a place word?

# %% tags=["nbval-check-output"]
from shnet_course.measure.phrases import count_phrases, read_counts
from shnet_course.tables import Table

train = read_expressions(data, "refshapes-referit", "train")
real, made = read_counts(), count_phrases(expression.text for expression in train)
rows = {
    "words on average": lambda c: f"{c.mean_length:.1f}",
    "a single word": lambda c: f"{c.shorter_than(2):.0%}",
    "ten words or more": lambda c: f"{1 - c.shorter_than(10):.1%}",
    "the longest": lambda c: f"{max(c.lengths)} words",
    "with a place word": lambda c: f"{c.placed / c.phrases:.0%}",
    "different words": lambda c: f"{c.distinct:,}",
    "words said once": lambda c: f"{c.once:,}",
}
cells = [[name, measure(real), measure(made)] for name, measure in rows.items()]
Table(["", f"real: {real.phrases:,} phrases", f"made: {made.phrases:,} phrases"], cells)

# %%
from shnet_course.pictures.lesson_01 import draw_speech

show(draw_speech({"ReferIt, real": real, "RefShapes, made": made}))

# %% [markdown]
# A quarter of the real phrases are one word, and the thing named most often is the sky. Both are short on average. The tails differ: real phrases have up to 30 words, and more than half of the real words occur once. So a network will be asked with words that no training phrase held.
#
# People type fast, too. **Predict:** in how many ways is “bottom” spelt?

# %% tags=["nbval-check-output"]
wrong = real.spellings.total() - real.spellings["bottom"]
print(f"bottom {real.spellings['bottom']:,} times, {len(real.spellings) - 1} others {wrong} times:")
print(*list(real.spellings)[1:14])
print(f"a slip in a long, common word: {real.slipped / real.phrases:.1%} of the phrases")

# %% [markdown]
# The last number is a lower bound: it sees one slip of a finger, in common words of six letters or more. To a network “botom” is another word, unless something tells it that the two are used alike.
#
# Counts cannot show wit: “doofy man with the spear”, “anywhere except the people”. [What made phrases cannot teach](../docs/photos.md) lists what a generator leaves out.
#
# ## Words
#
# A network reads numbers, so a phrase is cut into words first. The usual way: split at everything that is neither letter nor digit, and keep the pieces made of letters.

# %% tags=["nbval-check-output"]
import re


def letters_only(text):
    return [piece for piece in re.split(r"(\W+)", text.lower()) if piece.isalpha()]


for text in ("2nd star from left", "3 people, back row", "the man's h2o", "#5"):
    print(f"{text:20} -> {letters_only(text)}")

# %% [markdown]
# In the first phrase the lost number was the point. “#5” is left with nothing. The library keeps every piece that has a letter or a digit; `keep_numbers=False` gives the usual way. How many phrases lose a word?

# %% tags=["nbval-check-output"]
from shnet_lib.data.text import tokenize

for name, found in flavours.items():
    assert all(letters_only(e.text) == tokenize(e.text, keep_numbers=False) for e in found)
    print(f"{name:8} {np.mean([tokenize(e.text) != letters_only(e.text) for e in found]):5.1%}")
print(f"real     {real.numbered / real.phrases:5.1%}")

# %% [markdown]
# **Now you:** [Cut a phrase into words](../exercises/01_data_and_words_ex.ipynb).
#
# ## A vocabulary, and padding
#
# Each word gets an id. Id 0 is padding, id 1 every word that is not in the list. By hand: count, sort, number.

# %% tags=["nbval-check-output"]
from collections import Counter

from shnet_lib.data.text import Vocabulary

texts = [expression.text for expression in val]
counts = Counter(word for text in texts for word in tokenize(text))
by_count = sorted(counts, key=lambda word: (-counts[word], word))
ids = {word: number for number, word in enumerate(["<pad>", "<unk>", *by_count])}

vocabulary = Vocabulary.from_texts(texts)
assert vocabulary.words == list(ids)
phrases = ["2nd star from left", "the road", "the left zebra"]
encoded = [vocabulary.encode(phrase) for phrase in phrases]
assert encoded == [[ids.get(word, 1) for word in tokenize(phrase)] for phrase in phrases]
print(len(vocabulary), "words;", encoded, "unknown:", vocabulary.unknown(phrases[2]))

# %% [markdown]
# A batch is a rectangle of numbers, but phrases differ in length: short ones are filled up with 0 at the end. That is *padding*. `word_mask` remembers which words are real; all later parts need it. `B` is the number of phrases, `T` the length of the longest.


# %% tags=["nbval-check-output"]
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
# The library makes batches of whole examples. Three expressions of one scene make a batch with one image. `image_index` says which image each expression belongs to, `expression_index` where it stands in the data set.

# %% tags=["nbval-check-output"]
from shnet_lib.data.dataset import ReferringDataset, collate

dataset = ReferringDataset(val, vocabulary, image_size=128)
batch = collate([dataset[(0, 1, 2)]])
ours = pad([vocabulary.encode(expression.text) for expression in val[:3]])
assert np.array_equal(batch["words"], ours[0]) and np.array_equal(batch["word_mask"], ours[1])
for name, value in batch.items():
    print(f"{name:17} {tuple(value.shape)}")

# %% [markdown]
# **Now you:** [Encode and pad](../exercises/01_data_and_words_ex.ipynb), and, since photos differ in size too, [Resize a mask](../exercises/01_data_and_words_ex.ipynb).
#
# ## GloVe: words that come with a meaning
#
# An id says nothing about a word. GloVe's vectors do: words used alike lie close together (Pennington et al., 2014). The paper takes those made from 840 billion words (section 4.2), a text of 2.2 million lines with one word and 300 numbers each. Here are three short lines of that form. **Predict:** which of them breaks the obvious way to read a line?

# %% tags=["nbval-check-output"]
for line in ("left -0.5 0.1 0.9", "Left 0.7 0.7 0.7", ". . . 0.4 0.5 0.6"):
    word, *numbers = line.split(" ")
    by_right, *_ = line.rsplit(" ", 3)
    print(f"from the left {word!r} and {len(numbers)} pieces, from the right {by_right!r} and 3")

# %% [markdown]
# Some tokens of the real file contain spaces. From the right there is no doubt, since the number of numbers is known. And the file tells capitals apart, while our tokeniser gives small letters.
#
# The course ships a small file of this form, made of the same real phrases (`shnet_course/tools/word_vectors.py`): how often two words stand together, compared with chance, packed into 50 numbers per word. Read it by hand, and find a word's nearest neighbours, the vectors that point most nearly the same way. **Predict:** which word is nearest to “left”?

# %% tags=["nbval-check-output"]
from shnet_lib.data.glove import read_glove

path = Path("../data/vectors/referit-50.txt")
lines = [line.rsplit(" ", 50) for line in path.read_text(encoding="utf-8").splitlines()]
place = {word: number for number, (word, *_) in enumerate(lines)}
vectors = np.array([numbers for _, *numbers in lines], dtype=np.float32)  # (2412, 50)
asked = ["left", "lady", "cup", "zebra"]
by_library, missing = read_glove(path, asked)
assert np.array_equal(by_library[:3], vectors[[place[word] for word in asked[:3]]])

vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # length 1: a product is a cosine
for word in asked[:3]:
    alike = vectors @ vectors[place[word]]
    print(f"{word:5}", *(f"{lines[i][0]} {alike[i]:.2f}" for i in np.argsort(-alike)[1:7]))
print("no vector, so zeros:", missing)

# %% [markdown]
# “lady” is as good as “woman”: a network that has learnt one has nearly learnt the other. And “botom” stands among the place words, misspelt as it is.
#
# But the word nearest to “left” is “right”, at 0.99. The two are used alike, and use is all that such vectors know. The vectors say “a place word”, hardly *which*. The side has to be learnt from the photos.
#
# Try words of your own: “red”, or “dog”, which was said rarely.

# %%
from functools import partial

from shnet_course.pictures.lesson_01 import draw_neighbours
from shnet_course.widgets import explore

explore(partial(draw_neighbours, list(place), vectors), word="second")

# %% [markdown]
# ## What the paper does not say
#
# | open in the paper | the released code | this course |
# |---|---|---|
# | `raw` or `sent` | `sent`, as all code of the field | `sent` |
# | how words are cut | letters only: “2nd” is dropped | numbers are kept |
# | what becomes of GloVe after it was used to “initialize word embedding” (section 4.2) | fixed vectors, never trained | one-hot words for RefShapes; vectors, trained or fixed, for photos |
#
# A word without a vector gets zeros here, and the reader names it. The paper reads at most 25 words; the README of the released code asks for 30.
#
# <details><summary><b>Aside:</b> the counts of section 4.1</summary>
#
# “50,000 objects” is exact for UNC and rounded for the others: 49,856 in UNC+, 49,822 in G-Ref. G-Ref's 104,560 expressions count a test split that was never released; the published files hold 95,010.
#
# </details>

# %% [markdown]
# ## Five questions
#
# 1. How does one get from a ref to its photo?
# 2. A mask is made of three polygons. What do you compute, and why not the sum?
# 3. Your test phrases contain “botom”. What do one-hot words make of it, and what do the vectors?
# 4. Phrases of 2, 5 and 3 words make a batch. Which shape has `word_mask`, and how many entries are True?
# 5. Do such vectors tell “left cup” from “right cup”?
#
# <details><summary>Answers</summary>
#
# 1. By `image_id` in `instances.json`.
# 2. The union. A sum is 2 where polygons overlap, and `== 1` punches a hole there.
# 3. One-hot: an unknown word, like any other. The vectors put it near “left” and “bottom”.
# 4. 3 x 5; 10 are True.
# 5. Hardly: the layers behind them have to enlarge a small difference.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - `file_name` named no file, and `image_id` led to every photo.
# - Runs go down the columns; a sum of polygons had a hole, the union none.
# - A quarter of the real phrases were one word, half of the real words occurred once, and “bottom” had 26 spellings.
# - A tokeniser that keeps letters only lost “2nd”; you padded a batch and kept its `word_mask`.
# - In the vectors “lady” lay beside “woman”, and “left” beside “right”.
#
# Practise: [the exercises of this lesson](../exercises/01_data_and_words_ex.ipynb).
#
# Next: [02 · Features](02_features.ipynb), where photo and phrase become numbers that can be compared.
