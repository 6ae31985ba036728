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
# # 06 · Training
#
# *Section 4.2, implementation details · 36 seconds on two CPU cores*
#
# **You need to know** what goes into SHNet and what comes out (lesson 05), and what a gradient is.
#
# In this lesson you will
#
# - let SHNet learn eight answers by heart, the first test of any network;
# - write the training loop in twenty lines, and prove that the library takes the very same steps;
# - draw polynomial decay, add up the gradients of small batches, and count what bf16 keeps;
# - diagnose three broken runs from their curves;
# - stop a run and resume it bit for bit, and see how one is started on several GPUs.

# %% [markdown]
# ## What turns noise into a mask?
#
# The lessons 02 to 05 built a network of random weights, and its masks are noise. Training changes the lit parts, a little at a time, until the masks are right. The backbone is not lit: it is "fixed during training" (section 4.2).

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(
    draw_architecture(lit={"levels", "words", "sfm", "hcam", "decoder"}),
    alt="The network as boxes from photo and phrase to mask. Lit, and so trained: the projections "
    "to one grid, word vectors and LSTM, SFM, HCAM, the decoder. Not lit: the backbone.",
)

# %% [markdown]
# Section 4.2 says how; here as the library's preset for UNC at 320 x 320:

# %%
# NBVAL_CHECK_OUTPUT
from dataclasses import replace

from shnet_lib.training.config import configure

paper = configure("unc-320")
for name in ("batch_size", "learning_rate", "weight_decay", "decay_power", "max_words"):
    print(f"{name:14} {getattr(paper, name)}")
for name in ("image_size", "grid", "backbone", "word_vectors"):
    print(f"model.{name:14} {getattr(paper.model, name)}")

# %% [markdown]
# This lesson is small enough for two cores: RefShapes at 64 x 64 pixels, 150 photos. It stays on the CPU even where there is a GPU, since it compares runs bit for bit, and a GPU may add the same numbers in another order.

# %%
import os

os.environ["ACCELERATE_USE_CPU"] = "true"

# %%
from shnet_lib.data import read_expressions

train = read_expressions("../data/refshapes", "refshapes-unc", "train")
val = read_expressions("../data/refshapes", "refshapes-unc", "val")
photos = set(sorted({expression.image_path for expression in train})[:150])
data = {"train": [e for e in train if e.image_path in photos], "val": val[:40]}

# %%
from accelerate.utils import set_seed

from shnet_lib.data.text import Vocabulary
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.prepare import make_dataset

config = configure("quick", steps=8, batch_size=16, evaluate_every=1, **{"model.image_size": 64})
vocabulary = Vocabulary.from_texts(expression.text for expression in data["train"])


def new_network():
    set_seed(config.seed)  # the same random weights each time
    return SHNet(config.model, len(vocabulary))


# The frozen backbone's features, computed once a photo, stand in for the photos.
dataset = make_dataset(config, data["train"], vocabulary, new_network().backbone)

# %%
# NBVAL_CHECK_OUTPUT
print(f"{len(dataset.image_paths)} photos, {len(vocabulary)} words")

# %% [markdown]
# ## One batch by heart
#
# Before a night of training, ask for the least: can the network learn *eight* answers by heart? Four photos, two things in each.

# %%
from shnet_course.pictures.base import draw_expressions
from shnet_lib.data.dataset import collate

eight = []
for indices in dataset.expressions_of_image:
    one_each = {dataset.expressions[i].ref_id: i for i in indices}
    if len(one_each) >= 2 and len(eight) < 4:
        eight.append(tuple(one_each.values())[:2])
batch = collate([dataset[indices] for indices in eight])
asked = [dataset.expressions[i] for indices in eight for i in indices]
show(draw_expressions(asked), alt="Four scenes, two things of each outlined: "
     + "; ".join(expression.text for expression in asked) + ".")  # fmt: skip

# %% [markdown]
# A step: predict, measure the loss, follow its gradient, forget the gradient. The loss is the binary cross-entropy of each pixel (section 3.4, lesson 05). Beside it we note the batch's overall IoU (section 4.1): the pixels marked *and* meant, divided by those marked *or* meant.

# %%
import torch
import torch.nn.functional as F
from torch.optim import AdamW

from shnet_lib.training.metrics import intersection_and_union, overall_iou


# %%
def learn_by_heart(network, batch, steps=50, learning_rate=1e-3):
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=learning_rate, weight_decay=9e-5, fused=True)  # fused: faster
    network.train()
    rows = []
    for step in range(1, steps + 1):
        mask_logits = network(batch)  # (B, S, S)
        loss = F.binary_cross_entropy_with_logits(mask_logits, batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        counts = intersection_and_union(mask_logits > 0, batch["target"] > 0.5)
        rows.append({"step": step, "loss": loss.item(), "iou": overall_iou(*counts)})
    return rows


# %% [markdown]
# A test needs to be able to fail. So here is a second network whose phrases are hidden: every word is "unknown". It sees each photo twice, and is asked for two different answers.

# %%
learnt = new_network()
by_heart = learn_by_heart(learnt, batch)
hidden = {name: torch.ones_like(batch[name]) for name in ("words", "word_mask")}
blind = learn_by_heart(new_network(), batch | hidden)

# %%
from shnet_course.pictures.lesson_06 import draw_runs

show(
    draw_runs({"reads the phrases": by_heart, "phrases hidden": blind}, ["loss", "iou"]),
    alt="Loss and IoU over 50 steps. Reading, the loss falls to near 0 and the IoU rises above "
    "0.9. With the phrases hidden the loss stops far above and the IoU stays low.",
)

# %%
# NBVAL_CHECK_OUTPUT
assert by_heart[-1]["iou"] > 0.9 and blind[-1]["iou"] < 0.7
print("eight answers learnt:", by_heart[-1]["iou"] > 0.9, "| blind:", blind[-1]["iou"] > 0.9)

# %% [markdown]
# Many bugs fail this test within seconds, as words that never arrive just did. It cannot show whether anything beyond those eight was learnt.
#
# One number helps to read any loss. A network that knew *only* what share $p$ of the pixels is wanted, and said $p$ everywhere, would pay the entropy of $p$:

# %%
# NBVAL_CHECK_OUTPUT
from math import log

p = batch["target"].mean().item()
know_nothing = -p * log(p) - (1 - p) * log(1 - p)
print(f"p = {p:.3f}: {know_nothing:.3f} for knowing nothing else")

# %% [markdown]
# A run whose loss stays near this entropy has not begun to look. The blind network came below it: it learnt *where* things are, not which is meant.
#
# ## What AdamW does with a gradient
#
# The paper trains with AdamW (section 4.2). For each weight it keeps two running means, of the gradient and of its square, and divides the one by the root of the other. Weight decay, a pull to zero, is a step of its own (the W). By hand, against torch:


# %%
def adamw(weight, gradients, rate=1.2e-4, decay=9e-5):
    mean = square = 0.0  # 0.9, 0.999 and 1e-8 are torch's: the paper gives none
    for t, gradient in enumerate(gradients, start=1):
        weight -= rate * decay * weight
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weight -= rate * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)) ** 0.5 + 1e-8)
    return weight


# %%
# NBVAL_CHECK_OUTPUT
def torch_adamw(weight, gradients):
    weight = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    optimizer = AdamW([weight], lr=1.2e-4, weight_decay=9e-5)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return weight.item()


assert abs(adamw(0.5, [2.0, -1.0, 0.3]) - torch_adamw(0.5, [2.0, -1.0, 0.3])) < 1e-12
for gradient in (0.001, 1.0, 1000.0):
    print(f"gradient {gradient:8}: the first step is {adamw(0.0, [gradient]):.6f}")

# %% [markdown]
# The gradient's *size* cancels: the first step is as long as the learning rate, for every weight.
#
# ## The learning rate falls
#
# "The initial learning rate is gradually decreased using polynomial decay with a power of 0.7" (section 4.2). Written out, after $t$ of $T$ steps:
#
# $$\eta_t = \eta_0\,\left(1 - \frac{t}{T}\right)^{0.7}$$

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.training.fit import polynomial_decay

for t in (0, 25, 50, 75, 100):
    factor = (1 - t / 100) ** 0.7
    assert factor == polynomial_decay(t, 100, 0.7)
    print(f"after {t:3} of 100 steps: {1.2e-4 * factor:.2e}")

# %% [markdown]
# The released code does something else: it lowers the rate to 0.7 of itself when validation has not improved for more than 2 epochs. Give the invented run on the right more noise, and see which line moves.

# %%
from ipywidgets import IntSlider

from shnet_course.pictures.lesson_06 import describe_schedules, draw_schedules
from shnet_course.widgets import explore

explore(
    draw_schedules,
    describe_schedules,
    power=[0.7, 0.5, 1.0, 2.0],
    patience=IntSlider(2, 0, 6),
    noise=[0.01, 0.0, 0.03, 0.06],
)

# %% [markdown]
# The paper's rate depends on nothing but $t$ and $T$. It is the same in every run, but the length of a run must be chosen before it starts.
#
# ## The loop in twenty lines
#
# Learning by heart becomes training with two changes.


# %%
def fit_by_hand(network, batches, steps, learning_rate, power=0.7):
    """A row of figures a step. batches: an iterable of at least `steps` batches."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=learning_rate, weight_decay=9e-5, fused=True)
    network.train()
    rows = []
    for step, batch in zip(range(steps), batches, strict=False):  # New: another batch each time
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps) ** power  # New: polynomial decay
        mask_logits = network(batch)  # (B, S, S)
        loss = F.binary_cross_entropy_with_logits(mask_logits, batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        counts = intersection_and_union(mask_logits > 0, batch["target"] > 0.5)
        rows.append({"step": step + 1, "loss": loss.item(), "iou": overall_iou(*counts)})
    return rows


# %% [markdown]
# The batches come from a sampler that draws photos and takes some expressions of each, shuffled by a seed.

# %%
from torch.utils.data import DataLoader

from shnet_lib.data.dataset import ImageBatchSampler

sampler = ImageBatchSampler(dataset, config.batch_size, config.expressions_per_image, config.seed)
loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)
by_hand = fit_by_hand(new_network(), loader, config.steps, config.learning_rate)

# %% [markdown]
# Now the library's `fit`: the same loop, with what a run of many hours needs besides. Same settings, same seed, an evaluation after every step. Are its losses ours, exactly?

# %%
import tempfile
from pathlib import Path

from shnet_lib.training.fit import fit

runs = tempfile.TemporaryDirectory()
library = fit(config, data, Path(runs.name) / "steps")

# %%
# NBVAL_CHECK_OUTPUT
assert [row["loss"] for row in library.history] == [row["loss"] for row in by_hand]
print(len(by_hand), "losses, equal to the last bit")

# %% [markdown]
# Then let it run: 100 steps, on so few photos (24) that something happens. After each 20 it is evaluated on photos that it has never seen.

# %%
few = set(sorted(photos)[:24])
small = {"train": [e for e in data["train"] if e.image_path in few], "val": data["val"]}
longer = replace(config, steps=100, evaluate_every=20)
history = fit(longer, small, Path(runs.name) / "longer").history
validation = [{"step": row["step"], "iou": row["val_overall_iou"]} for row in history]
show(
    draw_runs({"training batches": history, "validation": validation}, ["loss", "iou"]),
    alt=f"Over 100 steps the loss falls from {history[0]['loss']:.2f} to "
    f"{history[-1]['loss']:.2f}. IoU on the training batches rises to {history[-1]['iou']:.2f}, "
    f"on validation to {validation[-1]['iou']:.2f}.",
)

# %% [markdown]
# At first both IoUs are 0: the network learns how much is foreground. Then training rises and validation does not: learning by heart again. [Notebook 10](10_train_unc.ipynb) has thousands of photos and steps, and two lines that climb together.
#
# ## Small batches add up
#
# The paper's batch is 50. If memory holds 25, take two, add their gradients, then step. The mean of two equal halves' means is the mean of the whole, so it should be the same. Is it?


# %%
def gradient_of(network, batches):
    """The gradients of all weights, one after the other, accumulated over the batches."""
    network.zero_grad()
    for batch in batches:
        loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
        (loss / len(batches)).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


# %%
def exact(batch):
    """The same batch in double precision, so that rounding cannot be the reason."""
    floats = {"levels": [level.double() for level in batch["levels"]]}
    return batch | floats | {"target": batch["target"].double()}


precise = new_network().double()
whole = exact(batch)
halves = [exact(collate([dataset[indices] for indices in half])) for half in (eight[:2], eight[2:])]

# %%
# NBVAL_CHECK_OUTPUT
for mode in ("eval", "train"):
    getattr(precise, mode)()
    once, twice = gradient_of(precise, [whole]), gradient_of(precise, halves)
    apart = ((twice - once).norm() / once.norm()).item()
    print(f"{mode:5} mode: {'equal to nine digits' if apart < 1e-9 else 'more than 1 % apart'}")
    assert apart < 1e-9 if mode == "eval" else apart > 0.01

# %% [markdown]
# In evaluation mode, yes. In training mode, no: BatchNorm takes mean and variance from the batch at hand, and a half has others than the whole. So `accumulate=2` in the library is a batch of 50 for the gradient and of 25 for BatchNorm. So are two GPUs with 25 each.
#
# ## Numbers with eight bits
#
# Numbers of 16 bits take half the memory of the usual 32, and often less time. There are two formats, float16 and bfloat16, *bf16* for short. What is lost?

# %%
from shnet_course.pictures.lesson_06 import draw_formats

show(
    draw_formats(),
    alt="Bits of three formats. float32: sign, 8 exponent, 23 fraction. float16: sign, 5, 10. "
    "bfloat16: sign, 8, 7.",
)

# %%
# NBVAL_CHECK_OUTPUT
for bits in (6, 7, 8):
    print(f"1 + 2^-{bits} in bf16 is", torch.tensor(1 + 2**-bits).bfloat16().item())

# %% [markdown]
# Seven fraction bits and the leading 1 that is never written: eight. After 1 comes 1.0078. Now take a thousand steps of the paper's learning rate, from a weight of 0.1:

# %%
# NBVAL_CHECK_OUTPUT
for dtype in (torch.float32, torch.bfloat16):
    weight = torch.tensor(0.1, dtype=dtype)
    for _ in range(1000):
        weight += 1.2e-4
    print(f"{str(dtype):15} {weight.item():.3f}")

# %% [markdown]
# In bf16 the weight never moves: each step is less than half a unit of its last bit. Hence *mixed* precision. Weights and optimiser stay in float32; `autocast` does the multiplications in bf16, and brings back float32 where sums are long, as in the loss.

# %%
# NBVAL_CHECK_OUTPUT
layer, inputs = torch.nn.Linear(4, 1), torch.rand(2, 4)
with torch.autocast("cpu", torch.bfloat16):
    logits = layer(inputs)
    loss = F.binary_cross_entropy_with_logits(logits, torch.ones(2, 1))
print("weight", layer.weight.dtype, "| product", logits.dtype, "| loss", loss.dtype)

# %% [markdown]
# float16 has three bits more, and pays with range. The loss is a mean over $50 \cdot 320 \cdot 320$ pixels, so the gradient of each pixel's logit is at most one divided by that. A pixel that is right to 90 % has a tenth of it:

# %%
# NBVAL_CHECK_OUTPUT
gradient = 0.1 / (50 * 320 * 320)
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    print(f"{str(dtype):15} {torch.tensor(gradient).to(dtype).item():.3g}")

# %% [markdown]
# In float16 it is zero. So float16 needs its loss multiplied by a large number first (accelerate does that), and bf16 does not.
#
# When does bf16 pay? Where multiplications take most of the time, and the hardware does them faster. On the machine that made this page, for our small network and for one large product:

# %%
import time


def seconds(work, precision):
    """The shortest of ten times."""
    times = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for _ in range(10):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    return min(times)


learnt.eval()
matrix = torch.rand(1024, 1024)
for name, work in (("SHNet", lambda: learnt(batch)), ("product", lambda: matrix @ matrix)):
    fp32, bf16 = seconds(work, "no"), seconds(work, "bf16")
    print(f"{name:8} fp32 {1000 * fp32:6.1f} ms   bf16 {1000 * bf16:6.1f} ms")

# %% [markdown]
# In the library bf16 is one setting, `precision="bf16"`.
#
# ## First broken run
#
# Our eight answers again. The broken run differs in one setting. **Which one, and what would you try next?**

# %%
first = {"healthy": by_heart, "broken": learn_by_heart(new_network(), batch, learning_rate=0.3)}
show(
    draw_runs(first, ["loss", "iou"]),
    alt="The healthy loss falls smoothly to near 0. The broken one shoots up within the first "
    "steps, comes down to about where knowing nothing is, and stays there; its IoU is near 0.",
)

# %% [markdown]
# <details><summary><b>Answer</b></summary>
#
# The learning rate is too high. Its mark: the loss first goes *up*, far above the entropy (the network is sure of nonsense), then settles where nothing is known. AdamW's step is as long as the learning rate. If that is longer than the weights, the first step already replaces the network. Try a tenth, and again a tenth, until the loss falls from the first steps on.
#
# </details>
#
# The evidence: what is its loss at the end, and how large is a typical weight?

# %%
print(f"loss at the end {first['broken'][-1]['loss']:.2f}, for knowing nothing {know_nothing:.2f}")

# %%
# NBVAL_CHECK_OUTPUT
weights = torch.cat([p.detach().flatten() for p in new_network().fusion.parameters()])
typical = weights.abs().median().item()
print("a step of 0.3 is longer than a typical weight of HCAM:", 0.3 > typical)
print("a step of 0.001 is shorter than a tenth of it:        ", 0.001 < typical / 10)

# %% [markdown]
# ## Second broken run
#
# The trained SHNet that the course ships shall learn to see at dusk. We darken photos a little and go on training. A colleague does the same with a backbone of their own making, frozen as the paper asks:

# %%
from shnet_lib import load_shnet
from shnet_lib.data.dataset import IMAGENET_MEAN, IMAGENET_STD, ReferringDataset


class TheirBackbone(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network.requires_grad_(False)

    def forward(self, images):
        return self.network(images)


# %%
mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))


def at_dusk(batch):
    """The batch with 70 % of the light."""
    return batch | {"images": (0.7 * (batch["images"] * std + mean) - mean) / std}


def score(network, batch):
    with torch.no_grad():
        predicted = network.eval()(batch) > 0  # (B, S, S)
    return overall_iou(*intersection_and_union(predicted, batch["target"] > 0.5))


# %%
def learn_the_dusk(theirs):
    """The network after three rounds of four steps; by day, its scores before and after each."""
    trained = load_shnet("../data/weights/shnet_refshapes")
    network, words = trained.network, trained.vocabulary
    if theirs:
        network.backbone = TheirBackbone(network.backbone.network)
    photos, others = (ReferringDataset(data[name], words, 128) for name in ("train", "val"))
    by_day = collate([others[indices] for indices in others.expressions_of_image])
    sampler = ImageBatchSampler(photos, 16, 4)
    batches = map(at_dusk, DataLoader(photos, batch_sampler=sampler, collate_fn=collate))
    rows = [{"step": 0, "day_iou": score(network, by_day)}]
    for step in (4, 8, 12):
        fit_by_hand(network, batches, 4, learning_rate=1e-5)
        rows.append({"step": step, "day_iou": score(network, by_day)})
    return network, by_day, rows


# %% [markdown]
# Look at the score on *ordinary* photos. **The rate is a hundredth of a healthy one, and the backbone asks for no gradient. What happened?**

# %%
_, _, ours = learn_the_dusk(theirs=False)
network, by_day, theirs = learn_the_dusk(theirs=True)
show(
    draw_runs({"our backbone": ours, "their backbone": theirs}, ["day_iou"]),
    alt=f"Overall IoU on ordinary photos over 12 steps. Ours stays at {ours[-1]['day_iou']:.2f}, "
    f"theirs falls from {theirs[0]['day_iou']:.2f} to {theirs[-1]['day_iou']:.2f}.",
)

# %% [markdown]
# <details><summary><b>Answer</b></summary>
#
# BatchNorm has leaked. It owns two kinds of numbers: parameters, which a gradient changes, and running statistics, which a *forward pass* in training mode changes. `network.train()` reached into their backbone, and with each batch at dusk its statistics moved a tenth of the way to the dark (torch's default). By day they no longer fit. Its mark: a good score falls at once, fast and smoothly, however low the rate. "Fixed" has to mean no gradient *and* evaluation mode for good, as in `FrozenBackbone` (lesson 02).
#
# </details>
#
# The evidence: compare their backbone with the shipped one, number by number. Then put back nothing but the statistics.

# %%
# NBVAL_CHECK_OUTPUT
before = load_shnet("../data/weights/shnet_refshapes").network.backbone.network.state_dict()
after = network.backbone.network.state_dict()
moved = {name for name in before if not torch.equal(before[name], after[name])}
parameters = dict(network.backbone.network.named_parameters())
print(f"of {len(parameters)} parameters {len(moved & parameters.keys())} moved,",
      f"of {len(before) - len(parameters)} statistics {len(moved - parameters.keys())}")  # fmt: skip

# %%
broken = score(network, by_day)
network.backbone.network.load_state_dict(before)
mended = score(network, by_day)
assert mended > broken + 0.3
print(f"by day: {broken:.2f}; with the old statistics {mended:.2f}")

# %% [markdown]
# ## Third broken run
#
# Two networks learn our eight answers, each with targets made smaller in its own way.


# %%
def their_target(masks, size):
    """(B, H, W) masks at S x S: resized as the photo is, then whatever is above 0."""
    smooth = F.interpolate(masks[None].float(), (size, size), mode="bilinear", antialias=True)
    return (smooth[0] > 0).float()


masks = torch.stack([torch.from_numpy(expression.mask()) for expression in asked])  # (8, 128, 128)
theirs = batch | {"target": their_target(masks, 64)}
careless = new_network()
third = {"ours": by_heart, "theirs": learn_by_heart(careless, theirs)}
show(
    draw_runs(third, ["loss", "iou"]),
    alt="Loss and IoU of both runs over 50 steps: hardly to be told apart, both end above 0.9.",
)

# %% [markdown]
# Both look well. Then both are evaluated on the same eight expressions, against the masks on disk, at the photo's own size. **Why is one so much worse?**

# %%
from shnet_lib.training.evaluate import evaluate

same_eight = ReferringDataset(asked, vocabulary, 64, evaluation=True)
for name, network in (("ours", learnt), ("theirs", careless)):
    print(f"{name:7} overall IoU {evaluate(network, same_eight).metrics['overall_iou']:.2f}")

# %% [markdown]
# <details><summary><b>Answer</b></summary>
#
# Their target is too large. Bilinear resizing gives each pixel at the border a value between 0 and 1, and `> 0` calls them all foreground: the mask is *dilated*. The network learnt exactly what it was shown. Its mark: the training curve is perfect, and the evaluation is worse *on the same examples*. The remedy: give each new pixel the value of the nearest old one.
#
# </details>
#
# The evidence: target against target.

# %%
from shnet_course.pictures.lesson_06 import draw_targets

ours_64, theirs_64 = batch["target"] > 0.5, theirs["target"] > 0.5  # (8, 64, 64)
smallest = int(ours_64.sum(dim=(1, 2)).argmin())
show(
    draw_targets(ours_64[smallest].numpy(), {"theirs": theirs_64[smallest].numpy()}),
    alt=f"The mask of “{asked[smallest].text}”, and theirs, which has a rim all around it.",
)
print(f"all eight: {overall_iou(*intersection_and_union(theirs_64, ours_64)):.2f}")

# %% [markdown]
# The released code makes its targets bilinearly too, at 160 x 160, and takes what is above 0. How much too large they are depends on "bilinear": with `antialias`, as above, an average over all pixels that the new one covers; without, over the four around its place, as the released code has it. Here are both, for thirty discs in photos of 427 x 640, against the discs by nearest pixels:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.measure.conventions import discs

for radius in (8, 60):
    photos_of_discs = torch.stack(discs(radius, 427, 640, count=30, seed=0)).float()[None]
    nearest = F.interpolate(photos_of_discs, (160, 160), mode="nearest-exact")[0] > 0
    for antialias in (False, True):
        smooth = F.interpolate(photos_of_discs, (160, 160), mode="bilinear", antialias=antialias)
        agreement = overall_iou(*intersection_and_union(smooth[0] > 0, nearest))
        print(f"radius {radius:2}, antialias {antialias!s:5}: IoU {agreement:.2f}")

# %% [markdown]
# Either way small things suffer most. Lesson 07 takes the released code's, which is the milder way, and shows what it does to a table.
#
# ## Stop, and go on
#
# `fit` leaves everything behind at each evaluation: weights, AdamW's two means, the learning rate's place, the random state, the place in the data. Here is a run of 12 steps, and one that loses power after step 6.

# %%
settings = replace(config, steps=12, batch_size=8, evaluate_every=3)
uninterrupted = fit(settings, data, Path(runs.name) / "uninterrupted")


def power_cut(history):
    if history[-1]["step"] == 6:
        raise RuntimeError("the lights went out")


try:
    fit(settings, data, Path(runs.name) / "cut", on_evaluation=power_cut)
except RuntimeError as error:
    print(error)

# %%
resumed = fit(settings, data, Path(runs.name) / "cut", resume=True)


def figures(result):
    """The history without the clock."""
    clock = {"seconds", "samples_per_second"}
    return [{k: v for k, v in row.items() if k not in clock} for row in result.history]


# %%
# NBVAL_CHECK_OUTPUT
assert figures(resumed) == figures(uninterrupted)
whole, parts = (r.trained.network.state_dict() for r in (uninterrupted, resumed))
assert all(torch.equal(whole[name], parts[name]) for name in whole)
print(len(resumed.history), "rows and", len(whole), "tensors, equal to the last bit")

# %% [markdown]
# With other settings it refuses to go on:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_lib.training.checkpoint import CheckpointError

try:
    fit(replace(settings, seed=1), data, Path(runs.name) / "cut", resume=True)
except CheckpointError as error:
    print(str(error)[str(error).index("was begun") :])

# %% [markdown]
# ## Several GPUs
#
# One process drives each GPU. All hold the same network, each takes its share of every batch, and gradients are averaged. In a notebook, `notebook_launcher` starts the processes. It wants a function, and a notebook that has not touched CUDA. Here it gets one process:

# %%
from accelerate import notebook_launcher


def one_of_many(folder):
    result = fit(config, data, folder)
    assert [row["loss"] for row in result.history] == [row["loss"] for row in by_hand]


notebook_launcher(one_of_many, (Path(runs.name) / "launched",), num_processes=1)

# %% [markdown]
# `batch_size` counts over all processes, so that the same settings are the same training on one GPU and on eight (but for BatchNorm: see above). From a terminal, on all GPUs of the machine:
#
# ```
# accelerate launch -m shnet_lib train --preset unc-320 --data /path/to/data --run runs/unc
# ```
#
# The same command with `--resume` goes on with that run. [Several GPUs](../docs/several_gpus.md) has more, and says what of it was tried.

# %%
runs.cleanup()

# %% [markdown]
# ## What the paper does not say
#
# | | section 4.2 | released code |
# |---|---|---|
# | how long | nothing | stops after 6 epochs without gain |
# | batch | 50 | 32 (its README) |
# | words | 25 | 30 (its README) |
# | augmentation | none named | grey photos, with probability 0.3 |
# | how the target is resized | nothing | bilinearly, then above 0 |
#
# **How long.** Polynomial decay ends when training does, so the length decides every rate. Our presets say 30 epochs, a guess. For UNC that is:

# %%
# NBVAL_CHECK_OUTPUT
expressions, batch_size, epochs = 120_624, paper.batch_size, paper.epochs
print(f"{expressions // batch_size} steps an epoch, {epochs * (expressions // batch_size)} in all")

# %% [markdown]
# **How layers start.** torch starts a convolution with smaller weights than He et al. (2015) advise in front of a ReLU, and its logits near 0, so that the first guess is "perhaps" everywhere. The library takes their advice, and its first guess is "background". Our eight answers from torch's own start:


# %%
def torch_start():
    """The same network, its trained convolutions as torch leaves them."""
    network = new_network()
    for part in (network.projections, network.fusion, network.aspp, network.upsample):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.reset_parameters()
    return network


def spread(network):
    return network.aspp.project[0].weight.var().item()


# %%
# NBVAL_CHECK_OUTPUT
print(f"{spread(new_network()) / spread(torch_start()):.0f} times the variance of torch's own")

# %%
slow = learn_by_heart(torch_start(), batch)
starts = {"the library's start": by_heart, "torch's own start": slow}
show(
    draw_runs(starts, ["loss", "iou"]),
    alt=f"Loss and IoU over 50 steps from both starts; the IoU ends at {by_heart[-1]['iou']:.2f} "
    f"and at {slow[-1]['iou']:.2f}.",
)

# %% [markdown]
# ## What you have seen
#
# - SHNet learnt eight answers by heart in 50 steps, and could not where the phrases were hidden.
# - Your loop of twenty lines and the library's `fit` gave the same losses to the last bit.
# - Polynomial decay looks only at its length; half batches give the whole's gradient except through BatchNorm; bf16 keeps eight bits, so weights stay in float32.
# - A high rate shoots up and settles at nothing; leaked statistics ruin a good score without a gradient; a dilated target trains perfectly and evaluates badly.
# - A run that lost power went on bit for bit, and one function trains on one process or several.
#
# Practise: [the exercises of this lesson](../exercises/06_training_ex.ipynb).
#
# Next: [06b · Training on a GPU](06b_training_on_a_gpu.ipynb), where the same loop meets a second machine, or [07 · Evaluation](07_evaluation.ipynb), where a single number turns out to be several.
