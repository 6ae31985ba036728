"""What Tables 2 and 4 put in HCAM's place: other ways to make one map of three levels.

Each takes what HCAM takes, f^v three (B, C, H, W), f^l three (B, T, C) and the word mask, and
returns (B, C, H, W). The formulas are those of the papers Table 4 cites, in the form their code
gives them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shnet_lib.model.features import average_words
from shnet_lib.model.hcam import HCAM, DepthConvolution

ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))  # each level once first, with the other two behind it


class Concatenation(nn.Module):
    """No fusion module at all: everything side by side, mixed by a 1 x 1 convolution.

    Without SFM this is Table 2's baseline, [V_i ; tiled sentence] for the three levels; with SFM it
    is "Only SFM". The paper does not say how three levels become the decoder's one: this is our
    choice.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(6 * channels, channels, 1), nn.BatchNorm2d(channels), nn.LeakyReLU()
        )

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        tiled = [
            average_words(level, word_mask)[:, :, None, None].expand_as(visual[0])
            for level in words
        ]
        return self.mix(torch.cat([*visual, *tiled], dim=1))  # (B, 6C, H, W) -> (B, C, H, W)


class Conv3D(nn.Module):
    """Table 2, row 5: HCAM's last step without the exchange before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.aggregate = DepthConvolution(channels)

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        return self.aggregate(visual)


class ConvLSTM(nn.Module):
    """Table 2, row 4: the levels as three time steps of a convolutional LSTM; its last state."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        hidden = cell = torch.zeros_like(visual[0])
        for level in visual:
            gates = self.gates(torch.cat((level, hidden), dim=1))  # (B, 2C, H, W) -> (B, 4C, H, W)
            update, forget, output, candidate = gates.chunk(4, dim=1)
            cell = forget.sigmoid() * cell + update.sigmoid() * candidate.tanh()
            hidden = output.sigmoid() * cell.tanh()
        return hidden


class MGATE(nn.Module):
    """Table 4, "MGATE" (Ye et al., 2019): each level, gated by the memory of the other two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Conv2d(channels, 3 * channels, 3, padding=1) for _ in ORDERS)

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        gated = 0
        for gate, (i, j, k) in zip(self.gates, ORDERS, strict=True):
            candidate, forget, reset = gate(visual[i]).chunk(3, dim=1)
            forget, reset = (forget + 1).sigmoid(), (reset + 1).sigmoid()
            memory = forget * (visual[j] + visual[k]) / 2 + (1 - forget) * candidate
            gated = gated + reset * memory.tanh() + (1 - reset) * visual[i]
        return gated


class TGFE(nn.Module):
    """Table 4, "TGFE" (Huang et al., 2020): a level's global vector gates what others send it."""

    rounds = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attend_visual = nn.Conv2d(channels, channels, 1)
        self.attend_sentence = nn.Conv2d(channels, channels, 1)
        self.join = nn.Conv2d(2 * channels, channels, 1)
        self.send = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        sentence = sum(average_words(level, word_mask) for level in words) / len(words)
        return self.exchange(visual, sentence[:, :, None, None])

    def exchange(self, levels: list[Tensor], sentence: Tensor) -> Tensor:
        """Three (B, C, H, W) and one sentence (B, C, 1, 1) -> (B, C, H, W)."""
        for _ in range(self.rounds):
            levels = [
                self._receive(levels[i], (levels[j], levels[k]), sentence) for i, j, k in ORDERS
            ]
        return sum(levels)

    def _receive(self, level: Tensor, others: tuple[Tensor, Tensor], sentence: Tensor) -> Tensor:
        gate = self.gate(self._global_vector(level, sentence)).sigmoid()  # (B, C, 1, 1)
        received = sum(self.send(other).relu() * gate for other in others)
        return F.normalize(level + received, dim=1)

    def _global_vector(self, level: Tensor, sentence: Tensor) -> Tensor:
        """Where the sentence looks in a level, and what it finds there: (B, C, 1, 1)."""
        key = self.attend_visual(level).relu()
        query = self.attend_sentence(sentence).relu()
        weights = (key * query).sum(1, keepdim=True).flatten(2).softmax(-1)  # (B, 1, H*W)
        pooled = (level.flatten(2) * weights).sum(-1)[:, :, None, None]
        return F.normalize(self.join(torch.cat((pooled, sentence), dim=1)).relu(), dim=1)


class GBFM(nn.Module):
    """Table 4, "GBFM" (Hui et al., 2020): gated fusion, from both ends of the hierarchy."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(2 * channels, channels, 1)
        self.meet = nn.Conv2d(2 * channels, channels, 1)
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        first, second, third = (
            self._with_sentence(level, average_words(level_words, word_mask))
            for level, level_words in zip(visual, words, strict=True)
        )
        down = self._pass(self._pass(third, second), self._pass(second, first))
        up = self._pass(self._pass(first, second), self._pass(second, third))
        return self.out(down + up)

    def _with_sentence(self, level: Tensor, sentence: Tensor) -> Tensor:
        tiled = sentence[:, :, None, None].expand_as(level)
        return self.join(torch.cat((level, tiled), dim=1)).relu()

    def _pass(self, sender: Tensor, receiver: Tensor) -> Tensor:
        together = self.meet(torch.cat((sender, receiver), dim=1)).relu()
        return self.gate(together).sigmoid() * sender + receiver


FUSIONS: dict[str, type[nn.Module]] = {
    "hcam": HCAM,
    "conv3d": Conv3D,
    "convlstm": ConvLSTM,
    "mgate": MGATE,
    "tgfe": TGFE,
    "gbfm": GBFM,
    "none": Concatenation,
}
