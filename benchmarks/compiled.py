"""Whether torch.compile pays for the quick preset on this machine."""

import copy
import time
from functools import partial
from typing import Any

import torch

from benchmarks.sizes import make_batch, make_network
from benchmarks.timing import forward_backward, in_turns
from shnet_lib.model.shnet import ModelConfig


def measure_compiled(config: ModelConfig, repeats: int) -> dict[str, Any]:
    """Milliseconds a step, as it stands and compiled, and the seconds that compiling takes.

    The backbone is left out of both: the quick preset keeps its features.
    """
    plain = make_network(config)
    compiled = copy.deepcopy(plain)
    compiled.compile(dynamic=True)  # the number of images and of words changes with each batch
    batch = make_batch(config, expressions=32, per_image=2)
    batch["levels"] = plain.backbone(batch.pop("images"))
    steps = {
        name: partial(forward_backward, network, batch, torch.float32)
        for name, network in (("plain", plain), ("compiled", compiled))
    }
    began = time.perf_counter()
    steps["compiled"]()
    compiling = time.perf_counter() - began
    seconds = in_turns(steps, repeats)
    return {
        "plain, ms per step": 1000 * seconds["plain"],
        "compiled, ms per step": 1000 * seconds["compiled"],
        "times faster": seconds["plain"] / seconds["compiled"],
        "seconds to compile": compiling,
    }
