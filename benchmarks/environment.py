"""What the environment variables that the Makefile exports save on a CPU.

    python -m benchmarks.environment      milliseconds per step, with what it finds set

GLIBC_TUNABLES keeps freed memory. A large tensor is otherwise a mapping of its own: freed after its
use, given back to the system, and mapped and cleared anew, page by page, in the next step.

The others say what a thread does that waits for another one. torch's threads wait for each other
some hundred times per step, and by default keep their cores busy for long meanwhile. Where other
programs want these cores too, the waiting thread takes one from the thread that it waits for.
GOMP_SPINCOUNT is how often it looks before it sleeps; with OMP_WAIT_POLICY=PASSIVE it sleeps at
once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from benchmarks.sizes import TINY, make_batch, make_network
from benchmarks.timing import forward_backward
from shnet_lib.training.config import PRESETS

MEMORY_KEPT = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"}
SHORT_WAIT = {"GOMP_SPINCOUNT": "10000"}
SETTINGS = {
    "none": {},
    "memory kept": MEMORY_KEPT,
    "memory kept, GOMP_SPINCOUNT=10000": MEMORY_KEPT | SHORT_WAIT,
    "memory kept, OMP_WAIT_POLICY=PASSIVE": MEMORY_KEPT | {"OMP_WAIT_POLICY": "PASSIVE"},
}
VARIABLES = sorted({name for setting in SETTINGS.values() for name in setting})
OTHERS = 2  # programs beside it, each of which wants a core


def measure_environment(repeats: int, tiny: bool) -> list[dict[str, Any]]:
    """Milliseconds per step of the quick preset, in processes that take turns: the fastest of each.

    What else the machine does can only add to a time.
    """
    command = [sys.executable, "-m", "benchmarks.environment", *(["--tiny"] if tiny else [])]
    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for others in (0, OTHERS):
            for name, setting in SETTINGS.items():
                with busy(others):
                    run = subprocess.run(
                        command, env=plain | setting, check=True, capture_output=True, text=True
                    )
                found.setdefault((name, others), []).append(float(run.stdout))
    return [
        {
            "set": name,
            "alone, ms per step": min(found[name, 0]),
            f"beside {OTHERS} other programs, ms per step": min(found[name, OTHERS]),
        }
        for name in SETTINGS
    ]


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many programs that do nothing but compute, as long as the block lasts."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def one_process(tiny: bool) -> float:
    """The mean over the steps: on a busy machine some wait long, and these count too."""
    config = TINY if tiny else PRESETS["quick"].model
    network, batch = make_network(config), make_batch(config, expressions=32, per_image=2)
    forward_backward(network, batch, torch.float32)
    steps = 2 if tiny else 20
    began = perf_counter()
    for _ in range(steps):
        forward_backward(network, batch, torch.float32)
    return 1000 * (perf_counter() - began) / steps


if __name__ == "__main__":
    print(one_process("--tiny" in sys.argv))
