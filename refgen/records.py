"""Records of a data set in REFER's layout, as both makers write them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from pycocotools import mask as coco_mask


class Utterance(Protocol):
    """A phrase with its spelling as typed and the family of its query."""

    raw: str
    text: str
    family: str


def mask_record(mask: np.ndarray, crowd: bool = False) -> dict[str, Any]:
    """(H, W) bool -> what an annotation of instances.json says of its mask."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle["counts"] = rle["counts"].decode("ascii")
    return {
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": int(crowd),
        "segmentation": rle,
    }


def ref_record(
    number: int,
    image: int,
    category: int,
    file_name: str,
    split: str,
    first: int,
    written: Sequence[Utterance],
) -> dict[str, Any]:
    """A ref and its annotation have one number; its sentences are numbered from `first` on."""
    return {
        "ref_id": number,
        "ann_id": number,
        "image_id": image,
        "category_id": category,
        "file_name": file_name,
        "split": split,
        "sent_ids": list(range(first, first + len(written))),
        "sentences": [
            {
                "sent_id": first + i,
                "raw": one.raw,
                "sent": one.text,
                "tokens": one.text.split(),
                "family": one.family,
            }
            for i, one in enumerate(written)
        ],
    }
