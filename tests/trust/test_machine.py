"""Too little memory, no place to write, readers that hang, a device that computes wrongly."""

from __future__ import annotations

import errno
import resource
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sittings import SETTINGS, write_data

from shnet_lib import command
from shnet_lib.data import DataError, Expression
from shnet_lib.errors import ShnetError
from shnet_lib.model.shnet import SHNet
from shnet_lib.training import fit as fit_module
from shnet_lib.training import limits, prepare
from shnet_lib.training import run as run_module
from shnet_lib.training.checkpoint import CheckpointError, load_shnet
from shnet_lib.training.config import ConfigError, TrainConfig, configure, parse_settings
from shnet_lib.training.fit import fit
from shnet_lib.training.limits import LoaderError, OutOfMemory, free_memory
from shnet_lib.training.resume import has_progress
from shnet_lib.training.run import read_splits

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "refshapes")


def settings(**others: object) -> TrainConfig:
    texts = [f"{k}={v}" for k, v in (SETTINGS | {"steps": 2} | others).items()]
    return configure("smoke", **parse_settings(texts))


def refused(data: Path, run: Path, error: type[ShnetError], **others: object) -> str:
    """What `fit` says before its first step: one line."""
    config = settings(**others)
    with pytest.raises(error) as caught:
        fit(config, read_splits(config, data), run)
    assert "\n" not in str(caught.value) and not (run.is_dir() and has_progress(run))
    return str(caught.value)


# --- places ---------------------------------------------------------------------------------------


def test_a_run_folder_that_is_a_file_or_cannot_be_written(data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        said = refused(data, run, CheckpointError)
        assert f"{run} cannot be written" in said and said.endswith("name another run folder")

    def mkdir(path: Path, *_arguments: object, **_keywords: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    config = settings()
    expressions = read_splits(config, data)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        with pytest.raises(CheckpointError, match="run cannot be written .*Permission denied"):
            fit(config, expressions, tmp_path / "run")


def test_a_cache_of_photos_that_cannot_be_written(data, tmp_path):
    (tmp_path / "file").write_text("")
    said = refused(data, tmp_path / "run", ConfigError, cache_images=tmp_path / "file" / "photos")
    assert said.startswith(f"cache_images = {tmp_path}/file/photos: ")
    assert f"It takes {14 * 3 * 32 * 32:,} bytes, and " in said and " are free: name anot" in said


def test_a_tilde_is_the_home_folder(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    texts = [f"{k}={v}" for k, v in (SETTINGS | {"steps": 1, "cache_images": "~/photos"}).items()]
    arguments = [
        "train",
        "--preset",
        "smoke",
        "--data",
        "~/data",
        "--run",
        "~/run",
        "--set",
        *texts,
    ]
    assert command.main(arguments) == 0
    assert has_progress(tmp_path / "run") and list((tmp_path / "photos").glob("*.npy"))
    assert (tmp_path / "run" / "metrics.json").is_file() and not (tmp_path / "~").exists()
    assert load_shnet("~/run/best").config.cache_images == str(tmp_path / "photos")


# --- memory ---------------------------------------------------------------------------------------


class Large(SHNet):
    """A network that asks for more memory than any machine has."""

    def forward(self, *_arguments: object, **_settings: object) -> torch.Tensor:
        return torch.empty(2**60)


class Bare(SHNet):
    """Python's own error says nothing at all."""

    def forward(self, *_arguments: object, **_settings: object) -> torch.Tensor:
        raise MemoryError


@pytest.mark.parametrize("network", [Large, Bare])
def test_main_memory_that_does_not_suffice(data, tmp_path, monkeypatch, network, capsys):
    monkeypatch.setattr(fit_module, "SHNet", network)
    said = refused(data, tmp_path / "run", OutOfMemory, workers=0)
    assert (
        said.startswith("the memory does not suffice") and "GB are free. Lower workers (0)" in said
    )
    assert "batch_size (8), or raise accumulate (2)" in said and "ulimit -v" in said
    assert ("allocate memory" in said) == (network is Large)

    def read(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(run_module, "read_expressions", read)
    arguments = [
        "train",
        "--preset",
        "smoke",
        "--data",
        str(data),
        "--run",
        str(tmp_path / "other"),
    ]
    assert command.main(arguments) == 2
    assert "error: the memory does not suffice: " in capsys.readouterr().err


def test_the_limits_of_a_process_and_of_a_container_count(tmp_path, monkeypatch):
    """They may be far below what the machine has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = limits.psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, hard))
    try:
        assert free_memory() < 2**28 + 2**26
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    group = tmp_path / "sys/fs/cgroup/box"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/box\n")
    (group / "memory.current").write_text("900\n")
    (group / "memory.stat").write_text("anon 500\ninactive_file 300\nactive_file 50\n")
    for limit, free in (("1000", [450]), ("max", [])):
        (group / "memory.max").write_text(f"{limit}\n")
        assert limits._free_of_container(tmp_path) == free
    monkeypatch.setattr(limits, "_free_of_container", lambda: [450])
    assert free_memory() == 450


# --- processes that read --------------------------------------------------------------------------


def test_shared_memory_that_is_too_small_for_the_workers(data, tmp_path, monkeypatch):
    """Docker gives 64 MB, if nothing is said: workers then hang, or die without a reason."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(limits, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda _folder: usage(0, 0, 200_000))
    said = refused(data, tmp_path / "run", LoaderError, workers=3)
    assert said.startswith(f"shared memory ({tmp_path}, 0 MB free) is too small for workers=3")
    assert "docker run --shm-size=1g, or set workers=0" in said
    fit(settings(workers=1), read_splits(settings(), data), tmp_path / "fits")


def sleep_in_a_worker(_expression: Expression) -> np.ndarray:
    if torch.utils.data.get_worker_info():
        time.sleep(600)
    return np.ones((64, 64), dtype=bool)


def damaged_in_a_worker(_expression: Expression) -> np.ndarray:
    if torch.utils.data.get_worker_info():
        raise DataError("photo 7 is damaged: fetch it again")
    return np.ones((64, 64), dtype=bool)


class Mask:
    def __init__(self, expression: Expression, read) -> None:
        self.expression, self.read = expression, read

    def __call__(self) -> np.ndarray:
        return self.read(self.expression)


def with_masks(data: Path, read) -> dict[str, list[Expression]]:
    expressions = read_splits(settings(), data)
    train = [replace(each, read_mask=Mask(each, read)) for each in expressions["train"]]
    return expressions | {"train": train}


def test_a_reader_that_gives_nothing_is_not_waited_for_for_ever(data, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "WORKER_TIMEOUT", 1)
    with pytest.raises(
        LoaderError, match=r"timed out after 1 seconds.*lower workers \(1\)"
    ) as caught:
        fit(settings(workers=1), with_masks(data, sleep_in_a_worker), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_what_a_reader_finds_wrong_is_said_in_one_line(data, tmp_path):
    """torch puts the whole traceback of the worker into the error."""
    with pytest.raises(DataError) as caught:
        fit(settings(workers=1), with_masks(data, damaged_in_a_worker), tmp_path / "run")
    assert str(caught.value) == "photo 7 is damaged: fetch it again"


# --- devices --------------------------------------------------------------------------------------


def test_a_device_that_pools_wrongly(data, tmp_path, monkeypatch):
    """The CPU in the place of a device that nobody tried, with a pooling as it may be there."""
    monkeypatch.setattr(prepare, "RIGHT_POOLING", ())
    pool, calls = prepare.F.adaptive_max_pool2d, []

    def wrong_on_the_device(maps: torch.Tensor, size: int) -> torch.Tensor:
        calls.append(size)
        return pool(maps, size) + (len(calls) % 2 == 0) * (size == 16)

    with monkeypatch.context() as patch:
        patch.setattr(prepare.F, "adaptive_max_pool2d", wrong_on_the_device)
        said = refused(data, tmp_path / "run", ConfigError)
    assert "pools wrongly on the device cpu (8 x 8 to 16 x 16)" in said
    assert "ACCELERATE_USE_CPU=true" in said and not (tmp_path / "run").exists()
    prepare.require_right_pooling(torch.device("cpu"))
