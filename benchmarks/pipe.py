"""How fast one core turns files into batches: photos, masks, and both as training reads them."""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from shnet_lib.data import read_expressions
from shnet_lib.data.dataset import ImageBatchSampler, ReferringDataset, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.training.cache import cache_images

PER_IMAGE = 5  # the presets' expressions_per_image
BATCH = 50


def measure_pipe(data: Path, dataset: str, image_size: int, repeats: int) -> dict[str, Any]:
    """Rates per second on one core, over the training split of a data set in the REFER layout."""
    expressions = read_expressions(data, dataset, "train")
    vocabulary = Vocabulary.from_texts(expression.text for expression in expressions)
    plain, cached = (ReferringDataset(expressions, vocabulary, image_size) for _ in range(2))
    rows = range(len(plain.image_paths))
    photos = [plain.read_image(row) for row in rows]
    masks = [expression.mask() for expression in expressions]
    found = {
        "photos": len(photos),
        "photo pixels": int(np.median([photo.shape[1] * photo.shape[2] for photo in photos])),
        "photo bytes": int(np.median([path.stat().st_size for path in plain.image_paths])),
        "expressions": len(expressions),
        "image size": image_size,
    }
    tasks: dict[str, tuple[Callable[[Any], Any], Iterable]] = {
        "photos decoded": (plain.read_image, rows),
        "photos resized and normalised": (lambda photo: plain.transform({"image": photo}), photos),
        "masks drawn": (lambda expression: expression.mask(), expressions),
        "masks resized": (
            lambda mask: plain.transform({"target": tv_tensors.Mask(torch.from_numpy(mask)[None])}),
            masks,
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        cached.resized_photos = cache_images(cached, Path(folder))
        tasks["photos from the cache, normalised"] = (
            lambda row: cached.transform({"image": cached._read_resized(row)}),
            rows,
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        rates = {
            name: len(items) / _seconds(run, items, repeats) for name, (run, items) in tasks.items()
        }
        for name, data_set in (("from photos", plain), ("from the cache", cached)):
            sampler = ImageBatchSampler(data_set, BATCH, PER_IMAGE)

            def read(group: Any, data_set: ReferringDataset = data_set) -> dict:
                return collate([data_set[indices] for indices in group])

            batches = list(sampler)
            rates[f"expressions in batches, {name}"] = (
                sampler.batch_size * len(batches) / _seconds(read, batches, repeats)
            )
        torch.set_num_threads(threads)
    return found | {f"{name} per second": rate for name, rate in rates.items()}


def _seconds(run: Callable[[Any], Any], items: Iterable, repeats: int) -> float:
    """The fastest of some rounds over all items."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        for item in items:
            run(item)
        best = min(best, time.perf_counter() - began)
    return best
