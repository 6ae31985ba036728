"""How good a network is on a split: every expression once, measured in one of two ways.

"original": at the size of each photo, against its untouched mask. Probabilities are resized, not
    thresholded masks. This is the number to quote.
"released": as the authors' released code does, to show beside it: everything at 160 x 160, resized
    bilinearly with aligned corners and no antialiasing; threshold 0.40; the true mask then taken
    > 0. That dilates the mask, thin and small objects most, so that the two numbers do not compare.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from shnet_lib.data.dataset import ImageBatchSampler, ReferringDataset, collate
from shnet_lib.training.config import ConfigError, TrainConfig
from shnet_lib.training.limits import make_loader, show_reading
from shnet_lib.training.metrics import intersection_and_union, ious, summarize

Protocol = Literal["original", "released"]
THRESHOLD = {"original": 0.5, "released": 0.4}
RELEASED_SIZE = (160, 160)  # mask_dim in the released code's README


@dataclass(frozen=True)
class Evaluation:
    """The measures of section 4.1 and, in the order of the data set, one row per expression."""

    metrics: dict[str, float]
    rows: list[dict[str, Any]]

    def rounded(self) -> dict[str, float]:
        """The measures to four decimals: no split is so large that a fifth would say something."""
        return {name: round(value, 4) for name, value in self.metrics.items()}


def evaluate(
    network: nn.Module,
    dataset: ReferringDataset,
    accelerator: Accelerator | None = None,
    protocol: Protocol = "original",
    batch_size: int = 50,
    threshold: float | None = None,
    workers: int = 0,
) -> Evaluation:
    """Measure a network on a data set made with `evaluation=True`.

    With an accelerator of several processes each takes its share of the batches, all of them return
    the same whole result, and its arithmetic (bf16, fp16) is used. The network's mode is put back.

    Args:
        threshold: a pixel whose probability is above it belongs to the mask; the protocol's own
            (0.5, or 0.4 for "released") where None.

    Raises:
        ConfigError: there is no such protocol.
        RuntimeError: an expression was measured twice or not at all.
    """
    if protocol not in THRESHOLD:
        raise ConfigError(f"there is no protocol {protocol!r}; there are: {', '.join(THRESHOLD)}")
    limit = THRESHOLD[protocol] if threshold is None else threshold
    rank = accelerator.process_index if accelerator else 0
    world = accelerator.num_processes if accelerator else 1
    device = next(network.parameters()).device
    sampler = ImageBatchSampler(
        dataset, batch_size * world, batch_size, training=False, rank=rank, world=world
    )
    loader = make_loader(dataset, workers, batch_sampler=sampler, collate_fn=collate)

    rows: list[dict[str, Any]] = []
    with evaluating(network), torch.no_grad():
        for batch in show_reading(loader, "evaluating", hidden=rank > 0):
            batch = to_device(batch, device)
            with accelerator.autocast() if accelerator else nullcontext():
                mask_logits = network(batch).float()  # (B, S, S)
            rows += _rows_of_batch(mask_logits, batch, dataset, protocol, limit)
    rows = _one_of_each(gather_object(rows) if world > 1 else rows, len(dataset.expressions))
    intersection = torch.tensor([row["intersection"] for row in rows])
    union = torch.tensor([row["union"] for row in rows])
    return Evaluation(summarize(intersection, union), rows)


def forward_size(config: TrainConfig, accelerator: Accelerator | None) -> int:
    """Expressions that each process takes at once in training: more might not fit its memory."""
    processes = accelerator.num_processes if accelerator else 1
    return config.batch_size // (config.accumulate * processes)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode as long as the block lasts; then the mode that was before."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def probability_at(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, S, S) logits -> (B, H, W) probabilities at another size, e.g. the photo's.

    The probabilities are interpolated, pixel centres on pixel centres, as the photo was made small.
    """
    probability = torch.sigmoid(mask_logits).unsqueeze(1)  # (B, 1, S, S)
    return F.interpolate(probability, size=size, mode="bilinear", align_corners=False).squeeze(1)


def compare_original(
    mask_logits: Tensor, target: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """(S, S) logits against the (H, W) bool mask at the photo's size -> pixels I, pixels U."""
    height, width = target.shape
    probability = probability_at(mask_logits.unsqueeze(0), (height, width)).squeeze(0)  # (H, W)
    return intersection_and_union(probability > threshold, target)


def compare_released(
    mask_logits: Tensor, target: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """(S, S) logits against the (H, W) bool mask, both at 160 x 160 -> pixels I, pixels U."""
    logits = resize_plane(mask_logits, RELEASED_SIZE, align_corners=True)
    dilated = (
        resize_plane(target, RELEASED_SIZE, align_corners=True) > 0
    )  # one pixel of four will do
    return intersection_and_union(torch.sigmoid(logits) > threshold, dilated)


def resize_plane(plane: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """(h, w) of any type -> float32 of this size, bilinear, without antialiasing."""
    plane = plane.float()[None, None]
    return F.interpolate(plane, size=size, mode="bilinear", align_corners=align_corners)[0, 0]


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors, and the tensors in its lists, on a device."""

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        return [move(item) for item in value] if isinstance(value, list) else value

    return {name: move(value) for name, value in batch.items()}


def _rows_of_batch(
    mask_logits: Tensor, batch: dict, dataset: ReferringDataset, protocol: str, threshold: float
) -> Iterable[dict[str, Any]]:
    """The rows of one batch."""
    compare = compare_original if protocol == "original" else compare_released
    counts = [
        torch.stack(compare(logits, target, threshold))
        for logits, target in zip(mask_logits, batch["targets"], strict=True)
    ]
    intersection, union = torch.stack(counts).cpu().unbind(1)  # (B,) each
    shares = torch.stack([target.float().mean() for target in batch["targets"]]).tolist()
    columns = zip(
        batch["expression_index"].tolist(),
        batch["word_mask"].sum(1).tolist(),
        intersection.tolist(),
        union.tolist(),
        ious(intersection, union).tolist(),
        shares,
        strict=True,
    )
    for index, words, i, u, iou, share in columns:
        expression = dataset.expressions[index]
        yield {
            "expression_index": index,
            "sent_id": expression.sent_id,
            "image": expression.image_path.name,
            "text": expression.text,
            "words": words,  # that the network read
            "family": expression.family,
            "intersection": i,  # pixels
            "union": u,
            "iou": iou,
            "target_share": share,  # of the photo's area
        }


def _one_of_each(rows: list[dict[str, Any]], expressions: int) -> list[dict[str, Any]]:
    """The rows in the order of the data set.

    Raises:
        RuntimeError: a sample was counted twice or is missing; no metric is true then.
    """
    rows = sorted(rows, key=lambda row: row["expression_index"])
    found = [row["expression_index"] for row in rows]
    if found != list(range(expressions)):
        twice = [index for index, count in Counter(found).items() if count > 1][:5]
        missing = sorted(set(range(expressions)) - set(found))[:5]
        raise RuntimeError(
            f"{len(found)} rows for {expressions} expressions; twice: {twice}, missing: {missing} "
            "(expression_index, the first five): the sampler's shares overlap or have a gap"
        )
    return rows
