"""Frozen features of every image once, instead of once an epoch.

The backbone is frozen (section 4.2), so that its three levels of an image never change. Keeping
them saves the decoding and the backbone: much on a small data set that fits into memory
(RefShapes), 18 % at the paper's size, where UNC would take 43 GB.
"""

from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from shnet_lib.data.dataset import ReferringDataset


class Photos(Dataset):
    """The images of a `ReferringDataset`, each once: row -> (3, S, S) float32, normalised."""

    def __init__(self, dataset: ReferringDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset.image_paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.dataset.transform(self.dataset.read_image(row)).as_subclass(Tensor)


def cache_levels(
    backbone: nn.Module,
    dataset: ReferringDataset,
    workers: int = 0,
    batch_size: int = 32,
    free_memory: Callable[[], int] = lambda: psutil.virtual_memory().available,
) -> list[Tensor]:
    """Three float16 tensors (images, C_l, h_l, w_l): what `dataset.levels` takes.

    Half precision keeps 11 bits of each feature. Every process of a run keeps its own copy.

    Raises:
        MemoryError: the features are larger than the free memory; told before they are made.
        ValueError: a feature is beyond float16's range.
    """
    device = next(backbone.parameters()).device
    loader = DataLoader(Photos(dataset), batch_size=batch_size, num_workers=workers)
    levels: list[Tensor] = []
    row = 0
    for images in tqdm(loader, desc="features of every image", leave=False):
        made = [level.half().cpu() for level in backbone(images.to(device))]
        if not all(torch.isfinite(level).all() for level in made):
            raise ValueError("a feature is beyond float16's range: set cache_features=False")
        if not levels:
            levels = _room_for(made, len(loader.dataset), free_memory())
        for level, part in zip(levels, made, strict=True):
            level[row : row + len(part)] = part
        row += len(images)
    return levels


def _room_for(made: list[Tensor], images: int, free: int) -> list[Tensor]:
    """Empty tensors for all images, shaped after the features of the first few."""
    needed = sum(level[0].nbytes for level in made) * images
    if needed > free:
        raise MemoryError(
            f"the features of {images} images take {needed / 1e9:.3g} GB, "
            f"{free / 1e9:.3g} GB are free: set cache_features=False"
        )
    return [torch.empty(images, *level.shape[1:], dtype=level.dtype) for level in made]
