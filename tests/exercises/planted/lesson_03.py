"""Answers to exercise 03, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import math

import torch
import torch.nn.functional as F

from shnet_lib.model.sfm import MultiHeadAttention


def padding(mask, count):
    """(B, T) -> (B, N), True at padded words."""
    return F.pad(~mask, (count - mask.shape[1], 0), value=False)


def attention(q, k, mask, *, scale=None, fill=-math.inf, axis=2, masked="keys", front=False):
    scores = torch.einsum("bnc,bmc->bnm", q, k) * (scale or 1 / math.sqrt(q.shape[2]))
    away = padding(mask, q.shape[1])
    if front:
        away = torch.cat((~mask, torch.zeros(len(mask), 6, dtype=torch.bool)), dim=1)
    if masked == "keys":
        scores[away[:, None].expand_as(scores)] = fill
    if masked == "queries":
        scores[away[:, :, None].expand_as(scores)] = fill
    if masked == "both":
        scores[(away[:, None] | away[:, :, None]).expand_as(scores)] = fill
    return torch.exp(scores) / torch.exp(scores).sum(axis, keepdim=True)


def by_loops(q, k, mask):
    batch, count, channels = q.shape
    keep = ~padding(mask, count)
    result = torch.zeros(batch, count, count)
    for b in range(batch):
        for i in range(count):
            shares = [
                math.exp(float(q[b, i] @ k[b, j]) / channels**0.5) if keep[b, j] else 0.0
                for j in range(count)
            ]
            result[b, i] = torch.tensor(shares) / sum(shares)
    return result


def masked_afterwards(q, k, mask):
    weights = attention(q, k, torch.ones_like(mask))
    return weights * ~padding(mask, q.shape[1])[:, None]


def only_real_keys(q, k, mask):
    """The softmax over the real keys of each phrase, zeros for the rest."""
    result = []
    for one, other, away in zip(q, k, padding(mask, q.shape[1])):
        real = (one @ other[~away].T / q.shape[2] ** 0.5).softmax(1)
        result.append(F.pad(real, (0, int(away.sum()))))
    return torch.stack(result)


def cut(weights, pixels, rows_ask=True, words_first=False):
    words = len(weights) - pixels
    if words_first:
        word, pixel = weights.split([words, pixels])
    else:
        pixel, word = weights.split([pixels, words])
    sizes, at = ([words, pixels], (1, 0)) if words_first else ([pixels, words], (0, 1))
    pp, pw = (pixel.split(sizes, dim=1)[i] for i in at)
    wp, ww = (word.split(sizes, dim=1)[i] for i in at)
    if not rows_ask:
        pw, wp = wp, pw
    return {"word-word": ww, "word-pixel": wp, "pixel-word": pw, "pixel-pixel": pp}


def places(height, width, channels, start=0, swap=False, columns=False, together=False, base=None):
    """Number by number."""
    half = channels // 2
    result = torch.zeros(height * width, channels)
    for row in range(height):
        for column in range(width):
            number = column * height + row if columns else row * width + column
            x, y = (row, column) if swap else (column, row)
            for part, place in ((0, x + start), (half, y + start)):
                for k in range(half // 2):
                    angle = place / 10000 ** (2 * k / (base or half))
                    at = (k, k + half // 2) if together else (2 * k, 2 * k + 1)
                    result[number, part + at[0]] = math.sin(angle)
                    result[number, part + at[1]] = math.cos(angle)
    return result


def by_meshgrid(height, width, channels):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    exponents = torch.arange(channels // 4) * 4 / channels
    angles = torch.stack((x, y), dim=-1)[..., None] * torch.exp(-math.log(10000) * exponents)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(height * width, channels)


def equation_1(
    visual,
    words,
    mask,
    positions,
    weights,
    heads,
    *,
    norm="first",
    place="after norm",
    join="transpose",
    residual=False,
    released=False,
    scale=None,
    masked=True,
    out=True,
    split="pieces",
):
    """Eq. 1 in the form of many code bases: heads as an axis, with whatever goes wrong."""
    batch, channels, height, width = visual.shape
    if join == "reshape":
        pixels = visual.view(batch, -1, channels)
    elif join == "columns":
        pixels = visual.permute(0, 3, 2, 1).flatten(1, 2)
    else:
        pixels = visual.permute(0, 2, 3, 1).flatten(1, 2)
    x = torch.cat((words, pixels) if join == "words first" else (pixels, words), 1)
    if place == "before norm":
        x = x + positions
    if norm == "first":
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        x = (x - mean) / (variance + 1e-5).sqrt()
    if norm == "sample variance":
        x = (x - x.mean(-1, keepdim=True)) / x.var(-1, keepdim=True).sqrt()
    if norm == "over all":
        x = F.layer_norm(x, x.shape[1:])
    keyed = valued = x
    if place == "after norm":
        keyed = x + positions
        valued = x if released else keyed

    def heads_of(y):
        if split in ("view", "view, joined well"):
            return y.reshape(batch, heads, -1, channels // heads)
        if split in ("interleaved", "interleaved, and back"):
            return y.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)
        return y.unflatten(-1, (heads, -1)).transpose(1, 2)

    q, k, v = (
        heads_of(y @ weights[n]) for n, y in (("query", keyed), ("key", keyed), ("value", valued))
    )
    scores = q @ k.mT * (scale(channels) if scale else (channels / heads) ** -0.5)
    if masked:
        scores = scores.masked_fill(padding(mask, x.shape[1])[:, None, None], -math.inf)
    mixed = scores.softmax(-1) @ v
    if split == "view":
        fused = mixed.reshape(batch, -1, channels)
    elif split == "interleaved, and back":
        fused = mixed.permute(0, 2, 3, 1).flatten(2)
    else:
        fused = mixed.transpose(1, 2).flatten(2)
    fused = fused @ weights["out"] if out else fused
    if place == "after attention":
        fused = fused + positions
    if norm == "last":
        fused = F.layer_norm(fused, (channels,))
    return keyed + fused if residual else fused


def changed(**how):
    return lambda *given: equation_1(*given, **how)


def with_torch(visual, words, mask, positions, weights, heads):
    x = torch.cat((visual.flatten(2).mT, words), dim=1)
    x = F.layer_norm(x, (x.shape[2],)) + positions
    split = [(x @ weights[n]).unflatten(2, (heads, -1)).mT for n in ("query", "key", "value")]
    q, k, v = (y.permute(0, 3, 1, 2) for y in split)  # (B, heads, N, c)
    keep = ~padding(mask, x.shape[1])[:, None, None]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    return torch.einsum("bhnc,hcd->bnd", mixed, weights["out"].unflatten(0, (heads, -1)))


def with_the_library(visual, words, mask, positions, weights, heads):
    module = MultiHeadAttention(visual.shape[1], heads)
    for name, weight in weights.items():
        getattr(module, name).weight.data = weight.T
    x = torch.nn.LayerNorm(visual.shape[1])(torch.cat((visual.flatten(2).mT, words), 1))
    return module(x + positions, x + positions, ~padding(mask, x.shape[1]))[0]


MISTAKES = {
    "attention weights": {
        "wrong axis": (lambda *given: attention(*given, axis=1), "runs over queries"),
        "no scale": (lambda *given: attention(*given, scale=1.0), "scale is missing"),
        "no root": (lambda *given: attention(*given, scale=1 / 5), "its root is meant"),
        "root of N": (lambda *given: attention(*given, scale=10**-0.5), "number of tokens"),
        "no mask": (lambda *given: attention(*given, masked=""), "not masked"),
        "masked with 0": (lambda *given: attention(*given, fill=0.0), "exp(0) is 1"),
        "masked with a tiny number": (lambda *given: attention(*given, fill=1e-9), "exp(0) is 1"),
        "masked after the softmax": (masked_afterwards, "no longer sum to 1"),
        "queries masked": (lambda *given: attention(*given, masked="queries"), "rows are NaN"),
        "queries masked with a number": (
            lambda q, k, m: (
                (q @ k.mT / 5**0.5).masked_fill(padding(m, 10)[:, :, None], -1e9).softmax(-1)
            ),
            "mask its columns",
        ),
        "queries and keys masked": (lambda *given: attention(*given, masked="both"), None),
        "mask in front": (lambda *given: attention(*given, front=True), "at the front"),
        "mask inside out": (lambda q, k, m: attention(q, k, ~m), "inside out"),
        "all shut but padding": (
            lambda q, k, m: (
                (q @ k.mT / 5**0.5)
                .masked_fill(~padding(m, 10)[:, None, :], float("-inf"))
                .softmax(-1)
            ),
            "all is shut but padding",
        ),
        "keys ask": (lambda q, k, m: attention(k, q, m), "swapped"),
        "scores": (lambda q, k, m: q @ k.mT / 5**0.5, None),
        "sigmoid": (lambda q, k, m: (q @ k.mT / 5**0.5).sigmoid(), None),
    },
    "the four blocks": {
        "names swapped": (lambda w, p: cut(w, p, rows_ask=False), "swapped"),
        "transposed": (lambda w, p: {n: b.T for n, b in cut(w, p, False).items()}, "transposed"),
        "words first": (lambda w, p: cut(w, p, words_first=True), "words came first"),
        "one too late": (lambda w, p: cut(w, p + 1), "one too late"),
        "each normalised": (
            lambda w, p: {n: b / b.sum(1)[:, None] for n, b in cut(w, p).items()},
            "rows sum to 1",
        ),
        "a list": (lambda w, p: list(cut(w, p).values()), None),
        "their sums": (lambda w, p: {n: b.sum() for n, b in cut(w, p).items()}, None),
        "three of four": (
            lambda w, p: {n: b for n, b in cut(w, p).items() if n != "word-pixel"},
            None,
        ),
    },
    "positions of pixels": {
        "swapped": (lambda *given: places(*given, swap=True), "x and y are swapped"),
        "from 1": (lambda *given: places(*given, start=1), "start at 1"),
        "down the columns": (lambda *given: places(*given, columns=True), "down the columns"),
        "sines, then cosines": (lambda *given: places(*given, together=True), "alternate"),
        "all C in the exponent": (lambda h, w, c: places(h, w, c, base=c), "too slowly"),
        "one number a pixel": (
            lambda h, w, c: torch.stack(
                [
                    (torch.arange(h * w) / 10000 ** (n // 2 * 2 / c) + n % 2 * math.pi / 2).sin()
                    for n in range(c)
                ],
                dim=1,
            ),
            "number the pixels",
        ),
        "from 0 to 1": (
            lambda h, w, c: by_meshgrid_over(h, w, c, h - 1, w - 1),
            "0 ... 1",
        ),
        "as a grid": (lambda h, w, c: places(h, w, c).view(h, w, c), None),
        "channels first": (lambda h, w, c: places(h, w, c).T, None),
        "cosine before sine": (
            lambda h, w, c: places(h, w, c).unflatten(1, (-1, 2)).flip(2).flatten(1),
            None,
        ),
        "x and y added": (
            lambda h, w, c: places(h, w, c) + places(h, w, c, swap=True),
            None,
        ),
    },
    "Equation 1": {
        "positions after attention": (changed(place="after attention"), "after your attention"),
        "positions before LayerNorm": (changed(place="before norm"), "before your LayerNorm"),
        "LayerNorm last": (changed(norm="last"), "LayerNorm comes last"),
        "no LayerNorm": (changed(norm=""), "LayerNorm is missing"),
        "no positions": (changed(place=""), "positions are missing"),
        "released": (changed(released=True), "queries and keys only"),
        "residual": (changed(residual=True), "residual"),
        "reshape": (changed(join="reshape"), "mixes pixels and channels"),
        "columns": (changed(join="columns"), "down the columns"),
        "no mask": (changed(masked=False), "not masked"),
        "scale of all channels": (changed(scale=lambda c: c**-0.5), "each head has"),
        "no scale": (changed(scale=lambda c: 1.0), None),
        "no last projection": (changed(out=False), "last projection"),
        "sample variance": (changed(norm="sample variance"), "C - 1"),
        "one head": (lambda *given: equation_1(*given[:5], 1), "one head"),
        "words first": (changed(join="words first"), None),
        "heads by view": (changed(split="view"), "tokens and channels, twice"),
        "heads by view, joined well": (changed(split="view, joined well"), "view(B, heads"),
        "interleaved heads": (changed(split="interleaved"), "side by side"),
        "interleaved, and back": (changed(split="interleaved, and back"), "give them back so"),
        "LayerNorm over all tokens": (changed(norm="over all"), "over all tokens"),
        "weights transposed": (
            lambda v, words, m, p, weights, h: equation_1(
                v, words, m, p, {n: w.T for n, w in weights.items()}, h
            ),
            None,
        ),
        "pixels alone": (
            lambda v, *rest: equation_1(v, *rest)[:, : v.shape[2] * v.shape[3]],
            None,
        ),
    },
}

ALTERNATIVES = {
    "attention weights": {
        "einsum": attention,
        "loops": by_loops,
        "real keys alone": only_real_keys,
        "a large number": lambda *given: attention(*given, fill=-1e9),
        "query scaled first": lambda q, k, m: attention(q / q.shape[2] ** 0.5, k, m, scale=1.0),
    },
    "the four blocks": {
        "split": cut,
        "chosen by a mask": lambda w, p: {
            f"{one}-{other}": w[rows][:, columns]
            for one, rows in (("pixel", torch.arange(p)), ("word", torch.arange(p, len(w))))
            for other, columns in (("pixel", slice(0, p)), ("word", slice(p, len(w))))
        },
    },
    "positions of pixels": {"number by number": places, "meshgrid": by_meshgrid},
    "Equation 1": {
        "heads as an axis": equation_1,
        "torch's attention": with_torch,
        "the library's": with_the_library,
    },
}


def by_meshgrid_over(height, width, channels, down, across):
    """Waves of x / across and y / down."""
    half = channels // 2
    exponents = torch.arange(0, half, 2) / half
    x = (torch.arange(height * width) % width) / across
    y = torch.div(torch.arange(height * width), width, rounding_mode="floor") / down
    waves = []
    for numbers in (x, y):
        angles = numbers[:, None] / 10000**exponents
        waves.append(torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1))
    return torch.cat(waves, dim=1)
