"""Answers to exercise 06, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import math

import torch
import torch.nn.functional as F
from torch.nn.functional import binary_cross_entropy_with_logits as bce


def staircase(step, steps_per_epoch, epochs, initial):
    epoch = step // steps_per_epoch
    return initial * (1 - epoch / epochs) ** 0.7


def only_train_mode(network, batch, optimizer, schedule):
    network.train()
    loss = bce(network(batch), batch["target"])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def modes_forgotten(network, batch, optimizer, schedule):
    optimizer.zero_grad()
    loss = bce(network(batch), batch["target"])
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def modes_in_the_wrong_order(network, batch, optimizer, schedule):
    network.backbone.eval()
    network.train()
    return modes_forgotten(network, batch, optimizer, schedule)


def all_in_evaluation(network, batch, optimizer, schedule):
    network.eval()
    return modes_forgotten(network, batch, optimizer, schedule)


def never_forgets(network, batch, optimizer, schedule):
    network.train()
    network.backbone.eval()
    loss = bce(network(batch), batch["target"])
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def forgets_too_soon(network, batch, optimizer, schedule):
    network.train()
    network.backbone.eval()
    loss = bce(network(batch), batch["target"])
    loss.backward()
    network.zero_grad()
    optimizer.step()
    schedule.step()
    return loss.item()


def no_backward(network, batch, optimizer, schedule):
    network.train()
    network.backbone.eval()
    optimizer.zero_grad()
    loss = bce(network(batch), batch["target"])
    optimizer.step()
    schedule.step()
    return loss.item()


def no_optimizer_step(network, batch, optimizer, schedule):
    network.train()
    network.backbone.eval()
    optimizer.zero_grad()
    loss = bce(network(batch), batch["target"])
    loss.backward()
    schedule.step()
    return loss.item()


def no_schedule(network, batch, optimizer, schedule):
    network.train()
    network.backbone.eval()
    optimizer.zero_grad()
    loss = bce(network(batch), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.item()


def schedule_first(network, batch, optimizer, schedule):
    schedule.step()
    network.train()
    network.backbone.eval()
    optimizer.zero_grad()
    loss = bce(network(batch), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.item()


def two_sigmoids(network, batch, optimizer, schedule):
    network.train()
    network.backbone.eval()
    optimizer.zero_grad()
    loss = bce(torch.sigmoid(network(batch)), batch["target"])
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def summed(network, batch, optimizer, schedule):
    network.train()
    network.backbone.eval()
    optimizer.zero_grad()
    loss = bce(network(batch), batch["target"], reduction="none").sum()
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def nothing_returned(network, batch, optimizer, schedule):
    right_step(network, batch, optimizer, schedule)


def the_loss_after(network, batch, optimizer, schedule):
    right_step(network, batch, optimizer, schedule)
    with torch.no_grad():
        return bce(network(batch), batch["target"]).item()


def right_step(network, batch, optimizer, schedule):
    """The order of the lesson: forget at the end. Modes part by part; the loss by hand."""
    network.eval()
    network.head.train()
    logits, target = network(batch), batch["target"]
    loss = (F.softplus(logits) - logits * target).mean()
    loss.backward()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    return loss


def right_step_with_probabilities(network, batch, optimizer, schedule):
    for module in (network, network.head):
        module.train()
    network.backbone.train(False)
    for parameter in network.parameters():
        parameter.grad = None
    loss = F.binary_cross_entropy(network(batch).sigmoid(), batch["target"])
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.detach()


# --- accumulation ---------------------------------------------------------------------------------


def undivided(network, micro_batches, optimizer, schedule, accumulate):
    for i, batch in enumerate(micro_batches):
        bce(network(batch), batch["target"]).backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def a_step_each(network, micro_batches, optimizer, schedule, accumulate):
    for batch in micro_batches:
        optimizer.zero_grad()
        (bce(network(batch), batch["target"]) / accumulate).backward()
        optimizer.step()
        schedule.step()


def forgets_each(network, micro_batches, optimizer, schedule, accumulate):
    for i, batch in enumerate(micro_batches):
        optimizer.zero_grad()
        loss = bce(network(batch), batch["target"]) / accumulate
        loss.backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            schedule.step()


def forgets_never(network, micro_batches, optimizer, schedule, accumulate):
    for i, batch in enumerate(micro_batches):
        loss = bce(network(batch), batch["target"]) / accumulate
        loss.backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            schedule.step()


def schedule_each(network, micro_batches, optimizer, schedule, accumulate):
    for i, batch in enumerate(micro_batches):
        loss = bce(network(batch), batch["target"]) / accumulate
        loss.backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()


def steps_at_zero(network, micro_batches, optimizer, schedule, accumulate):
    for i, batch in enumerate(micro_batches):
        loss = bce(network(batch), batch["target"]) / accumulate
        loss.backward()
        if i % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def one_step(network, micro_batches, optimizer, schedule, accumulate):
    losses = [bce(network(batch), batch["target"]) for batch in micro_batches]
    (sum(losses) / len(losses)).backward()
    optimizer.step()
    schedule.step()


def divided_by_all(network, micro_batches, optimizer, schedule, accumulate):
    for i, batch in enumerate(micro_batches):
        (bce(network(batch), batch["target"]) / len(micro_batches)).backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def one_graph_a_step(network, micro_batches, optimizer, schedule, accumulate):
    for first in range(0, len(micro_batches), accumulate):
        group = micro_batches[first : first + accumulate]
        optimizer.zero_grad()
        torch.stack([bce(network(b), b["target"]) for b in group]).mean().backward()
        optimizer.step()
        schedule.step()


def one_large_batch(network, micro_batches, optimizer, schedule, accumulate):
    for first in range(0, len(micro_batches), accumulate):
        group = micro_batches[first : first + accumulate]
        whole = {name: torch.cat([b[name] for b in group]) for name in group[0]}
        optimizer.zero_grad()
        bce(network(whole), whole["target"]).backward()
        optimizer.step()
        schedule.step()


# --- resuming -------------------------------------------------------------------------------------


def save_all(run):
    return {
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "epoch": run.epoch,
        "first_batch": run.first_batch,
        "rng": torch.get_rng_state(),
    }


def load_all(run, saved):
    run.network.load_state_dict(saved["network"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.schedule.load_state_dict(saved["schedule"])
    run.epoch = saved["epoch"]
    run.first_batch = saved["first_batch"]
    torch.set_rng_state(saved["rng"])


def weights_alone():
    return (
        lambda run: run.network.state_dict(),
        lambda run, saved: run.network.load_state_dict(saved),
    )


def load_all_but(name):
    """Saved, but never put back."""

    def load(run, saved):
        kept = {
            "network": run.network.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "schedule": run.schedule.state_dict(),
            "rng": torch.get_rng_state(),
        }
        load_all(run, saved | {name: kept[name]})

    return save_all, load


def no_place(run, saved):
    load_all(run, saved | {"epoch": 0, "first_batch": 0})


def only_the_epoch(run, saved):
    load_all(run, saved | {"first_batch": 0})


def parameters_alone():
    def save(run):
        return save_all(run) | {"network": [p.detach() for p in run.network.parameters()]}

    def load(run, saved):
        for parameter, value in zip(run.network.parameters(), saved["network"]):
            parameter.data.copy_(value)
        load_all(run, saved | {"network": run.network.state_dict()})

    return save, load


def seeded(run, saved):
    load_all(run, saved)
    torch.manual_seed(0)


def save_first_seed(run):
    return save_all(run) | {"rng": torch.initial_seed()}


def first_seed(run, saved):
    load_all(run, saved | {"rng": torch.get_rng_state()})
    torch.manual_seed(saved["rng"])


def rate_alone(run, saved):
    load_all(run, saved | {"optimizer": run.optimizer.state_dict()})
    run.optimizer.param_groups[0]["lr"] = run.schedule.get_last_lr()[0]


def objects():
    return (lambda run: {"network": run.network, "optimizer": run.optimizer}, load_all)


def numbers_and_lists():
    """Nothing is called as in the hints; the schedule's place is told by a number."""

    def save(run):
        return [
            list(run.network.state_dict().values()),
            run.optimizer.state_dict(),
            run.schedule.last_epoch,
            run.epoch * run.batches_per_epoch + run.first_batch,
            torch.default_generator.get_state(),
        ]

    def load(run, saved):
        values, optimizer, steps, batches, state = saved
        for own, value in zip(run.network.state_dict().values(), values):
            own.copy_(value)
        run.optimizer.load_state_dict(optimizer)
        run.schedule.last_epoch = steps
        run.epoch, run.first_batch = divmod(batches, run.batches_per_epoch)
        torch.default_generator.set_state(state)

    return save, load


MISTAKES = {
    "the poly schedule": {
        "a rate each epoch": (staircase, "once an epoch"),
        "epochs begin anew": (
            lambda step, each, epochs, initial: initial * (1 - step % each / each) ** 0.7,
            "begins anew",
        ),
        "power inside": (
            lambda step, each, epochs, initial: (
                initial * (1 - pow(step, 0.7) / pow(each * epochs, 0.7))
            ),
            "whole bracket",
        ),
        "a line": (
            lambda step, each, epochs, initial: initial - initial * step / (each * epochs),
            "straight line",
        ),
        "rising": (
            lambda step, each, epochs, initial: initial * (step / each / epochs) ** 0.7,
            "has to fall",
        ),
        "the factor": (
            lambda step, each, epochs, initial: (1 - step / each / epochs) ** 0.7,
            "factor alone",
        ),
        "counted from 1": (
            lambda step, each, epochs, initial: initial * (1 - (step + 1) / each / epochs) ** 0.7,
            "one step too far",
        ),
        "initial rate under the power": (
            lambda step, each, epochs, initial: (initial * (1 - step / each / epochs)) ** 0.7,
            None,
        ),
        "one epoch's steps": (
            lambda step, each, epochs, initial: initial * (1 - step / each) ** 0.7,
            "those of one epoch",
        ),
        "epochs for steps": (
            lambda step, each, epochs, initial: initial * (1 - step / epochs) ** 0.7,
            "a number of epochs",
        ),
        "a constant factor": (lambda step, each, epochs, initial: initial * 0.7**step, None),
    },
    "one training step": {
        "train() and no more": (only_train_mode, "backbone's BatchNorm was in train mode"),
        "eval() before train()": (
            modes_in_the_wrong_order,
            "backbone's BatchNorm was in train mode",
        ),
        "no modes": (modes_forgotten, "eval mode"),
        "eval()": (all_in_evaluation, "eval mode"),
        "no zero_grad": (never_forgets, "zero_grad() is missing"),
        "zero_grad after backward": (forgets_too_soon, "before the optimiser has seen it"),
        "no backward": (no_backward, "backward() is missing"),
        "no step": (no_optimizer_step, "optimizer.step() is missing"),
        "no schedule": (no_schedule, "schedule.step() is missing"),
        "schedule first": (schedule_first, "schedule moved before"),
        "two sigmoids": (two_sigmoids, "one sigmoid"),
        "sum of the pixels": (summed, "is a sum"),
        "no return": (nothing_returned, "is there a `return`"),
        "loss after the step": (the_loss_after, None),
    },
    "gradient accumulation": {
        "not divided": (undivided, "divide each loss"),
        "a step each": (a_step_each, "smaller batch"),
        "a step each, not divided": (
            lambda network, micro_batches, optimizer, schedule, accumulate: undivided(
                network, micro_batches, optimizer, schedule, 1
            ),
            None,
        ),
        "zero_grad each": (forgets_each, "throws away"),
        "no zero_grad": (forgets_never, "have to be forgotten"),
        "schedule each": (schedule_each, "not micro-batches"),
        "steps at 0": (steps_at_zero, "counted from 0"),
        "one step at the end": (one_step, "you step once"),
        "divided by all": (divided_by_all, "all micro-batches"),
        "train()": (
            lambda network, *others: one_graph_a_step(network.train(), *others),
            "changed the modes",
        ),
    },
    "stop and go on": {
        "weights alone": (weights_alone(), "not a run"),
        "no optimiser": (load_all_but("optimizer"), "AdamW begins anew"),
        "the rate without the means": ((save_all, rate_alone), "AdamW's two means"),
        "no schedule": (load_all_but("schedule"), "schedule begins anew"),
        "no place": ((save_all, no_place), "data begin anew"),
        "the epoch without the batch": ((save_all, only_the_epoch), "the place in the data"),
        "no random state": (load_all_but("rng"), "random numbers are others"),
        "a seed": ((save_all, seeded), "you set a seed"),
        "the first seed": ((save_first_seed, first_seed), "you set a seed, the run's own"),
        "no network": (load_all_but("network"), "not back"),
        "no buffers": (parameters_alone(), "buffers"),
        "objects": (objects(), "not the object"),
    },
}

ALTERNATIVES = {
    "the poly schedule": {
        "what is left": lambda step, each, epochs, initial: (
            initial * ((each * epochs - step) / (each * epochs)) ** 0.7
        ),
        "logarithms": lambda step, each, epochs, initial: (
            initial * math.exp(0.7 * math.log(1 - step / each / epochs))
        ),
        "epochs as fractions": lambda step, each, epochs, initial: (
            initial * (1 - (step / each) / epochs) ** 0.7
        ),
    },
    "one training step": {
        "forgets at the end, loss by hand": right_step,
        "probabilities": right_step_with_probabilities,
    },
    "gradient accumulation": {
        "one graph a step": one_graph_a_step,
        "one large batch": one_large_batch,
    },
    "stop and go on": {
        "all by name": (save_all, load_all),
        "numbers and lists": numbers_and_lists(),
    },
}
