"""Section 4: the rewritings that were chosen on a CPU, against the plain forms, on this device.

Each pair has the same weights. What decides is the whole step at the end of the section.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.gpu.bench import SHARED, Bench, Step
from benchmarks.literal import (
    LiteralDepthConvolution,
    LiteralHCAM,
    LiteralUpsampling,
    as_conv_3d,
)
from shnet_lib.model.decoder import ConvolveDoubled, UpsamplingConvolution
from shnet_lib.model.hcam import HCAM
from shnet_lib.model.shnet import SHNet

PRECISIONS = ("bf16", "tf32", "fp32")
PLAIN = {UpsamplingConvolution: LiteralUpsampling, HCAM: LiteralHCAM}


def measure_rewritings(bench: Bench) -> None:
    for precision in PRECISIONS:
        for name, maker in PAIRS.items():
            row = partial(compared, bench, maker, precision)
            bench.measure(name, row, precision=precision)
    for plain in ((), ("decoder",), ("HCAM",), ("decoder", "HCAM")):
        name = f"library, {' and '.join(plain)} plain" if plain else "library"
        row = partial(step_with, bench, plain)
        bench.measure(name, row, precision="bf16", **{"an image": SHARED})


def compared(bench: Bench, maker: Callable, precision: str) -> dict:
    """Milliseconds of both, forward and backward, in one process and on the same inputs."""
    network = bench.network(bench.config(bench.forms[0], dropout=0.0))
    found = {}
    with bench.arithmetic(precision):
        plain, library, arguments = maker(bench, network)
        run = partial(_forward_backward, bench, precision=precision, arguments=arguments)
        outputs = []
        for name, part, parameters in (("plain", *plain), ("library", *library)):
            outputs.append(run(part, parameters))
            found[f"{name} ms"] = bench.time(partial(run, part, parameters), seconds=0.3)["ms"]
            found[f"{name} peak MiB"] = bench.peak(partial(run, part, parameters))["peak MiB"]
    difference = (outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max()
    times = found["plain ms"] / found["library ms"]
    return found | {"library, times faster": times, "difference": float(difference)}


Part = tuple[Callable[..., Tensor], Iterable[nn.Parameter]]


def _forward_backward(
    bench: Bench,
    part: Callable[..., Tensor],
    parameters: Iterable[nn.Parameter],
    precision: str,
    arguments: tuple,
) -> Tensor:
    for tensor in (*parameters, *tree_leaves(arguments)):
        tensor.grad = None
    with bench.autocast(precision):
        output = part(*arguments)
    output.backward(torch.ones_like(output))
    return output.detach().float()


def as_plain(part: nn.Module) -> nn.Module:
    """The same weights, computed as the formulas stand. Of HCAM the exchange only: its last
    convolution stays the library's."""
    plain = copy.copy(part)
    plain.__class__ = PLAIN[type(part)]
    return plain


def doubled_convolution(number: int, bench: Bench, network: SHNet) -> tuple[Part, Part, tuple]:
    """One step of the decoder that doubles its map: its convolution alone."""
    config = network.config
    channels = config.decoder_widths[number - 1]
    side = config.grid * number
    with bench.device:
        conv = ConvolveDoubled(channels, config.decoder_widths[number], 3, padding=1)
    maps = bench.noise(bench.expressions, channels, side, side).requires_grad_()

    def plain(context: Tensor) -> Tensor:
        doubled = F.interpolate(context, scale_factor=2, mode="bilinear", align_corners=True)
        return F.conv2d(doubled, conv.weight, conv.bias, padding=1)

    return (plain, [*conv.parameters()]), (conv, [*conv.parameters()]), (maps,)


def whole_decoder(bench: Bench, network: SHNet) -> tuple[Part, Part, tuple]:
    upsample, grid = network.upsample, network.config.grid
    maps = bench.noise(bench.expressions, network.config.channels, grid, grid).requires_grad_()
    weights = [*upsample.parameters()]
    return (as_plain(upsample), weights), (upsample, weights), (maps,)


def split_convolution(bench: Bench, network: SHNet) -> tuple[Part, Part, tuple]:
    fusion = network.fusion
    arguments = _levels_and_words(bench, network)
    weights = [*fusion.parameters()]
    return (as_plain(fusion), weights), (fusion, weights), arguments


def depth_convolution(bench: Bench, network: SHNet) -> tuple[Part, Part, tuple]:
    library = network.fusion.aggregate
    with bench.device:
        literal = LiteralDepthConvolution(network.config.channels)
    state = library.state_dict()
    literal.load_state_dict(state | {"conv.weight": as_conv_3d(state["conv.weight"])})
    levels, _, _ = _levels_and_words(bench, network)
    return (
        (literal, [*literal.parameters()]),
        (library, [*library.parameters()]),
        (levels,),
    )


def _levels_and_words(bench: Bench, network: SHNet) -> tuple[list[Tensor], list[Tensor], Tensor]:
    count, channels, grid = bench.expressions, network.config.channels, network.config.grid
    mask = bench.batch(network.config, count, 1)["word_mask"]
    levels = [bench.noise(count, channels, grid, grid).requires_grad_() for _ in range(3)]
    words = [bench.noise(count, mask.shape[1], channels).requires_grad_() for _ in range(3)]
    return levels, words, mask


PAIRS = {
    "doubled convolution, first": partial(doubled_convolution, 1),
    "doubled convolution, second": partial(doubled_convolution, 2),
    "decoder": whole_decoder,
    "HCAM, split convolution": split_convolution,
    "HCAM, Conv3d as Conv2d": depth_convolution,
}


def step_with(bench: Bench, plain: tuple[str, ...]) -> dict:
    """The library's step, with some parts computed in the plain way."""
    config = bench.config(bench.forms[-1])
    network = bench.network(config)
    if "decoder" in plain:
        network.upsample = as_plain(network.upsample)
    if "HCAM" in plain:
        network.fusion = as_plain(network.fusion)
    step = Step(bench, network, bench.batch(config, bench.expressions, SHARED), "bf16")
    return bench.time(step) | bench.peak(step)
