"""Section 4: the rewritings that were chosen on a CPU, against the plain forms, on this device.

Each pair has the same weights. What decides is the whole step at the end of the section.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.gpu.bench import FORMS, SHARED, Bench, Step
from benchmarks.literal import (
    LiteralDepthConvolution,
    LiteralHCAM,
    LiteralUpsampling,
    as_conv_3d,
)
from shnet_lib.model.decoder import ConvolveDoubled
from shnet_lib.model.shnet import SHNet

PRECISIONS = ("bf16", "tf32", "fp32")
FORWARDS = {"decoder": LiteralUpsampling, "HCAM": LiteralHCAM}


def measure_rewritings(bench: Bench) -> None:
    for precision in PRECISIONS:
        for name, maker in PAIRS.items():
            row = partial(compared, bench, maker, precision)
            bench.measure(name, row, precision=precision)
    everything = tuple(FORWARDS)
    for plain in ((), ("decoder",), ("HCAM",), everything):
        name = f"library, {' and '.join(plain)} plain" if plain else "library"
        row = partial(step_with, bench, plain)
        bench.measure(name, row, precision="bf16", **{"an image": SHARED})


def compared(bench: Bench, maker: Callable, precision: str) -> dict:
    """Milliseconds of both, forward and backward, in one process and on the same inputs."""
    network = bench.network(bench.config(FORMS[0], dropout=0.0))
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
    return (partial(LiteralUpsampling.forward, upsample), weights), (upsample, weights), (maps,)


def split_convolution(bench: Bench, network: SHNet) -> tuple[Part, Part, tuple]:
    """HCAM with the library's last convolution in both, so that only the exchange differs."""
    fusion = network.fusion
    arguments = _levels_and_words(bench, network)
    weights = [*fusion.parameters()]
    return (partial(LiteralHCAM.forward, fusion), weights), (fusion, weights), arguments


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


def attention_kept(bench: Bench, network: SHNet) -> tuple[Part, Part, tuple]:
    """SFM with its attention weights in memory, as the plain form has them, and without."""
    batch = bench.batch(network.config, bench.expressions, SHARED)
    levels, words, mask = _levels_and_words(bench, network)
    sfm, weights = network.sfm, [*network.sfm.parameters()]

    def with_weights(visual: list[Tensor], word_feats: Tensor) -> Tensor:
        fused, _, _ = sfm(visual, word_feats, batch["word_mask"], True)
        return torch.stack(fused)

    def without(visual: list[Tensor], word_feats: Tensor) -> Tensor:
        return torch.stack(sfm(visual, word_feats, batch["word_mask"])[0])

    return (with_weights, weights), (without, weights), (levels, words[0])


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
    "SFM, attention weights not kept": attention_kept,
}


def step_with(bench: Bench, plain: tuple[str, ...]) -> dict:
    """The library's step, with some parts computed in the plain way."""
    config = bench.config(FORMS[-1])
    network = bench.network(config)
    parts = {"decoder": network.upsample, "HCAM": network.fusion}
    for name in plain:
        parts[name].forward = partial(FORWARDS[name].forward, parts[name])
    step = Step(bench, network, bench.batch(config, bench.expressions, SHARED), "bf16")
    return bench.time(step) | bench.peak(step)
