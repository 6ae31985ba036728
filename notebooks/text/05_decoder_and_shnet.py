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
# *Section 3.4, Figure 2 · 40 minutes to read, 20 seconds to run on two CPU cores*
#
# **You need to know** convolutions in PyTorch, and what the context $G$ of lesson 04 is.
#
# In this lesson you will
#
# - build ASPP by hand, and prove that one of its 3 × 3 convolutions is a 1 × 1 convolution at the paper's size;
# - measure what the order of up-sampling and thresholding costs;
# - see a loss that learns nothing from its worst mistake, and the form of it that does learn;
# - assemble the network of Figure 2, load trained weights into it, and follow a scene and a photograph to their masks;
# - read the shapes and the cost of every part off a run.

# %% [markdown]
# ## From 324 cells to a mask
#
# HCAM leaves $G$: 512 channels at each cell of an 18 × 18 grid. One cell covers about 18 × 18 pixels of the photo. How does one get from there to the outline of a thing? Section 3.4 answers in two sentences and no equation: *Atrous Spatial Pyramid Pooling* (ASPP), an *up-sampling convolution*, and a pixel-level binary cross-entropy. We take them apart, then put the network together.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture(lit={"decoder", "mask"}))

# %% [markdown]
# ## A kernel with holes
#
# "Atrous" means *with holes*. A 3 × 3 kernel at rate $r$ reads nine pixels that lie $r$ apart; call them its *taps*:
#
# $$y[p] = \sum_{a=-1}^{1} \sum_{b=-1}^{1} w[a, b] \; x[p + r\,(a, b)]$$
#
# A tap beyond the border reads the padding, 0. Take a 5 × 5 map, rate 2, and the pixel in the middle. By hand:

# %% tags=["nbval-check-output"]
import torch

x = torch.arange(25.0).view(5, 5)
w = torch.tensor([[1.0, 0, 1], [0, 2, 0], [1, 0, 1]])

nine = x[0::2, 0::2]  # rows 0, 2, 4 and columns 0, 2, 4: the taps of the middle pixel
print(nine)
print("the middle pixel becomes", (w * nine).sum().item())

# %% [markdown]
# For every pixel at once, shift the padded map nine times and add:

# %% tags=["nbval-check-output"]
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


by_torch = F.conv2d(x[None, None], w[None, None], padding=2, dilation=2)[0, 0]
assert torch.equal(atrous(x, w, rate=2), by_torch)
print(atrous(x, w, rate=2))

# %% [markdown]
# ## ASPP: five looks at one map
#
# A thing may fill one cell or half the grid. So ASPP (Chen et al., 2018) looks at $G$ in five ways and joins the results: each cell alone, 3 × 3 kernels at the released code's rates 6, 12 and 24, and the average of all cells. Each look is a convolution, a BatchNorm and a ReLU. A last 1 × 1 convolution mixes the 5 × 512 channels back to 512. Written out, with the weights of the library's module:


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


# %% tags=["nbval-check-output"]
from shnet_lib.model.decoder import ASPP

torch.manual_seed(0)
aspp = ASPP(channels=16, dropout=0.0).eval()
context = torch.randn(2, 16, 18, 18)  # G, with 16 channels in place of 512
with torch.no_grad():
    assert torch.allclose(aspp_by_hand(aspp, context), aspp(context), atol=1e-5)
print("the lesson's ASPP and the library's agree:", tuple(aspp(context).shape))

# %% [markdown]
# ## Rate 24 on 18 × 18
#
# **Predict:** the rates are 6, 12 and 24, and the grid is 18 × 18. For which of the three rates does a 3 × 3 kernel give the same output as its centre weight alone?

# %% tags=["nbval-check-output"]
for rate, branch in zip(ASPP.rates, aspp.atrous, strict=True):
    weight = branch[0].weight  # (16, 16, 3, 3)
    with torch.no_grad():
        whole = F.conv2d(context, weight, padding=rate, dilation=rate)
        centre = F.conv2d(context, weight[:, :, 1:2, 1:2])  # a 1 x 1 convolution
    print(f"rate {rate:2}: the same as its centre alone?", torch.allclose(whole, centre, atol=1e-5))

# %% [markdown]
# 24 cells away from any cell one is outside an 18 × 18 grid. So at the paper's grid the rate-24 branch *is* a 1 × 1 convolution, and eight ninths of its 2.4 million weights are only ever multiplied by zeros. At rate 12 the cells in the *middle* see only themselves. Move the slider: from which grid on does a rate see more than its own cell?

# %%
from ipywidgets import IntSlider

from shnet_course.pictures.lesson_05 import draw_taps
from shnet_course.widgets import explore

explore(draw_taps, grid=IntSlider(18, min=4, max=48, step=2))

# %% [markdown]
# **Now you:** [A kernel with holes](../exercises/05_decoder_and_shnet_ex.ipynb), the first exercise of this lesson.
#
# ## Up-sampling: first enlarge, then decide
#
# After ASPP come 3 × 3 convolutions. Behind each of the first two the map doubles: 18, 36, 72. The last convolution leaves one *logit* per cell; a logit above 0 means "more likely the thing than not". Then a bilinear step enlarges the map to the size at which the network sees the photo.
#
# **Predict:** does it matter whether one enlarges the soft map and then decides, or decides on the small grid and enlarges the answer? Give both orders the best map that a grid can hold, the share of each cell that the thing covers:

# %%
from pathlib import Path

from shnet_course.pictures.lesson_05 import draw_planes
from shnet_lib.data import read_expressions

val = read_expressions(Path("../data/refshapes"), "refshapes-unc", "val")
target = torch.from_numpy(val[294].mask())  # (128, 128)


def both_orders(target, grid):
    """The best soft map of a grid -> the mask enlarged before, and after, the decision."""
    share = F.adaptive_avg_pool2d(target.float()[None, None], grid)  # (1, 1, grid, grid)
    enlarged = F.interpolate(share, size=target.shape, mode="bilinear")
    decided = F.interpolate((share > 0.5).float(), size=target.shape, mode="nearest")
    return share[0, 0], enlarged[0, 0] > 0.5, decided[0, 0] > 0.5


titles = ["target, 128 × 128", "soft map, 16 × 16", "enlarge, then decide", "decide, then enlarge"]
show(draw_planes([target, *both_orders(target, grid=16)], titles))

# %% [markdown]
# One picture may flatter. Over 200 masks:

# %% tags=["nbval-check-output"]
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
# Enlarging first is better at every size, by about ten points at 16 × 16 and at 32 × 32. On an 8 × 8 grid a typical thing covers two to three cells, and both orders lose nearly half. So a larger map is worth having: the decoder doubles its map twice *before* it gives its logits. And nothing should be decided before the last step.
#
# The up-sampling convolution itself is short. By hand, and against the library:

# %% tags=["nbval-check-output"]
from shnet_lib.model.decoder import UpsamplingConvolution


def upsample_by_hand(module, context):
    """(B, C, H, W) -> logits (B, 1, 4H, 4W)."""
    for i, (conv, norm, _dropout, relu) in enumerate(module.steps):
        context = relu(norm(F.conv2d(context, conv.weight, conv.bias, padding=1)))
        if i < 2:  # the map doubles behind the first two
            context = F.interpolate(context, scale_factor=2, mode="bilinear", align_corners=True)
    return F.conv2d(context, module.logits.weight, module.logits.bias, padding=1)


upsample = UpsamplingConvolution(16, widths=(16, 16, 16, 8), dropout=0.2).eval()
with torch.no_grad():
    assert torch.allclose(upsample_by_hand(upsample, context), upsample(context), atol=1e-5)
print(tuple(context.shape), "->", tuple(upsample(context).shape))

# %% [markdown]
# **Now you:** [Enlarge, then decide](../exercises/05_decoder_and_shnet_ex.ipynb).
#
# ## The loss, on logits
#
# Section 3.4 names the *pixel-level binary cross-entropy* between the mask $S$ (`mask_logits`) and the truth $Y$ (`target`). Written with the logit $z$ of a pixel and its truth $y$:
#
# $$\mathrm{BCE}(z, y) = -\,y \log \sigma(z) - (1 - y) \log(1 - \sigma(z)), \qquad \frac{\partial\, \mathrm{BCE}}{\partial z} = \sigma(z) - y$$
#
# Look at the gradient: the more wrong the logit, the stronger the gradient, up to 1. Now let a background pixel ($y = 0$) have the logit 18, a mistake made with great confidence. There are two ways to compute the same formula. **Predict** the gradient of each:

# %% tags=["nbval-check-output"]
z, y = torch.tensor(18.0, requires_grad=True), torch.tensor(0.0)

F.binary_cross_entropy(torch.sigmoid(z), y).backward()
print("sigmoid, then BCE: gradient", z.grad.item())

z.grad = None
F.binary_cross_entropy_with_logits(z, y).backward()
print("BCE on logits:     gradient", round(z.grad.item(), 3))

# %% [markdown]
# The first gradient is exactly zero. In 32 bits $\sigma(18)$ is rounded to 1. The slope $\sigma(1 - \sigma)$ is then 0, and the loss learns nothing from its worst mistake. On logits, $\sigma$ and the logarithm are one function, so nothing is rounded away. In 16-bit floats the trap opens much earlier:

# %%
from shnet_course.pictures.lesson_05 import draw_gradients

logits = torch.linspace(-5, 25, 601)


def gradient(loss, kind):
    z = logits.clone().to(kind).requires_grad_()
    loss(z, torch.zeros_like(z), reduction="sum").backward()
    return z.grad.float().numpy()


def sigmoid_first(z, y, reduction):
    return F.binary_cross_entropy(z.sigmoid(), y, reduction=reduction)


curves = {"on logits": gradient(F.binary_cross_entropy_with_logits, torch.float32)}
curves["sigmoid, then BCE, 32 bits"] = gradient(sigmoid_first, torch.float32)
curves["sigmoid, then BCE, bfloat16"] = gradient(sigmoid_first, torch.bfloat16)
show(draw_gradients(logits.numpy(), curves))

# %% [markdown]
# **Now you:** [The loss on logits](../exercises/05_decoder_and_shnet_ex.ipynb).
#
# ## Assemble the network
#
# Figure 2 puts the parts in a row. First come the parts, each with its lesson, then what runs through them. `first_edition` is a setting of the shipped weights: they were trained before this course put the released code's LeakyReLU behind HCAM.

# %%
from shnet_lib.model.backbone import build_backbone
from shnet_lib.model.features import LevelProjection, WordEncoder, onehot_vectors
from shnet_lib.model.hcam import HCAM
from shnet_lib.model.sfm import SFM


class Parts(torch.nn.Module):
    def __init__(self, config, word_vectors):
        super().__init__()
        self.config, C = config, config.channels
        self.backbone = build_backbone(config.backbone, config.backbone_weights)  # 02
        levels = self.backbone.level_channels
        self.projections = torch.nn.ModuleList(LevelProjection(c, C, config.grid) for c in levels)
        self.word_encoder = WordEncoder(word_vectors, C, trainable=False)
        sizes = config.heads, config.sfm_layers, config.sfm_feedforward  # 03
        self.sfm = SFM("released", C, *sizes)
        self.fusion = HCAM(C)  # 04
        self.aspp = ASPP(C, config.aspp_dropout)  # 05
        self.upsample = UpsamplingConvolution(C, config.decoder_widths, config.decoder_dropout)


# %%
class MySHNet(Parts):
    def forward(self, images, words, word_mask):
        """Figure 2, one line per arrow: (B, 3, S, S), (B, T), (B, T) -> mask logits (B, S, S)."""
        levels = self.backbone(images)  # three (B, C_i, h_i, w_i)
        visual = [project(level) for project, level in zip(self.projections, levels, strict=True)]
        word_feats = self.word_encoder(words)  # V three (B, C, H, W), and L (B, T, C)
        visual, words, _ = self.sfm(visual, word_feats, word_mask)  # f^v and f^l, three each
        context = self.fusion(visual, words, word_mask)  # G (B, C, H, W)
        if not self.config.first_edition:
            context = F.leaky_relu(context)
        logits = self.upsample(self.aspp(context))  # (B, 1, 4H, 4W)
        corners = not self.config.first_edition
        return F.interpolate(
            logits, self.config.image_size, mode="bilinear", align_corners=corners
        ).squeeze(1)


# %% [markdown]
# Do the shipped weights fit? `load_state_dict` refuses if one name or one shape differs. **Predict** the difference from the library's network on one scene and one phrase: 0, about $10^{-6}$, or more?

# %% tags=["nbval-check-output"]
from torchvision.tv_tensors import Image

from shnet_course.pictures.base import photo_of
from shnet_lib import load_shnet
from shnet_lib.data.dataset import resize_and_normalize

shipped = load_shnet("../data/weights/shnet_refshapes")
config, vocabulary = shipped.config.model, shipped.vocabulary
mine = MySHNet(config, onehot_vectors(len(vocabulary))).eval()
print(mine.load_state_dict(shipped.network.state_dict()))


def read(photo, phrase, trained):
    """(H, W, 3), a text -> images (1, 3, S, S), words (1, T), word_mask (1, T)."""
    pixels = Image(torch.from_numpy(photo.copy()).permute(2, 0, 1))  # (3, H, W)
    images = resize_and_normalize(trained.config.model.image_size)(pixels)[None]
    words = torch.tensor([trained.vocabulary.encode(phrase, max_words=25)])
    return images, words, torch.ones_like(words, dtype=torch.bool)


# %% tags=["nbval-check-output"]
expression = next(e for e in val if e.text == "green square at top")
photo, phrase = photo_of(expression), expression.text.split()
images, words, word_mask = read(photo, expression.text, shipped)
batch = {"images": images, "words": words, "word_mask": word_mask}
batch["image_index"] = torch.tensor([0])  # the phrase belongs to the first image
with torch.inference_mode():
    my_logits = mine(images, words, word_mask)
    difference = (my_logits - shipped.network.eval()(batch)).abs().max().item()
assert difference == 0
print("difference from the library's network:", difference)

# %% [markdown]
# Exactly 0: the same operations on the same numbers in the same order. You have written the network.
#
# **Now you:** [The forward pass](../exercises/05_decoder_and_shnet_ex.ipynb), with several expressions per photo.
#
# ## One scene, from phrase to mask
#
# Follow “green square at top” along the arrows. Take one cell inside the target, and ask after each arrow how alike all other cells are to it. The measure is the cosine between two cells' channels: 1 for the same direction, 0 for nothing in common.

# %%
from shnet_course.pictures.lesson_05 import draw_cells_alike

share = F.adaptive_avg_pool2d(torch.tensor(expression.mask())[None].float(), config.grid)[0]
y, x = divmod(int(share.argmax()), config.grid)  # the cell that the target fills most


def alike(features):
    """(1, C, H, W) -> the cosine of each cell with cell (y, x), (H, W)."""
    return F.cosine_similarity(features[0], features[0, :, y, x, None, None], dim=0).numpy()


with torch.inference_mode():
    levels = mine.backbone(images)
    visual = [project(level) for project, level in zip(mine.projections, levels, strict=True)]
before = {f"$V_{i}$": alike(level) for i, level in zip((2, 3, 4), visual, strict=True)}
show(draw_cells_alike(photo, before, (y, x)))

# %% [markdown]
# **Image to levels.** The image has not heard the phrase yet. At every level the other green thing is most like ours, at level 4 as good as the same (0.99): the features say *what*, not *which one*.
#
# **Phrase to words.** The LSTM reads from left to right, so each word knows the words before it. How alike are the four?

# %%
from shnet_course.pictures.lesson_05 import draw_words_alike

with torch.inference_mode():
    word_feats = mine.word_encoder(words)  # (1, T, C)
directions = F.normalize(word_feats[0], dim=-1)
show(draw_words_alike(phrase, (directions @ directions.T).numpy()))

# %% [markdown]
# **Both to SFM.** The 256 cells and the 4 words become one sequence of 260 tokens. Here is one row of the attention at level 4, layer 1: what our cell takes from all tokens, averaged over the heads.

# %%
from shnet_course.pictures.lesson_03 import draw_attention_of

with torch.inference_mode():
    fused, fused_words, attention = mine.sfm(visual, word_feats, word_mask, return_attention=True)
attention = [[layer[0] for layer in level] for level in attention]  # without the batch
row = draw_attention_of(photo, attention, phrase, token=y * config.grid + x, level=4, layer=1)
row.set_label("What the cell in the green square takes at level 4, layer 1: most from the words.")
show(row)

# %% [markdown]
# The cell gives two thirds of its attention to four words, “square” and “green” first. An even look would give them 1.5 %. What has that done to the cells?

# %%
after = {f"$f^v_{i}$": alike(level) for i, level in zip((2, 3, 4), fused, strict=True)}
show(draw_cells_alike(photo, after, (y, x)))

# %% [markdown]
# After SFM the target stands apart from the other green thing, most clearly at level 4. The cells now say *which one*.
#
# **To HCAM.** Six gates decide what each level takes from the other two. Of each the channel that varies most:

# %%
from shnet_course.pictures.lesson_05 import draw_gates
from shnet_lib.model.features import average_words
from shnet_lib.model.hcam import OTHERS

gates = {}
with torch.inference_mode():
    sentences = [average_words(level, word_mask) for level in fused_words]
    for i, others in OTHERS.items():
        maps = mine.fusion.affinity[i](fused[i], [sentences[j] for j in others])
        gates |= {(i + 2, j + 2): m[0].numpy() for j, m in zip(others, maps, strict=True)}
show(draw_gates(gates))

# %% [markdown]
# **To the context, and to the mask.** Three levels become one map $G$, and ASPP and the up-sampling convolution turn it into 64 × 64 logits. The bilinear step enlarges the logits, and only then 0 decides.

# %%
from shnet_course.pictures.lesson_05 import draw_last_steps

with torch.inference_mode():
    context = mine.fusion(fused, fused_words, word_mask)  # G (1, C, H, W)
    logits = mine.upsample(mine.aspp(context))[0, 0]  # (4H, 4W)
steps = {"$V_4$": before["$V_4$"], "$f^v_4$": after["$f^v_4$"], "$G$": alike(context)}
show(draw_cells_alike(photo, steps, (y, x)))
mask = my_logits[0] > 0  # (128, 128)
show(draw_last_steps(photo, logits.numpy(), mask.numpy(), expression.mask(), expression.text))

# %% [markdown]
# In $G$ the target's cells agree with one another. Change the phrase that `read` is given, and run again: which pictures cannot change?
#
# ### Your class on a photograph
#
# Lesson 00's network for photos has another backbone, vectors of 50 numbers per word, and one layer of SFM. **Predict:** what has to be changed in `MySHNet`?

# %%
from refgen.own_example import write_own_example
from shnet_lib import predict

write_own_example(Path("../runs/own_example"))  # masks and phrases of ours, on packages' photos
own = read_expressions("../runs/own_example", "own", "train")
cup = next(e for e in own if e.text == "the cup")

of_photos = load_shnet("../data/weights/shnet_photos")
vectors = of_photos.network.word_encoder.embedding.weight.detach()  # (words, 50)
on_photos = MySHNet(of_photos.config.model, vectors).eval()
on_photos.load_state_dict(of_photos.network.state_dict())
with torch.inference_mode():
    logits = on_photos(*read(cup.photo(), cup.text, of_photos))  # (1, 320, 320)
probability = F.interpolate(logits.sigmoid()[None], cup.photo().shape[:2], mode="bilinear")
mask = probability[0, 0].numpy() > 0.5
assert (mask == predict(of_photos, cup.photo(), cup.text).mask).all()
show(draw_last_steps(cup.photo(), logits[0].numpy(), mask, cup.mask(), cup.text))

# %% [markdown]
# Nothing: settings and weights are enough. The mask is `predict`'s, pixel by pixel, and less good than the scene's: the highest logit is 5 instead of 14, and it takes the spoon and much of the saucer with it.
#
# ## The whole network, traced
#
# Figure 2 has no shapes. A *forward hook* is a function that PyTorch calls after a module ran. `trace_shapes` hangs one on each part. The batch has 2 photos with 5 expressions of 6 words. The network has the paper's size; on PyTorch's `meta` device tensors have shapes but no numbers.

# %%
from shnet_course.measure.trace import trace_shapes, weightless
from shnet_course.pictures.lesson_05 import draw_trace
from shnet_lib.model.shnet import ModelConfig

paper = ModelConfig(backbone="resnet101")
show(draw_trace(trace_shapes(*weightless(paper, images=2, expressions=5, words=6))))

# %% [markdown]
# Read it from the left. The backbone and the three projections run on the 2 *photos*, everything from SFM on runs on the 5 *expressions*: `image_index` has given each its photo. In SFM pixels and words make the one sequence of lesson 03, $18 \cdot 18 + 6 = 330$ tokens.
#
# ## What it costs
#
# `count_parameters` and `count_flops` read the same network, for one photo and one expression. A multiplication and an addition are two operations (FLOP). **Predict:** which part has the most trained parameters, and which does the most work?

# %% tags=["nbval-check-output"]
from shnet_course.measure.trace import PAPER_WORDS, count_flops, count_parameters
from shnet_lib.model.shnet import PAPER

parameters = count_parameters(PAPER, PAPER_WORDS)
flops = count_flops(paper)
_, trained, frozen = parameters[-1]
print(f"trained {trained / 1e6:.1f} M, frozen {frozen / 1e6:.1f} M, {flops[-1][1] / 1e9:.1f} GFLOP")

from shnet_course.pictures.lesson_05 import draw_cost

cost = [(p[0], p[1] / 1e6, f[1] / 1e9) for p, f in zip(parameters[:-1], flops[:-1], strict=True)]
names = {"fusion": "HCAM", "sfm": "SFM", "aspp": "ASPP", "upsample": "up-sampling"}
show(draw_cost([(names.get(part, part.replace("_", " ")), *rest) for part, *rest in cost]))

# %% [markdown]
# 62.2 million parameters are trained, the same number everywhere in this course. The two modules that the paper proposes, SFM and HCAM, are two fifths of them and a fifth of the work. Of what is trained, the decoder does the most work, because its last convolutions run at 72 × 72 cells.
#
# <details><summary><b>Aside:</b> other counts that you may meet</summary>
#
# The released code trains 59.2 million, because it leaves the word vectors alone; its option for a wider feed-forward network in SFM makes them 59.8 million. As Eq. 2 is printed, HCAM takes 22.9 GFLOP, and to double each map and then convolve it 44.4. The library needs 9.4 and 23.0, with equal outputs.
#
# </details>
#
# ## What the paper does not say
#
# A reader has to choose three things:
#
# | open in the paper | the released code | this course |
# |---|---|---|
# | width of the decoder | 512-512-512-256-1 (a smaller one is commented out) | the same; 512-256-256-1 would have 4.1 M parameters and 4.7 GFLOP |
# | where the loss is taken | sigmoid, then BCE, at 56 × 56 or 160 × 160, against a dilated mask | BCE on logits, at the input size, against the nearest pixel |
# | which corners meet when a map is enlarged | those of the maps | the same; mixing two ways shifts the border by up to 0.22 cells |
#
# ## Five questions
#
# 1. Why is ASPP's rate 24 useful on a 40 × 40 grid and not on 18 × 18?
# 2. A colleague thresholds the small logits and then enlarges the result. What does it cost?
# 3. With sigmoid, then BCE, wrong pixels at logit 20 stay wrong. Why?
# 4. Two green things were alike before SFM and different after it. Which part of the network brought in the phrase?
# 5. Why does the network run the backbone on images and SFM on expressions?
#
# <details><summary>Answers</summary>
#
# 1. On 18 × 18 eight of its nine taps always read padding. On 40 × 40 that falls to 64 % of all taps.
# 2. About ten points of IoU: the soft edge is lost before it is used.
# 3. In 32 bits the sigmoid of 20 is 1, so its slope is 0, and these pixels send no gradient.
# 4. SFM: until then no cell had taken anything from a word.
# 5. Several expressions describe one image; it is computed once.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - ASPP came from nine shifted maps, and agreed with the library's. At 18 × 18 its rate-24 branch was a 1 × 1 convolution, and rate 12 read padding with seven taps of ten.
# - Enlarging before deciding was better on every grid, by ten points at 16 × 16.
# - Sigmoid, then BCE, had the gradient 0 at logit 18; BCE on logits had 1.
# - You wrote the network of Figure 2. The shipped weights gave the library's logits, difference 0, and a scene and a photograph went from phrase to mask.
# - Hooks wrote down the shapes of a run: 62.2 million parameters are trained, and of the trained parts the decoder does the most work.
#
# Practise: [the exercises of this lesson](../exercises/05_decoder_and_shnet_ex.ipynb).
#
# Next: [06 · Training](06_training.ipynb).
