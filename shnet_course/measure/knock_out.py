"""Take a path away from a trained network, and measure what its answers lose.

An attention weight says what was mixed in, not what difference it made. Here one block of SFM's
attention is closed (section 3.2), or HCAM's gates are held at one value (section 3.3). Nothing is
trained again, and behind the `with` the network is as it was.

    batches = prepare(trained, expressions)
    whole = measure_iou(trained.network, batches)
    with closed(trained.network, "pixel-word", layers=[1]):
        without = measure_iou(trained.network, batches)
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shnet_course.measure.attention import BLOCKS
from shnet_lib.data import Expression
from shnet_lib.data.dataset import ImageBatchSampler, collate
from shnet_lib.model import SHNet
from shnet_lib.model.hcam import Affinity
from shnet_lib.model.sfm import MultiHeadAttention
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import compare_original, evaluating, to_device
from shnet_lib.training.metrics import ious


def block_mask(block: str, pixels: int, tokens: int) -> Tensor:
    """True where a row may look: everywhere but in one of BLOCKS. (N, N) bool, N = `tokens`.

    Raises:
        ValueError: there is no such block.
    """
    if block not in BLOCKS:
        raise ValueError(f"there is no block {block!r}; there are {', '.join(BLOCKS)}")
    part = {"pixel": slice(None, pixels), "word": slice(pixels, None)}
    asking, asked = block.split("-")
    allowed = torch.ones(tokens, tokens, dtype=torch.bool)
    allowed[part[asking], part[asked]] = False
    return allowed


@contextmanager
def closed(network: SHNet, block: str, layers: Collection[int] | None = None) -> Iterator[None]:
    """Nobody looks through a block, in some layers of SFM (from 1) or in all of them.

    The weights that are left sum to 1 again: each row has its other block.

    Raises:
        ValueError: the network has no SFM, there is no such block, or no such layer.
    """
    if network.sfm is None:
        raise ValueError('this network has no SFM to close a block of: its model.sfm is "none"')
    pixels = network.config.grid**2
    block_mask(block, pixels, pixels + 1)
    chosen = []
    for copy in network.sfm.blocks:  # one, or one per level
        found = [part for part in copy.modules() if isinstance(part, MultiHeadAttention)]
        there = range(1, len(found) + 1)
        if wrong := set(layers or ()) - set(there):
            raise ValueError(f"SFM has layers 1 to {len(found)}; there is no layer {min(wrong)}")
        chosen += [found[layer - 1] for layer in (there if layers is None else layers)]
    try:
        for attention in chosen:
            attention.forward = _blocked(attention, block, pixels)
        yield
    finally:
        for attention in chosen:
            del attention.forward  # the class's own comes back


def _blocked(attention: MultiHeadAttention, block: str, pixels: int):
    """The attention's `forward`, with a block closed; it hands out no weights."""

    def forward(
        keyed: Tensor, valued: Tensor, keep: Tensor, return_weights: bool = False
    ) -> tuple[Tensor, None]:
        query, key, value = (
            linear(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # (B, heads, N, C')
            for linear, x in (
                (attention.query, keyed),
                (attention.key, keyed),
                (attention.value, valued),
            )
        )
        allowed = block_mask(block, pixels, keyed.shape[1]).to(keep.device)
        mask = keep[:, None, None, :] & allowed  # (B, 1, N, N)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attention.out(mixed.transpose(1, 2).flatten(2)), None

    return forward


@contextmanager
def gates_at(network: SHNet, value: float) -> Iterator[None]:
    """HCAM's gates, Eq. 2, all stand at one value, whatever the phrase.

    Raises:
        ValueError: the network has no HCAM.
    """
    gates = [part for part in network.fusion.modules() if isinstance(part, Affinity)]
    if not gates:
        raise ValueError(f"this network has no gates: its model.fusion is {network.config.fusion}")

    def hold(_gate: Affinity, _given: tuple, found: list[Tensor]) -> list[Tensor]:
        return [torch.full_like(affinity, value) for affinity in found]

    with ExitStack() as until:
        for gate in gates:
            until.callback(gate.register_forward_hook(hold).remove)
        yield


def prepare(
    trained: TrainedSHNet, expressions: Sequence[Expression], batch_size: int = 32
) -> list[dict]:
    """Batches to measure again and again: the frozen backbone has run, its levels are kept."""
    dataset = trained.evaluation_set(expressions)
    sampler = ImageBatchSampler(dataset, batch_size, batch_size, training=False)
    device = next(trained.network.parameters()).device
    batches = []
    for keys in sampler:
        batch = to_device(collate([dataset[key] for key in keys]), device)
        with evaluating(trained.network), torch.inference_mode():
            batch["levels"] = trained.network.backbone(batch.pop("images"))
        batches.append(batch)
    return batches


def answer(network: SHNet, batches: Sequence[dict]) -> Tensor:
    """The logits of each expression of `prepare`, (N, S, S), in the order of the expressions."""
    with evaluating(network), torch.inference_mode():
        logits = torch.cat([network(batch).float() for batch in batches])
    order = torch.cat([batch["expression_index"] for batch in batches])
    return logits[order.argsort()]


def measure_iou(network: SHNet, batches: Sequence[dict]) -> np.ndarray:
    """The IoU of each expression's answer at the picture's size, (N,), in the same order."""
    order = torch.cat([batch["expression_index"] for batch in batches]).argsort()
    targets = [target for batch in batches for target in batch["targets"]]
    counts = [
        torch.stack(compare_original(logits, targets[place], 0.5))
        for logits, place in zip(answer(network, batches), order.tolist(), strict=True)
    ]
    return ious(*torch.stack(counts).cpu().unbind(1)).numpy()
