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
# *Section 3.1 · 40 minutes to read, 20 seconds to run on two CPU cores*
#
# **You need to know** [lesson 01](01_data_and_words.ipynb), and from PyTorch: tensors, `nn.Module`, what a convolution does.
#
# In this lesson you will
#
# - look at the levels 2, 3 and 4 of a real backbone on a real photo, beside those of a drawn scene;
# - bring all levels to one grid by hand, and find the same numbers in the library's `LevelProjection`;
# - measure which things vanish on a coarse grid, and what a fine one costs;
# - run an LSTM word by word, see what its last state forgets, and show that padding at the end changes nothing;
# - change a “frozen” layer without training it, and see what keeps a backbone frozen.

# %% [markdown]
# ## How do a photo and a phrase become comparable?
#
# A photo is three numbers per pixel, a phrase is a list of ids. To ask “does this place fit this word?” both must become the same kind of thing. In SHNet each cell of a grid and each word end as a vector of $C$ numbers. Section 3.1 of the paper says how.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"backbone", "levels", "words"}))

# %% [markdown]
# ## The backbone and its levels
#
# The paper takes a network that was trained for another task, and keeps it fixed (section 4.2): DeepLabv3+, trained to name the pixels of Pascal VOC's photos, or ResNet-101, trained to name ImageNet's. The choice was sensible: photos with phrases are few, photos with names are many.
#
# Both backbones are large downloads. A smaller network that knows ImageNet came with the course's installation, EfficientNet-Lite0 (Tan and Le, 2019). This network has never read a phrase.

# %% tags=["nbval-check-output"]
import torch
from skimage import data as samples
from torchvision.tv_tensors import Image

from shnet_lib.data.dataset import resize_and_normalize
from shnet_lib.model.backbone import build_backbone

photos = {"astronaut": samples.astronaut(), "cat": samples.chelsea()}
photos["motorcycle"], *_ = samples.stereo_motorcycle()  # each (height, width, 3)
backbone = build_backbone("efficientnet_lite0", weights="imagenet")
print(f"{sum(weight.numel() for weight in backbone.parameters()):,} numbers, none trained here")


# %% tags=["nbval-check-output"]
def levels_of(photo, backbone, size):
    """(height, width, 3) -> the levels of one photo, each (C, h, w); it is resized to a square."""
    pixels = Image(torch.from_numpy(photo.copy()).permute(2, 0, 1))
    image = resize_and_normalize(size)(pixels).as_subclass(torch.Tensor)  # (3, size, size)
    return [level[0] for level in backbone(image[None])]


levels = {name: levels_of(photo, backbone, 448) for name, photo in photos.items()}
for number, level in enumerate(levels["astronaut"], start=2):
    side = 448 // level.shape[-1]
    print(f"level {number}: {tuple(level.shape)}, a cell for {side} x {side} pixels")

# %% [markdown]
# Three views of one photo: fine cells with few numbers, and coarse cells with many. **Predict:** here each level is half as wide as the one before. Is that so in the paper's two backbones as well? (On the `meta` device PyTorch works out shapes and nothing else.)

# %% tags=["nbval-check-output"]
from shnet_lib.model.backbone import ResNetBackbone

with torch.device("meta"):
    for name, stride in (("ResNet-101", 32), ("DeepLabv3+", 16)):
        network = ResNetBackbone("resnet101", output_stride=stride)
        for size in (320, 448):
            shapes = [tuple(level.shape[1:]) for level in network(torch.empty(1, 3, size, size))]
            print(name, size, shapes)

# %% [markdown]
# In ResNet-101, yes. DeepLabv3+, the paper's main backbone, keeps its level 4 as wide as its level 3.
#
# What is in the levels? A cell of level 4 has 320 numbers, too many to see. So find the three directions in which the cells of a map differ most (its principal components), and paint those red, green and blue. Cells of like colour have like features; colours of two maps cannot be compared. Below stands a drawn scene, seen by the small backbone that the course trained to name the pixels of RefShapes.

# %%
from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_02 import draw_levels
from shnet_lib.data import read_expressions

val = read_expressions("../data/refshapes", "refshapes-unc", "val")
scene = photo_of(val[0])
of_scene = levels_of(scene, build_backbone("shapes", weights="shipped"), 128)
astronaut = photos["astronaut"], levels["astronaut"]
show(draw_levels({"photo": astronaut, "scene": (scene, of_scene)}))

# %% [markdown]
# Level 2 of the photo is a line drawing: it answers to edges, whatever they belong to. Level 3 has parts, such as the collar and the badge. On level 4 a whole thing has one colour: the suit red, the helmet green, the model of the shuttle yellow. So SHNet reads three levels: the fine ones know *where*, the coarse one knows *what*.
#
# The scene's level 2 already shows its things whole. Its levels 3 and 4 look like noise, but that is a limit of three colours: the SHNet that reads them reaches an overall IoU of 0.92.
#
# Now let one cell ask: which other cells are like you? The *cosine* of two vectors is 1 where they point the same way.


# %%
import torch.nn.functional as F


def like(level, row, column):
    """(C, h, w) -> the cosine of every cell with one of them, (h, w)."""
    different = level - level.mean(dim=(1, 2), keepdim=True)  # what all cells share tells nothing
    directions = F.normalize(different, dim=0)
    return torch.einsum("c,chw->hw", directions[:, row, column], directions)


# %% [markdown]
# **Predict:** a cell of level 3 asks, in the cat's eye on the left. Who answers? Then try the other levels, and a wheel of the motorcycle (20 % across, 70 % down).

# %%
from ipywidgets import IntSlider

from shnet_course.pictures.lesson_02 import draw_similar
from shnet_course.widgets import explore


def ask(photo, level, across, down):
    features = levels[photo][level - 2]
    row, column = down * features.shape[1] // 100, across * features.shape[2] // 100
    return draw_similar(photos[photo], like(features, row, column), row, column)


places = {"across": IntSlider(39, 0, 99), "down": IntSlider(36, 0, 99)}
explore(ask, photo=["cat", "motorcycle", "astronaut"], level=[3, 2, 4], **places)

# %% [markdown]
# The other eye, at 0.90. Nobody taught the network eyes or wheels. So a product of two features says how alike two places are; lesson 03 makes attention of it.
#
# ## One grid
#
# > Through pooling and convolution operations, all hierarchical visual features are transformed to the same spatial resolution and channel dimension. (Section 3.1)
#
# $$V_2, V_3, V_4 \in \mathbb{R}^{C \times H \times W}$$
#
# Why one size? Because HCAM (lesson 04) adds a level to another, element by element. The paper says no more about the operations. The released code pools to $2H \times 2W$ and takes a convolution of stride 2. “Adaptive” max pooling asks for the size of the *result*, cuts the map into that many windows, and keeps the largest number of each. From 4 x 4 to 2 x 2, by hand:

# %% tags=["nbval-check-output"]
tiny = torch.tensor([[1, 5, 2, 0], [3, 4, 1, 1], [0, 2, 9, 7], [1, 0, 8, 6]]).float()
windows = tiny.reshape(2, 2, 2, 2)  # (4, 4) -> (window row, row in it, window column, column in it)
pooled = windows.amax(dim=(1, 3))  # (2, 2)
assert torch.equal(pooled, F.adaptive_max_pool2d(tiny[None], 2)[0])
print(pooled.int().tolist())

# %% [markdown]
# **Predict:** level 4 of our photo is 14 wide, and for a grid of 18 the pooling asks for 36. What does pooling do that has to *enlarge*?

# %% tags=["nbval-check-output"]
print(F.adaptive_max_pool1d(torch.arange(14.0)[None, None], 36).int().flatten().tolist())

# %% [markdown]
# Windows overlap, and values are repeated two or three times. **Now you:** [Pool to a grid](../exercises/02_features_ex.ipynb).
#
# Then the convolution. With stride 2 it looks at every second place, so $2H$ becomes $H$. One output cell is nine products:

# %% tags=["nbval-check-output"]
weight = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).float()
patch = tiny[1:4, 1:4]  # rows and columns 1 to 3, around (2, 2)
by_hand = (patch * weight).sum()
every_second = F.conv2d(tiny[None, None], weight[None, None], stride=2, padding=1)[0, 0]  # (2, 2)
assert every_second[1, 1] == by_hand
print(f"{by_hand:g} is the lower right of {every_second.int().tolist()}")

# %% [markdown]
# Last come a BatchNorm, which subtracts a mean from each channel and divides by a spread, and a LeakyReLU, which keeps a hundredth of what is negative. As a function, for `I` photos:


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
# The library's `LevelProjection` is the same four steps. Do both agree on every level of our three photos?

# %% tags=["nbval-check-output"]
from shnet_lib.model.features import LevelProjection

torch.manual_seed(0)
for number, level in enumerate(map(torch.stack, zip(*levels.values(), strict=True)), start=2):
    library = LevelProjection(level.shape[1], channels=48, grid=18)
    library(level)  # once in training mode, so that its running statistics are not 0 and 1
    visual_feats = library.eval()(level)  # (I, C, H, W)
    assert torch.allclose(visual_feats, project(level, 18, library.conv, library.norm), atol=1e-5)
    print(f"level {number}: {tuple(level.shape)} -> {tuple(visual_feats.shape)}, both agree")

# %% [markdown]
# ## What does the grid cost?
#
# The paper's grid is 18 x 18 (section 4.2), whatever the photo's size. Which things are too small for it? Call a thing *lost* if it fills no cell of the grid by half. Take all things that the validation phrases mean, and shrink them too, since RefShapes has no small ones. Here is one at half its width, with the cells that it fills by half in blue.

# %%
from refgen.refshapes.scene import SHAPES
from shnet_course.pictures.lesson_02 import draw_on_grids, on_grid, shrink_times

refs = {e.ref_id: e for e in val if e.category in SHAPES}
masks = torch.stack([torch.from_numpy(e.mask()) for e in refs.values()])  # (M, 128, 128)
grids = (40, 28, 18, 12, 8)
show(draw_on_grids(shrink_times(masks[3:4], 2)[0], grids))

# %% [markdown]
# **Predict:** of things that cover a quarter of a per cent of their scene, how many survive on 18 x 18?

# %%
from shnet_course.pictures.lesson_02 import draw_survival

shares = {}
for times in (1, 2, 4):
    smaller = shrink_times(masks, times)
    name = f"{smaller.float().mean(dim=(1, 2)).median():.2%} of the scene"
    shares[name] = [on_grid(smaller, g).flatten(1).any(1).float().mean().item() for g in grids]
    print(f"{name}, grids 40 to 8:", *(f"{share:4.0%}" for share in shares[name]))
show(draw_survival(shares, grids))

# %% [markdown]
# Nearly half of them are lost, and 40 x 40 keeps them all. The authors suspect the same: on G-Ref, “which has extremely small target objects”, SHNet is a little below BUSNet, and its 18 x 18 against the 40 x 40 of others “possibly leads to a drop” (section 4.3). “Lost” is our word and a simple one: a cell has $C$ numbers, and the decoder can learn to draw within a cell. But two small things in one cell share one vector.
#
# Then why not 40 x 40? In SFM every cell and word looks at every other (lesson 03). With 25 words that is 122,000 pairs on 18 x 18, and 2.6 million on 40 x 40. The authors could not train it for the “memory limits induced by multi-head attention” of their card (section 4.3).
#
# ## Words
#
# > The hidden feature of LSTM at ith time step $l_i \in \mathbb{R}^{C_l}$ is used to denote the word feature for the ith word in the expression. (Section 3.1)
#
# The paper does not print the LSTM. An LSTM carries two vectors from word to word, the state $h$ and a memory $c$. For each word $x_t$:
#
# $$i, f, o = \sigma(W_{i,f,o}\,[x_t; h_{t-1}]), \quad g = \tanh(W_g\,[x_t; h_{t-1}])$$
# $$c_t = f \circ c_{t-1} + i \circ g, \qquad h_t = o \circ \tanh(c_t)$$
#
# The sigmoid $\sigma$ makes $i$, $f$ and $o$ *gates* between 0 and 1, and $\circ$ multiplies element by element; biases are left out. So $f$ decides what is kept, $i$ what is written, $o$ what is shown. Take one number of memory that is to remember “left”: its gate $i$ opens for this word alone. **Predict** the memory after “left red star”, once with $f$ nearly open, once with $f$ at a half:

# %% tags=["nbval-check-output"]
for name, f in (("nearly open", 0.99), ("at a half", 0.5)):
    c, seen = 0.0, []
    for word in ("left", "red", "star"):
        i = 1.0 if word == "left" else 0.0
        c = f * c + i * 1.0  # g is 1
        seen.append(f"{word} {c:.2f}")
    print(f"f {name}:", ", ".join(seen))

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
# The library's `WordEncoder` looks word vectors up and runs PyTorch's LSTM. Take the encoder of the small SHNet which the course ships. This network was trained on RefShapes, and its word vectors are *one-hot*: a single 1 among zeros.

# %% tags=["nbval-check-output"]
from shnet_lib import load_shnet

trained = load_shnet("../data/weights/shnet_refshapes")
encoder, vocabulary = trained.network.word_encoder.requires_grad_(False), trained.vocabulary


def word_feats_of(phrase):
    return encoder(torch.tensor([vocabulary.encode(phrase)]))[0]  # (T, C)


words = torch.tensor([vocabulary.encode("second star from the left")])  # (B, T) = (1, 5)
word_feats = encoder(words)  # (B, T, C)
assert torch.allclose(word_feats[0], run_lstm(encoder.lstm, encoder.embedding(words)[0]), atol=1e-5)
print(tuple(words.shape), "->", tuple(word_feats.shape), "and both agree")

# %% [markdown]
# The last state has read the whole phrase. Is it the meaning of the phrase? **Predict:** how alike are the last states of “left red circle” and “right red circle”?

# %%
from shnet_course.pictures.lesson_02 import draw_alike

phrases = ["left red circle", "right red circle", "red circle", "red circle on the left"]
phrases += ["second star from left", "2nd star from left", "second star from right"]
feats = [word_feats_of(phrase) for phrase in phrases]


def cosines(vectors):
    directions = F.normalize(torch.stack(vectors), dim=1)  # (phrases, C)
    return (directions @ directions.T).numpy()


last, average = [f[-1] for f in feats], [f.mean(dim=0) for f in feats]
show(draw_alike(phrases, {"last state": cosines(last), "average": cosines(average)}))

# %% [markdown]
# The cosine is 1.0. By “circle” the trained LSTM has let go of “left”. The LSTM has also learnt that “2nd” is “second”. In the average of all words the two sides differ.
#
# The network can afford that: SFM lets every pixel look at every word (lesson 03), and HCAM averages the words (lesson 04). So “left” is asked where it stands. **Now you:** [The mean of the real words](../exercises/02_features_ex.ipynb).
#
# The LSTM reads from left to right. So a word's feature knows what came before it and nothing of what follows. The direction settles padding, too. **Predict:** six padded words behind the phrase, or six before it: which changes the real words?

# %% tags=["nbval-check-output"]
one, two = word_feats_of("left red circle"), word_feats_of("left red star")
print("left red ... : the same after each word?", (one - two).abs().amax(1).lt(1e-6).tolist())

zeros = torch.zeros(1, 6, dtype=torch.long)  # six times <pad>
behind = encoder(torch.cat([words, zeros], dim=1))[:, :5]
before = encoder(torch.cat([zeros, words], dim=1))[:, 6:]
print("padding behind changes the words:", not torch.allclose(behind, word_feats, atol=1e-6))
print("padding before changes the words:", not torch.allclose(before, word_feats, atol=1e-2))

# %% [markdown]
# A batch is filled up at the end (lesson 01), where padding does no harm. But the padded places hold states too, and these mean nothing. `word_mask` must keep them out of everything later. **Now you:** [The last real state](../exercises/02_features_ex.ipynb).
#
# ## What "frozen" must mean
#
# “Both backbone's parameters are fixed during training” (section 4.2). So one sets `requires_grad = False` and is done. Is one? A BatchNorm has parameters, and it has running statistics besides: in evaluation mode it subtracts `running_mean`. **Predict:** no gradient is asked for, and no optimiser is there. What is the running mean after one batch with the numbers 4 and 6?

# %% tags=["nbval-check-output"]
norm = torch.nn.BatchNorm2d(1).requires_grad_(False)  # running mean 0, running variance 1
numbers = torch.tensor([4.0, 6.0]).view(2, 1, 1, 1)
print("evaluation:", norm.eval()(numbers).flatten().round().tolist(), norm.running_mean.tolist())
print("training:  ", norm.train()(numbers).flatten().round().tolist(), norm.running_mean.tolist())
assert norm.running_mean == 0.9 * 0 + 0.1 * 5

# %% [markdown]
# In training mode a BatchNorm subtracts the mean of the *batch*, and moves its running mean a tenth of the way towards it. One `model.train()` is enough to wake it. Lesson 06 shows a training that this ruins. The library's `FrozenBackbone` stays in evaluation mode whatever the network around it is told:

# %% tags=["nbval-check-output"]
fixed = {name: value.clone() for name, value in backbone.state_dict().items()}
model = torch.nn.Sequential(backbone)
model.train()
for photo in photos.values():
    levels_of(photo, model, 320)
assert all(torch.equal(fixed[name], value) for name, value in backbone.state_dict().items())
print(f"model.training is {model.training}, backbone.training is {backbone.training}")

# %% [markdown]
# **Now you:** [Freeze a backbone](../exercises/02_features_ex.ipynb).
#
# ## What the paper does not say
#
# | open in the paper | the released code | this course |
# |---|---|---|
# | which pooling, which convolution | adaptive max pooling, 3 x 3 with stride 2, BatchNorm, LeakyReLU; one per level | the same |
# | which grid: it says 18 | 14 by default, 20 by its README's command | 18; 8 or 16 for RefShapes |
# | which LSTM | one direction, 300 to 512 | one direction |
# | how the LSTM starts | as PyTorch chooses | with larger weights: one-hot words would sound nearly alike |
#
# The projections are no small part. At the paper's sizes:

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    parts = [LevelProjection(channels, 512, grid=18) for channels in (512, 1024, 2048)]
counts = [sum(p.numel() for p in part.parameters()) for part in parts]
print(*(f"{count / 1e6:.1f} M" for count in counts), f"together {sum(counts) / 1e6:.1f} M")

# %% [markdown]
# The projections are more than a quarter of all 62.2 million parameters that the network trains (lesson 05 counts them).

# %% [markdown]
# ## Five questions
#
# 1. Which level would you ask for the outline of a badge, and which for “helmet”?
# 2. Level 4 is 10 x 10, and the pooling asks for 36 x 36. What becomes of one value?
# 3. A photo has two birds in one cell of the 18 x 18 grid. What is the trouble?
# 4. The last state forgets “left”. Why does SHNet still tell left from right?
# 5. All parameters of a backbone have `requires_grad=False`. How can its features change?
#
# <details><summary>Answers</summary>
#
# 1. Level 2 has edges, level 4 has things.
# 2. It is repeated three or four times in each direction.
# 3. Both share one vector, so no phrase can choose between them there.
# 4. The word “left” has a feature of its own, and SFM and HCAM read all words.
# 5. In training mode BatchNorm uses the batch's statistics, and moves its running ones.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - On a real photo level 2 showed edges, level 4 things, and a cell in one eye found the other.
# - Pooling to $2H \times 2W$, a convolution of stride 2, BatchNorm and LeakyReLU gave the numbers of `LevelProjection`.
# - On 18 x 18 nearly half of the things of a quarter of a per cent of their scene were lost; 40 x 40 kept them, at twenty times the pairs.
# - Your LSTM gave PyTorch's states; the last state forgot “left”; padding at the end changed nothing.
# - One forward pass moved a BatchNorm that had no gradients; `FrozenBackbone` did not move.
#
# Practise: [the exercises of this lesson](../exercises/02_features_ex.ipynb).
#
# Next: [03 · SFM](03_sfm.ipynb), where every cell and every word looks at every other.
