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
# *Section 3.2, Equation 1 · 11 seconds on two CPU cores*
#
# **You need to know** what the features of a pixel and of a word are ([02 · Features](02_features.ipynb)), and what a matrix product is. Attention is explained from the start.
#
# In this lesson you will
#
# - compute attention over six tokens by hand, and name the four blocks of its map;
# - write Eq. 1 as a function and find it equal to the library's;
# - show that padding changes no logit, and what a network without positions cannot know;
# - tell Eq. 1 as printed from what the authors' code runs;
# - measure how the memory of attention grows with the grid, and work out what fits on an 11 GB card.

# %% [markdown]
# ## The question
#
# Take “green square at top”. To answer it, a network has to know which pixels belong together, which words belong together, and which pixels which word is about. Earlier methods did these one after the other. A mistake in the first step then stayed to the end (section 1 of the paper). The Synchronous Multi-Modal Fusion Module, SFM, does all of it in one step. How can one operation compare a pixel with a word? Figure 2 puts SFM between the features and HCAM; today's part is lit.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"sfm"}), alt="SHNet from photo and phrase to mask; SFM is lit.")

# %% [markdown]
# SFM lays both in one row. After lesson 02 a cell of the grid and a word are the same kind of thing: a vector of `C` numbers. The paper calls such a cell a *pixel*, and from here on so do we. So `H*W` pixels and `T` words make a sequence of `N = H*W + T` *tokens*. Here is a photo on a small grid, and its row.

# %%
from pathlib import Path

from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_03 import draw_sequence
from shnet_lib.data import read_expressions

val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")
expression = next(e for e in val if e.text == "green square at top")
photo, words = photo_of(expression), expression.text.split()
show(
    draw_sequence(photo, 4, words),
    alt="A photo cut into 16 pixels and a phrase of 4 words, then all 20 in one row.",
)

# %% [markdown]
# ## Six tokens by hand
#
# Make it small: an image of 2 x 2 pixels and the phrase “left red”. Let a vector have three numbers: how red, how blue, how far left. A word has a vector of the same kind.

# %%
# NBVAL_CHECK_OUTPUT
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
# How alike are two tokens? Multiply their vectors number by number and add up. Divide by the square root of `C`, so that vectors of more numbers do not give larger scores. The word “red” against the pixel “red, left”:

# %%
# NBVAL_CHECK_OUTPUT
red, pixel = x[5], x[0]
round(float((red[0] * pixel[0] + red[1] * pixel[1] + red[2] * pixel[2]) / 3**0.5), 2)

# %% [markdown]
# All 36 pairs at once are one matrix product. Row 5 holds what “red” finds in the six tokens.

# %%
# NBVAL_CHECK_OUTPUT
scores = x @ x.T / 3**0.5  # (N, C) x (C, N) -> (N, N)
print([round(score, 2) for score in scores[5].tolist()])

# %% [markdown]
# Scores become shares: exponentiate, then divide by the sum of the row. That is the *softmax*. Each row is now positive and sums to 1.

# %%
# NBVAL_CHECK_OUTPUT
import math

exponentials = [math.exp(score) for score in scores[5]]
by_hand = [value / sum(exponentials) for value in exponentials]
print([round(share, 2) for share in by_hand])

weights = scores.softmax(dim=-1)  # (N, N), rows sum to 1
assert torch.allclose(weights[5], torch.tensor(by_hand))

# %% [markdown]
# The word “red” gives 0.30 to each red pixel, 0.30 to itself, and little to the rest. Last step: every token becomes the mix of all tokens, in these shares.

# %%
# NBVAL_CHECK_OUTPUT
mixed = weights @ x  # (N, N) x (N, C) -> (N, C)
for name, before, after in zip(tokens, x.tolist(), mixed.tolist(), strict=True):
    print(f"{name:12} {before} -> {[round(value, 1) for value in after]}")

# %% [markdown]
# Read the last line. The word “red” was only red. It now also carries some “left”, because one of the pixels it looked at is on the left. The pixel “red, right” has taken something from the word “red”. Nobody told a pixel from a word: both are rows of `x`.
#
# ## The four blocks
#
# The rows of the attention map ask, the columns are asked. Cut it where the pixels end, and there are four blocks. The first name says who asks.

# %%
from shnet_course.pictures.lesson_03 import draw_blocks

show(
    draw_blocks(weights.numpy(), 4, list(tokens)),
    alt="The 6 x 6 attention map with frames: pixel-pixel 4 x 4, pixel-word 4 x 2, "
    "word-pixel 2 x 4, word-word 2 x 2.",
)

# %% [markdown]
# *Pixel-pixel* and *word-word* are the paper's interactions within a modality, *pixel-word* and *word-pixel* those between them (section 3.2). “Synchronous” means that one softmax a row covers both: what a pixel gives to the words, it takes from the other pixels. That will matter below.
#
# Here a token asks and answers with the same vector. A network learns what to ask: three linear layers make a *query*, a *key* and a *value* of each token. It also does so several times side by side, in *heads* that share the channels out between them.
#
# ## From hand to function
#
# The steps above as a function. `keep` says which tokens may be looked at.


# %%
def attend(query, key, value, keep):
    """(N, c) each and keep (N,) -> the mixed values (N, c)."""
    scores = query @ key.T / query.shape[-1] ** 0.5  # (N, N)
    scores = scores.masked_fill(~keep, float("-inf"))  # a share of 0 after the softmax
    return scores.softmax(dim=-1) @ value


everybody = torch.ones(6, dtype=torch.bool)
assert torch.allclose(attend(x, x, x, everybody), mixed)

# %% [markdown]
# With heads: project, cut the channels into as many pieces as there are heads, attend in each, put the pieces side by side, project once more.


# %%
def multi_head(x, keep, attention):
    """(N, C), with the linear layers of the library's `attention` -> (N, C)."""
    queries = attention.query(x).chunk(attention.heads, dim=-1)  # heads times (N, C / heads)
    keys = attention.key(x).chunk(attention.heads, dim=-1)
    values = attention.value(x).chunk(attention.heads, dim=-1)
    pieces = [attend(q, k, v, keep) for q, k, v in zip(queries, keys, values, strict=True)]
    return attention.out(torch.cat(pieces, dim=-1))


# %% [markdown]
# This is the paper's Equation 1. It prints the sign $\odot$ for putting sequences end to end:
#
# $$X = \mathrm{LayerNorm}(V \odot L) \qquad X = X + (P_v \odot P_l) \qquad F = \mathrm{MultiHead}(X)$$
#
# $V$ are the pixels, $L$ the words, $P_v$ and $P_l$ their positions (below). LayerNorm gives each token mean 0 and variance 1, so that no token with large numbers outweighs the rest. As a function, three lines:


# %%
def equation_1(visual, words, positions, keep, norm, attention):
    """Pixels (H*W, C), words (T, C), positions (N, C), keep (N,) -> F (N, C)."""
    x = norm(torch.cat((visual, words)))
    x = x + positions
    return multi_head(x, keep, attention)


# %% [markdown]
# The library's `PrintedSFM` is the same for a whole batch. Do both agree?

# %%
from shnet_lib.model.sfm import PrintedSFM, pixel_positions, word_positions

torch.manual_seed(0)
grid, length, channels = 3, 4, 16
sfm = PrintedSFM(channels, heads=2)
visual, word_feats = torch.randn(grid * grid, channels), torch.randn(length, channels)
places = (pixel_positions(grid, grid, channels), word_positions(length, channels))
positions = torch.cat(places)  # (N, C)
keep = torch.ones(grid * grid + length, dtype=torch.bool)

with torch.no_grad():
    ours = equation_1(visual, word_feats, positions, keep, sfm.norm, sfm.attention)
    joint = torch.cat((visual, word_feats))
    fused, _ = sfm(joint[None], positions, keep[None])
assert torch.allclose(ours, fused[0], atol=1e-5)

# %% [markdown]
# `SFM` around it joins and takes apart again. “We process all hierarchical visual features individually” (section 3.2): it runs on each of the levels 2, 3 and 4 with the same words, and each level gets its own words back.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model.sfm import SFM

module = SFM("printed", channels=16, heads=2).eval()
levels = [torch.randn(2, 16, 3, 3) for _ in range(3)]  # B = 2
batch_words, word_mask = torch.randn(2, 4, 16), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
fused_visual, fused_words, _ = module(levels, batch_words, word_mask)
print("V:", [tuple(level.shape) for level in levels], " L:", tuple(batch_words.shape))
print("f^v:", [tuple(level.shape) for level in fused_visual])
print("f^l:", [tuple(level.shape) for level in fused_words])

# %% [markdown]
# ## Padding
#
# Phrases of a batch have different lengths, so the shorter ones are filled up. `word_mask` is True at real words; the second phrase above has two. What if rubbish stands in its padding?

# %%
# NBVAL_CHECK_OUTPUT
rubbish = torch.where(word_mask[..., None], batch_words, 1000.0)
everything = torch.ones_like(word_mask)


@torch.no_grad()
def change(mask):
    before, after = module(levels, batch_words, mask)[0], module(levels, rubbish, mask)[0]
    return float((before[0][1] - after[0][1]).abs().max())


print("masked, rubbish changes no pixel: ", change(word_mask) == 0)
print("unmasked, rubbish changes pixels:", change(everything) > 0.1)

# %% [markdown]
# A masked key has the score minus infinity and so the share 0. The rows of padded words are still computed, but nothing reads them. Does it hold for the whole network, from words to *logits*, the numbers that it ends with, one for each pixel of the mask? The LSTM reads from left to right, so padding at the end reaches no real word. The same phrase, padded and not:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.model import SHNet
from shnet_lib.training.config import configure

network = SHNet(configure("quick").model, vocabulary_size=30).eval()
features = [torch.randn(1, c, 16, 16) for c in network.backbone.level_channels]


@torch.no_grad()
def logits(ids, real):
    batch = {"levels": features, "image_index": torch.tensor([0])}
    return network(batch | {"words": torch.tensor([ids]), "word_mask": torch.tensor([real])})


short = logits([5, 6, 7], [True] * 3)
padded = logits([5, 6, 7, 0, 0, 0], [True] * 3 + [False] * 3)
unmasked = logits([5, 6, 7, 0, 0, 0], [True] * 6)
print("padding, masked, moves no logit:", torch.allclose(short, padded, atol=1e-4))
print("padding, unmasked, moves logits:", not torch.allclose(short, unmasked, atol=1e-4))

# %% [markdown]
# ## Positions
#
# Without $P_v$ and $P_l$ nothing says *where* a token stands. Shuffle the pixels, and without positions the answer is the old one, shuffled. With positions it is another answer.

# %%
# NBVAL_CHECK_OUTPUT
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
# So SFM without positions cannot know “left”. The rest of the network knows a little: convolutions see the photo's border, and the LSTM hears the order of words. Perhaps that is why leaving positions out cost the paper only 0.91 points of overall IoU (Table 2, rows 7 and 8: 63.07 against 63.98).
#
# The paper does not say what $P_v$ and $P_l$ are. The released code takes sines and cosines of falling frequency: half of a pixel's channels tell `x`, half tell `y`.

# %%
from shnet_course.pictures.lesson_03 import draw_positions

show(
    draw_positions(
        pixel_positions(18, 18, 512).numpy(), 18, word_positions(25, 512).numpy(), pixel=(5, 9)
    ),
    alt="Four channels of the pixels' positions: stripes across and down, fast and slow. Below, "
    "how alike pixel (5, 9) is to all others: most to its neighbours, row and column. Beside it "
    "the positions of 25 words, waves that get slower from left to right.",
)

# %% [markdown]
# Bottom left: multiply the position of one pixel with those of all others. Its neighbours, its row and its column are most alike. “Near” and “in the same row” are there from the start, as plain dot products.
#
# Section 3.2 adds positions for another reason: “to distinguish between visual and linguistic part”. Do these? Compare the first pixel's with the first word's.

# %%
# NBVAL_CHECK_OUTPUT
torch.equal(pixel_positions(18, 18, 512)[0], word_positions(25, 512)[0])

# %% [markdown]
# The same vector: sines of 0, cosines of 0. What tells a pixel from a word is its content.
#
# ## What a trained SFM looks at
#
# The small network that the course ships has learnt RefShapes. `attention_inside` runs it on a photo and a phrase, and keeps the weights.

# %%
from shnet_course.measure.inside import attention_inside
from shnet_lib import load_shnet

trained = load_shnet("../data/weights/shnet_refshapes")
inside, attention = attention_inside(trained, photo, expression.text)
layers = len(attention[0])
heads, count, _ = attention[0][0].shape
print(f"{len(attention)} levels x {layers} layers, each {heads} heads x {count} x {count}")

# %%
from shnet_course.pictures.lesson_03 import draw_four_blocks

first = attention[0][0].mean(0)  # level 2, layer 1, the mean of the heads: (N, N)
show(
    draw_four_blocks(first.numpy(), words),
    alt="The attention map of level 2, layer 1, in four blocks: pixel-pixel, pixel-word, "
    "word-pixel, word-word. Pixels give green and top much weight, and at little.",
)

# %% [markdown]
# Look at the tall block, pixel-word. Nearly every pixel listens most to “green” or to “top”, hardly one to “at”. Now ask for single rows. `token` counts the pixels row by row from 0; the words come last.

# %%
from functools import partial

from ipywidgets import IntSlider

from shnet_course.pictures.lesson_03 import describe_attention_of, draw_attention_of
from shnet_course.widgets import explore

explore(
    partial(draw_attention_of, photo, attention, words),
    partial(describe_attention_of, photo, attention, words),
    token=IntSlider(count - 3, 0, count - 1),  # starts at the word “square”
    level=[2, 3, 4],
    layer=list(range(1, layers + 1)),
)

# %% [markdown]
# Beware of reading a story into one such picture. A weight says what was mixed in, not what it did to the mask. Lesson 09 measures what can be said, over hundreds of scenes.
#
# ## Pixels outnumber words
#
# One softmax for all has a price. A token that looks at all others alike, as it roughly does before training, gives the words together $T / (HW + T)$:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.pictures.lesson_03 import draw_word_share, word_share

for side in (8, 12, 18, 40):
    print(f"{side} x {side} pixels: 4 words get {100 * word_share(side, words=4):.2f} %")

# %%
show(
    draw_word_share(lengths=(4, 2, 8), marked=(8, 12, 18, 40)),
    alt="The words' share against the grid's side: 4 words get 5.9 % on an 8 x 8 grid, 2.7 % on "
    "12 x 12, 1.2 % on 18 x 18 and 0.25 % on 40 x 40.",
)

# %% [markdown]
# On the paper's grid a phrase of four words is one percent of what a pixel hears. Can training turn this up? Ask the trained network, over forty phrases.

# %%
shares, uniform = torch.zeros(layers), 0.0
grid = trained.config.model.grid
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
assert shares.max() > 3 * uniform

# %% [markdown]
# It can: the first layer gives the words many times their uniform share. But that had to be learnt. The shipped network learnt it where the words' share is large from the start: 16,000 steps on an 8 x 8 grid, and only then 4,000 on 16 x 16 (its card has the commands, `trained.card["commands"]`). Does a finer grid learn later? The setting is `model.grid=12`, if you want to see for yourself.
#
# ## What attention costs
#
# Section 4.3 of the paper: grids finer than 18 x 18 could not be trained on an RTX 2080 Ti (a card with 11 GB) “due to memory limits induced by multi-head attention”. The methods beside it use 40 x 40. Do the sum first: three levels, two layers, eight heads, a weight for each pair of tokens, four bytes each.


# %%
# NBVAL_CHECK_OUTPUT
def weights_alone(grid, words=25, levels=3, layers=2, heads=8):
    """MiB of attention weights a sample, in 32-bit numbers."""
    return levels * layers * heads * (grid**2 + words) ** 2 * 4 / 2**20


for side in (18, 40):
    print(f"{side} x {side}: {weights_alone(side):.0f} MiB a sample")
    print(f"         {50 * weights_alone(side) / 1024:.1f} GiB a batch of 50")

# %% [markdown]
# The side grows 2.2 times, the weights nearly 22 times. But must they be kept? `MultiHeadAttention` forms the weights only if you ask for them. Otherwise it calls PyTorch's `scaled_dot_product_attention`, which works through the rows in pieces and computes a piece again where the backward pass needs it. `saved_bytes` counts what is kept for the backward pass.

# %%
from shnet_course.measure.memory import MIB, saved_bytes
from shnet_lib.model.sfm import ReleasedSFM

block = ReleasedSFM(channels=512, heads=8, layers=2, feedforward=256)


def sfm_memory(grid, keep_weights):
    """MiB kept a sample: one level, times three."""
    joint = torch.randn(1, grid**2 + 25, 512, requires_grad=True)
    keep = torch.ones(joint.shape[:2], dtype=torch.bool)
    places = torch.zeros(joint.shape[1:])
    return 3 * saved_bytes(lambda: block(joint, places, keep, keep_weights), block) / MIB


# %%
from shnet_course.pictures.lesson_03 import draw_memory

sides = [8, 12, 18, 24, 32, 40]
measured = {
    "weights kept": [sfm_memory(side, True) for side in sides],
    "weights never kept": [sfm_memory(side, False) for side in sides],
}
figures = "; ".join(f"{name}, {values[-1]:.0f} MiB" for name, values in measured.items())
show(
    draw_memory(sides, measured, {"the weights alone": [weights_alone(s) for s in sides]}),
    alt=f"MiB a sample against the grid's side, rising steeply with weights kept. At 40: {figures}.",
)

# %% [markdown]
# Without weights the memory grows with the number of tokens, not with its square. The result is the same (the library's tests compare both ways). The upper line is the sum of the two others: the weights come on top of everything else that SFM keeps.
#
# Does 40 x 40 fit now? The rest of the network counts too. It keeps something for every cell of the grid, so measure it once on 18 x 18 and scale it by the number of cells.

# %%
from shnet_lib.model import ModelConfig

config = ModelConfig(backbone_weights="random", word_vectors="onehot", sfm="released")
network = SHNet(config, vocabulary_size=30).eval()
batch = {
    "levels": [torch.randn(1, c, 20, 20) for c in network.backbone.level_channels],
    "image_index": torch.tensor([0]),
    "words": torch.randint(30, (1, 25)),
    "word_mask": torch.ones(1, 25, dtype=torch.bool),
}
whole = saved_bytes(lambda: network(batch), network) / MIB
rest = whole - measured["weights never kept"][sides.index(18)]
print(f"all but SFM keeps {rest:.0f} MiB a sample on 18 x 18")

# %%
from shnet_lib.model.shnet import PAPER, PAPER_WORDS, count_parameters

_, trainable, frozen = count_parameters(PAPER, PAPER_WORDS)[-1]
fixed = (16 * trainable + 4 * frozen) / MIB  # weight, gradient and AdamW's two averages
for side in (18, 40):
    others = rest * (side / 18) ** 2
    for name, values in measured.items():
        sample = values[sides.index(side)] + others
        fit = (11 * 1024 - fixed) / sample
        print(f"{side} x {side}, {name:18}: {sample:5.0f} MiB a sample, {fit:.0f} samples on 11 GB")

# %% [markdown]
# So on 11 GB and in 32-bit numbers, a batch of 50 fits on 18 x 18, and on 40 x 40 it does not, either way. Kept weights would be two fifths of a sample there (484 of 1,175 MiB), and not the only burden. But 50 need not be on the card at once: `accumulate` in the settings adds up the gradients of smaller batches before each step. BatchNorm then sees smaller batches; that is the one difference. And `precision="bf16"` (or `"fp16"` on a card of that age) keeps most numbers in half the bytes. The count leaves out what exists only for a moment, so plan with some room.
#
# ## What the paper does not say
#
# Equation 1 is not what the authors' code runs. `SFM("released", ...)` is.
#
# | the paper prints | the released code runs |
# |---|---|
# | LayerNorm, positions, attention | encoder layers: LayerNorm, attention, residual, LayerNorm, feed-forward, residual; a last LayerNorm |
# | one layer | two, by its README's command |
# | positions added to X: queries, keys and values | to queries and keys only |
# | levels “individually” | one SFM with shared weights, called on each level |
# | positions not specified | fixed sinusoids |
# | number of heads, C not given | 8 heads, C = 512 |
#
# How much does it matter? Count the parameters first.

# %%
# NBVAL_CHECK_OUTPUT
forms = {
    "printed": SFM("printed", channels=512, heads=8),
    "released": SFM("released", channels=512, heads=8, layers=2, feedforward=256),
}
for name, form in forms.items():
    print(f"{name:9} {sum(p.numel() for p in form.parameters()) / 1e6:.2f} M parameters")

# %% [markdown]
# Then the *residual*: the token is added to what attention gives it. Without it a token is only the mix of what it looked at. Before training it looks at everything, so all pixels should come out nearly alike. How much of the output differs from pixel to pixel?


# %%
def spread(level):
    """The part of a (B, C, H, W) map that is not the same at all pixels; 1 is all of it."""
    return float(level.var((2, 3), correction=0).mean() / level.square().mean())


torch.manual_seed(0)
random_levels = [torch.randn(1, 512, 18, 18) for _ in range(3)]
some_words, all_real = torch.randn(1, 8, 512), torch.ones(1, 8, dtype=torch.bool)
spreads = {}
with torch.no_grad():
    for name, form in forms.items():
        fused_visual, _, _ = form(random_levels, some_words, all_real)
        spreads[name] = spread(fused_visual[0])
print({name: round(value, 2) for name, value in spreads.items()})
assert spreads["printed"] < spreads["released"]

# %% [markdown]
# In the printed form the pixels have to find their differences again through learnt attention. The library builds and trains both forms, `model.sfm=printed` and `model.sfm=released`. Which is better, the paper does not say, and one run each would not tell (lesson 08).

# %% [markdown]
# ## What you have seen
#
# - You computed attention over six tokens by hand, and its map had four blocks: pixel-pixel, pixel-word, word-pixel, word-word.
# - Eq. 1 was three lines, equal to the library's `PrintedSFM`.
# - Padding, masked, moved no logit; without positions a shuffled image gave the shuffled answer.
# - The authors' code has residuals, a feed-forward part and a second layer that Eq. 1 does not print. The presets train that form.
# - Kept attention weights grew with the square of the number of tokens; not kept, with the number. 40 x 40 fits on 11 GB in smaller batches.
#
# Practise: [the exercises of this lesson](../exercises/03_sfm_ex.ipynb).
#
# Next: [04 · HCAM](04_hcam.ipynb), where the three levels ask each other.
