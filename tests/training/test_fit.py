"""The loop of section 4.2: what one step does, that it learns, and that it can be repeated."""

import csv
import dataclasses
import json
import math
import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from training_helpers import tiny

from shnet_lib.data import DataError
from shnet_lib.data.dataset import IMAGENET_MEAN, IMAGENET_STD, ReferringDataset, collate
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.backbone import ShapesBackbone
from shnet_lib.model.shnet import SHNet
from shnet_lib.model.weights import WeightsError
from shnet_lib.training import prepare
from shnet_lib.training.checkpoint import CheckpointError, load_shnet
from shnet_lib.training.config import ConfigError
from shnet_lib.training.evaluate import evaluate
from shnet_lib.training.fit import (
    READ_EVERY,
    Diverged,
    Meter,
    fit,
    in_groups,
    learning_rate,
    mask_loss,
    polynomial_decay,
    read_figures,
    train_step,
)
from shnet_lib.training.prepare import MicroBatches, forget_some, grayscale_some
from shnet_lib.training.resume import last_checkpoint

DROPPING = {f"model.{part}_dropout": 0.3 for part in ("sfm", "affinity", "aspp", "decoder")}
TIMES = ("seconds", "samples_per_second")  # what the clock says is never the same twice


def figures(history):
    return [{name: row[name] for name in row if name not in TIMES} for row in history]


def weights(trained):
    return trained.network.state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def make_network(config, squares):
    """The vocabulary, the network and the training set, as `fit` makes them."""
    vocabulary = Vocabulary.from_texts(expression.text for expression in squares["train"])
    set_seed(config.seed)
    network = SHNet(config.model, len(vocabulary))
    return vocabulary, network, ReferringDataset(squares["train"], vocabulary, 32)


def read_batches(config, dataset, steps):
    batches = MicroBatches(config, dataset)
    batches.last_step = steps
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=collate)
    return list(in_groups(loader, config.accumulate))


# --- one step -------------------------------------------------------------------------------------


def test_the_first_step_is_adamw_s_on_the_mean_cross_entropy(squares, tmp_path):
    """Weights after one step, from the formulas: decay, then the step of size lr along the sign."""
    config = tiny(steps=1, learning_rate=0.01, weight_decay=0.1)
    trained = fit(config, squares, tmp_path).trained
    _, network, dataset = make_network(config, squares)
    ((batch,),) = read_batches(config, dataset, 1)

    network.train()
    probability = torch.sigmoid(network(batch).double())
    target = batch["target"].double()
    loss = -(target * probability.log() + (1 - target) * (1 - probability).log())
    loss.mean().backward()
    learned = 0
    for name, before in network.named_parameters():
        after = weights(trained)[name]
        if before.grad is None:
            assert torch.equal(after, before)
            continue
        step = before.grad / (before.grad.abs() + 1e-8)  # Adam's first: m / (sqrt(v) + eps)
        expected = before * (1 - 0.01 * 0.1) - 0.01 * step
        clear = before.grad.abs() > 1e-6  # elsewhere rounding decides the sign
        assert torch.allclose(after[clear], expected[clear], atol=2e-5), name
        learned += int(clear.sum())
    assert learned > 10_000
    assert network.backbone.network.layer4[0].conv1.weight.grad is None


def test_the_learning_rate_decays_polynomially(squares, tmp_path):
    config = tiny(steps=4, evaluate_every=1, learning_rate=0.02, decay_power=0.7)
    history = fit(config, squares, tmp_path).history
    expected = [0.02 * (1 - step / 4) ** 0.7 for step in (1, 2, 3, 4)]
    assert [row["learning_rate"] for row in history] == pytest.approx(expected, rel=1e-12)
    assert polynomial_decay(0, 10, 0.7) == 1
    assert polynomial_decay(5, 10, 1.0) == 0.5


def test_a_warm_up_raises_the_rate_in_equal_steps_below_the_decay():
    config = tiny(steps=10, learning_rate=0.02, decay_power=1.0, warm_up=4)
    rates = [learning_rate(config, step, 10) for step in range(10)]
    decay = [0.02 * (1 - step / 10) for step in range(10)]
    assert rates[:4] == pytest.approx([decay[i] * (i + 1) / 4 for i in range(4)], rel=1e-12)
    assert rates[4:] == pytest.approx(decay[4:], rel=1e-12)
    without = replace(config, warm_up=0)
    assert [learning_rate(without, step, 10) for step in range(10)] == pytest.approx(decay)


def test_dice_is_one_minus_twice_the_overlap_over_both_masks():
    """Written out for two masks, one of them empty; the weight multiplies it, 0 leaves it out."""
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 4, dtype=torch.float64)
    target = torch.zeros(2, 4, 4, dtype=torch.float64)
    target[0, 1:3, 1:4] = 1
    dice = 0.0
    for expression in range(2):
        inside = both = 0.0
        for row in range(4):
            for column in range(4):
                probability = 1 / (1 + math.exp(-logits[expression, row, column].item()))
                wanted = target[expression, row, column].item()
                inside += probability * wanted
                both += probability + wanted
        dice += (1 - (2 * inside + 1) / (both + 1)) / 2
    entropy = F.binary_cross_entropy_with_logits(logits, target).item()
    assert mask_loss(logits, target).item() == entropy
    assert mask_loss(logits, target, 0.5).item() == pytest.approx(entropy + 0.5 * dice, rel=1e-12)
    assert mask_loss(torch.full_like(logits, -50), 0 * target, 1.0).item() < 1e-9


def gradients(config, squares, micro_batches):
    """Of BatchNorms in evaluation mode: only then is a batch the sum of its parts."""
    _, network, _ = make_network(config, squares)
    network.eval()
    (result,) = read_figures([train_step(network, micro_batches, Accelerator(), config)])
    return {k: p.grad for k, p in network.named_parameters() if p.grad is not None}, result


def test_accumulated_gradients_are_those_of_the_whole_batch(squares):
    whole, halves = tiny(), tiny(accumulate=2)
    _, _, dataset = make_network(whole, squares)
    one = read_batches(whole, dataset, 2)
    two = read_batches(halves, dataset, 2)
    for (batch,), pair in zip(one, two, strict=True):
        assert [len(share["expression_index"]) for share in pair] == [4, 4]
        joined = torch.cat([share["expression_index"] for share in pair])
        assert torch.equal(joined, batch["expression_index"])
    expected, (loss, intersection, union) = gradients(whole, squares, one[0])
    found, figures_of_two = gradients(halves, squares, two[0])
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.allclose(found[name], expected[name], atol=1e-6), name
    assert figures_of_two == (pytest.approx(loss, rel=1e-6), intersection, union)


def test_a_step_reports_its_loss_and_its_pixels(squares):
    config = tiny()
    _, network, dataset = make_network(config, squares)
    ((batch,),) = read_batches(config, dataset, 1)
    network.eval()
    logits = network(batch)
    figures = train_step(network, [batch], Accelerator(), config)
    ((loss, intersection, union),) = read_figures([figures])
    assert (type(loss), type(intersection), type(union)) == (float, int, int)
    expected = F.binary_cross_entropy(torch.sigmoid(logits), batch["target"])
    prediction, target = torch.sigmoid(logits) > 0.5, batch["target"] == 1
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert intersection == int((prediction & target).sum())
    assert union == int((prediction | target).sum())
    assert 0 < int(target.sum()) <= union


# --- the order of the batches ---------------------------------------------------------------------


def test_batches_go_on_over_epochs_and_each_epoch_is_another(squares):
    config = tiny()
    _, _, dataset = make_network(config, squares)  # 24 expressions, three batches of 8
    batches = MicroBatches(config, dataset)
    batches.last_step = 7
    flat = [[i for group in batch for i in group] for batch in batches]
    assert [len(batch) for batch in flat] == [8] * 7
    for epoch in (flat[:3], flat[3:6]):
        assert sorted(sum(epoch, [])) == list(range(24))
    assert flat[:3] != flat[3:6]
    for first in range(8):
        batches.first_step = first
        assert [[i for group in batch for i in group] for batch in batches] == flat[first:]


@pytest.mark.parametrize(("world", "accumulate"), [(1, 2), (2, 1), (2, 2), (1, 4)])
def test_shares_partition_each_batch(squares, world, accumulate):
    config = tiny(accumulate=accumulate)
    _, _, dataset = make_network(config, squares)
    whole = MicroBatches(tiny(), dataset)
    whole.last_step = 4
    expected = [[i for group in batch for i in group] for batch in whole]
    found = [[] for _ in expected]
    for rank in range(world):
        batches = MicroBatches(config, dataset, rank, world)
        batches.last_step = 4
        shares = iter(batches)
        for step in found:
            for share in islice(shares, accumulate):
                assert sum(len(group) for group in share) == 8 // (world * accumulate)
                step += [i for group in share for i in group]
        assert next(shares, None) is None
    assert found == expected


@pytest.mark.parametrize(("accumulate", "world"), [(1, 3), (1, 8), (4, 2), (8, 1)])
def test_a_batch_that_cannot_be_shared_is_refused(squares, accumulate, world):
    config = tiny(accumulate=accumulate)
    _, _, dataset = make_network(config, squares)
    with pytest.raises(ConfigError, match=f"batch_size = 8 .* {world} processes x {accumulate} "):
        MicroBatches(config, dataset, 0, world)


# --- the whole ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(squares, tmp_path):
    config = tiny(
        steps=4, evaluate_every=2, grayscale_probability=0.5, word_dropout=0.3, **DROPPING
    )
    first = fit(config, squares, tmp_path / "1")
    second = fit(config, squares, tmp_path / "2")
    assert figures(first.history) == figures(second.history)
    assert same(weights(first.trained), weights(second.trained))
    other = fit(dataclasses.replace(config, seed=1), squares, tmp_path / "3")
    assert figures(first.history) != figures(other.history)


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def stop_at(step):
    def stop(history):
        if history[-1]["step"] == step:
            raise Interrupted

    return stop


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(squares, tmp_path, workers):
    """With everything that draws random numbers, and a stop in the middle of an epoch."""
    config = tiny(
        steps=8,
        evaluate_every=2,
        accumulate=2,
        grayscale_probability=0.5,
        word_dropout=0.3,
        workers=workers,
        **DROPPING,
    )
    whole = fit(dataclasses.replace(config, workers=0), squares, tmp_path / "whole")

    for resume, step in ((False, 2), (True, 4)):
        with pytest.raises(Interrupted):
            fit(config, squares, tmp_path / "parts", resume, on_evaluation=stop_at(step))
    parts = fit(config, squares, tmp_path / "parts", resume=True)
    assert figures(parts.history) == figures(whole.history)
    assert len(parts.history) == 4
    assert parts.best["step"] == whole.best["step"]
    assert same(weights(parts.trained), weights(whole.trained))
    last = [
        load_file(last_checkpoint(tmp_path / run) / "optimizer.safetensors")
        for run in ("whole", "parts")
    ]
    assert last[0] and same(*last)


def test_a_finished_run_resumes_to_its_result(squares, tmp_path):
    config = tiny(steps=2, evaluate_every=1)
    first = fit(config, squares, tmp_path)
    again = fit(config, squares, tmp_path, resume=True)
    assert again.history == first.history
    assert again.seconds == first.seconds
    assert same(weights(again.trained), weights(first.trained))


# --- starting from another training ---------------------------------------------------------------


def test_a_training_starts_from_the_weights_of_another_on_another_grid(squares, tmp_path):
    shipped = {"model.backbone_weights": "shipped"}
    first = fit(tiny(steps=2, evaluate_every=1, **shipped), squares, tmp_path / "coarse")
    settings = shipped | {
        "model.grid": 8,
        "learning_rate": 1e-12,
        "weight_decay": 0.0,
        "steps": 1,
        "seed": 5,
    }
    there = tiny(start_from=str(tmp_path / "coarse" / "best"), **settings)
    begun = fit(there, squares, tmp_path / "fine")
    anew = fit(tiny(**settings), squares, tmp_path / "anew")
    parameters = dict(first.trained.network.named_parameters())
    assert begun.trained.network.config.grid == 8
    for name, parameter in begun.trained.network.named_parameters():
        assert torch.allclose(parameter, parameters[name], atol=1e-9), name
    loaded = load_shnet(tmp_path / "fine" / "best").network
    assert same(loaded.state_dict(), weights(begun.trained))
    different = dict(anew.trained.network.named_parameters())["aspp.pixel.0.weight"]
    assert not torch.allclose(different, parameters["aspp.pixel.0.weight"], atol=1e-2)


def test_a_start_of_other_words_or_layers_is_refused(squares, tmp_path):
    fit(tiny(steps=1), squares, tmp_path / "first")
    start = str(tmp_path / "first" / "best")
    others = squares | {"train": squares["train"][:1]}
    with pytest.raises(CheckpointError, match="was trained on other expressions: its 10 words"):
        fit(tiny(steps=1, batch_size=2, start_from=start), others, tmp_path / "words")
    with pytest.raises(WeightsError, match="sfm"):
        fit(
            tiny(steps=1, start_from=start, **{"model.sfm_layers": 2}), squares, tmp_path / "layers"
        )
    with pytest.raises(CheckpointError, match="there is no .*nowhere"):
        fit(tiny(steps=1, start_from=str(tmp_path / "nowhere")), squares, tmp_path / "missing")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Two files of weights for one small backbone."""
    folder = tmp_path_factory.mktemp("backbones")
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(ShapesBackbone().state_dict(), folder / f"{seed}.safetensors")
    return folder


def test_a_start_from_another_backbone_is_refused_before_the_training(squares, tmp_path, backbones):
    """The features would be others than those its weights have learnt to read."""
    first, second = (
        {"model.backbone_weights": str(backbones / f"{seed}.safetensors")} for seed in (0, 1)
    )
    fit(tiny(steps=1, **first), squares, tmp_path / "first")
    start = str(tmp_path / "first" / "best")
    with pytest.raises(CheckpointError, match=r"another backbone.*set model.backbone=shapes.*0\.s"):
        fit(tiny(steps=1, start_from=start, **second), squares, tmp_path / "second")
    begun = fit(tiny(steps=1, start_from=start, **first), squares, tmp_path / "same")
    loaded = load_shnet(tmp_path / "same" / "best").network
    assert same(loaded.state_dict(), weights(begun.trained))


def test_files_that_moved_since_stop_neither_a_start_nor_a_run_that_goes_on(
    squares, tmp_path, backbones
):
    """The backbone is known by its weights, not by its path; the start is needed once."""

    def at(name, **settings):
        shutil.copy(backbones / "0.safetensors", tmp_path / name)
        return tiny(**settings, **{"model.backbone_weights": str(tmp_path / name)})

    fit(at("old.safetensors", steps=1), squares, tmp_path / "first")
    (tmp_path / "old.safetensors").unlink()
    settings = {"steps": 3, "evaluate_every": 1, "start_from": str(tmp_path / "first" / "best")}
    config = at("new.safetensors", **settings)
    whole = fit(config, squares, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(config, squares, tmp_path / "parts", on_evaluation=stop_at(1))

    shutil.rmtree(tmp_path / "first")
    (tmp_path / "new.safetensors").unlink()
    other = tiny(**settings, **{"model.backbone_weights": str(backbones / "1.safetensors")})
    with pytest.raises(CheckpointError, match="was trained on another backbone than .*1.safeten"):
        fit(other, squares, tmp_path / "parts", resume=True)
    newest = at("newest.safetensors", **settings)
    parts = fit(newest, squares, tmp_path / "parts", resume=True)
    assert figures(parts.history) == figures(whole.history)
    assert same(weights(parts.trained), weights(whole.trained))


def test_word_vectors_are_not_read_again_when_a_run_goes_on(squares, tmp_path):
    glove = tmp_path / "glove.txt"
    words = "the red blue one square on left right"
    glove.write_text("".join(f"{word} {len(word)} 0.25 1\n" for word in words.split()))
    settings = {"steps": 2, "evaluate_every": 1, "model.word_vectors": "glove"}
    config = tiny(glove=str(glove), **settings)
    whole = fit(config, squares, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(config, squares, tmp_path / "parts", on_evaluation=stop_at(1))
    glove.unlink()
    moved = tiny(glove="elsewhere.txt", **settings)
    parts = fit(moved, squares, tmp_path / "parts", resume=True)
    assert same(weights(parts.trained), weights(whole.trained))


def test_missing_files_are_told_before_word_vectors_are_read(squares, tmp_path, monkeypatch):
    """5 GB of text are minutes."""
    glove = tmp_path / "glove.txt"
    glove.write_text("the 1.0 2.0 3.0\n")

    def read(*_arguments):
        raise AssertionError("minutes later")

    monkeypatch.setattr(prepare, "read_glove", read)
    words = {"steps": 1, "model.word_vectors": "glove"}
    gone = str(tmp_path / "gone")
    for settings, error, said in (
        ({"glove": gone}, DataError, "gone: no such file"),
        ({"model.backbone_weights": gone}, WeightsError, "no weights at .*gone"),
        ({"model.backbone": "resnet18", "model.backbone_weights": "shipped"}, WeightsError, "shi"),
        ({"start_from": gone}, CheckpointError, "there is no .*gone"),
    ):
        config = tiny(**{"glove": str(glove)} | words | settings)
        with pytest.raises(error, match=said):
            fit(config, squares, tmp_path / "run")


def corner(expression):
    """The expression, but of a single pixel that no network would look at."""
    mask = np.zeros((expression.height, expression.width), dtype=bool)
    mask[0, 0] = True
    return dataclasses.replace(expression, read_mask=lambda: mask)


def test_it_learns_and_keeps_the_best_network_and_not_the_last(squares, tmp_path):
    """Twelve phrases on three photos learnt by heart; then the validation turns impossible."""
    config = tiny(steps=68, batch_size=12, learning_rate=0.0025, evaluate_every=20)
    config = dataclasses.replace(config, cache_features=True)
    few = {"train": squares["val"], "val": squares["val"]}
    with pytest.raises(Interrupted):
        fit(config, few, tmp_path, on_evaluation=stop_at(60))
    impossible = few | {"val": [corner(expression) for expression in squares["val"]]}
    result = fit(config, impossible, tmp_path, resume=True)

    first, _, learnt, last = result.history
    assert first["val_overall_iou"] < 0.3 < 0.5 < learnt["val_overall_iou"]
    assert learnt["iou"] > 0.6
    assert learnt["loss"] < first["loss"] / 2
    assert (first["epoch"], last["epoch"]) == (20, 68)

    assert result.best == learnt
    assert last["val_overall_iou"] < 0.1
    loaded = load_shnet(tmp_path / "best")
    val_set = ReferringDataset(squares["val"], loaded.vocabulary, 32, evaluation=True)
    for trained in (result.trained, loaded):
        value = evaluate(trained.network, val_set).metrics["overall_iou"]
        assert value == pytest.approx(learnt["val_overall_iou"], abs=0.01)  # features of 16 bits
        assert trained.card["step"] == 60
        assert trained.card["val"]["overall_iou"] == learnt["val_overall_iou"]
    assert same(weights(result.trained), weights(loaded))


def test_a_run_without_gain_stops_when_patience_ends(squares, tmp_path):
    config = tiny(steps=9, evaluate_every=1, learning_rate=1e-30, patience=3, seed=2)
    still = dataclasses.replace(config, weight_decay=0.0)
    result = fit(still, {"train": squares["train"], "val": squares["val"]}, tmp_path)
    values = [row["val_overall_iou"] for row in result.history]
    since_best = len(values) - 1 - values.index(max(values))
    assert since_best == 3
    assert len(values) < 9
    again = fit(still, squares, tmp_path, resume=True)
    assert again.history == result.history


def test_each_step_is_handed_out_once_before_its_evaluation(squares, tmp_path):
    told = []
    result = fit(
        tiny(epochs=2),
        squares,
        tmp_path,
        on_evaluation=lambda history: told.append("evaluated"),
        on_steps=lambda rows: told.extend(rows),
    )
    marks = [row if row == "evaluated" else row["step"] for row in told]
    assert marks == [1, 2, 3, "evaluated", 4, 5, 6, "evaluated"]
    for first, row in zip((0, 4), result.history, strict=True):
        steps = told[first : first + 3]
        assert math.isclose(sum(step["loss"] for step in steps) / 3, row["loss"], rel_tol=1e-6)
        union = sum(step["union"] for step in steps)
        assert sum(step["intersection"] for step in steps) / union == row["iou"]


def test_history_is_handed_out_and_written_down(squares, tmp_path):
    seen = []
    config = tiny(epochs=2)
    result = fit(config, squares, tmp_path, on_evaluation=lambda h: seen.append(len(h)))
    assert seen == [1, 2]
    assert [row["step"] for row in result.history] == [3, 6]  # once an epoch of three batches
    assert [row["epoch"] for row in result.history] == [1, 2]
    with (tmp_path / "history.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for written, row in zip(table, result.history, strict=True):
        assert {name: float(value) for name, value in written.items()} == row
    assert result.seconds == result.history[-1]["seconds"] > result.history[0]["seconds"] > 0


def test_figures_wait_on_the_device_and_lose_nothing(squares, tmp_path, monkeypatch):
    """Read after every step or after several, they are the same."""
    config = tiny(steps=READ_EVERY + 3, evaluate_every=READ_EVERY + 2)
    read, histories = [], []

    def counted(steps):
        read.append(len(steps))
        return read_figures(steps)

    monkeypatch.setattr("shnet_lib.training.fit.read_figures", counted)
    for every in (READ_EVERY, 1):
        monkeypatch.setattr("shnet_lib.training.fit.READ_EVERY", every)
        histories.append(figures(fit(config, squares, tmp_path / str(every)).history))
    assert histories[0] == histories[1]
    assert read == [READ_EVERY, 2, 1] + [1] * (READ_EVERY + 3)


def test_the_last_step_is_evaluated_too(squares, tmp_path):
    history = fit(tiny(steps=5, evaluate_every=3), squares, tmp_path).history
    assert [row["step"] for row in history] == [3, 5]


@pytest.mark.parametrize(
    ("every", "said"),
    [
        (2, "the loss is nan at step 4"),
        (1, "a weight is not finite at step 2"),
        (READ_EVERY + 3, f"the loss is nan at step {READ_EVERY + 5}"),  # noticed later
    ],
)
def test_a_broken_run_stops_and_keeps_what_was_good(squares, tmp_path, every, said):
    """A NaN among the optimiser's averages spoils the weights of the next step."""
    config = tiny(steps=3 * every, evaluate_every=every)
    with pytest.raises(Interrupted):
        fit(config, squares, tmp_path, on_evaluation=stop_at(every))
    path = last_checkpoint(tmp_path) / "optimizer.safetensors"
    optimizer = load_file(path)
    next(value for name, value in optimizer.items() if name.startswith("exp_avg.")).fill_(math.nan)
    save_file(optimizer, path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FloatingPointError, match=said) as caught:
        fit(config, squares, tmp_path, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    _, _, dataset = make_network(config, squares)
    step = int(said.split()[-1])
    ((batch,),) = read_batches(config, dataset, step)[-1:]
    for index in batch["expression_index"].tolist():
        expression = squares["train"][index]
        assert f"{expression.sent_id} {expression.text!r}" in str(caught.value)


# --- what is refused ------------------------------------------------------------------------------


def test_a_run_is_not_overwritten_nor_mixed_with_another(squares, tmp_path):
    config = tiny(steps=1)
    with pytest.raises(CheckpointError, match="there is no .*config.json"):
        fit(config, squares, tmp_path, resume=True)
    fit(config, squares, tmp_path)
    with pytest.raises(CheckpointError, match="holds a run already.*resume"):
        fit(config, squares, tmp_path)
    with pytest.raises(CheckpointError, match="other settings: seed was 0, is 1"):
        fit(tiny(steps=1, seed=1), squares, tmp_path, resume=True)
    fewer = {"train": squares["train"][:1], "val": squares["val"]}
    with pytest.raises(CheckpointError, match="other training expressions"):
        fit(config, fewer, tmp_path, resume=True)
    path = last_checkpoint(tmp_path) / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processes": 4}))
    with pytest.raises(CheckpointError, match="written by 4 processes, this run has 1"):
        fit(config, squares, tmp_path, resume=True)
    shutil.rmtree(tmp_path / "last")
    with pytest.raises(CheckpointError, match="ended before its first evaluation"):
        fit(config, squares, tmp_path, resume=True)


def test_processes_that_do_not_know_of_each_other_are_stopped(squares, tmp_path, monkeypatch):
    """They would write into the same folder, one over the other."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were started.*ACCELERATE_USE_CPU"):
        fit(tiny(steps=1), squares, tmp_path)
    assert not list(tmp_path.iterdir())


# --- word vectors, colours, precision -------------------------------------------------------------


@pytest.mark.parametrize("trainable", [True, False])
def test_glove_begins_the_embedding(squares, tmp_path, trainable, capsys):
    glove = tmp_path / "glove.txt"
    vectors = {"the": [1.0, 2.0, 3.0], "red": [0.5, 0.25, 0.125]} | {
        word: [number, 0.0, 1.0] for number, word in enumerate(("one", "square", "on"), start=2)
    }
    lines = [" ".join(map(str, [word, *vector])) for word, vector in vectors.items()]
    glove.write_text("\n".join([*lines, "of 9 9 9"]))
    model = {"model.word_vectors": "glove", "model.train_word_vectors": trainable}
    with pytest.raises(ConfigError, match="glove=.*onehot"):
        fit(tiny(steps=1, **model), squares, tmp_path / "none")
    config = tiny(steps=1, glove=str(glove), weight_decay=0.0, **model)
    trained = fit(config, squares, tmp_path / "run").trained
    embedding = weights(trained)["word_encoder.embedding.weight"]
    words = trained.vocabulary.words
    expected = torch.zeros(len(words), 3)
    for word, vector in vectors.items():
        expected[words.index(word)] = torch.tensor(vector)
    assert f"{len(words) - 5} of {len(words)} words have no vector" in capsys.readouterr().out
    if trainable:
        assert not torch.equal(embedding, expected)
        assert torch.allclose(embedding, expected, atol=2e-3)  # one step of 1e-3
    else:
        assert torch.equal(embedding, expected)


def test_grayscale_takes_the_colour_and_keeps_the_brightness():
    torch.manual_seed(0)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    photos = torch.rand(64, 3, 2, 2)
    images = (photos - mean) / std
    gray = grayscale_some(images, 1.0) * std + mean
    for channel in range(3):
        luminance = 0.299 * photos[:, 0] + 0.587 * photos[:, 1] + 0.114 * photos[:, 2]
        assert torch.allclose(gray[:, channel], luminance, atol=1e-3)
    changed = (grayscale_some(images, 0.3) != images).flatten(1).any(1)
    assert 0.1 < changed.float().mean() < 0.5
    untouched = ~changed
    assert untouched.any()


def test_training_sees_grey_where_the_settings_ask_for_it(squares):
    config = tiny(grayscale_probability=1.0)
    _, network, dataset = make_network(config, squares)
    ((batch,),) = read_batches(config, dataset, 1)
    network.eval()
    grey = batch | {"images": grayscale_some(batch["images"], 1.0)}
    asked = train_step(network, [batch], Accelerator(), config)
    assert asked == train_step(network, [grey], Accelerator(), tiny())
    assert asked != train_step(network, [batch], Accelerator(), tiny())


def test_word_dropout_reads_words_as_the_unknown_one_and_padding_never():
    torch.manual_seed(0)
    words = torch.randint(2, 50, (64, 8))
    words[:, 5:] = Vocabulary.PADDING
    assert torch.equal(forget_some(words, 0.0), words)
    everything = forget_some(words, 1.0)
    assert (everything[:, :5] == Vocabulary.UNKNOWN).all()
    assert (everything[:, 5:] == Vocabulary.PADDING).all()
    some = forget_some(words, 0.3)
    changed = some != words
    assert 0.2 < changed[:, :5].float().mean() < 0.4
    assert (some[changed] == Vocabulary.UNKNOWN).all()


def test_training_forgets_words_where_the_settings_ask_for_it(squares):
    config = tiny(word_dropout=1.0)
    _, network, dataset = make_network(config, squares)
    ((batch,),) = read_batches(config, dataset, 1)
    network.eval()
    unknown = batch | {"words": batch["words"].clamp(max=Vocabulary.UNKNOWN)}
    asked = train_step(network, [batch], Accelerator(), config)
    assert asked == train_step(network, [unknown], Accelerator(), tiny())
    assert asked != train_step(network, [batch], Accelerator(), tiny())


def test_bfloat16_trains_and_leaves_a_plain_network(squares, tmp_path):
    fits = {
        precision: fit(tiny(steps=2, precision=precision), squares, tmp_path / precision)
        for precision in ("no", "bf16")
    }
    exact, rounded = (fits[name].history[0]["loss"] for name in ("no", "bf16"))
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)
    trained = fits["bf16"].trained
    assert {w.dtype for w in weights(trained).values()} == {torch.float32, torch.int64}
    loaded = load_shnet(tmp_path / "bf16" / "best")
    dataset = ReferringDataset(squares["val"], trained.vocabulary, 32)
    batch = collate([dataset[(0, 1)]])
    with torch.no_grad():
        assert torch.equal(trained.network(batch), loaded.network(batch))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this device has half precision")
def test_half_precision_on_a_cpu_is_refused(squares, tmp_path):
    """It would be fp32 in silence."""
    with pytest.raises(ConfigError, match="precision = fp16.*bf16"):
        fit(tiny(steps=1, precision="fp16"), squares, tmp_path)


def test_meter_adds_up(squares):
    _, _, dataset = make_network(tiny(), squares)
    meter = Meter(dataset, samples_per_step=8)
    meter.add(1, (torch.tensor(1.0), torch.tensor(10), torch.tensor(20)), [0])
    meter.add(2, (torch.tensor(0.5), torch.tensor(0), torch.tensor(20)), [1])
    read = meter.read()
    assert (read["loss"], read["iou"]) == (0.75, 0.25)
    assert read["samples_per_second"] > 16
    assert meter.read()["loss"] == 0.75  # nothing new
    empty = Meter(dataset, samples_per_step=8)
    empty.add(1, (torch.tensor(1.0), torch.tensor(0), torch.tensor(0)), [0])
    assert empty.read()["iou"] == 1  # as every measure of the course has it
    empty.add(2, (torch.tensor(math.inf), torch.tensor(0), torch.tensor(0)), [3])
    with pytest.raises(Diverged, match=f"inf at step 2.*{dataset.expressions[3].sent_id}"):
        empty.read()
