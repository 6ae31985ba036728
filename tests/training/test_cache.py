"""What is kept of an image is what would be made each time: frozen features, resized photos."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_helpers import read_squares, tiny

from shnet_lib.data import DataError
from shnet_lib.data.dataset import ImageBatchSampler, ReferringDataset, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.cache import Photos, cache_images, cache_levels
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


# --- resized photos -------------------------------------------------------------------------------


@pytest.fixture
def photos(squares_folder, tmp_path):
    """A copy of the data set whose files a test may change, and a folder for the cache."""
    data = shutil.copytree(squares_folder, tmp_path / "data")

    def dataset(size=32, split="train", evaluation=False):
        expressions = read_squares(data)[split]
        vocabulary = Vocabulary.from_texts(expression.text for expression in expressions)
        return ReferringDataset(expressions, vocabulary, size, evaluation=evaluation)

    return dataset, tmp_path / "cache"


@pytest.mark.parametrize("evaluation", [False, True])
def test_batches_of_resized_photos_are_the_same_bits(photos, evaluation):
    dataset, folder = photos
    plain, cached = dataset(evaluation=evaluation), dataset(evaluation=evaluation)
    cached.resized_photos = cache_images(cached, folder)
    assert np.load(cached.resized_photos).shape == (6, 3, 32, 32)
    for group in ImageBatchSampler(plain, 8, 4, seed=3):
        one, other = (collate([data[i] for i in group]) for data in (plain, cached))
        assert one.keys() == other.keys()
        assert torch.equal(one["images"], other["images"])
        name = "targets" if evaluation else "target"
        assert all(torch.equal(*pair) for pair in zip(one[name], other[name], strict=True))
    expected = plain[(0,)]["image"]
    for path in plain.image_paths:
        path.unlink()  # nobody reads them now
    assert torch.equal(cached[(0,)]["image"], expected)


def test_training_on_resized_photos_is_training_on_photos(squares, tmp_path):
    """With loader workers, which map the file themselves; bit for bit."""
    config = tiny(steps=2, evaluate_every=1, grayscale_probability=0.5)
    cached = replace(config, cache_images=str(tmp_path / "cache"), workers=1)
    plain, kept = (
        fit(each, squares, tmp_path / str(each.workers)).history for each in (config, cached)
    )
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2  # of train and of val
    for one, other in zip(plain, kept, strict=True):
        assert one["loss"] == other["loss"]
        assert one["val_overall_iou"] == other["val_overall_iou"]


def test_a_file_is_made_once_for_the_same_photos_and_size(photos):
    dataset, folder = photos
    first = cache_images(dataset(), folder)
    made = first.stat().st_mtime_ns
    assert cache_images(dataset(), folder) == first and first.stat().st_mtime_ns == made
    others = [cache_images(dataset(size=24), folder), cache_images(dataset(split="val"), folder)]
    photo = dataset().image_paths[3]
    os.utime(photo, ns=(0, 0))  # fetched again
    others.append(cache_images(dataset(), folder))
    assert len({first, *others}) == 4
    assert all(path.exists() for path in (first, *others))


def test_a_half_written_file_is_never_read(photos):
    dataset, folder = photos
    whole = dataset().image_paths[4].read_bytes()
    dataset().image_paths[4].write_bytes(whole[:200])
    with pytest.raises(DataError, match="005.png"):
        cache_images(dataset(), folder)  # interrupted at the fifth photo
    assert [path.suffix for path in folder.iterdir()] in ([], [".lock"])

    dataset().image_paths[4].write_bytes(whole)
    path = cache_images(dataset(), folder)
    expected = path.read_bytes()
    path.unlink()
    path.with_name(path.name + ".new").write_bytes(expected[:2000])  # what a power cut leaves
    assert cache_images(dataset(), folder) == path
    assert path.read_bytes() == expected
    assert not path.with_name(path.name + ".new").exists()


def test_a_file_that_was_cut_short_later_is_named(photos):
    dataset, folder = photos
    cached = dataset()
    cached.resized_photos = cache_images(cached, folder)
    os.truncate(cached.resized_photos, 5000)
    with pytest.raises(DataError, match="photos-32-.*npy.*delete it"):
        cached[(0,)]
