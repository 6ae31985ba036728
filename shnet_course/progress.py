"""Which checks a learner has passed: one small file on this machine, to be deleted at will."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from shnet_course.paths import COURSE

VARIABLE = "SHNET_PROGRESS"  # in the environment: another file, for the course's own runs


def progress_file() -> Path:
    """Where the progress is kept: `.progress.json` in the course's folder."""
    return Path(os.environ.get(VARIABLE, COURSE / ".progress.json"))


def read_passed(path: Path | None = None) -> dict[str, str]:
    """Check -> the day it was first passed. A damaged file is put aside, not lost, and not read."""
    path = path or progress_file()
    if not path.exists():
        return {}
    try:
        passed = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(passed, dict) and all(isinstance(day, str) for day in passed.values()):
            return passed
    except ValueError:
        pass
    path.replace(path.with_suffix(".damaged.json"))
    return {}


def remember(check: str, path: Path | None = None) -> None:
    """Note that a check was passed today, if it was not before.

    Where the file cannot be written nothing happens: the learner's answer is right all the same.
    """
    path = path or progress_file()
    passed = read_passed(path)
    if check in passed:
        return
    passed[check] = time.strftime("%Y-%m-%d")
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        new.write_text(json.dumps(passed, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)


def progress_page(checks: Mapping[str, Iterable[str]], path: Path | None = None) -> str:
    """A table in Markdown: lesson -> its checks, each with its day or a link to its exercise."""
    passed = read_passed(path)
    lines = ["| exercise | checks passed | still open |", "|---|---|---|"]
    done = total = 0
    for lesson, names in checks.items():
        names = list(names)
        open_ones = [name for name in names if name not in passed]
        done, total = done + len(names) - len(open_ones), total + len(names)
        link = f"[{lesson}](../exercises/{lesson}_ex.ipynb)"
        rest = ", ".join(open_ones) or "none"
        lines.append(f"| {link} | {len(names) - len(open_ones)} of {len(names)} | {rest} |")
    lines.append(f"| together | **{done} of {total}** | |")
    return "\n".join(lines)
