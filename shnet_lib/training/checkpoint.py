"""A trained network on the disk, and what a run's folder holds.

    runs/x/config.json, vocabulary.json     the settings and the words
           last/step-000500/                everything that resuming needs (resume.py)
           best/step-000450/                a trained network; `load_shnet` takes best/ too
           history.csv, metrics.json        what was measured
           lock                             held while a run is at work in the folder

What is saved gets a new folder, which is there whole or not at all. Only then are older ones
deleted.

A frozen backbone is no result of the training. A network file therefore holds the rest, and says
with a fingerprint which backbone belongs to it; only a small one that was trained for RefShapes
anew and a random one, which exist nowhere else, travel inside.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from shnet_lib.data import DataError, Expression
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.errors import read_json, require_fields
from shnet_lib.data.text import Vocabulary
from shnet_lib.errors import ShnetError
from shnet_lib.files import whole_folder, write_json
from shnet_lib.model.shnet import SHNet
from shnet_lib.model.weights import fingerprint, load_state
from shnet_lib.training.config import ConfigError, TrainConfig

EMBEDDING = "word_encoder.embedding.weight"
BACKBONE_FIELDS = {"name": str, "weights": str, "fingerprint": str, "included": bool}


class CheckpointError(ShnetError):
    """A run or a saved network that is missing, damaged, or not the one that was asked for."""


@dataclass(frozen=True)
class TrainedSHNet:
    """A network with what is needed to use it: the words it knows and the settings that made it."""

    network: SHNet
    vocabulary: Vocabulary
    config: TrainConfig
    card: dict[str, Any]  # where it comes from and what it reached

    def evaluation_set(self, expressions: Sequence[Expression]) -> ReferringDataset:
        """The expressions as this network reads them, with their masks at the photos' size."""
        size, words = self.config.model.image_size, self.config.max_words
        return ReferringDataset(list(expressions), self.vocabulary, size, words, evaluation=True)


# --- a trained network ----------------------------------------------------------------------------


def save_model(
    folder: Path, network: SHNet, config: TrainConfig, vocabulary: Vocabulary, card: Mapping
) -> None:
    """Write a new folder that `load_shnet` reads: weights, settings, words and a model card.

    `card` is free: command, seeds, metrics.

    Raises:
        FileExistsError: there is such a folder.
    """
    backbone = {
        "name": config.model.backbone,
        "weights": config.model.backbone_weights,
        "fingerprint": fingerprint(network.backbone),
        "included": _carries_backbone(config),
    }
    with whole_folder(folder) as new:
        save_file(saved_weights(network, config), new / "model.safetensors")
        write_json(new / "config.json", config.to_dict())
        write_json(new / "vocabulary.json", vocabulary.to_dict())
        write_json(new / "card.json", card)
        write_json(new / "backbone.json", backbone)


def load_shnet(
    folder: Path, backbone_weights: str | None = None, device: torch.device | str = "cpu"
) -> TrainedSHNet:
    """The network that `save_model` wrote, in evaluation mode.

    Args:
        folder: the network's own, or a run's best/, in which the latest is taken.
        backbone_weights: where the frozen backbone's file lies here, if it is not in the folder and
            not where it lay when the network was trained.

    Raises:
        CheckpointError: a file is missing or damaged, or the backbone is not the one trained with.
        WeightsError: the weights belong to another architecture, or the backbone's are not there.
    """
    folder = network_folder(folder)
    config, vocabulary = read_settings(folder)
    backbone = read_saved_json(folder / "backbone.json", BACKBONE_FIELDS)
    card = read_saved_json(folder / "card.json", {})
    state = read_weights(folder / "model.safetensors")

    here = backbone_weights or backbone["weights"]
    source = "later" if backbone["included"] else os.path.expanduser(here)
    network = SHNet(
        replace(config.model, backbone_weights=source), len(vocabulary), state.get(EMBEDDING)
    )
    fill_network(network, state, config, folder)
    if fingerprint(network.backbone) != backbone["fingerprint"]:
        raise CheckpointError(
            f"{folder.absolute()} was trained with other weights of {backbone['name']} than those "
            f"in {source}: give backbone_weights the file it was trained with "
            f"(it was {backbone['weights']}, fingerprint {backbone['fingerprint']})"
        )
    return TrainedSHNet(network.to(device).eval(), vocabulary, config, card)


def network_folder(folder: Path) -> Path:
    """The folder itself, or the latest network in it where it is a run's best/."""
    folder = Path(folder).expanduser()
    return newest(folder) or folder


def read_settings(folder: Path) -> tuple[TrainConfig, Vocabulary]:
    """The settings and the words of a network or of a run.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    try:
        config = TrainConfig.from_dict(read_saved_json(folder / "config.json", {"model": dict}))
    except ConfigError as error:
        raise CheckpointError(f"{(folder / 'config.json').absolute()}: {error}") from error
    words = read_saved_json(folder / "vocabulary.json", {"words": list, "keep_numbers": bool})
    try:
        return config, Vocabulary.from_dict(words)
    except (DataError, TypeError) as error:
        raise CheckpointError(f"{(folder / 'vocabulary.json').absolute()}: {error}") from error


def load_weights_into(network: SHNet, folder: Path, config: TrainConfig) -> None:
    """Put the weights of a saved network into one of the same settings that already stands."""
    folder = network_folder(folder)
    fill_network(network, read_weights(folder / "model.safetensors"), config, folder)


def require_start(folder: Path, vocabulary: Vocabulary) -> None:
    """Whether a training can start from the network in there, as far as its words tell.

    Raises:
        CheckpointError: the folder holds no trained network, or one that knows other words.
    """
    folder = network_folder(folder)
    _, words = read_settings(folder)
    _require(folder / "model.safetensors")
    if words.to_dict() != vocabulary.to_dict():
        raise CheckpointError(
            f"{folder.absolute()} was trained on other expressions: its {len(words)} words are not "
            f"the {len(vocabulary)} of these. Start from a network trained on them"
        )


def start_from(network: SHNet, folder: Path) -> None:
    """Let a training start from a trained network: on a finer grid, at a lower rate.

    Both have the same layers, words and backbone; the backbone is the one that `network` has
    already. Grid, image size and dropout may differ: no weight's shape depends on them.

    Raises:
        CheckpointError: it was trained on another backbone.
        WeightsError: its layers are others; the message names the first ones.
    """
    folder = network_folder(folder)
    config, _ = read_settings(folder)
    backbone = read_saved_json(folder / "backbone.json", BACKBONE_FIELDS)
    if fingerprint(network.backbone) != backbone["fingerprint"]:
        raise CheckpointError(
            f"{folder.absolute()} was trained on another backbone than this run's: set "
            f"model.backbone={backbone['name']} and model.backbone_weights to the file it was "
            f"trained with (it was {backbone['weights']}, fingerprint {backbone['fingerprint']})"
        )
    state = read_weights(folder / "model.safetensors")
    state = {name: value for name, value in state.items() if not name.startswith("backbone.")}
    fill_network(network, state, config, folder)


def saved_weights(network: SHNet, config: TrainConfig) -> dict[str, Tensor]:
    """The weights that are written: all but what any network of these settings already has."""
    return {
        name: value.detach().cpu().contiguous()
        for name, value in network.state_dict().items()
        if _is_saved(name, config)
    }


def fill_network(
    network: SHNet, state: dict[str, Tensor], config: TrainConfig, source: Path
) -> None:
    """Put saved weights into a network that has the rest already.

    Raises:
        WeightsError: its layers are others; the message names the first ones.
    """
    kept = {
        name: value
        for name, value in network.state_dict().items()
        if name not in state and (name.startswith("backbone.") or not _is_saved(name, config))
    }
    load_state(network, kept | state, str(source.absolute()))


def _carries_backbone(config: TrainConfig) -> bool:
    own_small = config.model.backbone == "shapes" and config.model.backbone_weights != "shipped"
    return own_small or config.model.backbone_weights == "random"


def _is_saved(name: str, config: TrainConfig) -> bool:
    """Not the frozen backbone, which lies in a file of its own, and not one-hot vectors."""
    if name.startswith("backbone."):
        return _carries_backbone(config)
    return not (name == EMBEDDING and config.model.word_vectors == "onehot")


# --- folders and files ----------------------------------------------------------------------------


def step_folder(folder: Path, step: int) -> Path:
    """What is saved after a step gets a folder of its own: best/step-000500."""
    return folder / f"step-{step:06}"


def newest(folder: Path) -> Path | None:
    """The whole folder of the latest step in there, if there is one."""
    steps = {int(path.name[5:]): path for path in folder.glob("step-*") if path.name[5:].isdigit()}
    return steps[max(steps)] if steps else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Raises CheckpointError where the file is missing or damaged."""
    _require(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path.absolute()} is damaged ({error}): copy it again") from error


def read_saved_json(path: Path, fields: Mapping[str, type]) -> dict[str, Any]:
    """A record that has at least these fields, with values of these types.

    Raises:
        CheckpointError: the file is missing or damaged, or holds something else.
    """
    _require(path)
    try:
        document = read_json(path, "Copy it again")
        require_fields(document, fields, str(path.absolute()), "Copy it again")
    except DataError as error:
        raise CheckpointError(str(error)) from error
    return document


def _require(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"there is no {path.absolute()}: is {path.parent.name}/ the folder of a trained SHNet, "
            "copied whole?"
        )
