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
# # Exercise 01 · Data and words
#
# *Belongs to [lesson 01](../notebooks/01_data_and_words.ipynb) · five exercises · 50 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how, and where the answer is a mask it draws what was wanted beside yours. The fold-outs go from a hint to the whole solution.

# %%
import re

import numpy as np
from pycocotools import mask as coco_mask

from shnet_course.checks import check

# %% [markdown]
# ## The pixels of a polygon
#
# *Difficulty: medium · 20 minutes · section 4.1: the masks of UNC, UNC+ and G-Ref are stored as polygons*
#
# A polygon is a list of corners, a mask is a grid of pixels. Which pixels belong to the polygon? One rule: those whose *middle* lies inside. The pixel in row 0 and column 0 covers $0 \le x \le 1$ and $0 \le y \le 1$, so that its middle is $(0.5,\ 0.5)$.
#
# And when is a point inside? Walk from it to the right, to the end of the world. If you cross the outline an odd number of times, you began inside. The edge from $(x_1, y_1)$ to $(x_2, y_2)$ is crossed by the walk from $(x, y)$ if one of its ends lies above $y$ and one below, and if at the height $y$ the edge is to the right of the point:
#
# $$x < x_1 + (y - y_1)\,\frac{x_2 - x_1}{y_2 - y_1}$$


# %%
def polygon_mask(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose middle lies inside a polygon.

    Args:
        polygon: (P, 2) float, x and y of each corner in pixels. x counts columns, y counts rows.
            An edge joins each corner to the next, and the last to the first. It may reach outside
            the image; no middle of a pixel lies exactly on an edge, and no edge is horizontal.

    Returns:
        (height, width) bool.
    """
    ### BEGIN SOLUTION: count the edges to the right of each pixel
    x = np.arange(width) + 0.5  # (W,)
    y = np.arange(height)[:, None] + 0.5  # (H, 1)
    crossed = np.zeros((height, width), dtype=int)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        at_this_height = (y1 > y) != (y2 > y)  # (H, 1)
        to_the_right = x < x1 + (y - y1) * (x2 - x1) / (y2 - y1)  # (H, W)
        crossed += at_this_height & to_the_right
    return crossed % 2 == 1
    ### END SOLUTION


# %% tags=["check"]
check("the pixels of a polygon", polygon_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go over the edges. For each one you can ask all pixels at once: `x` of shape (W,) and `y` of shape (H, 1) together make (H, W). Two plain loops over rows and columns are just as right.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# “One end above and one below” is `(y1 > y) != (y2 > y)`. The edges are the pairs of `polygon` and `np.roll(polygon, -1, axis=0)`: the first corner follows the last.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you ask for each pixel's corner"</summary>
#
# `np.arange(width)` gives 0, 1, 2, ..., the left borders of the pixels. Their middles lie half a pixel further. A mask that is off by half a pixel looks right and costs IoU on every small thing.
#
# </details>

# %% [markdown]
# ## The union of polygons
#
# *Difficulty: easy · 5 minutes · section 4.1, and the second trap of the lesson*
#
# One thing may be stored as several polygons, and they may overlap. A pixel belongs to the thing if it lies in any of them:
#
# $$M = M_1 \cup M_2 \cup \dots \cup M_P$$
#
# pycocotools draws the polygons; you put them together.


# %%
def union_mask(segmentation: list[list[float]], height: int, width: int) -> np.ndarray:
    """The mask of a thing.

    Args:
        segmentation: as in instances.json, its polygons, each [x, y, x, y, ...] in pixels.

    Returns:
        (height, width) bool.
    """
    parts = coco_mask.decode(coco_mask.frPyObjects(segmentation, height, width))  # (H, W, P) 0 or 1
    ### BEGIN SOLUTION: which pixels lie in any of the parts?
    return parts.any(axis=2)
    ### END SOLUTION


# %% tags=["check"]
check("the union of polygons", union_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The polygons are the last axis of `parts`. Which method of an array says whether at least one number along an axis is not 0?
#
# </details>

# %% [markdown]
# <details><summary>It fails with "== 1 punches a hole"</summary>
#
# Look at the picture under the check: where two polygons lie on each other their sum is 2. Ask for a sum of at least 1, or do not add at all.
#
# </details>

# %% [markdown]
# ## Resize a mask
#
# *Difficulty: medium · 10 minutes · why: each photo has a size of its own, and the network has one*
#
# The network draws masks of one size, so targets are brought to it. A target is True or False and must stay so. The rule: the middle of a new pixel falls into one old pixel, and takes its value. With an old size of $H \times W$ and a new one of $h \times w$, the middle of row $i$ and column $j$ falls on
#
# $$\left( (i + \tfrac12)\,\frac{H}{h},\ (j + \tfrac12)\,\frac{W}{w} \right)$$
#
# The released code resizes smoothly and takes all that is $> 0$. You can see what that does: try it, and look at the picture that the check draws.


# %%
def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask at another size, by its nearest pixels.

    Args:
        mask: (H, W) bool. H and W are odd here, so that no middle falls between two old pixels.

    Returns:
        (height, width) bool.
    """
    ### BEGIN SOLUTION: find the old row and column of each new one
    old_height, old_width = mask.shape
    rows = ((np.arange(height) + 0.5) * old_height / height).astype(int)  # (height,)
    columns = ((np.arange(width) + 0.5) * old_width / width).astype(int)  # (width,)
    return mask[rows][:, columns]
    ### END SOLUTION


# %% tags=["check"]
check("resize a mask", resize_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Rows and columns do not depend on each other. Work out a list of old rows, one for each new row, then the same for columns.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# A place of 3.7 lies in pixel 3: `.astype(int)` drops what is behind the point. `mask[rows]` gives the rows in a list, `mask[:, columns]` the columns.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "index ... is out of bounds"</summary>
#
# You round to the nearest whole number: 20.6 would be column 21, and of 21 columns the last has the number 20. The middle lies *in* pixel 20, whose number is 20.6 rounded down.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "bilinear and then > 0 makes the thing larger"</summary>
#
# A smooth filter mixes neighbours, so that along the outline numbers between 0 and 1 stand on both sides. `> 0` takes them all, and the thing grows. A target should not depend on how it was resized.
#
# </details>

# %% [markdown]
# ## Cut a phrase into words
#
# *Difficulty: easy · 5 minutes · section 4.2: "words in the expressions", and no more than that*
#
# A word is an unbroken run of letters and digits, in small letters. Everything else separates. “2nd” is one word, “left-most” is two, and “man's” is `man` and `s`. Letters of all languages count.


# %%
def tokenize(text: str) -> list[str]:
    """The words of a phrase in their order: "Man's 2nd cup!" -> man, s, 2nd, cup."""
    ### BEGIN SOLUTION: find the words
    return re.findall(r"\w+", text.lower())
    ### END SOLUTION


# %% tags=["check"]
check("cut a phrase into words", tokenize)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `str.isalnum` tells whether a character is a letter or a digit. In a regular expression `\w` is such a character (or `_`, which nobody types here) and `\W` is every other one.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you keep letters only"</summary>
#
# `isalpha()` is False for “2nd”. In “2nd star from left” and “3rd star from left” nothing would be left to tell the two stars apart.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "an empty word is among yours"</summary>
#
# `re.split(r"\W+", "cup!")` gives `["cup", ""]`: there is nothing behind the last cut. Leave empty pieces out.
#
# </details>

# %% [markdown]
# ## Encode and pad
#
# *Difficulty: medium · 10 minutes · section 4.2: at most 25 words*
#
# A batch is a rectangle. Words become ids, short phrases are filled up with id 0 at the end, and `word_mask` remembers which words are real:
#
# - a word without an id gets id 1, and is a real word all the same;
# - of a long phrase only the first `max_words` words are read;
# - a phrase without any word (somebody typed “???”) becomes one unknown word, since the network will take means over words, and a mean over none does not exist;
# - `T` is the number of words of the longest phrase *of this batch*, after cutting.


# %%
def encode_and_pad(
    phrases: list[list[str]], ids: dict[str, int], max_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """A batch of phrases as numbers.

    Args:
        phrases: B lists of words, some of them perhaps empty.
        ids: word -> id, from 2 on for real words.
        max_words: how many words of a phrase are read, 25 in the paper.

    Returns:
        words (B, T) int, 0 where padded, and word_mask (B, T) bool, True = a real word.
    """
    ### BEGIN SOLUTION: look the ids up, then fill up to the longest
    encoded = [[ids.get(word, 1) for word in phrase[:max_words]] or [1] for phrase in phrases]
    longest = max(len(row) for row in encoded)
    words = np.zeros((len(encoded), longest), dtype=int)  # (B, T)
    word_mask = np.zeros((len(encoded), longest), dtype=bool)  # (B, T)
    for number, row in enumerate(encoded):
        words[number, : len(row)] = row
        word_mask[number, : len(row)] = True
    return words, word_mask
    ### END SOLUTION


# %% tags=["check"]
check("encode and pad", encode_and_pad)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Do it in two steps: first each phrase to a list of ids, never empty; then all lists into two arrays of zeros and False.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `ids.get(word, 1)` gives 1 where the word has no id. An empty list counts as False, so `row or [1]` is `[1]` for it.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "an unknown word is a real word"</summary>
#
# `words > 1` forgets the unknown ones. The mask says where a word stands, not whether we know it.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can turn an annotation into a mask and a phrase into a row of a batch, and you know what goes wrong on the way without a word said: holes, grown outlines, lost numbers. The library's own versions stand in `shnet_lib/data/coco.py`, `shnet_lib/data/text.py` and `shnet_lib/data/dataset.py`.
