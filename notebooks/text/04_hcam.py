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
# *Section 3.3, Equations 2 and 3 · 35 minutes to read, 20 seconds to run on two CPU cores*
#
# **You need to know** what SFM returns ([03 · SFM](03_sfm.ipynb)), and what a convolution with padding does.
#
# In this lesson you will
#
# - compute an affinity (Eq. 2) and an exchange (Eq. 3) by hand on a 2 x 2 grid;
# - show that the “Conv3D” is a 2-D convolution;
# - type the whole module, load trained weights into it, and find it equal to the library's;
# - compare HCAM with two of the modules that Table 4 sets beside it;
# - measure what the gates of a trained network do, and draw the one that answers to the phrase.

# %% [markdown]
# ## The question
#
# SFM ran on each of the levels 2, 3 and 4 alone. Each level $i$ came back with its own picture of the scene, $f^v_i$, and its own reading of the words, $f^l_i$. The mask needs one map. How should three become one? The Hierarchical Cross-Modal Aggregation Module, HCAM, first lets every level take from the other two what fits *their* sentence.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"hcam"}))

# %% [markdown]
# Figure 3 of the paper opens the lit box. Here it is redrawn, for level 2 asking with the sentence of level 4.

# %%
from shnet_course.pictures.lesson_04 import draw_figure_3

show(draw_figure_3())

# %% [markdown]
# ## An affinity by hand
#
# Equation 2 of the paper:
#
# $$\Lambda_{ij} = \sigma(\mathrm{Conv}([f^v_i\,;\,f^{l\,avg}_j]))$$
#
# Level $i$ brings its pixels. Level $j$ brings one sentence vector, the average of its words. The sentence is put beside every pixel, a convolution mixes the two, and the sigmoid $\sigma$ turns the result into a *gate* between 0 and 1.
#
# Take one channel and a grid of 2 x 2. The sentence is a single number, 1.5. The kernel has one 3 x 3 slice for the pixels and one for the sentence; its numbers are made up.

# %% tags=["nbval-check-output"]
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
# The top left cell sees itself, its right and its lower neighbour through the first slice. **Predict:** how often does the cell see the sentence through the second slice? (Outside the grid there are zeros.)

# %% tags=["nbval-check-output"]
import math

from_pixels = 1.0 * 2.0 + 0.5 * -1.0 + 0.5 * 0.0
from_sentence = 4 * 0.1 * 1.5
gate = 1 / (1 + math.exp(-(from_pixels + from_sentence)))
print(f"{from_pixels:.1f} + {from_sentence:.1f}, through the sigmoid: {gate:.2f}")

# %% [markdown]
# Four times. All four cells at once, with torch:

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
show(draw_maps(maps, ["+", "x", "="]))

# %% [markdown]
# The gate stands at a pixel of level $i$, and the sentence of level $j$ helped to open it. The gate lets in the pixel of level $j$ at the same place. Real levels have `C` channels, and the affinity has as many: a pixel may take one channel and refuse another. **Now you:** [An affinity, The exchange](../exercises/04_hcam_ex.ipynb).
#
# ## The aggregation: Conv3D
#
# The exchange leaves three levels $g_2, g_3, g_4$. The paper stacks them along a new dimension and runs a 3-D convolution over level, height and width. Only the grid is padded, not the levels. A kernel three levels deep then fits the stack in one place, and three levels become one.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
C, H, W, T = 8, 5, 5, 4
exchanged = [torch.randn(2, C, H, W) for _ in range(3)]  # g_2, g_3, g_4 of a batch of two
conv3d = torch.nn.Conv3d(C, C, kernel_size=3, padding=(0, 1, 1))
stack = torch.stack(exchanged, dim=2)  # (B, C, 3, H, W)
deep = conv3d(stack)
print(tuple(stack.shape), "->", tuple(deep.shape))

# %% [markdown]
# **Predict:** does one need a 3-D convolution for that? The kernel never moves along the levels. So put the levels side by side as channels, and the same numbers make a 2-D convolution:

# %%
flat_kernel = conv3d.weight.transpose(1, 2).flatten(1, 2)  # (C, C, 3, 3, 3) -> (C, 3C, 3, 3)
flat = F.conv2d(torch.cat(exchanged, dim=1), flat_kernel, conv3d.bias, padding=1)
assert torch.allclose(deep.squeeze(2), flat, atol=1e-5)

# %% [markdown]
# This form raises a question about section 4.4, where “the same filter is applied to different level features”. A kernel of depth three has a slice of its own for each level. One filter for all levels would be a kernel of depth one; the paper does not print the depth. **Now you:** [Conv3D](../exercises/04_hcam_ex.ipynb).
#
# ## From hand to function
#
# One thing is left, the sentence. The “length-wise average” of the paper has to leave padding out, or a phrase would mean something else in a batch with a longer one.


# %% tags=["nbval-check-output"]
def average(words, word_mask):
    """(B, T, C), (B, T) True at real words -> (B, C)."""
    real = word_mask[:, :, None].float()  # (B, T, 1)
    return (words * real).sum(1) / real.sum(1)


words = torch.randn(2, T, C)
word_mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
print(
    "as the mean of the two real words:",
    torch.allclose(average(words, word_mask)[1], words[1, :2].mean(0)),
)

# %% [markdown]
# Now the module for real shapes, in three classes: Eq. 2, the Conv3D of Eq. 3, and Figure 3 as a whole. “Conv” in the released code is a 3 x 3 convolution and a BatchNorm (and a dropout, see below). There is one `MyAffinity` per level $i$; both $j$ use it.

# %%
from torch import nn


class MyAffinity(nn.Module):  # Eq. 2
    def __init__(self, C):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2 * C, C, 3, padding=1), nn.BatchNorm2d(C)

    def forward(self, visual, sentence):
        tiled = sentence[:, :, None, None].expand_as(visual)  # (B, C) -> (B, C, H, W)
        return torch.sigmoid(self.norm(self.conv(torch.cat((visual, tiled), dim=1))))


class MyConv3D(nn.Module):  # Eq. 3, G
    def __init__(self, C):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3 * C, C, 3, padding=1), nn.BatchNorm2d(C)

    def forward(self, levels):
        return self.norm(self.conv(torch.cat(levels, dim=1)))


# %%
class MyHCAM(nn.Module):  # Figure 3
    def __init__(self, C):
        super().__init__()
        self.affinity = nn.ModuleList(MyAffinity(C) for _ in range(3))
        self.aggregate = MyConv3D(C)

    def forward(self, visual, words, word_mask):
        """f^v three (B, C, H, W), f^l three (B, T, C), (B, T) -> G (B, C, H, W)."""
        sentences = [average(level, word_mask) for level in words]
        exchanged = []
        for i in range(3):
            g = visual[i]
            for j in {0, 1, 2} - {i}:
                g = g + self.affinity[i](visual[i], sentences[j]) * visual[j]
            exchanged.append(g)
        return self.aggregate(exchanged)


# %% [markdown]
# Is this the library's? Load the HCAM of the shipped network into yours, and give both what SFM made of a scene and a phrase (`look_inside` keeps it).

# %% tags=["nbval-check-output"]
from pathlib import Path

from shnet_course.measure.inside import look_inside
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions

trained = load_shnet("../data/weights/shnet_refshapes")
val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")
expression = next(e for e in val if e.text == "green square at top")
inside = look_inside(trained, expression.image_path, expression.text)

mine = MyHCAM(trained.config.model.channels).eval()
print(mine.load_state_dict(trained.network.fusion.state_dict()))
given = inside.fused_visual, inside.fused_words, inside.word_mask
with torch.inference_mode():
    context = mine(*given)
    assert torch.allclose(context, trained.network.fusion.eval()(*given), atol=1e-4)
print("G:", tuple(context.shape))

# %% [markdown]
# Your classes hold the trained weights and give the library's $G$ up to rounding. **Now you:** [The whole module](../exercises/04_hcam_ex.ipynb).
#
# <details><summary><b>Aside:</b> why only up to rounding? Most of Eq. 2 need not be computed</summary>
#
# A convolution adds up over its input channels. So a convolution over $[f^v_i; f^l_j]$ is one over $f^v_i$ plus one over the tiled $f^l_j$, each with its half of the kernel. The library computes the first term once for both $j$. The second term is a convolution over a map that is the same everywhere; only the border sees zeros. So it has nine values: four corners, four edges, one inside. The library convolves a 3 x 3 grid and looks them up (`convolve_tiled`). On 18 x 18 this leaves about a quarter of the operations.
#
# </details>

# %% [markdown]
# ## Other ways to fuse levels
#
# Table 4 sets HCAM beside three gated modules from earlier papers. Two of them show what is special about an affinity.
#
# **MGATE** (Ye et al., 2019) asks no words at all. A convolution over $f^v_i$ alone makes a candidate $c$, a forget gate $f$ and a reset gate $r$, each between 0 and 1. The level keeps a memory $m$ of its neighbours, as an LSTM does; the three results are summed:
#
# $$m_i = f \circ \tfrac{1}{2}(f^v_j + f^v_k) + (1 - f) \circ c \qquad g_i = r \circ \tanh(m_i) + (1 - r) \circ f^v_i$$
#
# **TGFE** (Huang et al., 2020) asks the sentence, but only once per level. The sentence attends to the pixels of level $i$ and pools them to one vector $u_i$. The gate is made of that vector, so it has one number per channel and is *the same at every pixel*. All levels exchange twice:
#
# $$\gamma_i = \sigma(W u_i) \qquad g_i = f^v_i + \gamma_i \circ \mathrm{ReLU}(W' f^v_j) + \gamma_i \circ \mathrm{ReLU}(W' f^v_k)$$
#
# HCAM's gate asks a sentence *and* differs from pixel to pixel. All six:
#
# | module | the gate asks | its gate differs | then |
# |---|---|---|---|
# | Conv3D (Table 2, row 5) | no gate | | stack, convolve: HCAM without the exchange |
# | ConvLSTM (Table 2, row 4) | the level and what was read before | per pixel and channel | levels one after the other; the last state |
# | MGATE (Table 4) | the level alone | per pixel and channel | sum |
# | TGFE (Table 4) | level and sentence, pooled | per channel | twice, then sum |
# | GBFM (Table 4) | pairs of levels, each joined with its sentence | per pixel and channel | passes from both ends, sum, convolve |
# | HCAM | the level, and the *other* level's sentence | per pixel and channel | stack, convolve |
#
# Each is a class in `shnet_lib.model.fusion`, and `ModelConfig(fusion="mgate")` builds a network with it. **Predict:** which is largest? The count is at the released code's `C = 512`; the last column is the paper's overall IoU on UNC val at 320 x 320.

# %% tags=["nbval-check-output"]
from shnet_lib.model.fusion import FUSIONS

tables = {"convlstm": 63.30, "conv3d": 63.16}  # Table 2, rows 4 and 5
tables |= {"mgate": 62.59, "tgfe": 62.94, "gbfm": 62.72, "hcam": 63.98}  # Table 4
for name, printed in tables.items():
    with torch.device("meta"):  # counted, not allocated
        size = sum(p.numel() for p in FUSIONS[name](512).parameters())
    print(f"{name:9} {size / 1e6:5.1f} M parameters   overall IoU {printed:.2f}")

# %% [markdown]
# HCAM leads by 0.7 to 1.4 points, but it is also as large as the largest, and TGFE has a thirteenth of its parameters. The paper prints one number per row and no interval. Conv3D has a third of HCAM's parameters and loses 0.8 points. Lesson 08 puts intervals around such differences.
#
# ## What trained gates do
#
# `affinities_inside` gives the six affinities of the shipped network for a scene and a phrase. Choose a pair of levels, and type a phrase. You see the mean over the channels, then the four channels that vary most.

# %%
from shnet_course.measure.inside import affinities_inside
from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_04 import draw_affinity_of
from shnet_course.widgets import explore

photo = photo_of(expression)


def draw_gates_of(phrase, pair):
    found = affinities_inside(trained, expression.image_path, phrase)
    return draw_affinity_of(photo, {p: gate.numpy() for p, gate in found.items()}, pair)


pairs = [(f"Λ{i}{j}", (i, j)) for i in (2, 3, 4) for j in (2, 3, 4) if i != j]
explore(draw_gates_of, phrase=expression.text, pair=pairs)

# %% [markdown]
# One would like to see the *referent* light up, the thing that the phrase means. The paper says that $g_i$ “contains the relevant regions” (section 3.3). **Predict:** does a gate stand more open in the *target*, the referent's mask, than elsewhere? Measure it over sixty phrases.


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
show(draw_inside_outside(inside, outside))

# %% [markdown]
# Averaged over channels, hardly: the gates stand about half open everywhere. The channels differ, though. Is there one that opens, or shuts, at targets? The best of 384 channels may look good by chance. So choose the channel on one half of the phrases, and test it on the other.

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

# %% [markdown]
# A positive number is a gate that opens at the target, a negative one a gate that shuts there. Phrases of the second line did not choose the channel.
#
# But does the gate answer the phrase, or does it tell any thing from the background? Ask for something else in the same scene, and look at the same pixels.

# %%
controls = []
for asked in kept[half:]:
    others = [e for e in val if e.image_id == asked.image_id and e.ref_id != asked.ref_id]
    if others:
        controls.append(in_and_out(asked, others[0].text))
control = opening(controls, pair)[:, channel].mean()
print(f"the same pixels, another phrase: {control:+.2f}")

# %% [markdown]
# What remains under another phrase does not answer this one. Here is the channel in the first four scenes of the second half that hold another thing to ask for: the scene, the gate under its own phrase, the gate under another.

# %%
from shnet_course.pictures.lesson_04 import draw_channel

level_pair, scenes = (int(pair[1]), int(pair[2])), []
for asked in kept[half:]:
    others = [e.text for e in val if e.image_id == asked.image_id and e.ref_id != asked.ref_id]
    if others and len(scenes) < 4:
        found = {
            phrase: affinities_inside(trained, asked.image_path, phrase)[level_pair][channel]
            for phrase in (asked.text, others[0])
        }
        shown = {phrase: gate.numpy() for phrase, gate in found.items()}
        scenes.append((photo_of(asked), asked.mask(), shown))
show(draw_channel(scenes, f"{pair}, channel {channel}"))

# %% [markdown]
# The outline is the target of the upper phrase. The gate *shuts* at what is asked for: ask for “orange heart”, and it shuts at the heart. Under “second hoop from top” it shuts nearly everywhere. Lesson 09 holds all gates at 0, at a half and at 1, and measures what the answers lose.

# %% [markdown]
# ## What the paper does not say
#
# | the paper prints | the released code runs |
# |---|---|
# | “Conv” in Eq. 2 | 3 x 3 from 2C to C channels, BatchNorm, Dropout2d; one for each $i$, the same for both $j$ |
# | length-wise average | over real words only |
# | Conv3D | 3 x 3 x 3, levels not padded, then a BatchNorm |
# | nothing between HCAM and the decoder | a LeakyReLU on $G$ (lesson 05) |
#
# Two of these have side effects. Dropout sets whole channels to 0 *before* the sigmoid. **Predict:** is a dropped gate shut?

# %% tags=["nbval-check-output"]
float(torch.sigmoid(torch.tensor(0.0)))

# %% [markdown]
# A dropped gate is half open. The library has the dropout (`affinity_dropout`), though Eq. 2 does not print it; with `sfm="printed"` it is left out.
#
# And since one BatchNorm serves both $j$, it runs twice in a training step, and its running averages move twice. So it does in the library, and in your class:

# %% tags=["nbval-check-output"]
fresh = MyHCAM(C).train()
fresh(exchanged, [words] * 3, word_mask)
print("updates in one step:", int(fresh.affinity[0].norm.num_batches_tracked))

# %% [markdown]
# ## Five questions
#
# 1. $\Lambda_{24}$ and $\Lambda_{42}$: whose pixels, and whose sentence, are in each?
# 2. Six affinities, but three modules. Why?
# 3. What would go wrong if the average ran over padding too?
# 4. Why can TGFE's gate not point at a place, and HCAM's can?
# 5. A channel differs by 0.4 between target and background, on the phrases that chose it. What two checks does it still need?
#
# <details><summary>Answers</summary>
#
# 1. $\Lambda_{24}$: pixels of level 2, sentence of level 4; it gates the pixels of level 4. $\Lambda_{42}$ is the other way round.
# 2. There is one convolution per level $i$, and both $j$ use it.
# 3. The same phrase would have another sentence vector in a batch with a longer phrase.
# 4. TGFE pools before the gate: one number per channel for the whole grid. HCAM's gate is made per pixel.
# 5. Other phrases than those that chose it, and another phrase on the same pixels.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - You computed an affinity and an exchange by hand on a 2 x 2 grid.
# - Conv3D over three levels was a 2-D convolution over stacked channels.
# - Your `MyHCAM` took the trained weights and gave the library's $G$.
# - MGATE's gate asks no words, and TGFE's has no places; HCAM's has both, and it is as large as the largest.
# - Averaged over channels, a trained network's gates did not point at the target. A single channel did, in part: you tested it on phrases that had not chosen it, against another phrase, and drew it.
#
# Practise: [the exercises of this lesson](../exercises/04_hcam_ex.ipynb).
#
# Next: [05 · The mask decoder and the whole model](05_decoder_and_shnet.ipynb).
