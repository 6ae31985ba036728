"""Weights from files: read without running anything, and loaded exactly or not at all."""

import hashlib
import re
import reprlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shnet_lib.errors import ShnetError


class WeightsError(ShnetError):
    """Weights that are missing, unreadable or of another architecture; the message says which."""


def read_checkpoint(path: Path) -> dict:
    """Read a torch or safetensors file without running anything it contains.

    Raises WeightsError where it is missing, damaged, or wants more than tensors and plain numbers.
    """
    if not path.is_file():
        raise WeightsError(
            f"no weights at {path.absolute()}: put the file there or change backbone_weights"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _require_its_own_size(path)
        with torch.serialization.safe_globals(_numpy_scalars()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # torch answers a file that is none of its own with any exception
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            raise WeightsError(
                f"{path} was not opened, since that could run code: beside tensors it holds "
                f"{wanted[1]} (or it is damaged). Save its tensors alone, a state_dict, and give "
                "that file"
            ) from error
        raise WeightsError(
            f"{path} is damaged or no file of weights ({type(error).__name__}): fetch it again"
        ) from error
    if not isinstance(checkpoint, dict):
        raise WeightsError(
            f"{path} holds a {type(checkpoint).__name__}, expected tensors by name (a state_dict)"
        )
    return checkpoint


def _require_its_own_size(path: Path) -> None:
    """torch packs nothing, so a file that unpacks to more than it is was not written by torch."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:
            raise WeightsError(
                f"{path} was not opened: its {path.stat().st_size:,} bytes unpack to {unpacked:,}, "
                "which no file of weights does. Fetch it again, from a place you trust"
            )


def _numpy_scalars() -> list:
    """What a numpy number is made of in a pickle: many checkpoints keep their best score as one.

    Files of before numpy 2 call its constructor by an older name.
    """
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("float32", "float64", "int64")]
    return [np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *kinds]


def load_weights(network: nn.Module, path: Path) -> None:
    load_state(network, read_checkpoint(path), str(path))


def load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load `state` exactly: every key, every shape, only finite numbers; or say what differs."""
    require_tensors(state, source)
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    surplus = [key for key in state if key not in own]
    reshaped = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or surplus or reshaped:
        raise WeightsError(
            f"{source} holds another architecture than {type(network).__name__}: "
            f"{len(missing)} keys missing (first {missing[:2]}), {len(surplus)} unknown "
            f"(first {surplus[:2]}), {len(reshaped)} of another shape (first {reshaped[:2]})"
        )
    damaged = [key for key, value in state.items() if not torch.isfinite(value.float()).all()]
    if damaged:
        raise WeightsError(f"{source} is damaged: {damaged[0]} holds NaN or infinity")
    network.load_state_dict(state)


def require_tensors(state: dict, source: str) -> None:
    """Raise WeightsError unless `state` is plain numeric tensors by name."""
    if not isinstance(state, dict):
        raise WeightsError(
            f"{source} holds a {type(state).__name__} where a state_dict belongs: take another file"
        )
    for key, value in state.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided
        if not isinstance(key, str) or not plain or value.is_quantized or value.is_complex():
            raise WeightsError(
                f"{source}: {reprlib.repr(key)} is a {type(value).__name__} and not a tensor of "
                "plain numbers. Save the network's state_dict alone, and give that file"
            )


def without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without what DataParallel ("module.") and Lightning ("model.") put before them."""
    return {re.sub(r"^((module|model)\.)+", "", key): value for key, value in state.items()}


def fingerprint(network: nn.Module) -> str:
    """A short digest of the weights: tells in a checkpoint which backbone it was trained on."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
