"""How time and memory grow with the grid, the words, the batch and the expressions per image."""

from functools import partial
from typing import Any

import torch

from benchmarks.literal import LiteralSHNet, literal_version
from benchmarks.memory import on_fake_tensors, peak_bytes, saved_bytes
from benchmarks.sizes import make_batch, make_network
from benchmarks.timing import forward_backward, in_turns
from shnet_lib.model.shnet import ModelConfig, SHNet
from shnet_lib.training.recompute import recompute_activations

MIB = 2**20
BASE = {"grid": 18, "words": 8, "batch": 2, "expressions per image": 1}
VALUES = {
    "grid": (18, 20, 28, 40),
    "words": (5, 15, 25),
    "batch": (2, 4, 8),
    "expressions per image": (1, 2, 4, 8),
}
KEPT = {  # which network, recomputing or not, in which arithmetic
    "literal, fp32": (True, False, torch.float32),
    "library, fp32": (False, False, torch.float32),
    "library, bf16": (False, False, torch.bfloat16),
    "library, bf16, recompute": (False, True, torch.bfloat16),
}


def measure_growth(config: ModelConfig, repeats: int) -> list[dict[str, Any]]:
    """A row for each value of each axis, the others at BASE: seconds and saved MiB per sample."""
    rows = []
    for axis, values in VALUES.items():
        for value in values:
            setting = BASE | {axis: value}
            if axis == "expressions per image":
                setting["batch"] = max(VALUES[axis])
            rows.append({"axis": axis, **setting, **_measure(config, setting, repeats)})
    return rows


def _measure(config: ModelConfig, setting: dict[str, int], repeats: int) -> dict[str, float]:
    network, batch = _make(config, setting, literal=False, recompute=False)
    networks = {"seconds per sample": network}
    of_grid = setting["grid"] != BASE["grid"] or setting == BASE
    if of_grid:
        frugal, _ = _make(config, setting, literal=False, recompute=True)
        networks["seconds per sample, recompute"] = frugal
    row = _seconds(networks, batch, repeats)
    if of_grid:
        row["of it SFM"] = _sfm_seconds(network, setting, repeats)
    for name, kind in KEPT.items():
        make = partial(_make, config, setting, *kind[:2])
        kept = on_fake_tensors(make, partial(saved_bytes, precision=kind[2]))
        row[f"saved MiB per sample, {name}"] = kept / setting["batch"] / MIB
    return row


def _seconds(networks: dict[str, SHNet], batch: dict, repeats: int) -> dict[str, float]:
    steps = {
        name: partial(forward_backward, network, batch, torch.float32)
        for name, network in networks.items()
    }
    count = len(batch["image_index"])
    return {name: seconds / count for name, seconds in in_turns(steps, repeats).items()}


def _sfm_seconds(network: SHNet, setting: dict[str, int], repeats: int) -> float:
    count, grid, channels = setting["batch"], setting["grid"], network.config.channels
    visual = [torch.randn(count, channels, grid, grid, requires_grad=True) for _ in range(3)]
    words = torch.randn(count, setting["words"], channels, requires_grad=True)
    mask = torch.ones(count, setting["words"], dtype=torch.bool)

    def run() -> None:
        fused, _, _ = network.sfm(visual, words, mask)
        torch.stack(fused).sum().backward()

    return in_turns({"SFM": run}, repeats)["SFM"] / count


def _make(
    config: ModelConfig, setting: dict[str, int], literal: bool, recompute: bool
) -> tuple[SHNet | LiteralSHNet, dict]:
    network = make_network(config, grid=setting["grid"])
    if literal:
        network = literal_version(network)
    if recompute:
        recompute_activations(network)
    counts = setting["batch"], setting["expressions per image"], setting["words"]
    return network, make_batch(config, *counts)


def measure_memory(config: ModelConfig) -> list[dict[str, Any]]:
    """Peak MiB of a training step with the paper's batch of 50, at its grid and at 40 x 40.

    Beside the peak stands the sum that the saved bytes of one sample give, times 50.
    """
    rows = []
    for grid in (18, 40):
        for name, (literal, recompute, precision) in KEPT.items():
            setting = BASE | {"grid": grid, "words": 25, "batch": 50}
            make = partial(_make, config, setting, literal, recompute)
            peak = on_fake_tensors(make, partial(peak_bytes, precision=precision))
            kept = on_fake_tensors(make, partial(saved_bytes, precision=precision))
            rows.append(
                {"grid": grid, "network": name, "saved MiB per sample": kept / 50 / MIB}
                | {f"peak MiB, {part}": size / MIB for part, size in peak.items()}
            )
    return rows
