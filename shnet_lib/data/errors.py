"""The one error of the data readers, and the checks of files and records that raise it.

A message names the file (with its full path), the record in it, and what to do about it.
"""

import json
import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shnet_lib.errors import ShnetError


class DataError(ShnetError):
    """What is on disk is missing, damaged, or not what was asked for."""


def require_file(path: Path, remedy: str) -> None:
    """Raise DataError unless `path` is a file; the message ends with `remedy`."""
    if not path.is_file():
        raise DataError(f"{path.absolute()}: no such file. {remedy}")


def require_files(paths: Iterable[Path], kind: str, remedy: str) -> None:
    """Raise DataError that names the first absent path and how many are absent.

    Each folder is listed once, so that 17,000 photos cost one look and not 17,000.
    `kind` is what the files are called in the message ("image", "mask").
    """
    wanted = list(dict.fromkeys(paths))
    names = {folder: names_of_files(folder) for folder in {path.parent for path in wanted}}
    absent = [path for path in wanted if path.name not in names[path.parent]]
    if absent:
        raise DataError(
            f"{absent[0].absolute()}: no such {kind} "
            f"({len(absent)} of {len(wanted)} {kind} files are missing). {remedy}"
        )


def names_of_files(folder: Path) -> set[str]:
    """The names of the files in `folder`; none where there is no such folder."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in `path`; DataError where it is missing, damaged, or not an object."""
    require_file(path, remedy)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError and JSONDecodeError are ValueErrors; "[[[[..." nests too deep.
        raise DataError(f"{path.absolute()}: not readable as JSON ({error}). {remedy}") from error
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise DataError(f"{path.absolute()}: holds a {kind}, not a JSON object. {remedy}")
    return document


def require_text(text: str, where: str, remedy: str) -> None:
    """Raise DataError where `text` holds half a character (a lone surrogate).

    JSON and pickles can spell one. Nothing can be written with it, neither a file nor a message.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} is no valid text: {brief(text)}. {remedy}") from error


def brief(value: Any) -> str:
    """The beginning of a wrong value, for a message: short, however large or deep the value is."""
    return reprlib.repr(value)[:80]


def require_fields(
    record: Any, fields: Mapping[str, type | tuple[type, ...]], where: str, remedy: str
) -> None:
    """Raise DataError unless `record` is a dict that has every field with a value of its type.

    `where` names the file and the record, for the message.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where} is a {type(record).__name__}, not a record. {remedy}")
    for name, kind in fields.items():
        if name not in record:
            raise DataError(f"{where} has no field {name!r}. {remedy}")
        if not isinstance(record[name], kind):
            found = type(record[name]).__name__
            raise DataError(f"{where}: field {name!r} is of type {found}. {remedy}")
