"""Section 3.2: the Synchronous Multi-Modal Fusion Module, Eq. 1.

Pixels and words stand in one sequence of N = H*W + T, and one attention does everything at once:
pixel-pixel, pixel-word, word-pixel and word-word.

Two forms. `PrintedSFM` is Eq. 1 as printed. `ReleasedSFM` is what the authors' code runs: pre-norm
transformer layers with residuals and a feed-forward network. They share attention and positions.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoids(positions: Tensor, channels: int) -> Tensor:
    """Sines and cosines of falling frequency, interleaved: (P,) -> (P, channels)."""
    steps = torch.arange(0, channels, 2, device=positions.device)
    frequencies = 10000.0 ** (-steps / channels)
    angles = positions.unsqueeze(1) * frequencies  # (P, channels / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def word_positions(length: int, channels: int, device: torch.device | None = None) -> Tensor:
    """P_l: one sinusoid vector a word, (T, C)."""
    return sinusoids(torch.arange(length, device=device, dtype=torch.float32), channels)


def pixel_positions(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> Tensor:
    """P_v: half of the channels tells x, the other half y. (H*W, C), row by row."""
    across = word_positions(width, channels // 2, device)  # (W, C/2)
    down = word_positions(height, channels // 2, device)  # (H, C/2)
    across = across.unsqueeze(0).expand(height, -1, -1)  # (H, W, C/2)
    down = down.unsqueeze(1).expand(-1, width, -1)  # (H, W, C/2)
    return torch.cat((across, down), dim=-1).flatten(0, 1)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with several heads, written so that each step can be read.

    The N x N weights are only materialised when asked for: at a 40 x 40 grid they are most of the
    memory. `dropout` is the share of them that training takes away.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)  # torch's own start leaves all weights alike
            nn.init.zeros_(linear.bias)

    def forward(
        self, keyed: Tensor, valued: Tensor, keep: Tensor, return_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Queries and keys come from `keyed`, values from `valued`, both (B, N, C).

        `keep (B, N)` is False at padded words, which nobody may look at.
        Returns (B, N, C) and, if asked, the weights (B, heads, N, N) whose rows sum to 1: before
        dropout.
        """
        query = self._split(self.query(keyed))  # (B, N, C) -> (B, heads, N, C / heads)
        key = self._split(self.key(keyed))
        value = self._split(self.value(valued))
        mask = keep[:, None, None, :]  # the same for every head and every query
        dropout = self.dropout if self.training else 0.0
        if return_weights:
            scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (B, heads, N, N)
            weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
            mixed = F.dropout(weights, dropout) @ value
        else:
            weights = None
            mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        return self.out(mixed.transpose(1, 2).flatten(2)), weights  # (B, N, C)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class PrintedSFM(nn.Module):
    """Eq. 1 as printed: X = LayerNorm(V (+) L); X = X + (P_v (+) P_l); F = MultiHead(X)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = MultiHeadAttention(channels, heads)

    def forward(
        self, joint: Tensor, positions: Tensor, keep: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, list[Tensor | None]]:
        """`joint` V (+) L (B, N, C), `positions` (N, C), `keep` (B, N) -> F (B, N, C)."""
        x = self.norm(joint) + positions
        fused, weights = self.attention(x, x, keep, return_attention)
        return fused, [weights]


class EncoderLayer(nn.Module):
    """One pre-norm layer of the released code: positions go to queries and keys, not to values.

    One rate of dropout for the attention's weights, the feed-forward network and both residuals.
    """

    def __init__(self, channels: int, heads: int, feedforward: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(channels)
        self.attention = MultiHeadAttention(channels, heads, dropout)
        self.norm_2 = nn.LayerNorm(channels)
        self.feedforward = nn.Sequential(
            nn.Linear(channels, feedforward),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(feedforward, channels),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, positions: Tensor, keep: Tensor, return_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        normed = self.norm_1(x)
        mixed, weights = self.attention(normed + positions, normed, keep, return_attention)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.feedforward(self.norm_2(x))), weights


class ReleasedSFM(nn.Module):
    """What the authors' code runs in place of Eq. 1: encoder layers, then a last LayerNorm."""

    def __init__(
        self, channels: int, heads: int, layers: int, feedforward: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(channels, heads, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, joint: Tensor, positions: Tensor, keep: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, list[Tensor | None]]:
        """`joint` V (+) L (B, N, C), `positions` (N, C), `keep` (B, N) -> F (B, N, C)."""
        attention = []
        for layer in self.layers:
            joint, weights = layer(joint, positions, keep, return_attention)
            attention.append(weights)
        return self.norm(joint), attention


class SFM(nn.Module):
    """Join pixels and words, attend, take them apart again.

    `form` is "printed" or "released"; only the latter has `layers`, `feedforward` and `dropout`.
    Levels of a batch are stacked, so that one call serves all three (`share=True`, as the released
    code shares its weights); with `share=False` each has its own.
    """

    def __init__(
        self,
        form: str,
        channels: int,
        heads: int,
        layers: int = 2,
        feedforward: int = 256,
        positions: bool = True,
        share: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        block = {
            "printed": partial(PrintedSFM, channels, heads),
            "released": partial(ReleasedSFM, channels, heads, layers, feedforward, dropout),
        }[form]
        self.blocks = nn.ModuleList(block() for _ in range(1 if share else 3))
        self.positions = positions

    def forward(
        self,
        visual_feats: list[Tensor],
        word_feats: Tensor,
        word_mask: Tensor,
        return_attention: bool = False,
    ) -> tuple[list[Tensor], list[Tensor], list[list[Tensor | None]]]:
        """Three (B, C, H, W), (B, T, C), (B, T) -> f^v three (B, C, H, W), f^l three (B, T, C).

        The third result holds, a level, the layers' attention weights (B, heads, N, N) if asked.
        """
        height, width = visual_feats[0].shape[-2:]
        joint = [  # V (+) L, length-wise: (B, H*W + T, C), pixels first
            torch.cat((visual.flatten(2).transpose(1, 2), word_feats), dim=1)
            for visual in visual_feats
        ]
        pixels = word_mask.new_ones(len(word_mask), height * width)
        keep = torch.cat((pixels, word_mask), dim=1)  # (B, N)
        positions = self._positions(height, width, word_feats)

        if len(self.blocks) == 1:
            levels = len(joint)
            stacked, weights = self.blocks[0](
                torch.cat(joint), positions, keep.repeat(levels, 1), return_attention
            )
            fused = stacked.chunk(levels)
            by_layer = [[None] * levels if w is None else w.chunk(levels) for w in weights]
            attention = [list(level) for level in zip(*by_layer, strict=True)]
        else:
            results = [
                block(x, positions, keep, return_attention)
                for block, x in zip(self.blocks, joint, strict=True)
            ]
            fused = [result[0] for result in results]
            attention = [result[1] for result in results]

        visual = [
            x[:, : height * width].transpose(1, 2).unflatten(2, (height, width)) for x in fused
        ]
        words = [x[:, height * width :] for x in fused]
        return visual, words, attention

    def _positions(self, height: int, width: int, word_feats: Tensor) -> Tensor:
        """P_v (+) P_l (N, C); zeros for Table 2's row 7, "w/o P.E."."""
        _, length, channels = word_feats.shape
        device = word_feats.device
        if not self.positions:
            return torch.zeros(height * width + length, channels, device=device)
        return torch.cat(
            (
                pixel_positions(height, width, channels, device),
                word_positions(length, channels, device),
            )
        )
