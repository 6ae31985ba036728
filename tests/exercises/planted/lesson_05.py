"""Answers to exercise 05, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as transforms

# --- a kernel with holes ---


def holes(x, w, rate, *, apart=None, border="constant", sign=1, turned=False, centre=1, pad=None):
    """Tap by tap on a padded map."""
    height, width = x.shape[2:]
    apart = rate if apart is None else apart
    room = 4 * rate
    if border == "constant":
        x = F.pad(x, [room] * 4)
    else:  # numpy repeats and mirrors as often as it needs to
        sides = ((0, 0), (0, 0), (room, room), (room, room))
        x = torch.from_numpy(np.pad(x.numpy(), sides, mode=border))
    result = 0
    for a in range(3):
        for b in range(3):
            down, right = sign * apart * (a - centre), sign * apart * (b - centre)
            if turned:
                down, right = right, down
            top, left = room + down, room + right
            part = x[:, :, top : top + height, left : left + width]
            result = result + F.conv2d(part, w[:, :, a : a + 1, b : b + 1])
    return result


def holes_by_rolling(x, w, rate):
    result = 0
    for a in range(3):
        for b in range(3):
            moved = torch.roll(x, shifts=(-rate * (a - 1), -rate * (b - 1)), dims=(2, 3))
            result = result + torch.einsum("bchw,oc->bohw", moved, w[:, :, a, b])
    return result


def holes_by_unfold(x, w, rate, padding=None):
    padding = rate if padding is None else padding
    windows = F.unfold(x, 3, dilation=rate, padding=padding)  # (B, C * 9, cells)
    shape = [size + 2 * padding - 2 * rate for size in x.shape[2:]]
    return (w.flatten(1) @ windows).unflatten(2, shape)


def holes_by_indices(x, w, rate):
    """Pixel by pixel, channels at once; taps beyond the border are left out."""
    batch, _, height, width = x.shape
    result = torch.zeros(batch, len(w), height, width)
    for y in range(height):
        for z in range(width):
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    row, column = y + rate * a, z + rate * b
                    if 0 <= row < height and 0 <= column < width:
                        result[:, :, y, z] += x[:, :, row, column] @ w[:, :, a + 1, b + 1].T
    return result


def holes_by_a_large_kernel(x, w, rate):
    """The holes written out as zeros."""
    large = torch.zeros(*w.shape[:2], 2 * rate + 1, 2 * rate + 1)
    large[:, :, ::rate, ::rate] = w
    return F.conv2d(x, large, padding=rate)


def holes_where_all_fit(x, w, rate):
    """Right inside, and 0 where a tap would leave the map."""
    inside = holes_by_unfold(x, w, rate, padding=0)
    return F.pad(inside, [rate] * 4)


# --- enlarge, then decide ---


def bilinear(maps, height, width):
    """Number by number: the middle of a pixel of the photo between four middles of the map."""
    side = maps.shape[-1]

    def weights(length):
        matrix = torch.zeros(length, side)
        for n in range(length):
            place = min(max((n + 0.5) * side / length - 0.5, 0.0), side - 1.0)
            low = min(int(place), side - 2)
            matrix[n, low] += low + 1 - place
            matrix[n, low + 1] += place - low
        return matrix

    return weights(height) @ maps @ weights(width).T


def enlarged(maps, height, width, mode="bilinear", corners=None):
    return F.interpolate(maps[None], (height, width), mode=mode, align_corners=corners)[0]


def one_by_one(logits, height, width):
    masks = []
    for one in 1 / (1 + torch.exp(-logits)):
        masks.append(enlarged(one[None], height, width)[0] > 0.5)
    return torch.stack(masks)


# --- the loss on logits ---


def printed(z, y, squeeze=lambda p: p, log=torch.log):
    p = squeeze(1 / (1 + torch.exp(-z)))
    return torch.mean(-y * log(p) - (1 - y) * log(1 - p))


def with_cross_entropy(z, y):
    """Two classes: the background's logit is 0."""
    both = torch.stack((torch.zeros_like(z), z), dim=1)
    return F.cross_entropy(both, y.long())


def through_numpy(z, y):
    z, y = z.detach().numpy(), y.numpy()
    return float((np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).mean())


# --- the forward pass ---


def pieces(
    parts,
    batch,
    *,
    index=None,
    mask=None,
    words_of="sfm",
    pixels_of="sfm",
    order=1,
    aspp=True,
    last="bilinear",
    corners=None,
    level_by_level=False,
    late_index=False,
    after=lambda y: y[:, 0],
):
    """Figure 2 by loops, with whatever goes wrong."""
    index = batch["image_index"] if index is None else index
    mask = batch["word_mask"] if mask is None else mask
    before = []
    for n, level in enumerate(parts.backbone(batch["images"])):
        before.append(parts.projections[n](level).index_select(0, index))
    said = parts.word_encoder(batch["words"])
    if level_by_level:
        each = [parts.sfm([level], said, mask) for level in before]
        visual, words = [v[0] for v, _, _ in each], [w[0] for _, w, _ in each]
    else:
        visual, words, _ = parts.sfm(before, said, mask)
    visual = visual if pixels_of == "sfm" else before
    words = words if words_of == "sfm" else [said, said, said]
    y = parts.hcam(visual[::order], words[::order], mask)
    y = parts.upsample(parts.aspp(y) if aspp else y)
    if last:
        size = batch["images"].shape[-1]
        y = F.interpolate(y, (size, size), mode=last, align_corners=corners)
    return after(y)


def changed(**how):
    return lambda *given: pieces(*given, **how)


def words_handed_on(parts, batch):
    mask, words = batch["word_mask"], parts.word_encoder(batch["words"])
    visual, spoken = [], []
    for project, level in zip(parts.projections, parts.backbone(batch["images"])):
        [one], [words], _ = parts.sfm([project(level)[batch["image_index"]]], words, mask)
        visual.append(one)
        spoken.append(words)
    y = parts.upsample(parts.aspp(parts.hcam(visual, spoken, mask)))
    return F.interpolate(y, size=batch["images"].shape[2:], mode="bilinear").squeeze(1)


def photos_repeated(parts, batch):
    """The backbone runs on each expression's photo: slower, and the same numbers."""
    own = batch["images"][batch["image_index"]]
    return pieces(parts, batch | {"images": own}, index=torch.arange(len(own)))


MISTAKES = {
    "a kernel with holes": {
        "no padding": (lambda *given: holes_by_unfold(*given, padding=0), "pad by `rate`"),
        "padding 1": (lambda *given: holes_by_unfold(*given, padding=1), "too few"),
        "padding without holes": (
            lambda x, w, rate: F.conv2d(F.pad(x, [rate] * 4), w),
            "map grows",
        ),
        "no holes": (lambda x, w, rate: holes(x, w, rate, apart=1), "no holes"),
        "windows one cell apart": (
            lambda x, w, rate: sum(
                torch.einsum(
                    "bchw,oc->bohw",
                    F.pad(x, [rate] * 4)[:, :, a : a + x.shape[2], b : b + x.shape[3]],
                    w[:, :, a, b],
                )
                for a in range(3)
                for b in range(3)
            ),
            "windows begin one cell apart",
        ),
        "rate cells between": (lambda x, w, rate: holes(x, w, rate, apart=rate + 1), "rate + 1"),
        "rolled": (holes_by_rolling, "wrapped around"),
        "rolled the other way": (
            lambda x, w, rate: holes_by_rolling(x, w.flip(2, 3), rate),
            "wrapped around and your kernel turned",
        ),
        "border repeated": (lambda *given: holes(*given, border="edge"), "border's cells"),
        "mirrored": (lambda *given: holes(*given, border="reflect"), "mirror"),
        "turned round": (lambda *given: holes(*given, sign=-1), "turned round"),
        "rows and columns": (lambda *given: holes(*given, turned=True), "transposed"),
        "from the corner": (lambda *given: holes(*given, centre=0), "to the right and below"),
        "middle tap": (
            lambda x, w, rate: torch.einsum("bchw,oc->bohw", x, w[:, :, 1, 1]),
            "one tap",
        ),
        "zero where a tap leaves": (holes_where_all_fit, None),
        "channels not summed": (
            lambda x, w, rate: holes(x[:, :1], w[:, :1], rate),
            None,
        ),
        "with a relu": (lambda *given: holes(*given).relu(), None),
    },
    "enlarge, then decide": {
        "decided, then nearest": (
            lambda z, h, w: enlarged((z.sigmoid() > 0.5).float(), h, w, "nearest").bool(),
            "decide before you enlarge",
        ),
        "nearest": (
            lambda z, h, w: enlarged(z.sigmoid(), h, w, "nearest") > 0.5,
            "'nearest'",
        ),
        "decided, then bilinear": (
            lambda z, h, w: enlarged((z > 0).float(), h, w) > 0.5,
            "no longer knows how sure",
        ),
        "decided, bilinear, any touch": (
            lambda z, h, w: enlarged((z > 0).float(), h, w).bool(),
            "every touch",
        ),
        "logits enlarged": (lambda z, h, w: bilinear(z, h, w) > 0, "enlarge logits"),
        "logits enlarged, then sigmoid": (
            lambda z, h, w: enlarged(z, h, w).sigmoid() > 0.5,
            "enlarge logits",
        ),
        "logits at 0.5": (lambda z, h, w: enlarged(z, h, w) > 0.5, "logits with 0.5"),
        "probabilities at 0": (
            lambda z, h, w: enlarged(z.sigmoid(), h, w) > 0,
            "above 0 everywhere",
        ),
        "corners": (
            lambda z, h, w: enlarged(z.sigmoid(), h, w, corners=True) > 0.5,
            "corners are aligned",
        ),
        "swapped": (lambda z, h, w: one_by_one(z, w, h), "swapped"),
        "inside out": (lambda z, h, w: enlarged(z.sigmoid(), h, w) < 0.5, "inside out"),
        "not decided": (lambda z, h, w: enlarged(z.sigmoid(), h, w), "> 0.5"),
        "axis left": (lambda z, h, w: one_by_one(z, h, w)[:, None], "squeeze(1)"),
        "as numbers": (lambda *given: one_by_one(*given).float(), None),
        "not enlarged": (lambda z, h, w: z > 0, None),
    },
    "the loss on logits": {
        "as printed": (printed, "rounded to 0 or 1"),
        "torch's on probabilities": (
            lambda z, y: F.binary_cross_entropy(torch.sigmoid(z), y),
            "stops at 100",
        ),
        "epsilon": (
            lambda z, y: printed(z, y, log=lambda p: torch.log(p + 1e-7)),
            "1e-07 inside your logarithm",
        ),
        "small epsilon": (
            lambda z, y: printed(z, y, log=lambda p: torch.log(p + 1e-12)),
            "1e-12 inside your logarithm",
        ),
        "clamped": (
            lambda z, y: printed(z, y, squeeze=lambda p: p.clamp(1e-6, 1 - 1e-6)),
            "clamped at 1e-06",
        ),
        "odd epsilon": (lambda z, y: printed(z, y, log=lambda p: torch.log(p + 3e-5)), None),
        "logits clamped": (
            lambda z, y: (torch.log1p(torch.exp(z.clamp(-30, 30))) - y * z.clamp(-30, 30)).mean(),
            "clamped at 30, logits",
        ),
        "logits clamped, then as printed": (lambda z, y: printed(z.clamp(-15, 15), y), None),
        "exp overflows": (
            lambda z, y: (torch.log1p(torch.exp(z)) - y * z).mean(),
            "exponential overflows",
        ),
        "exp overflows below": (
            lambda z, y: ((1 - y) * z + torch.log1p(torch.exp(-z))).mean(),
            "exponential overflows",
        ),
        "where": (
            lambda z, y: (
                torch.where(z > 0, z + torch.log1p(torch.exp(-z)), torch.log1p(torch.exp(z)))
                .sub(z * y)
                .mean()
            ),
            "both sides",
        ),
        "sigmoid twice": (
            lambda z, y: F.binary_cross_entropy_with_logits(z.sigmoid(), y),
            "comes twice",
        ),
        "sum": (lambda z, y: (F.softplus(z) - z * y).sum(), "that is the sum"),
        "per pixel": (lambda z, y: F.softplus(z) - z * y, "one loss a pixel"),
        "per expression": (lambda z, y: (F.softplus(z) - z * y).mean((1, 2)), "one loss an expr"),
        "sign": (lambda z, y: (z * y - F.softplus(z)).mean(), "sign is wrong"),
        "truth inside out": (lambda z, y: (F.softplus(-z) - -z * y).mean(), "inside out"),
        "mask alone": (lambda z, y: (y * F.softplus(-z)).mean(), "only the mask's pixels"),
        "background alone": (lambda z, y: ((1 - y) * F.softplus(z)).mean(), "only the background"),
        "hinge": (lambda z, y: (z.relu() - z * y).mean(), "logarithm is missing"),
        "numpy": (through_numpy, "no gradient flows"),
        "no return": (lambda z, y: None, "return"),
        "squares": (lambda z, y: (z.sigmoid() - y).square().mean(), None),
    },
    "the forward pass": {
        "no image_index": (
            lambda parts, batch: pieces(parts, batch, index=torch.arange(len(batch["words"]))),
            "image_index is not used",
        ),
        "no mask": (
            lambda parts, batch: pieces(parts, batch, mask=batch["words"] > -1),
            "word mask is not used",
        ),
        "mask inside out": (
            lambda parts, batch: pieces(parts, batch, mask=~batch["word_mask"]),
            "inside out",
        ),
        "words before SFM": (changed(words_of="lstm"), "words as they were before SFM"),
        "pixels before SFM": (changed(pixels_of="projection"), "pixels as they were before SFM"),
        "no SFM": (changed(words_of="lstm", pixels_of="projection"), "SFM is missing"),
        "words handed on": (words_handed_on, "one level's SFM into the next"),
        "upside down": (changed(order=-1), "upside down"),
        "no ASPP": (changed(aspp=False), "ASPP is missing"),
        "corners": (changed(corners=True), "corners are aligned"),
        "nearest": (changed(last="nearest"), None),
        "sigmoid": (changed(after=lambda y: y.squeeze(1).sigmoid()), "probabilities"),
        "mask": (changed(after=lambda y: y.squeeze(1) > 0), "a mask already"),
        "small": (changed(last=None), "last step is missing"),
        "axis left": (changed(after=lambda y: y), "squeeze(1)"),
        "squeeze everything": (changed(after=torch.squeeze), "every axis of length 1"),
        "squeeze everything, own photos": (
            lambda parts, batch: pieces(
                parts, batch, index=torch.arange(len(batch["words"])), after=torch.squeeze
            ),
            "every axis of length 1",
        ),
        "no return": (changed(after=lambda y: None), "return"),
    },
}

ALTERNATIVES = {
    "a kernel with holes": {
        "tap by tap": holes,
        "unfold": holes_by_unfold,
        "pixel by pixel": holes_by_indices,
        "a large kernel": holes_by_a_large_kernel,
        "torch's": lambda x, w, rate: F.conv2d(x, w, dilation=rate, padding="same"),
    },
    "enlarge, then decide": {
        "number by number": lambda z, h, w: bilinear(z.sigmoid(), h, w) > 0.5,
        "one by one": one_by_one,
        "torchvision's": lambda z, h, w: (
            transforms.resize(torch.sigmoid(z), [h, w], antialias=False) > 0.5
        ),
        "thing against background": lambda z, h, w: (
            enlarged(z.sigmoid(), h, w) > enlarged(1 - z.sigmoid(), h, w)
        ),
    },
    "the loss on logits": {
        "torch's": F.binary_cross_entropy_with_logits,
        "softplus": lambda z, y: (F.softplus(z) - y * z).mean(),
        "logsigmoid": lambda z, y: -(y * F.logsigmoid(z) + (1 - y) * F.logsigmoid(-z)).mean(),
        "logaddexp": lambda z, y: (torch.logaddexp(torch.zeros(()), z) - y * z).sum() / z.numel(),
        "two classes": with_cross_entropy,
        "signs": lambda z, y: F.softplus(z * (1 - 2 * y)).flatten(1).mean(1).mean(0),
    },
    "the forward pass": {
        "loops": pieces,
        "SFM level by level": changed(level_by_level=True),
        "photos repeated": photos_repeated,
    },
}
