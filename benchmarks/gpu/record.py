"""gpu.json: what was measured so far. At any moment the file is whole."""

import json
import math
from pathlib import Path
from typing import Any

from shnet_lib.files import write_json


class Record:
    """Sections by name, each with its `rows`, its `seconds` and, where it failed, the reason.

    A section without `seconds` is one that has not ended.
    """

    def __init__(self, path: Path, made: dict[str, Any], sections: dict[str, Any]) -> None:
        self.path = path
        self.values = {"made": made, "sections": sections}

    def begin(self, section: str, made: dict[str, Any]) -> None:
        print(f"\n{section}", flush=True)
        self.values["sections"].pop(section, None)  # so that it stands last, as it came
        self.values["sections"][section] = {"made": made, "rows": []}
        self._write()

    def add(self, section: str, row: dict[str, Any]) -> None:
        print(f"  {in_words(row)}", flush=True)
        self.values["sections"][section]["rows"].append(row)
        self._write()

    def end(self, section: str, seconds: float, failed: str | None) -> None:
        """Raises nothing where the section failed: the next one is to come."""
        self.values["sections"][section]["seconds"] = round(seconds, 1)
        if failed:
            print(f"  FAILED: {failed}", flush=True)
            self.values["sections"][section]["failed"] = failed
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.values)


def read_record(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def rounded(value: Any) -> Any:
    """Every float to four significant digits; JSON knows no infinity, so that becomes a text."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return value


def in_words(row: dict[str, Any]) -> str:
    """A row as a line: its name, its labels and figures; a list as the number of its items."""
    parts = [
        f"{name} {len(value)} rows" if isinstance(value, list) else f"{name} {spell(value)}"
        for name, value in row.items()
        if name != "name"
    ]
    return f"{row['name']}: {', '.join(parts)}"


def spell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
