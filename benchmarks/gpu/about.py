"""Section 1: which device this is, and the most that can be asked of it."""

import os
import platform
import subprocess
from functools import partial

import psutil
import torch
import torch.nn.functional as F

from benchmarks.gpu.bench import Bench

SMI = (
    "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,power.draw,"
    "temperature.gpu,ecc.mode.current"
)
PRECISIONS = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}


def measure_device(bench: Bench) -> None:
    bench.measure("device", partial(describe, bench))
    bench.measure("nvidia-smi, at rest", ask_driver)
    for precision in PRECISIONS:
        product = partial(matrix_product, bench, precision)
        bench.measure("matrix product", product, precision=precision)
    bench.measure("nvidia-smi, just after", ask_driver)
    for precision in PRECISIONS:
        row = partial(convolution, bench, precision)
        bench.measure("3 x 3 convolution, forward", row, precision=precision)
    bench.measure("copy within the device", partial(copy, bench))
    bench.measure("a launch", partial(launch, bench))


def describe(bench: Bench) -> dict:
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "GiB of the host": psutil.virtual_memory().total / 2**30,
    }
    if bench.device.type == "cuda":
        its = torch.cuda.get_device_properties(0)
        found |= {
            "GPU": its.name,
            "GiB": its.total_memory / 2**30,
            "multiprocessors": its.multi_processor_count,
            "capability": f"{its.major}.{its.minor}",
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    return found


def ask_driver() -> dict:
    """What nvidia-smi says of the first GPU; nothing is set."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", f"--query-gpu={SMI}", "--format=csv,noheader", "--id=0"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except FileNotFoundError:
        return {"said": "there is no nvidia-smi"}
    if asked.returncode:
        return {"said": (asked.stdout + asked.stderr).strip()[:200]}
    return dict(zip(SMI.split(","), asked.stdout.strip().split(", "), strict=False))


def matrix_product(bench: Bench, precision: str) -> dict:
    """Of random numbers: on zeros a GPU draws less power and is faster."""
    size = 256 if bench.tiny else 8192
    a, b = (bench.noise(size, size).to(PRECISIONS[precision]) for _ in range(2))
    with bench.arithmetic(precision):
        found = bench.time(lambda: a @ b)
    return {"size": size, **found, "TFLOP/s": 2 * size**3 / found["ms"] / 1e9}


def convolution(bench: Bench, precision: str) -> dict:
    """The decoder's largest: the whole-network steps cannot come closer to the peak than this."""
    batch, channels, side = (2, 8, 12) if bench.tiny else (50, 512, 72)
    dtype = PRECISIONS[precision]
    maps = bench.noise(batch, channels, side, side).to(dtype)
    weight = bench.noise(channels, channels, 3, 3).to(dtype)
    with bench.arithmetic(precision):
        found = bench.time(lambda: F.conv2d(maps, weight, padding=1))
    flop = 2 * 9 * channels**2 * batch * side**2
    return {**found, "TFLOP/s": flop / found["ms"] / 1e9}


def copy(bench: Bench) -> dict:
    numbers = bench.noise(2**16 if bench.tiny else 2**30)
    other = torch.empty_like(numbers)
    found = bench.time(lambda: other.copy_(numbers))
    return {**found, "GB/s, read and written": 2 * numbers.nbytes / found["ms"] / 1e6}


def launch(bench: Bench) -> dict:
    """The least that an operation costs: a step has some thousands of them."""
    number, count = bench.noise(1), 10 if bench.tiny else 1000

    def run() -> None:
        for _ in range(count):
            number.add_(1)

    return {"microseconds": 1000 * bench.time(run)["ms"] / count}
