"""A small data set in UNC's layout, whole and in order: the tests of this folder spoil it."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
PHOTOS = Path("images/mscoco/images/train2014")


def photo(number: int, kind: str = "JPEG") -> bytes:
    """A photo of coloured blocks: (48, 64)."""
    blocks = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(stream, kind)
    return stream.getvalue()


def image_name(number: int) -> str:
    return f"COCO_train2014_{number:012}.jpg"


def make_instances(images: int = 4) -> dict:
    """Image n has annotation 10 n, a box of polygon or of run-lengths, of category 1 or 2."""
    counts = [HEIGHT * 8, HEIGHT * 16, HEIGHT * 40]
    return {
        "images": [
            {"id": n, "file_name": image_name(n), "height": HEIGHT, "width": WIDTH}
            for n in range(1, images + 1)
        ],
        "annotations": [
            {
                "id": 10 * n,
                "image_id": n,
                "category_id": 1 + n % 2,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}
                if n % 4 == 0
                else [[4.5, 5, 30, 5, 30, 20 + n, 4.5, 20]],
            }
            for n in range(1, images + 1)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "cup"}],
    }


def make_refs(images: int = 4) -> list[dict]:
    """A ref for each image, two sentences each; the last one is of val, the rest of train."""
    return [
        {
            "ref_id": n - 1,
            "ann_id": 10 * n,
            "image_id": n,
            "category_id": 1,
            "file_name": f"COCO_{n}_{n}.jpg",
            "split": "val" if n == images else "train",
            "sent_ids": [2 * n, 2 * n + 1],
            "sentences": [
                {"sent_id": 2 * n, "raw": "Left cup", "sent": "left cup", "tokens": ["left"]},
                {"sent_id": 2 * n + 1, "raw": "2nd", "sent": f"man number {n}", "tokens": []},
            ],
        }
        for n in range(1, images + 1)
    ]


def write_small(data: Path, refs: object = None, instances: object = None, images: int = 4) -> Path:
    """The data set in the folder `data`, with other refs or instances where they are given."""
    (data / "refcoco").mkdir(parents=True)
    (data / PHOTOS).mkdir(parents=True)
    refs = make_refs(images) if refs is None else refs
    instances = make_instances(images) if instances is None else instances
    (data / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    (data / "refcoco" / "instances.json").write_text(json.dumps(instances))
    for number in range(1, images + 1):
        (data / PHOTOS / image_name(number)).write_bytes(photo(number))
    return data


def refcoco_zip(images: int = 4) -> bytes:
    """What refcoco.zip holds."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("refcoco/", "")
        archive.writestr("refcoco/instances.json", json.dumps(make_instances(images)))
        archive.writestr("refcoco/refs(unc).p", pickle.dumps(make_refs(images), protocol=2))
        archive.writestr("refcoco/refs(google).p", pickle.dumps([], protocol=2))
    return stream.getvalue()


def glove_zip(extra: int = 50) -> bytes:
    """A GloVe text of five numbers per word, in a zip: two needed words among others."""
    random = np.random.default_rng(0)
    words = ["the", "left", *[f"other{n}" for n in range(extra)], ". . .", "cup", "Cup"]
    text = "".join(f"{w} {' '.join(f'{x:.5f}' for x in random.normal(size=5))}\n" for w in words)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("glove.840B.300d.txt", text)
    return stream.getvalue()


def changed(document: object, *path_and_value: object) -> object:
    """A copy of `document` in which the place at the path holds the value."""
    document = copy.deepcopy(document)
    *path, key, value = path_and_value
    record = document
    for step in path:
        record = record[step]
    record[key] = value
    return document


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    files = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
