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
# # Exercise 06 · Training
#
# *Belongs to [lesson 06](../notebooks/06_training.ipynb) · four exercises · 55 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how. The fold-outs go from a hint to the whole solution.

# %%
from inspect import getdoc

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from shnet_course.checks import check
from shnet_course.checks.lesson_06 import SmallRun

# %% [markdown]
# ## The poly schedule
#
# *Difficulty: easy · 5 minutes · section 4.2: "polynomial decay with a power of 0.7"*
#
# The learning rate falls a little with each step and is 0 when the run ends. After $t$ of $T$ steps it is
#
# $$\eta_t = \eta_0\,\left(1 - \frac{t}{T}\right)^{0.7}$$
#
# People plan a run in epochs. The formula knows only steps.


# %%
def poly_rate(step: int, steps_per_epoch: int, epochs: int, initial: float) -> float:
    """The learning rate after `step` steps.

    Args:
        step: t, how many steps were taken since training began, over all epochs.
        steps_per_epoch, epochs: how long the run is.
        initial: the rate of the first step.
    """
    ### BEGIN SOLUTION: the steps of the whole run, then the formula
    steps = steps_per_epoch * epochs  # T
    return initial * (1 - step / steps) ** 0.7
    ### END SOLUTION


# %% tags=["check"]
check("the poly schedule", poly_rate)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# $T$ stands nowhere among the arguments, but two of them make it.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your rate falls once an epoch"</summary>
#
# You put whole epochs into the formula, and so the rate is a staircase. A run of three epochs would have three rates. Divide steps by steps.
#
# </details>

# %% [markdown]
# ## One training step
#
# *Difficulty: medium · 15 minutes · section 4.2: "both backbone's parameters are fixed during training"*
#
# Six things happen in a step: old gradients are forgotten, the network predicts, the loss is measured, its gradient is computed, the optimiser moves the weights, the schedule lowers the rate for the next step. Each of them is one line, and most wrong orders raise no error.
#
# One thing comes before the six. This network has just been evaluated, so that all of it is in evaluation mode. Its BatchNorms have two modes, and the frozen `network.backbone` needs another one than the rest. This backbone is an ordinary module: `network.train()` reaches into it.
#
# The loss is the binary cross-entropy of each pixel (section 3.4), its mean over all pixels of the batch.


# %%
def train_step(
    network: nn.Module, batch: dict[str, Tensor], optimizer: Optimizer, schedule: LRScheduler
) -> float:
    """Train on one batch.

    Args:
        network: `network(batch)` gives mask logits (B, H, W). `network.backbone` is frozen: its
            parameters ask for no gradient, and its BatchNorm has to stay as it is.
        batch: `target (B, H, W)`, 0 and 1, beside what the network reads.
        optimizer: holds the parameters that are trained.
        schedule: sets the optimiser's rate; `schedule.step()` goes on to the next one.

    Returns:
        the loss, a plain number.
    """
    ### BEGIN SOLUTION: the modes first, then the six lines
    network.train()
    network.backbone.eval()  # fixed: its running statistics are used, not moved

    optimizer.zero_grad()
    mask_logits = network(batch)  # (B, H, W)
    loss = F.binary_cross_entropy_with_logits(mask_logits, batch["target"])
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()
    ### END SOLUTION


# %% tags=["check"]
check("one training step", train_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# In training mode a BatchNorm uses the batch's own mean and moves its running mean; in evaluation mode it uses the running mean and leaves it alone. Which of the two is "fixed"? `train()` and `eval()` exist on every module, and the later call counts.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`, `schedule.step()`. `backward()` *adds* to the gradients that are there. `F.binary_cross_entropy_with_logits` has the sigmoid inside; `loss.item()` is a plain number.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "the backbone's BatchNorm was in train mode"</summary>
#
# No gradient reaches the backbone, and still it changes: in training mode each forward pass moves the running mean and variance. This was the second broken run of the lesson. Call `network.train()` for the rest, and then set the backbone back.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "the schedule moved before the optimiser"</summary>
#
# `schedule.step()` sets the rate of the step that comes *next*. Called first, the run begins with the second rate and its last step has the rate 0. torch warns of it too.
#
# </details>

# %% [markdown]
# ## Gradient accumulation
#
# *Difficulty: medium · 15 minutes · why: at a grid of 40 x 40 a step on 50 expressions takes 19 GB (lesson 06b)*
#
# If only a part of the batch fits into memory, take several small ones, add up their gradients, and step once. With $k$ micro-batches $b_1 \dots b_k$ of equal size, the loss of the whole batch is
#
# $$\mathcal{L} = \frac{1}{k} \sum_{n=1}^{k} \mathcal{L}(b_n)$$
#
# and its gradient is the same sum of gradients. The optimiser and the schedule count steps, not micro-batches.
#
# The check trains with plain gradient descent. AdamW would hide one of the mistakes: it divides a gradient by its usual size, so that one which is always too large makes nearly the same step. In the check all BatchNorms are in evaluation mode, since they alone would tell a half batch from a whole one. Leave the modes as they are.


# %%
def train_accumulated(
    network: nn.Module,
    micro_batches: list[dict[str, Tensor]],
    optimizer: Optimizer,
    schedule: LRScheduler,
    accumulate: int,
) -> None:
    """Train on all micro-batches, `accumulate` of them a step.

    Args:
        network: `network(batch)` gives mask logits (B, H, W).
        micro_batches: each with a `target (B, H, W)`; their number is a multiple of `accumulate`.
        optimizer, schedule: as in the step above; no gradient is left from before.
        accumulate: k.
    """
    ### BEGIN SOLUTION: add up k gradients, then take one step
    for number, batch in enumerate(micro_batches, start=1):
        loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
        (loss / accumulate).backward()  # adds to the gradients that are there
        if number % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    ### END SOLUTION


# %% tags=["check"]
check("gradient accumulation", train_accumulated)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `backward()` adds to the gradients that are there. So adding up is what happens if you *don't* call `zero_grad()`.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `enumerate(micro_batches, start=1)` counts from 1; the step is due where the count is a multiple of `accumulate`, `number % accumulate == 0`. The mean of the formula is a division of each loss by $k$ before `backward()`.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your gradient is k times too large"</summary>
#
# The loss of each micro-batch is a mean already. The sum of $k$ means is $k$ times the mean of the whole batch, and with plain gradient descent that is a learning rate $k$ times as high.
#
# </details>

# %% [markdown]
# ## Stop and go on
#
# *Difficulty: hard · 20 minutes · why: a night's run is stopped sooner or later*
#
# A run loses power after some steps. Later a fresh process goes on with it, and the losses should be those of a run that was never stopped, to the last bit. What does the next step depend on? On everything that a step reads *and* changes. Here is a run with all that can be forgotten:

# %%
run = SmallRun()
print([round(run.take_step(), 3) for _ in range(4)], run.epoch, run.first_batch)
print(getdoc(SmallRun))

# %% [markdown]
# Write both halves. What `save_run` gives is written to a file with `torch.save` and read with `torch.load(..., weights_only=True)`, which takes tensors, numbers, texts, tuples, lists and dicts, and no other objects. `load_run` gets a new `SmallRun`, with other random weights, in a process that drew other random numbers.


# %%
def save_run(run: SmallRun) -> dict:
    """All that the next step depends on.

    Returns:
        a dict of tensors (parameters and buffers of any shape, the random state (bytes,)), numbers,
        lists and dicts, as `state_dict()` gives them.
    """
    ### BEGIN SOLUTION: five things
    return {
        "network": run.network.state_dict(),  # with BatchNorm's running statistics
        "optimizer": run.optimizer.state_dict(),  # with AdamW's two means
        "schedule": run.schedule.state_dict(),
        "place": (run.epoch, run.first_batch),
        "random": torch.get_rng_state(),  # dropout draws from it
    }
    ### END SOLUTION


def load_run(run: SmallRun, saved: dict) -> None:
    """Bring a fresh run to where the saved one was.

    Args:
        run: is changed.
        saved: what `save_run` gave, after it lay on a disk.
    """
    ### BEGIN SOLUTION: put each of them back
    run.network.load_state_dict(saved["network"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.schedule.load_state_dict(saved["schedule"])
    run.epoch, run.first_batch = saved["place"]
    torch.set_rng_state(saved["random"])
    ### END SOLUTION


# %% tags=["check"]
check("stop and go on", (save_run, load_run))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go through the attributes printed above. Which of them has a state, and which of them draws from something that is none of the run's attributes?
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# Networks, optimisers and schedules all have `state_dict()` and `load_state_dict(...)`. torch's random state is a tensor: `torch.get_rng_state()` and `torch.set_rng_state(...)`.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you set a seed"</summary>
#
# A seed is where the random numbers *began*. After some steps they are somewhere else in their sequence, and that place is the state to keep.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "in result['AdamW's two means']"</summary>
#
# The running means of gradient and square live in the optimiser, beside a count of its steps. All three are in `optimizer.state_dict()`, none of them in the network's.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can write a training loop whose mistakes would raise no error, and you know where they hide: in a rate that is a staircase, in a mode, in a mean, in what was not saved. The library's own version stands in `shnet_lib/training/fit.py` and `shnet_lib/training/checkpoint.py`.
