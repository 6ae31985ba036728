"""Zip files from strangers: looked at as a whole before a byte of them is unpacked.

Members are written to paths that the caller chooses and not to those that they name, so none can
leave its folder. An archive that tries is refused all the same: it is not what it should be.
"""

import errno
import shutil
import stat
import zipfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from shnet_lib.data.fetch.download import DiskFull, FetchError, require_space
from shnet_lib.errors import ShnetError
from shnet_lib.files import whole_file

FETCH_AGAIN = "Delete it and fetch it again, from a place you trust."
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def blame(source: str, remedy: str = FETCH_AGAIN) -> Iterator[None]:
    """What goes wrong in the block is the fault of `source`, unless the disk is full.

    Raises:
        DiskFull: what was written does not fit, or may not be written.
        FetchError: anything else but a ShnetError, which passes.
    """
    try:
        yield
    except ShnetError:
        raise
    except Exception as error:  # a damaged zip can raise nearly every kind of error
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            remedy = "Make room, or choose another folder."
            raise DiskFull(f"while {source} was read: {error}. {remedy}") from error
        raise FetchError(f"{source} is damaged ({error}). {remedy}".strip()) from error


def read_members(path: Path, limit: int) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip by name.

    Raises:
        FetchError: `path` is no zip, has a member that _why_refused names, or unpacks to more than
            `limit` bytes.
    """
    where = path.absolute()
    if not path.is_file():
        raise FetchError(f"{where}: no such file.")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            begins = file.read(40)
        raise FetchError(f"{where}: not a zip file; it begins with {begins!r}. {FETCH_AGAIN}")
    with blame(str(where)), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if reason := _why_refused(entry, members):
            raise FetchError(f"{where}: member {entry.orig_filename!r} {reason}. {FETCH_AGAIN}")
        members[entry.filename] = entry
    total = sum(entry.file_size for entry in entries)
    if total > limit:
        reason = f"unpacks to {total:,} bytes, where at most {limit:,} are allowed"
        raise FetchError(f"{where}: {reason}. {FETCH_AGAIN}")
    return {name: entry for name, entry in members.items() if not entry.is_dir()}


def _why_refused(entry: zipfile.ZipInfo, earlier: Container[str]) -> str | None:
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
    return "is there twice" if name in earlier else None


def check_zip(path: Path, limit: int) -> None:
    """Raise FetchError where read_members does, or where a member is not as its checksum says."""
    read_members(path, limit)
    with blame(str(path.absolute())), zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise FetchError(f"{path.absolute()}: member {damaged!r} is damaged. {FETCH_AGAIN}")


def unpack(path: Path, name: str, target: Path, limit: int) -> None:
    """Write the member `name` to `target`, which gets its name when it is whole.

    Raises:
        DiskFull: it does not fit.
        FetchError: it is missing or damaged, or read_members raises it.
    """
    members = read_members(path, limit)
    if name not in members:
        raise FetchError(f"{path.absolute()}: holds no {name!r}. {FETCH_AGAIN}")
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, members[name].file_size)
    with blame(f"{path.absolute()}: {name!r}"), whole_file(target) as new, new.open("wb") as file:
        with zipfile.ZipFile(path) as archive, archive.open(members[name]) as source:
            shutil.copyfileobj(source, file, 2**20)
