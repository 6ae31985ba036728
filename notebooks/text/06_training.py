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
# *Section 4.2, implementation details · 40 minutes to read, 2 minutes to run on two CPU cores*
#
# **You need to know** what goes into SHNet and what comes out (lesson 05), and what a gradient is.
#
# In this lesson you will
#
# - let SHNet learn eight answers by heart, the first test of any network;
# - write the training loop in twenty lines, and prove that the library takes the very same steps;
# - train a network until it answers phrases on scenes that it has never seen, and watch masks grow;
# - compute polynomial decay, add up the gradients of small batches, and count what bf16 keeps;
# - diagnose two broken runs from their curves;
# - stop a run and resume it bit for bit.

# %% [markdown]
# ## What turns noise into a mask?
#
# Lessons 02 to 05 built a network with random weights, and its masks are noise. Training changes the lit parts, a little at a time, until the masks are right. The backbone is not lit: it is "fixed during training" (section 4.2).

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture(lit={"levels", "words", "sfm", "hcam", "decoder"}))

# %% [markdown]
# Section 4.2 says how; here as the library's preset for UNC at 320 x 320:

# %% tags=["nbval-check-output"]
from dataclasses import replace

from shnet_lib.training.config import configure

paper = configure("unc-320")
for name in ("batch_size", "learning_rate", "weight_decay", "decay_power", "max_words"):
    print(f"{name:14} {getattr(paper, name)}")
for name in ("image_size", "grid", "backbone", "word_vectors"):
    print(f"model.{name:14} {getattr(paper.model, name)}")

# %% [markdown]
# This lesson is small enough for two cores: RefShapes at 64 x 64 pixels, 150 scenes. It stays on the CPU, because it compares runs bit for bit.

# %%
from shnet_course.environment import stay_on_the_cpu
from shnet_lib.data import read_expressions
from shnet_lib.data.text import Vocabulary

stay_on_the_cpu()
train = read_expressions("../data/refshapes", "refshapes-unc", "train")
val = read_expressions("../data/refshapes", "refshapes-unc", "val")


def first_scenes(count):
    """The training expressions of the first scenes."""
    chosen = set(sorted({expression.image_path for expression in train})[:count])
    return [expression for expression in train if expression.image_path in chosen]


data = {"train": first_scenes(150), "val": val[:40]}
vocabulary = Vocabulary.from_texts(expression.text for expression in data["train"])

# %%
from accelerate.utils import set_seed

from shnet_lib.model.shnet import SHNet
from shnet_lib.training.prepare import make_dataset

config = configure("tables", steps=8, batch_size=16, evaluate_every=1, **{"model.image_size": 64})


def new_network():
    set_seed(config.seed)  # the same random weights each time
    return SHNet(config.model, len(vocabulary))


# The frozen backbone's features, computed once per scene, stand in for the scenes.
dataset = make_dataset(config, data["train"], vocabulary, new_network().backbone)

# %% [markdown]
# ## One batch by heart
#
# Before a night of training, ask for very little: can the network learn *eight* answers by heart? We take four scenes and two things in each.

# %%
from shnet_course.pictures.base import draw_expressions
from shnet_lib.data.dataset import collate
from shnet_lib.training.metrics import intersection_and_union, overall_iou

eight = []
for indices in dataset.expressions_of_image:
    one_each = {dataset.expressions[i].ref_id: i for i in indices}
    if len(one_each) >= 2 and len(eight) < 4:
        eight.append(tuple(one_each.values())[:2])
batch = collate([dataset[indices] for indices in eight])
asked = [dataset.expressions[i] for indices in eight for i in indices]
show(draw_expressions(asked))

# %% [markdown]
# A step has four parts: predict, measure the loss, follow its gradient, forget the gradient. The loss is the binary cross-entropy of each pixel (section 3.4). Beside it we note overall IoU (section 4.1): the pixels marked *and* meant, divided by those marked *or* meant.

# %%
import torch
import torch.nn.functional as F
from torch.optim import AdamW


def learn_by_heart(network, batch, steps=50, learning_rate=1e-3):
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=learning_rate, weight_decay=9e-5, fused=True)
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
# A test needs to be able to fail. So here is a second network whose phrases are hidden: every word is "unknown". This control sees each scene twice, and is asked for two different answers.
#
# One number helps to read any loss. Suppose that a network knew *only* which share $p$ of the pixels is meant, and said $p$ everywhere. Its loss would be the entropy of $p$. **Predict:** will the loss of the network without phrases stay there?

# %%
from math import log

from shnet_course.pictures.lesson_06 import draw_training_runs

by_heart = learn_by_heart(new_network(), batch)
hidden = {name: torch.ones_like(batch[name]) for name in ("words", "word_mask")}
blind = learn_by_heart(new_network(), batch | hidden)
show(draw_training_runs({"reads the phrases": by_heart, "phrases hidden": blind}, ["loss", "iou"]))

p = batch["target"].mean().item()
know_nothing = -p * log(p) - (1 - p) * log(1 - p)
print(f"p = {p:.3f}: {know_nothing:.3f} for knowing nothing else")
print("eight answers learnt:", by_heart[-1]["iou"] > 0.9, "| blind:", blind[-1]["iou"] > 0.9)

# %% [markdown]
# Many bugs fail this test within seconds, as hidden phrases just did. A run whose loss stays near the entropy has not begun to look. The blind network came below it: it learnt *where* things are, but not which one is meant.
#
# ## What AdamW does with a gradient
#
# The paper trains with AdamW (section 4.2). For each weight, AdamW keeps two running means: of the gradient and of its square. The step divides the first by the root of the second. Weight decay pulls each weight towards zero in a step of its own (the W). By hand, and compared with torch. **Predict:** how long is the first step for a gradient of 0.001, and for one of 1000?


# %% tags=["nbval-check-output"]
def adamw(weight, gradients, rate=1.2e-4, decay=9e-5):
    mean = square = 0.0  # 0.9, 0.999 and 1e-8 are torch's: the paper gives none
    for t, gradient in enumerate(gradients, start=1):
        weight -= rate * decay * weight
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weight -= rate * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)) ** 0.5 + 1e-8)
    return weight


theirs = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
optimizer = AdamW([theirs], lr=1.2e-4, weight_decay=9e-5)
for gradient in (2.0, -1.0, 0.3):
    theirs.grad = torch.tensor(gradient, dtype=torch.float64)
    optimizer.step()
assert abs(adamw(0.5, [2.0, -1.0, 0.3]) - theirs.item()) < 1e-12
for gradient in (0.001, 1.0, 1000.0):
    print(f"gradient {gradient:8}: the first step is {adamw(0.0, [gradient]):.6f}")

# %% [markdown]
# The gradient's *size* cancels. The first step is as long as the learning rate, for every weight.
#
# ## The learning rate falls
#
# "The initial learning rate is gradually decreased using polynomial decay with a power of 0.7" (section 4.2). Written out, after $t$ of $T$ steps:
#
# $$\eta_t = \eta_0\,\left(1 - \frac{t}{T}\right)^{0.7}$$

# %% tags=["nbval-check-output"]
from shnet_lib.training.fit import polynomial_decay

for t in (0, 25, 50, 75, 100):
    factor = (1 - t / 100) ** 0.7
    assert factor == polynomial_decay(t, 100, 0.7)
    print(f"after {t:3} of 100 steps: {1.2e-4 * factor:.2e}")

# %% [markdown]
# This rate depends on nothing but $t$ and $T$. So the length of a run must be chosen before it starts. The released code lowers the rate to 0.7 of itself instead, when validation has not improved for more than 2 epochs. This rule needs no length, but a few unlucky evaluations lower the rate for good. **Now you:** [The poly schedule](../exercises/06_training_ex.ipynb).
#
# ## The loop in twenty lines
#
# Learning by heart becomes training with two changes.


# %%
def fit_by_hand(network, batches, steps, learning_rate, power=0.7):
    """A row of figures per step. batches: an iterable of at least `steps` batches."""
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
# The batches come from a sampler. The sampler draws scenes and takes some expressions of each, shuffled by a seed. The library's `fit` is the same loop, with what a long run needs besides: devices, checkpoints, evaluation. Are its losses exactly ours? **Now you:** [One training step](../exercises/06_training_ex.ipynb).

# %%
from torch.utils.data import DataLoader

from shnet_course.paths import scratch_folder
from shnet_lib.data.dataset import ImageBatchSampler
from shnet_lib.training.fit import fit

sampler = ImageBatchSampler(dataset, config.batch_size, config.expressions_per_image, config.seed)
loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)
by_hand = fit_by_hand(new_network(), loader, config.steps, config.learning_rate)

runs = scratch_folder()
library = fit(config, data, runs / "steps")
assert [row["loss"] for row in library.history] == [row["loss"] for row in by_hand]
print(len(by_hand), "losses, equal to the last bit")

# %% [markdown]
# ## A training that works
#
# Now the same `fit` on ten times as many scenes, at the full 128 x 128 pixels, for 1,000 steps. On two cores this takes a good minute. After each 100 steps comes validation, on scenes that the network has never seen. **Predict:** which IoU will rise first, on training batches or on validation?

# %%
from shnet_course.pictures.base import draw_predictions, live_curves
from shnet_lib.prediction import predict

long = configure("tables", steps=1000, evaluate_every=100, learning_rate=2e-3)
scenes = {"train": first_scenes(1500), "val": val[:300]}
trained = fit(long, scenes, runs / "long", on_evaluation=live_curves())
for row in trained.history[1::2]:
    print(
        f"step {row['step']:4}: loss {row['loss']:.3f}, IoU {row['iou']:.2f} on training batches, "
        f"{row['val_overall_iou']:.2f} on validation"
    )

four = val[3:300:75]
masks = [predict(trained.trained, e.photo(), e.text).mask for e in four]
show(draw_predictions(four, masks))

# %% [markdown]
# The two curves climb together. First both IoUs are 0, and the loss falls all the same: the network learns how much is background. The four answers were not chosen by their quality. Blue is what was meant, orange what the network marks.
#
# ## A run, played again
#
# The library's preset `tables` trains the same network for 4,000 steps on all 4,000 scenes. At chosen steps of its beginning [the weights were kept](../shnet_course/measure/replay.py), and each kept network was asked two phrases about one validation scene. The first picture shows its masks. The slider under it adds a row of SFM's attention, which is what one word takes from the pixels, and one channel of HCAM's gate $\Lambda_{24}$. **Predict:** which is marked first, the grass or the heart?

# %%
from functools import partial

from ipywidgets import SelectionSlider

from shnet_course.measure.replay import read_replay
from shnet_course.pictures.lesson_06 import draw_growing, draw_replay
from shnet_course.widgets import explore

replay = read_replay()
print(f"kept are steps 0 to {replay.steps[-1]:,} of {replay.length:,}")
show(draw_growing(replay, replay.steps[[0, 4, 8, 9, 10, -1]]))
steps = replay.steps.tolist()
explore(partial(draw_replay, replay), step=SelectionSlider(options=steps, value=steps[-1]))

# %% [markdown]
# The controls appear where this notebook runs. For “grass” the network first marks some of everything: at step 400 half of the scene, sky and things included. From 500 on it is mostly meadow. The heart stays below a probability of 0.5 until step 600, is lost at 700, and stays found from 800 on.
#
# Attention and gate are no pointers: at step 1,000 “heart” takes most from the edge of the scene. The channel was chosen for opening most in what is meant at the last step kept. Lessons 04 and 09 measure both over many scenes.
#
# ## Small batches add up
#
# The paper's batch is 50. If the memory holds 25, take two halves, add their gradients, and then step. The gradient should be the same. **Predict:** is it, in evaluation mode and in training mode?


# %%
def gradient_of(network, batches):
    """The gradients of all weights, one after the other, added up over the batches."""
    network.zero_grad()
    for batch in batches:
        loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
        (loss / len(batches)).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def exact(batch):
    """The same batch in double precision, so that rounding cannot be the reason."""
    floats = {"levels": [level.double() for level in batch["levels"]]}
    return batch | floats | {"target": batch["target"].double()}


# %% tags=["nbval-check-output"]
precise = new_network().double()
whole = exact(batch)
halves = [exact(collate([dataset[indices] for indices in half])) for half in (eight[:2], eight[2:])]
for mode in ("eval", "train"):
    getattr(precise, mode)()
    once, twice = gradient_of(precise, [whole]), gradient_of(precise, halves)
    apart = ((twice - once).norm() / once.norm()).item()
    print(f"{mode:5} mode: {'equal to nine digits' if apart < 1e-9 else 'more than 1 % apart'}")

# %% [markdown]
# In evaluation mode it is. In training mode it is not, because BatchNorm takes mean and variance from the batch at hand, and a half has other ones than the whole. So `accumulate=2` is a batch of 50 for the gradient and of 25 for BatchNorm. **Now you:** [Gradient accumulation](../exercises/06_training_ex.ipynb).
#
# ## Numbers with eight significant bits
#
# Numbers of 16 bits take half the memory of the usual 32, and often less time. There are two formats: float16, and bfloat16 or *bf16* for short. bf16 has seven fraction bits; with the leading 1 that is never written they make eight significant bits. **Predict:** a thousand steps of the paper's learning rate start from a weight of 0.1. Where do they arrive in float32, and where in bf16?

# %% tags=["nbval-check-output"]
from shnet_course.pictures.lesson_06 import draw_formats

show(draw_formats())
for dtype in (torch.float32, torch.bfloat16):
    weight = torch.tensor(0.1, dtype=dtype)
    for _ in range(1000):
        weight += 1.2e-4
    print(f"{str(dtype):15} {weight.item():.3f}")

# %% [markdown]
# In bf16 the weight never moves, because each step is less than half a unit of its last bit. That is why precision is *mixed*: weights and optimiser stay in float32, and only products are computed in bf16. float16 has three significant bits more and a shorter exponent, so that small gradients become 0. Lesson 06b turns both into a training step.
#
# ## First broken run
#
# Our eight answers again. The broken run differs from the healthy one in one setting. **Which one, and what would you try next?**

# %%
broken = learn_by_heart(new_network(), batch, learning_rate=3e-2)
show(draw_training_runs({"healthy": by_heart, "broken": broken}, ["loss", "iou"]))

# %% [markdown]
# <details><summary><b>Answer</b></summary>
#
# The learning rate is too high. You recognise it by a loss that first goes *up*, since the network becomes sure of nonsense. AdamW's step is as long as the learning rate; if that is as long as the weights, the first steps replace the network. Try a tenth, until the loss falls from the start.
#
# </details>
#
# Here are more rates, each for 50 steps. **Which would you choose?**

# %%
from shnet_course.pictures.lesson_06 import draw_learning_rates

rates = {rate: learn_by_heart(new_network(), batch, learning_rate=rate) for rate in (1e-4, 1e-2)}
rates |= {1e-3: by_heart, 3e-2: broken}
show(draw_learning_rates(rates, know_nothing))

# %% [markdown]
# Between 0.001 and 0.01 the rate hardly matters here, and 0.0001 would need more steps. The paper's 0.00012 belongs to a network 80 times as large.
#
# ## Second broken run
#
# We want the shipped SHNet to work at dusk as well. So we darken the scenes a little and go on training. A colleague does the same with a backbone class of their own, frozen as the paper asks:

# %%
from shnet_lib import load_shnet
from shnet_lib.data.dataset import IMAGENET_MEAN, IMAGENET_STD, ReferringDataset


class TheirBackbone(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network.requires_grad_(False)

    def forward(self, images):
        return self.network(images)


mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))


def at_dusk(batch):
    """The batch with 70 % of the light."""
    return batch | {"images": (0.7 * (batch["images"] * std + mean) - mean) / std}


# %%
def score(network, batch):
    with torch.no_grad():
        predicted = network.eval()(batch) > 0  # (B, S, S)
    return overall_iou(*intersection_and_union(predicted, batch["target"] > 0.5))


def learn_the_dusk(theirs):
    """The network after three rounds of four steps; by day, its scores before and after each."""
    trained, rows = load_shnet("../data/weights/shnet_refshapes"), []
    network, words = trained.network, trained.vocabulary
    if theirs:
        network.backbone = TheirBackbone(network.backbone.network)
    dusk, day = (ReferringDataset(data[name], words, 128) for name in ("train", "val"))
    by_day = collate([day[indices] for indices in day.expressions_of_image])
    loader = DataLoader(dusk, batch_sampler=ImageBatchSampler(dusk, 16, 4), collate_fn=collate)
    for step in (0, 4, 8, 12):
        fit_by_hand(network, map(at_dusk, loader), min(step, 4), learning_rate=1e-5)
        rows.append({"step": step, "day_iou": score(network, by_day)})
    return network, by_day, rows


# %% [markdown]
# Look at the score on *ordinary* scenes. **The learning rate is a hundredth of a healthy one, and the backbone asks for no gradient. What happened?**

# %%
_, _, ours = learn_the_dusk(theirs=False)
network, by_day, theirs = learn_the_dusk(theirs=True)
show(draw_training_runs({"our backbone": ours, "their backbone": theirs}, ["day_iou"]))

# %% [markdown]
# <details><summary><b>Answer</b></summary>
#
# BatchNorm has leaked. A gradient changes its parameters, but a *forward pass* in training mode changes its running statistics. `network.train()` reached into their backbone, and each batch at dusk moved them a tenth of the way towards the dark. You recognise the leak by a good score that falls at once, however low the rate is. "Fixed" has to mean no gradient *and* evaluation mode for good, as in `FrozenBackbone` (lesson 02).
#
# </details>
#
# For evidence, compare their backbone with the shipped one, number by number. Then put back nothing but the statistics.

# %% tags=["nbval-check-output"]
before = load_shnet("../data/weights/shnet_refshapes").network.backbone.network.state_dict()
after = network.backbone.network.state_dict()
moved = {name for name in before if not torch.equal(before[name], after[name])}
parameters = dict(network.backbone.network.named_parameters())
print(f"of {len(parameters)} parameters {len(moved & parameters.keys())} moved,")
print(f"of {len(before) - len(parameters)} statistics {len(moved - parameters.keys())}")

network.backbone.network.load_state_dict(before)
back = abs(score(network, by_day) - ours[-1]["day_iou"]) < 0.05
print("with the old statistics it is as good as ours:", back)

# %% [markdown]
# ## Stop, and go on
#
# At each evaluation `fit` saves what the next step needs: weights, AdamW's two means, the step, and the state of the random numbers. Here are a run of 12 steps, and one that loses power after step 6. **Now you:** [Stop and go on](../exercises/06_training_ex.ipynb).

# %%
settings = replace(config, steps=12, batch_size=8, evaluate_every=3)
uninterrupted = fit(settings, data, runs / "uninterrupted")


def power_cut(history):
    if history[-1]["step"] == 6:
        raise RuntimeError("a power cut")


try:
    fit(settings, data, runs / "cut", on_evaluation=power_cut)
except RuntimeError as error:
    print(error)
resumed = fit(settings, data, runs / "cut", resume=True)
whole, parts = (r.trained.network.state_dict() for r in (uninterrupted, resumed))
print("the tensors are equal:", all(torch.equal(whole[name], parts[name]) for name in whole))
losses = [[row["loss"] for row in run.history] for run in (uninterrupted, resumed)]
print("the losses are equal:", losses[0] == losses[1])

# %% [markdown]
# On several GPUs the same run is one command: [Several GPUs](../docs/several_gpus.md).
#
# ## What the paper does not say
#
# | | section 4.2 | released code |
# |---|---|---|
# | how long | nothing | stops after 6 epochs without gain |
# | batch | 50 | 32 (its README) |
# | words | 25 | 30 (its README) |
# | augmentation | none named | grey photos, with probability 0.3 |
# | how the target is resized | nothing | bilinearly, then above 0: a larger mask ([lesson 07](07_evaluation.ipynb)) |
#
# **How long.** The length decides every rate. Our presets say 30 epochs, which is a guess: 2,412 steps per epoch of UNC, 72,360 in all.
#
# **How layers start.** torch starts a convolution with smaller weights than He et al. (2015) advise in front of a ReLU. Its first logits are near 0, so the first guess is "perhaps" everywhere. The library follows He et al., with six times the variance, and its first guess is "background". Here are our eight answers from torch's own start:


# %%
def torch_start():
    """The same network, its trained convolutions as torch leaves them."""
    network = new_network()
    for part in (network.projections, network.fusion, network.aspp, network.upsample):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.reset_parameters()
    return network


slow = learn_by_heart(torch_start(), batch)
show(
    draw_training_runs(
        {"the library's start": by_heart, "torch's own start": slow}, ["loss", "iou"]
    )
)

# %% [markdown]
# ## Five questions
#
# 1. After 500 steps the loss equals the entropy of the targets. What was learnt?
# 2. Validation IoU is 0 while the loss falls. Is the run broken?
# 3. What changes with `accumulate=5`, and what does not?
# 4. Why do weights stay in float32 when bf16 multiplies?
# 5. Can you resume a finished run of 30 epochs for ten more?
#
# <details><summary>Answers</summary>
#
# 1. How much is foreground, and nothing else. Check that phrases and images arrive.
# 2. Not yet: the network learns how much is background before it marks a pixel. Wait for the next evaluations.
# 3. The gradient is still the mean over 50 expressions. BatchNorm sees 10 at a time.
# 4. A step of 1e-4 on a weight of 0.1 is less than half a unit of the last of its eight bits. It would be lost.
# 5. No: its rate has decayed to 0. Begin a run of 40 epochs, or a new one from its weights (`start_from`).
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - SHNet learnt eight answers by heart in 50 steps, and could not where the phrases were hidden.
# - Your loop of twenty lines and the library's `fit` gave the same losses to the last bit.
# - A thousand steps on 1,500 scenes gave a network that answers phrases on scenes it had never seen; in a run played again the grass came before the heart.
# - Polynomial decay depends only on its length; half batches change only what BatchNorm sees; bf16 keeps eight significant bits.
# - A high rate makes the loss rise first; leaked statistics ruin a good score without a gradient.
# - A run that lost power went on bit for bit.
#
# Practise: [the exercises of this lesson](../exercises/06_training_ex.ipynb).
#
# Next: [06b · Training on a GPU](06b_training_on_a_gpu.ipynb), then [07 · Evaluation](07_evaluation.ipynb).
