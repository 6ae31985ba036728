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
# # 02 · Features
#
# *Section 3.1 · 9 seconds on two CPU cores*
#
# **You need to know** [lesson 01](01_data_and_words.ipynb), and from PyTorch: tensors, `nn.Module`, what a convolution does.
#
# In this lesson you will
#
# - look at the levels 2, 3 and 4 of a backbone, as pictures and channel by channel;
# - bring all levels to one grid by hand, and find the same numbers in the library's `LevelProjection`;
# - measure which things vanish on a coarse grid, and what a fine one costs;
# - run an LSTM over a phrase word by word, and assert that padding at the end changes nothing;
# - break a "frozen" backbone without training it, and see what keeps it frozen.

# %% [markdown]
# ## How do a photo and a phrase become comparable?
#
# A photo is three numbers a pixel, a phrase is a list of ids. To ask "does this place fit this word?" both must become the same kind of thing. In SHNet each cell of a grid and each word end as a vector of $C$ numbers. Section 3.1 of the paper says how. Today's part is lit:

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(
    draw_architecture(lit={"backbone", "levels", "words"}),
    alt="The network as boxes, from photo and phrase to mask. Lit: the frozen backbone, its levels "
    "2, 3, 4 on the way to one grid, and the word vectors with the LSTM.",
)

# %% [markdown]
# ## The backbone and its levels
#
# The paper uses a network that was trained for another task, and keeps it fixed (section 4.2): DeepLabv3+, trained to name the pixels of Pascal VOC's photos, or a ResNet-101. The course ships a small one, trained to name the pixels of RefShapes. It has never read a phrase (`data/weights/shapes_backbone.json` says how it was made).

# %%
import torch

from shnet_lib.data import read_expressions
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.backbone import build_backbone
from shnet_lib.training.cache import Photos

val = read_expressions("../data/refshapes", "refshapes-unc", "val")
vocabulary = Vocabulary.from_texts(expression.text for expression in val)
photos = Photos(ReferringDataset(val, vocabulary, image_size=128))
images = torch.stack([photos[row] for row in range(64)])  # (64, 3, 128, 128), normalised
backbone = build_backbone("shapes", weights="shipped")

# %%
# NBVAL_CHECK_OUTPUT
levels = backbone(images[:8])
for number, level in enumerate(levels, start=2):
    side = 128 // level.shape[-1]
    print(f"level {number}: {tuple(level.shape)}, a cell for {side} x {side} pixels")

# %% [markdown]
# Each level is half as wide as the one before and has more channels. What do the paper's two backbones give, at its two photo sizes? (On the `meta` device PyTorch works out shapes and nothing else, so that a ResNet-101 costs nothing.)

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.backbone import ResNetBackbone

with torch.device("meta"):
    for name, stride in (("ResNet-101", 32), ("DeepLabv3+", 16)):
        network = ResNetBackbone("resnet101", output_stride=stride)
        for size in (320, 448):
            shapes = [tuple(level.shape[1:]) for level in network(torch.empty(1, 3, size, size))]
            print(name, size, shapes)

# %% [markdown]
# ResNet-101 halves the width twice, too; DeepLabv3+ keeps its level 4 as wide as its level 3.
#
# What is in the levels? A cell of level 2 has 64 numbers, too many to see. So let each map choose the three directions in which its cells differ most (principal components), and paint those red, green and blue. Cells of like colour have like features; colours of two maps cannot be compared.

# %%
from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_02 import draw_levels

photo = photo_of(val[0])
first = [level[0] for level in levels]  # of the first photo, each (C, h, w)
show(
    draw_levels(photo, first),
    alt="A photo of rings, a circle and a heart, and its levels in colours. On level 2 (32 x 32) "
    "every shape can be seen, on level 3 (16 x 16) blobs, on level 4 (8 x 8) single cells.",
)

# %% [markdown]
# Level 2 still shows every outline; on level 4 a ring has a handful of cells. Look at single channels too. Can you find one that answers to stripes? To the road?

# %%
from functools import partial

from shnet_course.pictures.lesson_02 import draw_channel
from shnet_course.widgets import explore

explore(
    partial(draw_channel, photo, first),
    alt="The photo, channel {channel} of its level {level}, and one over the other.".format,
    level=(2, 4),
    channel=(0, 63),
)

# %% [markdown]
# ## One grid
#
# > Through pooling and convolution operations, all hierarchical visual features are transformed to the same spatial resolution and channel dimension. (Section 3.1)
#
# $$V_2, V_3, V_4 \in \mathbb{R}^{C \times H \times W}$$
#
# Why one size? Because HCAM (lesson 04) will add a level to another, element by element (Equation 3). The paper says no more about the operations. The code that its authors released pools to $2H \times 2W$ and takes a convolution of stride 2. “Adaptive” max pooling asks for the size of the *result*, cuts the map into that many windows, and keeps the largest number of each. From 4 x 4 to 2 x 2, by hand:

# %%
# NBVAL_CHECK_OUTPUT
import torch.nn.functional as F

tiny = torch.tensor([[1, 5, 2, 0], [3, 4, 1, 1], [0, 2, 9, 7], [1, 0, 8, 6]]).float()
windows = tiny.reshape(2, 2, 2, 2)  # (4, 4) -> (window row, row in it, window column, column in it)
pooled = windows.amax(dim=(1, 3))  # (2, 2)
assert torch.equal(pooled, F.adaptive_max_pool2d(tiny[None], 2)[0])
print(pooled.int().tolist())

# %% [markdown]
# And if the result is to be *larger*? Then windows overlap, and values are repeated. This is "pooling", but it enlarges:

# %%
# NBVAL_CHECK_OUTPUT
enlarged = F.adaptive_max_pool2d(pooled[None], 4)[0]
assert torch.equal(enlarged, pooled.repeat_interleave(2, 0).repeat_interleave(2, 1))
print(enlarged.int())

# %% [markdown]
# Then the convolution. With stride 2 it looks at every second place, so $2H$ becomes $H$. One output cell is nine products:

# %%
# NBVAL_CHECK_OUTPUT
weight = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).float()
patch = tiny[1:4, 1:4]  # rows and columns 1 to 3, around (2, 2)
by_hand = (patch * weight).sum()
every_second = F.conv2d(tiny[None, None], weight[None, None], stride=2, padding=1)[0, 0]  # (2, 2)
assert every_second[1, 1] == by_hand
print(f"{by_hand:g} is the lower right of {every_second.int().tolist()}")

# %% [markdown]
# Last, a BatchNorm, which subtracts a mean from each channel and divides it by a spread (more below), and a LeakyReLU, which keeps a hundredth of what is negative. As a function, for `I` photos:


# %%
def project(level, grid, conv, norm):
    """(I, C_level, h, w) -> (I, C, H, W), with H = W = grid; norm as in evaluation."""
    pooled = F.adaptive_max_pool2d(level, 2 * grid)  # (I, C_level, 2H, 2W)
    mixed = F.conv2d(pooled, conv.weight, conv.bias, stride=2, padding=1)  # (I, C, H, W)
    mean, var = norm.running_mean.view(-1, 1, 1), norm.running_var.view(-1, 1, 1)
    scale, shift = norm.weight.view(-1, 1, 1), norm.bias.view(-1, 1, 1)
    normed = (mixed - mean) / torch.sqrt(var + norm.eps) * scale + shift
    return torch.where(normed > 0, normed, 0.01 * normed)


# %% [markdown]
# The library's `LevelProjection` is the same four steps. Do both agree on every level?

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.features import LevelProjection

torch.manual_seed(0)
for number, level in enumerate(levels, start=2):
    library = LevelProjection(level.shape[1], channels=48, grid=8)
    library(level)  # once in training mode, so that its running statistics are not 0 and 1
    library.eval()
    visual_feats = library(level)  # (I, C, H, W)
    ours = project(level, 8, library.conv, library.norm)
    assert torch.allclose(visual_feats, ours, atol=1e-5)
    print(f"level {number}: {tuple(level.shape)} -> {tuple(visual_feats.shape)}, both agree")

# %% [markdown]
# ## What does the grid cost?
#
# The paper's grid is 18 x 18 (section 4.2), whatever the photo's size. Which things are too small for it? Call a thing *lost* if it fills no cell of the grid by half. Take the masks of all things that the validation phrases mean, and shrink them too: RefShapes has no small things, other data has. Here is one at half its width, seen from near: its outline in orange, the cells that it fills by half in blue.

# %%
from refgen.refshapes.scene import SHAPES
from shnet_course.pictures.lesson_02 import draw_on_grids, on_grid, shrink

refs = {e.ref_id: e for e in val if e.category in SHAPES}
masks = torch.stack([torch.from_numpy(e.mask()) for e in refs.values()])  # (M, 128, 128)
grids = (40, 28, 18, 12, 8)
show(
    draw_on_grids(shrink(masks[3:4], 2)[0], grids),
    alt="A heart at half its width as a mask, and the cells that it fills by half: a small heart "
    "at 40 x 40, a short bar at 28 and 18, a single cell at 12, none at 8.",
)

# %%
# NBVAL_CHECK_OUTPUT
shares = {}
for times in (1, 2, 4):
    smaller = shrink(masks, times)
    name = f"{smaller.float().mean(dim=(1, 2)).median():.2%} of the photo"
    shares[name] = [on_grid(smaller, g).flatten(1).any(1).float().mean().item() for g in grids]
    print(f"{name}, grids 40 to 8:", *(f"{share:4.0%}" for share in shares[name]))
print(len(masks), "things; sizes are medians")

# %%
from shnet_course.pictures.lesson_02 import draw_survival

show(
    draw_survival(shares, grids),
    alt="Share of things that fill a cell by half, from a grid of 40 to one of 8: as they are "
    "nearly all survive; at half the width a third on 8 x 8; at a quarter half on 18 x 18.",
)

# %% [markdown]
# At 18 x 18, things of 1 % of the photo survive. Of those of a quarter of a percent nearly half are lost, and 40 x 40 keeps them all. The authors suspect the same: on G-Ref, "which has extremely small target objects", SHNet is a little below BUSNet, and its 18 x 18 against the 40 x 40 of others "possibly leads to a drop" (section 4.3). "Lost" is our word and a simple one. A cell has $C$ numbers, and the decoder can learn to draw within a cell. But two small things in one cell have one vector between them.
#
# Then why not 40 x 40? Because of what comes next. In SFM every cell and word looks at every other (lesson 03). The authors could not train it for the “memory limits induced by multi-head attention” of their card, an RTX 2080 Ti (section 4.3). With 25 words:

# %%
# NBVAL_CHECK_OUTPUT
for grid in (8, 18, 40):
    cells = grid * grid + 25
    print(f"{grid:2} x {grid:2}: {cells:5} cells and words, {cells**2:8,} pairs")

# %% [markdown]
# ## Words
#
# > The hidden feature of LSTM at ith time step $l_i \in \mathbb{R}^{C_l}$ is used to denote the word feature for the ith word in the expression. (Section 3.1)
#
# The paper does not print the LSTM, so here is what every library means by it. It carries two vectors from word to word, the state $h$ and a memory $c$. For each word $x_t$:
#
# $$i, f, o = \sigma(W_{i,f,o}\,[x_t; h_{t-1}]), \quad g = \tanh(W_g\,[x_t; h_{t-1}])$$
# $$c_t = f \circ c_{t-1} + i \circ g, \qquad h_t = o \circ \tanh(c_t)$$
#
# The sigmoid $\sigma$ makes $i$, $f$ and $o$ *gates* between 0 and 1, and $\circ$ multiplies element by element; biases are left out. So $f$ decides what is kept, $i$ what is written, $o$ what is shown. With all gates half open and $g = 1$, starting from 0:

# %%
# NBVAL_CHECK_OUTPUT
h = c = 0.0
for step in (1, 2, 3):
    c = 0.5 * c + 0.5 * 1.0
    h = 0.5 * torch.tanh(torch.tensor(c)).item()
    print(f"step {step}: c = {c:.3f}, h = {h:.3f}")

# %% [markdown]
# As a function, over the words of a phrase. PyTorch stacks the four matrices in the order i, f, g, o, and keeps those for $x$ and for $h$ apart:


# %%
def run_lstm(lstm, vectors):
    """(T, D) word vectors -> (T, C) states, one word after the other."""
    h = c = torch.zeros(lstm.hidden_size)
    states = []
    for x in vectors:
        gates = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
        i, f, g, o = gates.chunk(4)  # (4C,) -> four of (C,)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


# %% [markdown]
# The library's `WordEncoder` looks the vectors up and runs PyTorch's LSTM. (Here each word vector is *one-hot*, a single 1 among zeros, so that no download is needed; nothing is trained.)

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.features import WordEncoder, onehot_vectors

torch.manual_seed(0)
encoder = WordEncoder(onehot_vectors(len(vocabulary)), channels=32, trainable=False)
encoder.requires_grad_(False)
words = torch.tensor([vocabulary.encode("second star from the left")])  # (B, T) = (1, 5)
word_feats = encoder(words)  # (B, T, C)
ours = run_lstm(encoder.lstm, encoder.embedding(words)[0])
assert torch.allclose(word_feats[0], ours, atol=1e-5)
print(tuple(words.shape), "->", tuple(word_feats.shape), "and both agree")

# %% [markdown]
# Type a phrase. Each row is the state after one more word; the bars say how far that word moved it. What does a word do that is not in the vocabulary? What happens to "left" at the end instead of the beginning?

# %%
from shnet_course.pictures.lesson_02 import draw_states

explore(
    partial(draw_states, encoder, vocabulary),
    alt="The LSTM's state after each word of “{phrase}”, and how far each word moved it.".format,
    phrase="second star from the left",
)

# %% [markdown]
# The LSTM reads from left to right. So a word's feature knows what came before and nothing of what follows:

# %%
# NBVAL_CHECK_OUTPUT
phrases = ("left red circle", "left red star", "right red circle")
one, two, three = (encoder(torch.tensor([vocabulary.encode(p)]))[0] for p in phrases)
print("left red ... : the same after each word?", (one - two).abs().amax(1).lt(1e-6).tolist())
print("... red circle:", (one - three).abs().amax(1).lt(1e-6).tolist())

# %% [markdown]
# That also settles padding. A batch fills short phrases up at the end (lesson 01), and what comes at the end cannot change what was read before. At the front it would:

# %%
# NBVAL_CHECK_OUTPUT
zeros = torch.zeros(1, 6, dtype=torch.long)  # six times <pad>
behind = encoder(torch.cat([words, zeros], dim=1))[:, :5]
before = encoder(torch.cat([zeros, words], dim=1))[:, 6:]
assert torch.allclose(behind, word_feats, atol=1e-6)
print("padding behind changes the words:", not torch.allclose(behind, word_feats, atol=1e-6))
print("padding before changes the words:", not torch.allclose(before, word_feats, atol=1e-2))

# %% [markdown]
# The padded places themselves hold states too, and these mean nothing. `word_mask` must keep them out of everything later: of attention (lesson 03) and of averages (lesson 04).

# %% [markdown]
# ## What "frozen" must mean
#
# "Both backbone's parameters are fixed during training" (section 4.2). So one sets `requires_grad = False` and is done. Is one? A BatchNorm has parameters, and it has something else:

# %%
# NBVAL_CHECK_OUTPUT
norm = backbone.network.stem[1]
print("parameters:", [name for name, _ in norm.named_parameters()])
print("buffers:   ", [name for name, _ in norm.named_buffers()])

# %% [markdown]
# In training mode it subtracts the mean of the *batch* and moves `running_mean` a tenth of the way towards it. In evaluation mode it subtracts `running_mean`. Gradients play no part in it. With one channel, what comes out, and the running mean afterwards:

# %%
# NBVAL_CHECK_OUTPUT
norm = torch.nn.BatchNorm2d(1).requires_grad_(False)  # running mean 0, running variance 1
batch = torch.tensor([4.0, 6.0]).view(2, 1, 1, 1)
print("evaluation:", norm.eval()(batch).flatten().round().tolist(), norm.running_mean.tolist())
print("training:  ", norm.train()(batch).flatten().round().tolist(), norm.running_mean.tolist())
assert norm.running_mean == 0.9 * 0 + 0.1 * 5

# %% [markdown]
# Now take the shipped backbone without its guard, forbid gradients, and let the usual `model.train()` of a training loop happen. After each batch, how far are the features of the first eight photos from what they were? Once on ordinary photos, once on photos turned grey, as an augmentation may do.

# %%
import copy

import numpy as np


@torch.no_grad()
def drift(network, batches):
    """After each batch, the change of the features of images[:8], relative: (batches + 1, 3)."""
    moved = []
    for batch in (None, *batches):
        if batch is not None:
            network.train()(batch)  # nothing is learned here: no loss, no gradient, no step
        now = network.eval()(images[:8])
        pairs = zip(now, levels, strict=True)
        moved.append([float((new - old).norm() / old.norm()) for new, old in pairs])
    return np.array(moved)


# %%
from shnet_course.pictures.lesson_02 import draw_drift

grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
changes = {
    name: drift(copy.deepcopy(backbone.network), seen[8:].split(8))
    for name, seen in (("ordinary photos", images), ("grey photos", grey))
}
show(
    draw_drift(changes),
    alt="Change of the features against batches seen. Ordinary photos: all levels move by about 5 "
    "percent. Grey photos: they move steadily, to over 40 percent after seven batches.",
)

# %% [markdown]
# Nobody trained anything, and the features have moved: by about 5 % on photos like those that the backbone knows, by more than 40 % on grey ones. What a checkpoint of such a run calls "the frozen backbone" is no longer the one that was loaded. And during training it is worse: a photo's features depend on which other photos share its batch.

# %%
network = copy.deepcopy(backbone.network).train()
company = torch.cat([images[:1], images[20:27]])  # the first photo again, among others
with torch.no_grad():
    here, there = network(images[:8])[2][0], network(company)[2][0]
print(f"level 4 of one photo in two batches differs by {(here - there).norm() / here.norm():.0%}")

# %% [markdown]
# The library's `FrozenBackbone` keeps its BatchNorms in evaluation mode whatever the network around it is told:

# %%
import inspect

from shnet_lib.model.backbone import FrozenBackbone

print(inspect.getsource(FrozenBackbone.train))
print(inspect.getsource(FrozenBackbone.forward))

# %%
# NBVAL_CHECK_OUTPUT
kept = copy.deepcopy(backbone.state_dict())
model = torch.nn.Sequential(backbone)
model.train()
for seen in grey.split(8):
    model(seen)
assert all(torch.equal(kept[name], value) for name, value in backbone.state_dict().items())
assert all(torch.equal(a, b) for a, b in zip(levels, backbone(images[:8]), strict=True))
print(f"model.training is {model.training}, backbone.training is {backbone.training}")

# %% [markdown]
# ## What the paper does not say
#
# - **Which pooling, which convolution.** What you built is the released code's. For the paper's sizes it has 16.5 million parameters, more than a quarter of all 62.2 million that the network trains (lesson 05 counts them):

# %%
# NBVAL_CHECK_OUTPUT
with torch.device("meta"):
    parts = [LevelProjection(channels, 512, grid=18) for channels in (512, 1024, 2048)]
counts = [sum(p.numel() for p in part.parameters()) for part in parts]
print(*(f"{count / 1e6:.1f} M" for count in counts), f"together {sum(counts) / 1e6:.1f} M")

# %% [markdown]
# - **That the pooling enlarges.** Level 4 of a ResNet-101 is 10 x 10 at 320 pixels, and the pooling asks for 36 x 36. Each column is repeated three or four times:

# %%
# NBVAL_CHECK_OUTPUT
columns = torch.arange(10.0).expand(1, 1, 10)
print(F.adaptive_max_pool1d(columns, 36).int().flatten().tolist())

# %% [markdown]
# - **Which grid was used.** The paper says 18; the released code's default is 14, its README's command asks for 20.
# - **What the LSTM is.** In the released code it reads in one direction, from 300 numbers a word to 512, and the GloVe vectors below it are never trained. There its weights start as PyTorch chooses. Ours start larger, since with one-hot words PyTorch's start makes all words nearly alike:

# %%
torch.manual_seed(0)
quiet = torch.nn.LSTM(len(vocabulary), 32, batch_first=True).requires_grad_(False)
starts = {"PyTorch's": quiet, "the library's": encoder.lstm}
one, other = (encoder.embedding(torch.tensor([vocabulary.encode(w)])) for w in ("red", "left"))
for name, lstm in starts.items():
    print(f"{name:14} distance of red and left: {(lstm(one)[0] - lstm(other)[0]).norm():.2f}")

# %% [markdown]
# - **What becomes of BatchNorm's statistics** in a backbone whose "parameters" are fixed. As you saw, they are not parameters.

# %% [markdown]
# ## What you have seen
#
# - You looked at the levels, each half as wide as the one before: outlines on level 2, single cells on level 4.
# - Pooling to $2H \times 2W$, a convolution of stride 2, BatchNorm and LeakyReLU gave the numbers of `LevelProjection`.
# - On 18 x 18 nearly half of the things of a quarter of a percent of the photo were lost; 40 x 40 kept them, at twenty times the pairs.
# - Your LSTM gave PyTorch's states word by word; padding at the end changed nothing.
# - `model.train()` moved a backbone that had no gradients; `FrozenBackbone` did not move.
#
# Practise: [the exercises of this lesson](../exercises/02_features_ex.ipynb).
#
# Next: [03 · SFM](03_sfm.ipynb), where every cell and every word looks at every other.
