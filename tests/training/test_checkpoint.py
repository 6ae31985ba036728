"""What is written comes back the same, and nothing is ever half-written."""

import json
import shutil

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from training_helpers import tiny

from shnet_lib.data.text import Vocabulary
from shnet_lib.files import unfinished
from shnet_lib.model.backbone import ShapesBackbone
from shnet_lib.model.shnet import SHNet
from shnet_lib.model.weights import WeightsError
from shnet_lib.training.checkpoint import (
    CheckpointError,
    load_shnet,
    load_weights_into,
    save_model,
    step_folder,
)

WORDS = Vocabulary.from_texts(["left red circle", "the 2nd star"])
CARD = {"command": "make train", "seed": 0, "val": {"overall_iou": 0.5}}


def network_of(config, vectors=None):
    """A network whose BatchNorms have seen something, in evaluation mode."""
    torch.manual_seed(1)
    network = SHNet(config.model, len(WORDS), vectors)
    network.train()
    network(batch())
    return network.eval()


def batch():
    generator = torch.Generator().manual_seed(2)
    return {
        "images": torch.randn(2, 3, 32, 32, generator=generator),
        "image_index": torch.tensor([0, 1, 1]),
        "words": torch.tensor([[2, 3, 4], [5, 6, 0], [1, 0, 0]]),
        "word_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool(),
    }


@pytest.fixture
def saved(tmp_path):
    config = tiny()
    network = network_of(config)
    save_model(tmp_path / "best", network, config, WORDS, CARD)
    return tmp_path / "best", network, config


def test_a_network_comes_back_bit_for_bit(saved):
    folder, network, config = saved
    trained = load_shnet(folder)
    assert torch.equal(trained.network(batch()), network(batch()))
    assert not trained.network.training
    assert trained.config == config
    assert trained.vocabulary.to_dict() == WORDS.to_dict()
    assert trained.card == CARD


def test_of_a_runs_best_networks_the_latest_whole_one_is_taken(tmp_path):
    for step in (2, 10):
        config = tiny(seed=step)
        save_model(step_folder(tmp_path, step), network_of(config), config, WORDS, CARD)
    unfinished(step_folder(tmp_path, 11)).mkdir()  # what a crash left
    assert load_shnet(tmp_path).config.seed == 10
    folder = step_folder(tmp_path, 10)
    assert sorted(path.name for path in folder.iterdir()) == [
        "backbone.json", "card.json", "config.json", "model.safetensors", "vocabulary.json",
    ]  # fmt: skip
    with pytest.raises(FileExistsError, match="step-000010 exists"):
        save_model(folder, network_of(config), config, WORDS, CARD)
    assert load_shnet(tmp_path).config.seed == 10


def test_the_small_backbone_travels_inside_and_one_hot_vectors_do_not(saved):
    folder, network, _ = saved
    names = set(load_file(folder / "model.safetensors"))
    assert names == set(network.state_dict()) - {"word_encoder.embedding.weight"}
    assert any(name.startswith("backbone.") for name in names)


def test_the_small_backbone_is_not_looked_for_where_it_came_from(tmp_path):
    weights = tmp_path / "shapes.safetensors"
    save_file(ShapesBackbone().state_dict(), weights)
    config = tiny(**{"model.backbone_weights": str(weights)})
    network = network_of(config)
    save_model(tmp_path / "best", network, config, WORDS, CARD)
    weights.unlink()
    assert torch.equal(load_shnet(tmp_path / "best").network(batch()), network(batch()))


def test_the_backbone_that_the_course_ships_is_not_written_again(tmp_path):
    config = tiny(**{"model.backbone_weights": "shipped"})
    network = network_of(config)
    save_model(tmp_path / "best", network, config, WORDS, CARD)
    names = set(load_file(tmp_path / "best" / "model.safetensors"))
    assert names and not any(name.startswith("backbone.") for name in names)
    assert torch.equal(load_shnet(tmp_path / "best").network(batch()), network(batch()))


def test_a_random_backbone_exists_nowhere_else_and_travels_inside(tmp_path):
    config = tiny(**{"model.backbone": "resnet18"})
    assert config.model.backbone_weights == "random"
    network = network_of(config)
    save_model(tmp_path / "best", network, config, WORDS, CARD)
    assert torch.equal(load_shnet(tmp_path / "best").network(batch()), network(batch()))


@pytest.fixture(scope="module")
def resnet_files(tmp_path_factory):
    """Two weight files for one architecture, as torchvision saves them."""
    folder = tmp_path_factory.mktemp("resnets")
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18().state_dict(), folder / f"{seed}.pth")
    return folder


def test_a_large_backbone_stays_outside_and_has_to_be_the_one_trained_with(resnet_files, tmp_path):
    weights = tmp_path / "resnet18.pth"
    shutil.copy(resnet_files / "0.pth", weights)
    config = tiny(**{"model.backbone": "resnet18", "model.backbone_weights": str(weights)})
    network = network_of(config)
    save_model(tmp_path / "best", network, config, WORDS, CARD)
    names = load_file(tmp_path / "best" / "model.safetensors")
    assert not any(name.startswith("backbone.") for name in names)
    assert torch.equal(load_shnet(tmp_path / "best").network(batch()), network(batch()))

    weights.rename(tmp_path / "moved.pth")
    with pytest.raises(WeightsError, match="resnet18.pth"):
        load_shnet(tmp_path / "best")
    moved = load_shnet(tmp_path / "best", backbone_weights=str(tmp_path / "moved.pth"))
    assert torch.equal(moved.network(batch()), network(batch()))
    with pytest.raises(CheckpointError, match="other weights of resnet18.*1.pth"):
        load_shnet(tmp_path / "best", backbone_weights=str(resnet_files / "1.pth"))


@pytest.mark.parametrize("trainable", [True, False])
def test_word_vectors_travel_inside(tmp_path, trainable):
    """GloVe's file is 5 GB and not needed to use a network."""
    config = tiny(
        **{"model.word_vectors": "glove", "model.train_word_vectors": trainable}, glove="gone.txt"
    )
    vectors = torch.randn(len(WORDS), 7)
    network = network_of(config, vectors)
    save_model(tmp_path / "best", network, config, WORDS, CARD)
    loaded = load_shnet(tmp_path / "best").network
    assert torch.equal(loaded.word_encoder.embedding.weight, vectors)
    assert torch.equal(loaded(batch()), network(batch()))


def test_another_architecture_is_told_by_name_and_shape(saved):
    folder, network, config = saved
    settings = json.loads((folder / "config.json").read_text())
    settings["model"]["channels"] = 32
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match=r"projections.0.conv.weight is \(16, .*expected \(32,"):
        load_shnet(folder)
    with pytest.raises(WeightsError, match=r"keys missing \(first \['sfm\."):
        config = tiny(**{"model.sfm": "printed"})
        load_weights_into(SHNet(config.model, len(WORDS)), folder, config)


def test_weights_go_into_a_network_that_stands(saved):
    folder, network, config = saved
    torch.manual_seed(9)
    other = SHNet(config.model, len(WORDS)).eval()
    assert not torch.equal(other(batch()), network(batch()))
    load_weights_into(other, folder, config)
    assert torch.equal(other(batch()), network(batch()))


@pytest.mark.parametrize(
    "name", ["config.json", "vocabulary.json", "backbone.json", "card.json", "model.safetensors"]
)
def test_a_missing_or_damaged_file_is_named(saved, name):
    folder, _, _ = saved
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{name}.* [Cc]opy it again"):
        load_shnet(folder)
    if name.endswith("json"):
        for other in ("[]", "{}" * (name != "card.json") or "1"):
            (folder / name).write_text(other)
            with pytest.raises(CheckpointError, match=f"{name}.* Copy it again"):
                load_shnet(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"there is no .*{name}.*trained SHNet"):
        load_shnet(folder)
