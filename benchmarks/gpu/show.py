"""gpu.json as tables to read, and the goals beside what was measured."""

from itertools import groupby
from typing import Any

from benchmarks.gpu.record import in_words, spell


def show(values: dict[str, Any]) -> str:
    made = ", ".join(f"{name} {spell(value)}" for name, value in values["made"].items())
    blocks = [made]
    for name, section in values["sections"].items():
        seconds = f"{section['seconds']} s" if "seconds" in section else "not ended"
        blocks.append(f"\n== {name} ({seconds})")
        if "failed" in section:
            blocks.append(f"FAILED: {section['failed']}")
        blocks += [block for _, rows in groupby(section["rows"], list) for block in table([*rows])]
    return "\n".join([*blocks, "\n== goals", *goals(values["sections"])])


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of the same columns, aligned; a single one as a line. Lists come below their row."""
    nested = [name for name, value in rows[0].items() if isinstance(value, list)]
    columns = [name for name in rows[0] if name not in nested]
    if len(rows) == 1:
        lines = [in_words({name: rows[0][name] for name in columns})]
    else:
        cells = [columns] + [[spell(row[name]) for name in columns] for row in rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    for name in nested:
        if rows[0][name]:
            lines += [f"    {line}" for line in table(rows[0][name])]
    return lines


def goals(sections: dict[str, Any]) -> list[str]:
    """What was hoped for, and whether it came."""
    rows = {name: section["rows"] for name, section in sections.items()}
    shared = [row for row in rows.get("step", []) if row.get("an image", 0) > 1 and "ms" in row]
    lines = []
    for form in dict.fromkeys(row["sfm"] for row in shared):
        ours = [row for row in shared if row["sfm"] == form]
        compiled = [row for row in rows.get("compile", []) if row.get("sfm") == form]
        ours += [row for row in compiled if row.get("an image", 0) > 1 and "ms" in row]
        plain = [row["ms"] for row in ours if row["name"] == "literal fp32"]
        best = min(
            (row for row in ours if row["name"].startswith("library bf16")),
            key=lambda row: row["ms"],
            default=None,
        )
        if plain and best:
            what = f"step, {form} SFM: {best['name']} against literal fp32"
            lines.append(_goal(what, plain[0] / best["ms"], ">=", 8, "times"))
    for row in rows.get("memory", []):
        wide = (row.get("grid"), row.get("recompute")) == (40, True)
        if wide and row["name"] == "a step, bf16" and "peak GiB" in row:
            what = f"40 x 40, batch 50, {row['an image']} an image, recomputed"
            lines.append(_goal(what, row["peak GiB"], "<", 6, "GiB"))
    minutes = [row["minutes"] for row in rows.get("run", []) if "minutes" in row]
    if minutes:
        lines.append(_goal("30 epochs of UNC, the best loader", min(minutes), "<", 30, "minutes"))
    return lines or ["nothing was measured yet that a goal is about"]


def _goal(what: str, found: float, sign: str, goal: float, unit: str) -> str:
    met = found >= goal if sign == ">=" else found < goal
    return f"{what}: {found:.3g} {unit} (goal {sign} {goal}): {'met' if met else 'MISSED'}"
