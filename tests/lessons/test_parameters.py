"""One number of trained parameters of the paper's network in the whole course, and it is true."""

import re
from pathlib import Path

from shnet_course.measure.trace import PAPER_WORDS, count_parameters
from shnet_lib.model.shnet import PAPER

ROOT = Path(__file__).parents[2]
WRITTEN = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "notebooks" / "text").glob("*.py")),
    *sorted((ROOT / "solutions" / "text").glob("*.py")),
]
# Of the released code, told once beside ours: as its README runs it, and with a wider SFM.
RELEASED_CODE = {"05_decoder_and_shnet.py": ["59.2", "59.8"]}


def test_the_course_names_one_number_of_trained_parameters():
    _, trained, _ = count_parameters(PAPER, PAPER_WORDS)[-1]
    ours = f"{trained / 1e6:.1f}"
    found = {
        path.name: re.findall(r"\b([56]\d\.\d) (?:million|M)\b", path.read_text(encoding="utf-8"))
        for path in WRITTEN
    }
    others = {name: [n for n in numbers if n != ours] for name, numbers in found.items()}
    assert {name: numbers for name, numbers in others.items() if numbers} == RELEASED_CODE
    assert [name for name, numbers in found.items() if ours in numbers] == [
        "02_features.py",
        "05_decoder_and_shnet.py",
    ]
