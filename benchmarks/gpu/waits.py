"""Section 5: what it costs that the host reads a number, and so waits for all of the step."""

import time
from functools import partial
from statistics import median

from torch.optim import AdamW

from benchmarks.gpu.bench import SHARED, Bench
from benchmarks.sizes import TINY
from shnet_lib.model.shnet import ModelConfig
from shnet_lib.training.config import PRESETS, configure
from shnet_lib.training.fit import read_figures, train_step
from shnet_lib.training.prepare import make_accelerator

EVERY = (1, 10, 20)


def measure_waits(bench: Bench) -> None:
    quick = TINY if bench.tiny else PRESETS["quick"].model
    sizes = {
        "unc-320": (bench.config(bench.forms[0]), bench.expressions, SHARED),
        "quick": (quick, 4 if bench.tiny else 32, 2),
    }
    for preset, (model, expressions, per_image) in sizes.items():
        row = partial(read_often_and_seldom, bench, model, expressions, per_image)
        bench.measure(f"{preset}, bf16, the library's step", row)


def read_often_and_seldom(
    bench: Bench, model: ModelConfig, expressions: int, per_image: int
) -> dict:
    """Milliseconds a step by the clock, the figures read every so many steps, in turns."""
    config = configure("unc-320", precision="bf16")
    accelerator = make_accelerator(config)
    network = bench.network(model)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = AdamW(trained, lr=1e-6, fused=True)
    network, optimizer = accelerator.prepare(network, optimizer)
    batch = bench.batch(model, expressions, per_image)
    if model.backbone == "shapes":  # the quick preset keeps its frozen features
        batch["levels"] = network.backbone(batch.pop("images"))

    def steps(count: int, every: int) -> float:
        bench.synchronize()
        began = time.perf_counter()
        unread = []
        for number in range(1, count + 1):
            unread.append(train_step(network, [batch], accelerator, config))
            optimizer.step()
            optimizer.zero_grad()
            if number % every == 0:
                read_figures(unread)
                unread.clear()
        bench.synchronize()
        return 1000 * (time.perf_counter() - began) / count

    steps(1 if bench.tiny else 5, 1)
    count, turns = (1, 1) if bench.tiny else (20, 3)
    times: dict[int, list[float]] = {every: [] for every in EVERY}
    for _ in range(turns):
        for every in EVERY:
            times[every].append(steps(count, every))
    return {f"ms, read every {every}": median(times[every]) for every in EVERY}
