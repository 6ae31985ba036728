"""Section 7: the whole run, from JPEGs to metrics, through the library's own loader and `fit`."""

import io
import json
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.gpu.bench import PRESET, Bench
from shnet_lib.data import Expression, read_expressions
from shnet_lib.data.dataset import collate
from shnet_lib.data.refer import DATASETS
from shnet_lib.data.text import Vocabulary
from shnet_lib.training import fit as fit_module
from shnet_lib.training.config import TrainConfig, configure
from shnet_lib.training.evaluate import evaluate
from shnet_lib.training.prepare import MicroBatches, make_dataset

DATASET = "unc"
WORKERS = (8, 14, 4)  # the preset's first
UNC = {"train": 120_624, "val": 10_834, "testA and testB": 10_752}  # expressions
EPOCHS = 30
WORDS = [a + b for a in "ba be bi bo ca ce ci co da de".split() for b in "lu mo na re ti".split()]


def measure_whole(bench: Bench) -> None:
    images = {"train": 6, "val": 2} if bench.tiny else {"train": 2000, "val": 200}
    folder = bench.scratch / "photos"
    size = (96, 128) if bench.tiny else (480, 640)
    bench.measure("photos", partial(write_photos, folder, images, size))
    data = {split: read_expressions(folder, DATASET, split) for split in images}
    workers = (1,) if bench.tiny else WORKERS
    for number in workers:
        bench.measure("loader alone", partial(loader_rate, bench, data, number), workers=number)
    for number in workers:
        row = partial(through_fit, bench, data, number)
        found = bench.measure("fit and evaluate", row, workers=number)
        if found:
            bench.measure("30 epochs of UNC", partial(thirty_epochs, found), workers=number)


def write_photos(folder: Path, images: dict[str, int], size: tuple[int, int]) -> dict:
    """A data set in the REFER layout: 2.5 things a photo, 2.8 phrases a thing, as UNC has them.

    A JPEG's decoding costs by its pixels and its bytes, whatever it shows: a few pictures under
    many names are read from as many files.
    """
    height, width = size
    random = np.random.default_rng(0)
    layout = DATASETS[DATASET]
    photos = folder / layout.image_folder
    photos.mkdir(parents=True)
    pictures = [_jpeg(random, height, width) for _ in range(16)]
    refs, records, annotations = [], [], []
    for split, count in images.items():
        for _ in range(count):
            image_id = len(records) + 1
            name = f"COCO_train2014_{image_id:012}.jpg"
            (photos / name).write_bytes(pictures[image_id % len(pictures)])
            records.append({"id": image_id, "file_name": name, "height": height, "width": width})
            for _ in range(2 + image_id % 2):
                number = len(annotations) + 1
                ids = {"image_id": image_id, "category_id": 1}
                polygon = {"segmentation": [_blob(random, height, width)], "iscrowd": 0}
                annotations.append({"id": number, **ids, **polygon})
                phrases = [_phrase(random, 10 * number + n) for n in range(2 + (number % 5 > 0))]
                ref = {"ref_id": number, "ann_id": number, "split": split, "sentences": phrases}
                refs.append(ids | ref)
    instances = {"images": records, "annotations": annotations}
    instances["categories"] = [{"id": 1, "name": "thing"}]
    (folder / layout.folder).mkdir()
    (folder / layout.folder / "instances.json").write_text(json.dumps(instances))
    (folder / layout.folder / layout.refs_file).write_bytes(pickle.dumps(refs, protocol=2))
    vectors = [[word, *(f"{x:.4f}" for x in random.normal(size=300))] for word in WORDS]
    (folder / "glove.txt").write_text("".join(" ".join(line) + "\n" for line in vectors))
    expressions = sum(len(ref["sentences"]) for ref in refs)
    size = float(np.mean([len(picture) for picture in pictures]))
    return {"photos": len(records), "expressions": expressions, "KB a photo": size / 1000}


def _jpeg(random: np.random.Generator, height: int, width: int) -> bytes:
    """Soft colours under some grain: about the bytes of a COCO photo."""
    coarse = random.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(soft) + random.normal(0, 11, (height, width, 1))
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _blob(random: np.random.Generator, height: int, width: int) -> list[float]:
    """A polygon of 24 corners, about a twelfth of the photo."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = height * random.uniform(0.15, 0.24) * random.uniform(0.8, 1.2, 24)
    x = width * random.uniform(0.3, 0.7) + radius * np.cos(turn)
    y = height * random.uniform(0.3, 0.7) + radius * np.sin(turn)
    return np.stack((x, y), axis=1).round(1).flatten().tolist()


def _phrase(random: np.random.Generator, sent_id: int) -> dict:
    text = " ".join(random.choice(WORDS, random.integers(2, 8)).tolist())
    return {"sent_id": sent_id, "sent": text}


def run_config(bench: Bench, workers: int, steps: int) -> TrainConfig:
    """unc-320 on a ResNet-101 of random weights, evaluated twice."""
    model = bench.config(PRESET.model.sfm)
    changed = {each.name: getattr(model, each.name) for each in fields(model)}
    changed = {
        name: value for name, value in changed.items() if value != getattr(PRESET.model, name)
    }
    settings = {f"model.{name}": value for name, value in changed.items()}
    settings |= {"workers": workers, "steps": steps, "evaluate_every": steps // 2}
    settings |= {"glove": str(bench.scratch / "photos" / "glove.txt")}
    return configure("unc-320", **settings, **({"batch_size": 4} if bench.tiny else {}))


# --- the loader -----------------------------------------------------------------------------------


def loader_rate(bench: Bench, data: dict[str, list[Expression]], workers: int) -> dict:
    """Expressions a second where nothing but the loader works, its workers on their way."""
    config = run_config(bench, workers, 2)
    vocabulary = Vocabulary.from_texts(expression.text for expression in data["train"])
    dataset = make_dataset(config, data["train"], vocabulary, torch.nn.Identity())
    batches = MicroBatches(config, dataset)
    batches.last_step = 100_000
    _require_room(config, dataset.image_size)
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=bench.device.type == "cuda",
    )
    reading = iter(loader)
    began = time.perf_counter()
    next(reading)
    first = time.perf_counter() - began
    for _ in range(1 if bench.tiny else 3 * workers):
        next(reading)
    began, count, spent = time.perf_counter(), 0, 0.0
    while spent < (0.05 if bench.tiny else 4.0):
        next(reading)
        count, spent = count + 1, time.perf_counter() - began
    rate = count * batches.batch_size / spent
    return {"expressions/s": rate, "seconds to the first batch": first}


def _require_room(config: TrainConfig, size: int) -> None:
    """Workers hand their batches over in /dev/shm: where it is too small they die of a bus error.

    Raises:
        MemoryError: it is too small for the batches that wait, two a worker.
    """
    if not os.path.isdir("/dev/shm"):
        return
    images = config.batch_size / config.expressions_per_image * 1.5
    batch = int(4 * size**2 * (3 * images + config.batch_size))
    needed, free = 2 * (config.workers + 1) * batch, shutil.disk_usage("/dev/shm").free
    if needed > free:
        raise MemoryError(
            f"/dev/shm has {free / 2**20:.0f} MiB free, {config.workers} workers need "
            f"{needed / 2**20:.0f}"
        )


# --- training -------------------------------------------------------------------------------------


def through_fit(bench: Bench, data: dict[str, list[Expression]], workers: int) -> dict:
    """Rates of the second half of a run, and what stands beside its steps."""
    steps = 2 if bench.tiny else 240
    config = run_config(bench, workers, steps)
    _require_room(config, config.model.image_size)
    waits: list[float] = []
    in_groups = fit_module.in_groups

    def timed(loader: DataLoader, size: int) -> Iterator[tuple]:
        groups = in_groups(loader, size)
        while True:
            began = time.perf_counter()
            if (group := next(groups, None)) is None:
                return
            waits.append(time.perf_counter() - began)
            yield group

    folder = bench.scratch / f"run-{workers}"
    with patch.object(fit_module, "in_groups", timed):
        result = fit_module.fit(config, data, folder)
    first, second = result.history
    batch = min(config.batch_size, len(data["train"]))
    training = batch * (steps // 2) / second["samples_per_second"]
    val_set = result.trained.evaluation_set(data["val"])
    began = time.perf_counter()
    evaluate(result.trained.network, val_set, result.accelerator, "original", batch, None, workers)
    evaluating = time.perf_counter() - began
    shutil.rmtree(folder)
    beside = second["seconds"] - first["seconds"] - training - evaluating
    return {
        "steps": steps,
        "expressions/s": second["samples_per_second"],
        "share waiting for data": sum(waits[steps // 2 :]) / training,
        "expressions/s evaluated": len(data["val"]) / evaluating,
        "seconds to save": max(beside, 0.0),
        "loss": second["loss"],
    }


def thirty_epochs(found: dict) -> dict:
    """The minutes that these rates make of 30 epochs of UNC: `val` after each, all at the end."""
    training = EPOCHS * UNC["train"] / found["expressions/s"]
    evaluated = EPOCHS * UNC["val"] + UNC["val"] + UNC["testA and testB"]
    evaluating = evaluated / found["expressions/s evaluated"]
    saving = EPOCHS * found["seconds to save"]
    return {
        "minutes": (training + evaluating + saving) / 60,
        "of them training": training / 60,
        "evaluating": evaluating / 60,
        "saving": saving / 60,
    }
