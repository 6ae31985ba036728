"""The paper ledger: nothing of the paper is missing in it, and nothing it points at is missing."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "docs" / "paper_ledger.md"
COLUMNS = ["paper", "lesson", "library", "test", "how we deviate, and why"]
# Everything the paper numbers, and every number that section 4.2 and 3.4 state.
NUMBERED = [
    *(f"Eq. {number}" for number in (1, 2, 3)),
    *(f"Table {number}" for number in (1, 2, 3, 4)),
    *(f"Figure {number}" for number in (1, 2, 3, 4, 5, 6, 7)),
]
STATED = [
    "image size 320",
    "image size 448",
    "H = W = 18",
    "25 words",
    "GloVe",
    "AdamW",
    "learning rate 1.2e-4",
    "weight decay 9e-5",
    "batch 50",
    "polynomial decay, power 0.7",
    "binary cross-entropy",
    "frozen backbone",
    "DeepLabv3+",
    "ResNet-101",
    "overall IoU",
    "Precision@X",
]


def rows() -> list[list[str]]:
    lines = [line for line in LEDGER.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert cells[0] == COLUMNS
    return cells[2:]


ROWS = rows()


@pytest.fixture(params=ROWS, ids=lambda row: row[0])
def row(request) -> list[str]:
    return request.param


@pytest.mark.parametrize("thing", NUMBERED + STATED)
def test_nothing_of_the_paper_is_missing(thing):
    named = re.compile(rf"(^|\W){re.escape(thing)}(\W|$)")
    assert [row for row in ROWS if named.search(row[0])], thing


def test_every_row_has_every_column(row):
    assert len(row) == len(COLUMNS) and all(row), row


def test_the_lesson_has_that_section(row):
    name, _, heading = row[1].partition(": ")
    text = (ROOT / "notebooks" / "text" / f"{name}.py").read_text()
    headings = re.findall(r"^# #{1,3} (.+)$", text, flags=re.MULTILINE)
    assert heading[1:-1].replace("\\", "") in headings, (heading, headings)


def test_the_lesson_cites_it(row):
    """An equation, table or figure is named where it is treated."""
    if row[0].split()[0] not in ("Eq.", "Table", "Figure"):
        return
    kind, number = re.match(r"(Eq\.|Table|Figure) (\d)", row[0]).groups()
    text = (ROOT / "notebooks" / "text" / f"{row[1].partition(': ')[0]}.py").read_text()
    spellings = {"Eq.": r"(Eqs?\.|Equations?)", "Table": "Tables?", "Figure": "Figures?"}
    assert re.search(rf"{spellings[kind]} [\d, and–to-]*{number}", text), row


def test_the_library_has_that_symbol(row):
    """`shnet_lib.model.hcam.Affinity`, or several between commas."""
    for symbol in row[2].replace("`", "").split(", "):
        parts = symbol.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:cut]))
            except ModuleNotFoundError:
                continue
            break
        for name in parts[cut:]:
            # A field of a dataclass without a default is an annotation, no attribute.
            annotated = name in getattr(found, "__annotations__", {})
            assert annotated or hasattr(found, name), symbol
            found = getattr(found, name, None)


def test_the_test_exists(row):
    for named in row[3].replace("`", "").split(", "):
        path, _, name = named.partition("::")
        source = (ROOT / path).read_text()
        assert not name or f"def {name}(" in source, named
