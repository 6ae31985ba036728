"""What it saves on a CPU to keep freed memory: the setting of glibc that the Makefile exports.

    python -m benchmarks.allocator        one process's milliseconds a step, with what it finds set

A large tensor is otherwise a mapping of its own: freed after its use, given back to the system,
and mapped and cleared anew, page by page, in the next step.
"""

import os
import subprocess
import sys
from statistics import median
from typing import Any

import torch

from benchmarks.sizes import TINY, make_batch, make_network
from benchmarks.timing import forward_backward, in_turns
from shnet_lib.training.config import PRESETS

SETTING = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
VARIABLE = "GLIBC_TUNABLES"


def measure_allocator(repeats: int, tiny: bool) -> dict[str, Any]:
    """Milliseconds a step of the quick preset, in processes that take turns."""
    command = [sys.executable, "-m", "benchmarks.allocator", *(["--tiny"] if tiny else [])]
    others = {name: value for name, value in os.environ.items() if name != VARIABLE}
    settings = {"memory given back": others, "memory kept": others | {VARIABLE: SETTING}}
    found: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(repeats):
        for name, environment in settings.items():
            run = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            )
            found[name].append(float(run.stdout))
    milliseconds = {name: median(values) for name, values in found.items()}
    return {
        **{f"{name}, ms per step": value for name, value in milliseconds.items()},
        "times faster": milliseconds["memory given back"] / milliseconds["memory kept"],
    }


def one_process(tiny: bool) -> float:
    config = TINY if tiny else PRESETS["quick"].model
    network, batch = make_network(config), make_batch(config, expressions=32, per_image=2)
    step = {"step": lambda: forward_backward(network, batch, torch.float32)}
    return 1000 * in_turns(step, 2 if tiny else 30)["step"]


if __name__ == "__main__":
    print(one_process("--tiny" in sys.argv))
