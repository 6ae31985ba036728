"""One run of a network over a split, measured in as many ways as the field has (section 4.1).

answers = collect_answers(trained, expressions)    # the network runs once
intersection, union = count(answers, CONVENTIONS["CRIS"])
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shnet_lib.data import Expression
from shnet_lib.data.dataset import ImageBatchSampler, collate
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import compare_original, evaluating, resize_plane
from shnet_lib.training.metrics import intersection_and_union, mean_iou, overall_iou


@dataclass(frozen=True)
class Answers:
    """What a network said to each of N expressions, before any threshold."""

    expressions: Sequence[Expression]
    mask_logits: Tensor  # (N, S, S) float32
    targets: Sequence[Tensor]  # N times (H, W) bool, at the photo's size

    def __len__(self) -> int:
        return len(self.expressions)


def collect_answers(
    trained: TrainedSHNet, expressions: Sequence[Expression], batch_size: int = 50
) -> Answers:
    """Run a network once over some expressions, in their order; its mode is put back."""
    dataset = trained.evaluation_set(expressions)
    sampler = ImageBatchSampler(dataset, batch_size, batch_size, training=False)
    logits: list[Tensor] = [torch.empty(0)] * len(dataset)
    targets = list(logits)
    with evaluating(trained.network), torch.no_grad():
        for keys in sampler:
            batch = collate([dataset[key] for key in keys])
            found = trained.network(batch).float()  # (B, S, S)
            order = batch["expression_index"].tolist()
            for i, mask_logits, target in zip(order, found, batch["targets"], strict=True):
                logits[i], targets[i] = mask_logits, target
    return Answers(list(expressions), torch.stack(logits), targets)


@dataclass(frozen=True)
class Convention:
    """How a code base turns probabilities and true masks into the number it prints first."""

    headline: str  # "overall" or "mean"
    threshold: float = 0.5  # argmax of two classes, or a logit above 0, is 0.5 too
    size: int | None = None  # compare at size x size; None: at the photo's own size
    dilated: bool = False  # corners aligned, and the true mask > 0 after it: not by nearest pixel


# As their published evaluation code has it; argmax over two classes is a threshold of 0.5.
CONVENTIONS = {
    "LSTM-CNN, RMI, CMPC": Convention("overall"),
    "LAVT, ReLA (cIoU)": Convention("overall", size=480),
    "LAVT, ReLA (mean, gIoU)": Convention("mean", size=480),
    "CRIS": Convention("mean", threshold=0.35),
    "SHNet as released": Convention("overall", threshold=0.40, size=160, dilated=True),
}


_ON_GITHUB = {  # repository, commit, file
    "LSTM-CNN, RMI": (
        "chenxi116/TF-phrasecut-public", "7279a7ecc2cbf600882d953b8b786a0a8b574e7d", "main.py",
    ),
    "CMPC": (
        "spyflying/CMPC-Refseg", "066c24359ee07303015fe631992662015a5ead18", "trainval_model.py",
    ),
    "LAVT": ("yz93/LAVT-RIS", "066bcf26cb07ad6e8ffcbf839fde416fdf94009f", "test.py"),
    "CRIS": (
        "DerrickWang005/CRIS.pytorch", "5a23df6443b40403d27c785938922dfd2d194750",
        "engine/engine.py",
    ),
    "VLT": (
        "henghuiding/Vision-Language-Transformer", "dfb17c051f94d013f34725d139b0c9a1bba972e6",
        "callbacks/eval.py",
    ),
    "MCN": ("luogen1996/MCN", "0ea06876b3d556a13105f6f1f930ccc897df6d8c", "callbacks/eval.py"),
    "SimREC": (
        "luogen1996/SimREC", "25fc5fc7f4ddd130fbf84c93a7dfd42d68ea5ee2", "tools/eval_engine.py",
    ),
    "ReLA": (
        "henghuiding/ReLA", "1e6e88999e97bdbfb1c9caed9db973e4be4e8d6e",
        "gres_model/evaluation/refer_evaluation.py",
    ),
}  # fmt: skip
_EVALUATIONS = """\
code | headline | compares at | threshold | hit if | empty union
LSTM-CNN, RMI | sum I / sum U | the photo's size | logit 0, so 0.5 | IoU ≥ X | not guarded
CMPC | sum I / sum U | the photo's size | logit 0, so 0.5 | ≥ | not guarded
LAVT | both | truth resized to 480 | the likelier class, so 0.5 | ≥ | 0
CRIS | mean IoU | the photo's size | 0.35 | > | ε in U, so 0
VLT | mean IoU | the stored mask's size | a setting | > | 1
MCN | mean IoU | the stored mask's size | a setting | > | 1
SimREC | mean IoU | the stored mask's size | 0.35 to 0.5 | > | 1
ReLA | both (cIoU, gIoU) | 480 | the likelier class, so 0.5 | ≥, from 0.7 | 0
SHNet as released | sum I / sum U | 160, truth dilated | 0.40 | – | divides by zero
this course | both | the photo's size | 0.5 | > | 1
"""


def eleven_evaluations() -> str:
    """A Markdown table: how eleven code bases evaluate, and the file in which it can be read."""
    head, *rows = _EVALUATIONS.splitlines()
    table = [f"| {head} | where |", "|" + "---|" * 7]
    for row in rows:
        name = row.split(" | ")[0]
        where = "`shnet_lib/training/evaluate.py`" if name == "this course" else "the authors' code"
        if name in _ON_GITHUB:
            repository, commit, file = _ON_GITHUB[name]
            where = f"[{file}](https://github.com/{repository}/blob/{commit}/{file})"
        table.append(f"| {row} | {where} |")
    return "\n".join(table)


def count(answers: Answers, convention: Convention) -> tuple[Tensor, Tensor]:
    """Pixels I and U of every expression, (N,) int64 each, in the convention's way.

    At the photo's size probabilities are resized; at a square size logits are, as those codes do.
    """
    counts = []
    for mask_logits, target in zip(answers.mask_logits, answers.targets, strict=True):
        if convention.size is None:
            pair = compare_original(mask_logits, target, convention.threshold)
        else:
            size = (convention.size, convention.size)
            logits = resize_plane(mask_logits, size, align_corners=convention.dilated)
            prediction = torch.sigmoid(logits) > convention.threshold
            pair = intersection_and_union(
                prediction, resize_target(target, convention.size, convention.dilated)
            )
        counts.append(torch.stack(pair))
    intersection, union = torch.stack(counts).unbind(1)
    return intersection, union


def resize_target(target: Tensor, size: int, dilated: bool) -> Tensor:
    """A true mask (H, W) bool -> (size, size) bool.

    By the nearest pixel; or `dilated`: bilinearly, corners on corners, without antialiasing, and
    then > 0, so that one of the four pixels around the middle of the new one is enough.
    """
    if dilated:
        return resize_plane(target, (size, size), align_corners=True) > 0
    plane = target.float()[None, None]
    return F.interpolate(plane, size=(size, size), mode="nearest-exact")[0, 0] > 0


def headline(answers: Answers, convention: Convention) -> float:
    """The number that the convention prints first, between 0 and 1."""
    measure = {"overall": overall_iou, "mean": mean_iou}[convention.headline]
    return measure(*count(answers, convention))


@dataclass(frozen=True)
class Sweep:
    """The counts of section 4.1 at several thresholds, at the photos' own sizes."""

    thresholds: tuple[float, ...]
    intersection: Tensor  # (thresholds, N) int64
    union: Tensor  # (thresholds, N) int64

    def measure(self, of) -> list[float]:
        """One number per threshold: `of(intersection, union)`, e.g. metrics.overall_iou."""
        return [of(i, u) for i, u in zip(self.intersection, self.union, strict=True)]


def sweep(answers: Answers, thresholds: Sequence[float]) -> Sweep:
    """Measure the same answers at each threshold."""
    counts = [count(answers, Convention("overall", threshold=t)) for t in thresholds]
    intersection, union = (torch.stack(part) for part in zip(*counts, strict=True))
    return Sweep(tuple(thresholds), intersection, union)


def discs(radius: float, height: int, width: int, count: int, seed: int) -> list[Tensor]:
    """`count` discs of `radius` pixels, each (height, width) bool, near the middle of the photo.

    Where exactly is drawn by lot: how a disc lies to the grid of another size matters.
    """
    random = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        down, right = (10 * torch.rand(2, generator=random)).tolist()
        y = torch.arange(height)[:, None] - height / 2 - down
        x = torch.arange(width) - width / 2 - right
        found.append(x**2 + y**2 <= radius**2)
    return found


def cost_of_dilation(targets: Sequence[Tensor], size: int) -> tuple[float, float]:
    """Mean IoU of true masks with their dilated selves at size x size, and mean growth in area."""
    true = torch.stack([resize_target(target, size, dilated=False) for target in targets])
    dilated = torch.stack([resize_target(target, size, dilated=True) for target in targets])
    growth = dilated.sum(dim=(1, 2)) / true.sum(dim=(1, 2)) - 1
    return mean_iou(*intersection_and_union(true, dilated)), float(growth.mean())


def bootstrap(
    intersection: Tensor, union: Tensor, drawn_together: Sequence[Hashable], draws: int, seed: int
) -> np.ndarray:
    """Overall IoU of `draws` splits like this one, (draws,) float64.

    Each is drawn with replacement from the groups of expressions that share a value in
    `drawn_together`, as many groups as there are: images, say, since the expressions of one image
    succeed and fail together.

    Raises:
        ValueError: not one group name per expression.
    """
    if not len(intersection) == len(union) == len(drawn_together):
        raise ValueError(
            f"{len(intersection)} intersections, {len(union)} unions and {len(drawn_together)} "
            "names of groups: one of each is needed for every expression"
        )
    row = {name: i for i, name in enumerate(dict.fromkeys(drawn_together))}
    group = np.array([row[name] for name in drawn_together])
    sums = np.zeros((2, len(row)), dtype=np.int64)
    np.add.at(sums[0], group, intersection.numpy())
    np.add.at(sums[1], group, union.numpy())
    random = np.random.default_rng(seed)
    times = random.multinomial(len(row), np.full(len(row), 1 / len(row)), size=draws)
    intersections, unions = times @ sums[0], times @ sums[1]
    return np.where(unions == 0, 1.0, intersections / np.maximum(unions, 1))


# Table 1 of the paper: overall IoU in per cent; None where the paper prints a dash.
TABLE_1_COLUMNS = (
    "UNC val", "UNC testA", "UNC testB", "UNC+ val", "UNC+ testA", "UNC+ testB", "G-Ref val",
    "Referit test",
)  # fmt: skip
TABLE_1_PHOTOS = (1500, 750, 750, 1500, 750, 750, 4650, 9994)  # of each split, as published
TABLE_1: dict[str, tuple[float | None, ...]] = {
    "RRN": (55.33, 57.26, 53.95, 39.75, 42.15, 36.11, 36.45, 63.63),
    "CMSA": (58.32, 60.61, 55.09, 43.76, 47.60, 37.89, 39.98, 63.80),
    "STEP": (60.04, 63.46, 57.97, 48.19, 52.33, 40.41, 46.40, 64.13),
    "BRIN": (61.35, 63.37, 59.57, 48.57, 52.87, 42.13, 48.04, 63.46),
    "LSCM": (61.47, 64.99, 59.55, 49.34, 53.12, 43.50, 48.05, 66.57),
    "CMPC": (61.36, 64.53, 59.64, 49.56, 53.44, 43.23, 49.05, 65.53),
    "BUSNet": (62.56, 65.61, 60.38, 50.98, 56.14, 43.51, 49.98, None),
    "EFN": (62.76, 65.69, 59.67, 51.50, 55.24, 43.01, 51.93, 66.70),
    "SHNet 320": (63.98, 67.51, 60.48, 51.79, 56.49, 43.83, 48.95, 68.38),
    "SHNet 448": (65.32, 68.56, 62.04, 52.75, 58.46, 44.12, 49.90, 69.19),
}
