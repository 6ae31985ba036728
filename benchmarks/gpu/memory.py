"""Section 6: the memory of a step over the grid, with and without `recompute`, and what fits."""

from functools import partial

from benchmarks.gpu.bench import FORMS, SHARED, Bench, Step
from shnet_lib.training.recompute import recompute_activations

GRIDS = (18, 20, 28, 40)
CARDS = (11, 24, 80)  # GiB
ASIDE = 1.0  # GiB for CUDA itself and for what lies unused between tensors


def measure_memory(bench: Bench) -> None:
    grids = (4, 6) if bench.tiny else GRIDS
    for grid in reversed(grids):  # the largest first: it is the one that is asked about
        for recompute in (True, False):
            labels = {"grid": grid, "recompute": recompute}
            row = partial(of_a_step, bench, grid, recompute)
            bench.measure("a step, bf16", partial(row, SHARED), **labels, **{"an image": SHARED})
            bench.measure("a step, bf16", partial(row, 1), **labels, **{"an image": 1})
            fit = partial(largest_batch, bench, grid, recompute)
            bench.measure("largest batch", fit, **labels, **{"an image": SHARED})


def make_step(bench: Bench, grid: int, recompute: bool, per_image: int, expressions: int) -> Step:
    config = bench.config(FORMS[-1], grid=grid)
    network = bench.network(config)
    if recompute:
        recompute_activations(network)
    return Step(bench, network, bench.batch(config, expressions, per_image), "bf16")


def of_a_step(bench: Bench, grid: int, recompute: bool, per_image: int) -> dict:
    step = make_step(bench, grid, recompute, per_image, bench.expressions)
    step()  # AdamW makes its averages
    found = bench.peak(step)
    time = bench.time(step, seconds=0.5)["ms"]
    return found | {"peak GiB": found["peak MiB"] / 1024, "ms": time}


def largest_batch(bench: Bench, grid: int, recompute: bool) -> dict:
    """From two batches: what a sample takes, what is there without any, and so what fits."""
    counts = (4, 8) if bench.tiny else (25, 50)
    peaks = []
    for expressions in counts:
        step = make_step(bench, grid, recompute, SHARED, expressions)
        step()
        peaks.append(bench.peak(step)["peak MiB"])
        del step
    sample = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    fixed = peaks[0] - sample * counts[0]
    found = {"MiB a sample": sample, "MiB without": fixed}
    for card in CARDS:
        room = 1024 * (card - ASIDE) - fixed
        found[f"fits {card} GiB"] = int(room / sample) if sample > 0 else 0
    return found
