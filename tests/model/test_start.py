"""How layers start, of which the paper says nothing: He et al.'s width, and "background"."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from shnet_lib.model.fusion import FUSIONS
from shnet_lib.model.shnet import ModelConfig, SHNet

SMALL = ModelConfig(
    image_size=64,
    grid=4,
    channels=64,
    backbone="shapes",
    heads=4,
    word_vectors="onehot",
    decoder_widths=(48, 32),
)


@pytest.fixture(scope="module")
def network() -> SHNet:
    torch.manual_seed(0)
    return SHNet(SMALL, vocabulary_size=20)


def test_trained_convolutions_start_with_the_variance_of_he_et_al(network):
    """2 over the number of inputs; torch's own start has a sixth of it."""
    checked = 0
    for name, layer in network.named_modules():
        trained = isinstance(layer, nn.Conv2d) and not name.startswith("backbone.")
        if trained and layer is not network.upsample.logits and layer.weight.numel() >= 4096:
            inputs = layer.in_channels // layer.groups * layer.weight[0, 0].numel()
            assert layer.weight.var().item() == pytest.approx(2 / inputs, rel=0.1), name
            assert layer.bias is None or not layer.bias.any(), name
            checked += 1
    assert checked >= 10


@pytest.mark.parametrize("fusion", FUSIONS)
def test_convolutions_without_a_norm_behind_them_start_as_torch_starts_them(fusion):
    """HCAM's rivals have none: He et al.'s start would make them 2.4 times louder than in their
    authors' code. torch draws evenly up to 1 / sqrt(inputs), biases too."""
    config = replace(SMALL, fusion=fusion)
    torch.manual_seed(0)
    part = SHNet(config, vocabulary_size=20).fusion
    normed = any(isinstance(module, nn.BatchNorm2d) for module in part.modules())
    assert normed == (fusion in ("hcam", "conv3d", "none"))
    for name, conv in part.named_modules():
        if isinstance(conv, nn.Conv2d):
            inputs = conv.weight[0].numel()
            variance = 2 / inputs if normed else 1 / (3 * inputs)
            assert conv.weight.var().item() == pytest.approx(variance, rel=0.1), name
            assert conv.bias.any() != normed, name


def test_the_first_guess_is_background(network):
    """A probability of a twelfth, before any weight has a say."""
    bias = network.upsample.logits.bias
    assert torch.sigmoid(bias).item() == pytest.approx(1 / 12, rel=0.1)
    assert network.upsample.logits.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_the_frozen_backbone_keeps_what_was_loaded(network):
    """The start is for what is trained."""
    weight = network.backbone.network.layer4[0].conv1.weight
    assert weight.var().item() != pytest.approx(2 / weight[0].numel(), rel=0.1)
