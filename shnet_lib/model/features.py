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
        # Pooling also makes indices, 8 bytes per number: never those of a whole batch at a time.
        pooled = torch.cat([self.pool(images) for images in level.split(8)])
        return self.activation(self.norm(self.conv(pooled)))


class WordEncoder(nn.Module):
    """Words -> vectors -> LSTM; "the hidden feature of LSTM at ith time step" is the i-th word's.

    The LSTM reads from left to right and padding stands at the end, so that no padded word can
    change a real one.
    """

    def __init__(self, word_vectors: Tensor, channels: int, trainable: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(word_vectors, freeze=not trainable)
        self.lstm = nn.LSTM(word_vectors.shape[1], channels, batch_first=True)
        self._start_loud(word_vectors)

    def _start_loud(self, word_vectors: Tensor) -> None:
        """Let each word move the gates by one unit at the start, whatever its vector's length.

        With torch's own start a one-hot word changes its features by some hundredths, and all
        words sound alike. The paper does not say how the LSTM starts.
        """
        with torch.no_grad():
            length = word_vectors.norm(dim=1).mean().clamp(min=1e-6)
            self.lstm.weight_ih_l0.normal_().div_(length)
        nn.init.orthogonal_(self.lstm.weight_hh_l0)
        nn.init.zeros_(self.lstm.bias_ih_l0)
        nn.init.zeros_(self.lstm.bias_hh_l0)

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
