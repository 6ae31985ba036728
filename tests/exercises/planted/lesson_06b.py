"""Answers to exercise 06b, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.functional import binary_cross_entropy_with_logits as bce

# --- a step in sixteen bits -----------------------------------------------------------------------


def plain_step(network, batch, optimizer):
    optimizer.zero_grad()
    loss = bce(network(batch), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def for_cuda_only(network, batch, optimizer):
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        logits = network(batch)
    loss = bce(logits.float(), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def around_the_loss(network, batch, optimizer):
    optimizer.zero_grad()
    logits = network(batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss = bce(logits.float(), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def weights_in_bf16(network, batch, optimizer):
    network.bfloat16()
    optimizer.zero_grad()
    logits = network({"images": batch["images"].bfloat16()})
    loss = bce(logits.float(), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def all_inside(network, batch, optimizer):
    with torch.autocast("cpu", torch.bfloat16):
        optimizer.zero_grad()
        loss = bce(network(batch).float(), batch["target"])
        loss.backward()
        optimizer.step()
    return loss.detach()


def float_forgotten(network, batch, optimizer):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(batch)
    loss = bce(logits, batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def target_in_bf16(network, batch, optimizer):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(batch)
    loss = bce(logits, batch["target"].bfloat16())
    loss.backward()
    optimizer.step()
    return loss.detach()


def in_fp16(network, batch, optimizer):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.float16):
        logits = network(batch)
    loss = bce(logits.float(), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def a_number(network, batch, optimizer):
    return autocast_right(network, batch, optimizer).item()


def with_its_graph(network, batch, optimizer):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(batch)
    loss = bce(logits.float(), batch["target"])
    loss.backward()
    optimizer.step()
    return loss


def never_forgets(network, batch, optimizer):
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(batch)
    loss = bce(logits.float(), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def scaled_and_left_so(network, batch, optimizer):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(batch)
    loss = bce(logits.float(), batch["target"])
    (1024 * loss).backward()
    optimizer.step()
    return loss.detach()


def no_step(network, batch, optimizer):
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(batch)
    return bce(logits.float(), batch["target"]).detach()


def returns_nothing(network, batch, optimizer):
    autocast_right(network, batch, optimizer)


def autocast_right(network, batch, optimizer):
    device = next(network.parameters()).device.type
    with torch.autocast(device, dtype=torch.bfloat16):
        logits = network(batch)
    logits, target = logits.to(torch.float32), batch["target"]
    loss = (F.softplus(logits) - logits * target).mean()
    for parameter in network.parameters():
        parameter.grad = None
    loss.backward()
    optimizer.step()
    return loss.detach()


def loss_inside(network, batch, optimizer):
    """autocast itself computes this loss in float32."""
    optimizer.zero_grad()
    with torch.autocast(batch["images"].device.type, torch.bfloat16):
        loss = bce(network(batch), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach().clone()


# --- find the waits -------------------------------------------------------------------------------


def loop(losses_of, lowest_of, count, after=lambda loss, logits: None):
    """A training whose loop keeps its figures with the functions given."""

    def train(network, batches, optimizer):
        losses, lowest, found = [], float("inf"), 0
        for batch in batches:
            target = batch["target"]
            logits = network(batch)
            loss = bce(logits, target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(losses_of(loss))
            lowest = lowest_of(lowest, loss.detach())
            found = found + count(logits, target)
            after(loss, logits)
        return [float(loss) for loss in losses], float(lowest), int(found)

    return train


def smaller(a, b):
    return torch.minimum(torch.as_tensor(a), b)


def both(logits, target):
    return ((logits > 0) & (target > 0.5)).sum()


def by_index(logits, target):
    return (logits[target > 0.5] > 0).sum()


def says_it(loss, logits):
    str(f"{loss:.3f}")


def if_needs_it(loss, logits):
    if loss > 1e9:
        raise ValueError


def all_at_the_end(network, batches, optimizer):
    losses, marks = [], []
    for batch in batches:
        logits = network(batch)
        loss = bce(logits, batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        marks.append((logits.detach() > 0, batch["target"] > 0.5))
    found = sum(int((marked & meant).sum()) for marked, meant in marks)
    return [loss.item() for loss in losses], min(losses), found


def multiplied(network, batches, optimizer):
    """Products instead of masks, numbers in one tensor, zero_grad first."""
    losses = torch.zeros(len(batches))
    found = torch.zeros(())
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        logits = network(batch)
        loss = (F.softplus(logits) - logits * batch["target"]).mean()
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
        found += ((logits > 0).float() * batch["target"]).sum()
    return losses.tolist(), losses.min().item(), round(found.item())


def forgets_never(network, batches, optimizer):
    optimizer.zero_grad = lambda: None
    return all_at_the_end(network, batches, optimizer)


def running_sums(network, batches, optimizer):
    losses, lowest, found = all_at_the_end(network, batches, optimizer)
    return np.cumsum(losses).tolist(), lowest, found


def last_is_lowest(network, batches, optimizer):
    losses, _, found = all_at_the_end(network, batches, optimizer)
    return losses, losses[-1], found


def last_count(network, batches, optimizer):
    *_, last = batches
    counts = []
    train = loop(
        lambda loss: loss.detach(), smaller, lambda *given: counts.append(both(*given)) or 0
    )
    losses, lowest, _ = train(network, batches, optimizer)
    return losses, lowest, int(counts[-1])


# --- a batch for a card ---------------------------------------------------------------------------


def settings(price=None, aside=1.0, unit=1024, divisors=None, order="shares", tries=(False, True)):
    """The lesson's loop, with one thing changed."""

    def line(peaks):
        (a, low), (b, high) = sorted(peaks.items())
        if price:
            return price(a, low, b, high)
        slope = (high - low) / (b - a)
        return high - slope * b, slope

    def fit(card, batch, plain, recomputed):
        numbers = [n for n in range(1, batch + 1) if batch % n == 0 and batch // n >= 2]
        if divisors:
            numbers = divisors(batch)
        lines = line(plain), line(recomputed)
        pairs = [(n, again) for n in numbers for again in tries]
        if order == "recompute last":
            pairs = [(n, again) for again in tries for n in numbers]
        for n, again in pairs:
            fixed, each = lines[again]
            if fixed + each * (batch / n) <= unit * (card - aside):
                return n, again
        return None

    return fit


def shared_weights(card, batch, plain, recomputed):
    for n in range(1, batch // 2 + 1):
        for again, peaks in ((False, plain), (True, recomputed)):
            (a, low), (b, high) = peaks.items()
            each = (high - low) / (b - a)
            whole = low + each * (batch - a)
            if batch % n == 0 and whole / n <= 1024 * (card - 1):
                return n, again
    return None


def always_something(card, batch, plain, recomputed):
    found = settings()(card, batch, plain, recomputed)
    return found or (batch // 2, True)


def turned_round(card, batch, plain, recomputed):
    found = settings()(card, batch, plain, recomputed)
    return found and (found[1], found[0])


def the_accumulate_alone(card, batch, plain, recomputed):
    found = settings()(card, batch, plain, recomputed)
    return found and found[0]


def by_division(card, batch, plain, recomputed):
    """How many expressions a share may have, and then the next whole number of shares."""
    room, best = 1024 * (card - 1), None
    for again, peaks in enumerate((plain, recomputed)):
        counts, memory = np.array(list(peaks)), np.array(list(peaks.values()))
        each, fixed = np.polyfit(counts, memory, 1)
        largest = int((room - fixed) / each + 1e-6)
        shares = [n for n in range(1, batch // 2 + 1) if batch % n == 0 and batch // n <= largest]
        if shares and (best is None or shares[0] < best[0]):
            best = (shares[0], bool(again))
    return best


def from_large_to_small(card, batch, plain, recomputed):
    """Every setting that fits, and of those the best."""
    fitting = []
    for share in range(2, batch + 1):
        for again, peaks in ((False, plain), (True, recomputed)):
            (a, low), (b, high) = peaks.items()
            needed = low + (high - low) * (share - a) / (b - a)
            if batch % share == 0 and needed <= 1024 * (card - 1):
                fitting.append((batch // share, again))
    return min(fitting) if fitting else None


# --- the shares of two processes ------------------------------------------------------------------


def shuffled(count, seed, epoch):
    order = list(range(count))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return order


def parts(order, batch_size, rank, processes):
    share = batch_size // processes
    starts = range(rank * share, len(order) // batch_size * batch_size, batch_size)
    return [order[start : start + share] for start in starts]


def seeded_by_rank(count, batch_size, seed, epoch, rank, processes):
    return parts(shuffled(count, seed + rank, epoch), batch_size, rank, processes)


def unseeded(count, batch_size, seed, epoch, rank, processes):
    order = np.random.permutation(count).tolist()
    return parts(order, batch_size, rank, processes)


def no_rank(count, batch_size, seed, epoch, rank, processes):
    return parts(shuffled(count, seed, epoch), batch_size, 0, processes)


def a_batch_each(count, batch_size, seed, epoch, rank, processes):
    return parts(shuffled(count, seed, epoch), batch_size * processes, rank, processes)


def halves_of_the_epoch(count, batch_size, seed, epoch, rank, processes):
    order = shuffled(count, seed, epoch)
    steps, share = count // batch_size, batch_size // processes
    own = order[rank * steps * share : (rank + 1) * steps * share]
    return [own[share * step : share * (step + 1)] for step in range(steps)]


def incomplete_kept(count, batch_size, seed, epoch, rank, processes):
    order, share = shuffled(count, seed, epoch), batch_size // processes
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    return [batch[rank * share : (rank + 1) * share] for batch in batches]


def no_epoch(count, batch_size, seed, epoch, rank, processes):
    return parts(shuffled(count, seed, 0), batch_size, rank, processes)


def no_seed(count, batch_size, seed, epoch, rank, processes):
    return parts(shuffled(count, 0, epoch), batch_size, rank, processes)


def in_order(count, batch_size, seed, epoch, rank, processes):
    return parts(list(range(count)), batch_size, rank, processes)


def counted_from_one(count, batch_size, seed, epoch, rank, processes):
    return parts([i + 1 for i in shuffled(count, seed, epoch)], batch_size, rank, processes)


def alternating(count, batch_size, seed, epoch, rank, processes):
    """Every second expression of the epoch, as torch's DistributedSampler does."""
    order = shuffled(count, seed, epoch)
    own = order[rank : count // batch_size * batch_size : processes]
    share = batch_size // processes
    return [own[first : first + share] for first in range(0, len(own), share)]


def as_arrays(count, batch_size, seed, epoch, rank, processes):
    order = np.random.default_rng([seed, epoch]).permutation(count)
    steps = count // batch_size
    table = order[: steps * batch_size].reshape(steps, processes, -1)
    return [list(row) for row in table[:, rank]]


MISTAKES = {
    "a step in sixteen bits": {
        "no autocast": (plain_step, "products are in float32"),
        "autocast for a GPU alone": (for_cuda_only, "products are in float32"),
        "autocast around the loss": (around_the_loss, "products are in float32"),
        "weights in bf16": (weights_in_bf16, "weights are in sixteen bits"),
        "all of it inside": (all_inside, "runs inside of autocast"),
        "no float()": (float_forgotten, "computed from sixteen bits"),
        "the target in bf16": (target_in_bf16, "and the target stays"),
        "fp16": (in_fp16, "without a scaler"),
        "a number": (a_number, "reading the number waits"),
        "no detach()": (with_its_graph, "holds on to its graph"),
        "no zero_grad": (never_forgets, "zero_grad() is missing"),
        "scaled": (scaled_and_left_so, None),
        "no step": (no_step, None),
        "no return": (returns_nothing, "is there a `return`"),
    },
    "find the waits": {
        "item": (loop(lambda loss: loss.item(), smaller, both), "hands a number to Python"),
        "float": (
            loop(lambda loss: float(loss.detach()), smaller, both),
            "hands a number to Python",
        ),
        "cpu": (loop(lambda loss: loss.detach().cpu(), smaller, both), "hands a number"),
        "numpy": (loop(lambda loss: loss.detach().numpy(), smaller, both), "hands a number"),
        "tolist": (loop(lambda loss: loss.tolist(), smaller, both), "hands a number"),
        "min": (loop(lambda loss: loss.detach(), min, both), "need the number to decide"),
        "if": (
            loop(lambda loss: loss.detach(), smaller, both, if_needs_it),
            "need the number to decide",
        ),
        "printed": (
            loop(lambda loss: loss.detach(), smaller, both, says_it),
            "printing needs the number",
        ),
        "index": (
            loop(lambda loss: loss.detach(), smaller, by_index),
            "how many entries come out",
        ),
        "nonzero": (
            loop(
                lambda loss: loss.detach(),
                smaller,
                lambda logits, target: len(((logits > 0) & (target > 0.5)).nonzero()),
            ),
            "how many entries come out",
        ),
        "marked": (
            loop(lambda loss: loss.detach(), smaller, lambda logits, target: (logits > 0).sum()),
            "only those that are meant",
        ),
        "meant": (
            loop(lambda loss: loss.detach(), smaller, lambda logits, target: (target > 0.5).sum()),
            "only those that are marked",
        ),
        "the last batch's count": (last_count, "in the last batch alone"),
        "the last loss": (last_is_lowest, "take the smallest of all"),
        "running sums": (running_sums, "running sums"),
        "no zero_grad": (forgets_never, "keep zero_grad()"),
        "no return": (lambda *given: all_at_the_end(*given) and None, "is there a `return`"),
    },
    "a batch for a card": {
        "peak by expressions": (
            settings(price=lambda a, low, b, high: (0, high / b)),
            "whole peak as the price",
        ),
        "no fixed part": (
            settings(price=lambda a, low, b, high: (0, (high - low) / (b - a))),
            "forget the part",
        ),
        "the whole card": (settings(aside=0), "whole card away"),
        "1000": (settings(unit=1000), "1024 MiB"),
        "shares before recompute": (settings(order="recompute last"), "before you recompute"),
        "always recompute": (settings(tries=(True,)), "where it fits without"),
        "recompute first": (settings(tries=(True, False)), "where it fits without"),
        "never recompute": (settings(tries=(False,)), "never recompute"),
        "any number of shares": (
            settings(divisors=lambda batch: range(1, batch // 2)),
            "has to divide",
        ),
        "a share of one": (
            settings(divisors=lambda batch: [n for n in range(1, batch + 1) if not batch % n]),
            "share of one",
        ),
        "powers of two": (
            settings(divisors=lambda batch: [n for n in (1, 2, 4, 8, 16, 32) if not batch % n]),
            "halves of halves",
        ),
        "smallest shares first": (
            settings(
                divisors=lambda batch: sorted(
                    (n for n in range(1, batch // 2 + 1) if not batch % n), reverse=True
                )
            ),
            "begin with the smallest shares",
        ),
        "weights shared": (shared_weights, "divide the fixed part"),
        "always something": (always_something, None),
        "turned round": (turned_round, None),
        "half of the answer": (the_accumulate_alone, None),
    },
    "the shares of two processes": {
        "seeded by the rank": (seeded_by_rank, "shuffle differently"),
        "unseeded": (unseeded, "cannot be had again"),
        "no rank": (no_rank, "read the same"),
        "a batch each": (a_batch_each, "counts all processes"),
        "halves of the epoch": (halves_of_the_epoch, "a region of the epoch"),
        "the incomplete batch": (incomplete_kept, "not whole"),
        "no epoch": (no_epoch, "the epoch has to change"),
        "no seed": (no_seed, "every seed gives"),
        "in order": (in_order, "nothing is shuffled"),
        "counted from 1": (counted_from_one, None),
    },
}

ALTERNATIVES = {
    "a step in sixteen bits": {
        "loss by hand, forgets before backward": autocast_right,
        "the loss inside": loss_inside,
    },
    "find the waits": {
        "all at the end": all_at_the_end,
        "products": multiplied,
        "kept in the loop": loop(lambda loss: loss.detach(), smaller, both),
    },
    "a batch for a card": {
        "by division": by_division,
        "the best that fits": from_large_to_small,
        "the lesson's loop": settings(),
    },
    "the shares of two processes": {
        "alternating": alternating,
        "arrays": as_arrays,
        "Python's shuffle": lambda count, batch_size, seed, epoch, rank, processes: parts(
            shuffled(count, seed, epoch), batch_size, rank, processes
        ),
    },
}
