"""The checks of exercise 03: attention over pixels and words, its blocks, positions, Eq. 1."""

import random
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from shnet_course.checks.core import Exercise, add_exercise, padded_words, seed_torch
from shnet_course.pictures.checks import compare_maps
from shnet_lib.model.sfm import pixel_positions

LESSON = "03_sfm"


# --- attention ------------------------------------------------------------------------------------


def _queries_and_keys(source: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    """query, key (B, N, c) of 6 pixels and 4 words, word_mask (B, 4); padding is loud."""
    seed_torch(source)
    word_mask = padded_words(source, phrases=2)
    query, key = torch.randn(2, 10, 5), torch.randn(2, 10, 5)
    return query, torch.where(_keep(word_mask, 6)[..., None], key, 3 * key), word_mask


def _keep(word_mask: Tensor, pixels: int) -> Tensor:
    """(B, T) -> (B, N): all pixels are real."""
    return torch.cat((word_mask.new_ones(len(word_mask), pixels), word_mask), dim=1)


def attention_weights(query: Tensor, key: Tensor, word_mask: Tensor) -> Tensor:
    """(B, N, c), (B, N, c), (B, T) -> (B, N, N), rows sum to 1, nothing for padded words."""
    return _masked(_scores(query, key), word_mask).softmax(-1)


def _scores(query: Tensor, key: Tensor, scale: float | None = None) -> Tensor:
    return query @ key.transpose(-2, -1) / (scale or query.shape[-1] ** 0.5)


def _masked(scores: Tensor, word_mask: Tensor, value: float = float("-inf")) -> Tensor:
    keep = _keep(word_mask, scores.shape[-1] - word_mask.shape[-1])
    return scores.masked_fill(~keep[:, None, :], value)


def _mask_queries(query: Tensor, key: Tensor, word_mask: Tensor, value: float) -> Tensor:
    scores = _scores(query, key)
    keep = _keep(word_mask, scores.shape[-1] - word_mask.shape[-1])
    return scores.masked_fill(~keep[:, :, None], value).softmax(-1)


def _real_tokens_shut(query: Tensor, key: Tensor, word_mask: Tensor) -> Tensor:
    keep = _keep(word_mask, query.shape[1] - word_mask.shape[1])
    return _scores(query, key).masked_fill(keep[:, None, :], float("-inf")).softmax(-1)


def _words_first(query: Tensor, key: Tensor, word_mask: Tensor) -> Tensor:
    keep = _keep(word_mask, query.shape[1] - word_mask.shape[1])
    keep = keep.roll(word_mask.shape[1], dims=1)  # the words' part comes first
    return _scores(query, key).masked_fill(~keep[:, None, :], float("-inf")).softmax(-1)


add_exercise(
    LESSON,
    "attention weights",
    Exercise(
        attention_weights,
        _queries_and_keys,
        {
            "your softmax runs over queries: each *row* must sum to 1, over the keys": (
                lambda q, k, m: _masked(_scores(q, k), m).softmax(-2)
            ),
            "the scale is missing: divide the scores by the root of the number of channels": (
                lambda q, k, m: _masked(_scores(q, k, 1.0), m).softmax(-1)
            ),
            "you divide by the number of channels: its root is meant": (
                lambda q, k, m: _masked(_scores(q, k, q.shape[-1]), m).softmax(-1)
            ),
            "you scale by the number of tokens: the root of the number of channels is meant": (
                lambda q, k, m: _masked(_scores(q, k, q.shape[1] ** 0.5), m).softmax(-1)
            ),
            "padding is not masked: nobody may look at a padded word": (
                lambda q, k, m: _scores(q, k).softmax(-1)
            ),
            "a masked score of 0 still gets a share, since exp(0) is 1: minus infinity gets none": (
                lambda q, k, m: _masked(_scores(q, k), m, 0.0).softmax(-1)
            ),
            "you mask after the softmax: the rows no longer sum to 1": (
                lambda q, k, m: _masked(_scores(q, k).softmax(-1), m, 0.0)
            ),
            "you mask queries, and their rows are NaN: padding must not be *looked at*, as a key": (
                partial(_mask_queries, value=float("-inf"))
            ),
            "you mask queries: padding must not be *looked at*, so mask its columns, the keys": (
                partial(_mask_queries, value=-1e9)
            ),
            "your mask stands at the front: the pixels come first, the words last": _words_first,
            "your mask is inside out: word_mask is True at real words": (
                lambda q, k, m: attention_weights(q, k, ~m)
            ),
            "your mask is inside out: masked_fill writes where it is True, and all is shut but "
            "padding": _real_tokens_shut,
            "queries and keys are swapped: row i holds what query i finds in every key": (
                lambda q, k, m: attention_weights(k, q, m)
            ),
        },
        lambda target, found: compare_maps(target, found, "queries", "keys"),
    ),
)

# --- the four blocks ------------------------------------------------------------------------------


def _weights_and_pixels(source: random.Random) -> tuple[Tensor, int]:
    """A map (N, N) whose rows sum to 1, and how many of its tokens are pixels."""
    seed_torch(source)
    pixels, words = source.choice([4, 6]), source.choice([2, 3])
    return torch.randn(pixels + words, pixels + words).softmax(-1), pixels


def four_blocks(weights: Tensor, pixels: int) -> dict[str, Tensor]:
    """(N, N) -> the blocks by name; who asks stands first."""
    return _blocks(weights, slice(pixels), slice(pixels, None))


def _blocks(weights: Tensor, visual: slice, words: slice) -> dict[str, Tensor]:
    return {
        "pixel-pixel": weights[visual, visual],
        "pixel-word": weights[visual, words],
        "word-pixel": weights[words, visual],
        "word-word": weights[words, words],
    }


def _words_come_first(weights: Tensor, pixels: int) -> dict[str, Tensor]:
    length = len(weights) - pixels
    return _blocks(weights, slice(length, None), slice(length))


def _asked_first(weights: Tensor, pixels: int) -> dict[str, Tensor]:
    blocks = four_blocks(weights, pixels)
    swapped = {"pixel-word": blocks["word-pixel"], "word-pixel": blocks["pixel-word"]}
    return blocks | swapped


add_exercise(
    LESSON,
    "the four blocks",
    Exercise(
        four_blocks,
        _weights_and_pixels,
        {
            "pixel-word and word-pixel are swapped: who asks stands first, and rows ask": (
                _asked_first
            ),
            "your map is transposed: rows ask, columns are asked": (
                lambda weights, pixels: four_blocks(weights.T, pixels)
            ),
            "you cut as if the words came first: pixels come first": _words_come_first,
            "you cut one too late: with P pixels the first word is token P": (
                lambda weights, pixels: four_blocks(weights, pixels + 1)
            ),
            "your blocks' rows sum to 1: they are parts of rows that sum to 1 together": (
                lambda weights, pixels: {
                    name: block / block.sum(-1, keepdim=True)
                    for name, block in four_blocks(weights, pixels).items()
                }
            ),
        },
    ),
)

# --- positions ------------------------------------------------------------------------------------


def _height_width_channels(source: random.Random) -> tuple[int, int, int]:
    height, width = source.sample([2, 3, 4, 5], k=2)
    return height, width, source.choice([8, 12, 16])


def _waves(
    positions: Tensor, channels: int, interleaved: bool = True, over: int | None = None
) -> Tensor:
    """(P,) -> (P, channels). `over`: what the exponents are divided by, if not `channels`."""
    steps = torch.arange(0, channels, 2)
    angles = positions[:, None] * 10000.0 ** (-steps / (over or channels))  # (P, channels / 2)
    both = (angles.sin(), angles.cos())
    return torch.stack(both, dim=-1).flatten(1) if interleaved else torch.cat(both, dim=-1)


def _two_ways(
    height: int,
    width: int,
    channels: int,
    waves: Callable[[Tensor, int], Tensor] = _waves,
    first: int = 0,
    by_row: bool = True,
) -> Tensor:
    """Positions as in the library, from parts that can be exchanged."""
    across = waves(torch.arange(first, width + first).float(), channels // 2)  # (W, C/2)
    down = waves(torch.arange(first, height + first).float(), channels // 2)  # (H, C/2)
    both = torch.cat(
        (across.expand(height, -1, -1), down[:, None].expand(-1, width, -1)), dim=-1
    )  # (H, W, C)
    return (both if by_row else both.transpose(0, 1)).flatten(0, 1)


def _y_first(height: int, width: int, channels: int) -> Tensor:
    return pixel_positions(height, width, channels).roll(channels // 2, dims=1)


def _zero_to_one(height: int, width: int, channels: int) -> Tensor:
    def waves(positions: Tensor, half: int) -> Tensor:
        return _waves(positions / (len(positions) - 1), half)

    return _two_ways(height, width, channels, waves)


add_exercise(
    LESSON,
    "positions of pixels",
    Exercise(
        pixel_positions,
        _height_width_channels,
        {
            "x and y are swapped: the first half of the channels tells x, the column": _y_first,
            "your positions start at 1: the first column and the first row are 0": (
                partial(_two_ways, first=1)
            ),
            "your pixels go down the columns: row by row is wanted": (
                partial(_two_ways, by_row=False)
            ),
            "all sines stand before the cosines: they alternate, sine, cosine, sine, ...": (
                partial(_two_ways, waves=partial(_waves, interleaved=False))
            ),
            "your frequencies fall too slowly: x has only half of the channels, C / 2 of them": (
                lambda h, w, c: _two_ways(h, w, c, partial(_waves, over=c))
            ),
            "you number the pixels from 0 to H W: x and y are told apart here": (
                lambda h, w, c: _waves(torch.arange(h * w).float(), c)
            ),
            "you brought x and y to 0 ... 1: here they count pixels": _zero_to_one,
        },
        lambda target, found: compare_maps(target, found, "pixels", "channels"),
        tolerance=1e-3,
    ),
)

# --- Equation 1 -----------------------------------------------------------------------------------

Weights = dict[str, Tensor]


def _inputs_of_eq_1(source: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor, Weights, int]:
    """What Eq. 1 needs: V (B, C, H, W), L (B, T, C), word_mask, positions (N, C), weights, heads.

    V and L are of different loudness, so that leaving LayerNorm out is heard.
    """
    seed_torch(source)
    phrases, (height, width), channels = source.choice([1, 2]), source.sample([2, 3], k=2), 8
    positions = 2 * torch.randn(height * width + 4, channels)
    weights = {
        name: torch.randn(channels, channels) / channels**0.5
        for name in ("query", "key", "value", "out")
    }
    return (
        3 * torch.randn(phrases, channels, height, width) + 1,
        torch.randn(phrases, 4, channels),
        padded_words(source, phrases),
        positions,
        weights,
        source.choice([2, 4]),
    )


def sfm(
    visual: Tensor,
    word_feats: Tensor,
    word_mask: Tensor,
    positions: Tensor,
    weights: Weights,
    heads: int,
) -> Tensor:
    """Eq. 1 as printed: (B, C, H, W), (B, T, C), (B, T), (N, C), four (C, C) -> F (B, N, C)."""
    x = _norm(_join(visual, word_feats)) + positions
    return _multi_head(x, x, word_mask, weights, heads)


def _join(visual: Tensor, word_feats: Tensor) -> Tensor:
    """V (+) L: (B, N, C), pixels first."""
    return torch.cat((visual.flatten(2).transpose(1, 2), word_feats), dim=1)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _multi_head(
    keyed: Tensor, valued: Tensor, word_mask: Tensor, weights: Weights, heads: int
) -> Tensor:
    """Queries and keys from `keyed`, values from `valued`, both (B, N, C) -> (B, N, C)."""
    split = [
        (x @ weights[name]).chunk(heads, dim=-1)
        for name, x in (("query", keyed), ("key", keyed), ("value", valued))
    ]
    mixed = [attention_weights(q, k, word_mask) @ v for q, k, v in zip(*split, strict=True)]
    return torch.cat(mixed, dim=-1) @ weights["out"]


def _eq_1_with(
    before: Callable[[Tensor, Tensor], Tensor] = lambda joint, positions: _norm(joint) + positions,
    after: Callable[[Tensor, Tensor], Tensor] = lambda fused, positions: fused,
    join: Callable[[Tensor, Tensor], Tensor] = _join,
) -> Callable[..., Tensor]:
    """Eq. 1 with another order of steps around its attention."""

    def answer(visual, word_feats, word_mask, positions, weights, heads):
        x = before(join(visual, word_feats), positions)
        return after(_multi_head(x, x, word_mask, weights, heads), positions)

    return answer


def _reshaped(visual: Tensor, word_feats: Tensor) -> Tensor:
    batch, channels, height, width = visual.shape
    return torch.cat((visual.reshape(batch, height * width, channels), word_feats), dim=1)


def _as_released(visual, word_feats, word_mask, positions, weights, heads):
    x = _norm(_join(visual, word_feats))
    return _multi_head(x + positions, x, word_mask, weights, heads)


def _with_residual(visual, word_feats, word_mask, positions, weights, heads):
    x = _norm(_join(visual, word_feats)) + positions
    return x + _multi_head(x, x, word_mask, weights, heads)


def _heads_scaled_alike(visual, word_feats, word_mask, positions, weights, heads):
    """Scores divided by the root of C, not of C / heads: as if the query were that much weaker."""
    weaker = weights | {"query": weights["query"] / heads**0.5}
    return sfm(visual, word_feats, word_mask, positions, weaker, heads)


def _with_other_heads(
    cut: Callable[[Tensor, int], Tensor], join: Callable[[Tensor], Tensor]
) -> Callable[..., Tensor]:
    """Eq. 1 with heads cut from (B, N, C) to (heads, B, N, c), and joined, in another way."""

    def answer(visual, word_feats, word_mask, positions, weights, heads):
        x = _norm(_join(visual, word_feats)) + positions
        split = [cut(x @ weights[name], heads) for name in ("query", "key", "value")]
        mixed = [attention_weights(q, k, word_mask) @ v for q, k, v in zip(*split, strict=True)]
        return join(torch.stack(mixed)) @ weights["out"]

    return answer


def _in_turn(y: Tensor, heads: int) -> Tensor:
    """Channel 0 to the first head, channel 1 to the second, ..."""
    return y.unflatten(-1, (-1, heads)).movedim(-1, 0)


def _viewed(y: Tensor, heads: int) -> Tensor:
    """The row of N * C numbers cut anew, so that a head has whole tokens in place of channels."""
    return y.reshape(len(y), heads, y.shape[1], -1).transpose(0, 1)


def _viewed_back(mixed: Tensor) -> Tensor:
    heads, phrases, tokens, channels = mixed.shape
    return mixed.transpose(0, 1).reshape(phrases, tokens, heads * channels)


def _side_by_side(mixed: Tensor) -> Tensor:
    return torch.cat(tuple(mixed), dim=-1)


def _normed_by_sample_variance(joint: Tensor, positions: Tensor) -> Tensor:
    return (joint - joint.mean(-1, keepdim=True)) / joint.std(-1, keepdim=True) + positions


add_exercise(
    LESSON,
    "Equation 1",
    Exercise(
        sfm,
        _inputs_of_eq_1,
        {
            "positions come after your attention: then nobody knew them while looking": (
                _eq_1_with(
                    before=lambda joint, positions: _norm(joint),
                    after=lambda fused, positions: fused + positions,
                )
            ),
            "positions come before your LayerNorm: Eq. 1 adds them after it": (
                _eq_1_with(before=lambda joint, positions: _norm(joint + positions))
            ),
            "your LayerNorm comes last: Eq. 1 begins with it": (
                _eq_1_with(
                    before=lambda joint, positions: joint + positions,
                    after=lambda fused, positions: _norm(fused),
                )
            ),
            "LayerNorm is missing: the louder of V and L drowns the other": (
                _eq_1_with(before=lambda joint, positions: joint + positions)
            ),
            "positions are missing: nobody knows where a token stands": (
                _eq_1_with(before=lambda joint, positions: _norm(joint))
            ),
            "you add positions to queries and keys only: that is the released code, not Eq. 1": (
                _as_released
            ),
            "you add a residual: that is the released code, Eq. 1 has none": _with_residual,
            "reshape mixes pixels and channels: (B, C, H, W) wants flatten, then transpose": (
                _eq_1_with(join=_reshaped)
            ),
            "your pixels go down the columns: row by row, as positions do": (
                _eq_1_with(join=lambda visual, words: _join(visual.transpose(2, 3), words))
            ),
            "padding is not masked: nobody may look at a padded word": (
                lambda v, l_, mask, *rest: sfm(v, l_, torch.ones_like(mask), *rest)
            ),
            "each head has C / heads channels: the root of that number is its scale": (
                _heads_scaled_alike
            ),
            "you use one head: cut the channels into `heads` pieces that attend apart": (
                lambda *inputs: sfm(*inputs[:-1], 1)
            ),
            "the last projection is missing: multiply the heads' results by weights['out']": (
                lambda v, l_, mask, p, weights, heads: sfm(
                    v, l_, mask, p, weights | {"out": torch.eye(len(p[0]))}, heads
                )
            ),
            "view(B, heads, N, ..) mixes tokens and channels: (B, N, heads, ..), then transpose": (
                _with_other_heads(_viewed, _side_by_side)
            ),
            "view mixes tokens and channels, twice: (B, N, heads, ..), then transpose, and back": (
                _with_other_heads(_viewed, _viewed_back)
            ),
            "your heads take channels in turn: each takes C / heads that stand side by side": (
                _with_other_heads(_in_turn, _side_by_side)
            ),
            "your heads take channels in turn, and give them back so: cut piece after piece": (
                _with_other_heads(_in_turn, lambda mixed: mixed.movedim(0, -1).flatten(-2))
            ),
            "your LayerNorm runs over all tokens: each token gets its own mean and variance": (
                _eq_1_with(before=lambda joint, p: F.layer_norm(joint, joint.shape[1:]) + p)
            ),
            "your variance divides by C - 1: LayerNorm divides by C": (
                _eq_1_with(before=_normed_by_sample_variance)
            ),
        },
    ),
)
