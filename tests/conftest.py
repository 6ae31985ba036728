"""What the tests of every room share."""

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
