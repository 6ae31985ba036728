"""Lesson 00 leads where it says: its path, its table of lessons, its symbols."""

import re
from pathlib import Path

import jupytext
import pytest

TEXTS = Path(__file__).parents[2] / "notebooks" / "text"
LIBRARY = Path(__file__).parents[2] / "shnet_lib"


def cells_of(name: str) -> list[str]:
    notebook = jupytext.read(TEXTS / f"{name}.py")
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def section(title: str) -> str:
    """What stands under a heading of lesson 00, up to the next one."""
    text = "\n".join(cells_of("00_start_here"))
    return re.split(r"^##+ ", text.split(f"# {title}\n")[1], flags=re.MULTILINE)[0]


def test_the_path_of_two_hours_takes_two_hours():
    assert sum(map(int, re.findall(r"^\| (\d+) \|", section("If you have two hours"), re.M))) == 120


def test_every_section_on_the_path_stands_in_its_lesson():
    rows = [row for row in section("If you have two hours").splitlines() if ".ipynb" in row]
    assert len(rows) == 4
    for row in rows:
        (lesson,) = re.findall(r"\((\w+)\.ipynb\)", row)
        headings = re.findall(r"^##+ (.+)", "\n".join(cells_of(lesson)), flags=re.MULTILINE)
        for wanted in re.findall("“(.+?)”", row):
            assert [h for h in headings if h == wanted or h.startswith(f"{wanted}:")], wanted


def test_every_lesson_is_in_the_table():
    linked = re.findall(r"^\| \[.+\]\((\w+)\.ipynb\)", section("The way through the course"), re.M)
    assert linked == sorted(path.stem for path in TEXTS.glob("*.py"))[1:]


def symbols() -> list[tuple[str, str]]:
    """(name in code, lesson) of each row of the table of symbols."""
    found = []
    for row in section("The symbols").splitlines():
        if row.startswith("| ") and "`" in row:
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            found += [(name, cells[-1]) for name in re.findall("`(.+?)`", cells[1])]
    return found


@pytest.mark.parametrize("name, lesson", symbols())
def test_every_symbol_is_met_in_its_lesson_and_in_the_library(name, lesson):
    (path,) = TEXTS.glob(f"{lesson}_*.py")
    assert re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")), path
    code = "\n".join(file.read_text(encoding="utf-8") for file in LIBRARY.rglob("*.py"))
    assert re.search(rf"\b{name}\b", code)


def test_the_symbols_are_those_of_the_courses_equations():
    assert len(symbols()) >= 15


def test_the_table_gives_the_minutes_that_each_lesson_gives():
    rows = re.findall(
        r"^\| \[.+\]\((\w+)\.ipynb\) .*\| (\d+) \|$", section("The way through the course"), re.M
    )
    said = {name: cells_of(name)[0] for name, _ in rows}
    assert len(rows) == len(list(TEXTS.glob("*.py"))) - 1
    assert not [(n, m) for n, m in rows if f"{m} minutes to read" not in said[n]]
