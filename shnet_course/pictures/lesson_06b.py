"""Pictures of lesson 06b: who waits for whom, replicas and their all-reduce, rates of a GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from shnet_course.pictures.base import PALETTE
from shnet_lib.training.limits import PREFETCH

READ = "read"  # in a lane, the host's wait for a number


@dataclass(frozen=True)
class Span:
    """`number` (from 1) is at work in `lane` from `start` to `end`, ms."""

    lane: str
    number: int | str
    start: float
    end: float


# ---------------------------------------------------------------- who waits for whom


def reading_steps(host: float, device: float, steps: int, read: bool) -> list[Span]:
    """Steps that the host sends (`host` ms each) and the device computes (`device` ms each).

    With `read` the host reads a number of each step, and so waits until the step is computed.
    """
    spans, sent, done = [], 0.0, 0.0
    for number in range(1, steps + 1):
        spans.append(Span("CPU", number, sent, sent + host))
        sent += host
        start = max(sent, done)
        done = start + device
        spans.append(Span("GPU", number, start, done))
        if read:
            spans.append(Span("CPU", READ, sent, done))
            sent = done
    return spans


def feeding_steps(load: float, compute: float, workers: int, steps: int) -> list[Span]:
    """Batches that are loaded (`load` ms each) and computed (`compute` ms each).

    Without workers one process does both in turns. Each worker loads every `workers`-th batch and
    stops when `PREFETCH` of its own wait.
    """
    lanes = [f"worker {number + 1}" for number in range(workers)] or ["main process"]
    spans: list[Span] = []
    free = dict.fromkeys(lanes, 0.0)  # when the lane has finished its last batch
    begun: list[float] = []  # when the device took each batch
    done = 0.0
    for index in range(steps):
        lane = lanes[index % len(lanes)]
        waits_for = index - PREFETCH * workers
        room = begun[waits_for] if workers and waits_for >= 0 else 0.0
        start = max(free[lane], room) if workers else max(free[lane], done)
        free[lane] = start + load
        spans.append(Span(lane, index + 1, start, start + load))
        begun.append(max(free[lane], done))
        done = begun[-1] + compute
        spans.append(Span("device", index + 1, begun[-1], done))
    return spans


def share_busy(spans: Sequence[Span], lane: str) -> float:
    """The share of the time, from the lane's first work to its last, in which it works."""
    own = [span for span in spans if span.lane == lane]
    worked = sum(span.end - span.start for span in own)
    return worked / (own[-1].end - own[0].start)


def draw_timelines(panels: Mapping[str, Sequence[Span]], busy: str) -> Figure:
    """One panel under the other, one row per lane; the title tells how busy the lane `busy` is."""
    lanes = {title: list(dict.fromkeys(s.lane for s in spans)) for title, spans in panels.items()}
    for names in lanes.values():  # the one that is asked about stands at the bottom
        names.sort(key=lambda name: name == busy)
    heights = [len(names) + 1.2 for names in lanes.values()]
    figure = Figure(figsize=(9.8, 0.42 * sum(heights) + 0.5))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    last = max(span.end for spans in panels.values() for span in spans)
    for ax, (title, spans) in zip(axes, panels.items(), strict=True):
        rows = {lane: -row for row, lane in enumerate(lanes[title])}
        for span in spans:
            _draw_span(ax, span, rows[span.lane], last)
        ax.set_yticks(list(rows.values()), list(rows))
        ax.set(xlim=(0, last), ylim=(0.6 - len(rows), 0.5))
        ax.set_title(f"{title}: {busy} busy {share_busy(spans, busy):.0%}", loc="left")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[-1].set_xlabel("ms")
    return figure


def _draw_span(ax: Axes, span: Span, row: int, last: float) -> None:
    waits = span.number == READ
    colour = "0.85" if waits else PALETTE[(int(span.number) - 1) % 6]
    ax.barh(row, span.end - span.start, left=span.start, height=0.7, color=colour,
            edgecolor="0.3", hatch="//" if waits else None, linewidth=0.7)  # fmt: skip
    if span.end - span.start > 0.02 * last:
        ax.text((span.start + span.end) / 2, row, str(span.number), ha="center", va="center",
                fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip


def draw_reading(host: float, device: float, steps: int = 6) -> Figure:
    """A number read in each step, and none read."""
    panels = {
        "a number is read in every step": reading_steps(host, device, steps, read=True),
        "no number is read": reading_steps(host, device, steps, read=False),
    }
    figure = draw_timelines(panels, "GPU")
    shares = [f"{share_busy(spans, 'GPU'):.0%}" for spans in panels.values()]
    figure.set_label(
        f"CPU and GPU over {steps} steps. With a number read in every step the CPU waits for each "
        f"step, and the GPU then waits for the CPU: it is busy {shares[0]} of the time. Without, "
        f"the CPU runs ahead and the GPU is busy {shares[1]}."
    )
    return figure


def draw_feeding(load: float, compute: float, workers: int, steps: int = 16) -> Figure:
    """A device without workers, and with some."""
    panels = {
        f"{count or 'no'} worker{'s' if count != 1 else ''}": feeding_steps(
            load, compute, count, steps
        )
        for count in dict.fromkeys((0, workers))
    }
    figure = draw_timelines(panels, "device")
    told = ", ".join(f"{name}: {share_busy(spans, 'device'):.0%}" for name, spans in panels.items())
    figure.set_label(
        f"Loading a batch takes {load:.1f} ms, computing it {compute:.1f} ms. The device is busy "
        f"with {told} of the time."
    )
    return figure


# ---------------------------------------------------------------- several GPUs


def draw_replicas() -> Figure:
    """One step on two GPUs: shares of the batch, equal networks, one averaged gradient."""
    figure = Figure(figsize=(9.8, 3.6))
    ax = figure.subplots()
    ax.set(xlim=(0, 10), ylim=(0, 4))
    ax.set_axis_off()
    _box(ax, 0.1, 1.5, 1.2, 1.0, "batch of 50\n(sampler)", "white")
    for number, y in enumerate((2.6, 0.4)):
        colour = PALETTE[4 if number == 0 else 1]
        ax.text(1.75, y + 1.05, f"process {number}, GPU {number}", fontsize=9, color="0.3")
        _box(ax, 1.75, y, 1.3, 0.9, "its 25\nexpressions", colour)
        _box(ax, 3.5, y, 1.5, 0.9, "whole network\nsame weights", "0.92")
        _box(ax, 5.4, y, 1.2, 0.9, f"gradient\n$g_{number}$", colour)
        _box(ax, 8.2, y, 1.7, 0.9, "AdamW's step:\nsame weights again", "0.92")
        _arrow(ax, (1.3, 2.0), (1.75, y + 0.45))
        _arrow(ax, (3.05, y + 0.45), (3.5, y + 0.45))
        _arrow(ax, (5.0, y + 0.45), (5.4, y + 0.45))
        _arrow(ax, (6.0, y if number == 0 else y + 0.9), (6.7, 2.45 if number == 0 else 1.55))
        _arrow(ax, (7.5, 2.45 if number == 0 else 1.55), (8.2, y + 0.45))
    _box(ax, 6.3, 1.55, 1.5, 0.9, "all-reduce\n$(g_0 + g_1) / 2$", PALETTE[6])
    figure.set_label(
        "Two processes, each with a GPU. The sampler gives each 25 of 50 expressions. Both hold "
        "the whole network with the same weights and compute a gradient of their share. The "
        "all-reduce gives both the mean, so that AdamW takes the same step twice and the weights "
        "stay the same."
    )
    return figure


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    style = "round,pad=0.02,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=colour, edgecolor="0.3"))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color="0.3"))


# ---------------------------------------------------------------- figures as bars


def draw_steps(rows: Sequence[Mapping]) -> Figure:
    """The table of the lesson: expressions per second and MiB, a bar for each row that has them."""
    rows = [row for row in rows if "ms/step" in row]
    figure = Figure(figsize=(9.8, 0.36 * len(rows) + 1.0))
    axes = figure.subplots(1, 2, sharey=True)
    names = [row["step"] for row in rows]
    for ax, column, colour in zip(axes, ("samples/s", "peak MiB"), PALETTE, strict=False):
        _bars(ax, dict(zip(names, (row[column] for row in rows), strict=True)), column, colour)
    told = "; ".join(f"{r['step']}: {r['samples/s']:.0f}, {r['peak MiB']:.0f} MiB" for r in rows)
    figure.set_label(f"Samples per second, and MiB at the peak, after each change. {told}.")
    return figure


def draw_throughput(title: str, rates: Mapping[str, float]) -> Figure:
    """Expressions per second of a GPU by variant; the title says where they are from."""
    figure = Figure(figsize=(9.8, 0.36 * len(rates) + 1.2))
    ax = figure.subplots()
    _bars(ax, rates, "expressions/s", PALETTE[2])
    ax.set_title(title, loc="left")
    told = "; ".join(f"{name}: {rate:,.0f}" for name, rate in rates.items())
    figure.set_label(f"{title}. Expressions per second at the paper's size: {told}.")
    return figure


def _bars(ax: Axes, values: Mapping[str, float], label: str, colour: str) -> None:
    bars = ax.barh(list(values), list(values.values()), color=colour)
    ax.bar_label(bars, [f"{value:,.0f}" for value in values.values()], padding=3, fontsize=9)
    ax.set(xlabel=label, xlim=(0, 1.18 * max(values.values())))
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
