"""Section 4: the rewritings that were chosen on a CPU, against the plain forms, on this device.

Each pair has the same weights. What decides is the whole step at the end of the section.
"""

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.gpu.bench import NO_DROPOUT, SHARED, Bench, Step
from benchmarks.literal import LiteralHCAM, LiteralUpsampling
from shnet_lib.model.shnet import SHNet

PLAIN = {"decoder": LiteralUpsampling, "HCAM": LiteralHCAM}


def measure_rewritings(bench: Bench) -> None:
    for precision in ("bf16", "tf32", "fp32"):
        for name in PLAIN:
            row = partial(compared, bench, name, precision)
            bench.measure(f"{name}, forward and backward", row, precision=precision)
    for plain in ((), ("decoder",), ("HCAM",), ("decoder", "HCAM")):
        name = f"library, {' and '.join(plain)} plain" if plain else "library"
        row = partial(step_with, bench, plain)
        bench.measure(name, row, precision="bf16", **{"an image": SHARED})


def part_of(network: SHNet, name: str) -> nn.Module:
    return {"decoder": network.upsample, "HCAM": network.fusion}[name]


def as_plain(network: SHNet, name: str) -> nn.Module:
    """A part with the same weights, computed as the formulas stand. Of HCAM only the exchange: its
    last convolution stays the library's."""
    plain = copy.copy(part_of(network, name))
    plain.__class__ = PLAIN[name]
    return plain


def compared(bench: Bench, name: str, precision: str) -> dict:
    """Milliseconds and MiB of both, in one process and on the same inputs."""
    network = bench.network(bench.config(bench.forms[0], **NO_DROPOUT))
    count, channels, grid = bench.expressions, network.config.channels, network.config.grid
    maps = [bench.noise(count, channels, grid, grid).requires_grad_() for _ in range(3)]
    arguments: tuple = (maps[0],)
    if name == "HCAM":
        mask = bench.batch(network.config, count, 1)["word_mask"]
        words = [bench.noise(count, mask.shape[1], channels).requires_grad_() for _ in range(3)]
        arguments = maps, words, mask
    parts = {"plain": as_plain(network, name), "library": part_of(network, name)}
    found: dict[str, float] = {}
    outputs = []
    with bench.arithmetic(precision):
        for version, part in parts.items():
            run = partial(_forward_backward, bench, part, arguments, precision)
            outputs.append(run())
            found[f"{version} ms"] = bench.time(run, seconds=0.3)["ms"]
            found[f"{version} peak MiB"] = bench.peak(run)["peak MiB"]
    difference = (outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max()
    found["library, times faster"] = found["plain ms"] / found["library ms"]
    return found | {"difference": float(difference)}


def _forward_backward(bench: Bench, part: nn.Module, arguments: tuple, precision: str) -> Tensor:
    for tensor in (*part.parameters(), *tree_leaves(arguments)):
        tensor.grad = None
    with bench.autocast(precision):
        output = part(*arguments)
    output.backward(torch.ones_like(output))
    return output.detach().float()


def step_with(bench: Bench, plain: tuple[str, ...]) -> dict:
    """The library's step, with some parts computed in the plain way."""
    config = bench.config(bench.forms[0])
    network = bench.network(config)
    if "decoder" in plain:
        network.upsample = as_plain(network, "decoder")
    if "HCAM" in plain:
        network.fusion = as_plain(network, "HCAM")
    step = Step(bench, network, bench.batch(config, bench.expressions, SHARED), "bf16")
    return bench.time(step) | bench.peak(step)
