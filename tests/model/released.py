"""The whole network as the paper's authors released it, from Figure 2 on, in plain formulas.

As in `literal.py`, nothing here calls a module of `shnet_lib.model` or a layer of torch; a module
is taken for its parameters and its running statistics only. But whole maps are computed at a time,
so that gradients flow and training mode can be compared too. Dropout is left out: compare at 0.
"""

import math

import torch
from literal import (
    adaptive_max_pool,
    average_words,
    encode_words,
    leaky_relu,
    positions,
    relu,
    sigmoid,
    tile,
)
from torch import Tensor, nn

LEVELS = (0, 1, 2)  # levels 2, 3 and 4 of the paper


def released(levels: list[Tensor], batch: dict, network: nn.Module) -> Tensor:
    """Frozen levels three (I, C_l, h, w) and a batch of B expressions -> logits (B, S, S).

    In training mode BatchNorm takes the batch's statistics, and the running ones of `network` move.
    """
    config, mask = network.config, batch["word_mask"]
    grid = config.grid

    # Section 3.1. Each expression comes with its own copy of its image.
    visual = []
    for level, module in zip(levels, network.projections, strict=True):
        pooled = adaptive_max_pool(level[batch["image_index"]], 2 * grid)
        projected = convolve(pooled, module.conv.weight, module.conv.bias, stride=2)
        visual.append(leaky_relu(normalise(projected, module.norm)))
    words = encode_words(batch["words"], network.word_encoder)

    # Section 3.2: pixels row by row, then words; one SFM for all levels.
    places = positions(grid, grid, words.shape[1], config.channels)
    keep = torch.cat((torch.ones(len(mask), grid**2, dtype=torch.bool), mask), dim=1)
    fused_visual, fused_words = [], []
    for level in visual:
        joint = torch.cat((level.flatten(2).transpose(1, 2), words), dim=1)  # (B, N, C)
        fused = encode(joint, places, keep, network.sfm.blocks[0])
        fused_visual.append(fused[:, : grid**2].transpose(1, 2).unflatten(2, (grid, grid)))
        fused_words.append(fused[:, grid**2 :])

    # Section 3.3, and the activation that the released code has behind it.
    context = leaky_relu(aggregate(fused_visual, fused_words, mask, network.fusion))

    # Section 3.4, to the size of the mask.
    logits = upsample(aspp(context, network.aspp), network.upsample)
    return enlarge(logits, config.image_size)[:, 0]


# --- what everything is made of -------------------------------------------------------------------


def convolve(
    x: Tensor, kernel: Tensor, bias: Tensor | None = None, stride: int = 1, rate: int = 1
) -> Tensor:
    """Each tap of the kernel (C', C, k, k) reads the map, moved; outside there are zeros."""
    reach = kernel.shape[-1] // 2 * rate
    height, width = x.shape[-2:]
    padded = x.new_zeros(*x.shape[:2], height + 2 * reach, width + 2 * reach)
    padded[:, :, reach : reach + height, reach : reach + width] = x
    total = 0
    for i in range(kernel.shape[-1]):
        for j in range(kernel.shape[-1]):
            top, left = i * rate, j * rate
            seen = padded[:, :, top : top + height : stride, left : left + width : stride]
            total = total + torch.einsum("oc,bchw->bohw", kernel[:, :, i, j], seen)
    return total if bias is None else total + bias[:, None, None]


def normalise(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """BatchNorm: in training the batch's mean and variance, which the running ones follow."""
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        count = x.numel() // x.shape[1]
        mean = x.sum(dim=(0, 2, 3)) / count
        variance = ((x - mean[:, None, None]) ** 2).sum(dim=(0, 2, 3)) / count
        unbiased = variance.detach() * count / (count - 1)
        norm.running_mean = 0.9 * norm.running_mean + 0.1 * mean.detach()
        norm.running_var = 0.9 * norm.running_var + 0.1 * unbiased
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return (x - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Each vector by itself: (..., C) to mean 0 and variance 1, then a scale and a shift."""
    centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
    variance = (centred**2).sum(-1, keepdim=True) / x.shape[-1]
    return centred / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return x @ layer.weight.T + layer.bias


def enlarge(x: Tensor, size: int) -> Tensor:
    """Bilinear, square to square, corners on corners."""
    source = x.shape[-1]
    shares = torch.zeros(size, source, dtype=x.dtype)  # of each old cell in each new one
    for i in range(size):
        place = i * (source - 1) / (size - 1)
        first = min(math.floor(place), source - 2)
        shares[i, first] = 1 - (place - first)
        shares[i, first + 1] = place - first
    return shares @ x @ shares.T


# --- sections 3.2 to 3.4 --------------------------------------------------------------------------


def encode(x: Tensor, places: Tensor, keep: Tensor, module: nn.Module) -> Tensor:
    """Pre-norm encoder layers and a last LayerNorm: (B, N, C) -> (B, N, C)."""
    for layer in module.layers:
        normed = layer_norm(x, layer.norm_1)
        x = x + attend(normed + places, normed, keep, layer.attention)
        widen, _, narrow = layer.feedforward
        x = x + linear(relu(linear(layer_norm(x, layer.norm_2), widen)), narrow)
    return layer_norm(x, module.norm)


def attend(keyed: Tensor, valued: Tensor, keep: Tensor, module: nn.Module) -> Tensor:
    """Multi-head attention; positions are in `keyed` alone. Padded keys (B, N) get no weight."""
    query, key = linear(keyed, module.query), linear(keyed, module.key)
    value = linear(valued, module.value)
    size = query.shape[-1] // module.heads
    heads = []
    for head in range(module.heads):
        own = slice(head * size, (head + 1) * size)
        scores = query[..., own] @ key[..., own].transpose(1, 2) / math.sqrt(size)  # (B, N, N)
        weights = torch.exp(scores) * keep[:, None, :]
        heads.append(weights / weights.sum(-1, keepdim=True) @ value[..., own])
    return linear(torch.cat(heads, dim=-1), module.out)


def aggregate(visual: list[Tensor], words: list[Tensor], mask: Tensor, module: nn.Module) -> Tensor:
    """Eqs. 2 and 3. The module keeps its 3-D kernel as (C', depth * C, 3, 3)."""
    height, width = visual[0].shape[-2:]
    exchanged = []
    for i in LEVELS:
        conv, norm = module.affinity[i].conv, module.affinity[i].norm
        total = visual[i]
        for j in LEVELS:
            if j != i:
                sentence = tile(average_words(words[j], mask), height, width)
                joined = torch.cat((visual[i], sentence), dim=1)  # (B, 2C, H, W)
                gate = sigmoid(normalise(convolve(joined, conv.weight, conv.bias), norm))
                total = total + gate * visual[j]
        exchanged.append(total)
    conv, norm = module.aggregate.conv, module.aggregate.norm
    kernels = conv.weight.chunk(3, dim=1)  # one for each depth
    depths = [convolve(g, kernel) for g, kernel in zip(exchanged, kernels, strict=True)]
    return normalise(sum(depths) + conv.bias[:, None, None], norm)


def aspp(context: Tensor, module: nn.Module) -> Tensor:
    """1 x 1, three dilated 3 x 3, the image's average; side by side, and mixed by a 1 x 1."""

    def branch(x: Tensor, layers: nn.Sequential, rate: int = 1) -> Tensor:
        return relu(normalise(convolve(x, layers[0].weight, rate=rate), layers[1]))

    average = context.sum(dim=(2, 3), keepdim=True) / context[0, 0].numel()
    image = branch(average, module.image)[:, :, 0, 0]
    views = [
        branch(context, module.pixel),
        branch(context, module.atrous[0], rate=6),
        branch(context, module.atrous[1], rate=12),
        branch(context, module.atrous[2], rate=24),
        tile(image, *context.shape[-2:]),
    ]
    return branch(torch.cat(views, dim=1), module.project)


def upsample(x: Tensor, module: nn.Module) -> Tensor:
    """Four convolutions with BatchNorm and ReLU, twice the size after the first and the second."""
    for number, (conv, norm, *_) in enumerate(module.steps):
        x = relu(normalise(convolve(x, conv.weight, conv.bias), norm))
        if number < 2:
            x = enlarge(x, 2 * x.shape[-1])
    return convolve(x, module.logits.weight, module.logits.bias)
