"""Section 3.3: the Hierarchical Cross-Modal Aggregation Module, Eqs. 2 and 3.

Each level asks the other two, through their sentence, where to look: an affinity map gates what it
takes from them. A 3-D convolution then reads the three enriched levels together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shnet_lib.model.features import average_words

OTHERS = {0: (1, 2), 1: (0, 2), 2: (0, 1)}  # j != i, for the levels 2, 3, 4 at indices 0, 1, 2


class Affinity(nn.Module):
    """Lambda_ij of Eq. 2: sigmoid(Conv([f^v_i ; f^{l avg}_j])), one convolution per level i.

    "Conv" is a 3 x 3 convolution and a BatchNorm, as in the released code, whose dropout stands
    before the sigmoid: where a channel is taken away, the gate is not shut but half open.
    """

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, visual: Tensor, sentences: list[Tensor]) -> list[Tensor]:
        """(B, C, H, W) and several (B, C) -> as many affinities (B, C, H, W) in (0, 1).

        A convolution over [visual ; tiled sentence] is a convolution over the visual half plus one
        over the sentence half. The first is the same for every sentence: it is computed once.
        """
        visual_kernel, sentence_kernel = self.conv.weight.chunk(2, dim=1)
        from_visual = F.conv2d(visual, visual_kernel, self.conv.bias, padding=1)
        height, width = visual.shape[-2:]
        joined = [
            from_visual + convolve_tiled(sentence, sentence_kernel, height, width)
            for sentence in sentences
        ]
        return [self.dropout(self.norm(one)).sigmoid() for one in joined]


def convolve_tiled(sentence: Tensor, kernel: Tensor, height: int, width: int) -> Tensor:
    """Convolve a vector tiled over a grid, without tiling it: (B, C) -> (B, C', H, W).

    With zero padding the result takes only nine values: four corners, four edges, the inside. So a
    3 x 3 grid is convolved, and each cell of the large grid looks its value up.
    """
    small_height, small_width = min(height, 3), min(width, 3)
    small = sentence[:, :, None, None].expand(-1, -1, small_height, small_width)
    nine = F.conv2d(small, kernel, padding=1)  # (B, C', 3, 3)
    row = _border_index(height, small_height, sentence.device)
    column = _border_index(width, small_width, sentence.device)
    return nine[:, :, row[:, None], column]


def _border_index(length: int, small: int, device: torch.device) -> Tensor:
    """0, 1, 1, ..., 1, 2: which cell of the small grid stands for each cell of the large one."""
    index = torch.ones(length, dtype=torch.long, device=device)
    index[0] = 0
    index[-1] = small - 1
    return index


class DepthConvolution(nn.Module):
    """Conv3D of Eq. 3: three levels stacked in depth, one 3 x 3 x 3 kernel, depth 3 -> 1.

    The depth is not padded, so the kernel fits it in one place only and the 3-D convolution *is* a
    2-D one over 3C stacked channels. It is written as that.
    """

    def __init__(self, channels: int, outputs: int | None = None) -> None:
        super().__init__()
        outputs = outputs or channels
        self.conv = nn.Conv2d(3 * channels, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Three (B, C, H, W) -> (B, C, H, W)."""
        return self.norm(self.conv(torch.cat(levels, dim=1)))


class HCAM(nn.Module):
    """Hierarchical Cross-Modal Exchange, then Hierarchical Aggregation (Figure 3)."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.affinity = nn.ModuleList(Affinity(channels, dropout) for _ in range(3))
        self.aggregate = DepthConvolution(channels)

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        """f^v three (B, C, H, W), f^l three (B, T, C), (B, T) -> the context G (B, C, H, W)."""
        sentences = [average_words(level, word_mask) for level in words]  # three (B, C)
        exchanged = []
        for i, others in OTHERS.items():
            affinities = self.affinity[i](visual[i], [sentences[j] for j in others])  # Eq. 2
            gathered = [
                affinity * visual[j] for affinity, j in zip(affinities, others, strict=True)
            ]
            exchanged.append(visual[i] + sum(gathered))  # g_i of Eq. 3
        return self.aggregate(exchanged)
