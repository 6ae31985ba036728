"""One file from the web: continued after an interruption, tried again, checked before it counts.

A file grows as NAME.part and gets its name when it is whole and passed its check. NAME.part.json
says which version of which address the part is of, so that a later run can ask for the rest alone.
(requests does the talking. Libraries that download for one, as pooch and torch.hub, begin again
from the first byte.)
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from shnet_lib.data.errors import DataError

BLOCK = 2**17  # bytes
SPARE = 100 * 10**6  # bytes that are left free on the disk
LONGEST_WAIT = 60.0  # seconds between two attempts
FOR_NOW = {408, 425, 429, 500, 502, 503, 504}  # answers that may be another one a little later


class FetchError(DataError):
    """A part could not be had, or was refused. Names the address or file, and the remedy."""


class DiskFull(FetchError):
    """There is no room; no other address will help."""


class _ForNow(Exception):
    """An attempt failed, and another one may not: `wait` seconds, where the server said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How long to try: attempts that bring nothing new, the first wait (doubled each time), and the
    seconds to wait for a connection and for a byte."""

    attempts: int = 6
    first_wait: float = 1.0
    connect: float = 10.0
    silence: float = 60.0


def download(
    addresses: Sequence[str],
    path: Path,
    check: Callable[[Path], None],
    limit: int,
    progress: Callable[[int, int | None], None] = lambda size, total: None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> str:
    """Make `path` the file at the first of `addresses` that gives it; return that address.

    check(part) raises DataError where what came is not what was asked for. `limit` is the most
    bytes that are taken. progress(bytes there, bytes in all or None) is called as they come.
    FetchError names what each address answered; DiskFull where there is no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    answers = []
    for address in addresses:
        try:
            _from_address(address, path, check, limit, progress, patience)
            return address
        except DiskFull:
            raise
        except FetchError as error:
            answers.append(str(error))
    raise FetchError(f"{path.absolute()} could not be fetched. " + " ".join(answers))


def disk_error(error: Exception, path: Path) -> DiskFull | None:
    """What to raise where writing `path` failed because of the disk and not of what was read."""
    reasons = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
    if isinstance(error, OSError) and error.errno in reasons:
        return DiskFull(f"{path.absolute()}: {error}. Make room, or choose another folder.")
    return None


def require_space(folder: Path, needed: int) -> None:
    """Raise DiskFull unless `needed` bytes fit on the disk of `folder`, with SPARE left over."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise DiskFull(
            f"{folder.absolute()}: {needed / 1e9:,.2f} GB more are needed and {free / 1e9:,.2f} GB "
            "are free. Make room, or choose a folder on another disk."
        )


def _from_address(
    address: str,
    path: Path,
    check: Callable[[Path], None],
    limit: int,
    progress: Callable[[int, int | None], None],
    patience: Patience,
) -> None:
    """Attempts at one address, until `patience.attempts` in a row brought nothing new."""
    part = path.with_name(path.name + ".part")
    failed, most = 0, 0
    while True:
        try:
            continued = _transfer(address, part, limit, progress, patience)
            try:
                check(part)
            except DataError as error:
                _discard(part)
                reason = f"{address} gave a file that is not it: {error}"
                raise (_ForNow(reason) if continued else FetchError(reason)) from error
            os.replace(part, path)
            _discard(part)
            return
        except _ForNow as error:
            size = part.stat().st_size if part.exists() else 0
            failed = 1 if size > most else failed + 1
            most = max(most, size)
            if failed >= patience.attempts:
                raise FetchError(f"{address}: {error} ({failed} attempts).") from error
            wait = patience.first_wait * 2 ** (failed - 1) if error.wait is None else error.wait
            time.sleep(min(wait, LONGEST_WAIT))
        except OSError as error:
            raise DiskFull(f"{part.absolute()}: {error}. Make room, or mend the disk.") from error


def _transfer(
    address: str,
    part: Path,
    limit: int,
    progress: Callable[[int, int | None], None],
    patience: Patience,
) -> bool:
    """One attempt to complete `part`; whether it continued what was there.

    Raises _ForNow where another attempt may help, and FetchError where it will not.
    """
    note = _read_note(part, address)
    have = part.stat().st_size if note else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "shnet-course"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if note["version"]:
            headers["If-Range"] = note["version"]
    try:
        timeout = (patience.connect, patience.silence)
        with _session().get(address, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 416 and have and have == _whole(response):
                return True
            accepted = _accept(response, address, have, note)
            if accepted is None:
                _discard(part)
                raise _ForNow("the server does not continue where the part ends")
            start, total = accepted
            if (total or 0) > limit:
                raise FetchError(f"{address}: {total:,} bytes, where at most {limit:,} are taken.")
            require_space(part.parent, (total or 0) - start)
            if not start:
                version = response.headers.get("ETag", "")
                strong = version if version.startswith('"') else ""
                _write_note(part, {"address": address, "version": strong, "total": total})
            size = _receive(response, part, start, total, limit, progress)
    except requests.RequestException as error:
        raise _ForNow(f"the connection failed ({type(error).__name__})") from error
    if size > limit:
        _discard(part)
        raise FetchError(f"{address}: more than the {limit:,} bytes that are taken.")
    if total is not None and size != total:
        raise _ForNow(f"the connection ended after {size:,} of {total:,} bytes")
    return start > 0


def _accept(
    response: requests.Response, address: str, have: int, note: dict
) -> tuple[int, int | None] | None:
    """At which byte the answer's body begins, and how many bytes the file has in all (if said).

    None where the server does not continue at byte `have`.
    """
    status = response.status_code
    if status in FOR_NOW:
        asked = response.headers.get("Retry-After", "")
        wait = float(asked) if re.fullmatch(r"[0-9]{1,4}", asked) else None
        raise _ForNow(f"the server answered {status}", wait)
    if status == 206 and have:
        span = re.fullmatch(
            r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})",
            response.headers.get("Content-Range", ""),
        )
        if span and int(span[1]) == have and note["total"] in (None, int(span[2])):
            return have, int(span[2])
    if status in (206, 416):
        return None
    if status != 200:
        raise FetchError(f"{address}: the server answered {status}.")
    if "html" in response.headers.get("Content-Type", ""):
        raise FetchError(f"{address}: a web page came in place of the file.")
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


def _whole(response: requests.Response) -> int | None:
    """The file's length as an answer 416 gives it: "bytes */1234"."""
    found = re.fullmatch(r"bytes \*/([0-9]{1,18})", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _receive(
    response: requests.Response,
    part: Path,
    start: int,
    total: int | None,
    limit: int,
    progress: Callable[[int, int | None], None],
) -> int:
    """Write the body behind the first `start` bytes of `part`; how many are there then."""
    size = start
    with part.open("ab" if start else "wb") as file:
        progress(size, total)
        for block in response.iter_content(BLOCK):
            file.write(block)
            size += len(block)
            progress(size, total)
            if size > limit:
                break
        file.flush()
        os.fsync(file.fileno())
    return size


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path, address: str) -> dict:
    """What is known of `part`; {} and no part any more, where it is of another address."""
    try:
        note = json.loads(_note_path(part).read_text())
        if note["address"] == address and part.is_file():
            return {"version": str(note["version"]), "total": note["total"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent, half written or damaged: begin again
    _discard(part)
    return {}


def _write_note(part: Path, note: dict) -> None:
    _note_path(part).write_text(json.dumps(note))


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


_sessions = threading.local()


def _session() -> requests.Session:
    """A session for each thread: it keeps the connection to the server open between two files."""
    if not hasattr(_sessions, "session"):
        _sessions.session = requests.Session()
    return _sessions.session
