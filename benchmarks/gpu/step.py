"""Section 3: the step of unc-320, whole, in parts, and in the profiler's eyes."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.bench import SHARED, Bench, Step
from shnet_lib.model.shnet import SHNet

VARIANTS = (  # the name, literal or not, the arithmetic
    ("literal fp32", True, "fp32"),
    ("library bf16", False, "bf16"),
    ("library bf16, channels_last", False, "bf16"),
    ("library fp32", False, "fp32"),
    ("library tf32", False, "tf32"),
    ("literal bf16", True, "bf16"),
)


def measure_step(bench: Bench) -> None:
    for form in bench.forms:
        for variant in VARIANTS:
            row = partial(whole_step, bench, form, SHARED, *variant)
            bench.measure(variant[0], row, sfm=form, **{"an image": SHARED})
    own = bench.forms[0]
    bench.measure("profile of library bf16", partial(profiled, bench, own), sfm=own)
    measure_parts(bench, own)
    for form in bench.forms:
        for variant in VARIANTS[:1] if bench.tiny else VARIANTS:
            row = partial(whole_step, bench, form, 1, *variant)
            bench.measure(variant[0], row, sfm=form, **{"an image": 1})


def make_step(bench: Bench, form: str, per_image: int, literal: bool, precision: str) -> Step:
    config = bench.config(form)
    network = bench.network(config, literal)
    batch = bench.batch(config, bench.expressions, per_image)
    return Step(bench, network, batch, precision, fused=not literal)


def whole_step(
    bench: Bench, form: str, per_image: int, name: str, literal: bool, precision: str
) -> dict:
    with bench.arithmetic(precision):
        step = make_step(bench, form, per_image, literal, precision)
        if "channels_last" in name:
            step.network.to(memory_format=torch.channels_last)
            images = step.batch["images"].contiguous(memory_format=torch.channels_last)
            step.batch["images"] = images
        found = bench.time(step, seconds=1.0)
        found |= bench.peak(step)
        with FlopCounterMode(display=False) as counter:
            loss = step()
    flop = counter.get_total_flops()
    rate = flop / found["ms"] / 1e9
    found |= {"expressions/s": 1000 * bench.expressions / found["ms"], "TFLOP": flop / 1e12}
    found |= {"TFLOP/s": rate, "loss": float(loss)}
    if peak := peak_rate(bench, precision):
        found["share of the measured peak"] = rate / peak
    return found


def peak_rate(bench: Bench, precision: str) -> float | None:
    """TFLOP/s of the first section's matrix product; None where that was not measured."""
    for row in bench.earlier.get("device", {}).get("rows", []):
        if (row["name"], row.get("precision")) == ("matrix product", precision):
            return row.get("TFLOP/s")
    return None


# --- parts ----------------------------------------------------------------------------------------


def measure_parts(bench: Bench, form: str) -> None:
    """Each part in bf16, on what comes to it in the whole network: forward, and backward to its
    inputs and weights (of the backbone only forward)."""
    runs: dict[str, Callable[[], None]] = {}

    def prepare() -> dict:
        runs.update(runs_of_parts(bench, make_step(bench, form, SHARED, False, "bf16")))
        return {"parts": len(runs)}

    labels = {"sfm": form, "an image": SHARED}
    bench.measure("parts", prepare, **labels)
    for name, run in runs.items():
        bench.measure(f"part: {name}", partial(bench.time, run, seconds=0.5), **labels)


def runs_of_parts(bench: Bench, step: Step) -> Iterator[tuple[str, Callable[[], None]]]:
    network, batch = step.network, step.batch
    modules = parts_of(network)
    for name, arguments in arguments_of(bench, network, batch).items():
        yield name, partial(run_part, bench, modules[name], arguments)
    logits = network.config.grid * 4, network.config.grid * 4
    maps = bench.noise(len(batch["words"]), 1, *logits).requires_grad_()
    yield "last doubling and loss", partial(run_loss, network, maps, batch["target"])
    step()
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    yield "AdamW", step.optimizer.step


def parts_of(network: SHNet) -> dict[str, nn.Module]:
    projections = {f"projection {n}": part for n, part in enumerate(network.projections, start=2)}
    return {
        "backbone": network.backbone,
        **projections,
        "words": network.word_encoder,
        "SFM": network.sfm,
        "HCAM": network.fusion,
        "ASPP": network.aspp,
        "up-sampling": network.upsample,
    }


def arguments_of(bench: Bench, network: SHNet, batch: dict) -> dict[str, tuple]:
    """What each part is called with in a forward pass in bf16: types and layouts as they are."""
    seen: dict[str, tuple] = {}
    hooks = []
    for name, part in parts_of(network).items():

        def keep(module: nn.Module, arguments: tuple, name: str = name) -> None:
            seen[name] = tree_map(_leaf, arguments)

        hooks.append(part.register_forward_pre_hook(keep))
    with torch.no_grad(), bench.autocast("bf16"):
        network(batch)
    for hook in hooks:
        hook.remove()
    return seen


def _leaf(value):
    if not isinstance(value, Tensor):
        return value
    return value.detach().clone().requires_grad_(value.is_floating_point())


def run_part(bench: Bench, part: nn.Module, arguments: tuple) -> None:
    for tensor in (*part.parameters(), *tree_leaves(arguments)):
        if isinstance(tensor, Tensor):
            tensor.grad = None
    with bench.autocast("bf16"):
        output = part(*arguments)
    outputs = [each for each in tree_leaves(output) if isinstance(each, Tensor)]
    outputs = [each for each in outputs if each.requires_grad]
    if outputs:
        torch.autograd.backward(outputs, [torch.ones_like(each) for each in outputs])


def run_loss(network: SHNet, maps: Tensor, target: Tensor) -> None:
    maps.grad = None
    size = network.config.image_size
    logits = F.interpolate(maps, size=size, mode="bilinear", align_corners=False).squeeze(1)
    F.binary_cross_entropy_with_logits(logits, target).backward()


# --- the profiler ---------------------------------------------------------------------------------


def profiled(bench: Bench, form: str) -> dict:
    """The kernels of a step by time, and the share of the step in which any of them runs."""
    step = make_step(bench, form, SHARED, False, "bf16")
    unwatched = bench.time(step)["ms"]
    cuda = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    steps = 1 if bench.tiny else 3
    with profile(activities=activities) as watched:
        for _ in range(steps):
            step()
        bench.synchronize()
    times: dict[str, tuple[float, int]] = {}
    for event in watched.events():
        on_device = event.device_type == torch.autograd.DeviceType.CUDA
        # A named stretch of time (the optimiser's step) lies over its kernels: not counted twice.
        named = getattr(event, "is_user_annotation", False) or event.name.startswith("Optimizer.")
        if on_device == cuda and not (cuda and named):
            spent = event.time_range.elapsed_us() if cuda else event.self_cpu_time_total
            before, count = times.get(event.name, (0.0, 0))
            times[event.name] = before + spent / 1000 / steps, count + 1
    ranked = sorted(times.items(), key=lambda item: -item[1][0])[:25]
    together = sum(spent for spent, _ in times.values())
    kernels = [
        {"kernel": name[:120], "ms": spent, "share": spent / together, "calls": count / steps}
        for name, (spent, count) in ranked
    ]
    calls = sum(count for _, count in times.values()) / steps
    busy = {"ms": unwatched, "ms in kernels": together, "busy": together / unwatched}
    return {**busy, "kernels per step": calls, "kernels": kernels}
