"""Recomputing saves memory and nothing else: the same gradients, the same running statistics."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from training_helpers import tiny

from shnet_lib.model.shnet import SHNet
from shnet_lib.training.fit import fit
from shnet_lib.training.recompute import recompute_activations

DROPPING = {
    "model.sfm_dropout": 0.4,
    "model.affinity_dropout": 0.4,
    "model.aspp_dropout": 0.4,
    "model.decoder_dropout": 0.4,
    "model.sfm_feedforward": 16,
}


def make_batch() -> dict:
    torch.manual_seed(1)
    lengths = torch.tensor([3, 1, 5, 2])
    return {
        "images": torch.randn(2, 3, 32, 32, dtype=torch.float64),
        "image_index": torch.tensor([0, 0, 1, 1]),
        "words": torch.randint(1, 9, (4, 5)),
        "word_mask": torch.arange(5) < lengths[:, None],
        "target": (torch.rand(4, 32, 32) > 0.7).double(),
    }


def step(network: SHNet, batch: dict) -> tuple[torch.Tensor, int]:
    """Logits and saved bytes of one step; the gradients are left in place."""
    saved: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(2)  # of the dropout
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(batch)
        kept = sum(saved.values())
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["target"])
    loss.backward()
    return logits.detach(), kept


@pytest.mark.parametrize("sfm", ["printed", "released", "none"])
def test_gradients_and_running_statistics_are_the_same(sfm):
    config = replace(tiny(**DROPPING).model, sfm=sfm)
    torch.manual_seed(0)
    plain = SHNet(config, 9).double().train()
    frugal = copy.deepcopy(plain)
    recompute_activations(frugal)
    batch = make_batch()
    (expected, much), (found, little) = (step(network, batch) for network in (plain, frugal))
    assert torch.allclose(found, expected, rtol=1e-12)
    assert little < 0.8 * much
    for (name, one), other in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            assert torch.allclose(other.grad, one.grad, rtol=1e-9, atol=1e-12), name
    for (name, one), other in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12), name
    for each in frugal.upsample.steps:
        assert each[1].num_batches_tracked == 1
        assert each[1].running_mean.abs().max() > 1e-3


def test_it_measures_what_the_plain_network_measures():
    config = tiny()
    torch.manual_seed(0)
    network = SHNet(config.model, 9).double().eval()
    batch = make_batch()
    with torch.no_grad():
        expected = network(batch)
        recompute_activations(network)
        assert torch.allclose(network(batch), expected, rtol=1e-12)
        assert network(batch, return_attention=True)[1][0][0].shape == (4, 4, 21, 21)


def test_a_run_that_recomputes_is_the_run_that_keeps(squares, tmp_path):
    settings = {"steps": 2, "evaluate_every": 1, **DROPPING}
    plain, frugal = (
        fit(tiny(recompute=recompute, **settings), squares, tmp_path / str(recompute)).history
        for recompute in (False, True)
    )
    for one, other in zip(plain, frugal, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["val_overall_iou"] == pytest.approx(one["val_overall_iou"], abs=1e-3)
