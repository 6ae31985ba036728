"""What never changes of an image, computed once and not once per epoch.

`cache_levels` keeps frozen features in memory. The backbone is frozen (section 4.2), so that its
three levels of an image never change. Keeping them saves the decoding and the backbone: much on a
small data set that fits into memory (RefShapes), 18 % at the paper's size, where UNC would take
43 GB.

`cache_images` keeps the resized photos in a file, 5.2 GB for UNC's training images at 320 x 320.
It saves the decoding and the resizing: docs/performance.md says when that pays.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.data import Dataset

from shnet_lib.data.dataset import ReferringDataset, ResizeTogether
from shnet_lib.files import whole_file
from shnet_lib.training.config import ConfigError
from shnet_lib.training.limits import OutOfMemory, free_memory, make_loader, show_reading


class Photos(Dataset):
    """The images of a `ReferringDataset`, each once: row -> (3, S, S).

    `transform` resizes a photo; by default to what the network sees, normalised float32.
    """

    def __init__(self, dataset: ReferringDataset, transform: Callable | None = None) -> None:
        self.dataset = dataset
        self.transform = transform or dataset.transform

    def __len__(self) -> int:
        return len(self.dataset.image_paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.transform(self.dataset.read_image(row)).as_subclass(Tensor)


def cache_levels(
    backbone: nn.Module,
    dataset: ReferringDataset,
    workers: int = 0,
    batch_size: int = 32,
    free_memory: Callable[[], int] = free_memory,
) -> list[Tensor]:
    """Three float16 tensors (images, C_l, h_l, w_l): what `dataset.levels` takes.

    Half precision keeps 11 bits of each feature. Every process of a run keeps its own copy.

    Raises:
        OutOfMemory: the features are larger than the free memory; told before they are made.
        ConfigError: a feature is beyond float16's range.
    """
    device = next(backbone.parameters()).device
    loader = make_loader(Photos(dataset), workers, batch_size=batch_size)
    levels: list[Tensor] = []
    row = 0
    for images in show_reading(loader, "features of every image"):
        made = [level.half().cpu() for level in backbone(images.to(device))]
        if not all(torch.isfinite(level).all() for level in made):
            raise ConfigError("a feature is beyond float16's range: set cache_features=False")
        if not levels:
            levels = _allocate(made, len(loader.dataset), free_memory())
        for level, part in zip(levels, made, strict=True):
            level[row : row + len(part)] = part
        row += len(images)
    return levels


def _allocate(made: list[Tensor], images: int, free: int) -> list[Tensor]:
    """Empty tensors for all images, shaped after the features of the first few."""
    needed = sum(level[0].nbytes for level in made) * images
    if needed > free:
        raise OutOfMemory(
            f"the features of {images} images take {needed / 1e9:.3g} GB, "
            f"{free / 1e9:.3g} GB are free: set cache_features=False"
        )
    return [torch.empty(images, *level.shape[1:], dtype=level.dtype) for level in made]


def cache_images(dataset: ReferringDataset, folder: Path, workers: int = 0) -> Path:
    """A file of the resized photos, (images, 3, S, S) uint8: what `dataset.resized_photos` takes.

    The file's name tells the size and the photos. If it is there, it is whole: it is written under
    another name, flushed to the disk and then renamed, by one process at a time.

    Raises:
        DataError: a photo cannot be read.
        ConfigError: the folder cannot be written, or the disk is full.
    """
    path = folder / f"photos-{dataset.image_size}-{_which_photos(dataset)}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                with whole_file(path) as new:
                    _write_photos(dataset, new, workers)
    except OSError as error:
        needed = len(dataset.image_paths) * 3 * dataset.image_size**2
        raise ConfigError(
            f"cache_images = {folder}: {path.name} could not be written there ({error}). It takes "
            f"{needed:,} bytes{_free(folder)}: name another folder, or set cache_images=none"
        ) from error
    return path


def _free(folder: Path) -> str:
    """How much room there is, as far as it can be known."""
    there = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
    return f", and {shutil.disk_usage(there).free:,} are free" if there else ""


def _which_photos(dataset: ReferringDataset) -> str:
    """A digest of the photos in their order, by path, size in bytes and time of change."""
    digest = hashlib.sha256()
    for path in dataset.image_paths:
        file = path.stat()
        digest.update(f"{path.absolute()} {file.st_size} {file.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _write_photos(dataset: ReferringDataset, path: Path, workers: int) -> None:
    """numpy's own file format, photo behind photo."""
    size = dataset.image_size
    photos = Photos(dataset, ResizeTogether((size, size), antialias=True))
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(photos), 3, size, size)}
    loader = make_loader(photos, workers, batch_size=16)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for batch in show_reading(loader, "resized photos"):
            file.write(batch.numpy().tobytes())
