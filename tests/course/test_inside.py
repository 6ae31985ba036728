"""What is read off a network on its way is what the network computes there."""

import numpy as np
import pytest
import torch

from shnet_course.measure.inside import affinities_inside, attention_inside, look_inside
from shnet_lib.data.text import Vocabulary
from shnet_lib.model import SHNet
from shnet_lib.model.hcam import OTHERS
from shnet_lib.prediction import predict
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.config import configure

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
TEXT = "left red circle"


def trained(**changes) -> TrainedSHNet:
    torch.manual_seed(0)
    config = configure("smoke", **{f"model.{name}": value for name, value in changes.items()})
    vocabulary = Vocabulary.from_texts([TEXT, "star"])
    return TrainedSHNet(SHNet(config.model, len(vocabulary)), vocabulary, config, {})


@pytest.fixture(scope="module")
def network() -> TrainedSHNet:
    return trained()


def test_looking_changes_nothing(network):
    for look in (look_inside, attention_inside, affinities_inside):
        for training in (True, False):
            network.network.train(training)
            look(network, PHOTO, TEXT)
            assert network.network.training == training
    found = look_inside(network, PHOTO, TEXT)
    assert np.array_equal(found.prediction.mask, predict(network, PHOTO, TEXT).mask)
    for part in (network.network.sfm, network.network.fusion):
        assert not part._forward_pre_hooks  # nothing is left behind


def test_a_failed_look_leaves_nothing_behind(network):
    with pytest.raises(ValueError, match="no word"):
        look_inside(network, PHOTO, "?!")
    assert not network.network.sfm._forward_pre_hooks


def test_what_goes_in_and_out_belongs_together(network):
    network.network.eval()
    found, attention = attention_inside(network, PHOTO, TEXT)
    side, channels = network.config.model.grid, network.config.model.channels
    assert found.word_feats.shape == (1, 3, channels) and found.word_mask.all()
    with torch.no_grad():
        visual, words, weights = network.network.sfm(
            found.visual_feats, found.word_feats, found.word_mask, return_attention=True
        )
    for level in range(3):
        assert found.visual_feats[level].shape == (1, channels, side, side)
        assert torch.allclose(found.fused_visual[level], visual[level], atol=1e-4)
        assert torch.allclose(found.fused_words[level], words[level], atol=1e-4)
        for layer, heads in enumerate(attention[level]):
            assert torch.allclose(heads, weights[level][layer][0])
            count = side * side + 3
            assert heads.shape == (network.config.model.heads, count, count)
            assert torch.allclose(heads.sum(-1), torch.ones(heads.shape[:2]), atol=1e-5)


def test_affinities_are_those_that_hcam_uses(network):
    """Equation 3 with them gives what the network's own HCAM gives."""
    affinities = affinities_inside(network, PHOTO, TEXT)
    assert list(affinities) == [(2, 3), (2, 4), (3, 2), (3, 4), (4, 2), (4, 3)]
    found = look_inside(network, PHOTO, TEXT)
    network.network.eval()
    exchanged = []
    for i, others in OTHERS.items():
        g = found.fused_visual[i].clone()
        for j in others:
            g = g + affinities[i + 2, j + 2] * found.fused_visual[j]
        exchanged.append(g)
    with torch.no_grad():
        ours = network.network.fusion.aggregate(exchanged)
        context = network.network.fusion(found.fused_visual, found.fused_words, found.word_mask)
    assert torch.allclose(ours, context, atol=1e-4)


def test_networks_without_the_part_are_refused_by_name():
    with pytest.raises(ValueError, match="has no SFM"):
        look_inside(trained(sfm="none"), PHOTO, TEXT)
    with pytest.raises(ValueError, match="'conv3d'"):
        affinities_inside(trained(fusion="conv3d"), PHOTO, TEXT)
