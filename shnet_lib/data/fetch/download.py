"""One file from the web: resumed after an interruption, tried again, checked before it counts.

A file grows as NAME.part and gets its name when it is whole and passed its check. NAME.part.json
says which version of which address the part is of, so that a later run can ask for the rest alone.
(Libraries that download for one, as pooch and torch.hub, begin again from the first byte.)
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from tqdm.auto import tqdm
from urllib3.util import Retry

from shnet_lib.data.errors import DataError
from shnet_lib.errors import ShnetError
from shnet_lib.files import flush

BLOCK_BYTES = 2**17
SPARE = 100 * 10**6  # bytes that are left free on the disk
LONGEST_WAIT = 60  # seconds, whatever a server asks for
FOR_NOW = (408, 425, 429, 500, 502, 503, 504)  # answers that may be another one a little later


class FetchError(DataError):
    """A part could not be had, or was refused. Names the address or file, and the remedy."""


class DiskFull(ShnetError):
    """There is no room: no other address will help."""


class _Broken(Exception):
    """The body was cut short, or does not continue the part: asking again may help."""


class _Retry(Retry):
    def get_retry_after(self, response) -> float | None:  # urllib3 waits for hours if asked to
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, LONGEST_WAIT)


class Downloader(threading.local):
    """Gets files. Each thread has a session of its own, whose connections stay open.

    It gives up after `attempts` in a row that bring nothing new. `first_wait` (doubled each time),
    `connect` and `silence` are seconds: between attempts, for a connection, without a byte.
    """

    def __init__(
        self, attempts: int = 6, first_wait: float = 1, connect: float = 10, silence: float = 60
    ) -> None:
        self.attempts, self.first_wait, self.timeout = attempts, first_wait, (connect, silence)
        retry = _Retry(
            attempts - 1,
            backoff_factor=first_wait,
            status_forcelist=FOR_NOW,
            raise_on_status=False,
        )
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))

    def download(self, addresses: Sequence[str], path: Path, check: Callable, limit: int) -> str:
        """Make `path` the file at the first of `addresses` that gives it; return that address.

        check(part) raises DataError where what came is not what was asked for. `limit` is the most
        bytes that are taken.

        Raises:
            DiskFull: there is no room.
            FetchError: no address gave the file. Names what each answered.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        answers = []
        for address in addresses:
            part = _Part(path, address, limit)
            try:
                self._complete(part, check)
                part.path.replace(path)
                part.discard()
                return address
            except FetchError as error:
                answers.append(str(error))
            except OSError as error:
                where = part.path.absolute()
                raise DiskFull(f"{where}: {error}. Make room, or mend the disk.") from error
        raise FetchError(f"{path.absolute()} could not be fetched. " + " ".join(answers))

    def _complete(self, part: "_Part", check: Callable) -> None:
        """Make `part` whole; FetchError after as many attempts that brought nothing new."""
        failed = most = 0
        while True:
            try:
                resumed = self._continue(part)
                try:
                    return check(part.path)
                except DataError as error:
                    part.discard()
                    reason = f"{part.address} gave a file that is not it: {error}"
                    raise (_Broken(reason) if resumed else FetchError(reason)) from error
            except _Broken as error:
                failed = 1 if part.size() > most else failed + 1
                most = max(most, part.size())
                if failed >= self.attempts:
                    raise FetchError(f"{part.address}: {error} ({failed} attempts).") from error
                time.sleep(self.first_wait * 2 ** (failed - 1))

    def _continue(self, part: "_Part") -> bool:
        """Ask once for what the part lacks, and write it; whether there was a part before."""
        version, total = part.read_note()
        have = part.size()
        if have and have == total:  # the program ended before the check
            return True
        headers = {"Accept-Encoding": "identity", "User-Agent": "shnet-course"}
        if have:
            headers["Range"] = f"bytes={have}-"
            headers |= {"If-Range": version} if version else {}
        tried = f"({self.attempts} attempts)"
        try:
            answer = self.session.get(
                part.address, headers=headers, stream=True, timeout=self.timeout
            )
        except (MissingSchema, InvalidSchema, InvalidURL) as error:
            raise FetchError(f"{part.address}: not an address of the web ({error}).") from error
        except requests.RequestException as error:
            reason = f"the connection failed ({type(error).__name__}) {tried}"
            raise FetchError(f"{part.address}: {reason}.") from error
        with answer:
            if answer.status_code in FOR_NOW:
                raise FetchError(
                    f"{part.address}: the server answered {answer.status_code} {tried}."
                )
            return part.take(answer, have, total)


class _Part:
    """NAME.part, and NAME.part.json: which version of which address it is of."""

    def __init__(self, path: Path, address: str, limit: int) -> None:
        self.path = path.with_name(path.name + ".part")
        self.note = path.with_name(path.name + ".part.json")
        self.address, self.limit = address, limit

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def read_note(self) -> tuple[str, int | None]:
        """The part's version and whole size, "" and None if unknown; no part of other addresses."""
        try:
            note = json.loads(self.note.read_text())
            if note["address"] == self.address and self.path.is_file():
                return str(note["version"]), note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent, half written or damaged: begin again
        self.discard()
        return "", None

    def take(self, answer: requests.Response, have: int, total: int | None) -> bool:
        """Write the body of an answer; whether it continued the `have` bytes of `total`."""
        status, headers = answer.status_code, answer.headers
        span = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", headers.get("Content-Range", ""))
        if status == 200 and "html" in headers.get("Content-Type", ""):
            raise FetchError(f"{self.address}: a web page came in place of the file.")
        if status == 200:
            length = headers.get("Content-Length", "")
            start, whole = 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None
        elif status == 206 and span and int(span[1]) == have and total in (None, int(span[2])):
            start, whole = have, int(span[2])
        elif status in (206, 416):
            self.discard()
            raise _Broken("the server does not continue where the part ends")
        else:
            raise FetchError(f"{self.address}: the server answered {status}.")
        if (whole or 0) > self.limit:
            reason = f"{whole:,} bytes, where at most {self.limit:,} are taken"
            raise FetchError(f"{self.address}: {reason}.")
        require_space(self.path.parent, (whole or 0) - start)
        if start == 0:
            version = headers.get("ETag", "")
            strong = version if version.startswith('"') else ""  # a weak one is of similar bytes
            note = {"address": self.address, "version": strong, "total": whole}
            self.note.write_text(json.dumps(note))
        size = self._write(answer, start, whole)
        if size > self.limit:
            self.discard()
            raise FetchError(f"{self.address}: more than the {self.limit:,} bytes that are taken.")
        if whole not in (None, size):
            raise _Broken(f"the connection ended after {size:,} of {whole:,} bytes")
        return start > 0

    def _write(self, answer: requests.Response, size: int, whole: int | None) -> int:
        """Write the body behind the first `size` bytes; how many there are then."""
        bar = show_bytes(self.path.stem, whole, size)
        with self.path.open("ab" if size else "wb") as file, bar:
            try:
                for block in answer.iter_content(BLOCK_BYTES):
                    file.write(block)
                    size += len(block)
                    bar.update(len(block))
                    if size > self.limit:
                        break
            except requests.RequestException as error:
                raise _Broken(f"the connection failed ({type(error).__name__})") from error
        flush(self.path)
        return size


def show_bytes(title: str, total: int | None, done: int = 0) -> tqdm:
    """A progress bar, for what takes longer than a few seconds."""
    return tqdm(desc=title, total=total, initial=done, unit="B", unit_scale=True, delay=3)


def require_space(folder: Path, needed: int) -> None:
    """Raise DiskFull unless `needed` bytes fit on the disk of `folder`, with SPARE left over."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise DiskFull(
            f"{folder.absolute()}: {needed / 1e9:,.2f} GB more are needed and {free / 1e9:,.2f} GB "
            "are free. Make room, or choose a folder on another disk."
        )
