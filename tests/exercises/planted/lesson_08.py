"""Answers to exercise 08, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

from dataclasses import asdict, replace

import numpy as np
import torch
from scipy import stats
from torch import nn

from shnet_lib.model.features import average_words
from shnet_lib.model.hcam import HCAM
from shnet_lib.model.shnet import ModelConfig

CHANGES = {
    "baseline": {"sfm": "none", "fusion": "none"},
    "only HCAM": {"sfm": "none"},
    "only SFM": {"fusion": "none"},
    "SFM+ConvLSTM": {"fusion": "convlstm"},
    "SFM+Conv3D": {"fusion": "conv3d"},
    "SHNet w/o GloVe": {"word_vectors": "onehot"},
    "SHNet w/o P.E.": {"positions": False},
    "SHNet": {},
}


def rows_with(**changed):
    """The right rows, but for some of them."""
    changes = CHANGES | {name.replace("_", " "): change for name, change in changed.items()}
    return lambda row, shnet: replace(shnet, **changes[row])


def from_defaults(row, shnet):
    return ModelConfig(**CHANGES[row])


def rebuilt(row, shnet):
    settings = asdict(shnet)
    settings.update(CHANGES[row])
    return ModelConfig(**settings)


def by_cases(row, shnet):
    if row == "SHNet":
        return shnet
    if row == "SHNet w/o P.E.":
        return replace(shnet, positions=False)
    if row == "SHNet w/o GloVe":
        return replace(shnet, word_vectors="onehot")
    sfm = "none" if row in ("baseline", "only HCAM") else shnet.sfm
    fusion = {"only HCAM": "hcam", "SFM+ConvLSTM": "convlstm", "SFM+Conv3D": "conv3d"}
    return replace(shnet, sfm=sfm, fusion=fusion.get(row, "none"))


# --- the baseline ---------------------------------------------------------------------------------


def sentence_of(parts, words, word_mask):
    return average_words(parts.word_encoder(words), word_mask)[:, :, None, None]


def mean_over_padding(parts, levels, image_index, words, word_mask):
    visual = [p(level)[image_index] for p, level in zip(parts.projections, levels)]
    tiled = parts.word_encoder(words).mean(dim=1)[:, :, None, None].expand(-1, -1, 3, 3)
    return parts.upsample(parts.aspp(parts.mix(torch.cat(visual + [tiled] * 3, 1))))


def last_word(parts, levels, image_index, words, word_mask):
    visual = [p(level)[image_index] for p, level in zip(parts.projections, levels)]
    word_feats = parts.word_encoder(words)
    last = torch.stack([row[mask][-1] for row, mask in zip(word_feats, word_mask)])
    tiled = last[:, :, None, None].expand(-1, -1, 3, 3)
    return parts.upsample(parts.aspp(parts.mix(torch.cat(visual + [tiled] * 3, 1))))


def last_place(parts, levels, image_index, words, word_mask):
    visual = [p(level)[image_index] for p, level in zip(parts.projections, levels)]
    tiled = parts.word_encoder(words)[:, -1, :, None, None].expand(-1, -1, 3, 3)
    return parts.upsample(parts.aspp(parts.mix(torch.cat(visual + [tiled] * 3, 1))))


def divided_by_all_places(parts, levels, image_index, words, word_mask):
    visual = [p(level)[image_index] for p, level in zip(parts.projections, levels)]
    real = parts.word_encoder(words) * word_mask.unsqueeze(-1)
    tiled = (real.sum(1) / words.shape[1])[:, :, None, None].expand(-1, -1, 3, 3)
    return parts.upsample(parts.aspp(parts.mix(torch.cat(visual + [tiled] * 3, 1))))


def pair_by_pair(parts, levels, image_index, words, word_mask):
    tiled = sentence_of(parts, words, word_mask).expand(-1, -1, 3, 3)
    joined = [
        torch.cat([p(level)[image_index], tiled], 1) for p, level in zip(parts.projections, levels)
    ]
    return parts.upsample(parts.aspp(parts.mix(torch.cat(joined, 1))))


def no_aspp(parts, levels, image_index, words, word_mask):
    visual = [p(level)[image_index] for p, level in zip(parts.projections, levels)]
    tiled = sentence_of(parts, words, word_mask).expand(-1, -1, 3, 3)
    return parts.upsample(parts.mix(torch.cat([*visual, tiled, tiled, tiled], 1)))


def no_upsampling(parts, levels, image_index, words, word_mask):
    visual = [p(level)[image_index] for p, level in zip(parts.projections, levels)]
    tiled = sentence_of(parts, words, word_mask).expand(-1, -1, 3, 3)
    return parts.aspp(parts.mix(torch.cat([*visual, tiled, tiled, tiled], 1)))


def photos_in_turn(parts, levels, image_index, words, word_mask):
    """The phrases are dealt out to the images one by one, whatever image_index says."""
    turn = torch.arange(len(words)) % len(levels[0])
    return by_level(parts, levels, turn, words, word_mask)


def backwards(parts, levels, image_index, words, word_mask):
    visual = [p(level)[image_index] for p, level in zip(parts.projections, levels)][::-1]
    tiled = sentence_of(parts, words, word_mask).expand(-1, -1, 3, 3)
    return parts.upsample(parts.aspp(parts.mix(torch.cat([*visual, tiled, tiled, tiled], 1))))


def by_level(parts, levels, image_index, words, word_mask):
    """Chosen before the projection, sentence by a loop, `repeat` for `expand`."""
    visual = [parts.projections[i](levels[i][image_index]) for i in range(3)]
    word_feats = parts.word_encoder(words)
    sentence = torch.stack([row[mask].mean(0) for row, mask in zip(word_feats, word_mask)])
    tiled = sentence.view(*sentence.shape, 1, 1).repeat(1, 3, *visual[0].shape[2:])
    context = parts.mix(torch.cat([torch.cat(visual, 1), tiled], 1))
    return nn.Sequential(parts.aspp, parts.upsample)(context)


def by_einsum(parts, levels, image_index, words, word_mask):
    mask = word_mask.float()
    sentence = torch.einsum("btc,bt->bc", parts.word_encoder(words), mask / mask.sum(1)[:, None])
    maps = [p(level).index_select(0, image_index) for p, level in zip(parts.projections, levels)]
    maps += 3 * [torch.einsum("bc,hw->bchw", sentence, torch.ones(maps[0].shape[2:]))]
    return parts.upsample(parts.aspp(parts.mix(torch.cat(maps, dim=1))))


# --- intervals ------------------------------------------------------------------------------------


def with_factor(factor, ddof=1, root=True):
    def interval(values):
        spread = np.std(values, ddof=ddof) / (len(values) ** 0.5 if root else 1)
        return np.mean(values), factor(len(values)) * spread

    return interval


def student(n):
    return stats.t.ppf(0.975, n - 1)


def by_scipy(values):
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return (low + high) / 2, (high - low) / 2


def by_loops(values):
    n = len(values)
    middle = sum(values) / n
    variance = sum((x - middle) ** 2 for x in values) / (n - 1)
    return middle, -stats.t.ppf(0.025, n - 1) * (variance / n) ** 0.5


def from_low_to_high(values):
    middle, half = by_loops(values)
    return middle - half, middle + half


def intervals_apart(ours, theirs):
    (a, da), (b, db) = by_loops(list(ours.values())), by_loops(list(theirs.values()))
    return a - da > b + db or b - db > a + da


def by_place(ours, theirs):
    middle, half = by_loops([a - b for a, b in zip(ours.values(), theirs.values())])
    return middle - half > 0 or middle + half < 0


def paired(ours, theirs):
    return by_loops([ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()])


def only_better(ours, theirs):
    middle, half = paired(ours, theirs)
    return middle - half > 0


def welch(ours, theirs):
    return stats.ttest_ind(list(ours.values()), list(theirs.values())).pvalue < 0.05


def t_test(ours, theirs):
    seeds = sorted(set(ours) & set(theirs))
    return stats.ttest_rel([ours[s] for s in seeds], [theirs[s] for s in seeds]).pvalue < 0.05


def zero_outside(ours, theirs):
    middle, half = paired(ours, theirs)
    return not middle - half <= 0 <= middle + half


# --- the finale -----------------------------------------------------------------------------------


class Mean(nn.Module):
    """What a module does that does nothing."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, visual, words, word_mask):
        return (visual[0] + visual[1] + visual[2]) / 3


class SideBySide(Mean):
    def forward(self, visual, words, word_mask):
        return torch.cat(visual, dim=1)


class OneLevelsList(Mean):
    def forward(self, visual, words, word_mask):
        return visual


class EmptySentences(Mean):
    """The mean over *padding*: a phrase without padding divides by zero."""

    def forward(self, visual, words, word_mask):
        weights = (~word_mask).unsqueeze(-1).float()
        sentence = (words[0] * weights).sum(1) / weights.sum(1)
        return visual[0] + sentence[:, :, None, None]


class GatedLevels(nn.Module):
    """Another way to win: levels gated by their sentence, convolved, added to their mean."""

    def __init__(self, channels):
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(channels, channels) for _ in range(3))
        self.conv = nn.Conv2d(3 * channels, channels, 3, padding=1)
        self.conv.weight.data.zero_()
        self.conv.bias.data.zero_()

    def forward(self, visual, words, word_mask):
        gated = []
        for level, text, gate in zip(visual, words, self.gates):
            sentence = average_words(text, word_mask)
            gated.append(level * torch.sigmoid(gate(sentence))[:, :, None, None])
        return torch.stack(visual).mean(0) + self.conv(torch.cat(gated, 1))


MISTAKES = {
    "a row of Table 2": {
        "default sizes": (from_defaults, "default sizes"),
        "only HCAM with SFM": (rows_with(only_HCAM={}), "“only HCAM” still has SFM"),
        "only SFM with HCAM": (rows_with(only_SFM={"fusion": "hcam"}), None),
        "mixed up": (
            rows_with(only_HCAM={"fusion": "none"}, only_SFM={"sfm": "none"}),
            "mixed up",
        ),
        "baseline with HCAM": (rows_with(baseline={"sfm": "none"}), "took away only SFM"),
        "baseline with SFM": (rows_with(baseline={"fusion": "none"}), "took away only HCAM"),
        "Conv3D for ConvLSTM": (
            lambda row, shnet: replace(
                shnet, **(CHANGES | {"SFM+ConvLSTM": {"fusion": "conv3d"}})[row]
            ),
            None,
        ),
        "nothing changes": (lambda row, shnet: shnet, None),
        "a dict": (lambda row, shnet: CHANGES[row], None),
    },
    "the baseline from parts": {
        "mean over padding": (mean_over_padding, "mean over padding"),
        "last word": (last_word, "last word's state"),
        "last place": (last_place, "the last place"),
        "divided by all places": (divided_by_all_places, "divide by all T places"),
        "pair by pair": (pair_by_pair, "another order"),
        "levels backwards": (backwards, "wrong way round"),
        "no ASPP": (no_aspp, "ASPP is missing"),
        "no up-sampling": (no_upsampling, None),
        "photos in turn": (photos_in_turn, None),
    },
    "an interval over seeds": {
        "1.96": (with_factor(lambda n: 1.96), "1.96"),
        "no root": (with_factor(student, root=False), "not the mean"),
        "standard deviation": (with_factor(lambda n: 1, root=False), "standard deviation of the"),
        "standard error": (with_factor(lambda n: 1), "standard error"),
        "divided by n": (with_factor(student, ddof=0), "divides by n"),
        "one side": (with_factor(lambda n: stats.t.ppf(0.95, n - 1)), "0.975"),
        "n degrees": (with_factor(lambda n: stats.t.ppf(0.975, n)), "degrees of freedom"),
        "whole width": (with_factor(lambda n: 2 * student(n)), "whole width"),
        "from low to high": (from_low_to_high, "two ends"),
        "the lower tail": (with_factor(lambda n: stats.t.ppf(0.025, n - 1)), "is negative"),
    },
    "is the difference clear?": {
        "do the intervals overlap?": (intervals_apart, "overlap"),
        "by place": (by_place, "by their place"),
        "only better": (only_better, "clear loss"),
        "means alone": (
            lambda ours, theirs: (
                abs(np.mean(list(ours.values())) - np.mean(list(theirs.values()))) > 0
            ),
            "means alone",
        ),
        "the seeds of ours": (
            lambda ours, theirs: zero_outside(
                ours, theirs | {seed: 0.0 for seed in ours if seed not in theirs}
            ),
            None,
        ),
        "zero inside": (lambda *rows: not zero_outside(*rows), "zero lies inside"),
        "runs as if they had nothing in common": (welch, None),
    },
    "the finale": {
        "the mean of the levels": (Mean, "not above it yet"),
        "HCAM itself": (HCAM, "332,544 parameters"),
        "levels side by side": (SideBySide, "map of the same size out"),
        "a list": (OneLevelsList, "not list"),
        "divided by zero": (EmptySentences, "NaN"),
        "no module": (lambda channels: lambda visual, words, word_mask: visual[0], "nn.Module"),
    },
}

ALTERNATIVES = {
    "a row of Table 2": {"rebuilt": rebuilt, "by cases": by_cases},
    "the baseline from parts": {"level by level": by_level, "einsum": by_einsum},
    "an interval over seeds": {"scipy": by_scipy, "loops": by_loops},
    "is the difference clear?": {"paired t-test": t_test, "zero outside": zero_outside},
    "the finale": {"gated levels": GatedLevels},
}
