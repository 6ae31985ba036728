"""The finale of exercise 08: a fusion module of the learner's own against Conv3D.

Both stand in HCAM's place in the trained SHNet that the course ships, and both get the same budget:
the same few steps on the same expressions in the same order, and so many parameters at most. What
stands before them (backbone, projections, words, SFM) is not trained, so that it runs once and its
results are kept. The decoder behind them goes on from its trained weights: it has to get used to
the new context.

Overall IoU with the seeds 0 to 4 on one core: Conv3D 0.674, 0.662, 0.670, 0.625, 0.667; the mean of
the three levels, without a single layer, 0.620, 0.639, 0.622, 0.615, 0.632; the solution of the
exercise 0.738, 0.733, 0.700, 0.737, 0.748.

    python -m shnet_course.checks.finale docs/results/finale.csv   # HCAM and Conv3D, three seeds
"""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from shnet_course.checks.core import CheckFailed
from shnet_course.measure.ablations import by_row
from shnet_course.paths import COURSE
from shnet_course.tables import Table
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions
from shnet_lib.data.dataset import ImageBatchSampler, ReferringDataset, collate
from shnet_lib.files import write_table
from shnet_lib.model.fusion import Conv3D
from shnet_lib.model.hcam import HCAM
from shnet_lib.training.fit import polynomial_decay
from shnet_lib.training.metrics import intersection_and_union, overall_iou

CHANNELS = 64  # C of the shipped network
PARAMETERS = 125_000  # at most; Conv3D has 110,784 and HCAM 332,544
EXPRESSIONS = {"train": 400, "val": 200}  # the first ones of each split
STEPS, BATCH_SIZE, LEARNING_RATE = 40, 16, 1e-3

Maker = Callable[[int], nn.Module]  # channels -> a fusion module: its class, as a rule


@dataclass(frozen=True)
class BeforeFusion:
    """What a fusion module reads, for n expressions, and the masks that are to come out."""

    visual: Tensor  # f^v of the three levels, (n, 3, C, H, W)
    words: Tensor  # f^l of the three levels, (n, 3, T, C)
    word_mask: Tensor  # (n, T)
    target: Tensor  # (n, 4H, 4W), where the decoder's logits are

    def inputs(self, rows: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """`visual`, `words` and `word_mask` of some expressions, as HCAM takes them."""
        word_mask = self.word_mask[rows]
        longest = int(word_mask.sum(1).max())
        words = [level[:, :longest] for level in self.words[rows].unbind(1)]
        return list(self.visual[rows].unbind(1)), words, word_mask[:, :longest]


@cache
def before_fusion(split: str) -> BeforeFusion:
    """The first expressions of a split, as far as the shipped SFM brings them. Some seconds.

    Raises:
        DataError: RefShapes is not there.
    """
    trained = load_shnet(COURSE / "data/weights/shnet_refshapes")
    network, config = trained.network, trained.config
    expressions = read_expressions(COURSE / "data/refshapes", config.dataset, split)
    expressions = expressions[: EXPRESSIONS[split]]
    dataset = ReferringDataset(expressions, trained.vocabulary, config.model.image_size)
    parts = []
    with torch.no_grad():
        for indices in ImageBatchSampler(dataset, 40, 40, training=False):
            batch = collate([dataset[i] for i in indices])
            visual = [
                project(level)[batch["image_index"]]
                for project, level in zip(
                    network.projections, network.backbone(batch["images"]), strict=True
                )
            ]
            words, word_mask = network.word_encoder(batch["words"]), batch["word_mask"]
            visual, words, _ = network.sfm(visual, words, word_mask, False)
            padding = config.max_words - word_mask.shape[1]
            size = 4 * visual[0].shape[-1]
            target = F.interpolate(batch["target"][:, None], size=size, mode="nearest-exact")
            words = F.pad(torch.stack(words, 1), (0, 0, 0, padding))
            word_mask = F.pad(word_mask, (0, padding))
            parts.append((torch.stack(visual, 1), words, word_mask, target[:, 0]))
    return BeforeFusion(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))


def play(make: Maker | nn.Module, seed: int) -> str:
    """The contest: who has the higher overall IoU on val?

    Args:
        make: the learner's module, or its class, which is called with the number of channels.

    Returns:
        both scores in words, if the learner's is the higher one.

    Raises:
        CheckFailed: a rule is broken, or Conv3D wins; the message says which and by how much.
    """
    torch.manual_seed(seed)
    fusion = copy.deepcopy(make) if isinstance(make, nn.Module) else make(CHANNELS)
    keep_the_rules(fusion)
    yours, theirs = score(fusion, seed), score_of_conv3d(seed)
    told = f"overall IoU on val {yours:.3f}, Conv3D's {theirs:.3f}"
    if yours <= theirs:
        raise CheckFailed(
            f"{told}: not above it yet. Both had {STEPS} steps; what lets a module learn fast?"
        )
    return f"{told} (seed {seed})"


def keep_the_rules(fusion: nn.Module) -> None:
    """Raise CheckFailed where a module is over its budget or has the wrong outputs."""
    if not isinstance(fusion, nn.Module):
        raise CheckFailed(f"an nn.Module is wanted, not a {type(fusion).__name__}")
    count = module_size(fusion)
    if count > PARAMETERS:
        raise CheckFailed(
            f"your module has {count:,} parameters, the budget is {PARAMETERS:,}: a 1 x 1 "
            "convolution has a ninth of those of a 3 x 3 one"
        )
    visual = [torch.randn(3, CHANNELS, 16, 16) for _ in range(3)]
    words = [torch.randn(3, 5, CHANNELS) for _ in range(3)]
    word_mask = torch.arange(5) < torch.tensor([[5], [1], [3]])
    context = copy.deepcopy(fusion)(visual, words, word_mask)  # its BatchNorms see no noise
    if not isinstance(context, Tensor):
        raise CheckFailed(f"forward has to return a tensor, not {type(context).__name__}")
    if context.shape != visual[0].shape:
        raise CheckFailed(
            f"forward returns the shape {tuple(context.shape)} for levels of "
            f"{tuple(visual[0].shape)}: three maps in, one map of the same size out"
        )
    if not torch.isfinite(context).all():
        raise CheckFailed("forward returns NaN or infinite numbers: is something divided by zero?")


def module_size(fusion: nn.Module) -> int:
    """All parameters of a module: the budget counts them."""
    return sum(parameter.numel() for parameter in fusion.parameters())


def score_of(make: Maker, seed: int) -> float:
    """A module made and trained from one seed; its overall IoU on val. No rule is asked.

    Raises:
        CheckFailed: the loss became infinite or NaN.
    """
    torch.manual_seed(seed)
    return score(make(CHANNELS), seed)


def enter(name: str, make: Maker, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Lines for the table of what has been reached: one per seed."""
    count = module_size(make(CHANNELS))
    entry = {"module": name, "parameters": count}
    return [entry | {"seed": seed, "overall_iou": f"{score_of(make, seed):.4f}"} for seed in seeds]


def reached_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """What has been reached, the best mean first. All modules have the same seeds."""
    scores = by_row(lines, "overall_iou", row="module")
    seeds = list(next(iter(scores.values())))
    counts = {line["module"]: int(line["parameters"]) for line in lines}
    rows = [
        (
            name,
            f"{counts[name]:,}",
            *(f"{scores[name][seed]:.3f}" for seed in seeds),
            f"{mean(scores[name].values()):.3f}",
            "" if counts[name] <= PARAMETERS else "outside the contest",
        )
        for name in sorted(scores, key=lambda name: -mean(scores[name].values()))
    ]
    return Table(("module", "parameters", *(f"seed {seed}" for seed in seeds), "mean", ""), rows)


@cache
def score_of_conv3d(seed: int) -> float:
    """What is to be beaten: Table 2's row 5, made as the learner's module is."""
    return score_of(Conv3D, seed)


def score(fusion: nn.Module, seed: int) -> float:
    """Train a module and the decoder on the budget; their overall IoU on val.

    Raises:
        CheckFailed: the loss became infinite or NaN.
    """
    network = load_shnet(COURSE / "data/weights/shnet_refshapes").network
    decoder = nn.Sequential(network.aspp, network.upsample)
    model = nn.ModuleList([fusion, decoder]).train()
    train, val = before_fusion("train"), before_fusion("val")
    optimizer = AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=9e-5)
    for step, rows in enumerate(order_of_rows(len(train.target), seed)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * polynomial_decay(step, STEPS, 0.7)
        mask_logits = decoder(fusion(*train.inputs(rows))).squeeze(1)  # (B, 4H, 4W)
        loss = F.binary_cross_entropy_with_logits(mask_logits, train.target[rows])
        if not torch.isfinite(loss):
            raise CheckFailed(
                f"the loss is {loss.item()} at step {step + 1}: your module's numbers grow too "
                "large. A BatchNorm, or weights that start near zero, keep them small"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.eval()
    counts = []
    with torch.no_grad():
        for rows in torch.arange(len(val.target)).split(50):
            predicted = decoder(fusion(*val.inputs(rows))).squeeze(1) > 0
            counts.append(torch.stack(intersection_and_union(predicted, val.target[rows] > 0.5)))
    return overall_iou(*torch.cat(counts, dim=1))


def order_of_rows(count: int, seed: int) -> list[Tensor]:
    """A batch of rows for each step: all rows shuffled, as often as it takes. (STEPS, B)."""
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-STEPS * BATCH_SIZE // count)
    rows = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    return list(rows.split(BATCH_SIZE)[:STEPS])


if __name__ == "__main__":
    standing = {"HCAM": HCAM, "Conv3D (Table 2)": Conv3D}
    write_table(
        Path(sys.argv[1]),
        [line for name, make in standing.items() for line in enter(name, make, range(3))],
    )
