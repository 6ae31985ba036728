"""A data set of some squares in the published layout, and settings small enough for a test."""

import json
import pickle
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from PIL import Image

from shnet_lib.data import Expression, read_expressions
from shnet_lib.data.dataset import ReferringDataset, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.config import TrainConfig, configure
from shnet_lib.training.prepare import MicroBatches

TINY_MODEL = {
    "model.image_size": 32,
    "model.grid": 4,
    "model.channels": 16,
    "model.backbone": "shapes",
    "model.backbone_weights": "random",
    "model.word_vectors": "onehot",
    "model.decoder_widths": (16, 16),
}
IMAGES = {"train": 6, "val": 3, "testA": 2, "testB": 1}
COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


def tiny(**overrides) -> TrainConfig:
    """The quick preset with a network of some thousand weights."""
    settings = {"dataset": "unc", "batch_size": 8, "cache_features": False, "evaluate_every": None}
    return configure("tables", **TINY_MODEL | settings | overrides)


def write_squares(data: Path) -> Path:
    """A "unc" data set: a red and a blue square side by side, each with two sentences."""
    photos = data / "images/mscoco/images/train2014"
    photos.mkdir(parents=True)
    (data / "refcoco").mkdir()
    random = np.random.default_rng(0)
    refs, images, annotations = [], [], []
    for split, count in IMAGES.items():
        for _ in range(count):
            image_id = len(images) + 1
            height, width = int(random.integers(30, 50)), int(random.integers(40, 60))
            photo = random.integers(90, 130, (height, width, 3), dtype=np.uint8)
            name = f"{image_id:03}.png"
            colours = random.permutation(list(COLOURS)).tolist()
            for side, colour in zip(("left", "right"), colours, strict=True):
                size = int(random.integers(9, 16))
                x = int(random.integers(2, width // 2 - size)) + (side == "right") * width // 2
                y = int(random.integers(2, height - size))
                photo[y : y + size, x : x + size] = COLOURS[colour]
                ann_id = len(annotations) + 1
                corners = [x, y, x + size, y, x + size, y + size, x, y + size]
                annotations.append(
                    {
                        "id": ann_id,
                        "image_id": image_id,
                        "category_id": 1,
                        "segmentation": [corners],
                        "bbox": [x, y, size, size],
                        "area": size * size,
                        "iscrowd": 0,
                    }
                )
                texts = (f"the {colour} one", f"square on the {side}")
                sentences = [
                    {"sent_id": 10 * ann_id + n, "sent": text, "raw": text, "family": family}
                    for n, (text, family) in enumerate(
                        zip(texts, ("attribute", "location"), strict=True)
                    )
                ]
                refs.append(
                    {
                        "ref_id": ann_id,
                        "ann_id": ann_id,
                        "image_id": image_id,
                        "category_id": 1,
                        "file_name": "names_no_file.jpg",
                        "split": split,
                        "sent_ids": [sentence["sent_id"] for sentence in sentences],
                        "sentences": sentences,
                    }
                )
            Image.fromarray(photo).save(photos / name)
            images.append({"id": image_id, "file_name": name, "height": height, "width": width})
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "square"}],
    }
    (data / "refcoco/instances.json").write_text(json.dumps(instances))
    (data / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return data


def read_squares(data: Path) -> dict[str, list[Expression]]:
    return {split: read_expressions(data, "unc", split) for split in IMAGES}


def tiny_texts(**overrides) -> list[str]:
    """The settings of `tiny` as a command line has them."""
    values = TINY_MODEL | {"batch_size": 8, "cache_features": False} | overrides
    return [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in values.items()
    ]


def first_micro_batches(config: TrainConfig, squares: dict, rank: int = 0, world: int = 1):
    """The training words, and what a process reads in its first step."""
    vocabulary = Vocabulary.from_texts(expression.text for expression in squares["train"])
    dataset = ReferringDataset(squares["train"], vocabulary, 32)
    batches = MicroBatches(config, dataset, rank, world)
    batches.last_step = 1
    return vocabulary, [collate([dataset[group] for group in share]) for share in batches]


def evaluation_parts(config: TrainConfig, squares: dict):
    """A network that marks about half of everything, and twelve expressions to measure it on."""
    vocabulary = Vocabulary.from_texts(expression.text for expression in squares["train"])
    set_seed(config.seed)
    network = SHNet(config.model, len(vocabulary)).eval()
    val_set = ReferringDataset(squares["val"], vocabulary, 32, evaluation=True)
    batch = collate([val_set[group] for group in val_set.expressions_of_image])
    with torch.no_grad():
        network.upsample.logits.bias -= network(batch).median()
    return network, val_set
