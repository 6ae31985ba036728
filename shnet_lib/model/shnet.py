"""Figure 2: the whole network, and how each row of Tables 2 to 4 is put together."""

from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from shnet_lib.model.backbone import BACKBONES, build_backbone
from shnet_lib.model.decoder import ASPP, UpsamplingConvolution
from shnet_lib.model.features import LevelProjection, WordEncoder, onehot_vectors
from shnet_lib.model.fusion import FUSIONS
from shnet_lib.model.sfm import SFM
from shnet_lib.settings import ConfigError, Count, FilePath, checked, setting

Dropout = Annotated[float, Field(ge=0, lt=1)]
Widths = Annotated[tuple[Count, ...], Field(strict=False, min_length=2)]  # JSON has lists


@checked(prefix="model.")
class ModelConfig:
    """Everything in which the rows of Tables 2, 3 and 4 differ, and the network's sizes.

    The defaults are the paper's where it states them; the rest is the released code's: what the
    command in its README sets, or its options' defaults. `unread` names what a network has no use
    for.

    Raises:
        ConfigError: a value is of the wrong type or out of range, or `channels` does not divide.
    """

    image_size: Count = setting(320, "of a resized photo, section 4.2; also 448")
    grid: Count = setting(18, "H = W, section 4.2")
    channels: Count = setting(512, "C_v = C_l = C, section 3.2; the released code's number")
    backbone: Literal[*BACKBONES] = setting("deeplabv3plus", "section 4.2, Table 3")
    backbone_weights: FilePath = setting("shipped", "a file, or shipped, imagenet, random")
    sfm: Literal["released", "printed", "none"] = setting(
        "released", "section 3.2 as in the authors' code; printed: Eqs. 1 to 3 and no more"
    )
    sfm_layers: Count = setting(2, "the README's; the option's default is 1")
    sfm_feedforward: Count = setting(256, "the option's default, which the README leaves; or 512")
    sfm_dropout: Dropout = setting(0.2, "the README's; attention weights, feed-forward, residuals")
    affinity_dropout: Dropout = setting(0.2, "the README's; before HCAM's sigmoid")
    heads: Count = setting(8, "the released code's")
    share_sfm: bool = setting(True, "one SFM for the three levels, as the released code has it")
    positions: bool = setting(True, "positional encoding; false: Table 2, row 7")
    fusion: Literal[*FUSIONS] = setting("hcam", "section 3.3; the others are of Tables 2 and 4")
    word_vectors: Literal["glove", "onehot"] = setting("glove", "section 4.2; Table 2, row 6")
    train_word_vectors: bool = setting(True, 'GloVe "initializes" the embedding, section 4.2')
    decoder_widths: Widths = setting(
        (512, 512, 512, 256), "the released code's; two or more, since the map doubles twice"
    )
    aspp_dropout: Dropout = setting(0.25, "the released code's, fixed")
    decoder_dropout: Dropout = setting(0.2, "the README's")
    first_edition: bool = setting(False, "read from old files only: trained before LeakyReLU")

    def __post_init__(self) -> None:
        if self.channels % 4 or self.channels % self.heads:
            raise ConfigError(
                f"model.channels = {self.channels}: it must be a multiple of 4 (x and y, sine and "
                f"cosine) and of model.heads, {self.heads}"
            )


CHOICES: dict[str, tuple[str, ...]] = {  # the settings that name one thing of a few
    name: get_args(hint)
    for name, hint in get_type_hints(ModelConfig).items()
    if get_origin(hint) is Literal
}

# Section 4.2: DeepLabv3+ pre-trained on VOC, 320 x 320, H = W = 18; GloVe "initializes" the word
# vectors, so that they are trained. The rest is the released code's.
PAPER = ModelConfig()

# Settings that not every network reads, and the choices with which they are read.
READ_WITH: dict[str, dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("sfm_layers", "sfm_feedforward", "sfm_dropout"), {"sfm": ("released",)}),
    **dict.fromkeys(("heads", "share_sfm", "positions"), {"sfm": ("released", "printed")}),
    "affinity_dropout": {"fusion": ("hcam",), "sfm": ("released", "none")},  # Eq. 2 prints none
    "train_word_vectors": {"word_vectors": ("glove",)},
}


def unread(config: ModelConfig) -> dict[str, str]:
    """The settings that this network does not read, each with the choice that it does not go with.

    {"sfm_layers": "model.sfm=printed", ...}
    """
    return {
        name: f"model.{choice}={getattr(config, choice)}"
        for name, choices in READ_WITH.items()
        for choice, values in choices.items()
        if getattr(config, choice) not in values
    }


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
                config.sfm_dropout,
            )
        )
        # The printed form is Eqs. 1 to 3 alone: no dropout in Eq. 2, no activation after Eq. 3.
        self.as_released = config.sfm != "printed" and not config.first_edition
        dropout = [config.affinity_dropout] if config.fusion == "hcam" and self.as_released else []
        self.fusion = FUSIONS[config.fusion](channels, *dropout)
        self.aspp = ASPP(channels, config.aspp_dropout)
        self.upsample = UpsamplingConvolution(
            channels, config.decoder_widths, config.decoder_dropout
        )
        self._start_convolutions()

    def _start_convolutions(self) -> None:
        """He et al.'s start under every BatchNorm, and a first guess of "background".

        torch's own start is 2.4 times smaller. Under a BatchNorm that changes no output, but Adam's
        steps are then as large as the weights themselves: on RefShapes, at a 12 x 12 grid, the
        first masks came after 1,750 steps instead of 250. The paper does not say how layers start.

        HCAM's rivals in Table 4 and ConvLSTM have no BatchNorm: theirs start as torch starts them,
        as in their authors' code, and not 2.4 times louder.
        """
        normed = any(isinstance(module, nn.BatchNorm2d) for module in self.fusion.modules())
        fusion = [self.fusion] if normed else []
        parts = nn.ModuleList([*self.projections, *fusion, self.aspp, self.upsample])
        for module in parts.modules():
            if isinstance(module, nn.Conv2d):
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
        if self.as_released:
            context = F.leaky_relu(context)
        logits = self.upsample(self.aspp(context))  # (B, 1, 4H, 4W)

        mask_logits = F.interpolate(
            logits, self.config.image_size, mode="bilinear", align_corners=self.as_released
        ).squeeze(1)
        return (mask_logits, attention) if return_attention else mask_logits
