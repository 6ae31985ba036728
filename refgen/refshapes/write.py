"""RefShapes on disk, in the REFER layout, so that the one reader serves it and the real data sets.

OUT/refshapes.json                              the settings it was made with
OUT/images/refshapes/refshapes_train_000000.png
OUT/refshapes/instances.json                    masks of all things and regions
OUT/refshapes/refs(unc).p  refs(unc+).p  refs(gref).p  refs(referit).p
OUT/refshapes/scenes.json                       what is where, for measuring
OUT/refshapes/semantic/refshapes_train_000000.png   class maps of SEMANTIC_CLASSES
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refgen.folders import complete_folder
from refgen.records import mask_record, ref_record
from shnet_lib.data.errors import DataError

from .draw import draw, semantic_map
from .flavours import FLAVOURS, Sentence, write_flavour
from .scene import CORNERED, REGION_KINDS, ROUND, SHAPES, Border, Region, Scene, Thing, make_scene

FORMAT = 1  # raised whenever the same settings would give other bytes
SPLITS = ("train", "val", "testA", "testB")
REFERRED_SHAPES = {"train": SHAPES, "val": SHAPES, "testA": ROUND, "testB": CORNERED}
REGIONS_REFERABLE = {"train": True, "val": True, "testA": False, "testB": False}
IMAGES = {"train": 4000, "val": 250, "testA": 125, "testB": 125}
CATEGORIES = SHAPES + REGION_KINDS  # category id = 1 + place here
SEMANTIC_CLASSES = REGION_KINDS + SHAPES  # pixel value of a class map = place here

MAX_IMAGES = 100_000  # a split; keeps ids apart
_ELEMENTS = 20  # ids set aside for an image's elements
_SENTENCES = 10  # and for an element's sentences


def image_id(split: str, index: int) -> int:
    """Ids depend on split and index alone, so a larger train split renumbers nothing."""
    return SPLITS.index(split) * MAX_IMAGES + index + 1


def annotation_id(image: int, element: int) -> int:
    """Annotation (and ref) id of an element of a scene."""
    return image * _ELEMENTS + element


def image_name(split: str, index: int) -> str:
    return f"refshapes_{split}_{index:06d}.png"


Written = dict[str, dict[int, list[Sentence]]]  # flavour -> element -> sentences


def make_example(split: str, index: int, seed: int = 0) -> tuple[Scene, Written]:
    """The scene and sentences of one image; they depend on nothing but these three.

    A scene that leaves a flavour without a sentence is thrown away and the next one tried.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    while True:
        scene = make_scene(rng, REFERRED_SHAPES[split])
        written = {
            name: write_flavour(
                rng, scene, flavour, REFERRED_SHAPES[split], REGIONS_REFERABLE[split]
            )
            for name, flavour in FLAVOURS.items()
        }
        if all(written.values()):
            return scene, written


# ---------------------------------------------------------------- records


def _annotation(image: int, element: int, kind: str, mask: np.ndarray) -> dict[str, Any]:
    category = 1 + CATEGORIES.index(kind)
    ids = {"id": annotation_id(image, element), "image_id": image, "category_id": category}
    return ids | mask_record(mask)


def _ref(
    split: str, index: int, element: int, kind: str, written: list[Sentence]
) -> dict[str, Any]:
    image, category = image_id(split, index), 1 + CATEGORIES.index(kind)
    ref = annotation_id(image, element)
    # As in COCO's refs, this names no file; the image's own record does.
    name = image_name(split, index).replace(".png", f"_{ref}.png")
    return ref_record(ref, image, category, name, split, ref * _SENTENCES, written)


def _scene_record(split: str, index: int, scene: Scene, masks: np.ndarray) -> dict[str, Any]:
    image = image_id(split, index)
    record: dict[str, Any] = {
        "image_id": image,
        "file_name": image_name(split, index),
        "split": split,
        "texture": scene.texture,
        "things": [],
        "regions": [],
    }
    for element, mask in enumerate(masks):
        is_thing = element in scene.thing_ids
        item = asdict(scene.things[element] if is_thing else scene.region(element))
        item["id"] = element
        item["annotation_id"] = annotation_id(image, element)
        item["visible_pixels"] = int(mask.sum())
        if is_thing:
            item["depth"] = element  # 0 is furthest back
        record["things" if is_thing else "regions"].append(item)
    return record


# ---------------------------------------------------------------- the data set


def _settings(images: Mapping[str, int], size: int, seed: int) -> dict[str, Any]:
    if set(images) != set(SPLITS):
        raise ValueError(f"images must have exactly the splits {SPLITS}, not {tuple(images)}")
    for split, count in images.items():
        if not 0 <= count <= MAX_IMAGES:
            raise ValueError(f"{count} images for {split}: must be 0 .. {MAX_IMAGES}")
    if size < 32:
        raise ValueError(
            f"size {size}: things would be unrecognisable, use 32 or more (128 is usual)"
        )
    return {
        "format": FORMAT,
        "images": {s: int(images[s]) for s in SPLITS},
        "size": size,
        "seed": seed,
    }


def _already_there(out: Path, settings: dict[str, Any]) -> bool:
    """True if `out` holds exactly this data set; DataError if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    remedy = f"Remove {out} or choose another folder."
    kept = out / "refshapes.json"
    if not kept.is_file():
        raise DataError(f"{out} is not empty and holds no RefShapes (no refshapes.json). {remedy}")
    found = json.loads(kept.read_text())
    if found != settings:
        raise DataError(f"{kept}: made with {found}, but {settings} was asked for. {remedy}")
    return True


def generate(
    out: str | os.PathLike, images: Mapping[str, int] = IMAGES, size: int = 128, seed: int = 0
) -> Path:
    """Write RefShapes to `out` and return that folder; return at once if it is already there.

    images: how many of each of train, val, testA, testB. size: side of the pictures in pixels.
    The same settings give the same bytes; more train images leave all others as they were.
    The folder appears when it is complete, never half-written.
    Raises DataError if `out` holds something else, ValueError for impossible settings.
    """
    out = Path(out)
    settings = _settings(images, size, seed)
    if _already_there(out, settings):
        return out
    with complete_folder(out) as unfinished:
        _write(unfinished, settings)
    return out


def _write(folder: Path, settings: dict[str, Any]) -> None:
    photos, semantic = folder / "images" / "refshapes", folder / "refshapes" / "semantic"
    photos.mkdir(parents=True)
    semantic.mkdir(parents=True)
    size = settings["size"]
    image_records, annotations, scenes = [], [], []
    refs: dict[str, list[dict[str, Any]]] = {name: [] for name in FLAVOURS}
    for split in SPLITS:
        for index in range(settings["images"][split]):
            scene, written = make_example(split, index, settings["seed"])
            picture, masks = draw(scene, size)
            name, image = image_name(split, index), image_id(split, index)
            Image.fromarray(picture).save(photos / name, compress_level=1)
            classes = semantic_map(scene, masks, SEMANTIC_CLASSES)
            Image.fromarray(classes).save(semantic / name, compress_level=3)
            image_records.append({"id": image, "file_name": name, "height": size, "width": size})
            annotations += [
                _annotation(image, i, scene.kind_of(i), mask) for i, mask in enumerate(masks)
            ]
            scenes.append(_scene_record(split, index, scene, masks))
            for flavour, elements in written.items():
                refs[flavour] += [
                    _ref(split, index, i, scene.kind_of(i), made) for i, made in elements.items()
                ]
    instances = {
        "info": {"description": "RefShapes", **settings},
        "licenses": [],
        "images": image_records,
        "annotations": annotations,
        "categories": [
            {"id": 1 + i, "name": name, "supercategory": "thing" if name in SHAPES else "region"}
            for i, name in enumerate(CATEGORIES)
        ],
    }
    (folder / "refshapes" / "instances.json").write_text(json.dumps(instances))
    (folder / "refshapes" / "scenes.json").write_text(json.dumps(scenes))
    for flavour, records in refs.items():
        with open(folder / "refshapes" / f"refs({flavour}).p", "wb") as file:
            pickle.dump(records, file, protocol=2)
    (folder / "refshapes.json").write_text(json.dumps(settings, indent=2) + "\n")


def read_scenes(out: str | os.PathLike) -> dict[int, Scene]:
    """The scenes of a generated folder by image id. Raises DataError if there are none."""
    path = Path(out) / "refshapes" / "scenes.json"
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Make it with: shnet data make refshapes --out {out}"
        )
    return {record["image_id"]: _read_scene(record) for record in json.loads(path.read_text())}


def _read_scene(record: dict[str, Any]) -> Scene:
    beside = {"id", "annotation_id", "visible_pixels", "depth"}
    things = []
    for item in record["things"]:
        fields = {name: value for name, value in item.items() if name not in beside}
        fields |= {"place": tuple(fields["place"]), "shares": tuple(fields["shares"])}
        fields["box"] = tuple(fields["box"])
        things.append(Thing(**fields))
    regions = []
    for item in record["regions"]:
        fields = {name: value for name, value in item.items() if name not in beside}
        fields["borders"] = tuple(Border(**border) for border in fields["borders"])
        regions.append(Region(**fields))
    return Scene(tuple(things), tuple(regions), record["texture"])
