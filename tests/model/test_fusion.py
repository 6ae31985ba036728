"""What Tables 2 and 4 put in HCAM's place, against the formulas written out."""

import literal
import pytest
import torch

from shnet_lib.model.fusion import FUSIONS, Concatenation, Conv3D

CHANNELS = 4
GRIDS = [(1, 1), (2, 3), (3, 3), (5, 7)]
WORDS = [([1], 1), ([25, 3], 25), ([1, 4], 7)]  # real words of each expression, T
WITHOUT_WORDS = ("conv3d", "convlstm", "mgate")  # their formulas hold v_2, v_3 and v_4 alone


def assert_equal(ours, expected, tolerance=1e-10):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < tolerance


def test_every_fusion_has_its_literal_version():
    assert set(FUSIONS) == set(literal.FUSIONS)


@pytest.mark.parametrize(("lengths", "padded_to"), WORDS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", FUSIONS)
def test_against_the_formula(name, grid, lengths, padded_to):
    fusion = literal.randomised(FUSIONS[name](CHANNELS))
    visual, words, mask = literal.levels_and_words(
        len(lengths), CHANNELS, *grid, lengths, padded_to
    )
    ours = fusion(visual, words, mask)
    assert ours.shape == visual[0].shape
    assert_equal(ours, literal.FUSIONS[name](visual, words, mask, fusion))


@pytest.mark.parametrize("name", FUSIONS)
def test_reads_real_words_and_no_padding(name):
    fusion = literal.randomised(FUSIONS[name](CHANNELS))
    visual, words, mask = literal.levels_and_words(2, CHANNELS, 3, 3, [2, 5], 8)
    other_padding = [torch.where(mask[:, :, None], level, 1e6) for level in words]
    assert_equal(fusion(visual, words, mask), fusion(visual, other_padding, mask))
    other_words = [torch.where(mask[:, :, None], level + 1, level) for level in words]
    moved = (fusion(visual, words, mask) - fusion(visual, other_words, mask)).abs().max()
    assert (moved > 1e-4) == (name not in WITHOUT_WORDS)


@pytest.mark.parametrize("name", FUSIONS)
def test_reads_every_level(name):
    fusion = literal.randomised(FUSIONS[name](CHANNELS))
    visual, words, mask = literal.levels_and_words(1, CHANNELS, 3, 3, [2], 2)
    before = fusion(visual, words, mask)
    for i in literal.LEVELS:
        changed = [level + (k == i) for k, level in enumerate(visual)]
        assert (fusion(changed, words, mask) - before).abs().max() > 1e-2


@pytest.mark.parametrize("build", [Concatenation, Conv3D])
def test_in_training_with_the_batchs_statistics(build):
    fusion = literal.randomised(build(CHANNELS))
    visual, words, mask = literal.levels_and_words(2, CHANNELS, 3, 5, [2, 4], 5)
    if build is Concatenation:
        tiled = [literal.tile(literal.average_words(level, mask), 3, 5) for level in words]
        conv, norm, _ = fusion.mix
        joined = torch.cat(visual + tiled, dim=1)
    else:
        conv, norm = fusion.aggregate.conv, fusion.aggregate.norm
        joined = torch.cat(visual, dim=1)
    expected, mean, var = literal.batch_norm_training(literal.convolve(joined, conv), norm)
    if build is Concatenation:
        expected = literal.leaky_relu(expected)
    assert_equal(fusion.train()(visual, words, mask), expected)
    assert_equal(norm.running_mean, mean)
    assert_equal(norm.running_var, var)
