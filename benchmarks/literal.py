"""SHNet written as the formulas stand, without any of the library's savings.

The same parameters under the same names and the same results, but
- everything is computed once an expression, the backbone and the projections too;
- SFM is called level by level, and its attention weights are kept;
- HCAM tiles the sentence, joins it to the visual features and convolves both, for each j anew;
- its aggregation is a Conv3d over stacked levels;
- the decoder doubles its map, then convolves it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shnet_lib.model.decoder import UpsamplingConvolution
from shnet_lib.model.features import average_words
from shnet_lib.model.hcam import HCAM, OTHERS
from shnet_lib.model.sfm import SFM
from shnet_lib.model.shnet import ModelConfig, SHNet

CONV_3D = "fusion.aggregate.conv.weight"


class LiteralSFM(SFM):
    def forward(self, visual_feats, word_feats, word_mask, return_attention=False):
        visual, words, attention = [], [], []
        for level in visual_feats:
            one = super().forward([level], word_feats, word_mask, return_attention=True)
            for results, result in zip((visual, words, attention), one, strict=True):
                results += result
        return visual, words, attention


class LiteralDepthConvolution(nn.Module):
    """Conv3D of Eq. 3 as printed: (B, C, 3, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.norm(self.conv(torch.stack(levels, dim=2))).squeeze(2)


class LiteralHCAM(HCAM):
    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__(channels, dropout)
        self.aggregate = LiteralDepthConvolution(channels)

    def forward(self, visual: list[Tensor], words: list[Tensor], word_mask: Tensor) -> Tensor:
        sentences = [average_words(level, word_mask) for level in words]
        exchanged = []
        for i, others in OTHERS.items():
            gathered = visual[i]
            for j in others:
                tiled = sentences[j][:, :, None, None].expand_as(visual[i])
                joined = torch.cat((visual[i], tiled), dim=1)  # (B, 2C, H, W)
                gate = self.affinity[i]
                affinity = gate.dropout(gate.norm(gate.conv(joined))).sigmoid()
                gathered = gathered + affinity * visual[j]
            exchanged.append(gathered)
        return self.aggregate(exchanged)


class LiteralUpsampling(UpsamplingConvolution):
    def forward(self, context: Tensor) -> Tensor:
        for number, (conv, *rest) in enumerate(self.steps):
            context = self._doubled(context) if number in (1, 2) else context
            context = F.conv2d(context, conv.weight, conv.bias, padding=1)
            for layer in rest:
                context = layer(context)
        context = self._doubled(context) if len(self.steps) == 2 else context
        return F.conv2d(context, self.logits.weight, self.logits.bias, padding=1)

    def _doubled(self, context: Tensor) -> Tensor:
        return F.interpolate(context, scale_factor=2, mode="bilinear", align_corners=True)


class LiteralSHNet(SHNet):
    def __init__(self, config: ModelConfig, vocabulary_size: int, word_vectors: Tensor) -> None:
        super().__init__(config, vocabulary_size, word_vectors)
        self.sfm = LiteralSFM(
            config.sfm,
            config.channels,
            config.heads,
            config.sfm_layers,
            config.sfm_feedforward,
            config.positions,
            config.share_sfm,
            config.sfm_dropout,
        )
        gate_dropout = config.affinity_dropout if self.as_released else 0.0
        self.fusion = LiteralHCAM(config.channels, gate_dropout)
        self.upsample = LiteralUpsampling(
            config.channels, config.decoder_widths, config.decoder_dropout
        )

    def forward(self, batch: dict) -> Tensor:
        image_index = batch["image_index"]
        images = batch["images"][image_index]  # (I, 3, S, S) -> (B, 3, S, S)
        each_its_own = torch.arange(len(image_index), device=image_index.device)
        return super().forward(batch | {"images": images, "image_index": each_its_own})


def literal_version(network: SHNet) -> LiteralSHNet:
    """The literal network with the same weights and buffers."""
    state = network.state_dict()
    vectors = state["word_encoder.embedding.weight"]
    literal = LiteralSHNet(network.config, len(vectors), vectors)
    literal.load_state_dict(state | {CONV_3D: as_conv_3d(state[CONV_3D])})
    return literal.train(network.training)


def as_conv_3d(weight: Tensor) -> Tensor:
    """The kernel over 3C stacked channels as one of depth 3: (C', 3C, 3, 3) -> (C', C, 3, 3, 3)."""
    return weight.unflatten(1, (3, -1)).transpose(1, 2).contiguous()
