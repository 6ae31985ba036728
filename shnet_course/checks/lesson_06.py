"""The checks of exercise 06: the learning rate, a training step, accumulation, resuming."""

import io
import pickle
import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from shnet_course.checks.core import Batch, CheckFailed, Exercise, add_exercise, seed_torch

LESSON = "06_training"
POWER = 0.7  # section 4.2

# --- the learning rate ----------------------------------------------------------------------------


def poly_rate(
    step: int, steps_per_epoch: int, epochs: int, initial: float, power: float = POWER
) -> float:
    """Section 4.2: the initial rate times (1 - t / T) ** power."""
    return initial * (1 - step / (steps_per_epoch * epochs)) ** power


def _place_in_a_run(source: random.Random) -> tuple[int, int, int, float]:
    """A step inside an epoch, neither the first epoch nor on its border, and an initial rate."""
    steps_per_epoch, epochs = source.randrange(5, 40), source.randrange(3, 9)
    step = steps_per_epoch * source.randrange(1, epochs) + source.randrange(1, steps_per_epoch)
    return step, steps_per_epoch, epochs, source.uniform(0.5, 4)


add_exercise(
    LESSON,
    "the poly schedule",
    Exercise(
        poly_rate,
        _place_in_a_run,
        {
            "your rate falls once an epoch: t counts steps, and T is the steps of the whole run": (
                lambda step, each, epochs, initial: poly_rate(
                    step // each * each, each, epochs, initial
                )
            ),
            "your epoch begins anew each time: t counts the steps since training began": (
                lambda step, each, epochs, initial: poly_rate(step % each, each, 1, initial)
            ),
            "the power belongs to the whole bracket: (1 - t / T) ** 0.7, not 1 - (t / T) ** 0.7": (
                lambda step, each, epochs, initial: (
                    initial * (1 - (step / (each * epochs)) ** POWER)
                )
            ),
            "T is the steps of the whole run: yours are those of one epoch": (
                lambda step, each, epochs, initial: poly_rate(step, each, 1, initial)
            ),
            "T is a number of steps: yours is a number of epochs": (
                lambda step, each, epochs, initial: poly_rate(step, 1, epochs, initial)
            ),
            "that is a straight line: raise the bracket to the power of 0.7": (
                lambda step, each, epochs, initial: poly_rate(step, each, epochs, initial, 1.0)
            ),
            "the rate has to fall: what is left of the run is 1 - t / T": (
                lambda step, each, epochs, initial: initial * (step / (each * epochs)) ** POWER
            ),
            "that is the factor alone: multiply the initial rate with it": (
                lambda step, each, epochs, initial: poly_rate(step, each, epochs, 1.0)
            ),
            "one step too far: after t steps the rate has fallen t times": (
                lambda step, each, epochs, initial: poly_rate(step + 1, each, epochs, initial)
            ),
        },
    ),
)

# --- small networks -------------------------------------------------------------------------------


class SmallNetwork(nn.Module):
    """A frozen `backbone` and a `head` that learns, both with BatchNorm: batch -> mask logits."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        # No bias before a BatchNorm: its gradient is rounding, and AdamW would make steps of it.
        self.head = nn.Sequential(
            nn.Conv2d(4, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
            nn.Conv2d(5, 1, 1),
        )  # fmt: skip
        self.backbone.requires_grad_(False)

    def forward(self, batch: Batch) -> Tensor:
        """`images (B, 3, H, W)` -> (B, H, W)."""
        return self.head(self.backbone(batch["images"])).squeeze(1)


def _batch(size: int) -> Batch:
    images = torch.randn(size, 3, 5, 6) * 2 + 1
    return {"images": images, "target": (images.mean(1) > 1).float()}


def network_and_batches(source: random.Random) -> tuple[dict[str, Tensor], list[Batch]]:
    """Weights of a SmallNetwork whose backbone was trained elsewhere, and three batches."""
    seed_torch(source)
    state = SmallNetwork().state_dict()
    state["backbone.1.running_mean"].normal_()
    state["backbone.1.running_var"].uniform_(0.5, 2.0)
    return state, [_batch(3) for _ in range(3)]


def _decay(optimizer: Optimizer, steps: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: (1 - step / steps) ** POWER)


def _flat(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


# --- one training step ----------------------------------------------------------------------------


class _CountingAdamW(AdamW):
    """Counts its steps."""

    steps = 0

    def step(self, closure: None = None) -> None:
        super().step(closure)
        self.steps += 1


Step = Callable[[nn.Module, Batch, Optimizer, LRScheduler], float]


def reference_step(
    network: nn.Module, batch: Batch, optimizer: Optimizer, schedule: LRScheduler
) -> float:
    """Section 4.2, one step: the head learns, the backbone is fixed."""
    network.train()
    network.backbone.eval()
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def take_steps(step: Step, state: dict[str, Tensor], batches: list[Batch]) -> dict[str, Any]:
    """Three steps from a network in evaluation mode, and what became of it."""
    network = SmallNetwork()
    network.load_state_dict(state)
    network.eval()
    arrived: list[bool] = []
    network.head[0].weight.register_hook(lambda gradient: arrived.append(True))
    optimizer = _CountingAdamW([p for p in network.parameters() if p.requires_grad], lr=0.02)
    schedule = _decay(optimizer, steps=10)
    losses, rates, weights = [], [], []
    for batch in batches:
        losses.append(step(network, batch, optimizer, schedule))
        rates.append(optimizer.param_groups[0]["lr"])
        weights.append(_flat(network))
    backbone, head = network.backbone[1], network.head[1]
    return {
        "the loss of each step": losses,
        "how often a gradient was computed": len(arrived),
        "how often the optimiser stepped": optimizer.steps,
        "the backbone's running mean": backbone.running_mean,
        "the head's running mean": head.running_mean,
        "the rate after each step": rates,
        "the weights after each step": weights,
    }


def _steps_with(
    modes: Callable[[nn.Module], Any] = lambda network: network.train() and network.backbone.eval(),
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.binary_cross_entropy_with_logits,
    order: str = "zero loss backward step schedule",
) -> Step:
    """`reference_step` with something else in one place."""

    def step(
        network: nn.Module, batch: Batch, optimizer: Optimizer, schedule: LRScheduler
    ) -> float:
        modes(network)
        loss = torch.zeros(())
        for part in order.split():
            if part == "zero":
                optimizer.zero_grad()
            if part == "loss":
                loss = loss_of(network(batch), batch["target"])
            if part == "backward":
                loss.backward()
            if part == "step":
                optimizer.step()
            if part == "schedule":
                schedule.step()
        return loss.item()

    return step


def _on_probabilities(mask_logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(mask_logits.sigmoid(), target)


def _summed(mask_logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(mask_logits, target, reduction="sum")


add_exercise(
    LESSON,
    "one training step",
    Exercise(
        reference_step,
        network_and_batches,
        {
            "the backbone's BatchNorm was in train mode: after train(), call its eval()": (
                _steps_with(modes=lambda network: network.train())
            ),
            "the head's BatchNorm was in eval mode: only the backbone is fixed, the rest has to "
            "train()": _steps_with(modes=lambda network: None),
            "gradients of earlier steps were added to yours: zero_grad() is missing": (
                _steps_with(order="loss backward step schedule")
            ),
            "you forget the gradient before the optimiser has seen it: zero_grad() stands between "
            "backward() and step()": _steps_with(order="loss backward zero step schedule"),
            "no gradient reaches the optimiser: backward() is missing": (
                _steps_with(order="zero loss step schedule")
            ),
            "the weights never move: optimizer.step() is missing": (
                _steps_with(order="zero loss backward schedule")
            ),
            "the rate never falls: schedule.step() is missing": (
                _steps_with(order="zero loss backward step")
            ),
            "the schedule moved before the optimiser: the first step is to have the initial rate": (
                _steps_with(order="zero loss backward schedule step")
            ),
            "the network gives logits and your loss takes them for probabilities, or the other way "
            "round: one sigmoid, and it stands inside the loss": (
                _steps_with(loss_of=_on_probabilities)
            ),
            "your loss is a sum: the mean over pixels does not grow with the photo": (
                _steps_with(loss_of=_summed)
            ),
        },
        ask=take_steps,
    ),
)

# --- gradient accumulation ------------------------------------------------------------------------

Accumulate = Callable[[nn.Module, list[Batch], Optimizer, LRScheduler, int], None]


def train_accumulated(
    network: nn.Module,
    micro_batches: list[Batch],
    optimizer: Optimizer,
    schedule: LRScheduler,
    accumulate: int,
) -> None:
    """Each `accumulate` micro-batches are one step."""
    for number, batch in enumerate(micro_batches, start=1):
        loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
        (loss / accumulate).backward()
        if number % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def _accumulated_with(
    divisor: Callable[[list[Batch], int], int] = lambda batches, accumulate: accumulate,
    steps_at: Callable[[int, int], bool] = lambda number, accumulate: number % accumulate == 0,
    forget: str = "after a step",
    schedule_each: bool = False,
) -> Accumulate:
    """`train_accumulated` with something else in one place."""

    def train(
        network: nn.Module,
        micro_batches: list[Batch],
        optimizer: Optimizer,
        schedule: LRScheduler,
        accumulate: int,
    ) -> None:
        for number, batch in enumerate(micro_batches, start=1):
            if forget == "always":
                optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(network(batch), batch["target"])
            (loss / divisor(micro_batches, accumulate)).backward()
            stepping = steps_at(number, accumulate)
            if stepping:
                optimizer.step()
                if forget == "after a step":
                    optimizer.zero_grad()
            if stepping or schedule_each:
                schedule.step()

    return train


def _in_train_mode(network: nn.Module, *others: Any) -> None:
    train_accumulated(network.train(), *others)


def _micro_batches(source: random.Random) -> tuple[dict[str, Tensor], list[Batch], int]:
    """Weights, micro-batches for two or three steps, how many make a step."""
    seed_torch(source)
    accumulate = source.choice([2, 3])
    batches = [_batch(2) for _ in range(accumulate * source.choice([2, 3]))]
    return SmallNetwork().state_dict(), batches, accumulate


class CountingSGD(SGD):
    """Plain gradient descent: unlike AdamW it shows how large a gradient was. Counts its steps."""

    steps = 0

    def step(self, closure: None = None) -> None:
        super().step(closure)
        self.steps += 1


def accumulate_with(
    train: Accumulate, state: dict[str, Tensor], micro_batches: list[Batch], accumulate: int
) -> dict[str, Any]:
    """Train on the micro-batches, BatchNorms in evaluation mode, and see what became of it."""
    network = SmallNetwork()
    network.load_state_dict(state)
    network.eval()
    optimizer = CountingSGD([p for p in network.parameters() if p.requires_grad], lr=0.3)
    schedule = _decay(optimizer, steps=20)
    train(network, micro_batches, optimizer, schedule, accumulate)
    return {
        "how many steps the optimiser took": optimizer.steps,
        "the rate at the end": optimizer.param_groups[0]["lr"],
        "the weights at the end": _flat(network),
    }


add_exercise(
    LESSON,
    "gradient accumulation",
    Exercise(
        train_accumulated,
        _micro_batches,
        {
            "your gradient is k times too large: divide each loss by accumulate": (
                _accumulated_with(divisor=lambda batches, accumulate: 1)
            ),
            "you step after each micro-batch: that is a smaller batch, not a larger one": (
                _accumulated_with(steps_at=lambda number, accumulate: True)
            ),
            "each zero_grad() throws away what was collected: forget only after a step": (
                _accumulated_with(forget="always")
            ),
            "gradients of earlier steps are added on: after a step they have to be forgotten": (
                _accumulated_with(forget="never")
            ),
            "the schedule counts steps of the optimiser, not micro-batches": (
                _accumulated_with(schedule_each=True)
            ),
            "your first step comes after one micro-batch: counted from 0, the k-th is k - 1": (
                _accumulated_with(
                    steps_at=lambda number, accumulate: (number - 1) % accumulate == 0
                )
            ),
            "you divide by the number of all micro-batches: the mean is that of one step, of "
            "accumulate of them": _accumulated_with(
                divisor=lambda batches, accumulate: len(batches)
            ),
            "you changed the modes: leave them as they are": _in_train_mode,
            "you step once, at the end: each accumulate micro-batches are a step": (
                lambda network, micro_batches, optimizer, schedule, accumulate: train_accumulated(
                    network, micro_batches, optimizer, schedule, len(micro_batches)
                )
            ),
        },
        ask=accumulate_with,
    ),
)

# --- stop and go on -------------------------------------------------------------------------------


class SmallRun:
    """A training that can be stopped: what it consists of, and `take_step`.

    Attributes:
        network: with BatchNorm and dropout. Dropout draws torch's random numbers.
        optimizer: AdamW, with two running means for each weight.
        schedule: polynomial decay.
        epoch, first_batch: the place in the data, the batch that comes next. An epoch's order
            follows from its number.
    """

    steps, batches_per_epoch = 12, 3

    def __init__(self) -> None:
        self.network = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = AdamW(self.network.parameters(), lr=0.02)
        self.schedule = _decay(self.optimizer, self.steps)
        self.epoch = self.first_batch = 0

    def take_step(self) -> float:
        """Train on the next batch; its loss."""
        inputs = self._order()[4 * self.first_batch :][:4]  # (4, 4)
        loss = (self.network(inputs).squeeze(1) - inputs.sum(1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.first_batch += 1
        if self.first_batch == self.batches_per_epoch:
            self.epoch, self.first_batch = self.epoch + 1, 0
        return loss.item()

    def _order(self) -> Tensor:
        """All inputs, (12, 4), in the order of this epoch."""
        generator = torch.Generator().manual_seed(self.epoch)
        examples = torch.linspace(-2, 2, 4 * 4 * self.batches_per_epoch).sin().view(-1, 4)
        return examples[torch.randperm(len(examples), generator=generator)]


Saver = tuple[Callable[[SmallRun], Any], Callable[[SmallRun, Any], None]]


def save_run(run: SmallRun) -> dict[str, Any]:
    """All that the next step depends on."""
    return {
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "place": (run.epoch, run.first_batch),
        "random": torch.get_rng_state(),
    }


def load_run(run: SmallRun, saved: dict[str, Any]) -> None:
    """Put it all back; what is missing stays as in the fresh run."""
    if "network" in saved:
        run.network.load_state_dict(saved["network"])
    if "optimizer" in saved:
        run.optimizer.load_state_dict(saved["optimizer"])
    if "schedule" in saved:
        run.schedule.load_state_dict(saved["schedule"])
    if "place" in saved:
        run.epoch, run.first_batch = saved["place"]
    if "random" in saved:
        torch.set_rng_state(saved["random"])


def _seed_and_cut(source: random.Random) -> tuple[int, int]:
    """A seed, and the steps before the lights go out: in the middle of an epoch, not the first."""
    return source.randrange(10**6), source.choice([4, 5])


def cut_and_resume(saver: Saver, seed: int, before: int) -> dict[str, Any]:
    """A run that is stopped, and brought back by a fresh process from what lay on the disk.

    Raises:
        CheckFailed: what is saved cannot be read from a disk safely.
    """
    save, load = saver
    torch.manual_seed(seed)
    run = SmallRun()
    for _ in range(before):
        run.take_step()
    saved = _through_a_file(save(run))

    torch.manual_seed(seed + 1)
    resumed = SmallRun()
    load(resumed, saved)
    seen: dict[str, Any] = {
        "the place in the data": (resumed.epoch, resumed.first_batch),
        "the learning rate": resumed.optimizer.param_groups[0]["lr"],
        "the schedule's place": resumed.schedule.last_epoch,
        "the network": [v.clone() for v in resumed.network.state_dict().values()],
        "AdamW's two means": [
            torch.cat([value.flatten() for value in means.values()])
            for means in resumed.optimizer.state.values()
        ],
    }
    seen["the losses of the next steps"] = [resumed.take_step() for _ in range(3)]
    seen["the network after them"] = [v.clone() for v in resumed.network.state_dict().values()]
    return seen


def _through_a_file(saved: Any) -> Any:
    """What is read back of it.

    Raises:
        CheckFailed: it cannot be written, or not be read without running code of the file.
    """
    disk = io.BytesIO()
    try:
        torch.save(saved, disk)
        disk.seek(0)
        return torch.load(disk, weights_only=True)
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise CheckFailed(
            "save_run has to give tensors, numbers, texts, lists and dicts: save the state_dict() "
            "of a network, optimiser or schedule, not the object"
        ) from error


def _forgetting(*names: str) -> Saver:
    """Everything is saved but these."""
    return lambda run: {k: v for k, v in save_run(run).items() if k not in names}, load_run


def _parameters_alone(run: SmallRun) -> dict[str, Any]:
    return save_run(run) | {"network": dict(run.network.named_parameters())}


def _load_parameters(run: SmallRun, saved: dict[str, Any]) -> None:
    load_run(run, {name: value for name, value in saved.items() if name != "network"})
    run.network.load_state_dict(saved["network"], strict=False)


def _save_with_seed(run: SmallRun) -> dict[str, Any]:
    return save_run(run) | {"seed": torch.initial_seed()}


def _own_seed_again(run: SmallRun, saved: dict[str, Any]) -> None:
    load_run(run, {name: value for name, value in saved.items() if name != "seed"})
    torch.manual_seed(saved["seed"])


def _seed_again(run: SmallRun, saved: dict[str, Any]) -> None:
    load_run(run, saved)
    torch.manual_seed(0)


add_exercise(
    LESSON,
    "stop and go on",
    Exercise(
        (save_run, load_run),
        _seed_and_cut,
        {
            "AdamW begins anew: its two running means are part of the run": (
                _forgetting("optimizer")
            ),
            "the schedule begins anew: its rate jumps back up at the next step": (
                _forgetting("schedule")
            ),
            "the data begin anew: some batches come twice and others never": _forgetting("place"),
            "the random numbers are others: dropout takes away other features than it would have": (
                _forgetting("random")
            ),
            "you set a seed: the random numbers have to go on from where they were": (
                save_run,
                _seed_again,
            ),
            "you set a seed, the run's own: the random numbers go on from where they were": (
                _save_with_seed,
                _own_seed_again,
            ),
            "the network is not back: its state_dict() is the first thing to save": (
                _forgetting("network")
            ),
            "parameters are not all of a network: BatchNorm's running statistics are buffers": (
                _parameters_alone,
                _load_parameters,
            ),
            "weights alone are a network, not a run: optimiser, schedule, place and random numbers "
            "are missing": _forgetting("optimizer", "schedule", "place", "random"),
        },
        ask=cut_and_resume,
    ),
)
