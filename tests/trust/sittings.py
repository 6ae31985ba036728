"""Trainings that can be killed: each sitting is a process, forked from one that imported torch.

A sitting is what somebody types, `shnet train ...`, on a network of some thousand
weights. What ends it, and where, can be said beforehand: an `Accident`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from refgen.refshapes import generate
from shnet_lib.training.resume import has_progress

STEPS, EVALUATE_EVERY = 12, 2
# Dropout, grey photos and accumulation: all that draws random numbers or carries something over.
SETTINGS = {
    "steps": STEPS,
    "evaluate_every": EVALUATE_EVERY,
    "batch_size": 8,
    "learning_rate": 0.1,
    "accumulate": 2,
    "grayscale_probability": 0.5,
    "word_dropout": 0.3,
    "cache_features": False,
    "model.image_size": 32,
    "model.grid": 4,
    "model.channels": 16,
    "model.backbone_weights": "random",
    "model.sfm_feedforward": 32,
    "model.decoder_widths": "16,16",
    "model.sfm_dropout": 0.3,
    "model.decoder_dropout": 0.3,
}
FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}

_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(["shnet_lib.command", "shnet_lib.training.run"])


@dataclass(frozen=True)
class Accident:
    """What befalls a sitting; nothing where all is None.

    cpu_seconds: it is killed when it has computed for so long.
    event: it sends itself `signal` when it opens, makes, renames or removes so many files.
    file_bytes: no file may grow beyond; a write that would ends it there (SIGXFSZ), or, where
        `told` is set, fails as on a full disk.
    """

    cpu_seconds: float | None = None
    event: int | None = None
    signal: int = signal.SIGKILL
    file_bytes: int | None = None
    told: bool = False


NOTHING = Accident()


def write_data(folder: Path) -> Path:
    """RefShapes of 18 small images."""
    return generate(folder, {"train": 14, "val": 2, "testA": 1, "testB": 1}, size=64)


def sit(data: Path, run: Path, accident: Accident = NOTHING, **settings: object) -> int:
    """Train in `run`, from its last checkpoint if there is one; the exit code of the process."""
    process = begin(data, run, accident, **settings)
    if accident.cpu_seconds is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            clock = psutil.Process(process.pid)
            while process.is_alive() and sum(clock.cpu_times()[:2]) < accident.cpu_seconds:
                time.sleep(0.002)
        process.kill()
    process.join()
    return process.exitcode


def begin(data: Path, run: Path, accident: Accident = NOTHING, **settings: object) -> BaseProcess:
    """Begin a sitting; what it prints is in printed(run), the events it saw in events(run)."""
    arguments = ["--preset", "smoke", "--data", str(data), "--run", str(run)]
    arguments += ["--resume"] if has_progress(run) else []
    arguments += ["--set", *(f"{name}={value}" for name, value in (SETTINGS | settings).items())]
    process = _forked.Process(target=_sitting, args=(arguments, run, accident))
    process.start()
    return process


def printed(run: Path) -> str:
    """What the last sitting in `run` printed."""
    return run.with_suffix(".printed").read_text()


def events(run: Path) -> int:
    """How often the last sitting in `run` opened, made, renamed or removed a file there."""
    return int(run.with_suffix(".events").read_text())


def _sitting(arguments: list[str], run: Path, accident: Accident) -> None:
    import torch

    from shnet_lib.command import main

    # As at the command line. From the fork server a loader's worker would be that one's child: it
    # watches its parent, so that it would outlive a killed training for ever.
    multiprocessing.set_start_method("fork", force=True)
    os.environ |= {"ACCELERATE_USE_CPU": "true", "TQDM_MININTERVAL": "1000"}
    torch.set_num_threads(1)
    seen = _watch(run, accident)
    if accident.file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if accident.told else signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (accident.file_bytes, accident.file_bytes))
    with run.with_suffix(".printed").open("w") as file:
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            status = main(["train", *arguments])
    run.with_suffix(".events").write_text(str(len(seen)))
    sys.exit(status)


def _watch(run: Path, accident: Accident) -> list[str]:
    """Count the file events in `run` from now on, and send the signal at the accident's."""
    seen: list[str] = []

    def look(name: str, arguments: tuple) -> None:
        if name not in FILE_EVENTS:
            return
        # rmtree removes a file by its name in a folder that it has opened.
        if str(arguments[0]).startswith(f"{run}{os.sep}") or name in ("os.remove", "os.rmdir"):
            seen.append(name)
            if len(seen) == accident.event:
                os.kill(os.getpid(), accident.signal)

    sys.addaudithook(look)
    return seen
