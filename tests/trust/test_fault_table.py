"""docs/faults.md against the tests: every row has its test, and every such test has its row."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from pathlib import Path

from small import write_small

from shnet_lib.data import read_expressions
from shnet_lib.data.fetch.sources import ARCHIVED_AT, PUBLISHED
from shnet_lib.data.refer import DATASETS

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (?P<fault>[^|]+) \| (?P<answer>[^|]+) \| `(?P<test>[^|`]+::[^|`]+)` \|$")


def rows() -> list[dict[str, str]]:
    lines = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    found = [match.groupdict() for line in lines if (match := ROW.match(line))]
    assert len(found) == sum("::" in line for line in lines), "a row is not | a | b | `test` |"
    return found


def names_in(path: Path) -> list[str]:
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
    here = path.relative_to(ROOT).as_posix()
    return [f"{here}::{name}" for name in names if name.startswith("test_")]


def test_every_row_has_its_test():
    told = [row["test"] for row in rows()]
    there = {
        test for name in {test.split("::")[0] for test in told} for test in names_in(ROOT / name)
    }
    assert [test for test in told if test not in there] == []


def test_every_test_of_a_fault_or_a_hostile_file_has_its_row():
    marked = [
        path
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if re.search(r"^pytestmark = pytest\.mark\.(fault|hostile)$", path.read_text(), re.M)
    ]
    assert len(marked) >= 3
    told = Counter(row["test"] for row in rows())
    assert [test for path in marked for test in names_in(path) if not told[test]] == []
    assert [test for test, count in told.items() if count > 1] == []


def test_no_fault_is_told_twice():
    faults = Counter(row["fault"] for row in rows())
    assert [fault for fault, count in faults.items() if count > 1] == []


def test_the_data_set_that_these_tests_spoil_is_in_order(tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        expressions = read_expressions(write_small(tmp_path), "unc", "train")
    assert len(expressions) == 6 and all(expression.mask().any() for expression in expressions)


def test_the_published_addresses_are_whole():
    folders = {layout.folder for layout in DATASETS.values()} - {"refshapes", "photos"}
    assert set(ARCHIVED_AT) == folders
    for folder in folders:
        archived, original = PUBLISHED.annotations_of(folder)
        assert archived.endswith(f"{ARCHIVED_AT[folder]}/{original}")
        assert original.endswith(f"/licheng/referit/data/{folder}.zip")
    for address in PUBLISHED.photos:
        assert address.format(file_name="a.jpg").endswith("images.cocodataset.org/train2014/a.jpg")
