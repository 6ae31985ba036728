"""Photos with made phrases on disk, in the REFER layout.

OUT/images/photos/000000000042.jpg, 000000000042_1.jpg ...   the photo and its variants
OUT/photos/instances.json                                   exact masks of all objects
OUT/photos/refs(made).p
OUT/photos/photos.json     the settings, and which photo is in which split
OUT/photos/report.json     phrases per family; what was left out, and why
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from refgen.folders import complete_folder
from refgen.records import mask_record, ref_record
from shnet_lib.data.coco import Instances, coco_photo, rasterize
from shnet_lib.data.errors import DataError, read_json, require_file
from shnet_lib.data.images import read_pixels

from . import colours
from .phrases import Phrase, write_phrases
from .scene import Scene, Thing
from .variants import can_be_moved, vary
from .words import PERSON_LABELS

FORMAT = 2  # raised whenever the same settings would give other data
SHARES = {"val": 0.08, "test": 0.08}  # of the photos; train has the rest
PHRASES = 6  # at most so many for an object of a picture
QUALITY = 92  # of a variant's JPEG
# The shipped network's, whose photos are never in val or test: see `_split`.
CARD = Path(__file__).parents[2] / "data" / "weights" / "shnet_photos" / "card.json"
REMEDY = "It should be a COCO-format instance file; docs/photos.md says what it holds."


@dataclass(frozen=True)
class Settings:
    instances: str
    photos: str
    variants: int = 8
    seed: int = 0
    people: str | None = None


class Source:
    """The annotated photos that data is made from, and the split of each."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.instances = Instances(Path(settings.instances), REMEDY)
        self.kinds = {i: record["name"] for i, record in self.instances.categories.items()}
        self.labels = _read_people(settings.people)
        self.of_photo: dict[Any, list[dict]] = {i: [] for i in self.instances.images}
        for annotation in self.instances.annotations.values():
            if annotation["image_id"] not in self.of_photo:
                raise DataError(
                    f"{self.instances.file}: annotation {annotation['id']} is on image "
                    f"{annotation['image_id']}, which the file does not have. {REMEDY}"
                )
            self.of_photo[annotation["image_id"]].append(annotation)
        self.photos = sorted((i for i, found in self.of_photo.items() if found), key=str)
        if len(self.photos) < 3:
            raise DataError(
                f"{self.instances.file}: {len(self.photos)} photos with annotations, where train, "
                "val and test need three. Add photos."
            )
        trained_on = frozenset(read_json(CARD, "Get the course's files again.")["trained_on"])
        images = self.instances.images
        shown = {i for i in self.photos if coco_photo(images[i]["file_name"]) in trained_on}
        self.split = _split(self.photos, settings.seed, shown)
        self.trained = [i for i in self.photos if self.split[i] == "train"]
        self.read = lru_cache(maxsize=64)(self._read)  # one that is cut from may come again

    def _read(self, photo: Any) -> tuple[np.ndarray, list[Thing]]:
        """Pixels and measured things of a photo."""
        record = self.instances.images[photo]
        height, width = record["height"], record["width"]
        pixels = read_pixels(Path(self.settings.photos) / record["file_name"], height, width)
        things = []
        for annotation in self.of_photo[photo]:
            where = f"{self.instances.file}: annotation {annotation['id']}"
            mask = rasterize(annotation["segmentation"], height, width, where)
            if mask.any():
                kind = self.kinds[annotation["category_id"]]
                crowd = bool(annotation.get("iscrowd", 0))
                label = self.labels.get(annotation["id"])
                things.append(Thing(kind, mask, annotation["id"], crowd, label=label))
        measure(pixels, things)
        return pixels, things

    def covered(self, photo: Any) -> frozenset[str] | None:
        """The kinds that are annotated in a photo; None: all."""
        told = self.instances.images[photo].get("coverage", "all")
        return None if told == "all" else frozenset(told.split(","))

    def another(self, rng: np.random.Generator) -> tuple[np.ndarray, Thing] | None:
        """A thing of a training photo that can be pasted elsewhere."""
        pixels, things = self.read(self.trained[int(rng.integers(len(self.trained)))])
        movable = [thing for thing in things if can_be_moved(thing)]
        return (pixels, movable[int(rng.integers(len(movable)))]) if movable else None


def _read_people(path: str | None) -> dict[Any, str]:
    """{"man": [annotation ids], ...} -> {annotation id: "man"}."""
    if path is None:
        return {}
    remedy = (
        'It should hold annotation ids by label, {"man": [1, 2], ...}, with the labels '
        f"{', '.join(PERSON_LABELS)}."
    )
    told = read_json(Path(path), remedy)
    lists = all(isinstance(numbers, list) for numbers in told.values())
    if not lists or not set(told) <= set(PERSON_LABELS):
        raise DataError(f"{path}: {remedy}")
    counts = Counter(number for numbers in told.values() for number in numbers)
    twice = [number for number, count in counts.items() if count > 1]
    if twice:
        raise DataError(f"{path}: annotation {twice[0]} is there twice. Leave one out.")
    return {number: label for label, numbers in told.items() for number in numbers}


def _split(photos: list, seed: int, shown: set) -> dict[Any, str]:
    """A photo keeps its place in the order whatever other photos there are.

    `shown` are those that the shipped network was trained on. They are never in val or test, where
    there are others to fill them, so that the network can be measured there.
    """

    def place(photo: Any) -> tuple[bool, bytes]:
        return photo in shown, sha256(f"{seed} {photo}".encode()).digest()

    order = sorted(photos, key=place)
    split = dict.fromkeys(photos, "train")
    first = 0
    for name, share in SHARES.items():
        count = max(1, round(share * len(photos)))
        split |= dict.fromkeys(order[first : first + count], name)
        first += count
    return split


def measure(pixels: np.ndarray, things: list[Thing]) -> None:
    """Fill in the places and colours of all things in a picture."""
    codes = colours.code(pixels)
    has_colours = not colours.without_colours(codes)
    for thing in things:
        thing.measure(codes, has_colours)


# ---------------------------------------------------------------- one photo, all its pictures


@dataclass
class Picture:
    """What a worker makes of one variant; the file's bytes are None where the photo is copied."""

    photo: Any
    variant: int
    size: tuple[int, int]
    jpeg: bytes | None
    annotations: list[dict[str, Any]]  # without ids
    phrases: dict[int, list[Phrase]]  # by place in `annotations`


def make_pictures(source: Source, photo: Any) -> tuple[list[Picture], Counter]:
    """The pictures of a photo; they depend on nothing but the settings and the photo."""
    tally: Counter = Counter()
    pixels, things = source.read(photo)
    split = source.split[photo]
    pictures = []
    for variant in range(source.settings.variants if split == "train" else 1):
        name = sha256(f"{source.settings.seed} {photo} {variant}".encode()).digest()
        rng = np.random.default_rng(list(name))
        made, changed, jpeg = pixels, things, None
        if variant:
            made, changed = vary(rng, pixels, things, source.another)
            with BytesIO() as file:
                Image.fromarray(made).save(file, "JPEG", quality=QUALITY)
                jpeg = file.getvalue()
            measure(made, changed)
        scene = Scene(changed, source.covered(photo))
        phrases = write_phrases(rng, scene, PHRASES, tally)
        if variant and not phrases:
            continue  # a picture about which nothing can be said teaches nothing
        annotations = [_annotation(thing) for thing in changed]
        pictures.append(Picture(photo, variant, made.shape[:2], jpeg, annotations, phrases))
    return pictures, Counter({(split, *key): n for key, n in tally.items()})


def _annotation(thing: Thing) -> dict[str, Any]:
    mask = mask_record(thing.mask, thing.crowd)
    return {"kind": thing.kind, **mask, "source_annotation": thing.annotation}


_source: Source | None = None  # of a worker process


def _start(settings: Settings) -> None:
    global _source
    _source = Source(settings)


def _work(photo: Any) -> tuple[list[Picture], Counter]:
    return make_pictures(_source, photo)


def _make_all(source: Source, workers: int) -> Iterator[tuple[list[Picture], Counter]]:
    if workers <= 1:
        yield from (make_pictures(source, photo) for photo in source.photos)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start, (source.settings,)) as pool:
        yield from pool.imap(_work, source.photos, chunksize=4)


# ---------------------------------------------------------------- the data set


def generate(settings: Settings, out: str | os.PathLike, workers: int = 1) -> dict[str, Any]:
    """Write the data set into the data folder `out` and return its report.

    The same settings and photos give the same data, whatever the number of workers. If it is
    there already, nothing is made. The folder OUT/photos appears when it is complete.

    Raises:
        DataError: `out` holds another such data set, or an annotation or photo cannot be used.
    """
    out = Path(out)
    told = {"format": FORMAT, **asdict(settings)}
    made = out / "photos"
    if made.exists():
        remedy = f"Remove {made} or choose another folder."
        require_file(made / "photos.json", remedy)
        if read_json(made / "photos.json", remedy)["settings"] != told:
            raise DataError(f"{made / 'photos.json'}: made with other settings. {remedy}")
        return read_json(made / "report.json", remedy)
    source = Source(settings)
    with complete_folder(made) as unfinished:
        report = _write(unfinished, source, workers, told)
        images = out / "images" / "photos"
        shutil.rmtree(images, ignore_errors=True)  # of a run that was ended here
        images.parent.mkdir(exist_ok=True)
        (unfinished / "images").replace(images)
    return report


def _write(folder: Path, source: Source, workers: int, told: dict) -> dict[str, Any]:
    (folder / "images").mkdir()
    category = {name: i for i, name in source.kinds.items()}
    images, annotations, refs, tally = [], [], [], Counter()
    sentences: Counter = Counter()
    progress = tqdm(_make_all(source, workers), "photos", len(source.photos), unit="photo")
    for pictures, counted in progress:
        tally.update(counted)
        for picture in pictures:
            record = source.instances.images[picture.photo]
            name = _file_name(record["file_name"], picture.variant)
            path = folder / "images" / name
            if picture.jpeg is None:
                shutil.copyfile(Path(source.settings.photos) / record["file_name"], path)
            else:
                path.write_bytes(picture.jpeg)
            number, (height, width) = len(images) + 1, picture.size
            images.append(
                {"id": number, "file_name": name, "height": height, "width": width}
                | {"photo": picture.photo, "variant": picture.variant}
            )
            first = len(annotations) + 1
            for i, annotation in enumerate(picture.annotations):
                kind = category[annotation.pop("kind")]
                annotations.append(
                    {"id": first + i, "image_id": number, "category_id": kind} | annotation
                )
            split = source.split[picture.photo]
            for i, phrases in picture.phrases.items():
                sentences.update((split, phrase.family) for phrase in phrases)
                refs.append(_ref(annotations[first - 1 + i], name, split, phrases))
    document = {
        "info": {"description": "Phrases made for photos", **told},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": list(source.instances.categories.values()),
    }
    report = _report(source, images, sentences, tally)
    splits = {name: [i for i in source.photos if source.split[i] == name] for name in report}
    (folder / "instances.json").write_text(json.dumps(document))
    # A pickle shows which strings are one object, and that depends on the processes.
    refs = json.loads(json.dumps(refs))
    (folder / "refs(made).p").write_bytes(pickle.dumps(refs, protocol=2))
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    settings = {"settings": told, "photos": splits}
    (folder / "photos.json").write_text(json.dumps(settings, indent=2) + "\n")
    return report


def _file_name(name: str, variant: int) -> str:
    """Photos may lie in folders of their own; here all lie in one."""
    path = Path(name.replace("/", "__"))
    return path.name if variant == 0 else f"{path.stem}_{variant}.jpg"


def _ref(annotation: dict, name: str, split: str, phrases: list[Phrase]) -> dict[str, Any]:
    number, image, category = (annotation[key] for key in ("id", "image_id", "category_id"))
    return ref_record(number, image, category, name, split, number * PHRASES, phrases)


def _report(source: Source, images: list[dict], sentences: Counter, tally: Counter) -> dict:
    """For each split: pictures, phrases per family, and what was left out and why."""
    report = {}
    for split in ("train", *SHARES):
        photos = {i for i in source.photos if source.split[i] == split}
        families = {name: n for (s, name), n in sorted(sentences.items()) if s == split}
        objects, asked = {}, {}
        for (where, first, outcome), count in sorted(tally.items()):
            if where == split and first == "object":
                objects[outcome] = count
            elif where == split:
                asked.setdefault(first, {})[outcome] = count
        report[split] = {
            "photos": len(photos),
            "pictures": sum(image["photo"] in photos for image in images),
            "phrases": sum(families.values()),
            "phrases_per_family": families,
            "objects": dict(sorted(objects.items(), key=lambda item: -item[1])),
            "queries": asked,
        }
    return report
