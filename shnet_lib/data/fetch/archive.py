"""Zip files from strangers: looked at as a whole before a byte of them is unpacked.

Members are written to paths that the caller chooses and not to those that they name, so none can
leave its folder. An archive that tries is refused all the same: it is not what it should be.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from shnet_lib.data.errors import DataError
from shnet_lib.data.fetch.download import FetchError, disk_error, require_space

REMEDY = "Delete it and fetch it again, from a place you trust."


def read_members(path: Path, limit: int) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip by name.

    FetchError where `path` is no zip, or where a member has an absolute name or one with "..", is
    a link or a device, is encrypted, is there twice, or where all of them unpack to more than
    `limit` bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError as error:
        raise FetchError(f"{path.absolute()}: no such file.") from error
    except Exception as error:  # a damaged zip can raise nearly every kind of error
        with path.open("rb") as file:
            begins = file.read(40)
        raise FetchError(
            f"{path.absolute()}: not a zip file ({error}); it begins with {begins!r}. {REMEDY}"
        ) from error
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if reason := _why_refused(entry, members):
            raise FetchError(
                f"{path.absolute()}: member {entry.orig_filename!r} {reason}. {REMEDY}"
            )
        members[entry.filename] = entry
    total = sum(entry.file_size for entry in entries)
    if total > limit:
        raise FetchError(
            f"{path.absolute()}: unpacks to {total:,} bytes, where at most {limit:,} are allowed. "
            f"{REMEDY}"
        )
    return {name: entry for name, entry in members.items() if not entry.is_dir()}


def _why_refused(entry: zipfile.ZipInfo, earlier: Mapping[str, zipfile.ZipInfo]) -> str | None:
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or PureWindowsPath(name).drive:
        return "has an absolute name"
    if ".." in name.replace("\\", "/").split("/"):
        return "leads out of its folder"
    if "\\" in name or "\0" in name or not name:
        return "has a name that is no file's"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is no ordinary file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if name in earlier:
        return "is there twice"
    return None


def check_zip(path: Path, limit: int) -> None:
    """Raise FetchError where read_members does, or where a member is not as its checksum says."""
    read_members(path, limit)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise FetchError(f"{path.absolute()}: damaged ({error}). {REMEDY}") from error
    if damaged:
        raise FetchError(f"{path.absolute()}: member {damaged!r} is damaged. {REMEDY}")


def unpack(path: Path, targets: Mapping[str, Path], limit: int) -> None:
    """Write members (by name) to their targets; each gets its name when it is whole.

    FetchError where a member is missing or damaged, and where read_members raises it; DiskFull
    where they do not fit.
    """
    members = read_members(path, limit)
    if absent := [name for name in targets if name not in members]:
        raise FetchError(f"{path.absolute()}: holds no {absent[0]!r}. {REMEDY}")
    for name, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        require_space(target.parent, members[name].file_size)
        with (
            written_whole(target, f"{path.absolute()}: {name!r}", REMEDY) as file,
            zipfile.ZipFile(path) as archive,
            archive.open(members[name]) as source,
        ):
            shutil.copyfileobj(source, file, 2**20)


@contextmanager
def written_whole(path: Path, source: str, remedy: str) -> Iterator[BinaryIO]:
    """A file to write into what is read from a zip; it gets its name when the block ends well.

    What cannot be written is DiskFull. Any other error but a DataError is the zip's: FetchError
    "`source` is damaged", with the remedy.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except DataError:
        raise
    except Exception as error:  # a damaged zip can raise nearly every kind of error
        raise disk_error(error, part) or FetchError(
            f"{source} is damaged ({error}). {remedy}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
