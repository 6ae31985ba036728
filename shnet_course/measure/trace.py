"""What flows through SHNet and what it costs, read off the network itself while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shnet_lib.model.shnet import ModelConfig, SHNet
from shnet_lib.training.evaluate import evaluating

Shape = tuple[int, ...]
GLOVE_SIZE = 300  # numbers per word vector, section 4.2: GloVe 840B
PAPER_WORDS = 10_000  # to count parameters with; a vocabulary's size depends on its data set


@dataclass(frozen=True)
class Flow:
    """One call of one part: the shapes of all tensors that went in and came out."""

    part: str  # the name in SHNet: "backbone", "projections.0", ..., "upsample"; or "mask_logits"
    kind: str  # the class: "ASPP", "HCAM", ...
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


def trace_shapes(network: SHNet, batch: Mapping[str, Any]) -> list[Flow]:
    """Run a batch and note the shapes at each part of Figure 2, in the order in which they ran.

    The last row is the whole network's result, "mask_logits". The network's mode and its BatchNorm
    statistics stay as they were, and its hooks are taken off again.
    """
    rows: list[Flow] = []

    def note(part: str):
        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            shapes = _shapes(output)
            if part == "mask_logits":
                rows.append(Flow(part, "bilinear", rows[-1].outputs, shapes))
            else:
                rows.append(Flow(part, type(module).__name__, _shapes(inputs), shapes))

        return hook

    parts = {"mask_logits": network}
    for name, part in network.named_children():
        if isinstance(part, nn.ModuleList):  # the three projections are called one by one
            parts |= {f"{name}.{i}": level for i, level in enumerate(part)}
        else:
            parts[name] = part

    hooks = [part.register_forward_hook(note(name)) for name, part in parts.items()]
    try:
        with evaluating(network), torch.no_grad():
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def _shapes(value: Any) -> tuple[Shape, ...]:
    """The shapes of the tensors in a tensor, or in lists of lists of them; None has none."""
    if isinstance(value, Tensor):
        return (tuple(value.shape),)
    if isinstance(value, (list, tuple)):
        return tuple(shape for item in value for shape in _shapes(item))
    return ()


def weightless(
    config: ModelConfig, images: int = 1, expressions: int = 1, words: int = 25
) -> tuple[SHNet, dict[str, Tensor]]:
    """A network and a batch of shapes without numbers, on torch's "meta" device.

    The paper's size needs neither its weights nor a second of arithmetic there. Expressions are
    dealt out to the images in turn; all of them have `words` words, the paper's limit (section
    4.2) if it is not given.
    """
    size, vocabulary_size = config.image_size, 1000
    with torch.device("meta"):
        vectors = torch.empty(vocabulary_size, GLOVE_SIZE)
        network = SHNet(replace(config, backbone_weights="random"), vocabulary_size, vectors)
        batch = {
            "images": torch.empty(images, 3, size, size),
            "image_index": torch.arange(expressions) % images,
            "words": torch.empty(expressions, words, dtype=torch.long),
            "word_mask": torch.empty(expressions, words, dtype=torch.bool),
        }
    return network, batch


def count_parameters(config: ModelConfig, vocabulary_size: int) -> list[tuple[str, int, int]]:
    """Of each part in the order of Figure 2, and together: its name, parameters trained and frozen.

    Nothing is allocated and no weights are read.
    """
    with torch.device("meta"):
        vectors = torch.empty(vocabulary_size, GLOVE_SIZE)
        network = SHNet(replace(config, backbone_weights="random"), vocabulary_size, vectors)
    rows = []
    for name, part in network.named_children():
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        rows.append((name, trained, sum(p.numel() for p in part.parameters()) - trained))
    return [*rows, ("together", sum(row[1] for row in rows), sum(row[2] for row in rows))]


def count_flops(config: ModelConfig, words: int = 25) -> list[tuple[str, int]]:
    """Of each part in the order of Figure 2, and together: operations of one forward pass.

    One image with one expression. A multiplication and the addition after it are two operations,
    as torch counts them; only convolutions and products of matrices are counted. Nothing is
    computed.
    """
    network, batch = weightless(config, words=words)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(batch)
    counts = counter.get_flop_counts()

    rows = []
    for name, part in network.named_children():
        # a ModuleList is never called itself: its members are
        called = (
            [f"{name}.{i}" for i in range(len(part))] if type(part) is nn.ModuleList else [name]
        )
        rows.append((name, sum(sum(counts[f"SHNet.{call}"].values()) for call in called)))
    return [*rows, ("together", sum(counts["Global"].values()))]
