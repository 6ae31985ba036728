"""Section 3.1, second half: every level to one grid, every word to a vector.

V_2, V_3, V_4 become `visual_feats (B, C, H, W)`, all of one size, and L becomes
`word_feats (B, T, C)`: from here on a pixel and a word are both a point in C dimensions.
"""

import torch
from torch import Tensor, nn


class LevelProjection(nn.Module):
    """One level to the common grid: "through pooling and convolution operations" (section 3.1).

    The paper gives no more than that. As in the released code: adaptive max-pooling to 2H x 2W,
    then a 3 x 3 convolution of stride 2 to C channels, BatchNorm, LeakyReLU.
    """

    def __init__(self, level_channels: int, channels: int, grid: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(2 * grid)
        self.conv = nn.Conv2d(level_channels, channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.LeakyReLU()

    def forward(self, level: Tensor) -> Tensor:
        """(I, C_level, h, w) -> (I, C, H, W)."""
        return self.activation(self.norm(self.conv(self.pool(level))))


class WordEncoder(nn.Module):
    """Words -> vectors -> LSTM; "the hidden feature of LSTM at ith time step" is the i-th word's.

    The LSTM reads from left to right and padding stands at the end, so that no padded word can
    change a real one.
    """

    def __init__(self, word_vectors: Tensor, channels: int, trainable: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(word_vectors, freeze=not trainable)
        self.lstm = nn.LSTM(word_vectors.shape[1], channels, batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        """(B, T) word ids -> (B, T, C) word features."""
        word_feats, _ = self.lstm(self.embedding(words))
        return word_feats


def average_words(word_feats: Tensor, word_mask: Tensor) -> Tensor:
    """f^{l avg} of Eq. 2, the "length-wise average": (B, T, C), (B, T) -> (B, C).

    Only real words count; an average over padding too would depend on the batch's longest sentence.
    """
    weights = word_mask.unsqueeze(-1).to(word_feats.dtype)  # (B, T, 1)
    return (word_feats * weights).sum(1) / weights.sum(1)


def onehot_vectors(vocabulary_size: int) -> Tensor:
    """Table 2, row 6 ("w/o Glove"): each word is its own axis. (V, V)."""
    return torch.eye(vocabulary_size)
