"""What every section measures with: the device, its clock and its memory, and the way out."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from benchmarks.gpu.children import in_one_line
from benchmarks.gpu.record import rounded
from benchmarks.literal import literal_version
from benchmarks.memory import PeakBytes
from benchmarks.sizes import TINY, make_batch, make_network
from shnet_lib.model.shnet import CHOICES, ModelConfig, SHNet
from shnet_lib.training.config import PRESETS
from shnet_lib.training.evaluate import to_device

PRESET = PRESETS["unc-320"]
SHARED = PRESET.expressions_per_image  # expressions per image
DROPOUTS = [each.name for each in fields(ModelConfig) if each.name.endswith("dropout")]
NO_DROPOUT = dict.fromkeys(DROPOUTS, 0.0)  # where two versions are compared


class Bench:
    """The tools of one section, in the section's own process.

    Attributes:
        tiny: small sizes and one repetition; the figures say nothing.
        ends: when the section has to be done, by time.monotonic().
        scratch: a folder for files that nobody needs afterwards.
        out: the folder of the results.
        earlier: the sections before this one, as gpu.json has them.
        start: how further processes are started ("fork", or "spawn").
    """

    def __init__(
        self,
        send: Callable[[dict], None],
        tiny: bool,
        ends: float,
        scratch: Path,
        out: Path,
        earlier: dict[str, Any],
        start: str = "fork",
    ) -> None:
        self.send, self.tiny, self.ends, self.start = send, tiny, ends, start
        self.scratch, self.out, self.earlier = scratch, out, earlier

    @property
    def device(self) -> torch.device:
        """Asked for late: a section that only starts other processes must not touch the GPU."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def measure(self, name: str, measure: Callable[[], dict], **labels: Any) -> dict | None:
        """Send `measure()` as a row, with its name and labels; or why there is no figure.

        Whatever fails, the memory of the device is given back, and the next measurement can come.
        """
        row = {"name": name, **labels}
        found = None
        if self.left() <= 0:
            self.send(row | {"skipped": "no time left"})
            return None
        try:
            found = measure()
            row |= rounded(found)
        except Exception as error:
            traceback.print_exc()
            row["failed"] = in_one_line(error)
        self.send(row)
        self.free()
        return found

    # --- the device ---

    def synchronize(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()

    def free(self) -> None:
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def time(self, run: Callable[[], Any], seconds: float = 1.5) -> dict[str, float]:
        """Milliseconds of a run: the median of 3 to 30, as many as the seconds hold.

        The GPU's own events stand between the runs, so that nothing waits for the host inside.
        """
        for _ in range(1 if self.tiny else 2):
            run()
        self.synchronize()
        began = time.perf_counter()
        run()
        self.synchronize()
        one = time.perf_counter() - began
        count = 1 if self.tiny else min(max(int(seconds / one), 3), 30)
        if self.device.type == "cuda":
            events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
            events[0].record()
            for event in events[1:]:
                run()
                event.record()
            torch.cuda.synchronize()
            pairs = zip(events, events[1:], strict=False)
            times = [before.elapsed_time(after) for before, after in pairs]
        else:
            times = []
            for _ in range(count):
                began = time.perf_counter()
                run()
                times.append(1000 * (time.perf_counter() - began))
        return {"ms": median(times), "fastest ms": min(times), "runs": count}

    def peak(self, run: Callable[[], Any]) -> dict[str, float]:
        """MiB in tensors at the fullest moment of a run, all that was there before it included.

        On a CPU only what the run itself makes.
        """
        if self.device.type != "cuda":
            with PeakBytes() as count:
                run()
            return {"peak MiB": count.peak / 2**20}
        self.free()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return {
            "peak MiB": torch.cuda.max_memory_allocated() / 2**20,
            "reserved MiB": torch.cuda.max_memory_reserved() / 2**20,
        }

    @contextmanager
    def arithmetic(self, precision: str) -> Iterator[None]:
        """fp32 as IEEE has it unless "tf32" is asked for; "bf16" is for `autocast`, in the forward.

        The older of torch's two ways to say it: the compiler reads that one.
        """
        tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        try:
            yield
        finally:  # as torch starts
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True

    def autocast(self, precision: str):
        bf16 = precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()

    # --- networks ---

    def config(self, form: str, **changes: Any) -> ModelConfig:
        """unc-320 on a ResNet-101 of random weights, with one of SFM's forms."""
        paper = replace(PRESET.model, backbone="resnet101", backbone_weights="random")
        return replace(TINY if self.tiny else paper, sfm=form, **changes)

    @property
    def forms(self) -> list[str]:
        """Of SFM, the preset's first."""
        own = PRESET.model.sfm
        others = [form for form in CHOICES["sfm"] if form not in (own, "none")]
        return [own] if self.tiny else [own, *others]

    @property
    def expressions(self) -> int:
        return 4 if self.tiny else PRESET.batch_size

    def network(self, config: ModelConfig, literal: bool = False) -> SHNet:
        """Made where it is used: the starts of 100 million weights take seconds on a CPU."""
        with self.device:
            network = make_network(config)
            return literal_version(network) if literal else network

    def batch(self, config: ModelConfig, expressions: int, per_image: int) -> dict:
        per_image = min(per_image, 2) if self.tiny else per_image
        return to_device(make_batch(config, expressions, per_image), self.device)

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device)


class Step:
    """A training step: forward, loss, backward, optimiser. The literal one takes AdamW as it comes,
    the library's is fused, as `fit` has it."""

    def __init__(
        self, bench: Bench, network: nn.Module, batch: dict, precision: str, fused: bool = True
    ) -> None:
        self.bench, self.network, self.batch, self.precision = bench, network, batch, precision
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = AdamW(trained, lr=1e-6, fused=fused or None)

    def __call__(self) -> Tensor:
        with self.bench.autocast(self.precision):
            logits = self.network(self.batch).float()
        loss = F.binary_cross_entropy_with_logits(logits, self.batch["target"])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()
