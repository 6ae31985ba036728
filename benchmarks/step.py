"""A training step, whole and in parts, against the literal version of the same mathematics."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import AdamW

from benchmarks.literal import CONV_3D, as_conv_3d, literal_version
from benchmarks.memory import arithmetic
from benchmarks.sizes import WORDS, make_batch, make_network
from benchmarks.timing import forward_backward, in_turns, run_part
from shnet_lib.model.shnet import ModelConfig, SHNet

CONTENDERS = ("literal fp32", "library fp32", "library bf16")


def check_equal(config: ModelConfig) -> dict[str, float]:
    """How far the two versions differ: outputs in fp32, gradients in float64, dropout included.

    Gradients of fp32 differ by 1e-3 between any two orders of summation, so they would prove
    nothing.

    Raises:
        AssertionError: outputs differ by more than 1e-5 of the largest, gradients by 1e-8.
    """
    library = make_network(config)
    literal = literal_version(library)
    batch = make_batch(config, expressions=4, per_image=2)
    with torch.no_grad():
        (expected, found) = (_seeded(network, batch) for network in (literal, library))
    outputs = float((found - expected).abs().max() / expected.abs().max())
    assert outputs < 1e-5, f"outputs differ by {outputs:.1e}"

    batch |= {name: batch[name].double() for name in ("images", "target")}
    for network in (library, literal):
        loss = F.binary_cross_entropy_with_logits(_seeded(network.double(), batch), batch["target"])
        loss.backward()
    gradients = {name: p.grad for name, p in literal.named_parameters() if p.grad is not None}
    largest = max(gradient.abs().max() for gradient in gradients.values())
    difference = 0.0
    for name, parameter in library.named_parameters():
        if parameter.grad is None:
            continue
        found = parameter.grad
        if name == CONV_3D:
            found = as_conv_3d(found)
        # What has no say but by rounding (a bias before a BatchNorm) has no scale of its own; and
        # rounding, 1e-15 of the largest gradient, is 1e-9 of the smallest scale.
        scale = gradients[name].abs().max().clamp(min=1e-6 * largest)
        difference = max(difference, float((found - gradients[name]).abs().max() / scale))
    assert difference < 1e-8, f"gradients differ by {difference:.1e}"
    return {"outputs fp32": outputs, "gradients float64": difference}


def _seeded(network: nn.Module, batch: dict) -> torch.Tensor:
    torch.manual_seed(2)  # of the dropout
    return network(batch)


def measure_steps(config: ModelConfig, repeats: int) -> list[dict[str, Any]]:
    """Rows of the whole step, at one and at seven expressions per image, and of its parts."""
    library = make_network(config)
    literal = literal_version(library)
    rows = []
    for expressions, per_image in ((4, 1), (7, 7)):
        batch = make_batch(config, expressions, per_image)
        shape = {"expressions": expressions, "expressions per image": per_image}
        contenders = _whole_steps(literal, library, batch)
        rows.append({"part": "whole step", **shape, **in_turns(contenders, repeats)})
        for part, contenders in _parts(literal, library, batch).items():
            rows.append({"part": part, **shape, **in_turns(contenders, repeats)})
    for row in rows:
        for name in CONTENDERS[1:]:
            row[f"{name}, times faster"] = row[CONTENDERS[0]] / row[name]
    return rows


def _whole_steps(literal: nn.Module, library: SHNet, batch: dict) -> dict[str, Callable]:
    """Forward, loss, backward and optimiser. The bf16 contender is the library's network too."""
    networks = {
        "literal fp32": (literal, False, torch.float32),
        "library fp32": (library, True, torch.float32),
        "library bf16": (copy.deepcopy(library), True, torch.bfloat16),
    }

    def contender(network: nn.Module, fused: bool, precision: torch.dtype) -> Callable[[], None]:
        optimizer = _adamw(network, fused)

        def run() -> None:
            forward_backward(network, batch, precision)
            optimizer.step()

        return run

    return {name: contender(*settings) for name, settings in networks.items()}


def _adamw(network: nn.Module, fused: bool) -> AdamW:
    trained = [p for p in network.parameters() if p.requires_grad]
    return AdamW(trained, lr=1e-6, fused=fused, foreach=False)


def _parts(literal: SHNet, library: SHNet, batch: dict) -> dict[str, dict[str, Callable]]:
    """Each part on inputs of its own, forward and backward (the backbone forward only)."""
    config = library.config
    images, image_index = batch["images"], batch["image_index"]
    count, grid, channels = len(image_index), config.grid, config.channels

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, requires_grad=True)

    levels = library.backbone(images)
    visual = [noise(count, channels, grid, grid) for _ in range(3)]
    word_feats, mask = noise(count, WORDS, channels), batch["word_mask"]
    words = [noise(count, WORDS, channels) for _ in range(3)]
    context = noise(count, channels, grid, grid)

    def project_images(network: SHNet) -> list[torch.Tensor]:
        pairs = zip(network.projections, levels, strict=True)
        return [project(level)[image_index] for project, level in pairs]

    def project_expressions(network: SHNet) -> list[torch.Tensor]:
        pairs = zip(network.projections, levels, strict=True)
        return [project(level[image_index]) for project, level in pairs]

    def fuse(network: SHNet) -> list[torch.Tensor]:
        fused_visual, fused_words, _ = network.sfm(visual, word_feats, mask)
        return [*fused_visual, *fused_words]

    def aggregate(network: SHNet) -> list[torch.Tensor]:
        return [network.fusion(visual, words, mask)]

    def decode(network: SHNet) -> list[torch.Tensor]:
        return [network.upsample(network.aspp(context))]

    parts = {
        "projections": (project_expressions, project_images),
        "SFM": (fuse, fuse),
        "HCAM": (aggregate, aggregate),
        "decoder": (decode, decode),
    }
    contenders = {
        "backbone": {
            "literal fp32": partial(_look, library, images[image_index], torch.float32),
            "library fp32": partial(_look, library, images, torch.float32),
            "library bf16": partial(_look, library, images, torch.bfloat16),
        }
    }
    for name, (plainly, frugally) in parts.items():
        contenders[name] = {
            "literal fp32": partial(run_part, plainly, (literal,), torch.float32),
            "library fp32": partial(run_part, frugally, (library,), torch.float32),
            "library bf16": partial(run_part, frugally, (library,), torch.bfloat16),
        }
    for network in (literal, library):
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
    plain, fused = _adamw(literal, False), _adamw(library, True)
    contenders["AdamW"] = {
        "literal fp32": plain.step,
        "library fp32": fused.step,
        "library bf16": fused.step,  # weights and averages are fp32 there too
    }
    return contenders


def _look(network: SHNet, images: torch.Tensor, precision: torch.dtype) -> None:
    with arithmetic(precision):
        network.backbone(images)
