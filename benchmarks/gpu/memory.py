"""Section 6: the memory of a step over the grid, with and without `recompute`, and what fits."""

from functools import partial

from benchmarks.gpu.bench import SHARED, Bench, Step
from shnet_course.measure.training import ASIDE
from shnet_lib.training.recompute import recompute_activations

GRIDS = (18, 20, 28, 40)
CARDS = (11, 24, 80)  # GiB


def measure_memory(bench: Bench) -> None:
    """The widest grid first: it is the one that is asked about."""
    grids = (6,) if bench.tiny else GRIDS
    for grid in reversed(grids):
        for recompute in (True, False):
            for per_image in (SHARED, 1) if grid in (grids[0], grids[-1]) else (SHARED,):
                row = partial(of_a_step, bench, grid, recompute, per_image)
                labels = {"grid": grid, "recompute": recompute, "an image": per_image}
                bench.measure("a step, bf16", row, **labels)


def of_a_step(bench: Bench, grid: int, recompute: bool, per_image: int) -> dict:
    """The peaks of two batches say what a sample takes and what is there without any; so what fits
    a card."""
    config = bench.config(bench.forms[0], grid=grid)
    network = bench.network(config)
    if recompute:
        recompute_activations(network)
    few, many = bench.expressions // 2, bench.expressions
    peaks = {}
    for expressions in (few, many):
        step = Step(bench, network, bench.batch(config, expressions, per_image), "bf16")
        step()  # AdamW makes its averages
        peaks[expressions] = bench.peak(step)["peak MiB"]
        ms = bench.time(step, seconds=0.5)["ms"]
    sample = (peaks[many] - peaks[few]) / (many - few)
    fixed = peaks[many] - sample * many
    found = {"batch": many, "ms": ms, "peak GiB": peaks[many] / 1024}
    found |= {"MiB per sample": sample, "MiB without": fixed}
    for card in CARDS:
        room = 1024 * (card - ASIDE) - fixed
        found[f"fits {card} GiB"] = int(room / sample) if sample > 0 else 0
    return found
