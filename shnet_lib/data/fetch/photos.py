"""COCO photos, several at a time: those that a data set needs and that are not there yet.

A photo counts as there when its header says the size that instances.json says; with `thorough`,
when it decodes to its last pixel too. No checksums of single photos are published.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from tqdm.auto import tqdm

from shnet_lib.data.errors import DataError
from shnet_lib.data.fetch.archive import read_members
from shnet_lib.data.fetch.download import (
    DiskFull,
    FetchError,
    Patience,
    disk_error,
    download,
    require_space,
)
from shnet_lib.data.images import read_pixels, require_size

MEAN_BYTES = 165_000  # of a photo in train2014: 13 GB are 82,783 photos
MAX_BYTES = 50 * 10**6  # of one photo; COCO's largest are below 1 MB
MAX_ZIP_BYTES = 40 * 10**9  # that a zip of photos may unpack to; train2014 is 13 GB
GIVE_UP_AFTER = 25  # photos in a row that could not be had


@dataclass
class Photos:
    """What became of the photos: how many were needed, were there, came; why others did not."""

    needed: int = 0
    there: int = 0
    came: int = 0
    missing: dict[str, str] = field(default_factory=dict)  # file name -> reason

    def line(self) -> str:
        text = f"{self.there + self.came:,} of {self.needed:,} ({self.came:,} of them new)"
        if self.missing:
            name, reason = next(iter(self.missing.items()))
            text += f"; {len(self.missing):,} are missing, the first {name}: {reason}"
        return text


class LocalPhotos:
    """Photos that somebody has already: a folder (train2014 or the one around it), or its zip.

    COCO's release of 2017 has the same photos, called by their numbers alone.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.members: dict[str, zipfile.ZipInfo] = {}
        if place.is_dir():
            inside = [place / "train2014", place / "train2017"]
            self.place = next((folder for folder in inside if folder.is_dir()), place)
        elif place.is_file():
            members = read_members(place, MAX_ZIP_BYTES)
            self.members = {name.split("/")[-1]: entry for name, entry in members.items()}
        else:
            raise FetchError(
                f"{place.absolute()}: no folder and no zip. Name the folder train2014 or "
                "train2014.zip with --images-from, or leave it out."
            )

    def copy(self, name: str, target: Path) -> bool:
        """Write the photo `name` to `target`; False where it is not here."""
        names = (name, name.removeprefix("COCO_train2014_"))
        if self.place.is_dir():
            there = [self.place / each for each in names if (self.place / each).is_file()]
            if there:
                shutil.copyfile(there[0], target)
            return bool(there)
        entry = next((self.members[each] for each in names if each in self.members), None)
        if entry is None:
            return False
        if entry.file_size > MAX_BYTES:
            raise FetchError(f"{self.place.absolute()}: {name} has {entry.file_size:,} bytes.")
        try:
            with zipfile.ZipFile(self.place) as archive:
                target.write_bytes(archive.read(entry))
        except Exception as error:  # a damaged zip can raise nearly every kind of error
            raise disk_error(error, target) or FetchError(
                f"{self.place.absolute()}: {name} is damaged ({error})."
            ) from error
        return True


def fetch_photos(
    images: list[dict],
    folder: Path,
    addresses: tuple[str, ...],
    local: LocalPhotos | None = None,
    thorough: bool = False,
    workers: int = 8,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> Photos:
    """Make the photos of `images` (records of instances.json) be in `folder`.

    `addresses`, with {file_name} in them, are asked for what neither the folder nor `local` has;
    without any, nothing is downloaded. DiskFull before anything is fetched where the rest will not
    fit. Where GIVE_UP_AFTER photos in a row fail, the remaining ones are not tried.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = Photos(needed=len(images))
    look = read_pixels if thorough else require_size
    absent = []
    check = partial(_is_there, folder, look)
    for image, reason in _each(check, images, workers, "photos: checked"):
        if reason is None:
            report.there += 1
        else:
            report.missing[image["file_name"]] = reason
            absent.append(image)
    if not absent or not (local or addresses):
        return report
    require_space(folder, len(absent) * MEAN_BYTES)
    get = partial(_get, folder, addresses, local, patience)
    in_a_row = 0
    for image, reason in _each(get, absent, workers, "photos: fetched"):
        if reason is None:
            in_a_row = 0
            report.came += 1
            del report.missing[image["file_name"]]
            continue
        report.missing[image["file_name"]] = reason
        in_a_row += 1
        if in_a_row == GIVE_UP_AFTER:
            break
    return report


def _each(
    work: Callable[[dict], str | None], images: list[dict], workers: int, title: str
) -> Iterator[tuple[dict, str | None]]:
    """Each image with the answer of `work`, as they are done; a few are at work at any time.

    What is not begun when the caller stops is not begun at all.
    """
    waiting = iter(images)
    running: dict[Future, dict] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        with tqdm(total=len(images), desc=title, unit="photo") as bar:
            while True:
                for image in islice(waiting, 2 * workers - len(running)):
                    running[pool.submit(work, image)] = image
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    bar.update()
                    yield running.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _is_there(folder: Path, look: Callable[[Path, int, int], None], image: dict) -> str | None:
    path = folder / image["file_name"]
    if not path.is_file():
        return "no such file"
    try:
        look(path, image["height"], image["width"])
    except DataError as error:
        return str(error)
    return None


def _get(
    folder: Path,
    addresses: tuple[str, ...],
    local: LocalPhotos | None,
    patience: Patience,
    image: dict,
) -> str | None:
    """Put one photo in its place; the reason why not, or None."""
    name = image["file_name"]
    path = folder / name
    check = partial(read_pixels, height=image["height"], width=image["width"])
    reasons = []
    if local:
        part = path.with_name(path.name + ".copy")
        try:
            if local.copy(name, part):
                check(part)
                os.replace(part, path)
                return None
            reasons.append(f"not in {local.place.absolute()}.")
        except DiskFull:
            raise
        except OSError as error:
            if full := disk_error(error, part):
                raise full from error
            reasons.append(f"{local.place.absolute()}: {error}.")
        except DataError as error:
            reasons.append(str(error))
        finally:
            part.unlink(missing_ok=True)
    if addresses:
        filled = [address.format(file_name=name) for address in addresses]
        try:
            download(filled, path, check, MAX_BYTES, patience=patience)
            return None
        except DiskFull:
            raise
        except FetchError as error:
            reasons.append(str(error))
    return " ".join(reasons)
