"""Section 3.2: attention, positions, both forms of SFM against plain loops; what padding may do."""

import literal
import pytest
import torch

from shnet_lib.model.sfm import (
    SFM,
    MultiHeadAttention,
    PrintedSFM,
    ReleasedSFM,
    pixel_positions,
    word_positions,
)

CHANNELS, HEADS = 8, 2
# (H, W), the real words of each expression, T
CASES = [
    ((1, 1), [1], 1),
    ((2, 3), [3, 1], 4),
    ((3, 3), [25], 25),
    ((5, 7), [2, 4], 9),
    ((3, 2), [1], 25),
]
BLOCKS = {
    "printed": (lambda: PrintedSFM(CHANNELS, HEADS), literal.printed_sfm),
    "released, one layer": (lambda: ReleasedSFM(CHANNELS, HEADS, 1, 12), literal.released_sfm),
    "released, two layers": (lambda: ReleasedSFM(CHANNELS, HEADS, 2, 12), literal.released_sfm),
}


def random_joint(grid, lengths, padded_to):
    """V (+) L (B, N, C), places (N, C), keep (B, N), in float64."""
    visual, words, mask = literal.levels_and_words(
        len(lengths), CHANNELS, *grid, lengths, padded_to
    )
    pixels = torch.ones(len(lengths), grid[0] * grid[1], dtype=torch.bool)
    places = literal.positions(*grid, padded_to, CHANNELS)
    return literal.join(visual[0], words[0]), places, torch.cat((pixels, mask), dim=1)


def assert_equal(ours, expected, tolerance=1e-10):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < tolerance


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 7), (18, 18)])
@pytest.mark.parametrize("channels", [4, 8, 48])
def test_positions(grid, channels):
    expected = literal.positions(*grid, 25, channels)
    ours = torch.cat((pixel_positions(*grid, channels), word_positions(25, channels)))
    assert_equal(ours.double(), expected, tolerance=1e-5)


def test_no_two_pixels_share_a_position():
    places = pixel_positions(18, 18, 16)
    assert torch.cdist(places, places).fill_diagonal_(1).min() > 1e-2


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize(("grid", "lengths", "padded_to"), CASES)
def test_attention_against_loops(grid, lengths, padded_to, return_weights):
    attention = literal.randomised(MultiHeadAttention(CHANNELS, heads=4))
    joint, places, keep = random_joint(grid, lengths, padded_to)
    ours, _ = attention(joint + places, joint, keep, return_weights)
    expected = [
        literal.attend(x + places, x, k, attention) for x, k in zip(joint, keep, strict=True)
    ]
    assert_equal(ours, torch.stack(expected))


def test_attention_weights_are_distributions_over_what_is_kept():
    attention = literal.randomised(MultiHeadAttention(CHANNELS, HEADS))
    joint, _, keep = random_joint((5, 7), [2, 4], 9)
    assert attention(joint, joint, keep)[1] is None, "N x N weights only when asked for"
    _, weights = attention(joint, joint, keep, return_weights=True)
    assert weights.shape == (2, HEADS, 44, 44)
    assert_equal(weights.sum(-1), torch.ones(2, HEADS, 44, dtype=torch.float64))
    hidden = ~keep[:, None, None, :].expand_as(weights)
    assert hidden.any() and (weights[hidden] == 0).all() and (weights[~hidden] > 0).all()


@pytest.mark.parametrize("return_attention", [False, True])
@pytest.mark.parametrize("form", BLOCKS)
@pytest.mark.parametrize(("grid", "lengths", "padded_to"), CASES)
def test_both_forms_against_loops(form, grid, lengths, padded_to, return_attention):
    build, expected = BLOCKS[form]
    block = literal.randomised(build())
    joint, places, keep = random_joint(grid, lengths, padded_to)
    ours, attention = block(joint, places, keep, return_attention)
    assert_equal(ours, expected(joint, places, keep, block))
    assert all((weights is not None) == return_attention for weights in attention)


@pytest.mark.parametrize("form", ["printed", "released"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(("grid", "lengths", "padded_to"), [((2, 3), [3, 1], 4), ((1, 1), [1], 1)])
def test_levels_are_processed_individually(form, share, grid, lengths, padded_to):
    """Section 3.2: each level alone with the words, whether or not the levels share weights."""
    sfm = literal.randomised(SFM(form, CHANNELS, HEADS, 2, 12, share=share))
    visual, words, mask = literal.levels_and_words(
        len(lengths), CHANNELS, *grid, lengths, padded_to
    )
    pixels = torch.ones(len(mask), grid[0] * grid[1], dtype=torch.bool)
    keep = torch.cat((pixels, mask), dim=1)
    fused_visual, fused_words, _ = sfm(visual, words[0], mask)
    places = literal.positions(*grid, padded_to, CHANNELS)
    for level in literal.LEVELS:
        block = sfm.blocks[0 if share else level]
        formula = literal.printed_sfm if form == "printed" else literal.released_sfm
        fused = formula(literal.join(visual[level], words[0]), places, keep, block)
        expected_visual, expected_words = literal.part(fused, *grid)
        assert_equal(fused_visual[level], expected_visual, 1e-5)  # positions are float32
        assert_equal(fused_words[level], expected_words, 1e-5)


def test_not_sharing_triples_the_parameters():
    def count(share):
        module = SFM("released", CHANNELS, HEADS, 2, 12, share=share)
        return sum(p.numel() for p in module.parameters())

    assert count(share=False) == 3 * count(share=True)


@pytest.mark.parametrize("form", ["printed", "released"])
@pytest.mark.parametrize("share", [True, False])
def test_attention_is_handed_out_level_by_level(form, share):
    layers = 1 if form == "printed" else 2
    sfm = literal.randomised(SFM(form, CHANNELS, HEADS, 2, 12, share=share))
    visual, words, mask = literal.levels_and_words(2, CHANNELS, 2, 3, [3, 1], 4)
    *outputs, attention = sfm(visual, words[0], mask, return_attention=True)
    assert [len(level) for level in attention] == [layers] * 3
    for i in literal.LEVELS:
        alone = [visual[i]] * 3
        *_, again = sfm(alone, words[0], mask, return_attention=True)
        for layer in range(layers):
            assert attention[i][layer].shape == (2, HEADS, 10, 10)
            assert_equal(attention[i][layer], again[i][layer])
    assert not torch.allclose(attention[0][0], attention[1][0])

    *without, nothing = sfm(visual, words[0], mask)
    assert nothing == [[None] * layers] * 3
    for one, other in zip(outputs, without, strict=True):
        for level, again in zip(one, other, strict=True):
            assert_equal(level, again)


@pytest.mark.parametrize("form", ["printed", "released"])
def test_what_stands_in_the_padding_is_never_read(form):
    sfm = literal.randomised(SFM(form, CHANNELS, HEADS, 2, 12))
    visual, words, mask = literal.levels_and_words(2, CHANNELS, 2, 3, [3, 1], 6)
    other_padding = torch.where(mask[:, :, None], words[0], words[1] * 1e6)
    one, another = sfm(visual, words[0], mask), sfm(visual, other_padding, mask)
    for level in literal.LEVELS:
        assert_equal(one[0][level], another[0][level])
        assert_equal(one[1][level][mask], another[1][level][mask])


@pytest.mark.parametrize("form", ["printed", "released"])
def test_without_positions_a_permutation_of_pixels_or_words_goes_straight_through(form):
    """Table 2, row 7: without P_v and P_l, SFM cannot tell where a pixel or a word stands."""
    visual, words, mask = literal.levels_and_words(2, CHANNELS, 3, 5, [4, 4], 4)
    pixels, order = torch.arange(15) * 7 % 15, torch.tensor([2, 0, 3, 1])

    def shuffled(maps):
        return [level.flatten(2)[:, :, pixels].view_as(level) for level in maps]

    def difference(positions):
        sfm = literal.randomised(SFM(form, CHANNELS, HEADS, 2, 12, positions=positions))
        fused_visual, fused_words, _ = sfm(visual, words[0], mask)
        again_visual, again_words, _ = sfm(shuffled(visual), words[0][:, order], mask)
        pairs = zip(shuffled(fused_visual), again_visual, strict=True)
        word_pairs = zip(fused_words, again_words, strict=True)
        return (
            max((one - other).abs().max() for one, other in pairs),
            max((one[:, order] - other).abs().max() for one, other in word_pairs),
        )

    assert max(difference(positions=False)) < 1e-10
    assert min(difference(positions=True)) > 1e-2
