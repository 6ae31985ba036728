"""The photos that a data set needs, several at a time.

A photo counts as there when its header says the size that instances.json says; after a thorough
look, when it decodes to its last pixel too. No checksums of single photos are published.
"""

import shutil
import threading
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tqdm.contrib.concurrent import thread_map

from shnet_lib.data.errors import DataError
from shnet_lib.data.fetch.download import Downloader, FetchError, require_space
from shnet_lib.data.fetch.zips import blame, read_members
from shnet_lib.data.images import read_pixels, require_size
from shnet_lib.files import whole_file

MEAN_BYTES = 165_000  # of a photo in train2014: 13 GB are 82,783 photos
MAX_BYTES = 50 * 10**6  # of one photo; COCO's largest are below 1 MB
MAX_ZIP_BYTES = 40 * 10**9  # that a zip of photos may unpack to; train2014 is 13 GB
GIVE_UP_AFTER = 25  # in a row: each costs half a minute per address at which nobody answers


class LocalPhotos:
    """Photos that somebody has already: their folder or the one around it, or its zip.

    COCO's release of 2017 has the same photos, called by their numbers alone.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.archive, self.reading = place, None, threading.Lock()
        if place.is_dir():
            inside = [place / name for name in ("train2014", "train2017", "val2017")]
            self.place = next((folder for folder in inside if folder.is_dir()), place)
        elif place.is_file():
            members = read_members(place, MAX_ZIP_BYTES)
            self.members = {name.split("/")[-1]: entry for name, entry in members.items()}
            self.archive = zipfile.ZipFile(place)
        else:
            raise FetchError(
                f"{place.absolute()}: no folder and no zip. Name the folder train2014 or "
                "train2014.zip with --images-from, or leave it out."
            )

    def copy(self, name: str, target: Path, check: Callable[[Path], object]) -> None:
        """Write the photo `name` to `target`, if it passes the check; DataError if not."""
        names = (name, name.removeprefix("COCO_train2014_"))
        with blame(f"{self.place.absolute()}: {name}", remedy=""), whole_file(target) as new:
            if self.archive is None:
                there = [self.place / each for each in names if (self.place / each).is_file()]
            else:
                there = [self.members[each] for each in names if each in self.members]
            if not there:
                raise FetchError(f"not in {self.place.absolute()}.")
            if self.archive is None:
                shutil.copyfile(there[0], new)
            elif there[0].file_size > MAX_BYTES:
                raise FetchError(f"{self.place}: {name} has {there[0].file_size:,} bytes.")
            else:
                with self.reading:  # zipfile's own count of readers is not safe
                    new.write_bytes(self.archive.read(there[0]))
            check(new)


class MissingPhotos:
    """The photos of `images` (records of instances.json), which belong into `folder`.

    `missing` has the reasons by file name, once they were looked for; `came` counts the new ones.
    """

    def __init__(self, images: Sequence[dict], folder: Path, workers: int = 8) -> None:
        self.images, self.folder, self.workers = images, folder, workers
        self.missing: dict[str, str] = {}
        self.came = self.in_a_row = 0  # in a row: that could not be had

    def look(self, thorough: bool = False) -> None:
        """Find out which are missing: by their headers, or by each of their pixels."""
        read = read_pixels if thorough else require_size

        def look(image: dict) -> None:
            path = self.folder / image["file_name"]
            if not path.is_file():
                raise FetchError("no such file")
            read(path, image["height"], image["width"])

        self.missing = self._each(look, self.images, "photos: checked")

    def get(self, local: LocalPhotos | None, addresses: Sequence[str], web: Downloader) -> None:
        """Get what is missing from `local`, or else from `addresses` with {file_name} in them.

        After GIVE_UP_AFTER in a row that no address gave, none is asked any more.

        Raises:
            DiskFull: the missing ones do not fit.
        """
        wanted = [image for image in self.images if image["file_name"] in self.missing]
        if wanted and (local or addresses):
            self.folder.mkdir(parents=True, exist_ok=True)
            require_space(self.folder, len(wanted) * MEAN_BYTES)
            get = partial(self._get_one, local, addresses, web)
            self.missing = self._each(get, wanted, "photos: fetched")
            self.came = len(wanted) - len(self.missing)

    def summary(self) -> str:
        there = len(self.images) - len(self.missing)
        text = f"{there:,} of {len(self.images):,} ({self.came:,} of them new)"
        for name, reason in list(self.missing.items())[:1]:
            text += f"; {len(self.missing):,} are missing, the first {name}: {reason}"
        return text

    def _get_one(
        self, local: LocalPhotos | None, addresses: Sequence[str], web: Downloader, image: dict
    ) -> None:
        path = self.folder / image["file_name"]
        check = partial(read_pixels, height=image["height"], width=image["width"])
        before = ""
        if local:
            try:
                return local.copy(path.name, path, check)
            except DataError as error:
                if not addresses:
                    raise
                before = f"{error} "
        if self.in_a_row >= GIVE_UP_AFTER:
            raise FetchError(f"{before}Not asked for: {GIVE_UP_AFTER} in a row did not come.")
        filled = [address.format(file_name=path.name) for address in addresses]
        try:
            web.download(filled, path, check, MAX_BYTES)
            self.in_a_row = 0
        except FetchError as error:
            self.in_a_row += 1
            raise FetchError(f"{before}{error}") from error

    def _each(self, work: Callable[[dict], None], images: Sequence[dict], title: str) -> dict:
        """Work on images in threads; file name -> what the DataError said, where there was one."""

        def reason(image: dict) -> str | None:
            try:
                return work(image)
            except DataError as error:
                return str(error)

        reasons = thread_map(reason, images, max_workers=self.workers, desc=title, unit="photo")
        names = [image["file_name"] for image in images]
        return {name: reason for name, reason in zip(names, reasons, strict=True) if reason}
