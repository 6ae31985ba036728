"""The shipped network for photos: it outlines simple things, and reaches what its card says."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refgen.own_example import EXAMPLE
from shnet_course.paths import COURSE
from shnet_lib import load_shnet, predict
from shnet_lib.data import read_expressions
from shnet_lib.data.coco import Instances, rasterize
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import evaluate
from shnet_lib.training.metrics import summarize

SHIPPED = COURSE / "data" / "weights" / "shnet_photos"
PHOTOS = Path(find_spec("skimage").origin).parent / "data"
SPLITS = ("train", "val", "testA", "testB")  # of the 80 real photos: none was trained on


@pytest.fixture(scope="module")
def trained() -> TrainedSHNet:
    return load_shnet(SHIPPED)


@pytest.mark.parametrize(
    ("phrase", "annotation", "least"),
    [
        ("the woman", 1, 0.75),
        ("person in orange", 1, 0.75),
        ("the lady", 1, 0.75),
        ("the cup", 6, 0.55),
        ("the motorcycle", 9, 0.7),
        ("red motorbike", 9, 0.7),
        ("the cat", 16, 0.85),
    ],
)
def test_it_outlines_what_a_package_ships_as_we_did(trained, phrase, annotation, least):
    """IoU with our own masks, drawn before it was trained."""
    instances = Instances(EXAMPLE / "instances.json", "")
    image = instances.images[instances.annotations[annotation]["image_id"]]
    photo = Image.open(PHOTOS / image["file_name"]).convert("RGB")
    found = predict(trained, photo, phrase).mask
    size = image["height"], image["width"]
    meant = rasterize(instances.annotations[annotation]["segmentation"], *size, "our mask")
    assert (found & meant).sum() / (found | meant).sum() >= least


def test_its_card_says_what_made_it_and_what_it_was_trained_on(trained):
    card = trained.card
    assert [command.split()[:2] for command in card["commands"][:2]] == [
        ["shnet", "data"],
        ["shnet", "train"],
    ]
    assert {"seed", "data_seed", "step", "seconds", "torch", "python", "device"} <= set(card)
    assert len(card["trained_on"]) == 583 == len(set(card["trained_on"]))
    assert card["metrics"]["val"]["overall_iou"] >= 0.45  # made phrases, unseen photos
    assert not (SHIPPED / "backbone.safetensors").exists()
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 8e6


@pytest.mark.slow
def test_it_reaches_its_card_on_real_photos_with_written_phrases(trained, refer_real):
    assert measure_real(trained, refer_real) == {
        name: pytest.approx(expected, abs=2e-3)
        for name, expected in trained.card["refer_real"].items()
    }


def measure_real(trained: TrainedSHNet, data: Path) -> dict[str, dict[str, float]]:
    """The card's measures of the 759 phrases: people and things, all and of known words alone."""
    expressions = [one for split in SPLITS for one in read_expressions(data, "unc", split)]
    rows = evaluate(trained.network, trained.evaluation_set(expressions)).rows
    known = np.array([not trained.vocabulary.unknown(one.text) for one in expressions])
    person = np.array([one.category == "person" for one in expressions])
    groups = {
        "people": person,
        "people, known words": person & known,
        "things": ~person,
        "things, known words": ~person & known,
    }
    return {
        name: measures([rows[i] for i in inside.nonzero()[0]]) for name, inside in groups.items()
    }


def measures(rows: Sequence[dict]) -> dict[str, float]:
    counts = (torch.tensor([row[name] for row in rows]) for name in ("intersection", "union"))
    found = summarize(*counts)
    kept = {name: round(found[name], 4) for name in ("overall_iou", "mean_iou", "precision@0.5")}
    return {"phrases": len(rows)} | kept
