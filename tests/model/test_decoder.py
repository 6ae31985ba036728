"""Section 3.4: ASPP and the up-sampling convolution, tap by tap and pixel by pixel."""

import literal
import pytest
import torch
from torch.nn import functional as F

from shnet_lib.model.decoder import ASPP, UpsamplingConvolution

CHANNELS = 4
GRIDS = [(1, 1), (2, 3), (3, 3), (5, 7)]


def assert_equal(ours, expected, tolerance=1e-10):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < tolerance


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("grid", [*GRIDS, (9, 8), (14, 13)])
def test_aspp_against_loops(grid, batch):
    """The last two grids are wide enough for rates 6 and 12 to reach inside."""
    aspp = literal.randomised(ASPP(CHANNELS, dropout=0.9))
    context = draw(batch, CHANNELS, *grid)
    assert_equal(aspp(context), literal.aspp(context, aspp))


def test_at_the_papers_grid_rate_24_is_a_1x1_convolution_and_rate_12_is_not():
    aspp = literal.randomised(ASPP(CHANNELS, dropout=0.0))
    context = draw(2, CHANNELS, 18, 18)
    for branch, rate, only_centre in zip(
        aspp.atrous, (6, 12, 24), (False, False, True), strict=True
    ):
        conv = branch[0]
        assert conv.dilation == (rate, rate)
        centre = F.conv2d(context, conv.weight[:, :, 1:2, 1:2])
        assert torch.allclose(conv(context), centre, atol=1e-10) == only_centre


def test_aspp_sees_the_whole_image():
    """On 18 x 18, a change in one corner moves every position, through the image's average."""
    aspp = literal.randomised(ASPP(CHANNELS, dropout=0.0))
    context = draw(1, CHANNELS, 18, 18)
    image_branch = aspp.image(context.mean((2, 3), keepdim=True))
    changed = context.clone()
    changed[:, :, 0, 0] += 100
    assert (aspp.image(changed.mean((2, 3), keepdim=True)) - image_branch).abs().max() > 1e-2
    # (5, 5) lies on no tap of the rates 6, 12 or 24 around it that reaches (0, 0)
    assert (aspp(changed) - aspp(context))[0, :, 5, 5].abs().max() > 1e-3


def test_aspp_in_training_uses_and_remembers_the_batchs_statistics():
    aspp = literal.randomised(ASPP(CHANNELS, dropout=0.0))
    context = draw(3, CHANNELS, 5, 4)
    views, running = [], {}
    for name, (conv, norm, _) in {"pixel": aspp.pixel, **dict(enumerate(aspp.atrous))}.items():
        view, *running[name] = literal.batch_norm_training(literal.convolve(context, conv), norm)
        views.append(literal.relu(view))
    image = context.flatten(2).mean(2)[:, :, None, None]
    image, *running["image"] = literal.batch_norm_training(
        literal.convolve(image, aspp.image[0]), aspp.image[1]
    )
    views.append(literal.tile(literal.relu(image)[:, :, 0, 0], 5, 4))
    output, *running["project"] = literal.batch_norm_training(
        literal.convolve(torch.cat(views, dim=1), aspp.project[0]), aspp.project[1]
    )
    assert_equal(aspp.train()(context), literal.relu(output))
    branches = {"pixel": aspp.pixel, "image": aspp.image, "project": aspp.project}
    for name, branch in {**branches, **dict(enumerate(aspp.atrous))}.items():
        assert_equal(branch[1].running_mean, running[name][0])
        assert_equal(branch[1].running_var, running[name][1])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (3, 5)])
@pytest.mark.parametrize("widths", [(6, 5), (3, 4, 2, 6)])
def test_upsampling_against_loops(widths, grid, batch):
    upsample = literal.randomised(UpsamplingConvolution(CHANNELS, widths, dropout=0.9))
    context = draw(batch, CHANNELS, *grid)
    ours = upsample(context)
    assert ours.shape == (batch, 1, 4 * grid[0], 4 * grid[1])
    assert_equal(ours, literal.upsampling(context, upsample))


def test_upsampling_in_training_uses_the_batchs_statistics():
    upsample = literal.randomised(UpsamplingConvolution(CHANNELS, (3, 5), dropout=0.0))
    context = expected = draw(2, CHANNELS, 2, 3)
    for conv, norm, *_ in upsample.steps:
        expected, mean, var = literal.batch_norm_training(literal.convolve(expected, conv), norm)
        height, width = expected.shape[-2:]
        expected = literal.resize(literal.relu(expected), 2 * height, 2 * width, True)
    assert_equal(upsample.train()(context), literal.convolve(expected, upsample.logits))
    assert_equal(norm.running_mean, mean)
    assert_equal(norm.running_var, var)


def test_dropout_takes_whole_channels_and_scales_the_rest():
    aspp = literal.randomised(ASPP(16, dropout=0.25))
    step = literal.randomised(UpsamplingConvolution(16, (16, 16), dropout=0.25)).steps[0]
    context = draw(8, 16, 6, 6)
    for whole, norm, dropout in ((aspp, *aspp.project[1::2]), (step, *step[1:3])):
        norm.bias.data += 5  # so that ReLU leaves no channel dark
        torch.manual_seed(0)
        dropout.train()
        kept, complete = whole(context), whole.eval()(context)
        assert complete.flatten(2).abs().sum(2).gt(0).all()
        dark = kept.flatten(2).abs().sum(2) == 0  # (B, C)
        assert 0.15 < dark.double().mean() < 0.35
        expected = torch.where(dark[:, :, None, None], 0, complete / 0.75)
        assert_equal(kept, expected)
