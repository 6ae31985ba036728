"""A data set's parts into a folder, in an order in which each says what the next one needs.

DATA/refcoco/                        instances.json and the refs files, from one zip
DATA/images/mscoco/images/train2014/ the photos that the refs are on
DATA/glove/                          the vectors of the words in the refs' sentences
DATA/downloads/                      the zips, and fetched.json: checksums of what was unpacked

"coco-val" is no data set of phrases: `shnet data make photos` makes one of what is fetched.

DATA/coco-val/instances.json         COCO's annotations of the photos that were asked for
DATA/images/val2017/                 these photos, of the validation split of 2017
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from shnet_lib.data.errors import DataError, read_json
from shnet_lib.data.fetch.download import Downloader, FetchError, show_bytes
from shnet_lib.data.fetch.photos import LocalPhotos, MissingPhotos
from shnet_lib.data.fetch.sources import ARCHIVED_AT, NO_SOURCES, PUBLISHED, Sources
from shnet_lib.data.fetch.zips import FETCH_AGAIN, blame, check_zip, read_members, unpack
from shnet_lib.data.glove import select_glove_lines
from shnet_lib.data.refer import COCO, DATASETS, find_layout, how_to_get, read_records
from shnet_lib.data.text import tokenize
from shnet_lib.files import whole_file, write_json

ANNOTATIONS_LIMIT = 2 * 10**9  # bytes of an annotations zip, packed and unpacked
GLOVE_LIMIT = 8 * 10**9  # bytes of GloVe's zip, packed and unpacked; the text has 5.6 GB
COCO_VAL, COCO_ZIP = "coco-val", "annotations_trainval2017.zip"
GLOVE_ZIP, GLOVE_TEXT = "glove.840B.300d.zip", "glove/glove.840B.300d.needed.txt"
OWNERS = "with the owners of IAPR TC-12 alone. data/README.md says how to lay them out"
NO_REFERIT = f"ReferIt cannot be fetched: its photos and masks are {OWNERS}."
NO_SAIAPR = f"RefCLEF's photos cannot be fetched: they are {OWNERS}."
BACKBONE_ADVICE = (
    "A ResNet's ImageNet weights come by themselves (model.backbone_weights=imagenet lets "
    "torchvision fetch them). For deeplabv3plus, name the file of a DeepLabv3+ trained on Pascal "
    "VOC with model.backbone_weights. Weights trained on COCO have seen these photos (section 4.3)."
)


@dataclass
class Report:
    """One line per part; `complete` where nothing that was asked for is missing."""

    lines: list[str] = field(default_factory=list)
    complete: bool = True

    def add(self, part: str, text: str, good: bool = True) -> None:
        self.lines.append(f"{part:<12} {text}")
        self.complete &= good

    def __str__(self) -> str:
        end = "Everything is there." if self.complete else "Not everything is there."
        return "\n".join([*self.lines, end])


@dataclass
class Fetch:
    """A data set to be made in a folder: Fetch(Path("data/unc"), "unc").run() makes it.

    `verify` decodes every photo and compares checksums. With NO_SOURCES nothing is downloaded:
    the report says what is missing. `photos` is how many of "coco-val" are wanted, all if None.
    """

    data: Path
    dataset: str
    images_from: Path | None = None
    glove: bool = False
    photos: int | None = None
    verify: bool = False
    workers: int = 8
    sources: Sources = PUBLISHED
    web: Downloader = field(default_factory=Downloader)

    def run(self) -> Report:
        """Fetch what is missing, and say what is there then.

        Raises:
            DataError: there is no such data set, are no annotations, is no room, or another fetch
                is at work in the folder.
        """
        if self.dataset == "referit":
            raise FetchError(NO_REFERIT)
        if self.dataset != COCO_VAL:
            self.layout = find_layout(self.dataset)
            if self.layout.folder not in ARCHIVED_AT:
                remedy = how_to_get(self.dataset, self.data)
                raise FetchError(f"{self.dataset} is not fetched. {remedy}")
        self.local = LocalPhotos(self.images_from) if self.images_from else None
        self.report, self.downloads = Report(), self.data / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.downloads / "lock").acquire(timeout=0):
                if self.dataset == COCO_VAL:
                    self._photos(self._coco_val(), "images/val2017", self.sources.coco_val)
                    return self.report
                images, folder = self._annotations(), self.layout.image_folder
                if folder == COCO:
                    self._photos(images, folder, self.sources.photos)
                else:
                    self._photos(images, folder, (), NO_SAIAPR)
                if self.glove:
                    self._glove()
        except Timeout as error:
            reason = "another fetch is at work in this folder. Wait for it, or end it"
            raise FetchError(f"{self.data.absolute()}: {reason}.") from error
        self.report.add("backbone", BACKBONE_ADVICE)
        return self.report

    def _annotations(self) -> list[dict]:
        """Make instances.json and the refs file be there; the records of the photos they need."""
        folder = self.layout.folder
        names = [f"{folder}/{name}" for name in ("instances.json", self.layout.refs_file)]
        wrong = [name for name in names if not self._is_good(name)]
        if not wrong:
            try:
                return self._records()
            except DataError:
                if not self.verify or self.sources == NO_SOURCES:
                    raise
                wrong = names
        self._require_web_for(self.data / wrong[0])
        addresses = self.sources.annotations_of(folder)
        archive = self._archive(f"{folder}.zip", addresses, ANNOTATIONS_LIMIT)
        for name in wrong:
            path = self.data / name
            if path.exists():
                path.replace(path.with_name(path.name + ".damaged"))
            unpack(archive, name, path, ANNOTATIONS_LIMIT)
            self._note(name)
        return self._records()

    def _records(self) -> list[dict]:
        """The images of instances.json that refs are on; a line of the report."""
        refs, instances = read_records(self.data, self.dataset)
        images = {instances.annotations[ref["ann_id"]]["image_id"] for ref in refs}
        sentences = sum(len(ref["sentences"]) for ref in refs)
        text = f"{len(refs):,} refs, {sentences:,} sentences, on {len(images):,} photos"
        self.report.add("annotations", f"{self.layout.folder}/: {text}")
        return [instances.images[number] for number in sorted(images, key=str)]

    def _photos(
        self, images: list[dict], folder: str, addresses: Sequence[str], remedy: str = ""
    ) -> None:
        photos = MissingPhotos(images, self.data / folder, self.workers)
        photos.look(thorough=self.verify)
        photos.get(self.local, addresses, self.web)
        text = photos.summary() + (f" {remedy}" if remedy and photos.missing else "")
        self.report.add("photos", text, not photos.missing)

    def _coco_val(self) -> list[dict]:
        """Write what is annotated on the first `photos` by number; their records."""
        name = f"{COCO_VAL}/instances.json"
        whole = self.downloads / "instances_val2017.json"
        if not self._is_good(f"downloads/{whole.name}"):
            self._require_web_for(whole)
            archive = self._archive(COCO_ZIP, self.sources.coco, ANNOTATIONS_LIMIT)
            unpack(archive, f"annotations/{whole.name}", whole, ANNOTATIONS_LIMIT)
            self._note(f"downloads/{whole.name}")
        instances = read_json(whole, "Delete it, and fetch it again.")
        try:
            images = sorted(instances["images"], key=lambda image: image["id"])[: self.photos]
            ids = {image["id"] for image in images}
            things = [each for each in instances["annotations"] if each["image_id"] in ids]
        except (TypeError, KeyError) as error:
            reason = "not COCO's instances. Delete it, and fetch it again"
            raise FetchError(f"{whole.absolute()}: {reason}.") from error
        path = self.data / name
        path.parent.mkdir(exist_ok=True)
        write_json(path, instances | {"images": images, "annotations": things})
        self.report.add("annotations", f"{name}: {len(things):,} things on {len(images):,} photos")
        return images

    def _glove(self) -> None:
        """The vectors of the words that occur in the data sets of the folder."""
        words = set()
        for name, layout in DATASETS.items():
            refs_path = self.data / layout.folder / layout.refs_file
            if layout.folder in ARCHIVED_AT and refs_path.is_file():
                refs, _ = read_records(self.data, name)
                sentences = [each["sent"] for ref in refs for each in ref["sentences"]]
                words.update(word for sentence in sentences for word in tokenize(sentence))
        asked = hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest()
        if self._is_good(GLOVE_TEXT) and self._noted().get("glove_words") == asked:
            self.report.add("glove", f"{GLOVE_TEXT}: there, for {len(words):,} words")
        elif self.sources == NO_SOURCES:
            self.report.add("glove", f"{GLOVE_TEXT}: missing, or for other words", good=False)
        else:
            archive = self._archive(GLOVE_ZIP, self.sources.glove, GLOVE_LIMIT)
            found = keep_words(archive, sorted(words), self.data / GLOVE_TEXT)
            self._note(GLOVE_TEXT, glove_words=asked)
            text = f"{found:,} of {len(words):,} words have a vector; name this file with glove=..."
            self.report.add("glove", f"{GLOVE_TEXT}: {text}")

    def _require_web_for(self, path: Path) -> None:
        """Raise FetchError where nothing may be downloaded."""
        if self.sources == NO_SOURCES:
            reason = "missing, or not as it was fetched. Run this again without --no-download"
            raise FetchError(f"{path.absolute()}: {reason}.")

    def _archive(self, name: str, addresses: Sequence[str], limit: int) -> Path:
        """The zip in downloads/: the one that lies there if it is whole, else from the web."""
        archive = self.downloads / name
        check = partial(check_zip, limit=limit)
        try:
            check(archive)
        except DataError:
            archive.unlink(missing_ok=True)
            self.web.download(addresses, archive, check, limit)
        return archive

    def _is_good(self, name: str) -> bool:
        """Whether a file is there and, if verified, as it was when it was fetched.

        A file that somebody else put there counts as good: reading it will tell.
        """
        noted, path = self._noted().get(name), self.data / name
        return path.is_file() and (not self.verify or noted in (None, _sha256(path)))

    def _note(self, name: str, **more: str) -> None:
        noted = self._noted() | {name: _sha256(self.data / name)} | more
        write_json(self.downloads / "fetched.json", noted)

    def _noted(self) -> dict:
        path = self.downloads / "fetched.json"
        return read_json(path, "Delete it.") if path.exists() else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_words(archive: Path, words: Sequence[str], target: Path) -> int:
    """Copy the lines of `words` from the text in GloVe's zip to `target`; how many there were.

    Raises:
        FetchError: the zip does not hold one text, is damaged, or holds none of the words.
    """
    where = archive.absolute()
    members = read_members(archive, GLOVE_LIMIT)
    texts = [entry for name, entry in members.items() if name.endswith(".txt")]
    if len(texts) != 1:
        raise FetchError(f"{where}: holds {len(texts)} texts and not one. {FETCH_AGAIN}")
    kept = 0
    with (
        blame(str(where)),
        whole_file(target) as new,
        new.open("wb") as file,
        zipfile.ZipFile(archive) as zipped,
        zipped.open(texts[0]) as packed,
        show_bytes(f"{archive.name}: read", texts[0].file_size) as bar,
    ):
        _, lines = select_glove_lines(io.BufferedReader(packed, 2**20), words, archive)
        for _, _, line in lines:
            file.write(line)
            kept += 1
            bar.update(packed.tell() - bar.n)
        if not kept:
            raise FetchError(f"{where}: holds no vector of any of the words. {FETCH_AGAIN}")
    return kept
