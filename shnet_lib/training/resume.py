"""A run that was interrupted goes on where it was last saved, bit for bit.

    runs/x/last/step-000500/network.safetensors     the weights
                            optimizer.safetensors   AdamW's averages, by the weight's name
                            random-0.json           the random numbers' state, one per process
                            progress.json           the step, the history, the best row

Nothing in there is a pickle, so that resuming runs nothing that lies in the folder. The learning
rate is a function of the step and need not be kept.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from shnet_lib.data.text import Vocabulary
from shnet_lib.files import remove_folder, unfinished, whole_folder, write_json, write_table
from shnet_lib.model.shnet import SHNet
from shnet_lib.model.weights import fingerprint
from shnet_lib.training.checkpoint import (
    EMBEDDING,
    CheckpointError,
    fill_network,
    newest,
    read_saved_json,
    read_weights,
    save_model,
    saved_weights,
    step_folder,
)
from shnet_lib.training.config import TrainConfig


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    seconds: float = 0.0  # of all sittings together
    history: list[dict[str, Any]] = field(default_factory=list)  # a row of figures per evaluation
    best: dict[str, Any] | None = None  # the row with the best overall IoU on the validation split
    without_gain: int = 0  # evaluations since then

    def add(self, row: dict[str, Any]) -> None:
        """Put an evaluation into the history."""
        self.history.append(row)
        self.step, self.seconds = row["step"], row["seconds"]
        self.without_gain += 1
        if self.best is None or row["val_overall_iou"] > self.best["val_overall_iou"]:
            self.best, self.without_gain = row, 0


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run: `save` and `load`. Every process calls them.

    The folders of all processes are one and the same (a shared file system).
    """

    folder: Path
    config: TrainConfig
    vocabulary: Vocabulary
    network: SHNet
    optimizer: AcceleratedOptimizer
    accelerator: Accelerator

    def save(self, progress: Progress) -> None:
        """Write best/ if the last evaluation was the best, history.csv and last/.

        Raises:
            CheckpointError: the disk is full, or cannot be written for another reason. What was
                saved before is whole.
        """
        main = self.accelerator.is_main_process
        try:
            with _explaining_full_disk(self._bytes_to_save, self.folder):
                if main and not progress.without_gain:
                    self._save_best(progress)
                if main:
                    write_table(self.folder / "history.csv", progress.history)
                self._save_last(progress)
        finally:
            if main:
                tidy(self.folder)
        self.accelerator.wait_for_everyone()

    def load(self) -> Progress:
        """Bring the newest checkpoint back, into the network and all that a further step uses.

        Raises:
            CheckpointError: there is none, or it is damaged, or it was written with another
                backbone or by another number of processes (each has its own random state and its
                own share of the data).
        """
        last = last_checkpoint(self.folder)
        document = read_saved_json(last / "progress.json", PROGRESS_FIELDS)
        processes = self.accelerator.num_processes
        if document["processes"] != processes:
            raise CheckpointError(
                f"{last.absolute()} was written by {document['processes']} processes, this run has "
                f"{processes}: resume with {document['processes']}"
            )
        if document["backbone"] != fingerprint(self.network.backbone):
            raise CheckpointError(
                f"{last.absolute()} was trained on another backbone than "
                f"model.backbone_weights = {self.config.model.backbone_weights}: give it the file "
                f"that it was begun with (fingerprint {document['backbone']})"
            )
        best = step_folder(self.folder / "best", document["best"]["step"])
        read_saved_json(best / "card.json", {})  # else the run would end without its result
        fill_network(self.network, read_weights(last / "network.safetensors"), self.config, last)
        self._load_optimizer(last / "optimizer.safetensors")
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(document["scaler"])
        _set_random_states(last / self._random_name, self.accelerator.device)
        return Progress(**{name: document[name] for name in asdict(Progress())})

    @property
    def _random_name(self) -> str:
        return f"random-{self.accelerator.process_index}.json"

    @property
    def _trained(self) -> list[str]:
        """The weights' names in the order in which the optimiser holds them."""
        return [name for name, weight in self.network.named_parameters() if weight.requires_grad]

    def _save_best(self, progress: Progress) -> None:
        row = progress.history[-1]
        val = {k.removeprefix("val_"): v for k, v in row.items() if k.startswith("val_")}
        card = {"command": self.config.command(), "seed": self.config.seed}
        card |= {"step": row["step"], "val": val}
        best = step_folder(self.folder / "best", row["step"])
        save_model(best, self.network, self.config, self.vocabulary, card)

    def _save_last(self, progress: Progress) -> None:
        """The main process makes the folder and gives it its name; each puts its own part there."""
        last = step_folder(self.folder / "last", progress.step)
        main = self.accelerator.is_main_process
        with whole_folder(last) if main else nullcontext(unfinished(last)) as new:
            self.accelerator.wait_for_everyone()
            write_json(new / self._random_name, _random_states(self.accelerator.device))
            if main:
                save_file(saved_weights(self.network, self.config), new / "network.safetensors")
                save_file(self._optimizer_tensors(), new / "optimizer.safetensors")
                scaler = self.accelerator.scaler
                document = asdict(progress)
                document["processes"] = self.accelerator.num_processes
                document["backbone"] = fingerprint(self.network.backbone)
                document["scaler"] = None if scaler is None else scaler.state_dict()
                write_json(new / "progress.json", document)
            self.accelerator.wait_for_everyone()

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        state, names = self.optimizer.state_dict()["state"], self._trained
        return {
            f"{kind}.{names[number]}": value.detach().cpu().contiguous()
            for number, values in state.items()
            for kind, value in values.items()
        }

    def _load_optimizer(self, path: Path) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        numbers = {name: number for number, name in enumerate(self._trained)}
        for key, value in read_weights(path).items():
            kind, _, name = key.partition(".")
            if name not in numbers:
                raise CheckpointError(f"{path.absolute()} holds {name!r}, which is not trained")
            state.setdefault(numbers[name], {})[kind] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _bytes_to_save(self) -> int:
        """At most: the weights twice (best/, last/), and the two averages of AdamW (last/). The
        folders before stay until the new ones stand."""
        weights = sum(value.nbytes for value in saved_weights(self.network, self.config).values())
        averages = sum(w.nbytes for w in self.network.parameters() if w.requires_grad)
        return 2 * weights + 2 * averages


PROGRESS_FIELDS = {
    "step": int, "seconds": float, "history": list, "best": dict, "without_gain": int,
    "processes": int, "backbone": str,
}  # fmt: skip


def has_progress(run_folder: Path) -> bool:
    return newest(Path(run_folder) / "last") is not None


def last_checkpoint(run_folder: Path) -> Path:
    """Raises CheckpointError where the run has none."""
    last = newest(Path(run_folder) / "last")
    if last is None:
        raise CheckpointError(
            f"{Path(run_folder).absolute()} ended before its first evaluation and has nothing to "
            "resume: begin it anew, without resume"
        )
    return last


def read_progress(run_folder: Path) -> dict[str, Any]:
    """How far the run came: its step, history, best row and seconds at the last evaluation.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    return read_saved_json(last_checkpoint(run_folder) / "progress.json", PROGRESS_FIELDS)


def saved_word_vectors(run_folder: Path) -> Tensor | None:
    """(words, D): the embedding as it was saved; none where the words are one-hot.

    GloVe's text is not read again when a run goes on.
    """
    return read_weights(last_checkpoint(run_folder) / "network.safetensors").get(EMBEDDING)


def tidy(run_folder: Path) -> None:
    """Delete what the newest checkpoint does not name: older ones, and what a crash left."""
    kept = set()
    if has_progress(run_folder):
        best = read_progress(run_folder)["best"]["step"]
        kept = {last_checkpoint(run_folder), step_folder(run_folder / "best", best)}
    for name in ("last", "best"):
        for folder in (run_folder / name).glob("step-*"):
            if folder not in kept:
                remove_folder(folder)


@contextmanager
def _explaining_full_disk(count: Callable[[], int], folder: Path) -> Iterator[None]:
    """Raise CheckpointError where the block cannot write: with the bytes free, and `count` needed.

    Python, torch and safetensors have each their own kind of error for a full disk.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(folder).free
        raise CheckpointError(
            f"{folder.absolute()} could not be written ({error}): an evaluation writes "
            f"{count():,} bytes, and {free:,} are free. What was saved before is whole: make room, "
            "or move the folder to another disk, and resume"
        ) from error


# --- random numbers -------------------------------------------------------------------------------


def _random_states(device: torch.device) -> dict[str, Any]:
    """Of Python, numpy, torch and the device, as JSON holds them."""
    kind, keys, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), *rest],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
    }
    if device.type != "cpu":
        state = torch.get_device_module(device).get_rng_state()
        states["device"] = state.cpu().numpy().tobytes().hex()
    return states


def _set_random_states(path: Path, device: torch.device) -> None:
    states = read_saved_json(path, {"python": list, "numpy": list, "torch": str})
    try:
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state(tuple(states["numpy"]))
        torch.set_rng_state(_bytes(states["torch"]))
        if device.type != "cpu":
            torch.get_device_module(device).set_rng_state(_bytes(states["device"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path.absolute()} holds no random state of this device ({error!r}): copy it again, "
            "and resume on a device of the same kind"
        ) from error


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
