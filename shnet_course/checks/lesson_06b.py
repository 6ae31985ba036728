"""The checks of exercise 06b: sixteen bits, waits, a batch for a card, the shares of processes."""

import random
import sys
from collections.abc import Callable, Sequence
from linecache import getline
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from shnet_course.checks.core import CheckFailed, Exercise, add_exercise
from shnet_course.checks.lesson_06 import Batch, CountingSGD, SmallNetwork, network_and_batches
from shnet_course.measure.training import ASIDE

LESSON = "06b_training_on_a_gpu"

# --- a step in sixteen bits -----------------------------------------------------------------------

AutocastStep = Callable[[nn.Module, Batch, Optimizer], Tensor]


def autocast_step(network: nn.Module, batch: Batch, optimizer: Optimizer) -> Tensor:
    """Products in bf16, weights and loss in float32."""
    optimizer.zero_grad()
    with torch.autocast(batch["target"].device.type, torch.bfloat16):
        mask_logits = network(batch)
    loss = F.binary_cross_entropy_with_logits(mask_logits.float(), batch["target"])
    loss.backward()
    optimizer.step()
    return loss.detach()


def take_autocast_steps(
    step: AutocastStep, state: dict[str, Tensor], batches: list[Batch]
) -> dict[str, Any]:
    """Three steps on the CPU, which has autocast too, and what became of them."""
    network = SmallNetwork()
    network.load_state_dict(state)
    network.head.train()
    products, inside, losses = [], [], []
    network.register_forward_hook(lambda module, inputs, output: products.append(output.dtype))
    weight = network.head[0].weight
    weight.register_hook(lambda gradient: inside.append(torch.is_autocast_enabled("cpu")))
    optimizer = CountingSGD([p for p in network.parameters() if p.requires_grad], lr=0.3)
    for batch in batches:
        losses.append(step(network, batch, optimizer))
    if not all(isinstance(loss, Tensor) for loss in losses):
        given = next(loss for loss in losses if not isinstance(loss, Tensor))
        if given is None:
            raise CheckFailed("it returns None: is there a `return`?")
        raise CheckFailed(
            "your loss is no tensor any more: reading the number waits for the device. Return "
            "loss.detach()"
        )
    return {
        "the number format of the logits": [str(dtype) for dtype in products],
        "the number format of the weights": str(weight.dtype),
        "whether backward() ran inside of autocast": any(inside),
        "the number format of the loss": [str(loss.dtype) for loss in losses],
        "whether the loss still holds on to its graph": any(loss.requires_grad for loss in losses),
        "how often the optimiser stepped": optimizer.steps,
        "the loss of each step": [loss.item() for loss in losses],
        "the weights at the end": torch.cat(
            [p.detach().float().flatten() for p in network.parameters()]
        ),
    }


def _autocast_with(
    number: torch.dtype | None = torch.bfloat16,
    weights: torch.dtype = torch.float32,
    loss_of: Callable[[Tensor, Tensor], Tensor] = lambda logits, target: (
        F.binary_cross_entropy_with_logits(logits.float(), target)
    ),
    backward_inside: bool = False,
    forget: bool = True,
    detach: bool = True,
) -> AutocastStep:
    """`autocast_step` with something else in one place."""

    def step(network: nn.Module, batch: Batch, optimizer: Optimizer) -> Tensor:
        network.to(weights)
        images = batch["images"].to(weights)
        if forget:
            optimizer.zero_grad()
        with torch.autocast("cpu", number, enabled=number is not None):
            loss = loss_of(network(batch | {"images": images}), batch["target"])
            if backward_inside:
                loss.backward()
        if not backward_inside:
            loss.backward()
        optimizer.step()
        return loss.detach() if detach else loss

    return step


def _from_sixteen_bits(logits: Tensor, target: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return F.binary_cross_entropy_with_logits(logits, target)


def _in_sixteen_bits(logits: Tensor, target: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))


_NO_FLOAT = "your loss was computed from sixteen bits: mask_logits.float() comes first"

add_exercise(
    LESSON,
    "a step in sixteen bits",
    Exercise(
        autocast_step,
        network_and_batches,
        {
            "your products are in float32: autocast is off where the network runs, or it is for "
            "another device than the batch's": _autocast_with(number=None),
            "your weights are in sixteen bits, and a small step on them is lost: autocast leaves "
            "them in float32 and rounds for the product alone": _autocast_with(
                number=None,
                weights=torch.bfloat16,
            ),
            "your products are in fp16, whose small gradients become 0 without a scaler: ask for "
            "torch.bfloat16": _autocast_with(number=torch.float16),
            "your backward() runs inside of autocast: the block ends with the forward pass, and "
            "backward() takes the formats from there": _autocast_with(backward_inside=True),
            _NO_FLOAT: _autocast_with(loss_of=_from_sixteen_bits),
            _NO_FLOAT + ", and the target stays in float32": _autocast_with(
                loss_of=_in_sixteen_bits
            ),
            "your loss holds on to its graph: return loss.detach()": _autocast_with(detach=False),
            "gradients of earlier steps were added to yours: zero_grad() is missing": (
                _autocast_with(forget=False)
            ),
        },
        ask=take_autocast_steps,
    ),
)

# --- find the waits -------------------------------------------------------------------------------

# What needs a number that the device may not have computed yet, and why.
READS = {
    **dict.fromkeys(
        ("item", "tolist", "numpy", "cpu", "__int__", "__float__", "__index__", "__array__"),
        "it hands a number to Python",
    ),
    "__bool__": "`if`, `min`, `max` and `and` need the number to decide",
    **dict.fromkeys(("__repr__", "__format__"), "printing needs the number"),
    "__contains__": "`in` needs the numbers to compare",
    **dict.fromkeys(
        ("nonzero", "masked_select", "argwhere"), "how many entries come out, the device knows only"
    ),
    **dict.fromkeys(("equal", "allclose"), "its answer is Python's True or False"),
}
MASK_AS_INDEX = "a mask as an index: how many entries come out, the device knows only"
_TORCH = str(Path(torch.__file__).parent)


class HostReads(TorchFunctionMode):
    """Inside of it: every reading of a tensor's numbers by Python, while `watching()` says so.

    `reads` has a pair for each: the line of code that reads, and why this is a reading. On a GPU
    each would make the CPU wait; on a CPU it can only be noticed.
    """

    def __init__(self, watching: Callable[[], bool]) -> None:
        super().__init__()
        self.watching = watching
        self.reads: list[tuple[str, str]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        why = self._why(func, args)
        if why and self.watching():
            self.reads.append((_line_of_the_caller(), why))
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _why(func: Callable, args: Sequence) -> str | None:
        name = getattr(func, "__name__", "")
        if name == "__getitem__":
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            masked = any(isinstance(i, Tensor) and i.dtype == torch.bool for i in index)
            return MASK_AS_INDEX if masked else None
        return READS.get(name)


def _line_of_the_caller() -> str:
    """The source of the nearest line that stands neither in torch nor here, where it is known."""
    frame = sys._getframe(2)
    while frame and frame.f_code.co_filename.startswith((_TORCH, __file__)):
        frame = frame.f_back
    return getline(frame.f_code.co_filename, frame.f_lineno).strip() if frame else ""


Trainer = Callable[[nn.Module, list[Batch], Optimizer], tuple[list[float], float, int]]


def train_waiting(
    network: nn.Module, batches: list[Batch], optimizer: Optimizer
) -> tuple[list[float], float, int]:
    """Train on each batch once. Three lines of the loop make the host wait for the device."""
    losses, lowest, found = [], float("inf"), 0
    for batch in batches:
        target = batch["target"]  # (B, H, W)
        mask_logits = network(batch)  # (B, H, W)
        loss = F.binary_cross_entropy_with_logits(mask_logits, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        lowest = min(lowest, loss.detach())
        found = found + (mask_logits[target > 0.5] > 0).sum()
    return losses, float(lowest), int(found)


def train_without_waiting(
    network: nn.Module, batches: list[Batch], optimizer: Optimizer
) -> tuple[list[float], float, int]:
    """The same figures, read once all work was sent."""
    return _train_quietly(network, batches, optimizer)


def _train_quietly(
    network: nn.Module,
    batches: list[Batch],
    optimizer: Optimizer,
    count: Callable[[Tensor, Tensor], Tensor] = lambda logits, target: (
        (logits > 0) & (target > 0.5)
    ),
    sum_up: Callable[[list[int]], int] = sum,
    lowest: Callable[[list[float]], float] = min,
    forget: bool = True,
    losses_of: Callable[[list[float]], list[float]] = lambda losses: losses,
) -> tuple[list[float], float, int]:
    losses, found = [], []
    for batch in batches:
        mask_logits = network(batch)
        loss = F.binary_cross_entropy_with_logits(mask_logits, batch["target"])
        loss.backward()
        optimizer.step()
        if forget:
            optimizer.zero_grad()
        losses.append(loss.detach())
        found.append(count(mask_logits, batch["target"]).sum())
    numbers = torch.stack(losses).tolist()
    return losses_of(numbers), lowest(numbers), sum_up(torch.stack(found).tolist())


def _other_figures(**other: Any) -> Trainer:
    """`train_without_waiting` with something else in one place."""
    return lambda *given: _train_quietly(*given, **other)


def watch_training(train: Trainer, state: dict[str, Tensor], batches: list[Batch]) -> Any:
    """What a training returns and leaves, if Python reads nothing before the last step was sent."""
    network = SmallNetwork()
    network.load_state_dict(state)
    network.head.train()
    optimizer = CountingSGD([p for p in network.parameters() if p.requires_grad], lr=0.3)
    with HostReads(lambda: optimizer.steps < len(batches)) as host:
        result = train(network, batches, optimizer)
    if host.reads:
        line, why = host.reads[0]
        place = f"`{line}`" if line else "a line of your loop"
        raise CheckFailed(
            f"the host waits for the device in {place}: {why}. It waited {len(host.reads)} times "
            f"before the last of {len(batches)} steps was sent"
        )
    if result is None:
        raise CheckFailed("it returns None: is there a `return`?")
    losses, lowest, found = result
    return {
        "losses": losses,
        "the lowest": lowest,
        "found": found,
        "the weights at the end": torch.cat([p.detach().flatten() for p in network.parameters()]),
    }


add_exercise(
    LESSON,
    "find the waits",
    Exercise(
        train_without_waiting,
        network_and_batches,
        {
            "you count every pixel that is marked: only those that are meant, too": (
                _other_figures(count=lambda logits, target: logits > 0)
            ),
            "you count every pixel that is meant: only those that are marked, too": (
                _other_figures(count=lambda logits, target: target > 0.5)
            ),
            "you count in the last batch alone: add the batches up": (
                _other_figures(sum_up=lambda found: found[-1])
            ),
            "your lowest loss is the last one: take the smallest of all": (
                _other_figures(lowest=lambda losses: losses[-1])
            ),
            "your losses are running sums: keep the loss of each step": _other_figures(
                losses_of=lambda losses: torch.tensor(losses).cumsum(0).tolist()
            ),
            "gradients of earlier steps were added to yours: keep zero_grad()": (
                _other_figures(forget=False)
            ),
        },
        ask=watch_training,
    ),
)

# --- a batch for a card ---------------------------------------------------------------------------

MIB_PER_GIB = 1024  # MiB
Peaks = dict[int, float]  # expressions -> MiB at the fullest moment of a step
Setting = tuple[int, bool] | None  # accumulate, recompute


def line_through(peaks: Peaks) -> tuple[float, float]:
    """MiB without any expression, MiB per expression."""
    (few, low), (many, high) = sorted(peaks.items())
    each = (high - low) / (many - few)
    return low - each * few, each


def fit_batch(card: float, batch: int, plain: Peaks, recomputed: Peaks) -> Setting:
    """Ever more shares; of each number of shares first plain, then recomputed."""
    return _fit(card, batch, plain, recomputed)


def _fit(
    card: float,
    batch: int,
    plain: Peaks,
    recomputed: Peaks,
    line: Callable[[Peaks], tuple[float, float]] = line_through,
    aside: float = ASIDE,
    unit: float = MIB_PER_GIB,
    shares: Callable[[int], Sequence[int]] = lambda batch: [
        n for n in range(1, batch // 2 + 1) if batch % n == 0
    ],
    shares_first: bool = False,
    recompute: Sequence[bool] = (False, True),
    shared_fixed: bool = False,
) -> Setting:
    """`fit_batch`, or the same with something else in one place."""
    room = unit * (card - aside)
    lines = {False: line(plain), True: line(recomputed)}
    tries = [(n, again) for n in shares(batch) for again in recompute]
    if shares_first:
        tries.sort(key=lambda each: each[1])
    for accumulate, again in tries:
        fixed, each = lines[again]
        paid = fixed / accumulate if shared_fixed else fixed
        if paid + each * batch / accumulate <= room:
            return accumulate, again
    return None


def _whole_peak_per_expression(peaks: Peaks) -> tuple[float, float]:
    return 0.0, max(peaks.values()) / max(peaks)


def _without_the_fixed_part(peaks: Peaks) -> tuple[float, float]:
    return 0.0, line_through(peaks)[1]


def _cases(source: random.Random) -> tuple[list[tuple[float, int, Peaks, Peaks]]]:
    """Cards and measured steps, many of which just fit or just do not, with a distance of 0.5 %.

    For one card nothing fits, and on one nothing but recomputed shares.
    """
    cases: list[tuple[float, int, Peaks, Peaks]] = []
    while len(cases) < 24:
        card, batch = float(source.choice([8, 11, 16, 24])), source.choice([40, 48, 50, 60])
        room = MIB_PER_GIB * (card - ASIDE)
        fixed = source.choice([source.uniform(300, 600), source.uniform(1500, 2000)])
        share = batch // source.choice([n for n in (1, 2, 3, 4, 5, 6, 8, 10) if batch % n == 0])
        full = source.choice([0.9 * room, 0.985 * room, room + 700, room + 1300, 1.3 * room])
        full *= source.uniform(0.997, 1.003)
        less = source.uniform(0.25, 0.6)
        each = (full - fixed) / share / source.choice([1, less])
        if len(cases) < 2:
            each, less = 0.6 * room, (0.98, 0.2)[len(cases)]
        few = source.choice([2, 4, 5])
        plain, recomputed = (
            {n: round(fixed + per * n, 1) for n in (few, 2 * few)} for per in (each, less * each)
        )
        borders = (ASIDE, ASIDE + 0.005 * card, ASIDE - 0.005 * card)
        if len({_fit(card, batch, plain, recomputed, aside=aside) for aside in borders}) == 1:
            cases.append((card, batch, plain, recomputed))
    source.shuffle(cases)
    return (cases,)


def fit_all(fit: Callable[..., Setting], cases: list) -> dict[str, Setting]:
    """The answer to every case, by the case."""
    answers = {}
    for card, batch, plain, recomputed in cases:
        asked = f"fit_batch(card={card:g}, batch={batch}, plain={plain}, recomputed={recomputed})"
        answer = fit(card, batch, dict(plain), dict(recomputed))
        answers[asked] = tuple(answer) if isinstance(answer, list) else answer
    return answers


def _fit_with(**other: Any) -> Callable[..., Setting]:
    return lambda *given: _fit(*given, **other)


add_exercise(
    LESSON,
    "a batch for a card",
    Exercise(
        fit_batch,
        _cases,
        {
            "you take the whole peak as the price of its expressions: weights, gradients and "
            "AdamW's means are paid once, whatever the batch": _fit_with(
                line=_whole_peak_per_expression
            ),
            "you forget the part that is there without any expression: a peak is that part and so "
            "much per expression": _fit_with(line=_without_the_fixed_part),
            "you give the whole card away: CUDA itself takes one GiB of it": _fit_with(aside=0.0),
            "a GiB has 1024 MiB": _fit_with(unit=1000),
            "you accumulate before you recompute: recomputing leaves BatchNorm as it is, so it is "
            "tried first with every number of shares": _fit_with(shares_first=True),
            "you recompute where it fits without: that costs a forward pass for nothing": (
                _fit_with(recompute=(True,))
            ),
            "you never recompute": _fit_with(recompute=(False,)),
            "your shares are not whole: accumulate has to divide the batch": _fit_with(
                shares=lambda batch: range(1, batch // 2 + 1)
            ),
            "you take a share of one expression: BatchNorm needs two": _fit_with(
                shares=lambda batch: [n for n in range(1, batch + 1) if batch % n == 0]
            ),
            "you try only halves of halves: every number that divides the batch will do": (
                _fit_with(shares=lambda batch: [n for n in (1, 2, 4, 8, 16) if batch % n == 0])
            ),
            "you begin with the smallest shares: the largest that fits is nearest to the whole "
            "batch": _fit_with(
                shares=lambda batch: [n for n in range(batch // 2, 0, -1) if batch % n == 0]
            ),
            "you divide the fixed part among the shares: weights and AdamW's means stay whole": (
                _fit_with(shared_fixed=True)
            ),
        },
        ask=fit_all,
    ),
)

# --- the shares of two processes ------------------------------------------------------------------

Shares = list[list[int]]
Sampler = Callable[[int, int, int, int, int, int], Shares]
Order = Callable[[int, int, int, int], list[int]]


def process_batches(
    count: int, batch_size: int, seed: int, epoch: int, rank: int, processes: int
) -> Shares:
    """One order for all processes, cut into batches; of each batch this process's part."""
    return _cut(count, batch_size, seed, epoch, rank, processes)


def _same_order(count: int, seed: int, epoch: int, rank: int) -> list[int]:
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    return torch.randperm(count, generator=generator).tolist()


def _cut(
    count: int,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int,
    processes: int,
    order_of: Order = _same_order,
    whole: bool = True,
    per_process: bool = False,
    everybody: bool = False,
    regions: bool = False,
) -> Shares:
    """`process_batches`, or the same with something else in one place."""
    order = order_of(count, seed, epoch, rank)
    part = batch_size if per_process else batch_size // processes
    if regions:  # an own part of the epoch for each process
        length = count // batch_size * part
        mine = order[rank * length :][:length]
        return [mine[first : first + part] for first in range(0, length, part)]
    step = part * processes
    last = count - count % step if whole else count
    batches = [order[first : first + step] for first in range(0, last, step)]
    place = 0 if everybody else rank
    return [batch[place * part :][:part] for batch in batches]


def _cut_with(**other: Any) -> Sampler:
    return lambda *given: _cut(*given, **other)


def _own_order(count: int, seed: int, epoch: int, rank: int) -> list[int]:
    return _same_order(count, seed + rank, epoch, rank)


def _any_order(count: int, seed: int, epoch: int, rank: int) -> list[int]:
    return torch.randperm(count).tolist()


def _data_set(source: random.Random) -> tuple[int, int, int]:
    """Expressions, whose last batch would not be whole, the batch size, a seed."""
    batch_size = source.choice([6, 8, 10])
    count = batch_size * source.randrange(5, 9) + source.randrange(3, batch_size)
    return count, batch_size, source.randrange(1000)


def run_two(batches_of: Sampler, count: int, batch_size: int, seed: int) -> dict[str, Any]:
    """What two processes read in two epochs, told so that the order within a batch is free."""

    def read(epoch: int, rank: int = 0, processes: int = 2, seed: int = seed) -> Shares:
        given = batches_of(count, batch_size, seed, epoch, rank, processes)
        return [[int(index) for index in batch] for batch in given]

    alone, ours, theirs = read(0, processes=1), read(0, rank=0), read(0, rank=1)
    flat = [index for batch in alone for index in batch]
    mine, others = ({i for batch in part for i in batch} for part in (ours, theirs))
    together = [sorted(a + b) for a, b in zip(ours, theirs, strict=False)]
    twice = "none" if not mine & others else "all" if mine == others else "some"
    return {
        "all numbers are those of expressions": all(
            0 <= i < count for i in [*flat, *mine, *others]
        ),
        "the second call gives the same": read(0, processes=1) == alone,
        "what both processes read in an epoch": twice,
        "how many a process reads per step": sorted({len(b) for b in [*ours, *theirs]}),
        "how many steps each process takes": [len(ours), len(theirs)],
        "both together read in a step what one process reads": (
            together == [sorted(batch) for batch in alone]
        ),
        "an epoch reads nothing twice": len(set(flat)) == len(flat),
        "the order is shuffled": flat != sorted(flat),
        "the next epoch has another order": read(1, processes=1) != alone,
        "another seed has another order": read(0, processes=1, seed=seed + 7) != alone,
    }


add_exercise(
    LESSON,
    "the shares of two processes",
    Exercise(
        process_batches,
        _data_set,
        {
            "your processes shuffle differently, so that both read some expressions: the seed and "
            "the epoch decide the order, not the rank": _cut_with(order_of=_own_order),
            "your order cannot be had again: shuffle with a generator that was given seed and "
            "epoch": _cut_with(order_of=_any_order),
            "your processes read the same: each takes its own part of the batch": _cut_with(
                everybody=True
            ),
            "batch_size counts all processes: each takes batch_size / processes": _cut_with(
                per_process=True
            ),
            "each of your processes has a region of the epoch for itself: together they read in a "
            "step something else than one process does": _cut_with(regions=True),
            "your last batch is not whole, so that a process has less to do than the other, or "
            "nothing, and the other waits for its gradient for ever: leave it out": _cut_with(
                whole=False
            ),
            "every epoch has the same order: the epoch has to change it": _cut_with(
                order_of=lambda count, seed, epoch, rank: _same_order(count, seed, 0, rank)
            ),
            "every seed gives the same order": _cut_with(
                order_of=lambda count, seed, epoch, rank: _same_order(count, 0, epoch, rank)
            ),
            "nothing is shuffled": _cut_with(
                order_of=lambda count, seed, epoch, rank: list(range(count))
            ),
        },
        ask=run_two,
    ),
)
