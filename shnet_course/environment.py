"""Is everything there that the lessons need? Each check says what it found, or what to do."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from shnet_course.paths import COURSE

PYTHON = (3, 11)
MEMORY = 4  # GB: lesson 06 and notebook 10 keep the features of all training images in memory


@dataclass(frozen=True)
class Finding:
    """What a check found; `remedy` is empty where all is well."""

    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        if not self.remedy:
            return f"OK  {self.what:10} {self.found}"
        return f"--  {self.what:10} {self.found}\n     -> {self.remedy}"


def check_environment(course: Path = COURSE) -> list[Finding]:
    """Look at Python, packages, memory, device, data and weights; nothing is changed."""
    return [
        _python(sys.version_info[:2], platform.python_version()),
        _packages(("torch", "torchvision", "ipywidgets")),
        _memory(psutil.virtual_memory().total),
        Finding("device", _device()),
        _there(
            "RefShapes",
            course / "data" / "refshapes" / "refshapes.json",
            "make data  (generates it in about a minute)",
        ),
        _there(
            "SHNet",
            course / "data" / "weights" / "shnet_refshapes" / "model.safetensors",
            "it comes with the course: clone it again, whole",
        ),
    ]


def report(findings: Iterable[Finding]) -> str:
    """One line a finding, a second one where there is something to do."""
    return "\n".join(map(str, findings))


def stay_on_the_cpu() -> None:
    """Train on the CPU from here on, also where there is a GPU: for runs compared bit for bit."""
    os.environ["ACCELERATE_USE_CPU"] = "true"


def _python(version: tuple[int, int], name: str) -> Finding:
    remedy = "the course needs 3.11 or newer: make install PYTHON=python3.12"
    return Finding("Python", name, "" if version >= PYTHON else remedy)


def _packages(
    names: Iterable[str], version: Callable[[str], str] = importlib.metadata.version
) -> Finding:
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    remedy = f"{', '.join(missing)}: make install" if missing else ""
    return Finding("packages", ", ".join(found), remedy)


def _memory(total: int) -> Finding:
    remedy = f"under {MEMORY} GB the trainings of 06, 08 and 10 may stop"
    return Finding("memory", f"{total / 1e9:.0f} GB", "" if total >= MEMORY * 1e9 else remedy)


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "CPU; every lesson is made for it"


def _there(what: str, path: Path, remedy: str) -> Finding:
    if path.is_file():
        return Finding(what, "is there")
    return Finding(what, f"is missing: {path}", remedy)
