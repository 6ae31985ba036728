"""Three drawn photos in the published layout of UNC, UNC+ and G-Ref, with what real ones have.

Photos of three sizes, an object of several polygons that overlap, one of compressed run-lengths, a
crowd of uncompressed ones, persons and other things, several sentences of each ref.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as run_lengths

PHOTOS = Path("images/mscoco/images/train2014")
SIZES = {581857: (96, 128), 431896: (120, 90), 72243: (80, 80)}  # image id -> height, width
COLOURS = ["#c23b22", "#2255c2", "#2e8b57", "#c9a227", "#7b3fa0", "#404040"]
PERSON, CUP = {"id": 1, "name": "person"}, {"id": 47, "name": "cup"}


def disc(x: float, y: float, radius: float) -> list[float]:
    """A polygon of 16 corners."""
    angles = np.arange(16) * np.pi / 8
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).ravel().tolist()


def box(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


# (annotation id, image id, category, polygons, form); form "crowd" and "compressed" are run-lengths
OBJECTS = [
    (101, 581857, PERSON, [disc(30, 30, 10.5), box(21, 34, 18, 40)], "polygons"),
    (102, 581857, CUP, [box(70.5, 50, 22, 30)], "polygons"),
    (103, 581857, CUP, [disc(105, 65, 13)], "polygons"),
    (104, 581857, PERSON, [disc(10 + 12 * n, 8, 4) for n in range(9)], "crowd"),
    (201, 431896, CUP, [box(12, 60, 20.5, 24)], "polygons"),
    (202, 431896, CUP, [disc(60, 40, 15)], "compressed"),
    (301, 72243, PERSON, [disc(24, 20, 9), box(16, 27, 16, 38)], "polygons"),
    (302, 72243, CUP, [box(48, 30, 20, 26)], "polygons"),
]
# data set's folder and refs file -> (annotation id, split, sentences)
TRAIN = [
    (101, "train", ["left person", "the person on the left", "man in red"]),
    (102, "train", ["blue cup", "cup in the middle", "2nd thing from left"]),
    (103, "train", ["right cup", "round green cup", "cup at right edge"]),
]
REST = [
    (201, "val", ["bottom left cup", "the square one"]),
    (302, "val", ["cup beside the person", "cup"]),
]
TESTS = [(301, "testA", ["the person"]), (202, "testB", ["round cup", "top cup"])]
REFS = {
    ("refcoco", "refs(unc).p"): TRAIN + REST + TESTS,
    ("refcoco+", "refs(unc).p"): TRAIN + REST + TESTS,
    ("refcocog", "refs(google).p"): TRAIN + REST,
}


def drawn_mask(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    plane = Image.new("1", (width, height))
    for polygon in polygons:
        ImageDraw.Draw(plane).polygon(polygon, fill=1)
    return np.array(plane, dtype=np.uint8)


def record(ann_id: int, image_id: int, category: dict, polygons: list, form: str) -> dict:
    """An annotation as COCO writes it."""
    mask = drawn_mask(polygons, *SIZES[image_id])
    rows, columns = np.nonzero(mask)
    x, y = int(columns.min()), int(rows.min())
    segmentation = polygons
    if form == "crowd":
        pixels = mask.T.ravel()
        bounds = np.flatnonzero(np.diff(pixels, prepend=0)).tolist()
        counts = np.diff([0, *bounds, len(pixels)]).tolist()
        segmentation = {"size": list(mask.shape), "counts": counts}
    elif form == "compressed":
        found = run_lengths.encode(np.asfortranarray(mask))
        segmentation = {"size": list(mask.shape), "counts": found["counts"].decode()}
    return {
        "id": ann_id,
        "image_id": image_id,
        "category_id": category["id"],
        "bbox": [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y],
        "area": int(mask.sum()),
        "iscrowd": int(form == "crowd"),
        "segmentation": segmentation,
    }


def write_drawn(data: Path) -> Path:
    """The three data sets in the folder `data`."""
    (data / PHOTOS).mkdir(parents=True)
    names = {image_id: f"COCO_train2014_{image_id:012}.jpg" for image_id in SIZES}
    for image_id, (height, width) in SIZES.items():
        ramp = np.linspace(150, 230, height)[:, None, None] + np.linspace(0, 25, width)[:, None]
        photo = Image.fromarray(np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8))
        for number, (_, of, _, polygons, _) in enumerate(OBJECTS):
            for polygon in polygons if of == image_id else []:
                ImageDraw.Draw(photo).polygon(polygon, fill=COLOURS[number % len(COLOURS)])
        photo.save(data / PHOTOS / names[image_id], quality=95)

    annotations = {each[0]: record(*each) for each in OBJECTS}
    images = [
        {"id": image_id, "file_name": names[image_id], "height": height, "width": width}
        for image_id, (height, width) in SIZES.items()
    ]
    instances = {
        "images": images,
        "annotations": list(annotations.values()),
        "categories": [PERSON, CUP],
    }
    for (folder, file), told in REFS.items():
        (data / folder).mkdir()
        (data / folder / "instances.json").write_text(json.dumps(instances))
        refs, sent_id = [], 0
        for ref_id, (ann_id, split, texts) in enumerate(told):
            of = annotations[ann_id]
            sent_ids = list(range(sent_id, sent_id := sent_id + len(texts)))
            refs.append(
                {
                    "ref_id": ref_id,
                    "ann_id": ann_id,
                    "image_id": of["image_id"],
                    "category_id": of["category_id"],
                    # The published refs name files that do not exist; a reader goes by image_id.
                    "file_name": names[of["image_id"]].replace(".jpg", f"_{ref_id}.jpg"),
                    "split": split,
                    "sent_ids": sent_ids,
                    "sentences": [
                        {"sent_id": n, "raw": text.title(), "sent": text, "tokens": text.split()}
                        for n, text in zip(sent_ids, texts, strict=True)
                    ],
                }
            )
        (data / folder / file).write_bytes(pickle.dumps(refs, protocol=2))
    return data
