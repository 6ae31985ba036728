"""Frozen features kept once are the features the network would make each time."""

import pytest
import torch
from training_helpers import tiny

from shnet_lib.data.dataset import ImageBatchSampler, ReferringDataset, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.cache import Photos, cache_levels
from shnet_lib.training.fit import fit


@pytest.fixture(scope="module")
def made(squares):
    vocabulary = Vocabulary.from_texts(expression.text for expression in squares["train"])
    torch.manual_seed(0)
    network = SHNet(tiny().model, len(vocabulary)).eval()
    return vocabulary, network


def test_each_image_has_its_own_features(squares, made):
    vocabulary, network = made
    dataset = ReferringDataset(squares["train"], vocabulary, 32)
    levels = cache_levels(network.backbone, dataset, batch_size=4)  # of six images
    assert [level.dtype for level in levels] == [torch.float16] * 3
    for row, path in enumerate(dataset.image_paths):
        image = Photos(dataset)[row]
        for level, exact in zip(levels, network.backbone(image[None]), strict=True):
            assert torch.allclose(level[row].float(), exact[0], rtol=1e-3, atol=1e-4), path
    assert not torch.equal(levels[0][0], levels[0][5])


@pytest.mark.parametrize("evaluation", [False, True])
def test_batches_of_features_give_the_same_logits(squares, made, evaluation):
    vocabulary, network = made
    plain = ReferringDataset(squares["train"], vocabulary, 32, evaluation=evaluation)
    cached = ReferringDataset(squares["train"], vocabulary, 32, evaluation=evaluation)
    cached.levels = cache_levels(network.backbone, cached)
    for group in ImageBatchSampler(plain, 8, 4, seed=3):
        one, other = (collate([dataset[i] for i in group]) for dataset in (plain, cached))
        assert "images" not in other
        with torch.no_grad():
            assert torch.allclose(network(one), network(other), atol=5e-3)
        if not evaluation:
            assert torch.equal(one["target"], other["target"])


def test_training_on_features_is_training_on_images(squares, tmp_path):
    plain, cached = (
        fit(tiny(steps=3, cache_features=cache), squares, tmp_path / str(cache)).history[-1]
        for cache in (False, True)
    )
    assert cached["loss"] == pytest.approx(plain["loss"], rel=2e-3)
    assert cached["loss"] != plain["loss"]


def test_features_larger_than_the_memory_are_refused_before_they_are_made(squares, made):
    vocabulary, network = made
    dataset = ReferringDataset(squares["train"], vocabulary, 32)
    size = sum(level.nbytes for level in cache_levels(network.backbone, dataset))
    cache_levels(network.backbone, dataset, free_memory=lambda: size)
    with pytest.raises(MemoryError, match="6 images.*cache_features=False"):
        cache_levels(network.backbone, dataset, free_memory=lambda: size - 1)


def test_features_beyond_half_precision_are_refused(squares, made):
    class Loud(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(1e6))

        def forward(self, images):
            return [images.detach() * self.gain.detach()] * 3

    dataset = ReferringDataset(squares["train"], made[0], 32)
    with pytest.raises(ValueError, match="float16.*cache_features=False"):
        cache_levels(Loud(), dataset)
