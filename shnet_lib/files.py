"""What is written is there whole or not at all: a file, a folder, JSON, CSV.

It gets another name first (`.new`), is flushed to the disk and then renamed. A crash, a power cut
or a full disk leaves what was there before.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".new"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes the place of `path` when the block ends well.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = unfinished(path)
    try:
        yield new
        flush(new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    flush(path.parent)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder to write into; it gets the name `folder` when the block ends well.

    Raises:
        FileExistsError: there is such a folder. No system puts one folder in the place of another
            in a single step.
        OSError: the disk is full or cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder.absolute()} exists: delete it or name another folder")
    new = unfinished(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            flush(path)
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    flush(folder.parent)


def remove_folder(folder: Path) -> None:
    """Delete a folder. It loses its name first: nobody takes what is left for whole."""
    if not folder.name.endswith(UNFINISHED):
        shutil.rmtree(unfinished(folder), ignore_errors=True)
        folder = folder.rename(unfinished(folder))
    shutil.rmtree(folder, ignore_errors=True)


def unfinished(path: Path) -> Path:
    """The name that a file or folder has while it is written."""
    return path.with_name(path.name + UNFINISHED)


def flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk.

    Windows flushes only what was opened for writing, and opens no folder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    with whole_file(path) as new:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        new.write_text(text, encoding="utf-8")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns as CSV."""
    with whole_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
