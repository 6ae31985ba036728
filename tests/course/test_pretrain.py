"""The small backbone's pre-training: true labels, the same weights for the same seed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from refgen.refshapes import SEMANTIC_CLASSES, draw, generate, make_example
from refgen.refshapes.scene import COLOURS, PATTERNS
from shnet_course.tools.pretrain import (
    HEADS,
    NOT_A_THING,
    SegmentationHead,
    main,
    normalize,
    pixel_accuracy,
    pretrain,
    read_labelled,
)
from shnet_lib.model.backbone import ShapesBackbone, build_backbone

SIZE, SEED = 64, 2
IMAGES = {"train": 8, "val": 3, "testA": 1, "testB": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("made") / "refshapes", IMAGES, SIZE, SEED)


def weights(data: Path, out: Path, seed: int, steps: int = 2) -> dict[str, Tensor]:
    pretrain(data, out, steps, batch_size=4, learning_rate=3e-3, seed=seed)
    return load_file(out)


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_pixel_is_labelled_as_its_scene_says(data: Path, split: str) -> None:
    images, labels = read_labelled(data, split)
    assert images.shape == (IMAGES[split], 3, SIZE, SIZE) and images.dtype == torch.uint8
    assert set(labels) == {"kind", "colour", "pattern"}
    for row in range(IMAGES[split]):
        scene, _ = make_example(split, row, SEED)
        picture, masks = draw(scene, SIZE)  # the scene drawn anew, without the files
        assert np.array_equal(images[row].permute(1, 2, 0).numpy(), picture)
        kind, colour, pattern = (labels[name][row].numpy() for name in HEADS)
        for thing, mask in zip(scene.things, masks, strict=False):
            assert (kind[mask] == SEMANTIC_CLASSES.index(thing.shape)).all()
            assert (colour[mask] == COLOURS.index(thing.colour)).all()
            assert (pattern[mask] == PATTERNS.index(thing.pattern)).all()
        for region, mask in zip(scene.regions, masks[len(scene.things) :], strict=True):
            assert (kind[mask] == SEMANTIC_CLASSES.index(region.kind)).all()
            assert (colour[mask] == NOT_A_THING).all() and (pattern[mask] == NOT_A_THING).all()


def test_images_are_normalised_as_the_frozen_backbone_will_see_them() -> None:
    images = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1)  # ImageNet's mean
    assert normalize(images).flatten().tolist() == pytest.approx([0, 0, 0], abs=0.01)
    white = normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten().tolist()
    assert white == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_each_level_votes_at_the_resolution_of_the_finest() -> None:
    head = SegmentationHead((4, 6), 3)
    levels = [torch.randn(2, 4, 8, 8), torch.zeros(2, 6, 4, 4)]
    expected = head.vote[0](levels[0]) + head.vote[1].bias.view(1, 3, 1, 1)
    assert torch.allclose(head(levels), expected, atol=1e-6)


class Always(nn.Module):
    """Votes for one class everywhere."""

    def __init__(self, choice: int, classes: int) -> None:
        super().__init__()
        self.votes = torch.eye(classes)[choice]

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.votes.view(1, -1, 1, 1).expand(len(levels[0]), -1, 4, 4)


def test_accuracy_is_the_share_of_labelled_pixels_named_rightly(data: Path) -> None:
    images, labels = read_labelled(data, "train")
    network = ShapesBackbone()
    for choice in range(3):
        heads = nn.ModuleDict({n: Always(choice, len(classes)) for n, classes in HEADS.items()})
        found = pixel_accuracy(network, heads, images, labels)
        for name, maps in labels.items():
            labelled = maps.flatten().tolist()
            labelled = [label for label in labelled if label != NOT_A_THING]
            expected = labelled.count(choice) / len(labelled)
            assert found[name] == pytest.approx(expected, abs=1e-4)
    assert network.training
    network.eval()
    pixel_accuracy(network, heads, images, labels)
    assert not network.training, "it is left in the mode that it came in"


def test_some_steps_teach_it_and_the_weights_can_be_loaded(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "backbone.safetensors"
    before = pretrain(data, out, 1, batch_size=8, learning_rate=3e-3, seed=0)
    after = pretrain(data, out, 60, batch_size=8, learning_rate=3e-3, seed=0)
    assert set(after) == {"kind", "colour", "pattern"}
    assert after["kind"] > before["kind"] + 0.2 and after["colour"] > before["colour"] + 0.2
    frozen = build_backbone("shapes", str(out))
    saved = load_file(out)
    assert all(torch.equal(saved[k], v) for k, v in frozen.network.state_dict().items())
    assert [level.shape[1:] for level in frozen(torch.zeros(1, 3, 128, 128))] == [
        (64, 32, 32),
        (96, 16, 16),
        (128, 8, 8),
    ]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data, tmp_path) -> None:
    first, again, other = (
        weights(data, tmp_path / f"{number}.safetensors", seed)
        for number, seed in enumerate((5, 5, 6))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


@pytest.mark.parametrize("gone", ["refshapes/scenes.json", "refshapes/instances.json", "images"])
def test_without_data_it_says_in_one_line_how_to_make_them(data, tmp_path, capsys, gone) -> None:
    there = shutil.copytree(data, tmp_path / "data")
    (there / gone).rename(there / "gone")
    assert main(["--data", str(there), "--out", str(tmp_path / "out"), "--steps", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert str(there / gone) in said and ("make data" in said or "data make refshapes" in said)


def test_the_command_says_how_good_it_is(data, tmp_path, capsys) -> None:
    out = tmp_path / "backbone.safetensors"
    arguments = ["--data", str(data), "--out", str(out), "--steps", "2", "--batch-size", "2"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report["val pixel accuracy"]) == {"kind", "colour", "pattern"}
    assert report["torch"] == torch.__version__
    assert out.is_file()
