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
# # 03 · SFM: pixels and words in one sequence
#
# *Section 3.2, Equation 1 · 45 minutes to read, 20 seconds to run on two CPU cores*
#
# **You need to know** what the features of a pixel and of a word are ([02 · Features](02_features.ipynb)), and what a matrix product is.
#
# In this lesson you will
#
# - compute attention over six tokens by hand, and let one token learn what to ask;
# - type SFM for a whole batch, load trained weights into it, and find it equal to the library's;
# - show that padding changes no pixel, and what a network without positions cannot know;
# - look at what a trained SFM takes from where, and in which layer the words come in;
# - tell Eq. 1 as printed from what the authors' code runs, and say what attention costs.

# %% [markdown]
# ## The question
#
# Take “green square at top”. To answer it, a network has to know which pixels belong together, which words belong together, and which pixels which word is about. Earlier methods did these one after the other, so a mistake in the first step stayed to the end (section 1). The Synchronous Multi-Modal Fusion Module, SFM, does all of it in one step. Attention over one sequence needs no order of steps: a good idea. Figure 2 puts SFM before HCAM.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"sfm"}))

# %% [markdown]
# After lesson 02 a cell of the grid and a word are the same kind of thing: a vector of `C` numbers. The paper calls such a cell a *pixel*, and so do we. So `H*W` pixels and `T` words make a sequence of `N = H*W + T` *tokens*:

# %%
from pathlib import Path

from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_03 import draw_sequence
from shnet_lib.data import read_expressions

val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")
expression = next(e for e in val if e.text == "green square at top")
photo, words = photo_of(expression), expression.text.split()
show(draw_sequence(photo, 4, words))

# %% [markdown]
# ## Six tokens by hand
#
# Make it small: an image of 2 x 2 pixels and the phrase “left red”. Let a vector have three numbers: how red, how blue, how far left. A word has a vector of the same kind.

# %% tags=["nbval-check-output"]
import torch

tokens = {
    "red, left": [2, 0, 2],  # four pixels, row by row
    "red, right": [2, 0, 0],
    "blue, left": [0, 2, 2],
    "blue, right": [0, 2, 0],
    "“left”": [0, 0, 2],  # two words
    "“red”": [2, 0, 0],
}
x = torch.tensor(list(tokens.values()), dtype=torch.float32)  # (N, C)
x.shape

# %% [markdown]
# How alike are two tokens? Multiply their vectors number by number and add up. Divide by the square root of `C`, so that vectors of more numbers do not give larger scores. All 36 pairs at once are one matrix product; row 5 holds what “red” finds.

# %% tags=["nbval-check-output"]
red, pixel = x[5], x[0]  # the word “red” against the pixel “red, left”
print(round(float((red[0] * pixel[0] + red[1] * pixel[1] + red[2] * pixel[2]) / 3**0.5), 2))

scores = x @ x.T / 3**0.5  # (N, C) x (C, N) -> (N, N)
print([round(score, 2) for score in scores[5].tolist()])

# %% [markdown]
# Scores become shares: exponentiate, then divide by the sum of the row. That is the *softmax*. Then every token becomes the mix of all tokens, in these shares. **Predict:** what will “red” have that it did not have before?

# %% tags=["nbval-check-output"]
import math

exponentials = [math.exp(score) for score in scores[5]]
by_hand = [value / sum(exponentials) for value in exponentials]
print("“red” gives", [round(share, 2) for share in by_hand])
weights = scores.softmax(dim=-1)  # (N, N), rows sum to 1
assert torch.allclose(weights[5], torch.tensor(by_hand))

mixed = weights @ x  # (N, N) x (N, C) -> (N, C)
for name, before, after in zip(tokens, x.tolist(), mixed.tolist(), strict=True):
    print(f"{name:12} {before} -> {[round(value, 1) for value in after]}")

# %% [markdown]
# Read the last line. The word “red” was only red. Now the word carries some “left” too, because a pixel it looked at is on the left.
#
# ## The four blocks
#
# The rows of the attention map ask, the columns are asked. Cut it where the pixels end, and there are four blocks. The first name says who asks.

# %%
from shnet_course.pictures.lesson_03 import draw_attention_blocks

show(draw_attention_blocks(weights.numpy(), 4, list(tokens)))

# %% [markdown]
# *Pixel-pixel* and *word-word* are the paper's interactions within a modality, *pixel-word* and *word-pixel* those between them (section 3.2). “Synchronous” means that one softmax per row covers both: what a pixel gives to the words, it takes from the other pixels. **Now you:** [Attention weights, The four blocks](../exercises/03_sfm_ex.ipynb).
#
# ## Query, key and value
#
# So far a token asks with what it *is*, and so it finds what is like itself. Let every pixel ask for “my colour, on the *other* side” instead. A linear layer can make of each token a *query*, what it asks for. The query is compared with the *key*, what a token answers to. And a token hands over a *value*, which need not be all that it is.
#
# Train the query's layer on the four pixels. To keep the numbers readable, the key stays the token itself, and the value is its third number alone.

# %%
import torch.nn.functional as F

from shnet_course.pictures.lesson_03 import draw_query_key_value

torch.manual_seed(0)
ask = torch.nn.Linear(3, 3)
wanted = torch.zeros(4, 6)  # rows: pixels; the word “red” has the vector of “red, right”
wanted[0, [1, 5]], wanted[1, 0], wanted[2, 3], wanted[3, 2] = 0.5, 1.0, 1.0, 1.0
optimizer = torch.optim.Adam(ask.parameters(), lr=0.1)
for _ in range(300):
    optimizer.zero_grad()
    F.cross_entropy(ask(x[:4]) @ x.T / 3**0.5, wanted).backward()
    optimizer.step()

with torch.no_grad():
    query, key, value = ask(x), x, x * torch.tensor([0.0, 0.0, 1.0])
    learned = (query @ key.T / 3**0.5).softmax(dim=-1)
parts = {"query: asks for": query.numpy(), "key: answers to": key.numpy()}
parts["value: hands over"] = value.numpy()
show(draw_query_key_value(parts, learned.numpy(), list(tokens), ["red", "blue", "left"]))

# %% [markdown]
# Read the first row: “red, left” asks for much red, and for little blue and little left. The pixel finds “red, right”, and the word “red”, which has the same vector. Nobody trained the row of “left”.
#
# A network learns all three layers. Each token asks several times side by side, in *heads* that share the channels out between them.
#
# ## From hand to function
#
# The same for a whole batch, with heads and four learned layers, is a class. `keep` says which tokens may be looked at.


# %%
from torch import nn


class MyAttention(nn.Module):
    def __init__(self, C, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(C, C) for _ in range(4))

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # -> (B, heads, N, C / heads)

    def forward(self, keyed, valued, keep):
        """(B, N, C) twice, keep (B, N) -> (B, N, C)."""
        query, key = self.split(self.query(keyed)), self.split(self.key(keyed))
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (B, heads, N, N)
        scores = scores.masked_fill(~keep[:, None, None, :], float("-inf"))  # a share of 0
        mixed = scores.softmax(dim=-1) @ self.split(self.value(valued))
        return self.out(mixed.transpose(1, 2).flatten(2))  # heads side by side again


# %% [markdown]
# This is the paper's Equation 1. The sign $\odot$ puts sequences end to end:
#
# $$X = \mathrm{LayerNorm}(V \odot L) \qquad X = X + (P_v \odot P_l) \qquad F = \mathrm{MultiHead}(X)$$
#
# $V$ are the pixels, $L$ the words, $P_v$ and $P_l$ their positions (below). LayerNorm gives each token mean 0 and variance 1. As a module, three lines:


# %%
class MyEquation1(nn.Module):
    def __init__(self, C, heads):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(C), MyAttention(C, heads)

    def forward(self, joint, positions, keep):
        """V and L joined (B, N, C), positions (N, C), keep (B, N) -> F (B, N, C)."""
        x = self.norm(joint)
        x = x + positions
        return self.attention(x, x, keep)


# %% [markdown]
# SFM joins pixels and words, calls Equation 1, and takes them apart again. “We process all hierarchical visual features individually” (section 3.2): it runs on each of the levels 2, 3 and 4 with the same words, and each level gets its own words back.


# %%
from shnet_lib.model.sfm import pixel_positions, word_positions


class MySFM(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.blocks = nn.ModuleList([block])  # one for all three levels

    def forward(self, visual, words, word_mask):
        """V three (B, C, H, W), L (B, T, C), (B, T) -> f^v three (B, C, H, W), f^l (B, T, C)."""
        (_, C, H, W), T = visual[0].shape, words.shape[1]
        positions = torch.cat((pixel_positions(H, W, C), word_positions(T, C)))  # (N, C)
        pixels = torch.ones(len(words), H * W, dtype=torch.bool)  # none is padding
        keep = torch.cat((pixels, word_mask), dim=1)  # (B, N)
        fused = []
        for level in visual:
            joint = torch.cat((level.flatten(2).transpose(1, 2), words), dim=1)  # (B, N, C)
            fused.append(self.blocks[0](joint, positions, keep))
        new_visual = [f[:, : H * W].transpose(1, 2).unflatten(2, (H, W)) for f in fused]
        return new_visual, [f[:, H * W :] for f in fused]


# %% [markdown]
# Load the library's numbers into yours. Do both agree on a batch of two phrases, one of them padded?

# %% tags=["nbval-check-output"]
from shnet_lib.model.sfm import SFM

module = SFM("printed", channels=16, heads=2).eval()
mine = MySFM(MyEquation1(16, heads=2)).eval()
print(mine.load_state_dict(module.state_dict()))

levels = [torch.randn(2, 16, 3, 3) for _ in range(3)]  # B = 2
batch_words, word_mask = torch.randn(2, 4, 16), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
with torch.no_grad():
    ours = mine(levels, batch_words, word_mask)
    theirs = module(levels, batch_words, word_mask)
for our_part, their_part in zip(ours, theirs[:2], strict=True):  # f^v, then f^l
    for a, b in zip(our_part, their_part, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
print("f^v:", [tuple(a.shape) for a in ours[0]], " f^l:", [tuple(a.shape) for a in ours[1]])

# %% [markdown]
# **Now you:** [Equation 1](../exercises/03_sfm_ex.ipynb).
#
# ## Padding
#
# Phrases of a batch have different lengths, so the shorter ones are filled up. `word_mask` is True at real words; the second phrase above has two. **Predict:** what happens if rubbish stands in its padding?

# %% tags=["nbval-check-output"]
rubbish = torch.where(word_mask[..., None], batch_words, 1000.0)
everything = torch.ones_like(word_mask)


@torch.no_grad()
def change(mask):
    before, after = module(levels, batch_words, mask)[0], module(levels, rubbish, mask)[0]
    return float((before[0][1] - after[0][1]).abs().max())


print("masked, rubbish changes no pixel: ", change(word_mask) == 0)
print("unmasked, rubbish changes pixels:", change(everything) > 0.1)

# %% [markdown]
# A masked key has the score minus infinity and so the share 0. The LSTM reads from left to right, so padding at the end reaches no real word there either.

# %% [markdown]
# ## Positions
#
# Without $P_v$ and $P_l$ nothing says *where* a token stands. **Predict:** shuffle the pixels; what does SFM answer without positions, and what with them?

# %% tags=["nbval-check-output"]
order = torch.randperm(9)


def shuffled(level):
    return level.flatten(2)[:, :, order].view_as(level)


for positions_on in (False, True):
    module = SFM("printed", channels=16, heads=2, positions=positions_on).eval()
    straight = module(levels, batch_words, word_mask)[0][0]
    after = module([shuffled(level) for level in levels], batch_words, word_mask)[0][0]
    same = torch.allclose(shuffled(straight), after, atol=1e-5)
    print(f"positions {positions_on!s:5}: the shuffled answer is the old one, shuffled: {same}")

# %% [markdown]
# Without positions the answer is the old one, shuffled: SFM alone cannot know “left”. The rest of the network knows a little: convolutions see the photo's border, and the LSTM hears the order of words. Perhaps that is why leaving positions out cost the paper only 0.91 points of overall IoU (Table 2, rows 7 and 8).
#
# The paper does not say what $P_v$ and $P_l$ are. The released code takes sines and cosines of falling frequency: half of a pixel's channels tell `x`, half tell `y`.

# %%
from shnet_course.pictures.lesson_03 import draw_positions

show(
    draw_positions(
        pixel_positions(18, 18, 512).numpy(), 18, word_positions(25, 512).numpy(), pixel=(5, 9)
    )
)

# %% [markdown]
# Bottom left, the position of one pixel is multiplied with those of all others. Its neighbours, its row and its column are most alike. **Now you:** [Positions of pixels](../exercises/03_sfm_ex.ipynb).
#
# Section 3.2 adds positions for another reason: “to distinguish between visual and linguistic part”. Do these? The first pixel and the first word have the *same* position, sines of 0 and cosines of 0. What tells a pixel from a word is its content.
#
# ## What a trained SFM looks at
#
# The small network that the course ships has learnt RefShapes. `attention_inside` runs it on a scene and a phrase, and keeps the weights of its three layers. Of level 4 look at layer 1, what each *pixel* gives to the four words, laid back on the grid; then at layer 3, what each *word* takes from the pixels.

# %%
from shnet_course.measure.inside import attention_inside
from shnet_lib import load_shnet

trained = load_shnet("../data/weights/shnet_refshapes")
inside, attention = attention_inside(trained, photo, expression.text)
layers = len(attention[0])
heads, count, _ = attention[0][0].shape
print(f"{len(attention)} levels x {layers} layers, each {heads} heads x {count} x {count}")

# %%
from shnet_course.pictures.lesson_03 import draw_word_maps

grid, target = trained.config.model.grid, expression.mask()
first = attention[2][0].mean(0).numpy()  # level 4, layer 1, the mean of the heads: (N, N)
to_words = first[: grid**2, grid**2 :].T.reshape(-1, grid, grid)  # (T, H, W)
maps = dict(zip(words, to_words, strict=True))
show(draw_word_maps(photo, target, maps, "level 4, layer 1: what each pixel gives to a word"))

last = attention[2][2].mean(0).numpy()  # level 4, layer 3
from_pixels = last[grid**2 :, : grid**2].reshape(-1, grid, grid)
maps = dict(zip(words, from_pixels, strict=True))
show(draw_word_maps(photo, target, maps, "level 4, layer 3: what each word takes from the pixels"))

# %% [markdown]
# In layer 1 the target's pixels listen most to “square”, the lower half of the scene listens to “top”, and “at” gets little. In layer 3 all four words take about half of what they take from the one thing that the phrase means, even the word “at”. By then a word no longer stands for itself. Look at single rows; the words are the last four tokens. Level 2 is less tidy.

# %%
from functools import partial

from ipywidgets import IntSlider

from shnet_course.pictures.lesson_03 import draw_attention_of
from shnet_course.widgets import explore

explore(
    partial(draw_attention_of, photo, attention, words),
    token=IntSlider(count - 3, 0, count - 1),  # starts at the word “square”
    level=[4, 3, 2],
    layer=list(range(layers, 0, -1)),
)

# %% [markdown]
# A weight says what was mixed in, not what it did to the mask; lesson 09 measures that.
#
# ## Pixels outnumber words
#
# One softmax for all has a price. A token that looks at all others alike gives the words together $T / (HW + T)$: four words get 5.9 % on an 8 x 8 grid, 1.2 % on the paper's 18 x 18 and 0.25 % on 40 x 40. Can training turn this up? **Predict** the words' share in each of the three layers of the trained network, over forty phrases:

# %%
from shnet_course.pictures.lesson_03 import word_share

shares, uniform = torch.zeros(layers), 0.0
pixels = grid**2
some = val[:: len(val) // 40][:40]
for asked in some:
    _, maps = attention_inside(trained, asked.image_path, asked.text)
    for layer in range(layers):
        over_levels = torch.stack([level[layer] for level in maps])  # (3, heads, N, N)
        shares[layer] += over_levels[..., :pixels, pixels:].sum(-1).mean() / len(some)
    uniform += word_share(grid, maps[0][0].shape[-1] - pixels) / len(some)

print(f"on {grid} x {grid} pixels that looked at all alike, the words would get {uniform:.1%}")
for layer, share in enumerate(shares, start=1):
    print(f"layer {layer} of the trained network: {share:.1%}")

# %% [markdown]
# The first layer gives the words half of all attention, thirty times their uniform share. Layers 2 and 3 give them no more than that share: 1.7 % and 1.4 %, where 1.5 % is uniform. So the phrase comes in *once*, in the first layer. Afterwards pixels talk to pixels that have heard it.
#
# ## What attention costs
#
# Section 4.3: grids finer than 18 x 18 could not be trained “due to memory limits induced by multi-head attention”. The weights alone, of three levels, two layers and eight heads at four bytes each, are 22 MiB per sample there. On 40 x 40, the grid of the methods beside it, they are 484 MiB: 24 GiB per batch of 50. But must they be kept? The library forms the weights only if you ask for them. Otherwise PyTorch's `scaled_dot_product_attention` works through the rows in pieces, and computes a piece again where the backward pass needs it. `saved_bytes` counts what is kept:

# %%
from shnet_course.measure.memory import MIB, saved_bytes
from shnet_course.pictures.lesson_03 import draw_memory
from shnet_lib.model.sfm import ReleasedSFM

block = ReleasedSFM(channels=512, heads=8, layers=2, feedforward=256)


def sfm_memory(grid, keep_weights):
    """MiB kept per sample: one level, times three."""
    joint = torch.randn(1, grid**2 + 25, 512, requires_grad=True)
    keep = torch.ones(joint.shape[:2], dtype=torch.bool)
    places = torch.zeros(joint.shape[1:])
    return 3 * saved_bytes(lambda: block(joint, places, keep, keep_weights), block) / MIB


sides = [8, 12, 18, 24, 32, 40]
measured = {"weights kept": [sfm_memory(side, True) for side in sides]}
measured["weights never kept"] = [sfm_memory(side, False) for side in sides]
show(draw_memory(sides, measured, {}))

# %% [markdown]
# Without weights the memory grows with the number of tokens, not with its square. With the rest of the network, about 15 samples then fit on an 11 GB card at 40 x 40, and 9 with the weights kept; lesson 06b shows smaller batches.
#
# ## Printed against released
#
# Equation 1 is not what the authors' code runs.
#
# | the paper prints | the released code runs |
# |---|---|
# | LayerNorm, positions, attention | encoder layers: LayerNorm, attention, residual, LayerNorm, feed-forward, residual; a last LayerNorm |
# | one layer | two, by its README's command |
# | positions added to X: queries, keys and values | to queries and keys only |
# | levels “individually” | one SFM with shared weights, called on each level |
# | positions, heads and C not given | fixed sinusoids, 8 heads, C = 512 |
#
# One layer of the released form, and the whole:


# %%
class MyLayer(nn.Module):
    def __init__(self, C, heads, hidden):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attention = MyAttention(C, heads)
        self.feedforward = nn.Sequential(nn.Linear(C, hidden), nn.ReLU(), nn.Linear(hidden, C))

    def forward(self, x, positions, keep):
        normed = self.norm_1(x)
        x = x + self.attention(normed + positions, normed, keep)  # "x +": the residual
        return x + self.feedforward(self.norm_2(x))


# %%
class MyReleased(nn.Module):
    def __init__(self, C, heads, layers, hidden):
        super().__init__()
        self.layers = nn.ModuleList(MyLayer(C, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(C)

    def forward(self, joint, positions, keep):
        for layer in self.layers:
            joint = layer(joint, positions, keep)
        return self.norm(joint)


# %% [markdown]
# The shipped network has this form. Put its trained numbers into yours:

# %% tags=["nbval-check-output"]
size = trained.config.model
block = MyReleased(size.channels, size.heads, size.sfm_layers, size.sfm_feedforward)
mine = MySFM(block).eval()
print(mine.load_state_dict(trained.network.sfm.state_dict()))
with torch.no_grad():
    ours, _ = mine(inside.visual_feats, inside.word_feats, inside.word_mask)
for our_level, their_level in zip(ours, inside.fused_visual, strict=True):
    assert torch.allclose(our_level, their_level, atol=1e-4)
print("your SFM gives the f^v that went into the trained network's HCAM")

# %% [markdown]
# Why do residuals matter? Without a residual a token is only the mix of what it looked at. Before training a token looks at everything. **Predict:** how much of the output of each form differs from pixel to pixel before training?


# %%
def spread(level):
    """The part of a (B, C, H, W) map that is not the same at all pixels; 1 is all of it."""
    return float(level.var((2, 3), correction=0).mean() / level.square().mean())


torch.manual_seed(0)
random_levels = [torch.randn(1, 512, 18, 18) for _ in range(3)]
some_words, all_real = torch.randn(1, 8, 512), torch.ones(1, 8, dtype=torch.bool)
for name in ("printed", "released"):
    form = SFM(name, channels=512, heads=8)
    with torch.no_grad():
        fused_visual, _, _ = form(random_levels, some_words, all_real)
    print(f"{name:9} {spread(fused_visual[0]):.2f}")

# %% [markdown]
# In the printed form nearly all pixels come out alike, and training has to find their differences again. **Predict:** does it matter after 4,000 steps? Three seeds of each form:

# %%
from shnet_course.measure.ablations import by_row, differences
from shnet_course.pictures.base import draw_learning_curves
from shnet_lib.training.ablations import read_lines

forms = ("SHNet", "SHNet, Eq. 1 as printed")
results = Path("../docs/results")
curves = read_lines(results / "ablations_curves.csv")
show(draw_learning_curves([line for line in curves if line["row"] in forms], to="SHNet"))
runs = by_row(read_lines(results / "ablations.csv"), "val_overall_iou")
printed_minus_released = differences(runs, to="SHNet")["SHNet, Eq. 1 as printed"]
print(f"printed minus released: {printed_minus_released}")

# %% [markdown]
# No: both learn, and three seeds cannot tell them apart. (The released form also has an activation behind HCAM.) The presets of the real data sets (`unc-320` and the others) have the *released* form, unless the printed one is clearly better: a rule set beforehand.
#
# ## Five questions
#
# 1. Which block of the map answers “which pixels is this word about?”
# 2. A row of the map sums to 1. What follows for a pixel that listens more to words?
# 3. Why does a query need its own layer?
# 4. The same four words on 40 x 40 in place of 18 x 18: what happens to their share before training?
# 5. Why can a network of the printed form hardly tell its pixels apart at the start?
#
# <details><summary>Answers</summary>
#
# 1. Word-pixel: the word asks, the pixels are asked.
# 2. It listens less to other pixels.
# 3. To ask for something other than what the token is.
# 4. It falls from 1.2 % to 0.25 %.
# 5. Only the mix is passed on, and all pixels mix nearly the same.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - You computed attention over six tokens by hand, and a learned query asked for something other than its token.
# - Your `MySFM` gave the library's output, in both forms, once with trained weights.
# - Padding, masked, changed no pixel; without positions a shuffled image gave the shuffled answer.
# - In the trained network the words came in through the first layer; in the last, words took from the thing that is meant.
# - The authors' code has residuals and a feed-forward part that Eq. 1 does not print.
#
# Practise: [the exercises of this lesson](../exercises/03_sfm_ex.ipynb).
#
# Next: [04 · HCAM](04_hcam.ipynb), where the three levels ask each other.
