"""The trace says what really ran, leaves the network as it was, and counts operations right."""

from dataclasses import replace

import pytest
import torch

from shnet_course.measure.trace import Flow, count_flops, trace_shapes, weightless
from shnet_lib.model import TABLE_2, ModelConfig, SHNet

S, C, GRID, B, IMAGES, T = 32, 16, 4, 5, 2, 6
TINY = ModelConfig(
    image_size=S,
    grid=GRID,
    channels=C,
    heads=4,
    backbone="shapes",
    backbone_weights="random",
    word_vectors="onehot",
    decoder_widths=(16, 8),
)
PAPER = ModelConfig(backbone="resnet101")


def real_batch() -> dict:
    return {
        "images": torch.randn(IMAGES, 3, S, S),
        "image_index": torch.arange(B) % IMAGES,
        "words": torch.ones(B, T, dtype=torch.long),
        "word_mask": torch.ones(B, T, dtype=torch.bool),
    }


def test_every_part_with_its_shapes_in_the_order_in_which_it_ran():
    network = SHNet(TINY, vocabulary_size=12)
    rows = trace_shapes(network, real_batch())
    grid, words = (B, C, GRID, GRID), (B, T, C)
    assert [row.part for row in rows] == [
        "backbone", "projections.0", "projections.1", "projections.2", "word_encoder", "sfm",
        "fusion", "aspp", "upsample", "mask_logits",
    ]  # fmt: skip
    flow = {row.part: row for row in rows}
    assert flow["backbone"].inputs == ((IMAGES, 3, S, S),) and len(flow["backbone"].outputs) == 3
    for level in range(3):  # what the backbone gives is what the projections take
        assert flow[f"projections.{level}"].inputs == (flow["backbone"].outputs[level],)
        assert flow[f"projections.{level}"].outputs == ((IMAGES, C, GRID, GRID),)
    assert flow["sfm"].inputs == (grid, grid, grid, words, (B, T))
    assert flow["sfm"].outputs == (grid, grid, grid, words, words, words)
    assert flow["fusion"] == Flow("fusion", "HCAM", (*flow["sfm"].outputs, (B, T)), (grid,))
    assert flow["upsample"].outputs == flow["mask_logits"].inputs == ((B, 1, 16, 16),)
    assert flow["mask_logits"].outputs == ((B, S, S),)


def test_without_numbers_the_shapes_are_the_same():
    real = trace_shapes(SHNet(TINY, vocabulary_size=12), real_batch())
    assert trace_shapes(*weightless(TINY, IMAGES, B, T)) == real


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    network = SHNet(TINY, vocabulary_size=12).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trace_shapes(network, real_batch())
    assert network.training == training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_are_taken_off_after_an_error_too():
    network = SHNet(TINY, vocabulary_size=12)
    with pytest.raises(KeyError):
        trace_shapes(network, {"images": torch.randn(1, 3, S, S)})
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("row", TABLE_2)
def test_every_row_of_table_2_can_be_traced_and_counted(row):
    config = replace(TINY, **TABLE_2[row])
    parts = [flow.part for flow in trace_shapes(*weightless(config))]
    assert ("sfm" in parts) == (config.sfm != "none")
    *counts, together = count_flops(config)
    assert together == ("together", sum(operations for _, operations in counts))
    assert all(operations > 0 for _, operations in counts)


def test_operations_at_the_papers_size_by_hand():
    flops = dict(count_flops(PAPER, words=25))
    cells, taps, c = 18 * 18, 9, 512
    levels = sum(taps * channels * c for channels in (512, 1024, 2048))
    assert flops["projections"] == 2 * cells * levels
    # five looks (one at a single average) and the mixing of 5 C channels
    assert flops["aspp"] == 2 * c * c * (cells * (1 + 3 * taps + 5) + 1)
    # the second and third mix before they double: their taps count at the map's size before it
    widths = (512, 512, 512, 256, 1)
    places = (cells, cells, 4 * cells, 16 * cells, 16 * cells)
    before = (512, *widths[:-1])
    mixed = taps * sum(place * a * b for place, a, b in zip(places, before, widths, strict=True))
    # three times, to twice the columns with three taps each, then to twice the rows
    doubled = sum(3 * c * (6 * side**3 + 4 * side**3) for side in (18, 36))
    assert flops["upsample"] == 2 * (mixed + doubled)
    assert flops["word_encoder"] == 2 * 25 * 4 * c * (300 + c)
