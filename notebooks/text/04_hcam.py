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
# # 04 · HCAM: levels ask each other
#
# *Section 3.3, Equations 2 and 3 · 9 seconds on two CPU cores*
#
# **You need to know** what SFM returns ([03 · SFM](03_sfm.ipynb)), and what a convolution with padding does.
#
# In this lesson you will
#
# - compute an affinity (Eq. 2) and an exchange (Eq. 3) by hand on a 2 x 2 grid;
# - write both equations as functions and find them equal to the library's;
# - show that the “Conv3D” is a 2-D convolution, and that most of Eq. 2's work need not be done;
# - draw the five other ways to fuse levels that Tables 2 and 4 compare with HCAM;
# - measure what the gates of a trained network do, and what they do not.

# %% [markdown]
# ## The question
#
# SFM ran on each of the levels 2, 3 and 4 alone. Each level $i$ came back with its own picture of the scene, $f^v_i$, and its own reading of the words, $f^l_i$. The mask needs one map. How should three become one? One could stack and convolve them, but then no level is told how the others read the words. The Hierarchical Cross-Modal Aggregation Module, HCAM, first lets every level take from the other two what fits *their* sentence. Figure 3 of the paper draws it.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"hcam"}), alt="SHNet from photo and phrase to mask; HCAM is lit.")

# %%
from shnet_course.pictures.lesson_04 import draw_fusions

show(
    draw_fusions(["hcam"]),
    alt="HCAM: to each of the levels 2, 3 and 4 the other two are added, each times an affinity; "
    "a Conv3D makes one map G of the three.",
)

# %% [markdown]
# ## An affinity by hand
#
# Equation 2 of the paper:
#
# $$\Lambda_{ij} = \sigma(\mathrm{Conv}([f^v_i\,;\,f^{l\,avg}_j]))$$
#
# Level $i$ brings its pixels. Level $j$ brings one sentence vector: the average of its words. The sentence is put beside every pixel, a convolution mixes the two, and the sigmoid $\sigma$ turns the result into a *gate* between 0 and 1.
#
# Take one channel and a grid of 2 x 2. The sentence is a single number, 1.5. The kernel has one 3 x 3 slice for the pixels and one for the sentence; its numbers are made up.

# %%
# NBVAL_CHECK_OUTPUT
import torch

visual_i = torch.tensor([[2.0, -1.0], [0.0, -3.0]])  # f^v_i, (H, W)
visual_j = torch.tensor([[1.0, 3.0], [-2.0, 0.5]])  # f^v_j
sentence_j = 1.5  # f^{l avg}_j
kernel = torch.tensor(
    [
        [[0.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 0.0]],  # for the pixels
        [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]],  # for the sentence
    ]
)
kernel.shape  # (2, 3, 3)

# %% [markdown]
# The top left cell sees itself, its right and its lower neighbour through the first slice. Through the second it sees the sentence four times: what lies outside the grid is zero.

# %%
# NBVAL_CHECK_OUTPUT
import math

from_pixels = 1.0 * 2.0 + 0.5 * -1.0 + 0.5 * 0.0
from_sentence = 4 * 0.1 * 1.5
gate = 1 / (1 + math.exp(-(from_pixels + from_sentence)))
print(f"{from_pixels:.1f} + {from_sentence:.1f}, through the sigmoid: {gate:.2f}")

# %% [markdown]
# All four cells at once, with torch:

# %%
import torch.nn.functional as F

tiled = torch.full((2, 2), sentence_j)  # the sentence at every pixel
stacked = torch.stack((visual_i, tiled))[None]  # [f^v_i ; f^l_j], (1, 2, H, W)
affinity = torch.sigmoid(F.conv2d(stacked, kernel[None], padding=1))[0, 0]  # (H, W)
assert abs(float(affinity[0, 0]) - gate) < 1e-6

# %% [markdown]
# ## The exchange
#
# Equation 3, first line: each level adds what the gates let through of the other two. The sign $\circ$ multiplies element by element.
#
# $$g_i = f^v_i + \sum_{j \ne i} \Lambda_{ij} \circ f^v_j \qquad G = \mathrm{Conv3D}([g_2; g_3; g_4])$$
#
# Here is one of the two terms of the sum:

# %%
from shnet_course.pictures.lesson_04 import draw_maps

maps = {
    "$f^v_i$": visual_i.numpy(),
    "Λ$_{ij}$": affinity.numpy(),
    "$f^v_j$": visual_j.numpy(),
    "together": (visual_i + affinity * visual_j).numpy(),
}
listed = ", ".join(f"{value:.2f}" for value in maps["together"].flatten())
show(
    draw_maps(maps, ["+", "x", "="]),
    alt=f"f_i plus the affinity times f_j, as maps of 2 x 2; together {listed}.",
)

# %% [markdown]
# The gate stands at a pixel of level $i$, and the sentence of level $j$ helped to open it. It lets in the pixel of level $j$ at the same place. Real levels have `C` channels, and the affinity has as many: a pixel may take one channel and refuse another.
#
# ## From hand to function
#
# Both equations for real shapes. “Conv” in the released code is a 3 x 3 convolution and a BatchNorm (and a dropout, see below).


# %%
def affinity_of(visual, sentence, conv, norm):
    """Eq. 2: (B, C, H, W) and (B, C) -> (B, C, H, W) between 0 and 1."""
    tiled = sentence[:, :, None, None].expand_as(visual)  # (B, C) -> (B, C, H, W)
    return torch.sigmoid(norm(conv(torch.cat((visual, tiled), dim=1))))


def exchange(visual, sentences, affinity_modules):
    """Eq. 3, first line: three levels (B, C, H, W) and sentences (B, C) -> g_2, g_3, g_4."""
    exchanged = []
    for i in range(3):
        g = visual[i]
        for j in {0, 1, 2} - {i}:
            module = affinity_modules[i]  # one for each i, the same for both j
            g = g + affinity_of(visual[i], sentences[j], module.conv, module.norm) * visual[j]
        exchanged.append(g)
    return exchanged


# %% [markdown]
# Three levels of a batch of two phrases, one of them padded. The “length-wise average” of the paper has to leave padding out, or a phrase would mean something else in a batch with a longer one.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.features import average_words

torch.manual_seed(0)
C, H, W, T = 8, 5, 5, 4
visual = [torch.randn(2, C, H, W) for _ in range(3)]
words = [torch.randn(2, T, C) for _ in range(3)]
word_mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
sentences = [average_words(level, word_mask) for level in words]
assert torch.allclose(sentences[0][1], words[0][1, :2].mean(0))
print("three times", tuple(sentences[0].shape))

# %% [markdown]
# The library's `HCAM` does both equations. Do they agree?

# %%
from shnet_lib.model.hcam import HCAM

hcam = HCAM(C).eval()
with torch.no_grad():
    exchanged = exchange(visual, sentences, hcam.affinity)
    ours = hcam.aggregate(exchanged)  # Eq. 3, second line; see below
    context = hcam(visual, words, word_mask)  # G
assert torch.allclose(ours, context, atol=1e-5)

# %% [markdown]
# ## The aggregation: Conv3D
#
# The paper stacks $g_2, g_3, g_4$ along a new dimension and runs a 3-D convolution over level, height and width. Only the grid is padded, not the levels. A kernel three levels deep then fits the stack in one place, and three levels become one.

# %%
# NBVAL_CHECK_OUTPUT
conv3d = torch.nn.Conv3d(C, C, kernel_size=3, padding=(0, 1, 1))
stack = torch.stack(exchanged, dim=2)  # (B, C, 3, H, W)
deep = conv3d(stack)
print(tuple(stack.shape), "->", tuple(deep.shape))

# %% [markdown]
# A kernel that never moves along the levels does not need the third dimension. Put the levels side by side as channels, and the same numbers make a 2-D convolution:

# %%
flat_kernel = conv3d.weight.transpose(1, 2).flatten(1, 2)  # (C, C, 3, 3, 3) -> (C, 3C, 3, 3)
flat = F.conv2d(torch.cat(exchanged, dim=1), flat_kernel, conv3d.bias, padding=1)
assert torch.allclose(deep.squeeze(2), flat, atol=1e-5)

# %% [markdown]
# The library has it in this form, as `DepthConvolution`. Seeing it so raises a question about section 4.4, where “the same filter is applied to different level features”. A kernel of depth three has a slice of its own for each level. One filter for all levels would be a kernel of depth one; the paper does not print the depth.
#
# ## Most of Eq. 2 need not be computed
#
# A convolution adds up over its input channels. So a convolution over $[f^v_i; f^l_j]$ is one over $f^v_i$ plus one over the tiled $f^l_j$, each with its half of the kernel:

# %%
conv = hcam.affinity[0].conv  # (C, 2C, 3, 3)
visual_kernel, sentence_kernel = conv.weight.chunk(2, dim=1)  # (C, C, 3, 3) each
tiled = sentences[1][:, :, None, None].expand(-1, -1, H, W)

together = conv(torch.cat((visual[0], tiled), dim=1))
from_visual = F.conv2d(visual[0], visual_kernel, conv.bias, padding=1)
from_sentence = F.conv2d(tiled, sentence_kernel, padding=1)
assert torch.allclose(together, from_visual + from_sentence, atol=1e-5)

# %% [markdown]
# The first term does not depend on $j$: compute it once and use it for both. The second term is a convolution over a map that is the same everywhere. Only at the border does the kernel see zeros. How many different values can it have?

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.hcam import convolve_tiled

with torch.no_grad():
    tiled = sentences[1][:1, :, None, None].expand(-1, -1, 8, 8)
    large = F.conv2d(tiled, sentence_kernel, padding=1)
    nine = convolve_tiled(sentences[1][:1], sentence_kernel, 3, 3)
    looked_up = convolve_tiled(sentences[1][:1], sentence_kernel, 8, 8)
assert torch.allclose(large, looked_up, atol=1e-5)
different = large[0, 0].round(decimals=4).unique()
print(f"{large[0, 0].numel()} cells, {len(different)} different values")

# %%
from shnet_course.pictures.lesson_04 import draw_nine_values

show(
    draw_nine_values(nine[0, 0].numpy(), large[0, 0].numpy()),
    alt="A 3 x 3 grid with nine values, numbered, beside an 8 x 8 grid with the same nine: one in "
    "each corner, one along each edge, one inside.",
)

# %% [markdown]
# Four corners, four edges, one inside. The library convolves a 3 x 3 grid and lets each cell of the large grid look its value up. What does it save? Let torch count the operations of all six affinities on the paper's grid.

# %%
# NBVAL_CHECK_OUTPUT
from torch.utils.flop_counter import FlopCounterMode

wide = HCAM(64).eval()
levels, spoken = [torch.randn(1, 64, 18, 18) for _ in range(3)], [torch.randn(1, 64)] * 3
with torch.no_grad(), FlopCounterMode(display=False) as as_printed:
    exchange(levels, spoken, wide.affinity)
with torch.no_grad(), FlopCounterMode(display=False) as as_sum:
    for module, level in zip(wide.affinity, levels, strict=True):
        module(level, spoken[:2])
times = as_printed.get_total_flops() / as_sum.get_total_flops()
print(f"{times:.1f} times fewer operations")

# %% [markdown]
# ## Other ways to fuse levels
#
# Table 2 puts two simpler modules in HCAM's place, Table 4 three from earlier papers. All take the three levels (and their sentences) and give one map.

# %%
show(
    draw_fusions(["conv3d", "convlstm", "mgate", "tgfe", "gbfm", "hcam"]),
    alt="Six diagrams. Conv3D stacks the levels. ConvLSTM reads them one after the other. MGATE "
    "gates each level by itself. TGFE exchanges twice through a gate made of level and sentence. "
    "GBFM passes gates from both ends. HCAM exchanges through affinities, then stacks.",
)

# %% [markdown]
# Each is a class in `shnet_lib.model.fusion`, and `ModelConfig(fusion="mgate")` builds a network with it. How large are they, at the released code's `C = 512`? The last column is the paper's overall IoU on UNC val at 320 x 320.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.fusion import FUSIONS

tables = {"convlstm": 63.30, "conv3d": 63.16}  # Table 2, rows 4 and 5
tables |= {"mgate": 62.59, "tgfe": 62.94, "gbfm": 62.72, "hcam": 63.98}  # Table 4
for name, printed in tables.items():
    with torch.device("meta"):  # counted, not allocated
        size = sum(p.numel() for p in FUSIONS[name](512).parameters())
    print(f"{name:9} {size / 1e6:5.1f} M parameters   overall IoU {printed:.2f}")

# %% [markdown]
# Read this with care. HCAM leads by 0.7 to 1.4 points, but it is also as large as the largest, and TGFE has a thirteenth of its parameters. The paper prints one number a row, and no interval. Conv3D, which is HCAM without the exchange, has a third of the parameters and loses 0.8 points. Lesson 08 puts intervals around such differences.
#
# ## What trained gates do
#
# The shipped network has learnt RefShapes. `affinities_inside` gives its six affinities for a photo and a phrase.

# %%
# NBVAL_CHECK_OUTPUT
from pathlib import Path

from shnet_course.measure.inside import affinities_inside
from shnet_course.pictures.base import photo_of
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions

trained = load_shnet("../data/weights/shnet_refshapes")
val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")
expression = next(e for e in val if e.text == "green square at top")
photo = photo_of(expression)
affinities = affinities_inside(trained, expression.image_path, expression.text)
print(", ".join(f"Λ{i}{j}" for i, j in affinities))

# %% [markdown]
# Choose a pair of levels, and type a phrase of your own. You see the gates averaged over their channels, then the four channels that vary most.

# %%
from functools import lru_cache

from shnet_course.pictures.lesson_04 import describe_affinity_of, draw_affinity_of
from shnet_course.widgets import explore


@lru_cache
def gates(phrase):
    found = affinities_inside(trained, expression.image_path, phrase)
    return {pair: gate.numpy() for pair, gate in found.items()}


explore(
    lambda phrase, pair: draw_affinity_of(photo, gates(phrase), pair),
    lambda phrase, pair: describe_affinity_of(photo, gates(phrase), pair),
    phrase=expression.text,
    pair=[(f"Λ{i}{j}", (i, j)) for i, j in affinities],
)

# %% [markdown]
# One would like to see the *referent* light up, the thing that the phrase means. The paper says that $g_i$ “contains the relevant regions” (section 3.3). Does a gate stand more open in the *target*, the referent's mask, than elsewhere? Measure it over sixty phrases.


# %%
def in_and_out(asked, phrase):
    """Of each pair (i, j), the mean gate of each channel in asked's target and elsewhere, (C,)."""
    target = torch.tensor(asked.mask()).float()[None]
    found = affinities_inside(trained, asked.image_path, phrase)
    means = {}
    for (i, j), gate in found.items():
        inside = F.adaptive_avg_pool2d(target, gate.shape[-2:])[0] > 0.5  # on the grid, (H, W)
        if inside.any() and not inside.all():
            means[f"Λ{i}{j}"] = gate[:, inside].mean(1), gate[:, ~inside].mean(1)
    return means


measured, kept = [], []
for asked in val[:: len(val) // 60][:60]:
    if means := in_and_out(asked, asked.text):
        measured.append(means)
        kept.append(asked)
print(len(measured), "phrases whose target fills a cell of the grid")

# %%
from shnet_course.pictures.lesson_04 import draw_inside_outside

inside = {pair: [float(means[pair][0].mean()) for means in measured] for pair in measured[0]}
outside = {pair: [float(means[pair][1].mean()) for means in measured] for pair in measured[0]}
differences = {
    pair: sum(inside[pair]) / len(measured) - sum(outside[pair]) / len(measured) for pair in inside
}
listed = ", ".join(f"{pair} {value:+.2f}" for pair, value in differences.items())
show(
    draw_inside_outside(inside, outside),
    alt=f"Mean gate in the target and elsewhere, a dot a phrase. In the target minus elsewhere: {listed}.",
)
assert max(abs(value) for value in differences.values()) < 0.15

# %% [markdown]
# Averaged over channels, hardly: the gates stand about half open everywhere. So the mean of an affinity is no map of the referent. Its channels differ, though. Is there one that opens, or shuts, at targets? Of six times 64 channels the best one may look good by chance, so choose it on one half of the phrases, and test it on the other.

# %%
half = len(measured) // 2


def opening(means, pair):
    """How much more open each channel's gate is in the target than elsewhere: (phrases, C)."""
    return torch.stack([each[pair][0] - each[pair][1] for each in means])


chosen = {pair: opening(measured[:half], pair).mean(0) for pair in inside}  # (C,) each
pair = max(chosen, key=lambda pair: chosen[pair].abs().max())
channel = int(chosen[pair].abs().argmax())
tested = opening(measured[half:], pair)[:, channel].mean()
print(f"{pair}, channel {channel}, where it was chosen: {chosen[pair][channel]:+.2f}")
print(f"{pair}, channel {channel}, on the other half:   {tested:+.2f}")
assert abs(tested) > 2 * max(abs(difference) for difference in differences.values())

# %% [markdown]
# A positive number is a gate that opens at the target, a negative one a gate that shuts there. The second line is the one to believe: those phrases did not choose the channel. It is several times as large as any of the averages over channels.
#
# But does the gate answer the phrase, or does it tell any thing from the background? Ask for something else in the same photo, and look at the same pixels.

# %%
controls = []
for asked in kept[half:]:
    others = [e for e in val if e.image_id == asked.image_id and e.ref_id != asked.ref_id]
    if others:
        controls.append(in_and_out(asked, others[0].text))
control = opening(controls, pair)[:, channel].mean()
print(f"the same pixels, another phrase: {control:+.2f}")
assert abs(control) < abs(tested)

# %% [markdown]
# What remains under another phrase does not answer this one. Only the difference between the two numbers does.

# %% [markdown]
# ## What the paper does not say
#
# | the paper prints | the released code runs |
# |---|---|
# | “Conv” in Eq. 2 | 3 x 3 from 2C to C channels, BatchNorm, Dropout2d; one for each $i$, the same for both $j$ |
# | length-wise average | over real words only |
# | Conv3D | 3 x 3 x 3, levels not padded, then a BatchNorm |
#
# Two of these have side effects. Dropout sets whole channels to 0 *before* the sigmoid. What is a dropped gate?

# %%
# NBVAL_CHECK_OUTPUT
float(torch.sigmoid(torch.tensor(0.0)))

# %% [markdown]
# Half open, not shut. The library has it (`affinity_dropout`), though Eq. 2 does not print it; with `sfm="printed"` it is left out.
#
# And since one BatchNorm serves both $j$, it runs twice in a training step, so that its running averages move twice. The library does the same:

# %%
# NBVAL_CHECK_OUTPUT
hcam.train()
hcam(visual, words, word_mask)
print("updates in one step:", int(hcam.affinity[0].norm.num_batches_tracked))

# %% [markdown]
# ## What you have seen
#
# - You computed an affinity and an exchange by hand on a 2 x 2 grid.
# - Eqs. 2 and 3 as functions gave what the library's `HCAM` gives.
# - Conv3D over three levels was a 2-D convolution over stacked channels; the sentence half of Eq. 2 had nine values.
# - You have seen five other ways to fuse levels, and that they differ in size as much as in IoU.
# - Averaged over channels, a trained network's gates did not point at the target; a single channel did, in part: you tested it on phrases that had not chosen it, against another phrase.
#
# Practise: [the exercises of this lesson](../exercises/04_hcam_ex.ipynb).
#
# Next: [05 · The mask decoder and the whole model](05_decoder_and_shnet.ipynb).
