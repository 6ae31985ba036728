"""Section 3.3: Eqs. 2 and 3 against tiling, concatenation, loops; the short cuts against torch."""

import copy

import literal
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from shnet_lib.model.hcam import HCAM, Affinity, DepthConvolution, convolve_tiled

CHANNELS = 4
GRIDS = [(1, 1), (1, 4), (2, 2), (2, 3), (3, 3), (5, 7)]
WORDS = [([1], 1), ([25, 3], 25), ([1, 4], 7)]  # real words of each expression, T


def assert_equal(ours, expected, tolerance=1e-10):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < tolerance


class ConcatenatedAffinity(nn.Module):
    """Eq. 2 in torch's own layers, with the sentence tiled and concatenated."""

    def __init__(self, affinity: Affinity) -> None:
        super().__init__()
        self.conv, self.norm = copy.deepcopy(affinity.conv), copy.deepcopy(affinity.norm)

    def forward(self, visual, sentences):
        tiled = [s[:, :, None, None].expand(*s.shape, *visual.shape[-2:]) for s in sentences]
        return [self.norm(self.conv(torch.cat((visual, t), dim=1))).sigmoid() for t in tiled]


class StackedConv3d(nn.Module):
    """Eq. 3's last step as a real 3-D convolution over (B, C, depth, H, W)."""

    def __init__(self, depth: DepthConvolution) -> None:
        super().__init__()
        outputs, inputs = depth.conv.weight.shape[:2]
        self.conv = nn.Conv3d(inputs // 3, outputs, 3, padding=(0, 1, 1)).double()
        kernel = depth.conv.weight.data.unflatten(1, (3, -1)).transpose(1, 2)
        self.conv.weight.data, self.conv.bias.data = kernel.contiguous(), depth.conv.bias.data
        self.norm = nn.BatchNorm3d(outputs).double()
        self.norm.load_state_dict(depth.norm.state_dict())

    def forward(self, levels):
        joined = self.norm(self.conv(torch.stack(levels, dim=2)))
        assert joined.shape[2] == 1, "depth 3 -> 1"
        return joined[:, :, 0]


@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_a_tiled_vector_is_convolved_without_tiling(height, width, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    sentence = torch.randn(batch, 3, generator=generator, dtype=torch.float64)
    kernel = torch.randn(5, 3, 3, 3, generator=generator, dtype=torch.float64)
    tiled = sentence[:, :, None, None].expand(-1, -1, height, width)
    expected = F.conv2d(tiled, kernel, padding=1)
    assert_equal(convolve_tiled(sentence, kernel, height, width), expected)


@pytest.mark.parametrize(("lengths", "padded_to"), WORDS)
@pytest.mark.parametrize("grid", GRIDS)
def test_eq_2_against_loops(grid, lengths, padded_to):
    affinity = literal.randomised(Affinity(CHANNELS))
    visual, words, mask = literal.levels_and_words(
        len(lengths), CHANNELS, *grid, lengths, padded_to
    )
    sentences = [literal.average_words(level, mask) for level in words]
    for i in literal.LEVELS:
        others = [j for j in literal.LEVELS if j != i]
        ours = affinity(visual[i], [sentences[j] for j in others])
        for one, j in zip(ours, others, strict=True):
            assert_equal(one, literal.affinity(visual[i], sentences[j], affinity))


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 7)])
def test_eq_2_trains_as_the_concatenated_form_does(grid):
    """Outputs, gradients and BatchNorm's running statistics, over three steps in training mode."""
    ours = literal.randomised(Affinity(CHANNELS)).train()
    theirs = ConcatenatedAffinity(ours).train()
    for step in range(3):
        visual, words, _ = literal.levels_and_words(2, CHANNELS, *grid, [1, 1], 1, seed=step)
        sentences = [words[0][:, 0], words[1][:, 0]]
        weighting = visual[1]
        losses = []
        for module in (ours, theirs):
            module.zero_grad()
            inputs = [visual[0].clone().requires_grad_(), *(s.clone() for s in sentences)]
            inputs[1].requires_grad_(), inputs[2].requires_grad_()
            outputs = module(inputs[0], inputs[1:])
            sum((output * weighting).sum() for output in outputs).backward()
            losses.append([*outputs, *(x.grad for x in inputs)])
        for one, other in zip(*losses, strict=True):
            assert_equal(one, other)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert_equal(one.grad, other.grad, 1e-9)
        state, expected = ours.norm.state_dict(), theirs.norm.state_dict()
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            assert_equal(state[name].double(), expected[name].double())
    assert ours.norm.num_batches_tracked == 6  # two sentences a step


@pytest.mark.parametrize("grid", GRIDS)
def test_eq_3s_convolution_against_loops_and_a_real_conv3d(grid):
    depth = literal.randomised(DepthConvolution(CHANNELS, outputs=5))
    visual, _, _ = literal.levels_and_words(2, CHANNELS, *grid, [1, 1], 1)
    ours = depth(visual)
    assert_equal(ours, literal.convolve_depth(visual, depth))
    assert_equal(ours, StackedConv3d(depth).eval()(visual))


def test_eq_3s_convolution_trains_as_a_real_conv3d_does():
    ours = literal.randomised(DepthConvolution(CHANNELS)).train()
    theirs = StackedConv3d(ours).train()
    for step in range(3):
        visual, _, _ = literal.levels_and_words(2, CHANNELS, 3, 5, [1, 1], 1, seed=step)
        assert_equal(ours(visual), theirs(visual))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            one, other = getattr(ours.norm, name), getattr(theirs.norm, name)
            assert_equal(one.double(), other.double())


@pytest.mark.parametrize(("lengths", "padded_to"), WORDS)
@pytest.mark.parametrize("grid", GRIDS)
def test_hcam_against_loops(grid, lengths, padded_to):
    hcam = literal.randomised(HCAM(CHANNELS))
    visual, words, mask = literal.levels_and_words(
        len(lengths), CHANNELS, *grid, lengths, padded_to
    )
    assert_equal(hcam(visual, words, mask), literal.hcam(visual, words, mask, hcam))


def test_a_level_is_gated_by_the_words_of_the_other_two_only():
    """In g_i, the words of level i itself have no say (Eq. 3 sums over j != i)."""
    hcam = literal.randomised(HCAM(CHANNELS))
    g = {}
    hcam.aggregate.register_forward_pre_hook(lambda _, inputs: g.update(levels=inputs[0]))
    visual, words, mask = literal.levels_and_words(1, CHANNELS, 3, 3, [4], 4)
    hcam(visual, words, mask)
    before = g["levels"]
    for i in literal.LEVELS:
        changed = [level + (level_index == i) for level_index, level in enumerate(words)]
        hcam(visual, changed, mask)
        for k in literal.LEVELS:
            assert torch.equal(g["levels"][k], before[k]) == (k == i)
