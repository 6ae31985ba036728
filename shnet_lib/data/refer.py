"""REFER files -> expressions with the path of their photo and their mask.

UNC, UNC+, G-Ref, RefCLEF and RefShapes lie on disk in the same way (DATASETS says where):

    DATA/refcoco/refs(unc).p       who is referred to, by which sentences, in which split
    DATA/refcoco/instances.json    photos, annotations (the masks) and categories, as COCO has them
    DATA/images/mscoco/images/train2014/COCO_train2014_000000000009.jpg

Own data lie in a folder of their own (docs/own_data.md): instances.json, refs.json and images/.

A ref points to its photo by `image_id`. Its own `file_name` names no file and is not used.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from shnet_lib.data.coco import ID, Instances, check_segmentation, rasterize
from shnet_lib.data.errors import (
    DataError,
    brief,
    names_of_files,
    require_fields,
    require_file,
    require_files,
    require_text,
)
from shnet_lib.data.expression import Expression
from shnet_lib.data.images import warn_of_turned
from shnet_lib.data.plain_pickle import load_plain


@dataclass(frozen=True)
class Layout:
    """Where a data set lies below the data folder, and the splits that it has."""

    folder: str
    refs_file: str
    image_folder: str
    splits: tuple[str, ...]  # () where the refs name them


COCO = "images/mscoco/images/train2014"  # the photos of every split, val and test too
SAIAPR = "images/saiapr_tc-12"
REFSHAPES = "images/refshapes"
BY_KIND = ("train", "val", "testA", "testB")  # testA refers to people only, testB to the rest
DATASETS = {
    "unc": Layout("refcoco", "refs(unc).p", COCO, BY_KIND),
    "unc+": Layout("refcoco+", "refs(unc).p", COCO, BY_KIND),
    "gref": Layout("refcocog", "refs(google).p", COCO, ("train", "val")),
    "gref-umd": Layout("refcocog", "refs(umd).p", COCO, ("train", "val", "test")),
    "refclef": Layout("refclef", "refs(unc).p", SAIAPR, (*BY_KIND, "testC")),
    "refclef-berkeley": Layout("refclef", "refs(berkeley).p", SAIAPR, ("train", "val", "test")),
    "refshapes-unc": Layout("refshapes", "refs(unc).p", REFSHAPES, BY_KIND),
    "refshapes-unc+": Layout("refshapes", "refs(unc+).p", REFSHAPES, BY_KIND),
    "refshapes-gref": Layout("refshapes", "refs(gref).p", REFSHAPES, BY_KIND),
    "refshapes-referit": Layout("refshapes", "refs(referit).p", REFSHAPES, BY_KIND),
    "photos": Layout("photos", "refs(made).p", "images/photos", ("train", "val", "test")),
}

OWN = Layout(".", "refs.json", "images", ())
OWN_REFS = ("refs.json", "refs.jsonl", "refs.p")

# Refs in each split of the published files. By them a whole file is known, whatever its name and
# folder are: UNC's refs fit UNC+'s instances.json, and no field says which of the two they are.
PUBLISHED_REFS = {
    "unc": {"train": 42404, "val": 3811, "testA": 1975, "testB": 1810},
    "unc+": {"train": 42278, "val": 3805, "testA": 1975, "testB": 1798},
    "gref": {"train": 44822, "val": 5000},
    "gref-umd": {"train": 42226, "val": 2573, "test": 5023},
}

REF = {"ref_id": ID, "ann_id": ID, "image_id": ID, "split": str, "sentences": list}
SPLIT = re.compile(r"[A-Za-z0-9_+-]{1,40}")  # of own data; files of a run are called by it
COCO_PHOTO = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12}\.jpg)")
SENTENCE = {"sent_id": ID, "sent": str}


def load_refs(path: Path, remedy: str = "Fetch the file again from a place you trust.") -> list:
    """The list in a refs file: JSON (.json), a JSON object per line (.jsonl), else a pickle.

    Nothing is run that a hostile pickle may hold (plain_pickle.py).
    DataError where the file is missing, damaged, asks for any class or function, asks for more
    memory than its values take, or is no list.
    """
    require_file(path, remedy)
    read = {".json": json.loads, ".jsonl": _read_json_lines}.get(path.suffix, load_plain)
    try:
        refs = read(path.read_bytes())
    except Exception as error:  # a damaged pickle can raise nearly every kind of error
        raise DataError(f"{path.absolute()}: not a refs file ({error}). {remedy}") from error
    if not isinstance(refs, list):
        raise DataError(f"{path.absolute()}: holds a {type(refs).__name__}, not a list. {remedy}")
    return refs


def _read_json_lines(content: bytes) -> list:
    refs = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            refs += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return refs


def find_layout(dataset: str, split: str | None = None) -> Layout:
    """The layout of a data set; DataError where it, or that split of it, does not exist."""
    layouts = DATASETS | {"own": OWN}
    if dataset not in layouts:
        raise DataError(f"There is no data set {dataset!r}. Ask for one of {', '.join(layouts)}.")
    layout = layouts[dataset]
    if split and layout.splits and split not in layout.splits:
        raise DataError(f"{dataset} has no split {split!r}. Ask for {', '.join(layout.splits)}.")
    return layout


def read_refer(data: Path, dataset: str, split: str) -> list[Expression]:
    """The expressions of a split, in the order of the refs file and of the sentences in a ref.

    The text is `sent`, the corrected sentence everyone trains on, not `raw`. RefCLEF names some
    splits "testAB" or "testABC": such a ref belongs to each of the splits named.

    A photo of COCO may also have the name that it has in another release (_photo_path).

    The refs file is checked as a whole, whichever split is asked for. DataError where
    - the data set or the split does not exist, or no ref in the file belongs to the split;
    - a file or a field is missing, or an id is there twice;
    - the refs belong to another data set than instances.json: a ref names an annotation that is
      not there or lies on another image, or a split that the data set does not have; or they are
      as many in every split as another data set has (PUBLISHED_REFS);
    - a mask cannot be drawn, as far as that can be told without drawing (check_segmentation);
    - images of the split are missing: the first by name, and how many.
    Polygons that reach outside their photo are drawn as far as they lie inside it; a warning
    says how many annotations have such.
    """
    data = Path(data)
    layout = find_layout(dataset, split)
    refs_path = find_refs(data, layout)
    remedy = how_to_get(dataset, data)
    refs, instances = read_records(data, dataset)
    chosen = [ref for ref in refs if split in _splits_of(ref, layout)]
    if not chosen:
        named = ", ".join(dict.fromkeys(ref["split"] for ref in refs)) or "none"
        if layout is OWN:
            remedy = (
                f'Give some of them "split": {json.dumps(split)}, or name other splits '
                "(train_split=..., val_split=...)."
            )
        raise DataError(
            f"{refs_path.absolute()}: no ref is of the split {split!r}, but of {named}. {remedy}"
        )
    _check_masks(chosen, instances)
    file_names = cache(names_of_files)
    photos = {
        number: _photo_path(
            data / layout.image_folder, instances.images[number]["file_name"], file_names
        )
        for number in {ref["image_id"] for ref in chosen}
    }
    expressions = [
        item for ref in chosen for item in _expressions(ref, instances, photos[ref["image_id"]])
    ]
    require_files((item.image_path for item in expressions), "image", remedy)
    if layout is OWN:
        warn_of_turned(item.image_path for item in expressions)
    return expressions


def _photo_path(folder: Path, name: str, file_names: Callable[[Path], set[str]]) -> Path:
    """Where a photo lies: `folder / name`, or where another release of COCO has it.

    000000000009.jpg of train2017 and val2017 is COCO_train2014_000000000009.jpg, or val2014's.
    """
    path = folder / name
    found = COCO_PHOTO.fullmatch(path.name)
    if not found or path.name in file_names(path.parent):
        return path
    prefixes = ("", "COCO_train2014_", "COCO_val2014_")
    others = [
        *(path.with_name(prefix + found[1]) for prefix in prefixes),
        *(folder.with_name(release) / found[1] for release in ("train2017", "val2017")),
    ]
    return next((other for other in others if other.name in file_names(other.parent)), path)


def find_refs(data: Path, layout: Layout) -> Path:
    """The refs file of a data set. DataError where own data have several."""
    if layout is not OWN:
        return data / layout.folder / layout.refs_file
    there = [name for name in OWN_REFS if (data / name).is_file()]
    if len(there) > 1:
        raise DataError(f"{data.absolute()}: holds {' and '.join(there)}. Keep one of them.")
    return data / (there or OWN_REFS)[0]


def own_splits(data: Path) -> tuple[str, ...]:
    """The splits that the refs of own data name, in their order. DataError as read_refer says."""
    refs, _ = read_records(data, "own")
    return tuple(dict.fromkeys(ref["split"] for ref in refs))


def read_records(data: Path, dataset: str) -> tuple[list[dict], Instances]:
    """All refs of a data set, checked, and the instances they refer to; photos are not looked at.

    DataError as read_refer says.
    """
    layout = find_layout(dataset)
    path = find_refs(Path(data), layout)
    remedy = how_to_get(dataset, data)
    refs = load_refs(path, remedy)
    instances = Instances(path.with_name("instances.json"), remedy)
    if layout is OWN:
        _fill_in(refs, instances)
    _check_refs(refs, path, instances, layout)
    splits = Counter(ref["split"] for ref in refs)
    for other, published in PUBLISHED_REFS.items():
        if splits == published and other != dataset and layout is not OWN:
            raise DataError(
                f"{path.absolute()}: these are the refs of {other}, not of {dataset}: "
                f"{len(refs):,} in all, {splits['train']:,} to train on. {remedy}"
            )
    return refs, instances


def how_to_get(dataset: str, data: Path) -> str:
    """What a person can do who lacks a file of `dataset` below `data`."""
    layout = find_layout(dataset)
    if layout is OWN:
        return (
            "Point DATA at the folder that holds instances.json, refs.json (or refs.jsonl, refs.p) "
            "and images/; docs/own_data.md shows how to make them."
        )
    if layout.folder == "refshapes":
        return f"RefShapes is generated: run `shnet data make refshapes --out {data}`."
    if dataset == "photos":
        return (
            "Its phrases are made from photos and a COCO-format instance file: run `python -m "
            f"refgen.photos --instances FILE --photos FOLDER --out {data}`."
        )
    return (
        f"Point DATA at the folder that holds {layout.folder}/ and {layout.image_folder}/; "
        "data/README.md says where to get them."
    )


def _fill_in(refs: list, instances: Instances) -> None:
    """Add to refs of own data what follows from the rest, so that nobody has to write it.

    {"ann_id": 7, "split": "train", "sentences": ["left cup"]} is enough.
    """
    for position, ref in enumerate(refs):
        if not isinstance(ref, dict):
            continue  # what is wrong, or lacks its annotation, _check_refs says
        ref.setdefault("ref_id", position)
        if isinstance(ref.get("ann_id"), ID):
            annotation = instances.annotations.get(ref["ann_id"], {"image_id": 0})
            ref.setdefault("image_id", annotation["image_id"])
        if isinstance(ref.get("sentences"), list):
            ref["sentences"] = [
                {"sent_id": f"{position}_{number}", "sent": each} if isinstance(each, str) else each
                for number, each in enumerate(ref["sentences"])
            ]


def _splits_of(ref: dict, layout: Layout) -> set[str]:
    """{"val"} for "val"; {"testA", "testB"} for RefCLEF's "testAB"."""
    name = ref["split"]
    if layout is not OWN and name.startswith("test") and len(name) > len("test"):
        return {f"test{letter}" for letter in name.removeprefix("test")}
    return {name}


def _check_refs(refs: list, path: Path, instances: Instances, layout: Layout) -> None:
    """Raise DataError at the first ref that is malformed or does not fit `instances`."""
    pair = f"Put the {path.name} and instances.json of one release side by side."
    ref_ids, sent_ids = set(), set()
    for position, ref in enumerate(refs):
        require_fields(ref, REF, f"{path.absolute()}: ref at {position}", pair)
        where = f"{path.absolute()}: ref {ref['ref_id']}"
        if ref["ref_id"] in ref_ids:
            raise DataError(f"{where} is there twice. {pair}")
        ref_ids.add(ref["ref_id"])
        annotation = instances.annotations.get(ref["ann_id"])
        if annotation is None:
            raise DataError(f"{where}: {instances.file} has no annotation {ref['ann_id']}. {pair}")
        if annotation["image_id"] != ref["image_id"]:
            raise DataError(
                f"{where} is on image {ref['image_id']}, but its annotation {ref['ann_id']} is on "
                f"image {annotation['image_id']} in {instances.file}. {pair}"
            )
        for table, key in ((instances.images, "image_id"), (instances.categories, "category_id")):
            if annotation[key] not in table:
                raise DataError(f"{where}: {instances.file} has no {key} {annotation[key]}. {pair}")
        if layout is OWN:
            if not SPLIT.fullmatch(ref["split"]):
                raise DataError(
                    f"{where} is of split {brief(ref['split'])}. Call splits by up to 40 letters, "
                    "digits, _, + and -, such as train, val, test."
                )
        elif not _splits_of(ref, layout) <= set(layout.splits):
            known = ", ".join(layout.splits)
            raise DataError(f"{where} is of split {brief(ref['split'])}, not of {known}. {pair}")
        if not ref["sentences"]:
            raise DataError(f"{where} has no sentence. {pair}")
        for sentence in ref["sentences"]:
            require_fields(sentence, SENTENCE, f"{where}: a sentence", pair)
            if sentence["sent_id"] in sent_ids:
                raise DataError(f"{where}: sentence {sentence['sent_id']} is there twice. {pair}")
            sent_ids.add(sentence["sent_id"])
            require_text(sentence["sent"], f"{where}: sentence {sentence['sent_id']}", pair)


def _check_masks(refs: list[dict], instances: Instances) -> None:
    """Raise DataError where a ref's mask cannot be drawn; warn where some reach outside."""
    outside = []
    for number in dict.fromkeys(ref["ann_id"] for ref in refs):
        annotation = instances.annotations[number]
        image = instances.images[annotation["image_id"]]
        record = f"{instances.file}: annotation {number}"
        size = image["height"], image["width"]
        if check_segmentation(annotation["segmentation"], *size, record):
            outside.append(number)
    if outside:
        warnings.warn(
            f"{instances.file}: {len(outside)} annotations, the first {outside[0]}, reach outside "
            "their photo. They are drawn as far as they lie inside it.",
            stacklevel=3,
        )


def _expressions(ref: dict, instances: Instances, photo: Path) -> list[Expression]:
    """One Expression for each sentence of a checked ref; they share one way to the mask."""
    annotation = instances.annotations[ref["ann_id"]]
    image = instances.images[annotation["image_id"]]
    height, width = image["height"], image["width"]
    record = f"{instances.file}: annotation {annotation['id']}"
    read_mask = partial(rasterize, annotation["segmentation"], height, width, record)
    return [
        Expression(
            image_path=photo,
            image_id=image["id"],
            height=height,
            width=width,
            ref_id=ref["ref_id"],
            sent_id=sentence["sent_id"],
            text=sentence["sent"],
            category=instances.categories[annotation["category_id"]]["name"],
            family=sentence.get("family"),
            read_mask=read_mask,
        )
        for sentence in ref["sentences"]
    ]
