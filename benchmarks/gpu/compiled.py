"""Last, for it can take minutes: the step under torch.compile(dynamic=True)."""

import time
from functools import partial

import torch

from benchmarks.gpu.bench import SHARED, Bench, Step
from benchmarks.gpu.step import make_step


def measure_compiled(bench: Bench) -> None:
    """Each form: the seconds to compile, the step, and the step on a batch of another shape."""
    for form in bench.forms:
        compile_form(bench, form)


def compile_form(bench: Bench, form: str) -> None:
    labels = {"sfm": form, "an image": SHARED}
    step: Step | None = None

    def first() -> dict:
        nonlocal step
        step = make_step(bench, form, SHARED, False, "bf16")
        if not bench.tiny:  # where the compiler alone would take longer than all the rest
            step.network.compile(dynamic=True)
        return _seconds(bench, step)

    def steady() -> dict:
        found = bench.time(step)
        found |= {"expressions/s": 1000 * bench.expressions / found["ms"]}
        return found | bench.peak(step)

    if bench.measure("compiling, bf16", first, **labels) is None:
        return
    bench.measure("library bf16, compiled", steady, **labels)
    labels["an image"] = 1
    step.batch = bench.batch(step.network.config, bench.expressions, 1)
    bench.measure("the first step of another shape", partial(_seconds, bench, step), **labels)
    bench.measure("library bf16, compiled", steady, **labels)
    torch.compiler.reset()


def _seconds(bench: Bench, step: Step) -> dict:
    began = time.perf_counter()
    step()
    bench.synchronize()
    return {"seconds": time.perf_counter() - began}
