"""Answers to exercise 04, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import torch
import torch.nn.functional as F

from shnet_lib.model.hcam import HCAM, DepthConvolution
from shnet_lib.model.hcam import Affinity as LibrarysAffinity


def gates(
    visual,
    sentence,
    kernel,
    *,
    squash=torch.sigmoid,
    first="pixels",
    padding=1,
    border="constant",
):
    """Eq. 2, window by window: unfold, then one matrix product."""
    batch, channels, height, width = visual.shape
    tiled = sentence.view(batch, channels, 1, 1).repeat(1, 1, height, width)
    stack = torch.cat([visual, tiled] if first == "pixels" else [tiled, visual], 1)
    stack = F.pad(stack, [padding] * 4, mode=border)
    windows = F.unfold(stack, 3)  # (B, 2C * 9, cells)
    mixed = kernel.flatten(1) @ windows
    return squash(mixed.view(batch, channels, *(size - 2 for size in stack.shape[2:])))


def gates_by_halves(visual, sentence, kernel):
    channels = visual.shape[1]
    inside = torch.ones(1, 1, *visual.shape[2:])
    heard = torch.einsum("bc,ocyx->boyx", sentence, kernel[:, channels:])  # (B, C, 3, 3)
    on_grid = F.unfold(F.pad(inside, [1] * 4), 3).view(1, 3, 3, *visual.shape[2:])[0]
    from_sentence = torch.einsum("boyx,yxhw->bohw", heard, on_grid)
    from_pixels = F.conv2d(visual, kernel[:, :channels], padding="same")
    return 1 / (1 + torch.exp(-from_pixels - from_sentence))


def gates_everywhere_alike(visual, sentence, kernel):
    """The sentence through the middle taps alone."""
    channels = visual.shape[1]
    heard = sentence @ kernel[:, channels:, 1, 1].T
    from_pixels = F.conv2d(visual, kernel[:, :channels], padding=1)
    return (from_pixels + heard[..., None, None]).sigmoid()


def gates_endless(visual, sentence, kernel):
    """The sentence tiled over a larger grid, zeros around the pixels only."""
    batch, channels, height, width = visual.shape
    tiled = sentence[..., None, None].expand(-1, -1, height + 2, width + 2)
    stack = torch.cat((F.pad(visual, (1, 1, 1, 1)), tiled), dim=1)
    return F.conv2d(stack, kernel).sigmoid()


def gates_of_the_library(visual, sentence, kernel):
    module = LibrarysAffinity(visual.shape[1]).eval()
    module.norm.eps = 0.0
    module.conv.weight.data, module.conv.bias.data[:] = kernel, 0.0
    return module(visual, [sentence])[0]


def take(visual, affinity, *, itself=False, own=True, swapped=False, gated="j", share=1.0):
    result = torch.zeros_like(visual)
    for i in (0, 1, 2):
        if own:
            result[i] += visual[i]
        for j in (0, 1, 2):
            if i == j and not itself:
                continue
            gate = affinity[j][i] if swapped else affinity[i][j]
            result[i] += share * gate * (visual[j] if gated == "j" else visual[i])
    return result


def take_in_place(visual, affinity, itself=False):
    for i in range(3):
        for j in range(3):
            if i != j or itself:
                visual[i] += affinity[i, j] * visual[j]
    return visual


def take_by_another_name(visual, affinity):
    """`g` is no copy."""
    found = []
    for i in range(3):
        g = visual[i]
        for j in {0, 1, 2} - {i}:
            g += affinity[i, j] * visual[j]
        found.append(g)
    return torch.stack(found)


def take_by_einsum(visual, affinity):
    others = 1 - torch.eye(3)
    return visual + torch.einsum("ij,ijbchw,jbchw->ibchw", others, affinity, visual)


def take_with_ones(visual, affinity):
    """What is on the diagonal is a gate that is wide open."""
    affinity = affinity.clone()
    affinity[range(3), range(3)] = 1.0
    return (affinity * visual).sum(dim=1)


def deep(levels, kernel, bias, *, depth=0, at=2, choose=None):
    stack = torch.stack(levels, dim=at)
    result = F.conv3d(stack, kernel, bias=bias, padding=(depth, 1, 1))
    return result.squeeze(2) if choose is None else choose(result)


def by_slices(levels, kernel, bias, *, each_with_bias=False, order=(0, 1, 2), padding=1):
    result = 0 if each_with_bias else bias[:, None, None]
    for n, level in zip(order, levels):
        part = bias if each_with_bias else None
        result = result + F.conv2d(level, kernel[:, :, n], part, padding=padding)
    return result


def flat(levels, kernel, bias, *, transposed=True):
    """A 2-D convolution of all levels' channels side by side."""
    kernel = (kernel.transpose(1, 2) if transposed else kernel).flatten(1, 2)
    return F.conv2d(torch.cat(levels, 1), kernel, bias, padding=1)


def with_a_module(levels, kernel, bias):
    outputs, inputs = kernel.shape[:2]
    module = torch.nn.Conv3d(inputs, outputs, 3, padding=(0, 1, 1))
    module.weight.data, module.bias.data = kernel, bias
    return module(torch.stack(levels).permute(1, 2, 0, 3, 4))[:, :, 0]


def with_the_librarys_convolution(levels, kernel, bias):
    module = DepthConvolution(kernel.shape[1], kernel.shape[0]).eval()
    module.norm.eps = 0.0
    module.conv.weight.data = kernel.transpose(1, 2).flatten(1, 2)
    module.conv.bias.data = bias
    return module(levels)


def whole(
    visual,
    words,
    mask,
    kernels,
    depth_kernel,
    *,
    squash=torch.sigmoid,
    count="real",
    pixels_of="i",
    sentence_of="j",
    kernel_of="i",
    itself=False,
    own=True,
    one_sentence=False,
    depth=0,
    at=2,
    order=1,
    passed_on=None,
):
    """HCAM by loops, with whatever goes wrong."""
    sentences = []
    for level in words:
        rows = []
        for phrase, real in zip(level, mask):
            if count == "all":
                rows.append(phrase.mean(0))
            elif count == "T":
                rows.append(phrase[real].sum(0) / len(phrase))
            elif count == "none":
                rows.append(phrase[real].sum(0))
            else:
                rows.append(phrase[real].mean(0))
        sentences.append(torch.stack(rows))
    if one_sentence:
        sentences = [torch.stack(sentences).mean(0)] * 3
    visual = list(visual)
    exchanged = []
    for i in range(3):
        g = visual[i].clone() if own else 0.0
        for j in range(3):
            if i == j and not itself:
                continue
            at_pair = {"i": i, "j": j, "0": 0}
            looked_at = visual[at_pair[pixels_of]]
            gate = gates(
                looked_at,
                sentences[at_pair[sentence_of]],
                kernels[at_pair[kernel_of]],
                squash=squash,
            )
            g = g + gate * visual[j]
            if passed_on == "at once":
                visual[i] = g
        if passed_on:
            visual[i] = g
        exchanged.append(g)
    stack = torch.stack(exchanged[::order], dim=at)
    result = F.conv3d(stack, depth_kernel, padding=(depth, 1, 1))
    return result.mean(2) if depth else result[:, :, 0]


def changed(**how):
    return lambda *given: whole(*given, **how)


def whole_by_einsum(visual, words, mask, kernels, depth_kernel):
    """All nine gates in one convolution with three groups; those of a level with itself shut."""
    shares = mask / mask.sum(1, keepdim=True)
    sentences = torch.einsum("lbtc,bt->lbc", torch.stack(words), shares)
    levels = torch.stack(visual, dim=1)  # (B, 3, C, H, W)
    received = torch.zeros_like(levels)
    for j, level in enumerate(visual):
        tiled = sentences[j][:, None, :, None, None].expand_as(levels)
        stack = torch.cat((levels, tiled), dim=2).flatten(1, 2)  # (B, 3 * 2C, H, W)
        every = F.conv2d(stack, torch.cat(kernels), padding=1, groups=3).view_as(levels)
        keep = torch.arange(3) != j
        received += every.sigmoid() * level[:, None] * keep[:, None, None, None]
    return F.conv3d((levels + received).transpose(1, 2), depth_kernel, padding=(0, 1, 1))[:, :, 0]


def whole_of_the_library(visual, words, mask, kernels, depth_kernel):
    module = HCAM(visual[0].shape[1]).eval()
    for gate, kernel in zip(module.affinity, kernels):
        gate.norm.eps = 0.0
        gate.conv.weight.data, gate.conv.bias.data[:] = kernel, 0.0
    module.aggregate.norm.eps = 0.0
    module.aggregate.conv.weight.data = depth_kernel.transpose(1, 2).flatten(1, 2)
    module.aggregate.conv.bias.data[:] = 0.0
    return module(visual, words, mask)


MISTAKES = {
    "an affinity": {
        "no sigmoid": (lambda *given: gates(*given, squash=lambda x: x), "sigmoid is missing"),
        "softmax over channels": (
            lambda *given: gates(*given, squash=lambda x: F.softmax(x, dim=1)),
            "among the channels",
        ),
        "softmax over pixels": (
            lambda *given: gates(
                *given, squash=lambda x: F.softmax(x.flatten(2), 2).reshape(x.shape)
            ),
            "among the pixels",
        ),
        "tanh": (lambda *given: gates(*given, squash=torch.tanh), "tanh"),
        "relu": (lambda *given: gates(*given, squash=torch.relu), None),
        "sigmoid twice": (lambda *given: gates(*given).sigmoid(), "comes twice"),
        "sentence first": (lambda *given: gates(*given, first="sentence"), "stands first"),
        "endless sentence": (gates_endless, "beyond the grid"),
        "sentence through the middle tap": (gates_everywhere_alike, None),
        "border repeated": (lambda *given: gates(*given, border="replicate"), None),
        "no padding": (lambda *given: gates(*given, padding=0), "grid shrinks"),
        "too much padding": (lambda *given: gates(*given, padding=2), None),
        "deaf": (lambda v, s, k: gates(v, torch.zeros_like(s), k), "not heard"),
        "gates applied": (lambda v, s, k: gates(v, s, k) * v, None),
        "one gate a pixel": (lambda *given: gates(*given).mean(1, keepdim=True), None),
    },
    "the exchange": {
        "i included": (lambda *given: take(*given, itself=True), "includes i"),
        "swapped": (lambda *given: take(*given, swapped=True), "swapped"),
        "in place": (take_in_place, "just received"),
        "in place, i included": (lambda v, a: take_in_place(v, a, itself=True), "just received"),
        "g is no copy": (take_by_another_name, "just received"),
        "itself missing": (lambda *given: take(*given, own=False), "is missing"),
        "only a gated sum": (lambda v, a: (a * v).sum(1), None),
        "own pixels gated": (lambda *given: take(*given, gated="i"), "own pixels"),
        "no gates": (lambda v, a: v.sum(0).expand_as(v), "gates are missing"),
        "mean": (lambda *given: take(*given, share=0.5), "mean over j"),
        "softmax": (lambda v, a: take(v, a.softmax(1)), "sum to 1"),
        "sum over i": (lambda v, a: v + (a * v[:, None]).sum(1), None),
        "a list": (lambda v, a: list(take(v, a)), None),
    },
    "Conv3D": {
        "padded": (lambda *given: deep(*given, depth=1, choose=lambda y: y), "padded in depth:"),
        "padded, mean": (
            lambda *given: deep(*given, depth=1, choose=lambda y: y.mean(2)),
            "padded in depth, then averaged",
        ),
        "padded, sum": (
            lambda *given: deep(*given, depth=1, choose=lambda y: y.sum(2)),
            "padded in depth, then summed",
        ),
        "padded, max": (
            lambda *given: deep(*given, depth=1, choose=lambda y: y.max(dim=2).values),
            "padded in depth, then the largest",
        ),
        "padded, first": (
            lambda *given: deep(*given, depth=1, choose=lambda y: y[:, :, 0]),
            "padded in depth, then the first",
        ),
        "padded, last": (
            lambda *given: deep(*given, depth=1, choose=lambda y: y[:, :, -1]),
            "padded in depth, then the last",
        ),
        "levels first, as printed": (lambda *given: deep(*given, at=1), "mixed up"),
        "flat, not transposed": (lambda *given: flat(*given, transposed=False), "mixed up"),
        "upside down": (lambda *given: by_slices(*given, order=(2, 1, 0)), "upside down"),
        "bias three times": (lambda *given: by_slices(*given, each_with_bias=True), "three times"),
        "no bias": (lambda levels, k, b: by_slices(levels, k, 0 * b), "bias is missing"),
        "no padding": (lambda *given: by_slices(*given, padding=0), "grid shrinks"),
        "one slice": (lambda *given: by_slices(*given, order=(1, 1, 1)), "one slice"),
        "mean slice": (
            lambda levels, k, b: F.conv2d(sum(levels), k.mean(2), b, padding=1),
            None,
        ),
        "depth kept": (lambda *given: deep(*given, choose=lambda y: y), "depth is still there"),
    },
    "HCAM": {
        "no sigmoid": (changed(squash=lambda x: x), "sigmoid is missing"),
        "i included": (changed(itself=True), "includes i"),
        "padding averaged": (changed(count="all"), "over padding too"),
        "divided by T": (changed(count="T"), "divide by T"),
        "sum of words": (changed(count="none"), "is a sum"),
        "own sentence": (changed(sentence_of="i"), "own sentence"),
        "pixels of j": (changed(pixels_of="j"), "looks at the pixels of j"),
        "pixels of j, sentence of i": (changed(pixels_of="j", sentence_of="i"), "swapped"),
        "Lambda_ji": (changed(pixels_of="j", sentence_of="i", kernel_of="j"), "Lambda_ji"),
        "kernel of j": (changed(kernel_of="j"), "that of j"),
        "one kernel": (changed(kernel_of="0"), "first kernel"),
        "one sentence": (changed(one_sentence=True), "one sentence"),
        "level 2's sentence": (
            lambda v, w, m, k, d: whole(v, [w[0], w[0], w[0]], m, k, d),
            "level 2's sentence",
        ),
        "passed on": (changed(passed_on="later"), "just received"),
        "passed on at once": (changed(passed_on="at once"), "just received"),
        "itself missing": (changed(own=False), "is missing"),
        "no gates": (changed(squash=torch.ones_like), "gates are missing"),
        "no exchange": (changed(squash=torch.zeros_like), "nothing is exchanged"),
        "padded in depth": (changed(depth=1), "padded in depth"),
        "levels first": (changed(at=1), "mixed up"),
        "upside down": (changed(order=-1), "upside down"),
        "no Conv3D": (lambda v, w, m, k, d: sum(v), None),
    },
}

ALTERNATIVES = {
    "an affinity": {
        "unfold": gates,
        "by halves": gates_by_halves,
        "the library's": gates_of_the_library,
    },
    "the exchange": {
        "loops": take,
        "einsum": take_by_einsum,
        "a diagonal of ones": take_with_ones,
        "all, less its own": lambda v, a: v + (a * v).sum(1) - a[range(3), range(3)] * v,
    },
    "Conv3D": {
        "slices": by_slices,
        "flat": flat,
        "a module": with_a_module,
        "the library's": with_the_librarys_convolution,
        "padded in depth, but the middle": lambda *given: deep(
            *given, depth=1, choose=lambda y: y[:, :, 1]
        ),
    },
    "HCAM": {
        "loops": whole,
        "groups": whole_by_einsum,
        "the library's": whole_of_the_library,
    },
}
