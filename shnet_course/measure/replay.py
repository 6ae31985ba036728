"""A long run, kept so that lesson 06 can play it again: what one network answered at many steps.

    python -m shnet_course.measure.replay --run runs/replay

trains preset `tables` on RefShapes, some ten minutes on one core, keeps the weights of chosen steps
in the folder, and writes `docs/results/replay.npz`. Where the folder holds a finished run already,
it only writes.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import set_seed
from safetensors.torch import save_file

from shnet_course.measure.attention import attend, shrink_to_grid
from shnet_course.measure.inside import affinities_inside
from shnet_course.paths import COURSE
from shnet_course.pictures.base import photo_of
from shnet_lib.data import Expression, read_expressions
from shnet_lib.data.text import Vocabulary
from shnet_lib.errors import ShnetError, report_error
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.checkpoint import (
    TrainedSHNet,
    fill_network,
    newest,
    read_settings,
    read_weights,
    saved_weights,
)
from shnet_lib.training.config import TrainConfig, configure
from shnet_lib.training.fit import fit
from shnet_lib.training.resume import has_progress, read_progress

DATA, DATASET = COURSE / "data" / "refshapes", "refshapes-unc"
EVERY = 50  # steps between two evaluations
VALIDATED = 300  # expressions of the validation split
# Densely where most happens.
KEPT_STEPS = (
    *range(0, 401, 50), *range(500, 1001, 100), *range(1200, 2001, 200), *range(2400, 4001, 400)
)  # fmt: skip


def run_config(steps: int = KEPT_STEPS[-1]) -> TrainConfig:
    """The settings of the run: the tables' own, evaluated more often."""
    return configure("tables", steps=steps, evaluate_every=EVERY)


def train_and_keep(
    config: TrainConfig, data: Mapping[str, Sequence[Expression]], run: Path
) -> None:
    """Train, and keep the weights of `KEPT_STEPS` as `run/steps/NNNNNN.safetensors`.

    A run that was interrupted goes on, and a finished one is left as it is.

    Raises:
        What `fit` raises.
    """
    kept = run / "steps"
    kept.mkdir(parents=True, exist_ok=True)

    def keep(history: list[dict[str, Any]]) -> None:
        step = history[-1]["step"]
        if step in KEPT_STEPS:
            weights = newest(run / "last") / "network.safetensors"
            shutil.copyfile(weights, kept / f"{step:06}.safetensors")

    started = has_progress(run)
    if not started:
        network = untrained(config, words_of(data))
        save_file(saved_weights(network, config), kept / "000000.safetensors")
    if not started or read_progress(run)["step"] < config.steps:
        fit(config, data, run, resume=started, on_evaluation=keep)


def words_of(data: Mapping[str, Sequence[Expression]]) -> Vocabulary:
    """The words of the training expressions."""
    return Vocabulary.from_texts(expression.text for expression in data["train"])


def untrained(config: TrainConfig, vocabulary: Vocabulary) -> SHNet:
    """The network before its first step, as `fit` makes it."""
    set_seed(config.seed)
    return SHNet(config.model, len(vocabulary))


# --- what is kept of it ---------------------------------------------------------------------------

RECORD = COURSE / "docs" / "results" / "replay.npz"
SCENE = "refshapes_val_000019.png"  # of the validation split
KEPT_PHRASES = ("heart at the top", "grass")
KEPT_WORDS = ("heart", "grass")  # of each phrase the one whose attention is kept
LEVEL, GATE = 4, (2, 4)  # whose attention; Lambda_24
MAP_SIDE = 64  # pixels of a kept probability map


@dataclass(frozen=True)
class Replay:
    """F steps of a run, and what it answered at each of them to P phrases on one scene."""

    steps: np.ndarray  # (F,)
    photo: np.ndarray  # (height, width, 3) uint8
    phrases: list[str]  # P of them
    words: list[str]  # of each phrase the one whose attention is kept
    targets: np.ndarray  # (P, height, width) bool
    probability: np.ndarray  # (P, F, MAP_SIDE, MAP_SIDE) float32
    attention: np.ndarray  # (P, F, H, W): what the word takes from each pixel, of 1 in all
    gate: np.ndarray  # (P, F, H, W), one channel
    channel: int
    curve: np.ndarray  # (rows, 3): step, training loss, overall IoU on validation
    length: int  # steps of the whole run

    def mask(self, phrase: int, step: int) -> np.ndarray:
        """(height, width) bool: what the network marked for a phrase, by their numbers."""
        small = torch.from_numpy(self.probability[phrase, step])[None, None]
        large = F.interpolate(small, self.photo.shape[:2], mode="bilinear")[0, 0]
        return large.numpy() > 0.5


def read_replay(path: Path = RECORD) -> Replay:
    """What `write_replay` wrote.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}
    for name in ("phrases", "words"):
        kept[name] = kept[name].tolist()
    for name in ("channel", "length"):
        kept[name] = int(kept[name])
    kept["probability"] = kept["probability"].astype(np.float32) / 255
    for name in ("attention", "gate"):
        kept[name] = kept[name].astype(np.float32)
    return Replay(**kept)


def write_replay(run: Path, expressions: Sequence[Expression], path: Path = RECORD) -> None:
    """Ask the network of each kept step, and write small numbers.

    The gate's channel is the one that opens more in what is meant than elsewhere, at the last step.

    Args:
        expressions: one for each of KEPT_WORDS, of one scene.
    """
    config, vocabulary = read_settings(run)
    network = untrained(config, vocabulary)
    rows: dict[str, list] = {"steps": [], "probability": [], "attention": [], "gate": []}
    for file in sorted((run / "steps").glob("*.safetensors")):
        fill_network(network, read_weights(file), config, file)
        trained = TrainedSHNet(network.eval(), vocabulary, config, {})
        probability, attention, gate = ask_all(trained, expressions)
        rows["steps"].append(int(file.stem))
        rows["probability"].append((255 * probability).round().astype(np.uint8))
        rows["attention"].append(attention.astype(np.float16))
        rows["gate"].append(gate)
    gates = np.stack(rows["gate"], axis=1)  # (P, F, C, H, W)
    targets = np.stack([expression.mask() for expression in expressions])
    inside = shrink_to_grid(targets, config.model.grid) > 0.5  # (P, H, W)
    opens = [
        gate[:, own].mean(1) - gate[:, ~own].mean(1)
        for gate, own in zip(gates[:, -1], inside, strict=True)
    ]
    channel = int(np.mean(opens, axis=0).argmax())
    history = read_progress(run)["history"]
    np.savez_compressed(
        path,
        steps=np.array(rows["steps"]),
        photo=photo_of(expressions[0]),
        phrases=np.array([expression.text for expression in expressions]),
        words=np.array(KEPT_WORDS),
        targets=targets,
        probability=np.stack(rows["probability"], axis=1),
        attention=np.stack(rows["attention"], axis=1),
        gate=gates[:, :, channel].astype(np.float16),
        channel=channel,
        curve=np.array([[row[name] for name in REPLAYED_CURVE] for row in history], np.float32),
        length=config.steps,
    )


REPLAYED_CURVE = ("step", "loss", "val_overall_iou")


def ask_all(
    trained: TrainedSHNet, expressions: Sequence[Expression]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each phrase its probability, its word's attention and its gate.

    (P, MAP_SIDE, MAP_SIDE), (P, H, W), and the gate whole, (P, C, H, W).
    """
    probability, attention, gate = [], [], []
    for look, word in zip(attend(trained, expressions), KEPT_WORDS, strict=True):
        probability.append(shrink_to_grid(look.probability[None], MAP_SIDE)[0])
        over_pixels = look.words_over_pixels()[LEVEL - 2, -1]  # (T, H, W) of the last layer
        attention.append(over_pixels[look.words.index(word)])
        expression = look.expression
        gates = affinities_inside(trained, expression.photo(), expression.text)
        gate.append(gates[GATE].numpy())
    return np.stack(probability), np.stack(attention), np.stack(gate)


def choose(expressions: Sequence[Expression]) -> list[Expression]:
    """Those that KEPT_PHRASES name, in their order.

    Raises:
        StopIteration: the data set has other phrases.
    """
    return [
        next(e for e in expressions if e.text == text and e.image_path.name == SCENE)
        for text in KEPT_PHRASES
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where something is wrong; one line says what."""
    parser = argparse.ArgumentParser(prog="python -m shnet_course.measure.replay")
    parser.add_argument("--run", type=Path, required=True, help="the folder of the run")
    given = parser.parse_args(arguments)
    try:
        data = {
            "train": read_expressions(DATA, DATASET, "train"),
            "val": read_expressions(DATA, DATASET, "val")[:VALIDATED],
        }
        train_and_keep(run_config(), data, given.run)
        write_replay(given.run, choose(data["val"]))
    except ShnetError as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
