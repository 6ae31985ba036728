"""The shipped network for photos: it outlines simple things, and reaches what its card says."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from refgen.own_example import EXAMPLE
from shnet_course.measure.written import groups_of, measure_written
from shnet_course.paths import COURSE
from shnet_lib import load_shnet, predict
from shnet_lib.data.coco import Instances, rasterize
from shnet_lib.training.checkpoint import TrainedSHNet

SHIPPED = COURSE / "data" / "weights" / "shnet_photos"
PHOTOS = Path(find_spec("skimage").origin).parent / "data"
FIGURES = ("overall_iou", "mean_iou", "precision@0.5")


@pytest.fixture(scope="module")
def trained() -> TrainedSHNet:
    return load_shnet(SHIPPED)


@pytest.mark.parametrize(
    ("phrase", "annotation", "least"),
    [
        ("the woman", 1, 0.75),
        ("person in orange", 1, 0.75),
        ("the lady", 1, 0.75),
        ("the cup", 6, 0.5),
        ("the motorcycle", 9, 0.6),
        ("red motorbike", 9, 0.6),
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
    found = measure_written(trained, refer_real)
    assert found.keys() == trained.card["refer_real"].keys()
    for name, expected in trained.card["refer_real"].items():
        assert found[name] == pytest.approx(expected, abs=2e-3), name


def test_the_page_on_made_phrases_says_what_the_card_says(trained):
    page = (COURSE / "docs" / "photos.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    table = {row[0]: row[1:] for row in rows if row}
    card = trained.card["refer_real"]
    written = {"written, about people": "people", "written, about things": "things"}
    for line, name in written.items():
        told = [f"{card[name][figure]:.3f}" for figure in FIGURES]
        assert table[line] == [str(card[name]["phrases"]), *told]
    for name in card.keys() - {"people", "things"}:
        told = [f"{card[name][figure]:.3f}" for figure in ("overall_iou", "precision@0.5")]
        assert table[name] == [str(card[name]["phrases"]), *told]


def test_phrases_are_grouped_by_what_they_say(trained):
    def groups(text, category):
        expression = SimpleNamespace(text=text, category=category)
        return {
            name for name, inside in groups_of(expression, trained.vocabulary).items() if inside
        }

    assert groups("left red car", "car") == {
        "things", "things, every word was trained", "every word was trained",
        "a place: left, top, corner", "a colour",
    }  # fmt: skip
    assert groups("second xylophonist eating behind the big tree", "person") == {
        "people", "some word was not", "an ordinal: second, 3rd", "an activity",
        "behind, in front", "a size",
    }  # fmt: skip
    assert groups("shirt", "person") > {"clothes", "one word alone"}
