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


class UpsamplingConvolution(nn.Module):
    """3 x 3 convolutions with BatchNorm, ReLU and dropout; the map doubles after the first two.

    `widths` are the channels after each; a last 3 x 3 convolution leaves one channel of logits.
    The released code's is (512, 512, 512, 256).
    """

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        inputs = (channels, *widths[:-1])
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.Dropout2d(dropout),
            )
            for before, after in zip(inputs, widths, strict=True)
        )
        self.logits = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, context: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, 4H, 4W)."""
        for i, step in enumerate(self.steps):
            context = step(context)
            if i < 2:
                context = F.interpolate(
                    context, scale_factor=2, mode="bilinear", align_corners=True
                )
        return self.logits(context)
