"""The checks of exercise 08: rows of Table 2, intervals, and the finale."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import sqrt
from statistics import mean, stdev

import torch
from scipy.stats import t as student
from torch import Tensor, nn

from shnet_course.checks.core import Contest, Exercise, add_exercise, seed_torch
from shnet_course.checks.finale import play
from shnet_course.measure.ablations import estimate
from shnet_lib.model.decoder import ASPP, UpsamplingConvolution
from shnet_lib.model.features import LevelProjection, WordEncoder, average_words, onehot_vectors
from shnet_lib.model.fusion import Concatenation
from shnet_lib.model.shnet import TABLE_2, ModelConfig

LESSON = "08_ablations"

# --- a row is a configuration ---------------------------------------------------------------------


def configuration_of(row: str, shnet: ModelConfig) -> ModelConfig:
    """Section 4.4: what a row of Table 2 changes, and nothing else."""
    return replace(shnet, **TABLE_2[row])


def _some_shnet(source: random.Random) -> tuple[ModelConfig]:
    """SHNet at some size: nothing in which the rows differ is off its default."""
    config = ModelConfig(
        image_size=source.choice([320, 448]),
        grid=source.randrange(8, 40),
        channels=64 * source.randrange(1, 8),
        sfm=source.choice(["printed", "released"]),
        backbone=source.choice(["resnet101", "deeplabv3plus"]),
        decoder_dropout=source.choice([0.1, 0.3]),
    )
    return (config,)


def all_rows(
    answer: Callable[[str, ModelConfig], ModelConfig], shnet: ModelConfig
) -> dict[str, dict[str, object]]:
    """What the answer sets in each row: row -> setting -> value."""
    made = {row: answer(row, shnet) for row in TABLE_2}
    return {
        row: asdict(config) if isinstance(config, ModelConfig) else config
        for row, config in made.items()
    }


def _rows_with(
    changes: dict[str, dict[str, object]], base: ModelConfig | None = None
) -> Callable[[str, ModelConfig], ModelConfig]:
    """`configuration_of` with other changes in some rows, or from another configuration."""
    return lambda row, shnet: replace(base or shnet, **{**TABLE_2, **changes}[row])


add_exercise(
    LESSON,
    "a row of Table 2",
    Exercise(
        configuration_of,
        _some_shnet,
        {
            "your rows have the default sizes: begin from the configuration that is given": (
                _rows_with({}, ModelConfig())
            ),
            "“only HCAM” still has SFM: section 4.4 calls it “HCAM without SFM”": (
                _rows_with({"only HCAM": {"fusion": "hcam"}})
            ),
            "“only SFM” still has HCAM: section 4.4 calls it “SFM without HCAM”": (
                _rows_with({"only SFM": {"sfm": "printed"}})
            ),
            "“only HCAM” and “only SFM” are mixed up: “only HCAM” is the row without SFM": (
                _rows_with({"only HCAM": {"fusion": "none"}, "only SFM": {"sfm": "none"}})
            ),
            "the baseline has neither SFM nor HCAM: you took away only SFM": (
                _rows_with({"baseline": {"sfm": "none"}})
            ),
            "the baseline has neither SFM nor HCAM: you took away only HCAM": (
                _rows_with({"baseline": {"fusion": "none"}})
            ),
            "“SFM+Conv3D” and “SFM+ConvLSTM” keep SFM: only HCAM's place is taken": (
                _rows_with(
                    {
                        "SFM+ConvLSTM": {"sfm": "none", "fusion": "convlstm"},
                        "SFM+Conv3D": {"sfm": "none", "fusion": "conv3d"},
                    }
                )
            ),
            "without GloVe a word is one-hot; it stays in that form for the whole training": (
                _rows_with({"SHNet w/o GloVe": {"train_word_vectors": False}})
            ),
        },
        ask=all_rows,
    ),
)

# --- a row is a path through modules --------------------------------------------------------------


class BaselineParts(nn.Module):
    """The modules of Table 2's baseline, not yet connected.

    `projections`: one per level, (I, C_level, h, w) -> (I, C, H, W).
    `word_encoder`: (B, T) word ids -> (B, T, C).
    `mix`: a 1 x 1 convolution with what belongs to it, (B, 6C, H, W) -> (B, C, H, W).
    `aspp`: (B, C, H, W) -> (B, C, H, W).
    `upsample`: (B, C, H, W) -> (B, 1, 4H, 4W).
    """

    def __init__(self) -> None:
        super().__init__()
        channels, levels = 8, (3, 4, 5)
        self.projections = nn.ModuleList(LevelProjection(n, channels, grid=3) for n in levels)
        self.word_encoder = WordEncoder(onehot_vectors(9), channels, trainable=False)
        self.mix = Concatenation(channels).mix
        self.aspp = ASPP(channels, dropout=0.2)
        self.upsample = UpsamplingConvolution(channels, widths=(6, 4), dropout=0.2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


Baseline = Callable[[BaselineParts, list[Tensor], Tensor, Tensor, Tensor], Tensor]


def baseline_by_hand(
    parts: BaselineParts,
    levels: list[Tensor],
    image_index: Tensor,
    words: Tensor,
    word_mask: Tensor,
    average: Callable[[Tensor, Tensor], Tensor] = average_words,
    join: Callable[[list[Tensor], Tensor], list[Tensor]] = lambda visual, tiled: [
        *visual,
        tiled,
        tiled,
        tiled,
    ],
    decode: bool = True,
) -> Tensor:
    """Section 4.4, the baseline; what a known mistake does otherwise is an argument."""
    visual = [
        project(level)[image_index]
        for project, level in zip(parts.projections, levels, strict=True)
    ]
    sentence = average(parts.word_encoder(words), word_mask)
    tiled = sentence[:, :, None, None].expand_as(visual[0])
    context = parts.mix(torch.cat(join(visual, tiled), dim=1))
    return parts.upsample(parts.aspp(context) if decode else context)


def _levels_and_phrases(
    source: random.Random,
) -> tuple[int, list[Tensor], Tensor, Tensor, Tensor]:
    """A seed for the parts; levels of two photos; five phrases on them, with padding."""
    seed_torch(source)
    levels = [torch.randn(2, n, size, size) for n, size in ((3, 12), (4, 6), (5, 3))]
    lengths = torch.tensor([1, 4, 2, 3, 2])
    word_mask = torch.arange(4) < lengths[:, None]
    words = torch.randint(2, 9, (5, 4)) * word_mask
    return source.randrange(10**6), levels, torch.tensor([0, 0, 1, 1, 1]), words, word_mask


def connect(baseline: Baseline, seed: int, *inputs: Tensor | list[Tensor]) -> Tensor:
    """What an answer makes of the same parts, which are in evaluation mode."""
    torch.manual_seed(seed)
    parts = BaselineParts().eval()
    return baseline(parts, *inputs)


def _baseline_with(**otherwise: object) -> Baseline:
    return lambda *inputs: baseline_by_hand(*inputs, **otherwise)


def _interleaved(visual: list[Tensor], tiled: Tensor) -> list[Tensor]:
    return [part for level in visual for part in (level, tiled)]


def _last_state(word_feats: Tensor, word_mask: Tensor) -> Tensor:
    return word_feats[torch.arange(len(word_feats)), word_mask.sum(1) - 1]


add_exercise(
    LESSON,
    "the baseline from parts",
    Exercise(
        baseline_by_hand,
        _levels_and_phrases,
        {
            "your sentence is a mean over padding too: only real words count": (
                _baseline_with(average=lambda word_feats, word_mask: word_feats.mean(1))
            ),
            "you add up the real words and divide by all T places: divide by how many are real": (
                _baseline_with(
                    average=lambda word_feats, word_mask: (word_feats * word_mask[..., None]).mean(
                        1
                    )
                )
            ),
            "your sentence is the state at the last place, often padding: the baseline takes the "
            "mean of the real words": (
                _baseline_with(average=lambda word_feats, word_mask: word_feats[:, -1])
            ),
            "your sentence is the last word's state: the baseline takes the mean of the words": (
                _baseline_with(average=_last_state)
            ),
            "the parts were laid down in another order: first three levels, then three sentences": (
                _baseline_with(join=_interleaved)
            ),
            "the parts were laid down in another order: first the levels, then the sentences": (
                _baseline_with(join=lambda visual, tiled: [tiled, tiled, tiled, *visual])
            ),
            "the levels stand the wrong way round: 2, 3, 4": (
                _baseline_with(join=lambda visual, tiled: [*visual[::-1], tiled, tiled, tiled])
            ),
            "ASPP is missing: the decoder is common to all rows of Table 2": (
                _baseline_with(decode=False)
            ),
        },
        ask=connect,
    ),
)

# --- intervals ------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval."""
    found = estimate(values)
    return found.mean, found.half_width


def _few_runs(source: random.Random) -> tuple[list[float]]:
    """Overall IoUs of three to six seeds."""
    middle = source.uniform(0.4, 0.7)
    return ([middle + source.gauss(0, 0.02) for _ in range(source.randrange(3, 7))],)


def _population_interval(values: Sequence[float]) -> tuple[float, float]:
    deviation = sqrt(mean((value - mean(values)) ** 2 for value in values))
    factor = student.ppf(0.975, len(values) - 1)
    return mean(values), factor * deviation / sqrt(len(values))


add_exercise(
    LESSON,
    "an interval over seeds",
    Exercise(
        interval,
        _few_runs,
        {
            "1.96 is the factor for very many runs: for few of them it is Student's": (
                lambda values: (mean(values), 1.96 * stdev(values) / sqrt(len(values)))
            ),
            "that is where the next run may lie, not the mean: divide by the root of n": (
                lambda values: (
                    mean(values),
                    student.ppf(0.975, len(values) - 1) * stdev(values),
                )
            ),
            "that is the standard deviation of the runs: the interval of their mean needs "
            "Student's factor and the root of n": lambda values: (mean(values), stdev(values)),
            "that is the standard error: Student's factor is missing": (
                lambda values: (mean(values), stdev(values) / sqrt(len(values)))
            ),
            "your standard deviation divides by n: with the mean taken from the same runs it is "
            "n - 1": _population_interval,
            "0.95 leaves 5 % on one side: 2.5 % on each side is 0.975": (
                lambda values: (
                    mean(values),
                    student.ppf(0.95, len(values) - 1) * stdev(values) / sqrt(len(values)),
                )
            ),
            "n runs have n - 1 degrees of freedom": (
                lambda values: (
                    mean(values),
                    student.ppf(0.975, len(values)) * stdev(values) / sqrt(len(values)),
                )
            ),
            "that is the whole width: half of it stands on each side of the mean": (
                lambda values: (interval(values)[0], 2 * interval(values)[1])
            ),
            "those are the interval's two ends: the mean and half of the width are wanted": (
                lambda values: (
                    interval(values)[0] - interval(values)[1],
                    interval(values)[0] + interval(values)[1],
                )
            ),
            "your half width is negative: t has 2.5 % above it, so 0.975 below it": (
                lambda values: (interval(values)[0], -interval(values)[1])
            ),
        },
        tolerance=1e-6,
    ),
)

Runs = dict[int, float]  # seed -> overall IoU


def is_clear(ours: Runs, theirs: Runs) -> bool:
    """Whether the interval of the difference, seed by seed, leaves zero out."""
    return estimate([ours[seed] - theirs[seed] for seed in set(ours) & set(theirs)]).is_clear


def _overlap(ours: Runs, theirs: Runs) -> bool:
    """Whether the intervals of the two rows, each on its own, have a number in common."""
    one, other = estimate(list(ours.values())), estimate(list(theirs.values()))
    return abs(one.mean - other.mean) < one.half_width + other.half_width


def _by_place(ours: Runs, theirs: Runs) -> bool:
    """Pairs as they stand in the dicts, whatever their seeds."""
    pairs = zip(ours.values(), theirs.values(), strict=False)
    return estimate([one - other for one, other in pairs]).is_clear


def _two_rows(
    source: random.Random, day: float, gain: float, kind: tuple[bool, bool, bool]
) -> tuple[Runs, Runs]:
    """Runs of two rows, drawn until they are of a kind. Each row has a seed that the other lacks.

    Args:
        day: how far a seed moves both rows together.
        gain: by how much the first row is better.
        kind: is their difference clear, do their intervals overlap, would it seem clear by place?
    """
    while True:
        seeds = source.sample(range(10), source.randrange(5, 8))
        common = {seed: 0.55 + source.gauss(0, day) for seed in seeds}
        ours = {seed: common[seed] + gain + source.gauss(0, 0.004) for seed in seeds[1:]}
        theirs = {seed: common[seed] + source.gauss(0, 0.004) for seed in sorted(seeds[:-1])}
        if (is_clear(ours, theirs), _overlap(ours, theirs), _by_place(ours, theirs)) == kind:
            return ours, theirs


def _pairs_of_rows(source: random.Random) -> tuple[list[tuple[Runs, Runs]]]:
    """Better, and worse, though the intervals overlap; intervals apart; nothing but chance."""
    return (
        [
            _two_rows(source, day=0.05, gain=0.03, kind=(True, True, False)),
            _two_rows(source, day=0.05, gain=-0.03, kind=(True, True, True)),
            _two_rows(source, day=0.002, gain=0.1, kind=(True, False, True)),
            _two_rows(source, day=0.02, gain=0.0, kind=(False, True, False)),
        ],
    )


add_exercise(
    LESSON,
    "is the difference clear?",
    Exercise(
        is_clear,
        _pairs_of_rows,
        {
            "two intervals that overlap do not make two rows equal: runs of one seed have their "
            "luck in common, so put the interval around the difference, seed by seed": (
                lambda ours, theirs: not _overlap(ours, theirs)
            ),
            "you pair runs by their place: only those of the same seed share their luck": _by_place,
            "a clear loss is clear too: the interval may lie below zero": (
                lambda ours, theirs: (
                    is_clear(ours, theirs) and mean(ours.values()) > mean(theirs.values())
                )
            ),
            "you answer whether zero lies inside: a clear difference leaves it out": (
                lambda ours, theirs: not is_clear(ours, theirs)
            ),
            "means alone always differ: ask whether the interval leaves zero out": (
                lambda ours, theirs: mean(ours.values()) != mean(theirs.values())
            ),
        },
        ask=lambda answer, pairs: [answer(*pair) for pair in pairs],
    ),
)

# --- the finale -----------------------------------------------------------------------------------

add_exercise(LESSON, "the finale", Contest(play))
