"""What a run leaves on disk, and how it comes back.

    runs/x/config.json, vocabulary.json     the settings and the words
           last/                            everything that resuming needs (accelerate's state)
           best/                            a trained network that `load_shnet` reads
           history.csv, metrics.json        what was measured
           lock                             held while a run is at work in the folder

A folder is written beside its place, flushed to the disk and then renamed: a crash leaves the old
one or the new one, never a half.

A frozen backbone is no result of the training. A network file therefore holds the rest, and says
with a fingerprint which backbone belongs to it; only a small one that was trained for RefShapes
anew and a random one, which exist nowhere else, travel inside.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from shnet_lib.data import Expression
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.backbone import fingerprint, load_state
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.config import TrainConfig

EMBEDDING = "word_encoder.embedding.weight"


class CheckpointError(ValueError):
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
    """Write a folder that `load_shnet` reads: weights, settings, words and a model card.

    `card` is free: command, seeds, metrics. An existing folder is replaced as a whole.
    """
    with replacing(folder) as new:
        state = {
            name: value.detach().cpu().contiguous()
            for name, value in network.state_dict().items()
            if _is_saved(name, config)
        }
        save_file(state, new / "model.safetensors")
        write_json(new / "config.json", config.to_dict())
        write_json(new / "vocabulary.json", vocabulary.to_dict())
        write_json(new / "card.json", card)
        backbone = {
            "name": config.model.backbone,
            "weights": config.model.backbone_weights,
            "fingerprint": fingerprint(network.backbone),
            "included": _carries_backbone(config),
        }
        write_json(new / "backbone.json", backbone)


def load_shnet(
    folder: Path, backbone_weights: str | None = None, device: torch.device | str = "cpu"
) -> TrainedSHNet:
    """The network that `save_model` wrote, in evaluation mode.

    Args:
        backbone_weights: where the frozen backbone's file lies here, if it is not in the folder and
            not where it lay when the network was trained.

    Raises:
        CheckpointError: a file is missing or damaged, or the backbone is not the one trained with.
        WeightsError: the weights belong to another architecture, or the backbone's are not there.
    """
    folder = _whole(Path(folder))
    config = TrainConfig.from_dict(read_json(folder / "config.json"))
    vocabulary = Vocabulary.from_dict(read_json(folder / "vocabulary.json"))
    backbone = read_json(folder / "backbone.json")
    card = read_json(folder / "card.json")
    state = _read_weights(folder / "model.safetensors")

    source = "later" if backbone["included"] else backbone_weights or backbone["weights"]
    network = SHNet(
        replace(config.model, backbone_weights=source), len(vocabulary), state.get(EMBEDDING)
    )
    _fill(network, state, config, folder)
    if fingerprint(network.backbone) != backbone["fingerprint"]:
        raise CheckpointError(
            f"{folder.absolute()} was trained with other weights of {backbone['name']} than those "
            f"in {source}: give backbone_weights the file it was trained with "
            f"(it was {backbone['weights']}, fingerprint {backbone['fingerprint']})"
        )
    return TrainedSHNet(network.to(device).eval(), vocabulary, config, card)


def load_weights_into(network: SHNet, folder: Path, config: TrainConfig) -> None:
    """Put the weights of a saved network into one of the same settings that already stands."""
    folder = _whole(folder)
    _fill(network, _read_weights(folder / "model.safetensors"), config, folder)


def start_from(network: SHNet, vocabulary: Vocabulary, folder: Path) -> None:
    """Let a training start from a trained network: on a finer grid, at a lower rate.

    Both have the same layers and words. Grid, image size and dropout may differ: no weight's shape
    depends on them.

    Raises:
        CheckpointError: the folder holds no trained network, or one that knows other words.
        WeightsError: its layers are others; the message names the first ones.
    """
    other = load_shnet(folder)
    if other.vocabulary.to_dict() != vocabulary.to_dict():
        raise CheckpointError(
            f"{Path(folder).absolute()} was trained on other expressions: its "
            f"{len(other.vocabulary)} words are not the {len(vocabulary)} of these. Start from a "
            "network trained on them"
        )
    load_state(network, other.network.state_dict(), str(Path(folder).absolute()))


def _carries_backbone(config: TrainConfig) -> bool:
    own_small = config.model.backbone == "shapes" and config.model.backbone_weights != "shipped"
    return own_small or config.model.backbone_weights == "random"


def _is_saved(name: str, config: TrainConfig) -> bool:
    """Not what any network of these settings already has: the frozen backbone, one-hot vectors."""
    if name.startswith("backbone."):
        return _carries_backbone(config)
    return not (name == EMBEDDING and config.model.word_vectors == "onehot")


def _fill(network: SHNet, state: dict[str, Tensor], config: TrainConfig, folder: Path) -> None:
    own = {k: v for k, v in network.state_dict().items() if not _is_saved(k, config)}
    load_state(network, own | state, str(folder.absolute()))


def _read_weights(path: Path) -> dict[str, Tensor]:
    _require(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path.absolute()} is damaged ({error}): copy it again") from error


# --- a run that can go on -------------------------------------------------------------------------


def keep_evaluation(
    row: dict[str, Any],
    state: dict[str, Any],
    run_folder: Path,
    network: SHNet,
    config: TrainConfig,
    vocabulary: Vocabulary,
    accelerator: Accelerator,
) -> None:
    """Put an evaluation into the history; write best/ if it is the best, history.csv and last/.

    Raises:
        CheckpointError: the disk is full, or cannot be written for another reason. What was saved
            before is whole.
    """
    state["history"].append(row)
    state["without_gain"] += 1
    is_best = state["best"] is None or row["val_overall_iou"] > state["best"]["val_overall_iou"]
    if is_best:
        state["best"], state["without_gain"] = row, 0
    with _room_for(_bytes_to_keep(network), run_folder):
        if accelerator.is_main_process and is_best:
            val = {key[4:]: value for key, value in row.items() if key.startswith("val_")}
            card = {"command": config.command(), "seed": config.seed}
            card |= {"step": row["step"], "val": val}
            save_model(run_folder / "best", network, config, vocabulary, card)
        if accelerator.is_main_process:
            write_table(run_folder / "history.csv", state["history"])
        save_progress(run_folder, accelerator, state)


def save_progress(run_folder: Path, accelerator: Accelerator, progress: Mapping[str, Any]) -> None:
    """Write last/: weights, optimiser, schedule, random states and `progress`. Every process calls.

    The folders of all processes are one and the same (a shared file system).
    """
    last = run_folder / "last"
    with replacing(last) if accelerator.is_main_process else nullcontext(_staging(last)) as new:
        accelerator.wait_for_everyone()
        accelerator.save_state(str(new))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json(new / "progress.json", progress)
    accelerator.wait_for_everyone()


def load_progress(run_folder: Path, accelerator: Accelerator) -> dict[str, Any]:
    """Bring back what `save_progress` wrote; returns `progress`.

    Raises:
        CheckpointError: there is nothing, or it was written by another number of processes (each
            has its own random state and its own share of the data).
    """
    last = run_folder / "last"
    if not has_progress(run_folder):
        raise CheckpointError(
            f"{run_folder.absolute()} ended before its first evaluation and has nothing to resume: "
            "begin it anew, without resume"
        )
    progress = read_progress(run_folder)
    if progress["processes"] != accelerator.num_processes:
        raise CheckpointError(
            f"{last.absolute()} was written by {progress['processes']} processes, this run has "
            f"{accelerator.num_processes}: resume with {progress['processes']}"
        )
    accelerator.load_state(str(_whole(last)))
    return progress


def has_progress(run_folder: Path) -> bool:
    return _whole(run_folder / "last").is_dir()


def read_progress(run_folder: Path) -> dict[str, Any]:
    """How far the run came: its step, history, best row and seconds at the last evaluation."""
    return read_json(_whole(run_folder / "last") / "progress.json")


def _bytes_to_keep(network: SHNet) -> int:
    """What an evaluation writes at most: the weights twice (best/, last/), and for each weight that
    is trained the two averages of AdamW (last/). The old folders stay until the new ones stand."""
    weights = sum(value.nbytes for value in network.state_dict().values())
    trained = sum(weight.nbytes for weight in network.parameters() if weight.requires_grad)
    return 2 * weights + 2 * trained


@contextmanager
def _room_for(needed: int, folder: Path) -> Iterator[None]:
    """Raise CheckpointError, with the bytes `needed` and free, where the block cannot write.

    Python, torch and safetensors have each their own kind of error for a full disk.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(folder).free
        raise CheckpointError(
            f"{folder.absolute()} could not be written ({error}): an evaluation writes "
            f"{needed:,} bytes, and {free:,} are free. What was saved before is whole: make room, "
            "or move the folder to another disk, and resume"
        ) from error


# --- files ----------------------------------------------------------------------------------------


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A fresh folder to write into; it takes the place of `folder` when the block ends well."""
    folder = Path(folder)
    _clear(_staging(folder))
    try:
        yield _staging(folder)
        _commit(folder)
    except BaseException:
        shutil.rmtree(_staging(folder), ignore_errors=True)
        raise


def _staging(folder: Path) -> Path:
    return folder.with_name(folder.name + ".new")


def _previous(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _commit(folder: Path) -> None:
    """Flush the staging folder to the disk and rename it. At any moment one whole folder exists."""
    new, old = _staging(folder), _previous(folder)
    for path in (*new.rglob("*"), new):
        _flush(path)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _whole(folder: Path) -> Path:
    """The folder, or its predecessor if a crash fell between the two renames of `_commit`."""
    return folder if folder.exists() or not _previous(folder).exists() else _previous(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes the place of `path` when the block ends well.

    The old file or the new one is there, never a half.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = _staging(path)
    try:
        yield new
        _flush(new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one piece."""
    with replacing_file(path) as new:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        new.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises CheckpointError where the file is missing or no JSON."""
    _require(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path.absolute()} is no JSON ({error}): copy it again") from error


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns as CSV, in one piece."""
    with replacing_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _require(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"there is no {path.absolute()}: is {path.parent.name}/ the folder of a trained SHNet, "
            "copied whole?"
        )
