"""COCO's instances.json: photos, annotations and categories by id, and the masks they describe."""

import math
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from shnet_lib.data.errors import DataError, brief, read_json, require_fields, require_text
from shnet_lib.data.images import MAX_PIXELS

MEND = "Fetch the annotations again, or mend that record."
OTHER_RELEASE = "Take instances.json and the images from the same release."
MAX_SHIFT = 60  # bits in a run-length: without a limit, a long text would make one vast number
ID = (int, str)
IMAGE = {"id": ID, "file_name": str, "height": int, "width": int}
ANNOTATION = {"id": ID, "image_id": ID, "category_id": ID, "segmentation": (list, dict)}
CATEGORY = {"id": ID, "name": str}


def coco_photo(file_name: str) -> int | None:
    """COCO's number of a photo, by its name in any year's release or as a made picture's.

    "COCO_val2014_000000000042.jpg", "000000000042.jpg", "000000000042_3.jpg" -> 42; other names
    -> None.
    """
    found = re.fullmatch(r"(?:.*_)?(\d{12})(?:_\d+)?\.jpg", PurePosixPath(file_name).name)
    return int(found[1]) if found else None


class Instances:
    """The records of an instances.json by id; `file` is its full path, for messages.

    DataError where it is missing, damaged, lacks a field, holds an id twice, or has an image
    whose name leads out of its folder or whose size is no size.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        self.file, self.remedy = path.absolute(), remedy
        document = read_json(path, remedy)
        tables = {"images": list, "annotations": list, "categories": list}
        require_fields(document, tables, str(self.file), remedy)
        self.images = self._by_id(document["images"], "image", IMAGE)
        for image in self.images.values():
            _check_image(image, f"{self.file}: image {brief(image['id'])}", remedy)
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


def _check_image(image: dict, where: str, remedy: str) -> None:
    name, height, width = image["file_name"], image["height"], image["width"]
    require_text(name, f"{where}: its file_name", remedy)
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or PureWindowsPath(name).drive
        or ".." in parts
        or any(mark in name for mark in "\\\0\n\r")
    ):
        raise DataError(f"{where}: {brief(name)} is not the name of a file in a folder. {remedy}")
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(
            f"{where} is said to be {brief(height)} x {brief(width)} (height, width), where 1 to "
            f"{MAX_PIXELS:,} pixels are read. {remedy}"
        )


def check_segmentation(
    segmentation: list | dict, height: int, width: int, record: str = "segmentation"
) -> bool:
    """Whether a part of it reaches outside the image: then only what lies inside is drawn.

    This looks at the form alone, quickly, so that a data set can be checked before a run; what
    run-lengths hold is checked when they are drawn. DataError names `record` where
    - there is no part at all, or every polygon lies outside the image;
    - a polygon has fewer than three points or a coordinate that is no number;
    - a polygon lies farther outside than the image is wide or high: it is another image's;
    - run-lengths are made for another image size.
    """
    parts = [segmentation] if isinstance(segmentation, dict) else segmentation
    if not parts:
        raise DataError(f"{record} has no polygon and no run-lengths. {MEND}")
    outside = visible = 0
    for part in parts:
        if isinstance(part, dict):
            _check_runs(part, height, width, record)
            visible += 1
            continue
        left, right, top, bottom = _bounds(part, record)
        if left < -width or right > 2 * width or top < -height or bottom > 2 * height:
            raise DataError(
                f"{record}: a polygon from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) for an "
                f"image of {width} x {height} (width, height). {OTHER_RELEASE}"
            )
        visible += left < width and right > 0 and top < height and bottom > 0
        outside += left < -1 or right > width + 1 or top < -1 or bottom > height + 1
    if not visible:
        raise DataError(f"{record}: all of it lies outside the image. {MEND}")
    return outside > 0


def _bounds(polygon: Any, record: str) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a polygon [x, y, x, y, ...] of three points or more."""
    # Two points would be taken for a box [x, y, width, height] by pycocotools.
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise DataError(
            f"{record}: a polygon is a list of x, y, x, y, ... of three points or more, "
            f"not {brief(polygon)}. {MEND}"
        )
    try:
        numbers = math.isfinite(sum(polygon))
    except (TypeError, OverflowError):
        numbers = False
    if not numbers:
        raise DataError(f"{record}: a polygon holds what is no number: {brief(polygon)}. {MEND}")
    return min(polygon[0::2]), max(polygon[0::2]), min(polygon[1::2]), max(polygon[1::2])


def _check_runs(runs: dict, height: int, width: int, record: str) -> None:
    require_fields(runs, {"size": (list, tuple), "counts": (list, str, bytes)}, record, MEND)
    if list(runs["size"]) != [height, width]:
        raise DataError(
            f"{record}: run-lengths of size {brief(runs['size'])} for an image of "
            f"{height} x {width}. {OTHER_RELEASE}"
        )


def rasterize(
    segmentation: list | dict, height: int, width: int, record: str = "segmentation"
) -> np.ndarray:
    """The mask (height, width), bool, of an annotation in any of the forms COCO knows.

    A list of polygons [x, y, x, y, ...], a list of run-length dicts, or one such dict, its
    `counts` a list of ints or the compressed bytes or str. The parts of one object may overlap:
    the mask is their union. DataError names `record` where check_segmentation does, and where
    run-lengths are malformed.
    """
    check_segmentation(segmentation, height, width, record)
    parts = [segmentation] if isinstance(segmentation, dict) else segmentation
    union = np.zeros((height, width), dtype=bool)
    for part in parts:
        if isinstance(part, dict):
            union |= _draw_runs(part, height, width, record)
        else:
            drawn = run_lengths.frPyObjects([part], height, width)
            union |= run_lengths.decode(drawn)[:, :, 0].astype(bool)
    return union


def _draw_runs(runs: dict, height: int, width: int, record: str) -> np.ndarray:
    """Columns from left to right, each from top to bottom; the first run is background.

    Done here, because pycocotools draws damaged run-lengths without a word.
    """
    counts = runs["counts"]
    if not isinstance(counts, list):
        text = counts if isinstance(counts, bytes) else counts.encode(errors="replace")
        counts = _decompress(text, record)
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
        if shift >= MAX_SHIFT:
            raise DataError(f"{record}: a run-length is not a number of pixels. {MEND}")
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
