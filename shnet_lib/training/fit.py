"""Training, section 4.2: AdamW, polynomial decay, binary cross-entropy on every pixel.

`fit` keeps the run's folder and calls `train`, which is the loop; what stands below it are its
parts, in the order of their use.
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
from torch import nn
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
    read_json,
    start_from,
)
from shnet_lib.training.config import TrainConfig
from shnet_lib.training.evaluate import evaluate, forward_size, to_device
from shnet_lib.training.interruption import way_on
from shnet_lib.training.limits import make_loader, read
from shnet_lib.training.meter import Meter
from shnet_lib.training.metrics import intersection_and_union
from shnet_lib.training.prepare import (
    MicroBatches,
    alone_in,
    grayscale_some,
    make_accelerator,
    make_dataset,
    open_folder,
    read_word_vectors,
    require_files,
)
from shnet_lib.training.recompute import recompute_activations
from shnet_lib.training.resume import Checkpoints, Progress, saved_word_vectors

FUSED_ADAMW = ("cpu", "cuda", "mps")  # the devices that have it


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
) -> FitResult:
    """Train a network and keep the one with the best overall IoU on the validation split.

    On a CPU the same settings and data give the same figures, bit for bit, and so does a run that
    was interrupted, or killed, and resumed.

    Args:
        data: the expressions by split; `config.train_split` and `config.val_split` are used.
        resume: go on where the run in this folder was last evaluated.
        on_evaluation: called by the main process with the history, after each evaluation.

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
    with alone_in(run_folder, accelerator), way_on(config, run_folder):
        return train(config, data, run_folder, resume, on_evaluation, accelerator)


def train(
    config: TrainConfig,
    data: Mapping[str, Sequence[Expression]],
    run_folder: Path,
    resume: bool,
    on_evaluation: Callable[[list[dict[str, Any]]], None] | None,
    accelerator: Accelerator,
) -> FitResult:
    """What `fit` does, in a folder that no other run writes into."""
    set_seed(config.seed)
    train_texts = (expression.text for expression in data[config.train_split])
    vocabulary = Vocabulary.from_texts(train_texts, config.min_count, config.keep_numbers)
    open_folder(run_folder, config, vocabulary, resume, accelerator)

    if resume:
        vectors = saved_word_vectors(run_folder)
    else:
        require_files(config, vocabulary)
        vectors = read_word_vectors(config, vocabulary, accelerator)
    network = SHNet(config.model, len(vocabulary), vectors)
    if config.start_from is not None and not resume:
        start_from(network, Path(config.start_from))
    network = network.to(accelerator.device)
    train_set = make_dataset(config, data[config.train_split], vocabulary, network.backbone)
    val_set = make_dataset(config, data[config.val_split], vocabulary, network.backbone, True)
    batches = MicroBatches(config, train_set, accelerator.process_index, accelerator.num_processes)
    steps = config.steps or config.epochs * batches.steps_per_epoch
    evaluate_every = config.evaluate_every or batches.steps_per_epoch

    optimizer = AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=accelerator.device.type in FUSED_ADAMW,
    )
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
        generator=torch.Generator(),  # its own, so that loading draws none of training's numbers
    )
    bar = tqdm(total=steps, initial=step, desc="training", disable=not accelerator.is_main_process)

    model.train()
    began = time.monotonic() - progress.seconds
    meter = Meter()
    for micro_batches in in_groups(loader, config.accumulate):
        if config.patience and progress.without_gain >= config.patience:
            break
        set_learning_rate(optimizer, learning_rate(config, step, steps))
        loss, intersection, union = train_step(model, micro_batches, accelerator, config)
        if not math.isfinite(loss):
            _stop(f"the loss is {loss}", step + 1, micro_batches, train_set)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        meter.add(loss, intersection, union, batches.batch_size)
        bar.set_postfix(meter.read(), refresh=False)
        bar.update()
        if step % evaluate_every and step < steps:
            continue

        if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
            _stop("a weight is not finite", step, micro_batches, train_set)
        row = {
            "step": step,
            "epoch": step / batches.steps_per_epoch,
            "learning_rate": learning_rate(config, step, steps),
            **meter.over_processes(accelerator).read(),
        }
        _share_buffers(network, accelerator)
        result = evaluate(
            network,
            val_set,
            accelerator,
            batch_size=forward_size(config, accelerator),
            workers=config.workers,
        )
        row |= {f"val_{name}": value for name, value in result.metrics.items()}
        row["seconds"] = time.monotonic() - began
        progress.add(row)
        checkpoints.save(progress)
        if on_evaluation and accelerator.is_main_process:
            on_evaluation(progress.history)
        meter = Meter()
    bar.close()

    network = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    best = network_folder(run_folder / "best")
    load_weights_into(network, best, config)
    card = read_json(best / "card.json", {})
    trained = TrainedSHNet(network.eval(), vocabulary, config, card)
    return FitResult(progress.history, progress.best, progress.seconds, trained, accelerator)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate after `step` of `steps` (section 4.2)."""
    return config.learning_rate * polynomial_decay(step, steps, config.decay_power)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def polynomial_decay(step: int, steps: int, power: float) -> float:
    """The factor on the learning rate after `step` of `steps` (section 4.2)."""
    return (1 - step / steps) ** power


def in_groups(loader: DataLoader, size: int) -> Iterator[tuple[dict[str, Any], ...]]:
    """The loader's batches, `size` at a time."""
    return zip(*[read(loader)] * size, strict=True)


def train_step(
    model: nn.Module,
    micro_batches: Sequence[dict[str, Any]],
    accelerator: Accelerator,
    config: TrainConfig,
) -> tuple[float, int, int]:
    """Forward and backward through one step's micro-batches; the gradients are left in place.

    The shares are equal in size, so that the mean of their means is the mean over the whole batch.
    With the last share the gradients are averaged over the processes.

    Returns:
        loss, intersection, union: of this process's expressions, its masks at a threshold of 0.5.
    """
    losses, intersections, unions = [], [], []
    for number, batch in enumerate(micro_batches, start=1):
        batch = to_device(batch, accelerator.device)
        if config.grayscale_probability:
            batch["images"] = grayscale_some(batch["images"], config.grayscale_probability)
        last = number == len(micro_batches)
        with nullcontext() if last else accelerator.no_sync(model):
            mask_logits = model(batch).float()  # (B, S, S)
            loss = F.binary_cross_entropy_with_logits(mask_logits, batch["target"])  # section 3.4
            accelerator.backward(loss / len(micro_batches))
        intersection, union = intersection_and_union(mask_logits > 0, batch["target"] > 0.5)
        losses.append(loss.detach())
        intersections.append(intersection.sum())
        unions.append(union.sum())
    return (
        torch.stack(losses).mean().item(),
        int(torch.stack(intersections).sum()),
        int(torch.stack(unions).sum()),
    )


def _stop(what: str, step: int, micro_batches: Sequence[dict], dataset: ReferringDataset) -> None:
    """Raise Diverged, which says which expressions stood in the batch."""
    indices = [i for batch in micro_batches for i in batch["expression_index"].tolist()]
    texts = [f"{dataset.expressions[i].sent_id} {dataset.expressions[i].text!r}" for i in indices]
    raise Diverged(
        f"{what} at step {step}. Try a lower learning_rate or precision=no; the last good state is "
        f"on disk and can be resumed. The batch (sent_id, text): {'; '.join(texts)}"
    )


def _share_buffers(network: nn.Module, accelerator: Accelerator) -> None:
    """BatchNorm's running statistics of the main process for all, as DDP does before each forward.

    After the last forward they differ by one batch; one network has to be measured and saved.
    """
    if accelerator.num_processes > 1:
        for buffer in network.buffers():
            broadcast(buffer)
