"""Section 2: does this device compute what a CPU computes?"""

import copy
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.bench import NO_DROPOUT, Bench
from benchmarks.sizes import TINY, make_batch, make_network
from shnet_lib.training.evaluate import to_device

# The largest difference that rounding explains, as a share of the largest value (of gradients: of
# their length). fp32 gradients differ that much between any two orders of summation.
LIMITS = {
    "outputs fp32": 1e-4,
    "gradients fp32": 1e-2,
    "outputs float64": 1e-10,
    "gradients float64": 1e-8,
    "probabilities bf16": 0.05,
}
POOLINGS = ((8, 16), (40, 36), (20, 36), (10, 36))  # enlarging, not dividing, the network's own


def measure_right(bench: Bench) -> None:
    for form in bench.forms:
        for dtype, name in ((torch.float32, "fp32"), (torch.float64, "float64")):
            compare = partial(against_cpu, bench, form, dtype)
            bench.measure(f"against the CPU, {name}", compare, sfm=form)
        bench.measure("bf16 against fp32", partial(bf16_against_fp32, bench, form), sfm=form)
    for length, pooled in POOLINGS:
        row = partial(pool_against_cpu, bench, length, pooled)
        bench.measure("adaptive max-pooling", row, of=length, to=pooled)


def small(form: str) -> tuple[nn.Module, dict]:
    """The network of the tests on a CPU, and a batch in which some expressions are padded."""
    network = make_network(replace(TINY, sfm=form, **NO_DROPOUT))
    batch = make_batch(network.config, expressions=6, per_image=2)
    batch["word_mask"][1::2, 5:] = False
    return network, batch


def against_cpu(bench: Bench, form: str, dtype: torch.dtype) -> dict:
    network, batch = small(form)
    batch |= {name: batch[name].to(dtype) for name in ("images", "target")}
    network = network.to(dtype)
    here = copy.deepcopy(network).to(bench.device)
    with bench.arithmetic("fp32"):
        expected, found = (
            _outputs_and_gradients(*pair)
            for pair in ((network, batch), (here, to_device(batch, bench.device)))
        )
    name = str(dtype).removeprefix("torch.").replace("float32", "fp32")
    outputs = (found[0] - expected[0]).abs().max() / expected[0].abs().max()
    gradients = (found[1] - expected[1]).norm() / expected[1].norm()
    return _judged({f"outputs {name}": float(outputs), f"gradients {name}": float(gradients)})


def _outputs_and_gradients(network: nn.Module, batch: dict) -> tuple[Tensor, Tensor]:
    logits = network(batch)
    F.binary_cross_entropy_with_logits(logits, batch["target"]).backward()
    gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return logits.detach().cpu(), torch.cat(gradients).cpu()


def bf16_against_fp32(bench: Bench, form: str) -> dict:
    network, batch = small(form)
    network, batch = network.to(bench.device), to_device(batch, bench.device)
    with torch.no_grad(), bench.arithmetic("fp32"):
        exact = network(batch)
        with bench.autocast("bf16"):
            rounded = network(batch).float()
    difference = (rounded.sigmoid() - exact.sigmoid()).abs().max()
    return _judged({"probabilities bf16": float(difference)})


def pool_against_cpu(bench: Bench, length: int, pooled: int) -> dict:
    """Forward it only chooses, so that every bit is the same; backward it adds up."""
    torch.manual_seed(0)
    level = torch.randn(2, 8, length, length)
    weights = torch.randn(2, 8, pooled, pooled)
    results = []
    for device in (torch.device("cpu"), bench.device):
        there = level.to(device).requires_grad_()
        output = F.adaptive_max_pool2d(there, pooled)
        (output * weights.to(device)).sum().backward()
        results.append((output.detach().cpu(), there.grad.cpu()))
    (expected, expected_grad), (output, grad) = results
    same = torch.equal(output, expected)
    difference = float((grad - expected_grad).norm() / expected_grad.norm())
    return {"outputs equal": same, "gradients": difference, "right": same and difference < 1e-5}


def _judged(differences: dict[str, float]) -> dict:
    right = all(value < LIMITS[name] for name, value in differences.items())
    return {**differences, "right": right}
