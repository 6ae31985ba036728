"""python -m shnet_course.measure.written data/weights/shnet_photos --data DATA

What a network makes of phrases that somebody wrote, by what they say: a line of docs/photos.md per
group of phrases. DATA has UNC's layout; the phrases of all its splits count.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from shnet_course.measure.phrases import LOCATION_WORDS
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions, splits_of
from shnet_lib.data.expression import Expression
from shnet_lib.data.text import Vocabulary, tokenize
from shnet_lib.errors import ShnetError, report_error
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import evaluate
from shnet_lib.training.metrics import summarize

DEPTH = frozenset("behind front back foreground background closest closer nearest".split())
# A phrase is about each of these whose words it has. None of the lists is complete.
ABOUT = {
    "a place: left, top, corner": LOCATION_WORDS - DEPTH,
    "behind, in front": DEPTH,
    "an ordinal: second, 3rd": frozenset(
        "first second third fourth fifth 1st 2nd 3rd 4th 5th".split()
    ),
    "a size": frozenset(
        "big bigger biggest large larger largest small smaller smallest tall taller tallest tiny "
        "little huge".split()
    ),
    "a colour": frozenset(
        "red orange yellow green blue purple pink brown black white gray grey tan beige silver "
        "gold".split()
    ),
    "clothes": frozenset(
        "shirt jacket coat hat cap dress pants jeans shorts skirt suit sweater vest hoodie helmet "
        "scarf glasses shoes wearing".split()
    ),
}
NO_ACTIVITY = frozenset("wearing building ceiling string painting anything something".split())


def groups_of(expression: Expression, vocabulary: Vocabulary) -> dict[str, bool]:
    """Each group, and whether the phrase belongs to it."""
    words = tokenize(expression.text)
    known = not vocabulary.unknown(expression.text)
    person = expression.category == "person"
    doing = [word for word in words if word.endswith("ing") and len(word) > 5]
    return {
        "people": person,
        "things": not person,
        "people, every word was trained": person and known,
        "things, every word was trained": not person and known,
        "every word was trained": known,
        "some word was not": not known,
        "one word alone": len(words) == 1,
        **{name: not listed.isdisjoint(words) for name, listed in ABOUT.items()},
        "an activity": not NO_ACTIVITY.issuperset(doing),
    }


def measure_written(trained: TrainedSHNet, data: Path) -> dict[str, dict[str, float]]:
    """Group -> phrases, overall_iou, mean_iou, precision@0.5; a group of no phrase is left out."""
    expressions = [
        each for split in splits_of("unc") for each in read_expressions(data, "unc", split)
    ]
    rows = evaluate(trained.network, trained.evaluation_set(expressions)).rows
    groups: dict[str, list[dict]] = {}
    for expression, row in zip(expressions, rows, strict=True):
        for name, inside in groups_of(expression, trained.vocabulary).items():
            groups.setdefault(name, []).extend([row] * inside)
    return {name: _measures(inside) for name, inside in groups.items() if inside}


def _measures(rows: Sequence[dict]) -> dict[str, float]:
    counts = (torch.tensor([row[name] for row in rows]) for name in ("intersection", "union"))
    found = summarize(*counts)
    kept = {name: round(found[name], 4) for name in ("overall_iou", "mean_iou", "precision@0.5")}
    return {"phrases": len(rows)} | kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where something is wrong; one line says what."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("network", type=Path, help="folder of the trained network")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    given = parser.parse_args(arguments)
    try:
        found = measure_written(load_shnet(given.network), given.data)
    except ShnetError as error:
        return report_error(error)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
