"""The checks of exercise 04: gates (Eq. 2), the exchange and Conv3D (Eq. 3), HCAM as a whole."""

import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from shnet_course.checks.core import Exercise, add_exercise, padded_words, seed_torch
from shnet_course.pictures.checks import draw_grids
from shnet_lib.model.features import average_words

LESSON = "04_hcam"
LEVEL_INDICES = (0, 1, 2)  # levels 2, 3 and 4 of the paper


def _grid(source: random.Random) -> tuple[int, int]:
    height, width = source.sample([3, 4, 5, 6], k=2)
    return height, width


# --- affinity -------------------------------------------------------------------------------------


def _pixels_and_sentence(source: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    """f^v_i (B, C, H, W), f^{l avg}_j (B, C), a kernel (C, 2C, 3, 3)."""
    seed_torch(source)
    phrases, channels = source.choice([1, 2]), source.choice([2, 4])
    kernel = torch.randn(channels, 2 * channels, 3, 3) / (6 * channels) ** 0.5
    return (
        torch.randn(phrases, channels, *_grid(source)),
        2 * torch.randn(phrases, channels) + 1,  # loud enough to be missed at the border
        kernel,
    )


def affinity(visual: Tensor, sentence: Tensor, kernel: Tensor) -> Tensor:
    """Eq. 2: (B, C, H, W), (B, C), (C, 2C, 3, 3) -> (B, C, H, W) between 0 and 1."""
    return torch.sigmoid(_mixed(visual, sentence, kernel))


def _mixed(visual: Tensor, sentence: Tensor, kernel: Tensor) -> Tensor:
    """Eq. 2 before its sigmoid."""
    return F.conv2d(torch.cat((visual, _tiled(sentence, visual)), dim=1), kernel, padding=1)


def _tiled(sentence: Tensor, visual: Tensor) -> Tensor:
    return sentence[:, :, None, None].expand_as(visual)


def _sentence_first(visual: Tensor, sentence: Tensor, kernel: Tensor) -> Tensor:
    stacked = torch.cat((_tiled(sentence, visual), visual), dim=1)
    return torch.sigmoid(F.conv2d(stacked, kernel, padding=1))


def _endless_sentence(visual: Tensor, sentence: Tensor, kernel: Tensor) -> Tensor:
    for_pixels, for_sentence = kernel.chunk(2, dim=1)
    heard = sentence @ for_sentence.sum((2, 3)).T  # (B, C), all nine taps everywhere
    return torch.sigmoid(F.conv2d(visual, for_pixels, padding=1) + heard[:, :, None, None])


add_exercise(
    LESSON,
    "an affinity",
    Exercise(
        affinity,
        _pixels_and_sentence,
        {
            "the sigmoid is missing: a gate lies between 0 and 1": _mixed,
            "softmax shares 1 out among the channels: a gate is open or shut for itself": (
                lambda *given: _mixed(*given).softmax(1)
            ),
            "softmax shares 1 out among the pixels: a gate is open or shut for itself": (
                lambda *given: _mixed(*given).flatten(2).softmax(2).view_as(given[0])
            ),
            "tanh goes from -1 to 1: a gate lies between 0 and 1": (
                lambda *given: _mixed(*given).tanh()
            ),
            "the sigmoid comes twice: your gates can only be half open or more": (
                lambda *given: affinity(*given).sigmoid()
            ),
            "the sentence stands first in your stack: pixels, then sentence": _sentence_first,
            "your sentence goes on beyond the grid: zeros stand there, for the sentence too": (
                _endless_sentence
            ),
            "your grid shrinks: pad it with one cell of zeros, padding=1": (
                lambda *given: affinity(*given)[:, :, 1:-1, 1:-1]
            ),
            "the sentence is not heard: it is one half of what is convolved": (
                lambda visual, sentence, kernel: affinity(visual, 0 * sentence, kernel)
            ),
        },
        draw_grids,
    ),
)

# --- the exchange ---------------------------------------------------------------------------------


def _levels_and_gates(source: random.Random) -> tuple[Tensor, Tensor]:
    """f^v (3, B, C, H, W) and all nine Lambda_ij (3, 3, B, C, H, W)."""
    seed_torch(source)
    shape = (source.choice([1, 2]), source.choice([2, 4]), *_grid(source))
    return torch.randn(3, *shape), torch.rand(3, 3, *shape)


def exchange(visual: Tensor, affinity: Tensor) -> Tensor:
    """Eq. 3, first line: (3, B, C, H, W), (3, 3, B, C, H, W) -> g (3, B, C, H, W)."""
    return visual + _received(visual, affinity)


def _received(visual: Tensor, affinity: Tensor) -> Tensor:
    return torch.stack(
        [sum(affinity[i, j] * visual[j] for j in LEVEL_INDICES if j != i) for i in LEVEL_INDICES]
    )


def _passed_on(visual: Tensor, affinity: Tensor) -> Tensor:
    visual = visual.clone()
    for i in LEVEL_INDICES:
        visual[i] += _received(visual, affinity)[i]
    return visual


def _passed_on_with_itself(visual: Tensor, affinity: Tensor) -> Tensor:
    visual = visual.clone()
    for i in LEVEL_INDICES:
        for j in LEVEL_INDICES:
            visual[i] += affinity[i, j] * visual[j]
    return visual


def _gates_own_pixels(visual: Tensor, affinity: Tensor) -> Tensor:
    return torch.stack(
        [
            visual[i] * (1 + sum(affinity[i, j] for j in LEVEL_INDICES if j != i))
            for i in LEVEL_INDICES
        ]
    )


add_exercise(
    LESSON,
    "the exchange",
    Exercise(
        exchange,
        _levels_and_gates,
        {
            "your sum over j includes i: a level takes from the *other* two": (
                lambda visual, affinity: visual + (affinity * visual).sum(1)
            ),
            "your indices are swapped: that is Lambda_ji, i stands first": (
                lambda visual, affinity: exchange(visual, affinity.transpose(0, 1))
            ),
            "you pass on what a level has just received: all three start from f^v": _passed_on,
            "you pass on what a level has just received, and its sum over j includes i": (
                _passed_on_with_itself
            ),
            "f^v_i itself is missing: it is the first term of g_i": _received,
            "your gates let in the level's own pixels: Lambda_ij stands before f^v_j": (
                _gates_own_pixels
            ),
            "the gates are missing: multiply each f^v_j by its Lambda_ij": (
                lambda visual, affinity: exchange(visual, torch.ones_like(affinity))
            ),
            "that is a mean over j: Eq. 3 has a sum": (
                lambda visual, affinity: exchange(visual, affinity / 2)
            ),
            "your gates sum to 1 over j: each is open or shut for itself": (
                lambda visual, affinity: exchange(visual, affinity.softmax(1))
            ),
        },
        draw_grids,
    ),
)

# --- Conv3D ---------------------------------------------------------------------------------------


def _levels_and_deep_kernel(source: random.Random) -> tuple[list[Tensor], Tensor, Tensor]:
    """g three (B, C, H, W), a kernel (C', C, 3, 3, 3), a bias (C',). C is 3, as levels are."""
    seed_torch(source)
    phrases, (height, width), outputs = source.choice([1, 2]), _grid(source), source.choice([2, 4])
    levels = [torch.randn(phrases, 3, height, width) for _ in LEVEL_INDICES]
    return levels, torch.randn(outputs, 3, 3, 3, 3) / 9, torch.randn(outputs)


def aggregate(
    levels: Sequence[Tensor], kernel: Tensor, bias: Tensor | None = None, levels_at: int = 2
) -> Tensor:
    """Eq. 3, second line: three (B, C, H, W), (C', C, 3, 3, 3), (C',) -> (B, C', H, W)."""
    stack = torch.stack(tuple(levels), dim=levels_at)
    return F.conv3d(stack, kernel, bias, padding=(0, 1, 1)).squeeze(2)


def _padded_in_depth(levels: Sequence[Tensor], kernel: Tensor, bias: Tensor | None) -> Tensor:
    """(B, C', 3, H, W), and only the middle one has seen all three levels."""
    return F.conv3d(torch.stack(tuple(levels), dim=2), kernel, bias, padding=1)


def _same_filter(levels: Sequence[Tensor], kernel: Tensor, bias: Tensor) -> Tensor:
    return aggregate(levels, kernel[:, :, 1:2].expand_as(kernel), bias)


add_exercise(
    LESSON,
    "Conv3D",
    Exercise(
        aggregate,
        _levels_and_deep_kernel,
        {
            "padded in depth: three levels remain, one is wanted. Pad the grid alone": (
                _padded_in_depth
            ),
            "padded in depth, then averaged: parts never saw all levels, pad the grid alone": (
                lambda *given: _padded_in_depth(*given).mean(2)
            ),
            "padded in depth, then summed: parts never saw all levels, pad the grid alone": (
                lambda *given: _padded_in_depth(*given).sum(2)
            ),
            "padded in depth, then the largest taken: pad the grid alone, and one level is left": (
                lambda *given: _padded_in_depth(*given).amax(2)
            ),
            "padded in depth, then the first taken: it never saw level 4, pad the grid alone": (
                lambda *given: _padded_in_depth(*given)[:, :, 0]
            ),
            "padded in depth, then the last taken: it never saw level 2, pad the grid alone": (
                lambda *given: _padded_in_depth(*given)[:, :, 2]
            ),
            "levels and channels are mixed up: the kernel wants (B, C, 3, H, W)": (
                lambda levels, kernel, bias: aggregate(levels, kernel, bias, levels_at=1)
            ),
            "your levels are upside down: the kernel's first slice is for level 2": (
                lambda levels, kernel, bias: aggregate(levels[::-1], kernel, bias)
            ),
            "your grid shrinks: pad it with one cell of zeros, padding=(0, 1, 1)": (
                lambda *given: aggregate(*given)[..., 1:-1, 1:-1]
            ),
            "your bias comes three times: it belongs to the sum, once": (
                lambda levels, kernel, bias: aggregate(levels, kernel, 3 * bias)
            ),
            "the bias is missing": lambda levels, kernel, bias: aggregate(levels, kernel),
            "you use one slice for all levels: each level has its own, kernel[:, :, n]": (
                _same_filter
            ),
            "the depth is still there: its length is 1, squeeze(2) takes it away": (
                lambda *given: aggregate(*given).unsqueeze(2)
            ),
        },
        draw_grids,
    ),
)

# --- HCAM -----------------------------------------------------------------------------------------

Levels = list[Tensor]


def _inputs_of_hcam(source: random.Random) -> tuple[Levels, Levels, Tensor, Levels, Tensor]:
    """f^v, f^l, word_mask, three kernels of Eq. 2 and that of Conv3D; loud numbers in padding."""
    seed_torch(source)
    phrases, (height, width), channels = source.choice([1, 2]), _grid(source), 3
    word_mask = padded_words(source, phrases)
    words = [torch.randn(phrases, 4, channels) for _ in LEVEL_INDICES]
    return (
        [torch.randn(phrases, channels, height, width) for _ in LEVEL_INDICES],
        [torch.where(word_mask[..., None], level, 7 * level) for level in words],
        word_mask,
        [torch.randn(channels, 2 * channels, 3, 3) / 3 for _ in LEVEL_INDICES],
        torch.randn(channels, channels, 3, 3, 3) / 9,
    )


def hcam(
    visual: Levels, words: Levels, word_mask: Tensor, kernels: Levels, depth_kernel: Tensor
) -> Tensor:
    """Eqs. 2 and 3 without biases: f^v three (B, C, H, W), f^l three (B, T, C) -> G."""
    sentences = [average_words(level, word_mask) for level in words]  # three (B, C)
    exchanged = []
    for i in LEVEL_INDICES:
        others = [j for j in LEVEL_INDICES if j != i]
        gates = [affinity(visual[i], sentences[j], kernels[i]) for j in others]
        received = sum(gate * visual[j] for gate, j in zip(gates, others, strict=True))
        exchanged.append(visual[i] + received)
    return aggregate(exchanged, depth_kernel)


def _hcam_with(
    average: Callable[[Tensor, Tensor], Tensor] = average_words,
    gate: Callable[..., Tensor] = lambda f, s, k, i, j: affinity(f[i], s[j], k[i]),
    own: bool = True,
    with_itself: bool = False,
    last: Callable[[Levels, Tensor], Tensor] = aggregate,
) -> Callable[..., Tensor]:
    """HCAM with one of its steps exchanged; `gate` gets f^v, sentences, kernels, i and j."""

    def answer(visual, words, word_mask, kernels, depth_kernel):
        sentences = [average(level, word_mask) for level in words]
        exchanged = []
        for i in LEVEL_INDICES:
            g = visual[i] if own else torch.zeros_like(visual[i])
            for j in LEVEL_INDICES:
                if j != i or with_itself:
                    g = g + gate(visual, sentences, kernels, i, j) * visual[j]
            exchanged.append(g)
        return last(exchanged, depth_kernel)

    return answer


def _one_sentence(visual, words, word_mask, kernels, depth_kernel):
    return hcam(visual, [sum(words) / 3] * 3, word_mask, kernels, depth_kernel)


def _first_sentence(visual, words, word_mask, kernels, depth_kernel):
    return hcam(visual, [words[0]] * 3, word_mask, kernels, depth_kernel)


def _received_passed_on(visual, words, word_mask, kernels, depth_kernel):
    return _one_after_the_other(visual, words, word_mask, kernels, depth_kernel, gate_sees_it=False)


def _received_gated(visual, words, word_mask, kernels, depth_kernel):
    return _one_after_the_other(visual, words, word_mask, kernels, depth_kernel, gate_sees_it=True)


def _one_after_the_other(visual, words, word_mask, kernels, depth_kernel, gate_sees_it):
    """Levels are written over in turn; a level's second gate may look at what came by its first."""
    visual = list(visual)
    sentences = [average_words(level, word_mask) for level in words]
    for i in LEVEL_INDICES:
        before = visual[i]
        for j in LEVEL_INDICES:
            if j != i:
                looked_at = visual[i] if gate_sees_it else before
                gate = affinity(looked_at, sentences[j], kernels[i])
                visual[i] = visual[i] + gate * visual[j]
    return aggregate(visual, depth_kernel)


add_exercise(
    LESSON,
    "HCAM",
    Exercise(
        hcam,
        _inputs_of_hcam,
        {
            "the sigmoid is missing: a gate lies between 0 and 1": (
                _hcam_with(gate=lambda f, s, k, i, j: _mixed(f[i], s[j], k[i]))
            ),
            "your sum over j includes i: a level takes from the *other* two": (
                _hcam_with(with_itself=True)
            ),
            "you average over padding too: only the words where word_mask is True count": (
                _hcam_with(average=lambda level, word_mask: level.mean(1))
            ),
            "you divide by T: padding is out of your sum but still in the number of words": (
                _hcam_with(average=lambda level, mask: (level * mask[..., None]).mean(1))
            ),
            "your sentence is a sum: divide by the number of real words": (
                _hcam_with(average=lambda level, mask: (level * mask[..., None]).sum(1))
            ),
            "your gate hears the level's own sentence: Lambda_ij hears that of j": (
                _hcam_with(gate=lambda f, s, k, i, j: affinity(f[i], s[i], k[i]))
            ),
            "your gate looks at the pixels of j: Lambda_ij looks at those of i": (
                _hcam_with(gate=lambda f, s, k, i, j: affinity(f[j], s[j], k[i]))
            ),
            "your indices are swapped: Lambda_ij is made of the pixels of i, the sentence of j": (
                _hcam_with(gate=lambda f, s, k, i, j: affinity(f[j], s[i], k[i]))
            ),
            "your indices are swapped: that is Lambda_ji, kernel and all": (
                _hcam_with(gate=lambda f, s, k, i, j: affinity(f[j], s[i], k[j]))
            ),
            "your kernel is that of j: Lambda_ij uses the kernel of level i": (
                _hcam_with(gate=lambda f, s, k, i, j: affinity(f[i], s[j], k[j]))
            ),
            "you use the first kernel for all levels: each level i has its own": (
                _hcam_with(gate=lambda f, s, k, i, j: affinity(f[i], s[j], k[0]))
            ),
            "you use one sentence for all levels: each has its own reading of the words": (
                _one_sentence
            ),
            "you use level 2's sentence for all levels: each has its own reading of the words": (
                _first_sentence
            ),
            "you pass on what a level has just received: all three start from f^v": (
                _received_passed_on
            ),
            "you pass on what a level has just received, and its own second gate looks at it too": (
                _received_gated
            ),
            "f^v_i itself is missing: it is the first term of g_i": _hcam_with(own=False),
            "the gates are missing: multiply each f^v_j by its Lambda_ij": (
                _hcam_with(gate=lambda f, s, k, i, j: 1.0)
            ),
            "nothing is exchanged: that is Table 2's row 5, Conv3D alone": (
                _hcam_with(gate=lambda f, s, k, i, j: 0.0)
            ),
            "padded in depth: three levels remain, one is wanted. Pad the grid alone": (
                _hcam_with(last=lambda levels, kernel: _padded_in_depth(levels, kernel, None))
            ),
            "padded in depth, then averaged: parts never saw all levels, pad the grid alone": (
                _hcam_with(
                    last=lambda levels, kernel: _padded_in_depth(levels, kernel, None).mean(2)
                )
            ),
            "levels and channels are mixed up: the kernel wants (B, C, 3, H, W)": (
                _hcam_with(last=lambda levels, kernel: aggregate(levels, kernel, levels_at=1))
            ),
            "your levels are upside down: the kernel's first slice is for level 2": (
                _hcam_with(last=lambda levels, kernel: aggregate(levels[::-1], kernel))
            ),
        },
        draw_grids,
    ),
)
