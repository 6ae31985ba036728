"""The equations again, slowly: loops over queries, keys, heads, positions and pairs (i, j).

Nothing here calls a module of `shnet_lib.model` or a layer of torch. A function takes the module it
mirrors only for its parameters. A feature map is indexed [b, :, y, x], a word [b, t], and what lies
outside a map is zero, position by position. Meant for float64 and small grids.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LEVELS = (0, 1, 2)  # levels 2, 3 and 4 of the paper


# --- inputs for the tests -------------------------------------------------------------------------


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode, with no parameter or running statistic at its default."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            if name.endswith("running_var"):
                value.copy_(0.5 + noise.abs())
            elif value.dim() > 1:  # a kernel: keep the size of what goes through it
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.copy_(noise * 0.3 + value)
    return module


def levels_and_words(
    batch: int, channels: int, height: int, width: int, lengths: list[int], padded_to: int, seed=0
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """f^v three (B, C, H, W), f^l three (B, T, C) with rubbish in the padding, word_mask (B, T)."""
    assert len(lengths) == batch
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    visual = [draw(batch, channels, height, width) for _ in LEVELS]
    words = [draw(batch, padded_to, channels) for _ in LEVELS]
    mask = torch.zeros(batch, padded_to, dtype=torch.bool)
    for b, length in enumerate(lengths):
        mask[b, :length] = True
    return visual, words, mask


# --- what everything is made of -------------------------------------------------------------------


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def leaky_relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 2-D convolution, tap by tap, with explicit zeros outside the map."""
    batch, _, height, width = x.shape
    outputs, _, rows, columns = conv.weight.shape
    stride, rate, padding = conv.stride[0], conv.dilation[0], conv.padding[0]
    out_height = (height + 2 * padding - rate * (rows - 1) - 1) // stride + 1
    out_width = (width + 2 * padding - rate * (columns - 1) - 1) // stride + 1
    result = torch.zeros(batch, outputs, out_height, out_width, dtype=x.dtype)
    for b in range(batch):
        for y in range(out_height):
            for x_out in range(out_width):
                total = torch.zeros(outputs, dtype=x.dtype)
                for dy in range(rows):
                    for dx in range(columns):
                        row = y * stride + dy * rate - padding
                        column = x_out * stride + dx * rate - padding
                        if 0 <= row < height and 0 <= column < width:
                            total = total + conv.weight[:, :, dy, dx] @ x[b, :, row, column]
                result[b, :, y, x_out] = total if conv.bias is None else total + conv.bias
    return result


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """With the running statistics, a channel at a time."""
    result = torch.empty_like(x)
    for c in range(x.shape[1]):
        scale = norm.weight[c] / math.sqrt(float(norm.running_var[c]) + norm.eps)
        result[:, c] = (x[:, c] - norm.running_mean[c]) * scale + norm.bias[c]
    return result


def batch_norm_training(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """With the batch's own statistics; also the running mean and variance after it."""
    result = torch.empty_like(x)
    running_mean, running_var = norm.running_mean.clone(), norm.running_var.clone()
    for c in range(x.shape[1]):
        values = x[:, c].flatten()
        mean = values.sum() / len(values)
        squares = ((values - mean) ** 2).sum()
        result[:, c] = (x[:, c] - mean) / torch.sqrt(squares / len(values) + norm.eps)
        result[:, c] = result[:, c] * norm.weight[c] + norm.bias[c]
        running_mean[c] = 0.9 * running_mean[c] + 0.1 * mean
        running_var[c] = 0.9 * running_var[c] + 0.1 * squares / (len(values) - 1)
    return result, running_mean, running_var


def tile(sentence: Tensor, height: int, width: int) -> Tensor:
    """(B, C) -> (B, C, H, W): the same vector at every position."""
    result = torch.empty(*sentence.shape, height, width, dtype=sentence.dtype)
    for y in range(height):
        for x in range(width):
            result[:, :, y, x] = sentence
    return result


# --- section 3.1 ----------------------------------------------------------------------------------


def level_projection(level: Tensor, module) -> Tensor:
    """Adaptive max-pooling to 2H x 2W, 3 x 3 convolution of stride 2, BatchNorm, LeakyReLU."""
    pooled = adaptive_max_pool(level, module.pool.output_size)
    return leaky_relu(batch_norm(convolve(pooled, module.conv), module.norm))


def adaptive_max_pool(x: Tensor, size: int) -> Tensor:
    """Cell i of `size` covers the input from floor(i h / size) up to ceil((i + 1) h / size)."""
    height, width = x.shape[-2:]
    result = torch.empty(*x.shape[:2], size, size, dtype=x.dtype)
    for i in range(size):
        top, bottom = math.floor(i * height / size), math.ceil((i + 1) * height / size)
        for j in range(size):
            left, right = math.floor(j * width / size), math.ceil((j + 1) * width / size)
            result[:, :, i, j] = x[:, :, top:bottom, left:right].amax(dim=(2, 3))
    return result


def encode_words(words: Tensor, module) -> Tensor:
    """A word id -> its vector -> one LSTM step, from left to right. (B, T) -> (B, T, C)."""
    lstm, vectors = module.lstm, module.embedding.weight
    channels = lstm.hidden_size
    result = torch.empty(*words.shape, channels, dtype=vectors.dtype)
    for b in range(len(words)):
        hidden = cell = torch.zeros(channels, dtype=vectors.dtype)
        for t in range(words.shape[1]):
            gates = lstm.weight_ih_l0 @ vectors[int(words[b, t])] + lstm.bias_ih_l0
            gates = gates + lstm.weight_hh_l0 @ hidden + lstm.bias_hh_l0
            into, forget, candidate, output = gates.view(4, channels)
            cell = sigmoid(forget) * cell + sigmoid(into) * torch.tanh(candidate)
            hidden = sigmoid(output) * torch.tanh(cell)
            result[b, t] = hidden
    return result


def average_words(words: Tensor, mask: Tensor) -> Tensor:
    """The mean over real words: (B, T, C), (B, T) -> (B, C)."""
    result = []
    for b in range(len(words)):
        real = [words[b, t] for t in range(words.shape[1]) if mask[b, t]]
        result.append(sum(real) / len(real))
    return torch.stack(result)


# --- section 3.2, Eq. 1 ---------------------------------------------------------------------------


def sinusoid(position: int, channels: int) -> list[float]:
    """sin, cos, sin, cos ... of position / 10000^(2k / channels)."""
    vector = []
    for k in range(channels // 2):
        angle = position / 10000 ** (2 * k / channels)
        vector += [math.sin(angle), math.cos(angle)]
    return vector


def positions(height: int, width: int, length: int, channels: int) -> Tensor:
    """P_v (+) P_l: a pixel's x in the first half of its channels, y in the second; then words."""
    rows = []
    for y in range(height):
        for x in range(width):
            rows.append(sinusoid(x, channels // 2) + sinusoid(y, channels // 2))
    for t in range(length):
        rows.append(sinusoid(t, channels))
    return torch.tensor(rows, dtype=torch.float64)


def join(visual: Tensor, words: Tensor) -> Tensor:
    """V (+) L, length-wise: the pixels row by row, then the words. (B, H*W + T, C)."""
    batch, _, height, width = visual.shape
    joint = []
    for b in range(batch):
        sequence = [visual[b, :, y, x] for y in range(height) for x in range(width)]
        sequence += [words[b, t] for t in range(words.shape[1])]
        joint.append(torch.stack(sequence))
    return torch.stack(joint)


def part(joint: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """F (B, H*W + T, C) -> f^v (B, C, H, W) and f^l (B, T, C)."""
    batch, _, channels = joint.shape
    visual = torch.empty(batch, channels, height, width, dtype=joint.dtype)
    for y in range(height):
        for x in range(width):
            visual[:, :, y, x] = joint[:, y * width + x]
    return visual, joint[:, height * width :]


def layer_norm(vector: Tensor, norm: nn.LayerNorm) -> Tensor:
    """One vector (C,): zero mean, unit variance, then the learned scale and shift."""
    mean = vector.sum() / len(vector)
    variance = ((vector - mean) ** 2).sum() / len(vector)
    return (vector - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def attend(keyed: Tensor, valued: Tensor, keep: Tensor, module) -> Tensor:
    """Multi-head attention of one sequence, a head, a query and a key at a time.

    `keyed` and `valued` (N, C), `keep (N,)` -> (N, C). Padded keys are left out of the sums.
    """
    count, channels = keyed.shape
    size = channels // module.heads
    query = [module.query.weight @ x + module.query.bias for x in keyed]
    key = [module.key.weight @ x + module.key.bias for x in keyed]
    value = [module.value.weight @ x + module.value.bias for x in valued]
    keys = [n for n in range(count) if keep[n]]
    result = []
    for q in range(count):
        heads = []
        for head in range(module.heads):
            own = slice(head * size, (head + 1) * size)
            scores = [(query[q][own] @ key[k][own]).item() / math.sqrt(size) for k in keys]
            largest = max(scores)
            exponentials = [math.exp(score - largest) for score in scores]
            total = sum(exponentials)
            mixed = torch.zeros(size, dtype=keyed.dtype)
            for weight, k in zip(exponentials, keys, strict=True):
                mixed = mixed + weight / total * value[k][own]
            heads.append(mixed)
        result.append(module.out.weight @ torch.cat(heads) + module.out.bias)
    return torch.stack(result)


def printed_sfm(joint: Tensor, places: Tensor, keep: Tensor, module) -> Tensor:
    """Eq. 1: X = LayerNorm(V (+) L); X = X + (P_v (+) P_l); F = MultiHead(X)."""
    result = []
    for b in range(len(joint)):
        x = torch.stack([layer_norm(vector, module.norm) for vector in joint[b]])
        x = x + places
        result.append(attend(x, x, keep[b], module.attention))
    return torch.stack(result)


def released_sfm(joint: Tensor, places: Tensor, keep: Tensor, module) -> Tensor:
    """Encoder layers: LN, attention (positions to Q, K only), residual, LN, FFN, residual; LN."""
    result = []
    for b in range(len(joint)):
        x = joint[b]
        for layer in module.layers:
            normed = torch.stack([layer_norm(vector, layer.norm_1) for vector in x])
            x = x + attend(normed + places, normed, keep[b], layer.attention)
            first, _, second = layer.feedforward
            fed = []
            for vector in x:
                inner = relu(first.weight @ layer_norm(vector, layer.norm_2) + first.bias)
                fed.append(vector + second.weight @ inner + second.bias)
            x = torch.stack(fed)
        result.append(torch.stack([layer_norm(vector, module.norm) for vector in x]))
    return torch.stack(result)


# --- section 3.3, Eqs. 2 and 3 --------------------------------------------------------------------


def affinity(visual: Tensor, sentence: Tensor, module) -> Tensor:
    """Eq. 2: sigmoid(Conv([f^v_i ; f^{l avg}_j])), the sentence tiled and concatenated."""
    joined = torch.cat((visual, tile(sentence, *visual.shape[-2:])), dim=1)
    return sigmoid(batch_norm(convolve(joined, module.conv), module.norm))


def exchange(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> list[Tensor]:
    """Eq. 3, first line: g_i = f^v_i + sum over j != i of Lambda_ij o f^v_j."""
    exchanged = []
    for i in LEVELS:
        g = visual[i]
        for j in LEVELS:
            if j != i:
                sentence = average_words(words[j], mask)
                g = g + affinity(visual[i], sentence, module.affinity[i]) * visual[j]
        exchanged.append(g)
    return exchanged


def convolve_depth(levels: list[Tensor], module) -> Tensor:
    """Eq. 3, second line, as a 3 x 3 x 3 kernel over depth, height and width; depth 3 -> 1.

    The module keeps its kernel as (C', depth * C, 3, 3).
    """
    batch, channels, height, width = levels[0].shape
    outputs = len(module.conv.weight)
    kernel = module.conv.weight.view(outputs, 3, channels, 3, 3)
    result = torch.zeros(batch, outputs, height, width, dtype=levels[0].dtype)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                total = module.conv.bias
                for depth in range(3):
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            if 0 <= y + dy < height and 0 <= x + dx < width:
                                seen = levels[depth][b, :, y + dy, x + dx]
                                total = total + kernel[:, depth, :, dy + 1, dx + 1] @ seen
                result[b, :, y, x] = total
    return batch_norm(result, module.norm)


def hcam(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> Tensor:
    """Eqs. 2 and 3: G = Conv3D([g_2 ; g_3 ; g_4])."""
    return convolve_depth(exchange(visual, words, mask, module), module.aggregate)


# --- what Tables 2 and 4 put in HCAM's place ------------------------------------------------------


def concatenation(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> Tensor:
    """Levels and tiled sentences side by side, a 1 x 1 convolution, BatchNorm, LeakyReLU."""
    size = visual[0].shape[-2:]
    sentences = [tile(average_words(level, mask), *size) for level in words]
    conv, norm, _ = module.mix
    return leaky_relu(batch_norm(convolve(torch.cat(visual + sentences, dim=1), conv), norm))


def conv3d(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> Tensor:
    return convolve_depth(visual, module.aggregate)


def convlstm(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> Tensor:
    """v_2, v_3, v_4 as time steps: i, f, o, g from [v_t ; h]; c = f c + i g; h = o tanh(c)."""
    channels = visual[0].shape[1]
    hidden, cell = torch.zeros_like(visual[0]), torch.zeros_like(visual[0])
    for level in visual:
        gates = convolve(torch.cat((level, hidden), dim=1), module.gates)
        into, forget, output = (sigmoid(gates[:, n * channels :][:, :channels]) for n in range(3))
        candidate = torch.tanh(gates[:, 3 * channels :])
        cell = forget * cell + into * candidate
        hidden = output * torch.tanh(cell)
    return hidden


def mgate(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> Tensor:
    """c = 0.5 f x_j + 0.5 f x_k + (1 - f) a; out_i = r tanh(c) + (1 - r) x_i; their sum."""
    channels = visual[0].shape[1]
    total = torch.zeros_like(visual[0])
    for n, (i, j, k) in enumerate([(0, 1, 2), (1, 2, 0), (2, 0, 1)]):
        gates = convolve(visual[i], module.gates[n])
        a = gates[:, :channels]
        f = sigmoid(gates[:, channels : 2 * channels] + 1)
        r = sigmoid(gates[:, 2 * channels :] + 1)
        c = 0.5 * f * visual[j] + 0.5 * f * visual[k] + (1 - f) * a
        total = total + r * torch.tanh(c) + (1 - r) * visual[i]
    return total


def unit(vector: Tensor) -> Tensor:
    """A vector (C,) divided by its length."""
    return vector / max(math.sqrt((vector**2).sum().item()), 1e-12)


def tgfe(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> Tensor:
    """Two rounds of: f_i + sum over j, k of relu(conv(f)) sigma(conv(global of f_i)), unit."""
    sentence = sum(average_words(level, mask) for level in words) / 3
    levels = visual
    for _ in range(2):
        levels = [
            tgfe_receive(levels[i], [levels[j], levels[k]], sentence, module)
            for i, j, k in [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
        ]
    return levels[0] + levels[1] + levels[2]


def tgfe_receive(level: Tensor, others: list[Tensor], sentence: Tensor, module) -> Tensor:
    batch, _, height, width = level.shape
    result = torch.empty_like(level)
    for b in range(batch):
        seen = tgfe_global_vector(level[b], sentence[b], module)
        gate = sigmoid(pointwise(seen, module.gate))
        for y in range(height):
            for x in range(width):
                vector = level[b, :, y, x]
                for other in others:
                    vector = vector + relu(pointwise(other[b, :, y, x], module.send)) * gate
                result[b, :, y, x] = unit(vector)
    return result


def tgfe_global_vector(level: Tensor, sentence: Tensor, module) -> Tensor:
    """Attention over the pixels of a level (C, H, W) by the sentence (C,), pooled and joined."""
    query = relu(pointwise(sentence, module.attend_sentence))
    pixels = level.flatten(1).T
    scores = [(relu(pointwise(p, module.attend_visual)) @ query).item() for p in pixels]
    exponentials = [math.exp(score - max(scores)) for score in scores]
    total = sum(exponentials)
    pooled = sum(e / total * p for e, p in zip(exponentials, pixels, strict=True))
    return unit(relu(pointwise(torch.cat((pooled, sentence)), module.join)))


def pointwise(vector: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1 x 1 convolution at one position."""
    return conv.weight[:, :, 0, 0] @ vector + conv.bias


def gbfm(visual: list[Tensor], words: list[Tensor], mask: Tensor, module) -> Tensor:
    """gate(a, b) = sigma(conv3x3(relu(conv1x1([a ; b])))) a + b, from both ends; a last conv."""

    def gate(a: Tensor, b: Tensor) -> Tensor:
        met = relu(convolve(torch.cat((a, b), dim=1), module.meet))
        return sigmoid(convolve(met, module.gate)) * a + b

    x = {}
    for i in LEVELS:
        tiled = tile(average_words(words[i], mask), *visual[i].shape[-2:])
        x[i + 1] = relu(convolve(torch.cat((visual[i], tiled), dim=1), module.join))
    left = gate(gate(x[3], x[2]), gate(x[2], x[1]))
    right = gate(gate(x[1], x[2]), gate(x[2], x[3]))
    return convolve(left + right, module.out)


FUSIONS = {
    "hcam": hcam,
    "conv3d": conv3d,
    "convlstm": convlstm,
    "mgate": mgate,
    "tgfe": tgfe,
    "gbfm": gbfm,
    "none": concatenation,
}


# --- section 3.4 ----------------------------------------------------------------------------------


def aspp(context: Tensor, module) -> Tensor:
    """1 x 1, three dilated 3 x 3, the image's average; concatenated and projected. No dropout."""
    height, width = context.shape[-2:]
    views = []
    for conv, norm, _ in (module.pixel, *module.atrous):
        views.append(relu(batch_norm(convolve(context, conv), norm)))
    total = torch.zeros_like(context[:, :, 0, 0])
    for y in range(height):
        for x in range(width):
            total = total + context[:, :, y, x]
    average = total[:, :, None, None] / (height * width)
    image = relu(batch_norm(convolve(average, module.image[0]), module.image[1]))
    views.append(tile(image[:, :, 0, 0], height, width))
    conv, norm = module.project[0], module.project[1]
    return relu(batch_norm(convolve(torch.cat(views, dim=1), conv), norm))


def upsampling(context: Tensor, module) -> Tensor:
    """3 x 3 convolution, BatchNorm, ReLU a step; twice the size after the first and the second."""
    for n, (conv, norm, _, _) in enumerate(module.steps):
        context = relu(batch_norm(convolve(context, conv), norm))
        if n in (0, 1):
            height, width = context.shape[-2:]
            context = resize(context, 2 * height, 2 * width, align_corners=True)
    return convolve(context, module.logits)


def resize(x: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    """Bilinear: an output pixel looks up its place in the input and mixes the four around it."""
    result = torch.empty(*x.shape[:2], height, width, dtype=x.dtype)
    for i in range(height):
        top, bottom, low = _neighbours(i, height, x.shape[2], align_corners)
        for j in range(width):
            left, right, near = _neighbours(j, width, x.shape[3], align_corners)
            upper = (1 - near) * x[:, :, top, left] + near * x[:, :, top, right]
            lower = (1 - near) * x[:, :, bottom, left] + near * x[:, :, bottom, right]
            result[:, :, i, j] = (1 - low) * upper + low * lower
    return result


def _neighbours(i: int, size: int, source: int, align_corners: bool) -> tuple[int, int, float]:
    """The two cells of the input around output cell i, and how near it is to the second."""
    if align_corners:
        place = i * (source - 1) / (size - 1) if size > 1 else 0.0
    else:
        place = max((i + 0.5) * source / size - 0.5, 0.0)
    first = min(math.floor(place), source - 1)
    return first, min(first + 1, source - 1), place - first


# --- Figure 2 -------------------------------------------------------------------------------------


def shnet(levels: list[Tensor], words: Tensor, mask: Tensor, network) -> Tensor:
    """One image and one expression each: levels three (B, C_l, h, w), words (B, T) -> (B, S, S)."""
    config = network.config
    visual = [
        level_projection(level, projection)
        for level, projection in zip(levels, network.projections, strict=True)
    ]
    word_feats = encode_words(words, network.word_encoder)
    fused_words = [word_feats] * 3
    if config.sfm != "none":
        fuse = {"printed": printed_sfm, "released": released_sfm}[config.sfm]
        places = positions(config.grid, config.grid, words.shape[1], config.channels)
        if not config.positions:
            places = torch.zeros_like(places)
        keep = torch.cat((torch.ones(len(words), config.grid**2, dtype=torch.bool), mask), dim=1)
        visual, fused_words = list(visual), list(fused_words)
        for i in LEVELS:
            block = network.sfm.blocks[0 if config.share_sfm else i]
            fused = fuse(join(visual[i], word_feats), places, keep, block)
            visual[i], fused_words[i] = part(fused, config.grid, config.grid)
    context = FUSIONS[config.fusion](visual, fused_words, mask, network.fusion)
    printed = config.sfm == "printed"
    context = context if printed else leaky_relu(context)
    logits = upsampling(aspp(context, network.aspp), network.upsample)
    return resize(logits, config.image_size, config.image_size, align_corners=not printed)[:, 0]
