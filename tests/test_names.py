"""One name for one thing: what is public in a module is not defined in another one too."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("shnet_lib", "refgen", "shnet_course")
SAME = {  # defined twice, with one meaning
    "main": "each command's",
    "LESSON": "each lesson's checks",
    "COURSE": "elsewhere.py runs where nothing can be imported",
    "IMAGENET_MEAN": "model and data do not know each other",
    "IMAGENET_STD": "model and data do not know each other",
    # RefShapes and photos: two makers of the same kind.
    "Scene": "",
    "Thing": "",
    "NOUNS": "",
    "FORMAT": "",
    "generate": "",
    # Exercise 07 writes the library's metrics.
    "intersection_and_union": "",
    "overall_iou": "",
    "mean_iou": "",
    "precision_at": "",
}


def public_names(path: Path) -> set[str]:
    """The functions, classes and constants that a module defines at its top level."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for one in targets for each in ast.walk(one) if hasattr(each, "id")}
    return {name for name in names if not name.startswith("_")}


def test_no_public_name_has_two_meanings():
    modules = defaultdict(list)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name in public_names(path):
                modules[name].append(str(path.relative_to(ROOT)))
    twice = {name for name, places in modules.items() if len(places) > 1}
    assert {name: modules[name] for name in twice - SAME.keys()} == {}
    assert SAME.keys() <= twice, "what is no more twice needs no exception"
