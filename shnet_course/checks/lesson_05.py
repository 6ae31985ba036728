"""The checks of exercise 05: a kernel with holes, when to decide, BCE on logits, the whole pass."""

import random
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from shnet_course.checks.core import (
    Batch,
    CheckFailed,
    Exercise,
    add_exercise,
    difference,
    padded_words,
    seed_torch,
)
from shnet_course.pictures.checks import draw_grids, draw_masks
from shnet_lib.model.features import LevelProjection, WordEncoder
from shnet_lib.model.fusion import Concatenation
from shnet_lib.model.sfm import SFM

LESSON = "05_decoder_and_shnet"


# --- a kernel with holes --------------------------------------------------------------------------


def _map_kernel_rate(source: random.Random) -> tuple[Tensor, Tensor, int]:
    """(B, C, H, W), (C', C, 3, 3), and a rate whose nine taps fit into the map."""
    seed_torch(source)
    height, width = source.sample([7, 8, 9, 10], k=2)
    inputs, outputs = source.sample([2, 3, 4], k=2)
    context = torch.randn(source.choice([1, 2]), inputs, height, width)
    return context, torch.randn(outputs, inputs, 3, 3) / inputs, source.choice([2, 3])


def atrous(context: Tensor, kernel: Tensor, rate: int) -> Tensor:
    """(B, C, H, W), (C', C, 3, 3) -> (B, C', H, W)."""
    return F.conv2d(context, kernel, padding=rate, dilation=rate)


def _padded(context: Tensor, kernel: Tensor, rate: int, mode: str) -> Tensor:
    """What lies beyond the border is made up by `mode`."""
    return F.conv2d(F.pad(context, [rate] * 4, mode=mode), kernel, dilation=rate)


def _one_cell_apart(context: Tensor, kernel: Tensor, rate: int) -> Tensor:
    height, width = context.shape[-2:]
    return F.conv2d(F.pad(context, [rate] * 4), kernel)[..., :height, :width]


def _to_the_right(context: Tensor, kernel: Tensor, rate: int) -> Tensor:
    return F.conv2d(F.pad(context, (0, 2 * rate, 0, 2 * rate)), kernel, dilation=rate)


add_exercise(
    LESSON,
    "a kernel with holes",
    Exercise(
        atrous,
        _map_kernel_rate,
        {
            "your map shrinks: the kernel reaches `rate` cells out, so pad by `rate`": (
                lambda context, kernel, rate: F.conv2d(context, kernel, dilation=rate)
            ),
            "your map shrinks: one cell of zeros is too few, the kernel reaches `rate` cells out": (
                lambda context, kernel, rate: F.conv2d(context, kernel, padding=1, dilation=rate)
            ),
            "your map grows: you pad by `rate`, but your taps are neighbours without holes": (
                lambda context, kernel, rate: F.conv2d(context, kernel, padding=rate)
            ),
            "your kernel has no holes: its taps lie `rate` cells apart": (
                lambda context, kernel, rate: atrous(context, kernel, 1)
            ),
            "you pad by `rate`, and your windows begin one cell apart: they begin `rate` apart": (
                _one_cell_apart
            ),
            "your taps lie rate + 1 apart: the rate is their distance, not the cells between": (
                lambda context, kernel, rate: atrous(context, kernel, rate + 1)
            ),
            "your map is wrapped around: zeros lie beyond the border": (
                partial(_padded, mode="circular")
            ),
            "your map is wrapped around and your kernel turned round: roll() brings no zeros in": (
                lambda context, kernel, rate: _padded(context, kernel.flip(2, 3), rate, "circular")
            ),
            "you repeat the border's cells beyond it: zeros lie there": (
                partial(_padded, mode="replicate")
            ),
            "you mirror the map beyond its border: zeros lie there": (
                partial(_padded, mode="reflect")
            ),
            "your kernel is turned round: the tap at a = -1 reads the pixel above": (
                lambda context, kernel, rate: atrous(context, kernel.flip(2, 3), rate)
            ),
            "your kernel is transposed: a counts rows, b columns": (
                lambda context, kernel, rate: atrous(context, kernel.mT, rate)
            ),
            "your kernel hangs to the right and below: its middle tap reads the pixel itself": (
                _to_the_right
            ),
            "that is one tap, the middle one: a rate so large is only for tiny maps": (
                lambda context, kernel, rate: F.conv2d(context, kernel[:, :, 1:2, 1:2])
            ),
        },
        draw_grids,
    ),
)

# --- enlarge, then decide -------------------------------------------------------------------------


def _logits_and_size(source: random.Random) -> tuple[Tensor, int, int]:
    """Random logits (B, S, S); a photo two to four times as large, not square."""
    seed_torch(source)
    side = source.choice([4, 5, 6])
    height, width = source.sample(range(2 * side + 1, 4 * side), k=2)
    return 4 * torch.randn(source.choice([1, 2]), side, side), height, width


def mask_of(mask_logits: Tensor, height: int, width: int) -> Tensor:
    """(B, S, S) -> (B, H, W) bool; the probabilities are enlarged."""
    return _enlarge(mask_logits.sigmoid(), height, width) > 0.5


def _enlarge(maps: Tensor, height: int, width: int, mode: str = "bilinear", **how: bool) -> Tensor:
    """(B, S, S) -> (B, H, W)."""
    return F.interpolate(maps[:, None], size=(height, width), mode=mode, **how).squeeze(1)


def _decided(mask_logits: Tensor) -> Tensor:
    return (mask_logits > 0).float()


def _draw_masks(target: Tensor, found: Tensor) -> tuple[Figure, str]:
    """The mask of the batch that differs most."""
    one, other = target.numpy(), np.asarray(found.detach()).astype(bool)
    worst = int((one != other).sum((1, 2)).argmax())
    return draw_masks(one[worst], other[worst])


add_exercise(
    LESSON,
    "enlarge, then decide",
    Exercise(
        mask_of,
        _logits_and_size,
        {
            "you decide before you enlarge, or mode is 'nearest', which comes to the same": (
                lambda logits, *size: _enlarge(_decided(logits), *size, mode="nearest") > 0.5
            ),
            "you decide before you enlarge: a map of 0 and 1 no longer knows how sure it was": (
                lambda logits, *size: _enlarge(_decided(logits), *size) > 0.5
            ),
            "you decide before you enlarge, and then take every touch: your mask is dilated": (
                lambda logits, *size: _enlarge(_decided(logits), *size) > 0
            ),
            "you enlarge logits: take the sigmoid first, probabilities are enlarged here": (
                lambda logits, *size: _enlarge(logits, *size) > 0
            ),
            "you compare logits with 0.5: that is meant for probabilities": (
                lambda logits, *size: _enlarge(logits, *size) > 0.5
            ),
            "every pixel is in your mask: a probability is above 0 everywhere, 0.5 is the line": (
                lambda logits, *size: torch.ones(len(logits), *size, dtype=torch.bool)
            ),
            "your corners are aligned: pixel middles are, with align_corners=False": (
                lambda logits, *size: _enlarge(logits.sigmoid(), *size, align_corners=True) > 0.5
            ),
            "height and width are swapped: size=(height, width)": (
                lambda logits, height, width: mask_of(logits, width, height)
            ),
            "your mask is inside out: above 0.5 is the thing": (lambda *given: ~mask_of(*given)),
            "these are probabilities: decide, with > 0.5": (
                lambda logits, *size: _enlarge(logits.sigmoid(), *size)
            ),
            "the axis for channels is still there: squeeze(1) takes it away": (
                lambda *given: mask_of(*given).unsqueeze(1)
            ),
        },
        _draw_masks,
    ),
)

# --- the loss on logits ---------------------------------------------------------------------------

LIMITS = (10, 12, 15, 16, 20, 25, 30, 40, 50, 60, 80, 88)
EPSILONS = (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
TOLERANCE = 1e-4


def _logits_and_target(source: random.Random) -> tuple[Tensor, Tensor]:
    """S and Y (2, 3, 4): usual logits, and six of the kind that a plain formula cannot bear."""
    seed_torch(source)
    logits, target = 2 * torch.randn(24), torch.randint(2, (24,)).float()
    some, huge = source.uniform(18, 30), source.uniform(100, 300)
    logits[:6] = torch.tensor([some, -some, huge, -huge, huge, -huge])
    target[:6] = torch.tensor([0.0, 1, 0, 1, 1, 0])  # four mistakes, and two right answers
    order = torch.randperm(24)
    return logits[order].view(2, 3, 4), target[order].view(2, 3, 4)


def bce(mask_logits: Tensor, target: Tensor) -> Tensor:
    """(B, H, W) twice -> the mean binary cross-entropy."""
    return F.binary_cross_entropy_with_logits(mask_logits, target)


def learn_from(
    loss_of: Callable[[Tensor, Tensor], Tensor], mask_logits: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """The loss, and the gradient that the logits get from it; zeros where the loss is wrong.

    (One wrong loss can be written in many ways, whose gradients differ where they are not finite.)

    Raises:
        CheckFailed: nothing can be learnt from it.
    """
    logits = mask_logits.clone().requires_grad_()
    loss, gradient = loss_of(logits, target), torch.zeros_like(mask_logits)
    if loss is not None and not getattr(loss, "requires_grad", False):
        raise CheckFailed(
            "no gradient flows through your loss: it takes torch's functions from the logits to "
            "the end, without .item(), .detach() or numpy"
        )
    if difference(bce(mask_logits, target), loss, TOLERANCE) is None:
        (gradient,) = torch.autograd.grad(loss, logits)
    return {"loss": loss, "gradient": gradient}


def _printed(probability: Tensor, target: Tensor, epsilon: float = 0.0) -> Tensor:
    """The formula as printed, from probabilities."""
    inside, outside = (probability + epsilon).log(), (1 - probability + epsilon).log()
    return -(target * inside + (1 - target) * outside).mean()


def _with_epsilon(mask_logits: Tensor, target: Tensor, epsilon: float) -> Tensor:
    return _printed(mask_logits.sigmoid(), target, epsilon)


def _clamped(mask_logits: Tensor, target: Tensor, epsilon: float) -> Tensor:
    return _printed(mask_logits.sigmoid().clamp(epsilon, 1 - epsilon), target)


def _limited(mask_logits: Tensor, target: Tensor, limit: float) -> Tensor:
    return bce(mask_logits.clamp(-limit, limit), target)


def _overflowing(mask_logits: Tensor, target: Tensor) -> Tensor:
    return (torch.log(1 + mask_logits.exp()) - mask_logits * target).mean()


def _both_sides(mask_logits: Tensor, target: Tensor) -> Tensor:
    """Right values; the gradient of the side that is not taken is 0 times infinity."""
    above = mask_logits + torch.log(1 + torch.exp(-mask_logits))
    below = torch.log(1 + torch.exp(mask_logits))
    return (torch.where(mask_logits > 0, above, below) - mask_logits * target).mean()


add_exercise(
    LESSON,
    "the loss on logits",
    Exercise(
        bce,
        _logits_and_target,
        {
            "your sigmoid is rounded to 0 or 1 and its logarithm is infinite: join the two": (
                lambda logits, target: _printed(logits.sigmoid(), target)
            ),
            "sigmoid, then binary_cross_entropy: the loss stops at 100, its gradient is 0 there": (
                lambda logits, target: F.binary_cross_entropy(logits.sigmoid(), target)
            ),
            **{
                f"{epsilon:g} inside your logarithm hides the infinity: the worst mistakes have no "
                "gradient": partial(_with_epsilon, epsilon=epsilon)
                for epsilon in EPSILONS
            },
            **{
                f"clamped at {epsilon:g}, probabilities hide the infinity: the worst mistakes have "
                "no gradient": partial(_clamped, epsilon=epsilon)
                for epsilon in EPSILONS
            },
            **{
                f"clamped at {limit}, logits beyond it have no gradient: the worst mistakes teach "
                "nothing": partial(_limited, limit=limit)
                for limit in LIMITS
            },
            "an exponential overflows: 32 bits cannot hold exp(89), but exp(-|z|) is at most 1": (
                _overflowing
            ),
            "torch.where computes both sides: the gradient of the side not taken is NaN": (
                _both_sides
            ),
            "the sigmoid comes twice: binary_cross_entropy_with_logits wants logits": (
                lambda logits, target: bce(logits.sigmoid(), target)
            ),
            "that is the sum: take the mean over all pixels": (
                lambda logits, target: bce(logits, target) * target.numel()
            ),
            "that is one loss a pixel: take the mean over all of them": (
                lambda logits, target: F.binary_cross_entropy_with_logits(
                    logits, target, reduction="none"
                )
            ),
            "that is one loss an expression: take the mean over the batch too": (
                lambda logits, target: F.binary_cross_entropy_with_logits(
                    logits, target, reduction="none"
                ).mean((1, 2))
            ),
            "your sign is wrong: a loss is never below 0": (
                lambda logits, target: -bce(logits, target)
            ),
            "your y is inside out: y = 1 wants a large logit": (
                lambda logits, target: bce(logits, 1 - target)
            ),
            "only the mask's pixels count in yours: background has its term too, (1 - y) ...": (
                lambda logits, target: -(target * F.logsigmoid(logits)).mean()
            ),
            "only the background counts in yours: the mask has its term too, y ...": (
                lambda logits, target: -((1 - target) * F.logsigmoid(-logits)).mean()
            ),
            "the logarithm is missing: max(z, 0) - y z is only nearly the loss": (
                lambda logits, target: (logits.clamp(min=0) - logits * target).mean()
            ),
        },
        ask=learn_from,
        tolerance=TOLERANCE,
    ),
)

# --- the forward pass -----------------------------------------------------------------------------

TINY_CHANNELS, TINY_GRID, TINY_SIDE, VOCABULARY = 8, 2, 11, 12


class _Backbone(nn.Module):
    """Three levels, each coarser and wider, of photos (I, 3, S, S)."""

    level_channels = (4, 5, 6)

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *self.level_channels)
        self.steps = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1)
            for before, after in zip(widths, widths[1:], strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        levels = []
        for step in self.steps:
            images = step(images).relu()
            levels.append(images)
        return levels


class Parts(nn.Module):
    """What Figure 2 names, small, and no forward pass.

    Lighter modules with the same inputs and outputs play HCAM, ASPP and the up-sampling: a check
    runs the network some fifty times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.projections = nn.ModuleList(
            LevelProjection(width, TINY_CHANNELS, TINY_GRID) for width in _Backbone.level_channels
        )
        self.word_encoder = WordEncoder(torch.randn(VOCABULARY, 5), TINY_CHANNELS, trainable=False)
        self.sfm = SFM("printed", TINY_CHANNELS, heads=2)
        self.hcam = Concatenation(TINY_CHANNELS)
        self.aspp = nn.Sequential(nn.Conv2d(TINY_CHANNELS, TINY_CHANNELS, 3, padding=1), nn.ReLU())
        self.upsample = nn.ConvTranspose2d(TINY_CHANNELS, 1, 4, stride=4)


@lru_cache(maxsize=1)
def _parts() -> Parts:
    """Built once: that takes longer than a forward pass."""
    return Parts()


def initialise(parts: nn.Module, seed: int) -> None:
    """Draw all weights and statistics anew, so that none is at its default and all are heard."""
    torch.manual_seed(seed)
    for name, value in parts.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            size = value[0].numel() if value.dim() > 1 else 4
            value.normal_().mul_((2 / size) ** 0.5)


def _seed_and_batch(source: random.Random) -> tuple[int, Batch]:
    """The seed of a network, and as many photos as expressions, but not in the same order."""
    seed_torch(source)
    image_index = torch.tensor(source.choice([[1, 2, 0], [2, 0, 1], [1, 1, 0], [2, 0, 0]]))
    word_mask = padded_words(source, phrases=3)
    batch = {
        "images": torch.randn(3, 3, TINY_SIDE, TINY_SIDE),
        "image_index": image_index,
        "words": torch.randint(VOCABULARY, (3, 4)),
        "word_mask": word_mask,
    }
    return source.randrange(10**6), batch


def run_answer(answer: Callable[[Parts, Batch], Tensor], seed: int, batch: Batch) -> Tensor:
    """What a forward pass makes of a batch.

    Raises:
        CheckFailed: of a single expression it makes something without an axis for the batch.
    """
    parts = _parts().eval()
    initialise(parts, seed)
    photo = batch["image_index"][:1]
    alone = {
        "images": batch["images"][photo],
        "image_index": torch.zeros_like(photo),
        "words": batch["words"][:1],
        "word_mask": batch["word_mask"][:1],
    }
    with torch.no_grad():
        mask_logits, one = answer(parts, batch), answer(parts, alone)
    if isinstance(one, Tensor) and one.dim() < mask_logits.dim():
        raise CheckFailed(
            "squeeze() takes every axis of length 1, and B too where there is one expression: "
            "squeeze(1) takes the axis for channels alone"
        )
    return mask_logits


def forward(parts: Parts, batch: Batch) -> Tensor:
    """Figure 2: a batch -> mask_logits (B, S, S)."""
    return _finish(parts, *_fuse(parts, *_encode_parts(parts, batch)), batch)


def _encode_parts(parts: Parts, batch: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
    """Three (B, C, H, W), L (B, T, C), the word mask."""
    levels = parts.backbone(batch["images"])
    visual = [
        project(level)[batch["image_index"]]
        for project, level in zip(parts.projections, levels, strict=True)
    ]
    return visual, parts.word_encoder(batch["words"]), batch["word_mask"]


def _fuse(
    parts: Parts, visual: list[Tensor], word_feats: Tensor, word_mask: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """f^v three (B, C, H, W), f^l three (B, T, C)."""
    return parts.sfm(visual, word_feats, word_mask)[:2]


def _finish(
    parts: Parts,
    visual: list[Tensor],
    words: list[Tensor],
    batch: Batch,
    aspp: bool = True,
    **how: bool,
) -> Tensor:
    context = parts.hcam(visual, words, batch["word_mask"])
    logits = parts.upsample(parts.aspp(context) if aspp else context)  # (B, 1, 4H, 4W)
    size = batch["images"].shape[-2:]
    return F.interpolate(logits, size=size, mode="bilinear", **how).squeeze(1)


def _own_photo(parts: Parts, batch: Batch) -> Tensor:
    return forward(parts, batch | {"image_index": torch.arange(len(batch["words"]))})


def _all_words_real(parts: Parts, batch: Batch) -> Tensor:
    return forward(parts, batch | {"word_mask": torch.ones_like(batch["word_mask"])})


def _with_words_before_sfm(parts: Parts, batch: Batch) -> Tensor:
    visual, word_feats, word_mask = _encode_parts(parts, batch)
    visual, _ = _fuse(parts, visual, word_feats, word_mask)
    return _finish(parts, visual, [word_feats] * 3, batch)


def _with_pixels_before_sfm(parts: Parts, batch: Batch) -> Tensor:
    before, word_feats, word_mask = _encode_parts(parts, batch)
    _, words = _fuse(parts, before, word_feats, word_mask)
    return _finish(parts, before, words, batch)


def _without_sfm(parts: Parts, batch: Batch) -> Tensor:
    visual, word_feats, _ = _encode_parts(parts, batch)
    return _finish(parts, visual, [word_feats] * 3, batch)


def _sfm_twice(parts: Parts, batch: Batch) -> Tensor:
    """Word features that went through SFM with one level go into SFM with the next."""
    visual, word_feats, word_mask = _encode_parts(parts, batch)
    fused, words = [], []
    for level in visual:
        (one,), (word_feats,) = _fuse(parts, [level], word_feats, word_mask)
        fused.append(one)
        words.append(word_feats)
    return _finish(parts, fused, words, batch)


def _upside_down(parts: Parts, batch: Batch) -> Tensor:
    visual, words = _fuse(parts, *_encode_parts(parts, batch))
    return _finish(parts, visual[::-1], words[::-1], batch)


def _ended(**how: bool) -> Callable[[Parts, Batch], Tensor]:
    return lambda parts, batch: _finish(
        parts, *_fuse(parts, *_encode_parts(parts, batch)), batch, **how
    )


def _not_enlarged(parts: Parts, batch: Batch) -> Tensor:
    visual, words = _fuse(parts, *_encode_parts(parts, batch))
    return parts.upsample(parts.aspp(parts.hcam(visual, words, batch["word_mask"]))).squeeze(1)


add_exercise(
    LESSON,
    "the forward pass",
    Exercise(
        forward,
        _seed_and_batch,
        {
            "image_index is not used: each expression gets the photo of its own number": (
                _own_photo
            ),
            "the word mask is not used: padding is read as words": _all_words_real,
            "your word mask is inside out: it is True at real words": (
                lambda parts, batch: forward(parts, batch | {"word_mask": ~batch["word_mask"]})
            ),
            "HCAM got the words as they were before SFM: f^l is what SFM made of them": (
                _with_words_before_sfm
            ),
            "HCAM got the pixels as they were before SFM: f^v is what SFM made of them": (
                _with_pixels_before_sfm
            ),
            "SFM is missing: that is “only HCAM”, row 2 of Table 2": _without_sfm,
            "your words go from one level's SFM into the next: each level begins with L": (
                _sfm_twice
            ),
            "your levels are upside down: 2, 3, 4": _upside_down,
            "ASPP is missing: it comes between HCAM and up-sampling": _ended(aspp=False),
            "your corners are aligned: in the last step middles are, align_corners=False": (
                _ended(align_corners=True)
            ),
            "these are probabilities: logits are wanted, without a sigmoid": (
                lambda *given: forward(*given).sigmoid()
            ),
            "that is a mask already: logits are wanted, and nothing is decided yet": (
                lambda *given: forward(*given) > 0
            ),
            "the last step is missing: bring the logits from 4H x 4W to S x S": _not_enlarged,
            "the axis for channels is still there: squeeze(1) takes it away": (
                lambda *given: forward(*given).unsqueeze(1)
            ),
        },
        draw_grids,
        ask=run_answer,
    ),
)
