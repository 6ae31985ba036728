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
# # 06b · Training on a GPU
#
# *Section 4.2, implementation details · 30 minutes to read, 1.5 minutes to run on two CPU cores*
#
# **You need to know** the training loop of lesson 06. You need no GPU: every cell runs on a CPU, and uses a GPU where there is one.
#
# In this lesson you will
#
# - grow one loop in marked steps, and read after each what it gains and costs;
# - see a device that starves and one that is fed, and what it costs to read a number;
# - fit the paper's batch of 50 into 11, 16, 24 and 80 GB;
# - prove that two processes compute the gradient of one;
# - read the library's training step, and recognise every line.

# %% [markdown]
# ## Two machines in one
#
# The CPU (the *host*) reads photos and runs Python. The GPU (the *device*) multiplies. A step is fast if the device always has work, and if its memory holds the batch. Both can fail without any error.
#
# The network is the small one of lesson 06, on scenes of 64 x 64 pixels. Every step below starts from the same weights and sees the same batches of 16, so that the losses can be compared.

# %%
import torch

device = "cuda" if torch.cuda.is_available() else "cpu"
print(torch.cuda.get_device_name() if device == "cuda" else "no GPU here: the device is the CPU")

# %%
from shnet_lib.data import read_expressions
from shnet_lib.data.dataset import ReferringDataset, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.training.config import configure

config = configure("tables", batch_size=16, **{"model.image_size": 64})
train_all = read_expressions("../data/refshapes", "refshapes-unc", "train")
photos = set(sorted({expression.image_path for expression in train_all})[:60])
expressions = [e for e in train_all if e.image_path in photos]
vocabulary = Vocabulary.from_texts(expression.text for expression in expressions)
dataset = ReferringDataset(expressions, vocabulary, image_size=64)
STEPS = 6

# %%
from dataclasses import replace

from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from shnet_lib.model.shnet import SHNet
from shnet_lib.training.prepare import MicroBatches


def new_network():
    set_seed(0)  # the same weights each time
    return SHNet(config.model, len(vocabulary)).to(device)  # NEW: .to(device)


def batches_of(accumulate=1, first=0):
    """Which expressions each batch holds: the library's sampler."""
    batches = MicroBatches(replace(config, accumulate=accumulate), dataset)
    batches.first_step, batches.last_step = first, STEPS
    return batches


# %% [markdown]
# ## Step 1: weights and batch on one device
#
# Operations need all of their tensors on the same device. So the network moves once, and each batch moves when it comes. What differs from lesson 06 is marked `# NEW`.

# %%
import torch.nn.functional as F

from shnet_lib.training.fit import make_optimizer


def to_device(batch):
    return {name: tensor.to(device) for name, tensor in batch.items()}


def train(network, batches):
    optimizer = make_optimizer(network, config, torch.device(device))  # lesson 06's AdamW
    losses = []
    for batch in batches:
        batch = to_device(batch)  # NEW
        loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %% [markdown]
# A GPU is sent its work and returns at once. So a clock that does not wait for it measures nothing: `measure_training` calls `torch.cuda.synchronize()` first. The function leaves out two steps to warm up, and reads the peak from `torch.cuda.max_memory_allocated()`. On a CPU it adds up tensors.

# %%
from shnet_course.measure.training import as_table, measure_training

rows = []


def measure(name, train, loader, make_network=new_network):
    """Add a row to the table, and print it."""
    rows.append(measure_training(name, train, make_network, loader, STEPS, config.batch_size))
    print(as_table(rows))


loader = DataLoader(dataset, batch_sampler=batches_of(), collate_fn=collate)
measure("1 device", train, loader)

# %% [markdown]
# ## Step 2: read no number
#
# `loss.item()` asks for a number that the device has not computed yet. The CPU has to wait for it, and cannot send the next step meanwhile. **Predict:** sending a step takes 3 ms and computing it 7 ms. How long do six steps take with `.item()` in each, and without?

# %%
from shnet_course.pictures.base import show
from shnet_course.pictures.lesson_06b import draw_reading

show(draw_reading(host=3, device=7))


# %% [markdown]
# The picture is drawn from these two numbers, and sends a step as a whole. A real step is sent kernel by kernel, with the same result: each wait costs the time that the next sending takes. `.item()`, `int(...)`, `print(loss)`, `.cpu()` and `if loss > 3` all wait. On a CPU nothing is gained, because host and device are one. **Now you:** [Find the waits](../exercises/06b_training_on_a_gpu_ex.ipynb).


# %%
def train(network, batches):
    optimizer = make_optimizer(network, config, torch.device(device))
    losses = []
    for batch in batches:
        batch = to_device(batch)
        loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())  # NEW: the number stays on the device
    return torch.stack(losses).tolist()  # NEW: one wait for all of them


measure("2 no .item()", train, loader)

# %% [markdown]
# ## Step 3: feed the device
#
# So far one process decodes photos, draws masks, and sends work in between. Workers decode at the same time. *Pinned* memory cannot be swapped out, so the GPU copies from it by itself, and `non_blocking` lets the CPU go on meanwhile. `train` stays as it is:


# %%
def to_device(batch):
    return {name: t.to(device, non_blocking=True) for name, t in batch.items()}  # NEW


def make_loader(batches, workers=2):
    pinned = device == "cuda"
    settings = {"num_workers": workers, "pin_memory": pinned}  # NEW
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, **settings)


measure("3 two workers", train, make_loader(batches_of()))

# %% [markdown]
# On two cores the workers take time from the computing. A GPU leaves the cores free. When does it starve? The answer depends on two times only, those of loading and of computing a batch.
#
# **Predict:** what share of the time does a device work that computes a batch four times as fast as it is loaded, without workers? How many workers feed it?

# %%
import time

from shnet_course.pictures.lesson_06b import draw_feeding
from shnet_course.widgets import explore

began = time.perf_counter()
for _ in DataLoader(dataset, batch_sampler=batches_of(), collate_fn=collate):
    pass
load = 1000 * (time.perf_counter() - began) / STEPS
compute = rows[1]["ms/step"] - load
print(f"loading a batch: {load:.1f} ms, computing it: {compute:.1f} ms")


def draw(load_over_compute, workers):
    return draw_feeding(load, load / load_over_compute, workers)


here = round(load / compute, 2)
explore(draw, load_over_compute=[4, here, 1, 8, 16], workers=[4, 1, 2, 8])

# %% [markdown]
# Loading is measured here, computing is set by the ratio. The first device starves: most of its row is white. The second is fed as soon as the workers together are faster than it is: workers ≥ load / compute. `torch.profiler` draws the same picture of a real step, kernel by kernel: wrap some steps in `with torch.profiler.profile() as p:` and open what `p.export_chrome_trace("step.json")` writes in a browser's tracing page. Look for white first.
#
# At the paper's size one core fills 677 expressions per second from photos. [How many cores a fast GPU needs](../docs/performance.md), and what a cache of resized photos gains, stands under "The input pipe".
#
# ## Step 4: sixteen bits
#
# Lesson 06 showed what bf16 keeps. `autocast` multiplies in it and leaves weights, sums, and the loss in float32:


# %%
def train(network, batches):
    optimizer = make_optimizer(network, config, torch.device(device))
    losses = []
    for batch in batches:
        batch = to_device(batch)
        with torch.autocast(device, torch.bfloat16):  # NEW
            mask_logits = network(batch)
        mask_logits = mask_logits.float()  # NEW: the loss in float32
        loss = F.binary_cross_entropy_with_logits(mask_logits, batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


measure("4 bf16", train, make_loader(batches_of()))

# %% [markdown]
# A GPU with tensor cores gains most here. GPUs older than 2020 have no bf16 but fp16, whose exponent is short: small gradients become 0. A *scaler* multiplies the loss before `backward()` and divides the gradients before the step.

# %% tags=["nbval-check-output"]
for name, number in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
    for scale in (1, 2**15):
        weight = torch.ones((), dtype=number, requires_grad=True)
        (weight * 1e-9).backward(torch.tensor(scale, dtype=number))
        print(f"{name}, scale {scale:5}: gradient {weight.grad.float().item() / scale:.1e}")

# %% [markdown]
# In a loop these are three lines: `scaler = torch.amp.GradScaler(device)`, `scaler.scale(loss).backward()`, then `scaler.step(optimizer)` and `scaler.update()`. A step whose gradients overflowed is left out, and the scale halved. With bf16 you need none of it; with `precision=fp16` the library's `accelerator.backward` and its optimiser do it. **Now you:** [A step in sixteen bits](../exercises/06b_training_on_a_gpu_ex.ipynb).
#
# ## Step 5: better kernels
#
# Three switches change how a GPU computes, not what.
#
# - **TF32** rounds the factors of float32 products to 10 bits of fraction. The switch helps what autocast leaves in float32.
# - **Fused attention** never writes the N x N weights to memory. This saves memory on a CPU, too: below at the paper's N = 349.
# - **`compile`** joins small kernels into large ones, after a minute of compiling.

# %%
from shnet_course.measure.memory import MIB, saved_bytes

query, key, value = (torch.randn(1, 8, 349, 64, device=device, requires_grad=True) for _ in "qkv")


def written_out():
    return (query @ key.transpose(-2, -1) / 8).softmax(-1) @ value


def fused():
    return F.scaled_dot_product_attention(query, key, value)


assert torch.allclose(written_out(), fused(), atol=1e-2 if device == "cuda" else 1e-5)
for name, run in (("written out", written_out), ("fused", fused)):
    print(f"{name:11} keeps {saved_bytes(run) / MIB:.1f} MiB per expression for backward")


# %%
def new_compiled_network():
    network = new_network()
    network.compile(dynamic=True)  # NEW: batches differ in words and photos
    return network


if device == "cuda":
    torch.set_float32_matmul_precision("high")  # NEW: TF32
    measure("5a TF32", train, make_loader(batches_of()))
    measure("5b compile", train, make_loader(batches_of()), new_compiled_network)
else:
    rows.append({"step": "5 TF32, compile", "why": "on CUDA only"})

# %% [markdown]
# `compile` works on a CPU as well. For the preset `quick` it gained a twentieth there, about what compiling cost ([measured](../docs/performance.md)).
#
# ## Step 6: when the batch does not fit
#
# *Accumulate*: take the batch in equal shares and add up their gradients (lesson 06). *Recompute*: keep only what went into each part, and run the part again when `backward()` comes to it. **Predict:** which of the two changes the loss?


# %%
def gradient_of(network, shares):
    """Forward and backward through the shares of one step; the mean of their losses."""
    losses = []
    for batch in shares:  # NEW: several per step
        batch = to_device(batch)
        with torch.autocast(device, torch.bfloat16):
            mask_logits = network(batch)
        loss = F.binary_cross_entropy_with_logits(mask_logits.float(), batch["target"])
        (loss / len(shares)).backward()  # NEW: the mean of the shares
        losses.append(loss.detach())
    return torch.stack(losses).mean()


# %%
def train(network, batches, accumulate=1):
    optimizer = make_optimizer(network, config, torch.device(device))
    losses = []
    for shares in zip(
        *[iter(batches)] * accumulate, strict=True
    ):  # NEW: `accumulate` batches at a time
        losses.append(gradient_of(network, shares))
        optimizer.step()
        optimizer.zero_grad()
    return torch.stack(losses).tolist()


def train_halves(network, batches):
    return train(network, batches, accumulate=2)


measure("6a accumulate=2", train_halves, make_loader(batches_of(accumulate=2)))

# %%
from shnet_lib.training.recompute import recompute_activations


def train_recomputing(network, batches):
    recompute_activations(network)  # NEW
    return train(network, batches)


measure("6b recompute", train_recomputing, make_loader(batches_of()))
by_name = {row["step"]: row for row in rows}
assert abs(by_name["6b recompute"]["last loss"] - by_name["4 bf16"]["last loss"]) < 1e-2

# %% [markdown]
# Recomputing changes nothing but time and memory. Accumulating changes the loss a little: BatchNorm sees 8 expressions at a time instead of 16.
#
# ## Which card takes how much?
#
# A step's peak is a straight line: a fixed part (weights, gradients, AdamW's two means) and so much per expression. Two batches give both; the record of such a measurement is read here for the paper's network in bf16, with a photo for each expression. Where the line comes from `docs/results/gpu.json`, a GPU was asked; otherwise the tensors of a step on 50 expressions were counted.

# %%
from pathlib import Path

from shnet_course.measure.training import ASIDE, memory_of_step

record, performance = Path("../docs/results/gpu.json"), Path("../docs/performance.json")
measured = {grid: memory_of_step(record, performance, grid) for grid in (18, 40)}
for grid, lines in measured.items():
    for recompute, (fixed, each) in lines.items():
        print(f"grid {grid}, recompute={recompute!s:5}: {fixed:.0f} MiB + {each:.0f} MiB each")


# %%
def fit_batch(card, lines, batch=50):
    """The first setting that fits a card (GB): plain, then recompute, then ever smaller shares."""
    room = 1024 * (card - ASIDE)  # MiB; a GB is left to CUDA itself
    for accumulate in (1, 2, 5, 10):
        for recompute in (False, True):
            fixed, each = lines[recompute]
            if fixed + each * batch / accumulate <= room:
                return f"accumulate={accumulate} recompute={str(recompute).lower()}"
    return "does not fit"


for card in (11, 16, 24, 80):
    for grid, lines in measured.items():
        print(f"{card} GB, grid {grid}: batch_size=50 {fit_batch(card, lines)}")

# %% [markdown]
# The paper could not train at 40 x 40 on 11 GB (section 4.3). Recomputing is tried before smaller shares, because it leaves BatchNorm as it is. A GPU's convolutions borrow memory that no count of tensors sees: if a setting just fits, take the next one. **Now you:** [A batch for a card](../exercises/06b_training_on_a_gpu_ex.ipynb).
#
# ## Step 7: stop, and go on
#
# A night's run is interrupted sooner or later. All that the next step depends on goes to disk: weights, AdamW's means, the place in the data (`batches_of(first=...)`), and the random state where there is dropout.


# %%
def train_saving(network, batches, checkpoint, accumulate=1):
    optimizer = make_optimizer(network, config, torch.device(device))
    losses = []
    if checkpoint.exists():  # NEW: go on
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        losses = saved["losses"]
    for shares in zip(*[iter(batches)] * accumulate, strict=True):
        losses.append(gradient_of(network, shares))
        optimizer.step()
        optimizer.zero_grad()
        if len(losses) % 3 == 0:  # NEW: written under another name, renamed when it is whole
            states = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(states | {"losses": losses}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    return torch.stack(losses).tolist()


# %%
from itertools import islice
from tempfile import TemporaryDirectory


def train_with_checkpoints(network, batches):
    with TemporaryDirectory() as folder:
        return train_saving(network, batches, Path(folder) / "last.pt")


measure("7 checkpoints", train_with_checkpoints, make_loader(batches_of()))

# %%
with TemporaryDirectory() as folder:
    checkpoint = Path(folder) / "last.pt"
    train_saving(new_network(), islice(make_loader(batches_of()), 3), checkpoint)  # the power fails
    resumed = train_saving(new_network(), make_loader(batches_of(first=3)), checkpoint)
apart = abs(resumed[-1] - rows[-1]["last loss"])
print(f"{len(resumed)} losses; the last one differs from an uninterrupted run's by {apart:.1e}")
assert apart < (1e-2 if device == "cuda" else 1e-9)  # a GPU may add in another order

# %% [markdown]
# ## Evaluation on the device
#
# Photos differ in size, and each expression is measured at its photo's own size (lesson 07). Predictions form one tensor, masks a list. So the network runs on a batch, and only resizing and counting go one by one, on the device too:

# %% tags=["nbval-check-output"]
from shnet_lib.training.evaluate import evaluate, probability_at
from shnet_lib.training.metrics import intersection_and_union

mask_logits = torch.randn(3, 64, 64, device=device)  # of one forward pass
masks = [torch.ones(size, dtype=torch.bool, device=device) for size in ((48, 64), (64, 43), (9, 7))]
counts = []
for logits, mask in zip(mask_logits, masks, strict=True):
    probability = probability_at(logits[None], mask.shape)[0]  # (H, W) of this photo
    counts.append(torch.stack(intersection_and_union(probability > 0.5, mask)))
counts = torch.stack(counts).tolist()  # one wait per batch, not one per expression
print("unions:", [union for _, union in counts])

# %%
val = read_expressions("../data/refshapes", "refshapes-unc", "val")[:100]
val_set = ReferringDataset(val, vocabulary, 64, evaluation=True)
network = new_network()
for size in (1, 50):
    began = time.perf_counter()
    evaluate(network, val_set, batch_size=size)
    rate = len(val) / (time.perf_counter() - began)
    print(f"in batches of {size:2}: {rate:5.0f} expressions/s, UNC's val in {10834 / rate:4.0f} s")

# %% [markdown]
# UNC's val has 10,834 expressions; the seconds are those that this small network would take for as many. Without gradients nothing is kept, so an evaluation's batch always fits where training's did.
#
# ## Several GPUs
#
# One process drives each GPU. What do they exchange?

# %%
from shnet_course.pictures.lesson_06b import draw_replicas

show(draw_replicas())

# %% [markdown]
# Only gradients. `DistributedDataParallel` (DDP) averages them during `backward()`. Let two processes prove it here; *gloo* is the exchange between CPUs, *nccl* that between GPUs. They compute in 64 bits, so that the order of a sum does not show. This is all that each of them does:

# %%
from inspect import getsource

from shnet_course.measure.replicas import save_gradient

print(getsource(save_gradient))

# %% tags=["nbval-check-output"]
import torch.multiprocessing as processes

small = MicroBatches(replace(config, batch_size=8, accumulate=2), dataset)
small.last_step = 1
shares = [collate([dataset[indices] for indices in share]) for share in small]
for share in shares:
    share.update({n: t.double() for n, t in share.items() if torch.is_floating_point(t)})
network = new_network().cpu().double()
with TemporaryDirectory() as folder:
    arguments = (network, shares, Path(folder))
    processes.start_processes(save_gradient, arguments, nprocs=2, start_method="spawn")
    two = [torch.load(Path(folder) / f"gradient{rank}.pt") for rank in range(2)]

losses = [F.binary_cross_entropy_with_logits(network(each), each["target"]) for each in shares]
(sum(losses) / len(losses)).backward()  # one process, both shares
one = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
largest = max(gradient.abs().max() for gradient in one.values())
apart = max((one[name] - each[name]).abs().max() for each in two for name in one) / largest
assert apart < 1e-12
print(f"{len(one)} gradients, twice: equal to those of one process")

# %% [markdown]
# So two processes compute what one does with `accumulate=2`, in half the time. **Now you:** [The shares of two processes](../exercises/06b_training_on_a_gpu_ex.ipynb).
#
# | | with several processes |
# |---|---|
# | batch | shared out. The library's `batch_size` counts all of them: 50 on two GPUs are 25 on each |
# | evaluation | shared out; rows are gathered, each expression counts once |
# | weights, AdamW's means | whole in each process |
# | BatchNorm | sees only its process's share; `SyncBatchNorm` would see all, at the price of waiting in every layer |
# | learning rate | stays, as long as the batch does. For a larger batch, the square root of the growth is Adam's usual rule; it was not tried on this network |
# | `workers` | per process |
#
# The cell above becomes one command, on all GPUs of a machine ([more](../docs/several_gpus.md)):
#
# ```
# accelerate launch -m shnet_lib train --preset unc-320 --data /path/to/data --run runs/unc
# ```
#
# ## What it all gained
#
# First your machine's table. On a CPU most steps gain nothing, since they remove waits that a CPU does not have. Then a GPU at the paper's size; the title says whether it was measured.

# %%
from shnet_course.measure.training import gpu_rates
from shnet_course.pictures.lesson_06b import draw_steps, draw_throughput

print(as_table(rows))
show(draw_steps(rows))
title, rates = gpu_rates(record)
show(draw_throughput(title, rates))
fastest = max(rates.values())
print(
    f"30 epochs of UNC at {fastest:,.0f} expressions/s: {30 * 120_624 / fastest / 60:.0f} minutes"
)

# %% [markdown]
# ## The library's step
#
# Nothing is left out:

# %%
from shnet_lib.training.fit import train_step

print(getsource(train_step))

# %% [markdown]
# | line | you know it from |
# |---|---|
# | `for number, batch in enumerate(micro_batches, ...)` | step 6, shares of one batch |
# | `to_device(batch, accelerator.device)` | steps 1 and 3; `non_blocking` is inside |
# | `grayscale_some(...)` | lesson 06: the released code's grey photos, off in the paper's presets |
# | `accelerator.no_sync(model)` | several GPUs: no all-reduce before the last share |
# | `model(batch).float()` | step 4; the prepared model brings its own autocast |
# | `binary_cross_entropy_with_logits` | section 3.4, lesson 05 |
# | `accelerator.backward(loss / len(micro_batches))` | step 6's mean; with fp16, step 4's scaler |
# | `intersection_and_union(...)`, `loss.detach()`, `torch.stack(...)` | step 2: figures stay on the device until `fit` reads ten steps at once |
#
# `fit` does the rest: `optimizer.step()`, `zero_grad()`, the rate, checkpoints.
#
# ## Five questions
#
# 1. The GPU's fan is silent, `nvidia-smi` shows 20 %, and every core is busy. What do you change first?
# 2. Somebody adds `if loss.isnan(): stop()` to every step. What does it cost?
# 3. Why does bf16 need no scaler?
# 4. You have four GPUs of 11 GB and the paper's batch of 50. What must you change?
# 5. Memory is full at batch 50. You set `accumulate=2`; a colleague sets `recompute=true`. Whose result is nearer to the paper's?
#
# <details><summary>Answers</summary>
#
# 1. The device starves: take more workers, and if no core is left, `cache_images`. A smaller network or fewer bits would only make it starve more.
# 2. A wait per step, because `if` needs the number. Read it every ten steps.
# 3. Its exponent has eight bits, as float32's. Its range is the same; only precision is lost.
# 4. 50 does not divide by 4: take 48 or 52. Each GPU then holds 12 or 13 expressions, which is also what BatchNorm sees.
# 5. The colleague's: BatchNorm still sees 50 expressions. It costs a second forward pass.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - One loop grew from lesson 06's to one with workers, bf16, accumulation, recomputation and checkpoints, with a row of figures after each step.
# - A device starves when loading takes longer than computing and there are too few workers; a number that is read in every step makes it wait too.
# - A fixed part and so much per expression decide what fits a card; recomputing leaves BatchNorm as it is.
# - Two processes computed the gradient of one to a millionth, because they exchange nothing but gradients.
# - The library's training step has no line that you have not met.
#
# Practise: [the exercises of this lesson](../exercises/06b_training_on_a_gpu_ex.ipynb).
#
# Next: [07 · Evaluation](07_evaluation.ipynb), where a single number turns out to be several.
