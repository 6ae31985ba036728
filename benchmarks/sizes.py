"""The two sizes that are measured, and batches of noise: arithmetic costs the same on any image."""

from dataclasses import replace

import torch

from shnet_lib.model import shnet
from shnet_lib.model.shnet import ModelConfig, SHNet

# Section 4.2 of the paper, and where it is silent the released code's sizes. No dropout in SFM: the
# literal version calls it level by level, and would draw other numbers.
PAPER = replace(
    shnet.PAPER,
    backbone="resnet101",
    backbone_weights="random",
    sfm_dropout=0.0,
    train_word_vectors=False,
)
# To see in seconds that the benchmarks work. Its figures say nothing.
TINY = ModelConfig(
    image_size=64,
    grid=6,
    channels=16,
    heads=4,
    backbone="shapes",
    backbone_weights="random",
    sfm_feedforward=16,
    sfm_dropout=0.0,
    decoder_widths=(16, 16, 16, 8),
    train_word_vectors=False,
)
VOCABULARY = 1000
WORDS = 8


def make_network(config: ModelConfig, **changes) -> SHNet:
    torch.manual_seed(0)
    network = SHNet(replace(config, **changes), VOCABULARY, torch.randn(VOCABULARY, 300))
    return network.train()


def make_batch(
    config: ModelConfig, expressions: int, per_image: int = 1, words: int = WORDS
) -> dict:
    """`expressions` of `words` words, `per_image` of them on each image."""
    torch.manual_seed(1)
    size, images = config.image_size, expressions // per_image
    return {
        "images": torch.randn(images, 3, size, size),
        "image_index": torch.arange(images).repeat_interleave(per_image),
        "words": torch.randint(1, VOCABULARY, (expressions, words)),
        "word_mask": torch.ones(expressions, words, dtype=torch.bool),
        "target": (torch.rand(expressions, size, size) > 0.9).float(),
    }
