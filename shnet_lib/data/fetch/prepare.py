"""A data set's parts into a folder, in an order in which each says what the next one needs.

DATA/refcoco/                        instances.json and the refs files, from one zip
DATA/images/mscoco/images/train2014/ the photos that the refs are on
DATA/glove/                          the vectors of the words in the refs' sentences
DATA/downloads/                      the zips, and fetched.json: what was unpacked, by checksum
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from shnet_lib.data import splits_of
from shnet_lib.data.errors import DataError
from shnet_lib.data.fetch.archive import check_zip, read_members, unpack, written_whole
from shnet_lib.data.fetch.download import DiskFull, FetchError, Patience, download
from shnet_lib.data.fetch.photos import LocalPhotos, fetch_photos
from shnet_lib.data.fetch.sources import ARCHIVED_AT, MIRRORS, PUBLISHED, Sources
from shnet_lib.data.glove import select_glove_lines
from shnet_lib.data.refer import COCO, DATASETS, load_refs, read_records
from shnet_lib.data.text import tokenize

ANNOTATIONS_LIMIT = 2 * 10**9  # bytes of an annotations zip, packed and unpacked
GLOVE_LIMIT = 8 * 10**9  # bytes of GloVe's zip, packed and unpacked; the text has 5.6 GB
GLOVE_ZIP, GLOVE_TEXT = "glove.840B.300d.zip", "glove.840B.300d.needed.txt"
NOT_PUBLISHED = {
    "referit": (
        "ReferIt cannot be fetched: the addresses of its expressions are dead, and its photos and "
        "masks are with the owners of IAPR TC-12 alone. If you have them, lay them out as "
        "data/README.md shows, and look at them with "
        "shnet data check --dataset referit --data FOLDER."
    ),
    "own": "Own data are not fetched: docs/own_data.md says where they lie.",
    "refshapes": (
        "RefShapes is not fetched but generated: make data, or "
        "shnet data make refshapes --out data/refshapes."
    ),
    "photos": (
        "The phrases of photos are not fetched but made: python -m refgen.photos (docs/photos.md)."
    ),
}
SAIAPR = (
    "RefCLEF's photos cannot be fetched: they are with the owners of IAPR TC-12 alone. Lay them "
    "into images/saiapr_tc-12."
)
BACKBONES = (
    "A ResNet's ImageNet weights come by themselves (model.backbone_weights=imagenet lets "
    "torchvision fetch them). For deeplabv3plus, name the file of a DeepLabv3+ trained on Pascal "
    "VOC with model.backbone_weights. Weights trained on COCO have seen these photos (section 4.3)."
)


@dataclass(frozen=True)
class Request:
    """What to make: a data set in a folder, and how much of it."""

    data: Path
    dataset: str
    images_from: Path | None = None
    glove: bool = False
    verify: bool = False  # decode every photo and compare checksums, not only look
    download: bool = True  # else say what is missing or damaged
    workers: int = 8


@dataclass
class Report:
    """One line a part; `complete` where nothing that was asked for is missing."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True

    def add(self, part: str, text: str, good: bool = True) -> None:
        self.lines.append((part, text))
        self.complete &= good

    def __str__(self) -> str:
        end = "Everything is there." if self.complete else "Not everything is there."
        return "\n".join([*(f"{part:<12} {text}" for part, text in self.lines), end])


def prepare(
    request: Request,
    sources: Sources = PUBLISHED,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> Report:
    """Fetch what is missing of the data set that is asked for, and say what is there then.

    DataError (of which FetchError is one) where the rest cannot go on: no such data set, no
    annotations, no room, or another fetch at work in the folder.
    """
    family = request.dataset.split("-")[0]
    if family in NOT_PUBLISHED:
        raise FetchError(NOT_PUBLISHED[family])
    splits_of(request.dataset)  # there is such a data set
    local = LocalPhotos(request.images_from) if request.images_from else None
    report = Report()
    with _alone(request.data):
        images, words = _annotations(request, sources, patience, report)
        _photos(request, images, local, sources, patience, report)
        if request.glove:
            _glove(request, words, sources, patience, report)
    report.add("backbone", BACKBONES)
    if kept := sum(path.stat().st_size for path in (request.data / "downloads").glob("*.zip")):
        report.add(
            "downloads",
            f"{kept / 1e9:.2f} GB of zips that may be deleted; other data sets use them",
        )
    return report


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Nobody else fetches into `data` meanwhile; FetchError where somebody does."""
    (data / "downloads").mkdir(parents=True, exist_ok=True)
    lock = FileLock(data / "downloads" / "lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise FetchError(
            f"{data.absolute()}: another fetch is at work in this folder. Wait for it, or end it."
        ) from error


def _annotations(
    request: Request, sources: Sources, patience: Patience, report: Report
) -> tuple[list[dict], set[str]]:
    """The images that the data set needs, and the words of its sentences."""
    layout = DATASETS[request.dataset]
    folder = request.data / layout.folder
    names = ("instances.json", layout.refs_file)
    fetched = Fetched(request.data)
    wrong = [name for name in names if not fetched.is_good(folder / name, request.verify)]
    if not wrong and request.verify and not _readable(request):
        wrong = list(names)
    archive = request.data / "downloads" / f"{layout.folder}.zip"
    if wrong and request.download:
        check = partial(check_zip, limit=ANNOTATIONS_LIMIT)
        addresses = sources.annotations_of(layout.folder)
        _get_archive(addresses, archive, check, ANNOTATIONS_LIMIT, patience, MIRRORS)
        for name in wrong:
            path = folder / name
            if path.exists():
                os.replace(path, path.with_name(f"{name}.damaged"))
            unpack(archive, {f"{layout.folder}/{name}": path}, ANNOTATIONS_LIMIT)
            fetched.note(path)
    elif wrong:
        raise FetchError(
            f"{(folder / wrong[0]).absolute()}: missing, or not as it was fetched. Run this again "
            "without --no-download."
        )
    refs, instances = read_records(request.data, request.dataset)
    images = {instances.annotations[ref["ann_id"]]["image_id"] for ref in refs}
    words = {word for ref in refs for each in ref["sentences"] for word in tokenize(each["sent"])}
    sentences = sum(len(ref["sentences"]) for ref in refs)
    report.add(
        "annotations",
        f"{layout.folder}/: {len(refs):,} refs, {sentences:,} sentences, on {len(images):,} photos",
    )
    return [instances.images[number] for number in sorted(images, key=str)], words


def _readable(request: Request) -> bool:
    try:
        read_records(request.data, request.dataset)
    except DataError:
        return False
    return True


def _photos(
    request: Request,
    images: list[dict],
    local: LocalPhotos | None,
    sources: Sources,
    patience: Patience,
    report: Report,
) -> None:
    layout = DATASETS[request.dataset]
    coco = layout.image_folder == COCO
    photos = fetch_photos(
        images,
        request.data / layout.image_folder,
        sources.photos if coco and request.download else (),
        local,
        request.verify,
        request.workers,
        patience,
    )
    text = photos.line()
    if photos.missing and not coco:
        text += f" {SAIAPR}"
    report.add("photos", text, not photos.missing)


def _glove(
    request: Request, words: set[str], sources: Sources, patience: Patience, report: Report
) -> None:
    """The lines of the needed words, of this data set and of every other one in the folder."""
    for layout in set(DATASETS.values()):
        refs_path = request.data / layout.folder / layout.refs_file
        if layout.folder in ARCHIVED_AT and refs_path.is_file():
            words = words | _words(load_refs(refs_path))
    asked = hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest()
    target = request.data / "glove" / GLOVE_TEXT
    fetched = Fetched(request.data)
    if fetched.is_good(target, request.verify) and fetched.about(target) == asked:
        report.add("glove", f"glove/{GLOVE_TEXT}: there, for {len(words):,} words")
        return
    if not request.download:
        report.add("glove", f"glove/{GLOVE_TEXT}: missing, or for other words", good=False)
        return
    archive = request.data / "downloads" / GLOVE_ZIP
    check = partial(read_members, limit=GLOVE_LIMIT)
    _get_archive(sources.glove, archive, check, GLOVE_LIMIT, patience, "")
    try:
        found = keep_words(archive, sorted(words), target)
    except DiskFull:
        raise
    except DataError:
        archive.unlink(missing_ok=True)  # so that the next run fetches it again
        raise
    fetched.note(target, asked)
    report.add(
        "glove",
        f"glove/{GLOVE_TEXT}: {found:,} of {len(words):,} words have a vector; name this file "
        "with glove=...",
    )


def _words(refs: list) -> set[str]:
    """The words of the sentences in refs that nobody has checked."""
    texts = []
    for ref in refs:
        sentences = ref.get("sentences") if isinstance(ref, dict) else None
        for sentence in sentences if isinstance(sentences, list) else []:
            text = sentence.get("sent") if isinstance(sentence, dict) else None
            texts.append(text if isinstance(text, str) else "")
    return {word for text in texts for word in tokenize(text)}


def keep_words(archive: Path, words: list[str], target: Path) -> int:
    """Copy the lines of `words` from the text in GloVe's zip to `target`; how many there were.

    FetchError where the zip does not hold one text, or is damaged, or holds none of the words.
    """
    texts = {
        name: entry
        for name, entry in read_members(archive, GLOVE_LIMIT).items()
        if name.endswith(".txt")
    }
    if len(texts) != 1:
        raise FetchError(f"{archive.absolute()}: holds {len(texts)} texts and not one. Delete it.")
    entry = next(iter(texts.values()))
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = 0
    with (
        written_whole(target, str(archive.absolute()), "It is deleted; run this again.") as file,
        zipfile.ZipFile(archive) as zipped,
        zipped.open(entry) as packed,
        _bar(f"{archive.name}: read", entry.file_size) as bar,
    ):
        lines = select_glove_lines(io.BufferedReader(packed, 2**20), words, archive)[1]
        for _, _, line in lines:
            file.write(line)
            kept += 1
            bar.update(packed.tell() - bar.n)
        if not kept:
            raise FetchError(f"{archive.absolute()}: holds no vector of any of the words.")
    return kept


def _get_archive(
    addresses: list[str] | tuple[str, ...],
    archive: Path,
    check: Callable[[Path], object],
    limit: int,
    patience: Patience,
    remedy: str,
) -> None:
    """The zip in downloads/, unless a whole one lies there already."""
    if archive.exists():
        try:
            check(archive)
            return
        except DataError:
            archive.unlink()
    with _bar(archive.name, None) as bar:

        def progress(size: int, total: int | None) -> None:
            bar.total = total
            bar.update(size - bar.n)

        try:
            download(addresses, archive, check, limit, progress, patience)
        except FetchError as error:
            raise type(error)(f"{error} {remedy}".strip()) from error


def _bar(title: str, total: int | None) -> tqdm:
    return tqdm(total=total, desc=title, unit="B", unit_scale=True)


class Fetched:
    """downloads/fetched.json: length and checksum of each file as it was unpacked, by its path."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.path = data / "downloads" / "fetched.json"

    def is_good(self, path: Path, thorough: bool) -> bool:
        """Whether a file is there and as it was when it was fetched.

        A file that somebody else put there counts as good: reading it will tell.
        """
        if not path.is_file():
            return False
        note = self._read().get(self._key(path))
        if note is None:
            return True
        if path.stat().st_size != note["bytes"]:
            return False
        return not thorough or _sha256(path) == note["sha256"]

    def about(self, path: Path) -> str | None:
        """What was said about the file when it was noted."""
        return self._read().get(self._key(path), {}).get("about")

    def note(self, path: Path, about: str = "") -> None:
        notes = self._read()
        size = path.stat().st_size
        notes[self._key(path)] = {"bytes": size, "sha256": _sha256(path), "about": about}
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(notes, indent=1))
        os.replace(part, self.path)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.data).as_posix()

    def _read(self) -> dict[str, dict]:
        if not self.path.exists():
            return {}
        try:
            notes = json.loads(self.path.read_text())
            return {key: {**note, "bytes": int(note["bytes"])} for key, note in notes.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FetchError(f"{self.path.absolute()}: damaged ({error}). Delete it.") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
