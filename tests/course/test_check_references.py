"""The references that the checks write out agree with the library that the course builds."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import tv_tensors

from refgen.refshapes import Scene
from shnet_course.checks import (
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_09,
)
from shnet_course.measure import failures
from shnet_course.measure.attention import Look, lifts
from shnet_course.measure.scene_graph import SceneGraph
from shnet_lib.data import Expression
from shnet_lib.data.coco import rasterize
from shnet_lib.data.dataset import ResizeTogether, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.backbone import FrozenBackbone, ShapesBackbone
from shnet_lib.model.features import LevelProjection
from shnet_lib.model.hcam import HCAM
from shnet_lib.model.sfm import PrintedSFM, pixel_positions
from shnet_lib.model.shnet import ModelConfig, SHNet
from shnet_lib.training.evaluate import THRESHOLD, probability_at

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_polygons_are_nearly_those_of_pycocotools(seed):
    """COCO decides some pixels on the outline otherwise; the body is the same."""
    source = random.Random(seed)
    polygon = lesson_01._star(source, 60, 50, smallest=18)
    ours = lesson_01.polygon_mask(polygon, 100, 120)
    cocos = rasterize([polygon.ravel().tolist()], 100, 120)
    assert (ours & cocos).sum() / (ours | cocos).sum() > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_are_resized_as_for_training(seed):
    mask, height, width = lesson_01._mask_and_size(random.Random(seed))
    library = ResizeTogether((height, width))(tv_tensors.Mask(torch.from_numpy(mask)[None]))
    assert np.array_equal(lesson_01.resize_mask(mask, height, width), library[0].numpy())


@pytest.mark.parametrize("seed", SEEDS)
def test_phrases_are_encoded_as_by_the_vocabulary_and_padded_as_in_a_batch(seed):
    *batches, ids, most = lesson_01._phrases(random.Random(seed))
    vocabulary = Vocabulary(list(ids))
    for phrases in batches:
        words, word_mask = lesson_01.encode_and_pad(phrases, ids, most)
        item = {
            "words": [torch.tensor(vocabulary.encode(" ".join(p), most)) for p in phrases],
            "image": torch.zeros(3, 1, 1),
            "expression_index": list(range(len(phrases))),
            "target": torch.zeros(len(phrases), 1, 1),
        }
        batch = collate([item])
        assert np.array_equal(words, batch["words"])
        assert np.array_equal(word_mask, batch["word_mask"])


def test_a_level_is_pooled_as_in_its_projection():
    level, grid = lesson_02._level_and_grid(random.Random(0))
    pool = LevelProjection(len(level), 1, grid).pool  # to 2 * grid
    assert torch.equal(lesson_02.pool_to_grid(level, 2 * grid), pool(level))


def test_the_librarys_frozen_backbone_is_frozen_for_the_check():
    class Levels(nn.Module):
        level_channels = ShapesBackbone.level_channels

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images)

    state, photos = lesson_02._small_cnn(random.Random(0))
    wanted = lesson_02.use_frozen(lesson_02.Frozen, state, photos)
    found = lesson_02.use_frozen(lambda cnn: FrozenBackbone(Levels(cnn)), state, photos)
    assert found == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_made_of_parts_are_the_librarys(seed):
    size = lesson_03._height_width_channels(random.Random(seed))
    assert torch.allclose(lesson_03._two_ways(*size), pixel_positions(*size), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_equation_1_is_the_librarys(seed):
    given = lesson_03._inputs_of_eq_1(random.Random(seed))
    visual, word_feats, word_mask, positions, weights, heads = given
    library = PrintedSFM(visual.shape[1], heads)
    for name, weight in weights.items():
        getattr(library.attention, name).weight.data = weight.T
    joint = lesson_03._join(visual, word_feats)
    keep = lesson_03._keep(word_mask, joint.shape[1] - word_mask.shape[1])
    fused, _ = library(joint, positions, keep)
    assert torch.allclose(lesson_03.sfm(*given), fused, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_equations_2_and_3_are_the_librarys(seed):
    visual, words, word_mask, kernels, depth_kernel = given = lesson_04._inputs_of_hcam(
        random.Random(seed)
    )
    library = HCAM(visual[0].shape[1]).eval()
    parts = zip((*library.affinity, library.aggregate), (*kernels, None), strict=True)
    for module, kernel in parts:
        flat = depth_kernel.transpose(1, 2).flatten(1, 2) if kernel is None else kernel
        module.conv.weight.data, module.norm.eps = flat, 0.0
        module.conv.bias.data.zero_()
    context = library(visual, words, word_mask)
    assert torch.allclose(lesson_04.hcam(*given), context, atol=1e-5)


def test_masks_are_those_of_the_evaluation():
    logits, height, width = lesson_05._logits_and_size(random.Random(0))
    library = probability_at(logits, (height, width)) > THRESHOLD["original"]
    assert torch.equal(lesson_05.mask_of(logits, height, width), library)


def test_the_forward_pass_is_that_of_the_whole_network():
    config = ModelConfig(
        image_size=32,
        grid=2,
        channels=8,
        sfm="printed",
        heads=2,
        backbone="shapes",
        backbone_weights="random",
        word_vectors="onehot",
        decoder_widths=(8, 8),
    )
    network = SHNet(config, lesson_05.VOCABULARY).eval()
    lesson_05.initialise(network, seed=0)
    network.hcam = network.fusion  # the exercise calls it by the paper's name
    _, batch = lesson_05._seed_and_batch(random.Random(0))
    batch["images"] = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        library = network(batch)
        ours = lesson_05.forward(network, batch)
    assert library.std() > 0.01 and torch.allclose(ours, library, atol=1e-5)


def test_maps_of_words_are_those_of_a_look():
    attention = torch.randn(1, 2, 11, 11).softmax(-1)  # two heads; 3 x 3 pixels, two words
    found = lesson_09.words_over_pixels(attention, torch.ones(1, 2, dtype=torch.bool), 3, 3)
    look = Look(None, ["red", "star"], 3, attention.mean(1)[None].numpy(), np.ones((1, 1)))
    assert np.allclose(found[0], look.words_over_pixels()[0, 0], atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lift_is_the_librarys(seed):
    looks, covers, partner = lesson_09._looks_and_things(random.Random(seed))
    pairs = lifts(looks, covers)  # (looks, things)
    library = pairs.diagonal() - pairs[np.arange(len(looks)), partner]
    assert np.allclose(lesson_09.beyond_control(looks, covers, partner), library)
    assert (np.sort(partner) == np.arange(5)).all() and (partner != np.arange(5)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_kinds_of_answers_are_those_of_the_lesson_and_all_of_them_are_asked(seed):
    answers, elements, target = lesson_09._scene_and_answers(random.Random(seed))
    kinds = [lesson_09.kind_of_answer(answer, elements, target) for answer in answers]
    graph = SceneGraph(Scene((), (), 0), elements, first_id=0)
    meant = Expression(Path("x"), 1, 40, 44, target, 0, "x", "x", "x", lambda: None)
    assert kinds == [failures.sort_answer(meant, answer, graph).kind for answer in answers]
    assert set(kinds) == set(failures.ANSWER_KINDS)
