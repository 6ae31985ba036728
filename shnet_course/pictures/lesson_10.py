"""Pictures of lesson 10: a long run while it runs."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from shnet_course.measure.machine import peak_memory
from shnet_course.pictures.base import PALETTE, live_picture

GIB = 2**30


class LiveRun:
    """Curves that redraw themselves: give `on_steps` and `on_evaluation` to `fit`.

    A point of training stands for the steps since the last one: `every` steps, or those up to an
    evaluation.
    """

    def __init__(
        self,
        samples_per_step: int,
        every: int = 200,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int] = peak_memory,
    ) -> None:
        self.samples_per_step, self.every = samples_per_step, every
        self.clock, self.memory = clock, memory
        self.points: list[dict[str, float]] = []
        self.history: list[dict[str, Any]] = []
        self._rows: list[dict[str, float]] = []
        self._began = clock()
        self._redraw = live_picture()

    def on_steps(self, rows: list[dict[str, float]]) -> None:
        self._rows += rows
        if len(self._rows) >= self.every:
            self._add_point()
            self._show()

    def on_evaluation(self, history: list[dict[str, Any]]) -> None:
        self.history = list(history)
        if self._rows:
            self._add_point(rate=history[-1]["samples_per_second"])
        self._show()
        self._began = self.clock()  # the evaluation's time is none of training's

    def _add_point(self, rate: float | None = None) -> None:
        """`rate` where the clock has run on, through an evaluation."""
        rows, seconds = self._rows, self.clock() - self._began
        union = sum(row["union"] for row in rows)
        self.points.append(
            {
                "step": rows[-1]["step"],
                "loss": sum(row["loss"] for row in rows) / len(rows),
                "iou": sum(row["intersection"] for row in rows) / union if union else 1.0,
                "samples_per_second": rate or len(rows) * self.samples_per_step / seconds,
                "memory": self.memory() / GIB,
            }
        )
        self._rows, self._began = [], self.clock()

    def _show(self) -> None:
        self._redraw(draw_run(self.points, self.history), describe_run(self.points, self.history))


def draw_run(points: Sequence[dict[str, float]], history: Sequence[dict[str, Any]]) -> Figure:
    """Loss, overall IoU, samples per second and memory, over the steps.

    Args:
        points: rows of training with step, loss, iou, samples_per_second and memory (GiB).
        history: rows of evaluations, as `fit` makes them.
    """
    figure = Figure(figsize=(10, 5.4))
    loss, iou, rate, memory = figure.subplots(2, 2, sharex=True).flat
    training = points or history  # a resumed run that had finished takes no step
    steps = [row["step"] for row in training]
    mark = {"marker": "o", "markersize": 3, "color": PALETTE[0]}
    loss.plot(steps, [row["loss"] for row in training], **mark)
    loss.set(ylabel="loss (BCE per pixel)", ylim=(0, None))
    iou.plot(steps, [row["iou"] for row in training], **mark, label="training batches")
    if history:
        validation = [row["val_overall_iou"] for row in history]
        iou.plot([row["step"] for row in history], validation, "s--", color=PALETTE[1],
                 markersize=4, label="validation")  # fmt: skip
    iou.set(ylabel="overall IoU", ylim=(0, 1))
    iou.legend(loc="upper left")
    rate.plot(steps, [row["samples_per_second"] for row in training], **mark)
    rate.set(xlabel="step", ylabel="expressions per second", ylim=(0, None))
    memory.plot([row["step"] for row in points], [row["memory"] for row in points], **mark)
    memory.set(xlabel="step", ylabel="memory, GiB", ylim=(0, None))
    for ax in (loss, iou, rate, memory):
        ax.grid(alpha=0.3)
    return figure


def describe_run(points: Sequence[dict[str, float]], history: Sequence[dict[str, Any]]) -> str:
    """The same picture in words."""
    last = (points or history)[-1]
    text = (
        f"Curves of training up to step {last['step']:.0f}: loss {last['loss']:.3f}, "
        f"{last['samples_per_second']:.3g} expressions per second"
    )
    if points:
        text += f", {last['memory']:.2f} GiB"
    if history:
        text += f", validation overall IoU {history[-1]['val_overall_iou']:.3f}"
    return f"{text}."
