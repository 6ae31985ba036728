"""The finale's contest: what stands before the fusion, its rules, its budget."""

import pytest
import torch
from torch import nn

from shnet_course.checks import CheckFailed, finale
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions
from shnet_lib.data.dataset import ReferringDataset, collate
from shnet_lib.model.fusion import Conv3D
from shnet_lib.model.hcam import HCAM
from shnet_lib.training.ablations import read_lines


@pytest.fixture
def few(monkeypatch) -> finale.BeforeFusion:
    """What stands before the fusion, for six expressions of val."""
    monkeypatch.setattr(finale, "EXPRESSIONS", {"val": 6})
    return finale.before_fusion.__wrapped__("val")


def test_the_shipped_fusion_makes_of_it_what_the_whole_network_makes(few):
    trained = load_shnet(finale.COURSE / "data/weights/shnet_refshapes")
    network, size = trained.network, trained.config.model.image_size
    expressions = read_expressions(finale.COURSE / "data/refshapes", "refshapes-unc", "val")[:6]
    dataset = ReferringDataset(expressions, trained.vocabulary, size)
    with torch.no_grad():
        parts = network.upsample(network.aspp(network.fusion(*few.inputs(torch.arange(6)))))
        whole = network(collate([dataset[(i,)] for i in range(6)]))
    resized = nn.functional.interpolate(parts, size=size, mode="bilinear").squeeze(1)
    assert torch.allclose(resized, whole, atol=1e-3)
    assert few.target.shape == parts.squeeze(1).shape
    assert ((parts.squeeze(1) > 0) == (few.target > 0.5)).float().mean() > 0.9


def test_padding_is_cut_to_the_longest_phrase_of_the_batch(few):
    lengths = few.word_mask.sum(1)
    visual, words, word_mask = few.inputs(torch.tensor([4, 1]))
    assert word_mask.shape == (2, max(lengths[4], lengths[1]))
    assert all(level.shape[:2] == word_mask.shape for level in words)
    assert torch.equal(visual[2], few.visual[[4, 1], 2])


def test_everybody_sees_the_same_rows_and_none_twice_in_an_epoch():
    batches = finale.order_of_rows(400, seed=3)
    assert [len(rows) for rows in batches] == [finale.BATCH_SIZE] * finale.STEPS
    assert len(set(torch.cat(batches)[:400].tolist())) == 400
    assert torch.equal(torch.cat(batches), torch.cat(finale.order_of_rows(400, seed=3)))
    assert not torch.equal(batches[0], finale.order_of_rows(400, seed=4)[0])


def test_conv3d_keeps_the_rules_and_is_not_moved_by_the_look_at_it():
    fusion = Conv3D(finale.CHANNELS)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    finale.keep_the_rules(fusion)
    assert all(torch.equal(before[name], value) for name, value in fusion.state_dict().items())


class Exploding(nn.Module):
    def forward(self, visual, words, word_mask):
        return visual[0] * 1e38


def test_a_loss_that_explodes_is_told_with_its_step(few, monkeypatch):
    monkeypatch.setattr(finale, "before_fusion", lambda split: few)
    with pytest.raises(CheckFailed, match="at step 1: your module's numbers grow too large"):
        finale.score(Exploding(), seed=0)


def test_what_has_been_reached_stands_in_order_with_its_parameters_and_its_seeds(monkeypatch):
    scores = {("small", 0): 0.5, ("small", 1): 0.6, ("HCAM", 0): 0.9, ("HCAM", 1): 0.7}
    monkeypatch.setattr(finale, "score_of", lambda make, seed: scores[make.__name__, seed])
    small = type("small", (Conv3D,), {})
    lines = finale.enter("small", small, (0, 1)) + finale.enter("HCAM", HCAM, (0, 1))
    table = finale.reached_table(lines)
    assert table.head == ("module", "parameters", "seed 0", "seed 1", "mean", "")
    assert table.rows == [
        ("HCAM", "332,544", "0.900", "0.700", "0.800", "outside the contest"),
        ("small", "110,784", "0.500", "0.600", "0.550", ""),
    ]


@pytest.mark.slow
def test_the_table_in_the_repository_is_what_its_command_gives():
    first = read_lines(finale.COURSE / "docs/results/finale.csv")
    assert [(line["module"], line["seed"]) for line in first[2:5]] == [
        ("HCAM", "2"), ("Conv3D (Table 2)", "0"), ("Conv3D (Table 2)", "1"),
    ]  # fmt: skip
    score = finale.score_of(Conv3D, seed=0)
    assert score == pytest.approx(float(first[3]["overall_iou"]), abs=0.03)


def test_a_run_makes_its_module_and_its_batches_from_one_seed(monkeypatch):
    seen = []
    monkeypatch.setattr(finale, "score", lambda fusion, seed: seen.append((fusion, seed)) or 0.5)
    assert [finale.score_of(Conv3D, seed) for seed in (3, 3, 4)] == [0.5] * 3
    (one, again, other) = [fusion.aggregate.conv.weight for fusion, _ in seen]
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert [seed for _, seed in seen] == [3, 3, 4]
