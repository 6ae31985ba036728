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
# # Exercise 06b · Training on a GPU
#
# *Belongs to [lesson 06b](../notebooks/06b_training_on_a_gpu.ipynb) · four exercises · 60 minutes*
#
# You need no GPU: each check runs on a CPU, and sees there what would be wrong on a GPU. Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how. The fold-outs go from a hint to the whole solution.

# %%
from inspect import getsource
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from shnet_course.checks import check
from shnet_course.checks.lesson_06b import train_waiting
from shnet_course.measure.training import memory_of_step

# %% [markdown]
# ## A step in sixteen bits
#
# *Difficulty: easy · 10 minutes · step 4 of the lesson*
#
# Products in bf16 are fast, small steps in bf16 are lost (lesson 06). `autocast` keeps them apart: inside of its block the factors of each product are rounded to bf16, while weights, gradients and the optimiser stay in float32. The loss is a mean over many pixels, and it is computed in float32 too.
#
# Three questions decide whether your step is right. Where does the block end? In which format do the logits go into the loss? What may the step return without a wait?


# %%
def autocast_step(network: nn.Module, batch: dict[str, Tensor], optimizer: Optimizer) -> Tensor:
    """Train on one batch, with products in bf16.

    Args:
        network: `network(batch)` gives mask logits (B, H, W). Its modes are set already.
        batch: `target (B, H, W)`, 0 and 1, beside what the network reads; all of it lies on the
            network's device, `batch["target"].device`. It may be a CPU or a GPU.
        optimizer: holds the parameters that are trained; gradients may be left from before.

    Returns:
        the mean binary cross-entropy, () float32, still on the device and free of its graph.
    """
    ### BEGIN SOLUTION: the forward pass inside of autocast, the rest outside
    optimizer.zero_grad()
    with torch.autocast(batch["target"].device.type, torch.bfloat16):
        mask_logits = network(batch)  # (B, H, W), bf16
    loss = F.binary_cross_entropy_with_logits(mask_logits.float(), batch["target"])
    loss.backward()  # each gradient in the format of its forward pass
    optimizer.step()
    return loss.detach()
    ### END SOLUTION


# %% tags=["check"]
check("a step in sixteen bits", autocast_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `with torch.autocast(device_type, torch.bfloat16):` needs the *kind* of the device as a text, "cpu" or "cuda": `device.type`. A block for "cuda" does nothing to a network on the CPU.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# Only the forward pass belongs into the block. `mask_logits.float()` is float32. `loss.detach()` is the same number without its graph, and nobody waits for it.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your backward() runs inside of autocast"</summary>
#
# The graph remembers in which format each product was computed, and `backward()` follows it. Inside of the block, operations of `backward()` itself could be rounded once more. torch advises against it.
#
# </details>

# %% [markdown]
# ## Find the waits
#
# *Difficulty: medium · 15 minutes · step 2 of the lesson*
#
# The loop below is right, and slow on a GPU. Three of its lines ask for a number that the device has not computed yet, so that the host waits there in every step. One of the three says `.item()`. **Find the other two.**

# %%
print(getsource(train_waiting))

# %% [markdown]
# Now write the loop so that it returns the same figures and sends all steps before it reads the first number. The check trains on a CPU, where nobody waits; it counts instead how often Python reads from a tensor, and names the line.


# %%
def train_without_waiting(
    network: nn.Module, batches: list[dict[str, Tensor]], optimizer: Optimizer
) -> tuple[list[float], float, int]:
    """Train on each batch once; read numbers only after the last step.

    Args:
        network: `network(batch)` gives mask logits (B, H, W).
        batches: each with a `target (B, H, W)`, 0 and 1.
        optimizer: holds the parameters that are trained; no gradient is left from before.

    Returns:
        the loss of each step; the lowest of them; how many pixels were both marked (logit above 0)
        and meant (target above 0.5), in all batches together.
    """
    ### BEGIN SOLUTION: keep tensors in the loop, read them after it
    losses, found = [], []
    for batch in batches:
        mask_logits = network(batch)  # (B, H, W)
        loss = F.binary_cross_entropy_with_logits(mask_logits, batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())  # ()
        found.append(((mask_logits > 0) & (batch["target"] > 0.5)).sum())  # ()
    numbers = torch.stack(losses).tolist()  # one wait for all of them
    return numbers, min(numbers), int(torch.stack(found).sum())
    ### END SOLUTION


# %% tags=["check"]
check("find the waits", train_without_waiting)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which lines need a *value*, and which only say what is to be computed? Python's `min` has to decide which of two is smaller. And how many entries has `x[mask]`?
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# A list of `loss.detach()` costs nothing; `torch.stack(losses).tolist()` reads all of it at once. `a & b` of two masks has a shape that is known, so that `(a & b).sum()` needs no wait.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "a mask as an index"</summary>
#
# `mask_logits[target > 0.5]` has as many entries as there are True ones. The host must know that number to make the tensor, so it waits. Combine the masks and count.
#
# </details>

# %% [markdown]
# On a GPU torch finds such lines itself: after `torch.cuda.set_sync_debug_mode("warn")` each wait is a warning with its line.

# %% [markdown]
# ## A batch for a card
#
# *Difficulty: medium · 20 minutes · "Which card takes how much?", section 4.3*
#
# A colleague measured the fullest moment of a step with two batches, with and without recomputing. You know the card, and you want the paper's batch. Which `accumulate` and `recompute` do you set?
#
# - A peak is a straight line: a fixed part, and so much per expression. Two points give it.
# - One GiB (1024 MiB) of the card is CUDA's own.
# - Accumulating cuts the batch into equal shares, and only one share is on the card at a time. A share has at least two expressions, because BatchNorm needs them.
# - Fewer shares are better than more, since BatchNorm sees a share. With the same number of shares, do not recompute where it fits without.
#
# Here are such peaks of the paper's network at a grid of 40 x 40 in bf16, for 5 and for 10 expressions, from the lines of the lesson:

# %%
record, performance = Path("../docs/results/gpu.json"), Path("../docs/performance.json")
lines = memory_of_step(record, performance, grid=40)
peaks = [{n: round(fixed + n * each) for n in (5, 10)} for fixed, each in lines.values()]
print("plain     ", peaks[0])
print("recomputed", peaks[1])


# %%
def fit_batch(
    card: float, batch: int, plain: dict[int, float], recomputed: dict[int, float]
) -> tuple[int, bool] | None:
    """The setting that is nearest to the whole batch, among those that fit.

    Args:
        card: the memory of the GPU, GiB.
        batch: expressions per optimiser step.
        plain: expressions -> MiB at the fullest moment of a step with so many; two measurements.
        recomputed: the same with `recompute=True`.

    Returns:
        (accumulate, recompute); None where nothing fits.
    """
    ### BEGIN SOLUTION: two lines, then the tries in the order of preference
    room = 1024 * (card - 1)  # MiB
    lines = []
    for peaks in (plain, recomputed):
        (few, low), (many, high) = sorted(peaks.items())
        each = (high - low) / (many - few)  # MiB per expression
        lines.append((low - few * each, each))
    for accumulate in range(1, batch // 2 + 1):
        if batch % accumulate:
            continue
        for recompute, (fixed, each) in zip((False, True), lines, strict=True):
            if fixed + each * batch / accumulate <= room:
                return accumulate, recompute
    return None
    ### END SOLUTION


# %% tags=["check"]
check("a batch for a card", fit_batch)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Begin with the line. 5 expressions take 2,000 MiB and 10 take 3,500, say: then one takes 300, and 500 are there without any.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# Two loops: the outer one over the numbers that divide the batch, from 1 on; the inner one over recompute, first False, then True. Return at the first setting that fits.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "the price of its expressions"</summary>
#
# Peak divided by expressions is too much per expression: it deals out the weights, too, and they are paid once. With that price a larger batch seems to need more than it does.
#
# </details>

# %% [markdown]
# Try it on the peaks printed above: `fit_batch(11, 50, *peaks)`, and then a card of your own.

# %% [markdown]
# ## The shares of two processes
#
# *Difficulty: hard · 15 minutes · "Several GPUs"*
#
# Each GPU has a process of its own, and each process runs the same code. It knows only its `rank`, 0 or 1, and how many processes there are. It must find its part of every batch without asking the other one. Four things are to hold:
#
# - what both read in a step is what one process alone would read in it;
# - no expression is read twice in an epoch;
# - every process takes the same number of steps, with equally many expressions in each: one that has nothing to do keeps the other waiting for its gradient;
# - each epoch has another order, and the same seed gives the same orders again.


# %%
def process_batches(
    count: int, batch_size: int, seed: int, epoch: int, rank: int, processes: int
) -> list[list[int]]:
    """Which expressions a process reads in each step of an epoch.

    Args:
        count: how many expressions there are; their numbers are 0 to count - 1.
        batch_size: expressions per step, of all processes together; `processes` divides it.
        seed, epoch: decide the order.
        rank: this process, 0 to processes - 1.

    Returns:
        a list of steps; each is a list of batch_size / processes numbers. Expressions that make no
        whole batch at the end of the epoch are left out.
    """
    ### BEGIN SOLUTION: one order for all, cut into batches, of each the part of this process
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    order = torch.randperm(count, generator=generator).tolist()
    share = batch_size // processes
    steps = []
    for first in range(0, count - count % batch_size, batch_size):
        mine = first + rank * share
        steps.append(order[mine : mine + share])
    return steps
    ### END SOLUTION


# %% tags=["check"]
check("the shares of two processes", process_batches)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The order must be the same in all processes, so that the rank has no say in it. Only after the shuffling does each take another part.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `torch.Generator().manual_seed(...)` makes random numbers that depend on nothing else; `torch.randperm(count, generator=generator)` shuffles with them. Whole batches end at `count - count % batch_size`.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "a region of the epoch for itself"</summary>
#
# You gave the first half of the epoch to process 0 and the second half to process 1. Nothing is read twice, but a step is no batch of the one process any more, and two runs with one and with two GPUs cannot be compared. Cut into batches first, and each batch into parts.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can write a step in bf16, recognise a line that makes the host wait, fit a batch to a card from two measurements, and share an epoch out among processes. The library's own versions stand in `shnet_lib/training/fit.py` (`train_step`) and `shnet_lib/training/prepare.py` (`MicroBatches`); the advice of notebook 10 on a batch comes from `shnet_course/measure/machine.py`.
