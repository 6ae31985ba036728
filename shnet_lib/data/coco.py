"""COCO's instances.json: photos, annotations and categories by id, and the masks they describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from shnet_lib.data.errors import DataError, read_json, require_fields

MEND = "Fetch the annotations again, or mend that record."
ID = (int, str)
IMAGE = {"id": ID, "file_name": str, "height": int, "width": int}
ANNOTATION = {"id": ID, "image_id": ID, "category_id": ID, "segmentation": (list, dict)}
CATEGORY = {"id": ID, "name": str}


class Instances:
    """The records of an instances.json by id; `file` is its full path, for messages.

    DataError where it is missing, damaged, lacks a field, or holds an id twice.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        self.file, self.remedy = path.absolute(), remedy
        document = read_json(path, remedy)
        tables = {"images": list, "annotations": list, "categories": list}
        require_fields(document, tables, str(self.file), remedy)
        self.images = self._by_id(document["images"], "image", IMAGE)
        self.annotations = self._by_id(document["annotations"], "annotation", ANNOTATION)
        self.categories = self._by_id(document["categories"], "category", CATEGORY)

    def _by_id(self, records: list, kind: str, fields: dict) -> dict[int | str, dict]:
        table = {}
        for position, record in enumerate(records):
            require_fields(record, fields, f"{self.file}: {kind} at {position}", self.remedy)
            if record["id"] in table:
                raise DataError(f"{self.file}: {kind} {record['id']} is there twice. {self.remedy}")
            table[record["id"]] = record
        return table


def rasterize(
    segmentation: list | dict, height: int, width: int, record: str = "segmentation"
) -> np.ndarray:
    """The mask (height, width), bool, of an annotation in any of the forms COCO knows.

    A list of polygons [x, y, x, y, ...], a list of run-length dicts, or one such dict, its
    `counts` a list of ints or the compressed bytes or str. The parts of one object may overlap:
    the mask is their union. Where nothing is drawn, a part is malformed, or it is made for
    another image size, DataError names `record`.
    """
    parts = [segmentation] if isinstance(segmentation, dict) else segmentation
    if not parts:
        raise DataError(f"{record} has no polygon and no run-lengths. {MEND}")
    union = np.zeros((height, width), dtype=bool)
    for part in parts:
        draw = _draw_runs if isinstance(part, dict) else _draw_polygon
        union |= draw(part, height, width, record)
    return union


def _draw_polygon(polygon: Any, height: int, width: int, record: str) -> np.ndarray:
    # Two points would be taken for a box [x, y, width, height] by pycocotools.
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise DataError(
            f"{record}: a polygon is a list of x, y, x, y, ... of three points or more, "
            f"not {str(polygon)[:60]}. {MEND}"
        )
    drawn = run_lengths.frPyObjects([polygon], height, width)
    return run_lengths.decode(drawn)[:, :, 0].astype(bool)


def _draw_runs(runs: dict, height: int, width: int, record: str) -> np.ndarray:
    """Columns from left to right, each from top to bottom; the first run is background.

    Done here, because pycocotools draws damaged run-lengths without a word.
    """
    require_fields(runs, {"size": (list, tuple), "counts": (list, str, bytes)}, record, MEND)
    if list(runs["size"]) != [height, width]:
        raise DataError(
            f"{record}: run-lengths of size {runs['size']} for an image of {height} x {width}. "
            "Take instances.json and the images from the same release."
        )
    counts = runs["counts"]
    if not isinstance(counts, list):
        counts = _decompress(counts if isinstance(counts, bytes) else counts.encode(), record)
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise DataError(f"{record}: a run-length is not a number of pixels. {MEND}")
    if sum(counts) != height * width:
        raise DataError(
            f"{record}: run-lengths of {sum(counts)} pixels for {height} x {width}. {MEND}"
        )
    foreground = np.arange(len(counts)) % 2 == 1
    return np.repeat(foreground, counts).reshape(width, height).T


def _decompress(text: bytes, record: str) -> list[int]:
    """The run-lengths that COCO's compressed form spells.

    Each character, less "0", is six bits: the highest says that the number goes on, the other five
    are its digits, low ones first, in two's complement. From the fourth number on, what is
    written is the difference to the number two before.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = character - ord("0")
        if not 0 <= bits < 64:
            raise DataError(f"{record}: {chr(character)!r} is not part of a run-length. {MEND}")
        number |= (bits & 0b011111) << shift
        shift += 5
        if bits & 0b100000:
            continue
        if bits & 0b010000:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = shift = 0
    if shift:
        raise DataError(f"{record}: the run-lengths end within a number. {MEND}")
    return counts
