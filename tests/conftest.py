"""What the tests of every room share, and the counts that end a run."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def refer_real() -> Path:
    """80 real COCO photos with annotations and expressions, in the published layout."""
    folder = ROOT.parent / "shared" / "real" / "refer_real"
    if not folder.is_dir():
        pytest.skip("the 80 real photos (refer_real) are not beside this repository")
    return folder


@pytest.fixture(scope="session")
def referit_queries() -> Path:
    """The 54,134 expressions of ReferIt's training split."""
    path = ROOT.parent / "shared" / "real" / "referit_query_train.json"
    if not path.is_file():
        pytest.skip(
            "ReferIt's expressions (referit_query_train.json) are not beside this repository"
        )
    return path


def pytest_terminal_summary(terminalreporter) -> None:
    """How many faults and hostile files were answered as they should be, and mutations made.

    A test marked `fault` or `hostile` counts as one; others say their number with
    record_property("mutations", n), and "kills" in the same way.
    """
    passed = [each for each in terminalreporter.stats.get("passed", []) if each.when == "call"]
    counts = {
        "faults": sum("fault" in each.keywords for each in passed),
        "hostile files": sum("hostile" in each.keywords for each in passed),
        "mutations": 0,
        "kills": 0,
        "planted mistakes": 0,
        "alternative right answers": 0,
    }
    for report in passed:
        for name, value in report.user_properties:
            if name in counts:
                counts[name] += value
    taught = ("planted mistakes", "alternative right answers")
    for about, end in (("trust", "each answered as documented"), ("exercises", "each told apart")):
        names = [name for name in counts if (name in taught) == (about == "exercises")]
        if said := [f"{counts[name]:,} {name}" for name in names if counts[name]]:
            terminalreporter.write_sep("-", f"{about}: {', '.join(said)}, {end}")
