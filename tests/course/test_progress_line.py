"""The progress of a run in one line: in a terminal it is redrawn, a file gets whole lines."""

import io
import subprocess
import sys

import pytest

from shnet_course.tools import progress_line
from shnet_course.tools.progress_line import (
    CLEAR,
    LINE_SECONDS,
    MESSAGE,
    ProgressLine,
    SentBar,
    bar_text,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """What stands on a terminal that `CLEAR` empties a line of."""
        return [line.split(CLEAR)[-1] for line in self.getvalue().split("\n")]


def bar(n: int, state: str = "running", title: str = "training", **figures: float) -> dict:
    return {
        "title": title,
        "n": n,
        "total": 400,
        "initial": 100,
        "elapsed": 60.0,
        "figures": figures,
        "state": state,
    }


def test_it_tells_step_loss_iou_speed_and_the_time_left():
    text = bar_text(bar(200, loss=0.21345, iou=0.5, samples_per_second=123.4))
    # 100 steps were done in this sitting, in a minute, and 200 are left.
    assert text == "training 200/400 (50%) · loss 0.213 · IoU 0.500 · 123.4 samples/s · 2:00 left"


@pytest.mark.parametrize(
    ("elapsed", "left"), [(1.0, "0:02 left"), (3600.0, "2:00:00 left"), (119.99, "4:00 left")]
)
def test_the_time_left_in_minutes_or_hours(elapsed, left):
    assert bar_text(bar(200) | {"elapsed": elapsed}).endswith(f" · {left}")


@pytest.mark.parametrize("n", [100, 400])
def test_no_time_is_left_to_tell_at_the_begin_and_at_the_end(n):
    assert "left" not in bar_text(bar(n))


def test_a_bar_of_unknown_length():
    assert bar_text(bar(7) | {"total": None}) == "training 7"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_living_line_fits_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    line = ProgressLine(terminal)
    for n in range(101, 104):
        line.show(bar(n, loss=0.5, iou=0.5, samples_per_second=50.0))
    (shown,) = terminal.screen()
    assert shown.startswith("training 103/400"[: width - 2])
    assert len(shown) < width, "a full line would break, and its first half stay"


def test_what_is_said_stands_above_the_living_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    line = ProgressLine(terminal)
    line.show(bar(200))
    line.say("best at step 200")
    assert [each[:16] for each in terminal.screen()] == ["best at step 200", "training 200/400"]


def test_a_finished_bar_stays_and_a_passing_one_goes(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    line = ProgressLine(terminal)
    line.show(bar(200))
    line.show(bar(300, title="evaluating"))
    assert line.running == {"training", "evaluating"}
    line.show(bar(400, "gone", title="evaluating"))
    line.show(bar(400, "done"))
    line.say("after")
    assert terminal.screen() == ["training 400/400 (100%)", "after", ""]
    assert not line.running


@pytest.mark.parametrize("kind", ["file", "dumb terminal"])
def test_a_file_gets_whole_lines_one_per_five_seconds(monkeypatch, kind):
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO() if kind == "file" else Terminal()
    now = [0.0]
    line = ProgressLine(file, clock=lambda: now[0])
    for n in range(101, 400):  # two per second
        now[0] += 0.5
        line.show(bar(n))
    line.show(bar(400, "gone", title="evaluating"))
    line.show(bar(400, "done"))
    line.say("after")
    *lines, end = file.getvalue().split("\n")
    assert end == "" and not set("\r\x1b") & set(file.getvalue())
    assert lines[-2:] == ["training 400/400 (100%)", "after"]
    assert len(lines) == 2 + 299 * 0.5 // LINE_SECONDS + 1
    assert all(each.startswith("training ") for each in lines[:-1])


def test_a_bar_sends_its_state(monkeypatch, capsys):
    states = []
    monkeypatch.setattr(
        progress_line, "publish_display_data", lambda data: states.append(data[MESSAGE])
    )
    bar = SentBar(total=3, desc="training", mininterval=0)
    for _ in range(3):
        bar.set_postfix({"loss": 0.5}, refresh=False)
        bar.update()
    bar.close()
    bar.close()
    assert [state["state"] for state in states].count("done") == 1
    assert states[-1]["state"] == "done" and states[-1]["n"] == states[-1]["total"] == 3
    assert states[-1]["title"] == "training" and states[-1]["figures"] == {"loss": 0.5}
    assert [state["n"] for state in states] == sorted(state["n"] for state in states)
    sent = len(states)
    assert list(SentBar(range(5), desc="evaluating", leave=False, disable=True)) == [0, 1, 2, 3, 4]
    assert len(states) == sent, "another process's bar"
    assert list(SentBar(range(5), desc="evaluating", leave=False)) == [0, 1, 2, 3, 4]
    assert states[-1]["state"] == "gone"
    assert capsys.readouterr() == ("", "")


def test_the_bars_of_training_evaluating_and_caching_are_those_that_are_replaced():
    code = "from shnet_course.tools.progress_line import SentBar, send_bars; send_bars()\n"
    code += "from shnet_lib.training import fit, limits\n"
    code += "assert limits.tqdm is fit.tqdm is SentBar"
    subprocess.run([sys.executable, "-c", code], check=True)
