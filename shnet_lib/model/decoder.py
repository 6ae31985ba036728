"""Section 3.4: from the context G to mask logits: ASPP, then an up-sampling convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ASPP(nn.Module):
    """Atrous Spatial Pyramid Pooling (Chen et al., 2018): G seen from a pixel to the whole image.

    A 1 x 1 convolution, 3 x 3 ones at rates 6, 12 and 24, and the average of the whole image,
    joined and mixed back to C channels. On an 18 x 18 grid the rate 24 reaches outside everywhere:
    there it *is* a 1 x 1 convolution.
    """

    rates = (6, 12, 24)

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.pixel = _conv_norm_relu(channels, channels, 1)
        self.atrous = nn.ModuleList(
            _conv_norm_relu(channels, channels, 3, rate) for rate in self.rates
        )
        self.image = _conv_norm_relu(channels, channels, 1)
        self.project = nn.Sequential(
            *_conv_norm_relu(5 * channels, channels, 1), nn.Dropout2d(dropout)
        )

    def forward(self, context: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        image = self.image(context.mean(dim=(2, 3), keepdim=True)).expand_as(context)
        views = [self.pixel(context), *(branch(context) for branch in self.atrous), image]
        return self.project(torch.cat(views, dim=1))  # (B, 5C, H, W) -> (B, C, H, W)


def _conv_norm_relu(inputs: int, outputs: int, kernel: int, rate: int = 1) -> nn.Sequential:
    padding = rate * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=rate, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ConvolveDoubled(nn.Conv2d):
    """A 3 x 3 convolution of the map doubled bilinearly, without doubling all of its channels.

    A convolution mixes channels and adds up neighbours; bilinear doubling only adds up neighbours.
    So the channels can be mixed before the doubling, where the map has a quarter of the cells: one
    1 x 1 convolution per tap of the kernel. What is left is to double each tap's map, shift it by
    the tap and add all up: one small matrix for the columns and one for the rows.
    """

    def forward(self, context: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 2H, 2W)."""
        return convolve_doubled(context, self.weight, self.bias)


def convolve_doubled(context: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, C, H, W), (C', C, 3, 3), (C') -> (B, C', 2H, 2W)."""
    height, width = context.shape[-2:]
    across, down = doubling(width, context), doubling(height, context).transpose(1, 2)
    bias = bias.type_as(context)[:, None, None]
    doubled = bias.repeat(len(context), 1, 2 * height, 2 * width)
    for kernel_row, below in zip(weight.unbind(2), down, strict=True):
        # (2H, H) @ (B, C', H, 2W) -> (B, C', 2H, 2W), added in place: the map is large
        doubled += below @ mix_across(context, kernel_row, across)
    return doubled


def mix_across(context: Tensor, kernel_row: Tensor, across: Tensor) -> Tensor:
    """Three taps side by side, (C', C, 3), on (B, C, H, W) -> (B, C', H, 2W)."""
    taps = kernel_row.transpose(1, 2).flatten(0, 1)[:, :, None, None]  # (3C', C, 1, 1)
    mixed = F.conv2d(context, taps).unflatten(1, (-1, 3))  # (B, C', 3, H, W)
    return torch.einsum("bcthw,twj->bchj", mixed, across)


def doubling(length: int, like: Tensor) -> Tensor:
    """For each of three taps, how much each cell says to each cell of the double: (3, L, 2L).

    The corners stand on the corners. The first tap looks one cell of the double back, the last one
    ahead; outside there are zeros.
    """
    cells = torch.eye(length, dtype=like.dtype, device=like.device)
    doubled = F.interpolate(cells[None], scale_factor=2, mode="linear", align_corners=True)
    return F.pad(doubled, (1, 1)).unfold(2, 2 * length, 1).squeeze(0).transpose(0, 1)


class UpsamplingConvolution(nn.Module):
    """3 x 3 convolutions with BatchNorm, dropout and ReLU; the second and third double the map.

    `widths` are the channels after each; a last 3 x 3 convolution leaves one channel of logits.
    The released code's are (512, 512, 512, 256), with dropout after all but the last of them. Its
    dropout stands behind the ReLU, which gives the same: a channel times 0 or a positive number.
    In front of it both can write over what they read, and the largest maps are held once.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        inputs, outputs = (channels, *widths), (*widths, 1)
        convolutions = [
            (ConvolveDoubled if i in (1, 2) else nn.Conv2d)(before, after, 3, padding=1)
            for i, (before, after) in enumerate(zip(inputs, outputs, strict=True))
        ]
        *convolutions, self.logits = convolutions
        dropouts = [dropout] * (len(widths) - 1) + [0.0]
        self.steps = nn.ModuleList(
            nn.Sequential(
                conv,
                nn.BatchNorm2d(after),
                nn.Dropout2d(share, inplace=True),
                nn.ReLU(inplace=True),
            )
            for conv, after, share in zip(convolutions, widths, dropouts, strict=True)
        )

    def forward(self, context: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, 4H, 4W)."""
        for step in self.steps:
            context = step(context)
        return self.logits(context)
