"""A file or a folder is there whole or not at all, on every system."""

import csv
import errno
import json
import os
from pathlib import Path

import pytest

from shnet_lib import files
from shnet_lib.files import flush, unfinished, whole_file, whole_folder, write_json, write_table


class PowerCut(BaseException):
    """Ends a process wherever it stands; no cleaning up is to be trusted."""


def write_version(folder: Path, version: str) -> None:
    with whole_folder(folder) as new:
        (new / "deep").mkdir()
        for name in ("a", "deep/b"):
            (new / name).write_text(version)


def texts(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("survived", range(8))
def test_a_power_cut_leaves_no_folder_or_a_whole_one(tmp_path, monkeypatch, survived):
    """The power fails after so many looks at the disk; then someone reads, and writes again."""
    folder = tmp_path / "step-2"
    steps = iter(range(survived))

    def cut(function):
        def run(*arguments, **keywords):
            if next(steps, None) is None:
                raise PowerCut
            return function(*arguments, **keywords)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut(os.fsync))
        patch.setattr(Path, "rename", cut(Path.rename))
        patch.setattr(files.shutil, "rmtree", lambda *_arguments, **_keywords: None)
        try:
            write_version(folder, "first")
            complete = True
        except PowerCut:
            complete = False
    assert complete == (survived >= 6)  # two files, two folders, the name, the folder of the name
    assert not folder.exists() or texts(folder) == ["first", "first"]
    if not folder.exists():
        write_version(folder, "second")
        assert texts(folder) == ["second", "second"]
    assert list(tmp_path.iterdir()) == [folder]


def test_every_file_is_on_the_disk_before_the_folder_gets_its_name(tmp_path, monkeypatch):
    events = []
    rename = Path.rename
    monkeypatch.setattr(files, "flush", lambda path: (events.append(path.name), flush(path)))
    monkeypatch.setattr(Path, "rename", lambda p, to: (events.append("rename"), rename(p, to)))
    write_version(tmp_path / "last", "new")
    assert set(events[: events.index("rename")]) == {"a", "deep", "b", "last.new"}
    assert events[-1] == tmp_path.name


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "best") as new:
        (new / "a").write_text("ne")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as new:
        new.write_text("ne")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_touched(tmp_path):
    write_version(tmp_path / "best", "old")
    with pytest.raises(FileExistsError, match="best exists: delete it"):
        write_version(tmp_path / "best", "new")
    assert texts(tmp_path / "best") == ["old", "old"]


def test_a_file_takes_the_place_of_the_old_one_in_one_piece(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "metrics.json"
    write_json(path, {"a": [1, "ä"]})
    write_table(tmp_path / "table.csv", [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]

    def cut(_descriptor):
        raise PowerCut

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(PowerCut):
        write_json(path, {"a": 2})
    with pytest.raises(PowerCut):
        write_table(path, [{"a": 3}])
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, "ä"]}
    assert list(path.parent.iterdir()) == [path]


def test_what_a_crash_left_is_written_over(tmp_path):
    unfinished(tmp_path / "best").mkdir()
    (unfinished(tmp_path / "best") / "half").write_text("of an older one")
    write_version(tmp_path / "best", "new")
    assert texts(tmp_path / "best") == ["new", "new"]


def test_windows_flushes_what_was_opened_for_writing_and_opens_no_folder(tmp_path, monkeypatch):
    """Windows' rules, put on top of this system's."""
    written, real_open, real_fsync = set(), os.open, os.fsync
    flushed = []

    def windows_open(path, flags, *arguments, **keywords):
        if os.path.isdir(path) and flags == os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        descriptor = real_open(path, flags, *arguments, **keywords)
        if flags & (os.O_RDWR | os.O_WRONLY):
            written.add(descriptor)
        return descriptor

    def windows_fsync(descriptor):
        if descriptor not in written:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flushed.append(descriptor)
        real_fsync(descriptor)

    monkeypatch.setattr(files.os, "open", windows_open)
    monkeypatch.setattr(files.os, "fsync", windows_fsync)
    with whole_folder(tmp_path / "best") as new:
        (new / "a").write_text("whole")
    write_json(tmp_path / "metrics.json", {})
    assert texts(tmp_path / "best") == ["whole"] and len(flushed) == 2
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "nowhere")
