"""Training, section 4.2: AdamW, polynomial decay, binary cross-entropy on every pixel.

`fit` is the whole of it; what stands below are its parts, in the order of their use.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from shnet_lib.data import Expression
from shnet_lib.data.dataset import ReferringDataset, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.errors import ShnetError
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.checkpoint import (
    TrainedSHNet,
    load_weights_into,
    network_folder,
    read_saved_json,
    start_from,
)
from shnet_lib.training.config import TrainConfig
from shnet_lib.training.evaluate import evaluate, forward_size, to_device
from shnet_lib.training.interruption import explaining_stops
from shnet_lib.training.limits import make_loader, read_batches
from shnet_lib.training.metrics import intersection_and_union
from shnet_lib.training.prepare import (
    MicroBatches,
    forget_some,
    grayscale_some,
    make_accelerator,
    make_dataset,
    open_folder,
    read_word_vectors,
    require_named_files,
    run_lock,
)
from shnet_lib.training.recompute import recompute_activations
from shnet_lib.training.resume import Checkpoints, Progress, saved_word_vectors

FUSED_ADAMW = ("cpu", "cuda", "mps")  # the devices that have it
READ_EVERY = 10  # steps whose figures stay on the device: reading one waits for all of its work


class Diverged(ShnetError, FloatingPointError):
    """The loss or a weight is no finite number."""


@dataclass(frozen=True)
class FitResult:
    """A finished training: a row of figures for each evaluation, the best row, its network."""

    history: list[dict[str, Any]]
    best: dict[str, Any]
    seconds: float  # of all sittings together
    trained: TrainedSHNet  # with the best weights, not the last
    accelerator: Accelerator  # the devices and the arithmetic it was trained with


def fit(
    config: TrainConfig,
    data: Mapping[str, Sequence[Expression]],
    run_folder: Path,
    resume: bool = False,
    on_evaluation: Callable[[list[dict[str, Any]]], None] | None = None,
    on_steps: Callable[[list[dict[str, float]]], None] | None = None,
) -> FitResult:
    """Train a network and keep the one with the best overall IoU on the validation split.

    On a CPU the same settings and data give the same figures, bit for bit, and so does a run that
    was interrupted, or killed, and resumed.

    Args:
        data: the expressions by split; `config.train_split` and `config.val_split` are used.
        resume: go on where the run in this folder was last evaluated.
        on_evaluation: called by the main process with the history, after each evaluation.
        on_steps: called by the main process with a row for each of the last steps, `READ_EVERY` of
            them or fewer: its step, and its share's loss, intersection and union (pixels).

    Raises:
        CheckpointError: the folder holds a run already and `resume` is False; or there is nothing
            to resume, or it belongs to other settings, other words or another number of processes;
            or another run is at work in the folder; or the disk is full.
        Diverged: the loss or a weight became infinite or NaN. The last good state stays on disk.
        ConfigError: the batch cannot be shared by the processes, or GloVe's file is not named.
        DataError, WeightsError: a file that the settings name is missing or damaged.
        OutOfMemory: the memory of the machine, or of the GPU, does not suffice.
        LoaderError: the processes that read images have too little shared memory, or died.
        Interrupted: Ctrl-C; the run can be resumed from its last evaluation.
    """
    accelerator = make_accelerator(config)
    run_folder = Path(run_folder).expanduser()
    with run_lock(run_folder, accelerator), explaining_stops(config, run_folder):
        set_seed(config.seed)
        texts = (expression.text for expression in data[config.train_split])
        vocabulary = Vocabulary.from_texts(texts, config.min_count, config.keep_numbers)
        open_folder(run_folder, config, vocabulary, resume, accelerator)
        network = make_network(config, vocabulary, run_folder, resume, accelerator)
        train_set = make_dataset(config, data[config.train_split], vocabulary, network.backbone)
        val_set = make_dataset(config, data[config.val_split], vocabulary, network.backbone, True)
        batches = MicroBatches(
            config, train_set, accelerator.process_index, accelerator.num_processes
        )
        steps = config.steps or config.epochs * batches.steps_per_epoch
        evaluate_every = config.evaluate_every or batches.steps_per_epoch
        optimizer = make_optimizer(network, config, accelerator.device)
        if config.recompute:
            recompute_activations(network)
        model, optimizer = accelerator.prepare(network, optimizer)
        set_seed(config.seed, device_specific=True)  # each process drops its own features

        checkpoints = Checkpoints(run_folder, config, vocabulary, network, optimizer, accelerator)
        progress = checkpoints.load() if resume else Progress()
        step = progress.step
        batches.first_step, batches.last_step = step, steps
        loader = make_loader(
            train_set,
            config.workers,
            batch_sampler=batches,
            collate_fn=collate,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),  # its own: loading draws none of training's numbers
        )
        bar = tqdm(
            total=steps, initial=step, desc="training", disable=not accelerator.is_main_process
        )

        model.train()
        began = time.monotonic() - progress.seconds
        meter = Meter(train_set, batches.batch_size)
        for micro_batches in in_groups(loader, config.accumulate):
            if config.patience and progress.without_gain >= config.patience:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step, steps)
            figures = train_step(model, micro_batches, accelerator, config)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            meter.add(step, figures, expressions_in(micro_batches))
            evaluating = step % evaluate_every == 0 or step == steps
            if len(meter.unread) == READ_EVERY or evaluating:
                bar.set_postfix(meter.read(), refresh=False)
                if on_steps and accelerator.is_main_process:
                    on_steps(meter.last_read)
            bar.update()
            if not evaluating:
                continue

            if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
                raise_diverged(
                    "a weight is not finite", step, expressions_in(micro_batches), train_set
                )
            row = {
                "step": step,
                "epoch": step / batches.steps_per_epoch,
                "learning_rate": learning_rate(config, step, steps),
                **meter.over_processes(accelerator).read(),
                **validate(network, val_set, config, accelerator),
                "seconds": time.monotonic() - began,
            }
            progress.add(row)
            checkpoints.save(progress)
            if on_evaluation and accelerator.is_main_process:
                on_evaluation(progress.history)
            meter = Meter(train_set, batches.batch_size)
        bar.close()

        network = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        best = network_folder(run_folder / "best")
        load_weights_into(network, best, config)
        card = read_saved_json(best / "card.json", {})
        trained = TrainedSHNet(network.eval(), vocabulary, config, card)
        return FitResult(progress.history, progress.best, progress.seconds, trained, accelerator)


def make_network(
    config: TrainConfig,
    vocabulary: Vocabulary,
    run_folder: Path,
    resume: bool,
    accelerator: Accelerator,
) -> SHNet:
    """The network before the first step, or one that waits for the weights of a checkpoint.

    Raises:
        ConfigError, DataError, WeightsError, CheckpointError: a file that the settings name is
            missing, damaged, or of another network.
    """
    if resume:
        network = SHNet(config.model, len(vocabulary), saved_word_vectors(run_folder))
        return network.to(accelerator.device)
    require_named_files(config, vocabulary)
    vectors = read_word_vectors(config, vocabulary, accelerator)
    network = SHNet(config.model, len(vocabulary), vectors)
    if config.start_from is not None:
        start_from(network, Path(config.start_from))
    return network.to(accelerator.device)


def make_optimizer(network: SHNet, config: TrainConfig, device: torch.device) -> AdamW:
    """AdamW on all weights but the frozen ones (section 4.2)."""
    return AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=device.type in FUSED_ADAMW,
    )


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of the step that follows `step` of `steps`.

    Section 4.2's decay, under a rise over the first `warm_up` steps, which is not the paper's.
    """
    rise = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    return config.learning_rate * rise * polynomial_decay(step, steps, config.decay_power)


def polynomial_decay(step: int, steps: int, power: float) -> float:
    """The factor on the learning rate after `step` of `steps` (section 4.2)."""
    return (1 - step / steps) ** power


def in_groups(loader: DataLoader, size: int) -> Iterator[tuple[dict[str, Any], ...]]:
    """The loader's batches, `size` at a time."""
    return zip(*[read_batches(loader)] * size, strict=True)


def train_step(
    model: nn.Module,
    micro_batches: Sequence[dict[str, Any]],
    accelerator: Accelerator,
    config: TrainConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Forward and backward through one step's micro-batches; the gradients are left in place.

    The shares are equal in size, so that the mean of their means is the mean over the whole batch.
    With the last share the gradients are averaged over the processes.

    Returns:
        loss, intersection, union: of this process's expressions, its masks at a threshold of 0.5;
            () each, still on the device (`read_figures`).
    """
    losses, intersections, unions = [], [], []
    for number, batch in enumerate(micro_batches, start=1):
        batch = to_device(batch, accelerator.device)
        if config.grayscale_probability:
            batch["images"] = grayscale_some(batch["images"], config.grayscale_probability)
        if config.word_dropout:
            batch["words"] = forget_some(batch["words"], config.word_dropout)
        last = number == len(micro_batches)
        with nullcontext() if last else accelerator.no_sync(model):
            mask_logits = model(batch).float()  # (B, S, S)
            loss = mask_loss(mask_logits, batch["target"], config.dice)
            accelerator.backward(loss / len(micro_batches))
        intersection, union = intersection_and_union(mask_logits > 0, batch["target"] > 0.5)
        losses.append(loss.detach())
        intersections.append(intersection.sum())
        unions.append(union.sum())
    return (
        torch.stack(losses).mean(),
        torch.stack(intersections).sum(),
        torch.stack(unions).sum(),
    )


def mask_loss(mask_logits: Tensor, target: Tensor, dice: float = 0.0) -> Tensor:
    """Binary cross-entropy on every pixel (section 3.4), and `dice` times the soft Dice loss.

    Dice (Milletari et al., 2016) is not the paper's. It is one minus the overlap of the predicted
    and the true mask, per expression, so that a small thing counts as much as a large one.

    Args:
        mask_logits, target: (B, S, S).
    """
    loss = F.binary_cross_entropy_with_logits(mask_logits, target)
    if dice:
        probability = torch.sigmoid(mask_logits)
        overlap = 2 * (probability * target).sum(dim=(1, 2)) + 1  # the 1: both may be empty
        loss = loss + dice * (1 - overlap / ((probability + target).sum(dim=(1, 2)) + 1)).mean()
    return loss


class Meter:
    """Training's figures since the last evaluation: loss, overall IoU of the batches, samples/s.

    A step's figures stay on the device until `read` is called: reading one waits for all of the
    device's work.
    """

    def __init__(self, dataset: ReferringDataset, samples_per_step: int) -> None:
        """`samples_per_step` counts those of all processes."""
        self.dataset, self.samples_per_step = dataset, samples_per_step
        self.began = time.monotonic()
        self.steps = self.loss = self.intersection = self.union = 0
        self.unread: list[tuple[int, tuple[Tensor, ...], list[int]]] = []
        self.last_read: list[dict[str, float]] = []  # a row of figures per step

    def add(self, step: int, figures: tuple[Tensor, ...], indices: list[int]) -> None:
        """What `train_step` returned in this process, and the expressions of its batch."""
        self.unread.append((step, figures, indices))

    def read(self) -> dict[str, float]:
        """Raises Diverged where a loss is not finite."""
        read = read_figures([figures for _, figures, _ in self.unread]) if self.unread else []
        self.last_read = []
        for (step, _, indices), (loss, intersection, union) in zip(self.unread, read, strict=True):
            if not math.isfinite(loss):
                raise_diverged(f"the loss is {loss}", step, indices, self.dataset)
            self.steps += 1
            self.loss += loss
            self.intersection += intersection
            self.union += union
            row = {"step": step, "loss": loss, "intersection": intersection, "union": union}
            self.last_read.append(row)
        self.unread.clear()
        samples = self.steps * self.samples_per_step
        return {
            "loss": self.loss / self.steps,
            "iou": self.intersection / self.union if self.union else 1.0,
            "samples_per_second": samples / (time.monotonic() - self.began),
        }

    def over_processes(self, accelerator: Accelerator) -> "Meter":
        """Take in the other processes' figures, of the steps that were read."""
        if accelerator.num_processes > 1:
            own = torch.tensor([self.loss, self.intersection, self.union], dtype=torch.float64)
            total = accelerator.reduce(own.to(accelerator.device), "sum").tolist()
            self.loss = total[0] / accelerator.num_processes
            self.intersection, self.union = int(total[1]), int(total[2])
        return self


def read_figures(steps: Sequence[tuple[Tensor, ...]]) -> list[tuple[float, int, int]]:
    """The loss and the pixels of some steps, all in one wait for the device."""
    columns = [torch.stack(column).tolist() for column in zip(*steps, strict=True)]
    return list(zip(*columns, strict=True))


def expressions_in(micro_batches: Sequence[dict]) -> list[int]:
    return [i for batch in micro_batches for i in batch["expression_index"].tolist()]


def raise_diverged(what: str, step: int, indices: Sequence[int], dataset: ReferringDataset) -> None:
    """Raise Diverged, which says which expressions stood in the batch."""
    texts = [f"{dataset.expressions[i].sent_id} {dataset.expressions[i].text!r}" for i in indices]
    raise Diverged(
        f"{what} at step {step}. Try a lower learning_rate or precision=no; the last good state is "
        f"on disk and can be resumed. The batch (sent_id, text): {'; '.join(texts)}"
    )


def validate(
    network: nn.Module, val_set: ReferringDataset, config: TrainConfig, accelerator: Accelerator
) -> dict[str, float]:
    """The measures on the validation split, by their names in a history: val_overall_iou, ...

    All processes take the running statistics of the main one's BatchNorms, as DDP does before each
    forward: after the last one they differ by a batch, and one network is measured and saved.
    """
    if accelerator.num_processes > 1:
        for buffer in network.buffers():
            broadcast(buffer)
    size = forward_size(config, accelerator)
    found = evaluate(network, val_set, accelerator, batch_size=size, workers=config.workers)
    return {f"val_{name}": value for name, value in found.metrics.items()}
