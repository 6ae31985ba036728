"""A handful of real RefShapes scenes, and a network of random weights that looks at them."""

from pathlib import Path

import torch

from refgen.refshapes import generate
from shnet_lib.data import Expression, read_expressions
from shnet_lib.data.text import Vocabulary
from shnet_lib.model import SHNet
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.config import configure


def make_scenes(folder: Path) -> Path:
    return generate(folder / "refshapes", {"train": 1, "val": 4, "testA": 1, "testB": 1}, size=64)


def make_network(expressions: list[Expression], **changes) -> TrainedSHNet:
    torch.manual_seed(0)
    config = configure("smoke", **{f"model.{name}": value for name, value in changes.items()})
    vocabulary = Vocabulary.from_texts(expression.text for expression in expressions)
    network = SHNet(config.model, len(vocabulary))
    return TrainedSHNet(network.eval(), vocabulary, config, {})


def read_val(data: Path) -> list[Expression]:
    return read_expressions(data, "refshapes-unc", "val")
