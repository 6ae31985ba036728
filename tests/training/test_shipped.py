"""The shipped network reaches what its card says, on data that the course generates."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shnet_course.tools import readme_picture
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions
from shnet_lib.training.ablations import read_lines
from shnet_lib.training.evaluate import evaluate
from shnet_lib.training.run import evaluate_splits, unseen_splits

COURSE = Path(__file__).parents[2]
DATA = COURSE / "data" / "refshapes"
SPLITS = ("val", "testA", "testB")

needs_refshapes = pytest.mark.skipif(not DATA.exists(), reason="RefShapes is missing: make data")


@pytest.fixture(scope="module")
def trained():
    return load_shnet(COURSE / "data" / "weights" / "shnet_refshapes")


@pytest.fixture(scope="module")
def evaluations(trained):
    assert tuple(unseen_splits("refshapes-unc")) == SPLITS
    expressions = {split: read_expressions(DATA, "refshapes-unc", split) for split in SPLITS}
    return evaluate_splits(trained, expressions)


@needs_refshapes
def test_it_outlines_the_first_expressions_of_a_split(trained):
    """A look at a twentieth of it; the slow tests evaluate whole splits."""
    dataset = trained.evaluation_set(read_expressions(DATA, "refshapes-unc", "testB")[:100])
    assert evaluate(trained.network, dataset, batch_size=50).metrics["overall_iou"] >= 0.8


@pytest.mark.slow
@needs_refshapes
def test_it_reaches_the_metrics_of_its_card(trained, evaluations):
    for split, evaluation in evaluations.items():
        assert evaluation.metrics == pytest.approx(trained.card["metrics"][split], abs=2e-3), split


@pytest.mark.slow
@needs_refshapes
@pytest.mark.parametrize("split", SPLITS)
def test_it_is_good_enough_to_teach_with(evaluations, split):
    assert evaluations[split].metrics["overall_iou"] >= 0.85


@pytest.mark.slow
@needs_refshapes
def test_no_large_family_of_val_is_left_behind(evaluations):
    families = defaultdict(list)
    for row in evaluations["val"].rows:
        families[row["family"]].append(row)
    large = {family: rows for family, rows in families.items() if len(rows) > 50}
    assert set(large) == {"attribute", "extreme", "negation", "ordinal", "region", "relation"}
    for family, rows in large.items():
        shared = sum(row["intersection"] for row in rows) / sum(row["union"] for row in rows)
        assert shared > 0.75, family


@pytest.mark.slow
@needs_refshapes
@pytest.mark.parametrize("name", ["only_HCAM", "only_SFM", "SHNet"])
def test_the_networks_of_figure_5_reach_their_cards(name):
    """Lesson 09 compares them: trained equally, one part apart."""
    part = load_shnet(COURSE / "data" / "weights" / "figure_5" / name)
    assert (part.config.preset, part.config.steps, part.config.seed) == ("tables", 4000, 0)
    assert (part.network.sfm is None) == (name == "only_HCAM")
    assert part.config.model.fusion == ("none" if name == "only_SFM" else "hcam")
    dataset = part.evaluation_set(read_expressions(DATA, "refshapes-unc", "testA"))
    found = evaluate(part.network, dataset, batch_size=64).metrics["overall_iou"]
    (line,) = [
        line
        for line in read_lines(COURSE / "docs" / "results" / "ablations.csv")
        if (line["row"], line["seed"]) == (name.replace("_", " "), "0")
    ]
    assert found == pytest.approx(float(line["testA_overall_iou"]), abs=2e-3)


def test_its_card_says_what_made_it(trained):
    card = trained.card
    ours = ("python -m shnet_lib.", "python -m refgen.", "python -m shnet_course.")
    assert all(command.startswith(ours) for command in card["commands"])
    assert {"seed", "data_seed", "step", "torch", "python", "device", "threads"} <= set(card)
    assert tuple(card["metrics"]) == SPLITS


@needs_refshapes
def test_the_readmes_picture_is_what_it_marks(tmp_path):
    """The picture in the repository is the one that the command makes."""
    readme_picture.main(tmp_path / "phrases.png")
    made, kept = (
        np.asarray(Image.open(path).convert("RGB").resize((90, 60)), int)
        for path in (tmp_path / "phrases.png", readme_picture.README_PICTURE)
    )
    differences = np.abs(made - kept).max(-1)  # (60, 90)
    assert (differences > 40).mean() < 0.01
