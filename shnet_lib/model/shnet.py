"""Figure 2: the whole network, and how each row of Tables 2 to 4 is put together."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shnet_lib.model.backbone import BACKBONES, build_backbone
from shnet_lib.model.decoder import ASPP, UpsamplingConvolution
from shnet_lib.model.features import LevelProjection, WordEncoder, onehot_vectors
from shnet_lib.model.fusion import FUSIONS
from shnet_lib.model.sfm import SFM

GLOVE_SIZE = 300  # numbers a word vector, section 4.2: GloVe 840B

CHOICES = {
    "backbone": BACKBONES,
    "sfm": ("paper", "released", "none"),
    "fusion": tuple(FUSIONS),
    "word_vectors": ("glove", "onehot"),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything in which the rows of Tables 2, 3 and 4 differ, and the network's sizes.

    The defaults are the paper's where it states them; the rest is the released code's.
    """

    image_size: int = 320  # section 4.2; also 448
    grid: int = 18  # H = W, section 4.2
    channels: int = 512  # C_v = C_l = C, section 3.2; the number is the released code's
    backbone: str = "deeplabv3plus"  # section 4.2, Table 3
    backbone_weights: str = "shipped"  # a file, or "shipped", "imagenet", "random" (backbone.py)
    sfm: str = "paper"  # Eq. 1 as printed; "released" is the authors' code; "none"
    sfm_layers: int = 2  # of the released form; the README of the released code asks for 2
    sfm_feedforward: int = 512  # of the released form
    heads: int = 8  # the released code's
    share_sfm: bool = True  # one SFM for the three levels, as the released code has it
    positions: bool = True  # False: Table 2, row 7
    fusion: str = "hcam"  # section 3.3; the others are those of Tables 2 and 4
    word_vectors: str = "glove"  # section 4.2; "onehot": Table 2, row 6
    train_word_vectors: bool = True  # GloVe "initializes" the embedding, section 4.2
    decoder_widths: tuple[int, ...] = (512, 512, 512, 256)  # the released code's
    dropout: float = 0.2  # of the decoder; the released code's

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"model.{name} is {getattr(self, name)!r}; it can be {', '.join(allowed)}"
                )
        sizes = ("image_size", "grid", "channels", "sfm_layers", "sfm_feedforward", "heads")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}: it must be 1 or more")
        if self.channels % 4 or self.channels % self.heads:
            raise ValueError(
                f"model.channels is {self.channels}: it must be a multiple of 4 (x and y, sine and "
                f"cosine) and of model.heads, {self.heads}"
            )
        if len(self.decoder_widths) < 2:
            raise ValueError(
                "model.decoder_widths needs two numbers or more: the map doubles twice"
            )


TABLE_2: dict[str, dict[str, str | bool]] = {
    "baseline": {"sfm": "none", "fusion": "none"},
    "only HCAM": {"sfm": "none"},
    "only SFM": {"fusion": "none"},
    "SFM+ConvLSTM": {"fusion": "convlstm"},
    "SFM+Conv3D": {"fusion": "conv3d"},
    "SHNet w/o GloVe": {"word_vectors": "onehot"},
    "SHNet w/o P.E.": {"positions": False},
    "SHNet": {},
}
TABLE_4: dict[str, dict[str, str | bool]] = {
    "MGATE": {"fusion": "mgate"},
    "TGFE": {"fusion": "tgfe"},
    "GBFM": {"fusion": "gbfm"},
    "HCAM": {},
}


class SHNet(nn.Module):
    """Image and expression -> mask logits (Figure 2).

    `vocabulary_size` words are known; `word_vectors (vocabulary_size, D)` are GloVe's, needed where
    the configuration says "glove".
    """

    def __init__(
        self, config: ModelConfig, vocabulary_size: int, word_vectors: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        if config.word_vectors == "onehot":
            word_vectors = onehot_vectors(vocabulary_size)
        elif word_vectors is None or len(word_vectors) != vocabulary_size:
            found = "none" if word_vectors is None else f"{len(word_vectors)}"
            raise ValueError(
                f'word_vectors="glove" needs one vector for each of the {vocabulary_size} words, '
                f'got {found}: read them with shnet_lib.data.glove.read_glove, or use "onehot"'
            )
        trainable = config.train_word_vectors and config.word_vectors == "glove"

        self.backbone = build_backbone(config.backbone, config.backbone_weights)
        self.projections = nn.ModuleList(
            LevelProjection(level_channels, channels, config.grid)
            for level_channels in self.backbone.level_channels
        )
        self.word_encoder = WordEncoder(word_vectors, channels, trainable)
        self.sfm = (
            None
            if config.sfm == "none"
            else SFM(
                config.sfm,
                channels,
                config.heads,
                config.sfm_layers,
                config.sfm_feedforward,
                config.positions,
                config.share_sfm,
            )
        )
        self.fusion = FUSIONS[config.fusion](channels)
        self.aspp = ASPP(channels, config.dropout)
        self.upsample = UpsamplingConvolution(channels, config.decoder_widths, config.dropout)
        self._start_convolutions()

    def _start_convolutions(self) -> None:
        """He et al.'s start for every trained convolution, and a first guess of "background".

        torch's own start is 2.4 times smaller. Under a BatchNorm that changes no output, but Adam's
        steps are then as large as the weights themselves: on RefShapes, at a 12 x 12 grid, the
        first masks came after 1,750 steps instead of 250. The paper does not say how layers start.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("backbone."):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.upsample.logits.weight, std=0.02)
        nn.init.constant_(self.upsample.logits.bias, -2.5)  # a target covers about a twelfth

    def forward(
        self, batch: dict, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, list[list[Tensor | None]]]:
        """A batch -> `mask_logits (B, S, S)`; with `return_attention` also what Figure 7 draws.

        The batch holds `images (I, 3, S, S)` (or their frozen `levels`), `image_index (B,)`,
        `words (B, T)` and `word_mask (B, T)`. What depends on the image alone runs on I, not on B.
        The attention is a list of levels, each a list of layers (B, heads, N, N).
        """
        image_index, word_mask = batch["image_index"], batch["word_mask"]

        levels = batch["levels"] if "levels" in batch else self.backbone(batch["images"])
        visual = [
            project(level)[image_index]  # (I, C, H, W) -> (B, C, H, W)
            for project, level in zip(self.projections, levels, strict=True)
        ]
        word_feats = self.word_encoder(batch["words"])  # (B, T, C)

        if self.sfm is None:
            words, attention = [word_feats] * 3, []
        else:
            visual, words, attention = self.sfm(visual, word_feats, word_mask, return_attention)
        context = self.fusion(visual, words, word_mask)  # G (B, C, H, W)
        logits = self.upsample(self.aspp(context))  # (B, 1, 4H, 4W)

        mask_logits = F.interpolate(
            logits, size=self.config.image_size, mode="bilinear", align_corners=False
        ).squeeze(1)
        return (mask_logits, attention) if return_attention else mask_logits


def count_parameters(config: ModelConfig, vocabulary_size: int) -> list[tuple[str, int, int]]:
    """Of each part in the order of Figure 2, and together: its name, parameters trained and frozen.

    Nothing is allocated and no weights are read.
    """
    with torch.device("meta"):
        vectors = torch.empty(vocabulary_size, GLOVE_SIZE)
        network = SHNet(replace(config, backbone_weights="random"), vocabulary_size, vectors)
    rows = []
    for name, part in network.named_children():
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        rows.append((name, trained, sum(p.numel() for p in part.parameters()) - trained))
    return [*rows, ("together", sum(row[1] for row in rows), sum(row[2] for row in rows))]
