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
# # 05 · The mask decoder and the whole model
#
# *Section 3.4, Figure 2 · 9 seconds on two CPU cores*
#
# **You need to know** convolutions in PyTorch, and what the context $G$ of lesson 04 is.
#
# In this lesson you will
#
# - build ASPP by hand, and prove that one of its 3 × 3 convolutions is a 1 × 1 convolution at the paper's size;
# - measure what the order of up-sampling and thresholding costs;
# - see a loss that learns nothing from its worst mistake, and the form of it that does learn;
# - draw the whole network with the shapes that really run through it;
# - count its parameters and operations, part by part.

# %% [markdown]
# ## From 324 cells to a mask
#
# HCAM leaves $G$: 512 numbers (the released code's width) at each cell of an 18 × 18 grid. The photo has 320 × 320 pixels, so that a cell covers about 18 × 18 of them. How does one get from there to the outline of a thing? Section 3.4 answers in two sentences: $G$ goes through *Atrous Spatial Pyramid Pooling* (ASPP) and an *up-sampling convolution*, and a pixel-level binary cross-entropy trains the network. No equation is printed. This lesson takes the sentences apart.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(
    draw_architecture(lit={"decoder", "mask"}),
    alt="The network as boxes from photo and phrase to the mask. The last two are lit: ASPP with "
    "up-sampling, and the mask.",
)

# %% [markdown]
# ## A kernel with holes
#
# "Atrous" means *with holes*. A 3 × 3 kernel at rate $r$ reads nine pixels that lie $r$ apart; call them its *taps*. In a formula:
#
# $$y[p] = \sum_{a=-1}^{1} \sum_{b=-1}^{1} w[a, b] \; x[p + r\,(a, b)]$$
#
# A tap beyond the border reads 0, the padding. Take a 5 × 5 map, rate 2, and the pixel in the middle. By hand:

# %%
# NBVAL_CHECK_OUTPUT
import torch

x = torch.arange(25.0).view(5, 5)
w = torch.tensor([[1.0, 0, 1], [0, 2, 0], [1, 0, 1]])

nine = x[0::2, 0::2]  # rows 0, 2, 4 and columns 0, 2, 4: the taps of the middle pixel
print(nine)
print("the middle pixel becomes", (w * nine).sum().item())

# %% [markdown]
# For every pixel at once, shift the padded map nine times and add:

# %%
import torch.nn.functional as F


def atrous(x, w, rate):
    """(H, W) and a kernel (3, 3) -> (H, W)."""
    height, width = x.shape
    padded = F.pad(x, [rate] * 4)  # zeros around
    return sum(
        w[a, b] * padded[a * rate : a * rate + height, b * rate : b * rate + width]
        for a in range(3)
        for b in range(3)
    )


# %%
# NBVAL_CHECK_OUTPUT
by_torch = F.conv2d(x[None, None], w[None, None], padding=2, dilation=2)[0, 0]
assert torch.equal(atrous(x, w, rate=2), by_torch)
print(atrous(x, w, rate=2))

# %% [markdown]
# ## ASPP: five looks at one map
#
# A thing may fill one cell or half the grid. ASPP (Chen et al., 2018, whom section 3.4 cites) therefore looks at $G$ in five ways and joins what it saw: each cell alone, 3 × 3 kernels at the rates 6, 12 and 24, and the average of all cells. The paper prints no rates; these are the released code's. Each look is a convolution, a BatchNorm and a ReLU. A last 1 × 1 convolution mixes the 5 × 512 channels back to 512.

# %%
import inspect

from shnet_lib.model.decoder import ASPP

print(inspect.getsource(ASPP.forward))


# %% [markdown]
# Written out, with the convolutions' own weights:


# %%
def look(step, context, rate):
    """Convolution, BatchNorm, ReLU of one branch: (B, C, H, W) -> (B, C', H, W)."""
    conv, norm = step[0], step[1]
    padding = rate if conv.kernel_size == (3, 3) else 0
    y = F.conv2d(context, conv.weight, padding=padding, dilation=rate)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    y = (y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    return y.relu()


def aspp_by_hand(aspp, context):
    """G (B, C, H, W) -> (B, C, H, W)."""
    looks = [look(aspp.pixel, context, 1)]
    looks += [
        look(step, context, rate) for step, rate in zip(aspp.atrous, (6, 12, 24), strict=True)
    ]
    average = context.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    looks += [look(aspp.image, average, 1).expand_as(context)]
    return look(aspp.project, torch.cat(looks, dim=1), 1)  # (B, 5C, H, W) -> (B, C, H, W)


# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
aspp = ASPP(channels=16, dropout=0.0).eval()
context = torch.randn(2, 16, 18, 18)  # G, with 16 channels in place of 512
with torch.no_grad():
    assert torch.allclose(aspp_by_hand(aspp, context), aspp(context), atol=1e-5)
print("the lesson's ASPP and the library's agree:", tuple(aspp(context).shape))

# %% [markdown]
# ## Rate 24 on 18 × 18
#
# 24 cells away from any cell of an 18 × 18 grid one is outside of it. Eight of the nine taps then always read zeros. If that is so, the centre weight alone must give the same output:

# %%
# NBVAL_CHECK_OUTPUT
for rate, branch in zip(ASPP.rates, aspp.atrous, strict=True):
    weight = branch[0].weight  # (16, 16, 3, 3)
    with torch.no_grad():
        whole = F.conv2d(context, weight, padding=rate, dilation=rate)
        centre = F.conv2d(context, weight[:, :, 1:2, 1:2])  # a 1 x 1 convolution
    print(f"rate {rate:2}: the same as its centre alone?", torch.allclose(whole, centre, atol=1e-5))

# %% [markdown]
# So at the paper's grid the rate-24 branch *is* a 1 × 1 convolution, and eight ninths of its 2.4 million weights are only ever multiplied by zeros. How much do the other rates lose, and on other grids? (8 is the grid of this course's preset `quick`, 40 that of the methods the paper compares with, section 4.3.)

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.pictures.lesson_05 import taps_inside

print("share of taps that read padding")
print("grid    rate 6  rate 12  rate 24")
for grid in (8, 18, 40):
    shares = [1 - taps_inside(grid, rate).mean() / 9 for rate in ASPP.rates]
    print(f"{grid:2} x {grid:2} " + "".join(f"{share:8.1%}" for share in shares))

# %% [markdown]
# Move the slider: from which grid on does a rate see anything beside its own cell? And where? At 18 × 18 and rate 12 it is the cells in the *middle* that see only themselves: both neighbours at distance 12 lie outside.

# %%
from ipywidgets import IntSlider

from shnet_course.pictures.lesson_05 import draw_taps
from shnet_course.widgets import explore

explore(
    draw_taps,
    "Three maps of a {grid} by {grid} grid: at each cell, how many of the nine taps at the rates 6, "
    "12 and 24 fall on the map. The share that reads padding stands above each.".format,
    grid=IntSlider(18, min=4, max=48, step=2),
)

# %% [markdown]
# ## Up-sampling: first enlarge, then decide
#
# After ASPP come 3 × 3 convolutions. Behind each of the first two the map doubles: 18, 36, 72. The last leaves one *logit* a cell: above 0 means "more likely the thing than not". Then a bilinear step enlarges the map to the size at which the network sees the photo.
#
# Does it matter whether one enlarges the soft map and then decides, or decides on the small grid and enlarges the answer? Give both the best map a grid could hold, the share of each cell that the thing covers:

# %%
from pathlib import Path

from shnet_lib.data import read_expressions

val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")
target = torch.from_numpy(val[294].mask())  # (128, 128)


def both_orders(target, grid):
    """The best soft map of a grid -> the mask enlarged before, and after, the decision."""
    share = F.adaptive_avg_pool2d(target.float()[None, None], grid)  # (1, 1, grid, grid)
    enlarged = F.interpolate(share, size=target.shape, mode="bilinear")
    decided = F.interpolate((share > 0.5).float(), size=target.shape, mode="nearest")
    return share[0, 0], enlarged[0, 0] > 0.5, decided[0, 0] > 0.5


# %%
from shnet_course.pictures.lesson_05 import draw_planes

share, enlarged, decided = both_orders(target, grid=16)
show(
    draw_planes(
        [target, share, enlarged, decided],
        ["target, 128 × 128", "soft map, 16 × 16", "enlarge, then decide", "decide, then enlarge"],
    ),
    alt="A mask; its 16 by 16 grey map; the mask from the enlarged grey map, a star with "
    "blunt tips; the mask decided on the small grid, a heap of squares.",
)

# %% [markdown]
# One picture may flatter. Over 200 masks:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.training.metrics import intersection_and_union, mean_iou


def ceiling(grid, order):
    """Mean IoU of the best map a grid can hold, over every second of 400 expressions."""
    counts = []
    for expression in val[:400:2]:
        target = torch.from_numpy(expression.mask())
        counts.append(intersection_and_union(both_orders(target, grid)[order], target))
    return mean_iou(*(torch.stack(part) for part in zip(*counts, strict=True)))


print("grid     enlarge first  decide first")
for grid in (8, 16, 32):
    print(f"{grid:2} x {grid:2}  {ceiling(grid, 1):13.2f}  {ceiling(grid, 2):12.2f}")

# %% [markdown]
# Enlarging first is better at every size, by about ten points at 16 × 16 and at 32 × 32. On an 8 × 8 grid, where the median thing of lesson 02 (4 % of the photo) covers two to three cells, both lose nearly half. So a larger map is worth having, and the decoder doubles its map twice *before* it gives its logits; and nothing should be decided before the last step. (These maps are not the last word: trained logits may lie so that the bilinear step brings the edge to a better place.)
#
# The up-sampling convolution itself is short. By hand, and against the library:

# %%
from shnet_lib.model.decoder import UpsamplingConvolution


def upsample_by_hand(module, context):
    """(B, C, H, W) -> logits (B, 1, 4H, 4W)."""
    for i, (conv, norm, relu, _dropout) in enumerate(module.steps):
        context = relu(norm(F.conv2d(context, conv.weight, conv.bias, padding=1)))
        if i < 2:  # the map doubles behind the first two
            context = F.interpolate(context, scale_factor=2, mode="bilinear", align_corners=True)
    return F.conv2d(context, module.logits.weight, module.logits.bias, padding=1)


# %%
# NBVAL_CHECK_OUTPUT
upsample = UpsamplingConvolution(16, widths=(16, 16, 16, 8), dropout=0.2).eval()
with torch.no_grad():
    assert torch.allclose(upsample_by_hand(upsample, context), upsample(context), atol=1e-5)
print(tuple(context.shape), "->", tuple(upsample(context).shape))

# %% [markdown]
# ## The loss, on logits
#
# Section 3.4 names the *pixel-level binary cross-entropy* between the mask $S$ and the truth $Y$. Written with the logit $z$ of a pixel and its truth $y$:
#
# $$\mathrm{BCE}(z, y) = -\,y \log \sigma(z) - (1 - y) \log(1 - \sigma(z)), \qquad \frac{\partial\, \mathrm{BCE}}{\partial z} = \sigma(z) - y$$
#
# Look at the gradient: the more wrong the logit, the stronger it is, up to 1. Now let a background pixel ($y = 0$) have the logit 18, a mistake made with great confidence. There are two ways to compute the same formula:

# %%
# NBVAL_CHECK_OUTPUT
z, y = torch.tensor(18.0, requires_grad=True), torch.tensor(0.0)

F.binary_cross_entropy(torch.sigmoid(z), y).backward()
print("sigmoid, then BCE: gradient", z.grad.item())

z.grad = None
F.binary_cross_entropy_with_logits(z, y).backward()
print("BCE on logits:     gradient", round(z.grad.item(), 3))

# %% [markdown]
# Exactly zero. In 32 bits $\sigma(18)$ is rounded to 1. Its slope $\sigma(1 - \sigma)$ is then 0, and the loss learns nothing from its worst mistake. On logits, $\sigma$ and the logarithm are one function and nothing is rounded away. In 16-bit floats the trap opens much earlier:

# %%
from shnet_course.pictures.lesson_05 import draw_gradients

logits = torch.linspace(-5, 25, 601)


def gradient(loss, kind):
    z = logits.clone().to(kind).requires_grad_()
    loss(z, torch.zeros_like(z)).backward()
    return z.grad.float().numpy()


def released(z, y):
    return F.binary_cross_entropy(torch.sigmoid(z), y, reduction="sum")


def ours(z, y):
    return F.binary_cross_entropy_with_logits(z, y, reduction="sum")


# %%
curves = {
    "on logits": gradient(ours, torch.float32),
    "sigmoid, then BCE, 32 bits": gradient(released, torch.float32),
    "sigmoid, then BCE, bfloat16": gradient(released, torch.bfloat16),
}
show(
    draw_gradients(logits.numpy(), curves),
    alt="Gradient against the logit of a background pixel. On logits it rises to 1 and stays. "
    "Sigmoid first falls to 0 at about 17 in 32 bits, and at about 6 in bfloat16.",
)

# %% [markdown]
# ## The whole network, traced
#
# Every part has now been built. `SHNet.forward` calls them in the order of Figure 2:

# %%
from shnet_lib.model.shnet import SHNet

source = inspect.getsource(SHNet.forward)
print(source[source.index("image_index, word_mask") :])

# %% [markdown]
# What runs along the arrows? A *forward hook* is a function that PyTorch calls after a module ran, with its inputs and outputs. `trace_shapes` hangs one on each part, runs a batch and writes the shapes down. The batch: 2 photos with 5 expressions of at most 6 words. The network: the paper's size with ResNet-101, on PyTorch's `meta` device, where tensors have shapes and no numbers, so that nothing has to be computed.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.measure.trace import trace_shapes, weightless
from shnet_lib.model.shnet import ModelConfig

paper = ModelConfig(backbone="resnet101")
rows = trace_shapes(*weightless(paper, images=2, expressions=5, words=6))
for row in rows[:6]:
    print(f"{row.part:14} {row.kind:16} -> {row.outputs[0]}")

# %%
from shnet_course.pictures.lesson_05 import draw_trace

show(
    draw_trace(rows),
    alt="Figure 2 with shapes. Photos 2x3x320x320 go through the backbone to three levels, each is "
    "projected to 512x18x18; words 5x6 become 5x6x512; SFM and HCAM join them to 5x512x18x18; ASPP "
    "keeps that; the up-sampling convolution gives 5x1x72x72, the last step 5x320x320.",
)

# %% [markdown]
# Read it from the left. The backbone and the three projections run on the 2 *photos*. From SFM on everything runs on the 5 *expressions*: `image_index` has given each one its photo. In SFM pixels and words make the one sequence of lesson 03, $18 \cdot 18 + 6 = 330$ tokens. This is the architecture diagram with its shapes read off a run, so that they cannot be out of date.
#
# The same function traces a real batch through a real network. And the rows of Table 2 are other settings of the same `ModelConfig`:

# %%
from shnet_course.pictures.lesson_05 import draw_variant
from shnet_lib.model.shnet import TABLE_2

explore(
    draw_variant, "The network of the row {row} of Table 2, with its shapes.".format, row=[*TABLE_2]
)

# %% [markdown]
# ## What it costs
#
# `count_parameters` and `count_flops` read the same network, for one photo and one expression. A multiplication and an addition are two operations (FLOP); a GFLOP is a billion. Of the 4.7 million numbers of `word_encoder`, 3.0 million are the vectors of 10,000 words: GloVe initialises them (section 4.2).

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.measure.trace import count_flops
from shnet_lib.model.shnet import PAPER, PAPER_WORDS, count_parameters

parameters = count_parameters(PAPER, PAPER_WORDS)
flops = count_flops(paper)
print("part           trained M  frozen M   GFLOP")
for (part, trained, frozen), (_, operations) in zip(parameters, flops, strict=True):
    print(f"{part:13} {trained / 1e6:10.1f} {frozen / 1e6:9.1f} {operations / 1e9:7.1f}")

# %%
from shnet_course.pictures.lesson_05 import draw_cost

cost = [(p[0], p[1] / 1e6, f[1] / 1e9) for p, f in zip(parameters[:-1], flops[:-1], strict=True)]
show(
    draw_cost(cost),
    alt="Bars a part. Trained parameters: HCAM 21.2 million, projections 16.5, ASPP 8.9, "
    "up-sampling 8.3, words 4.7, SFM 2.6, backbone none. Operations: backbone 32, up-sampling 23, "
    "projections 11, HCAM 9, SFM 8, ASPP 6 GFLOP.",
)

# %% [markdown]
# 62.2 million parameters are trained. (The released code trains 59.2 million, since it never trains the word vectors; its option for a wider feed-forward network in SFM, 512 in place of 256, makes them 59.8 million.) The two modules that the paper proposes, SFM and HCAM (`fusion`), are two fifths of them and a fifth of the work. Of what is trained, the decoder (`aspp` and `upsample`) does the most, since its last convolutions run at 72 × 72 cells. The paper gives it one sentence.
#
# Two parts would do more if they were written as one would first write them. HCAM, as Eq. 2 is printed: six convolutions over $[f^v_i; f^l_j]$, each with 1024 channels in, and one over three stacked levels. The library computes the visual half once for both $j$ and the sentence half on nine cells (lesson 04). Up-sampling, with each map doubled and then convolved: the library mixes channels before it doubles the map (`ConvolveDoubled`). The differences:

# %%
# NBVAL_CHECK_OUTPUT
cells, taps, C = 18 * 18, 9, 512
as_printed = 2 * cells * taps * (6 * (2 * C) * C + (3 * C) * C)
print(f"HCAM as printed {as_printed / 1e9:.1f} GFLOP, here {dict(flops)['fusion'] / 1e9:.1f}")

doubled = C * C + 4 * C * C + 16 * (C * C + C * 256 + 256)  # at 18, 36 and 72 cells a side
as_written = 2 * cells * taps * doubled
here = dict(flops)["upsample"]
print(f"up-sampling as written {as_written / 1e9:.1f} GFLOP, here {here / 1e9:.1f}")

# %% [markdown]
# ## What the paper does not say
#
# **How wide the decoder is.** Section 4.4 calls it "ASPP + ConvUpsample". The released code has a small `ConvUpsample` (512-256-256-1), commented out, and runs a larger one (512-512-512-256-1). This course runs the larger. What the choice costs:

# %%
# NBVAL_CHECK_OUTPUT
from dataclasses import replace

for widths in ((512, 512, 512, 256), (512, 256, 256)):
    config = replace(paper, decoder_widths=widths)
    trained = {part: n for part, n, _ in count_parameters(config, PAPER_WORDS)}["upsample"]
    print(widths, f"{trained / 1e6:.1f} M, {dict(count_flops(config))['upsample'] / 1e9:.1f} GFLOP")

# %% [markdown]
# **Where the loss is taken.** The released code applies a sigmoid, then BCE, at 56 × 56 or 160 × 160 pixels, against a mask that is resized bilinearly and then taken > 0. Lesson 07 measures what that does. This course has BCE on logits, at the network's input size, against the nearest pixel of the mask.
#
# **That a batch of one expression cannot train.** ASPP's average leaves a single number a channel and expression. BatchNorm over a batch of one then has no variance:

# %%
# NBVAL_CHECK_OUTPUT
try:
    ASPP(channels=16, dropout=0.0).train()(context[:1])
except ValueError as error:
    print(error)

# %% [markdown]
# **Which corners meet.** The two doublings in the decoder align the corners of the maps (`align_corners=True`, the released code's choice); so does its last step, from 4H x 4W to the size of the mask, and ours. Resizing the photo aligned the middles of pixels, as the printed form's last step does here. Mixing the two up shifts the mask. How far, on a ramp of 8 cells enlarged to 16?

# %%
# NBVAL_CHECK_OUTPUT
ramp = torch.arange(8.0)[None, None]
corners = F.interpolate(ramp, scale_factor=2, mode="linear", align_corners=True)
middles = F.interpolate(ramp, scale_factor=2, mode="linear", align_corners=False)
print(f"at most {(corners - middles).abs().max():.2f} cells apart, at the border")

# %% [markdown]
# ## What you have seen
#
# - ASPP came from nine shifted maps, and agreed with the library's. At 18 × 18 its rate-24 branch was a 1 × 1 convolution, and rate 12 read padding with seven taps of ten.
# - Enlarging before deciding was better on every grid, by ten points at 16 × 16.
# - Sigmoid and then BCE had the gradient 0 at logit 18; BCE on logits had 1.
# - Hooks wrote down the shapes of a run, and the architecture diagram was drawn from them.
# - 62.2 million parameters are trained; the decoder does the most work.
#
# Practise: [the exercises of this lesson](../exercises/05_decoder_and_shnet_ex.ipynb).
#
# Next: [06 · Training](06_training.ipynb).
