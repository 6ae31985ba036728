"""Progress of a notebook that a program runs, in one line of its terminal.

A bar that redraws itself never leaves such a notebook. So in the notebook's kernel tqdm's bars
are replaced (`send_bars`): each sends its state as a message that is not shown, and the program
shows it with `ProgressLine`.
"""

import io
import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from IPython.display import publish_display_data
from tqdm import auto, std

MESSAGE = "application/x-shnet-progress+json"
LINE_SECONDS = 5.0  # between two lines, where a line cannot be rewritten
FIGURE_LABELS = {"iou": "IoU", "samples_per_second": "samples/s"}
CLEAR = "\r\x1b[2K"  # to the line's begin, and empty it


class SentBar(std.tqdm):
    """A bar that sends its state instead of drawing it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.figures: dict[str, float] = {}
        super().__init__(*arguments, **options | {"file": io.StringIO()})  # nothing is drawn

    def set_postfix(self, figures: Mapping[str, float], refresh: bool = True) -> None:
        self.figures = dict(figures)
        if refresh:
            self.refresh()

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """tqdm calls this ten times per second at most."""
        self._send(state="running")

    def close(self) -> None:
        if not self.disable:
            super().close()
            self._send(state="done" if self.leave else "gone")

    def _send(self, state: str) -> None:
        bar = {name: self.format_dict[name] for name in ("n", "total", "initial", "elapsed")}
        bar |= {"title": self.desc.removesuffix(": "), "figures": self.figures, "state": state}
        publish_display_data({MESSAGE: bar})


def send_bars() -> None:
    """In a kernel, before anything else is imported: every `tqdm.auto.tqdm` sends its state."""
    auto.tqdm = SentBar


def bar_text(bar: Mapping[str, Any]) -> str:
    """A bar's state in words, the most important ones first."""
    n, total = bar["n"], bar["total"]
    parts = [f"{bar['title']} {n}/{total} ({n / total:.0%})" if total else f"{bar['title']} {n}"]
    for name, value in bar["figures"].items():
        figure = f"{value:.{3 if value < 10 else 1}f}"
        label = FIGURE_LABELS.get(name, name)
        parts.append(f"{figure} {label}" if "/" in label else f"{label} {figure}")
    done = n - bar["initial"]
    if total and 0 < done and n < total:
        minutes, seconds = divmod(round(bar["elapsed"] / done * (total - n)), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append((f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{seconds:02} left")
    return " · ".join(parts)


class ProgressLine:
    """One living line below what is said; where lines cannot be rewritten, one per five seconds.

    Args:
        file: a terminal, or a file or pipe that gets whole lines only.
    """

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = file
        self.living = file.isatty() and os.environ.get("TERM") != "dumb"
        self.clock = clock
        self.line = ""  # what stands in the terminal's last line
        self.written = -LINE_SECONDS  # when the last line about a bar was
        self.running: set[str] = set()  # the bars' titles

    def show(self, bar: Mapping[str, Any]) -> None:
        """A bar's new state, as `SentBar` sends it."""
        (self.running.add if bar["state"] == "running" else self.running.discard)(bar["title"])
        if self.living:
            self.line = "" if bar["state"] == "gone" else bar_text(bar)
            self._draw()
            if bar["state"] == "done":
                self.finish()
        elif bar["state"] == "done" or (
            bar["state"] == "running" and self.clock() - self.written >= LINE_SECONDS
        ):
            self.written = self.clock()
            print(bar_text(bar), file=self.file, flush=True)

    def say(self, text: str) -> None:
        """Whole lines that stay, above the living one."""
        if self.living:
            self.file.write(CLEAR)
        print(text, file=self.file, flush=True)
        if self.living:
            self._draw()

    def finish(self) -> None:
        """What stands in the last line stays."""
        if self.line:
            self.line = ""
            print(file=self.file, flush=True)

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1  # a full line would break
        cut = self.line if len(self.line) <= width else self.line[: width - 1] + "…"
        self.file.write(CLEAR + cut)
        self.file.flush()
