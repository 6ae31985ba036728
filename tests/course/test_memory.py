"""The memory of a backward pass, counted: against sums that can be done by hand."""

import torch
from torch import nn

from shnet_course.measure.memory import saved_bytes
from shnet_lib.model.sfm import ReleasedSFM


def test_a_linear_layer_keeps_its_input_and_not_its_weight():
    linear, x = nn.Linear(7, 5), torch.randn(3, 7)
    assert saved_bytes(lambda: linear(x), linear) == 4 * 3 * 7
    weights = 4 * 7 * 5  # needed where the input's gradient is wanted
    assert saved_bytes(lambda: linear(x.requires_grad_())) == 4 * 3 * 7 + weights
    assert saved_bytes(lambda: linear(x), linear) == 4 * 3 * 7


def test_a_storage_counts_once_however_many_operations_keep_it():
    x = torch.randn(100, requires_grad=True)
    assert saved_bytes(lambda: (x.sin(), x.cos(), x.view(10, 10).exp().sum())) == 2 * 400


def test_nothing_is_kept_without_a_backward_pass():
    linear = nn.Linear(7, 5)
    with torch.no_grad():
        assert saved_bytes(lambda: linear(torch.randn(3, 7)), linear) == 0


def test_kept_attention_weights_cost_what_the_sum_says():
    """Layers x heads x N x N x 4 bytes more than attention that never stores them, or nearly."""
    layers, heads, count = 2, 4, 300
    block = ReleasedSFM(32, heads, layers, 32)
    joint = torch.randn(1, count, 32, requires_grad=True)
    keep, places = torch.ones(1, count, dtype=torch.bool), torch.zeros(count, 32)
    kept, fused = (
        saved_bytes(lambda weights=weights: block(joint, places, keep, weights), block)
        for weights in (True, False)
    )
    alone = layers * heads * count**2 * 4
    assert abs(kept - fused - alone) < 0.05 * alone
