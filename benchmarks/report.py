"""The figures as a picture and as tables, put into docs/performance.md between its marks."""

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.growth import BASE, KEPT
from benchmarks.step import CONTENDERS
from shnet_course.pictures.base import PALETTE

MARKS = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.S)


def renew_tables(page: Path, results: dict[str, Any]) -> None:
    """Replace what stands between the marks of each section that was measured."""
    if page.exists():
        page.write_text(with_tables(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def with_tables(text: str, results: dict[str, Any]) -> str:
    def renew(match: re.Match) -> str:
        section = match[2]
        if section not in results:
            return match[0]
        where, found = results[section]["where"], results[section]["results"]
        rows = TABLES[section](found) if section in TABLES else [found]
        note = (
            f"`{where['command']}`: {where['device']}, {where['threads']} threads, "
            f"torch {where['torch']}."
        )
        return f"{match[1]}{table(rows)}\n\n{note}\n{match[3]}"

    return MARKS.sub(renew, text)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown; a single row is turned into two columns."""
    if len(rows) == 1:
        rows = [{"": name, "measured": value} for name, value in rows[0].items()]
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    lines += [[_spell(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spell(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.4g}"


def _steps(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "part": row["part"],
            "expressions per image": row["expressions per image"],
            **{f"{name}, s": row[name] for name in CONTENDERS},
            "fp32": f"{row['library fp32, times faster']:.2f} x",
            "bf16": f"{row['library bf16, times faster']:.2f} x",
        }
        for row in rows
    ]


def _growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "axis": row["axis"],
            "value": row[row["axis"]],
            "s per sample": row["seconds per sample"],
            "of it SFM": row.get("of it SFM", ""),
            **{f"MiB, {name}": row[f"saved MiB per sample, {name}"] for name in KEPT},
        }
        for row in rows
    ]


TABLES = {"step": _steps, "growth": _growth, "memory": list, "environment": list}


def draw_growth(rows: list[dict[str, Any]]) -> Figure:
    """Four panels: memory and time over the grid, time over the batch and expressions per image."""
    figure = Figure(figsize=(10, 7))
    memory, grid, batch, shared = figure.subplots(2, 2).flat
    by_axis = {axis: [row for row in rows if row["axis"] == axis] for axis in BASE}

    cells = [row["grid"] ** 2 for row in by_axis["grid"]]
    for name, colour in zip(KEPT, PALETTE, strict=False):
        values = [row[f"saved MiB per sample, {name}"] for row in by_axis["grid"]]
        memory.plot(cells, values, "o-", color=colour, label=name)
    memory.set(xlabel="grid cells, H x W", ylabel="MiB kept for backward, per sample")
    memory.legend()

    whole = [row["seconds per sample"] for row in by_axis["grid"]]
    fusion = [row["of it SFM"] for row in by_axis["grid"]]
    rest = [a - b for a, b in zip(whole, fusion, strict=True)]
    lines = (("whole step", whole), ("SFM, with attention", fusion), ("all but SFM", rest))
    for (name, values), colour in zip(lines, PALETTE, strict=False):
        grid.plot(cells, values, "o-", color=colour, label=name)
    grid.set(xlabel="grid cells, H x W", ylabel="seconds per sample, fp32")
    grid.legend()

    counts = [row["batch"] for row in by_axis["batch"]]
    seconds = [row["seconds per sample"] * row["batch"] for row in by_axis["batch"]]
    batch.plot(counts, seconds, "o-", color=PALETTE[0])
    batch.set(xlabel="expressions in the batch, an image each", ylabel="seconds per step, fp32")

    counts = [row["expressions per image"] for row in by_axis["expressions per image"]]
    seconds = [row["seconds per sample"] for row in by_axis["expressions per image"]]
    shared.plot(counts, seconds, "o-", color=PALETTE[0])
    shared.set(
        xlabel="expressions per image, 8 in the batch", ylabel="seconds per expression, fp32"
    )

    for panel in (memory, grid, batch, shared):
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
    return figure
