"""What lesson 06b measures, computes and draws."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from shnet_course.measure.memory import MIB, PeakBytes
from shnet_course.measure.replicas import save_gradient
from shnet_course.measure.training import (
    WARM_UP,
    Stopwatch,
    as_table,
    gpu_rates,
    measure_training,
    memory_of_step,
)
from shnet_course.pictures.lesson_06b import (
    draw_feeding,
    draw_reading,
    draw_replicas,
    draw_steps,
    draw_throughput,
    feeding_steps,
    reading_steps,
    share_busy,
)
from shnet_lib.training.limits import PREFETCH

PERFORMANCE = Path(__file__).parents[2] / "docs" / "performance.json"

# --- the fullest moment ---------------------------------------------------------------------------


def test_the_peak_is_the_fullest_moment_and_not_the_sum():
    with PeakBytes() as count:
        for _ in range(3):
            one = torch.zeros(MIB)  # 4 MiB
            two = one + 1
            del one, two
    assert count.peak == 8 * MIB and count.now == 0


# --- a row of the table ---------------------------------------------------------------------------


def train(network, batches):
    losses = []
    for batch in batches:
        loss = network(batch).square().mean()
        loss.backward()
        losses.append(loss.item())
    return losses


def test_a_row_has_the_last_loss_of_all_steps_and_a_peak_of_its_own():
    torch.manual_seed(0)
    loader = [torch.randn(4, 256) for _ in range(2 * (WARM_UP + 2))]  # two shares per step
    made = []

    def make_network():
        torch.manual_seed(1)
        made.append(nn.Linear(256, 128))
        return made[-1]

    row = measure_training("a", train, make_network, loader, WARM_UP + 2, samples=8)
    assert row["last loss"] == train(make_network(), loader)[-1]
    assert made[0] is not made[1]  # counting the peak does not train what is timed
    assert row["samples/s"] == pytest.approx(8000 / row["ms/step"])
    weights = 4 * 256 * 128
    assert weights <= row["peak MiB"] * MIB < 4 * weights  # the gradient, and what backward needs


def test_a_stopwatch_notes_each_item_and_changes_none():
    watch = Stopwatch("abc")
    assert list(watch) == ["a", "b", "c"]
    assert len(watch.times) == 3 and watch.times == sorted(watch.times)


def test_a_row_without_figures_says_why():
    figures = {"samples/s": 1234.5, "ms/step": 12.34, "peak MiB": 99.6, "last loss": 0.12345}
    head, first, second = as_table(
        [{"step": "1 device"} | figures, {"step": "2", "why": "on CUDA only"}]
    ).splitlines()
    assert head.split() == ["samples/s", "ms/step", "peak", "MiB", "last", "loss"]
    assert first.split() == ["1", "device", "1234", "12.3", "100", "0.1235"]
    assert second.split(maxsplit=1) == ["2", "on CUDA only"]


# --- figures of a GPU -----------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path) -> Path:
    """A record as `python -m benchmarks.gpu` writes it, of two measurements and one that failed."""

    def step(name, an_image, **figures):
        return {"name": name, "sfm": "released", "an image": an_image, **figures}

    def memory(recompute, an_image, fixed, each):
        figures = {"MiB without": fixed, "MiB per sample": each}
        labels = {"name": "a step, bf16", "grid": 40, "an image": an_image}
        return labels | {"recompute": recompute, **figures}

    steps = [
        step("literal fp32", 5, **{"expressions/s": 100.0}),
        step("library bf16", 5, **{"expressions/s": 900.0}),
        step("library tf32", 5, failed="out of memory"),
        step("library bf16", 1, **{"expressions/s": 700.0}),
        {"name": "part: SFM", "sfm": "released", "an image": 5, "ms": 3.0},
    ]
    memories = [memory(True, 5, 1.0, 2.0), memory(True, 1, 3.0, 4.0), memory(False, 1, 5.0, 6.0)]
    sections = {"step": {"rows": steps}, "memory": {"rows": memories}}
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"made": {"device": "NVIDIA X"}, "sections": sections}))
    return path


def test_rates_of_a_record_are_those_of_its_first_kind_of_batch(record):
    title, rates = gpu_rates(record)
    assert "Measured" in title and "NVIDIA X" in title and "5 expressions" in title
    assert rates == {"formulas as they stand fp32": 100.0, "library bf16": 900.0}


def test_without_a_record_the_rates_say_that_they_are_arithmetic(tmp_path):
    title, rates = gpu_rates(tmp_path / "none.json")
    assert title.startswith("Arithmetic, not measured")
    assert rates["library"] == pytest.approx(790e3 * 0.45 / 172)


def test_a_record_of_a_run_that_was_stopped_early_is_as_none(record, tmp_path):
    none = tmp_path / "none.json"
    values = json.loads(record.read_text())
    values["sections"]["memory"]["rows"].pop()  # the plain step was not reached
    values["sections"].pop("step")
    record.write_text(json.dumps(values))
    assert gpu_rates(record) == gpu_rates(none)
    for grid in (18, 40):
        assert memory_of_step(record, PERFORMANCE, grid) == memory_of_step(none, PERFORMANCE, grid)


def test_memory_comes_from_a_record_or_from_the_tensors_that_were_counted(record, tmp_path):
    assert memory_of_step(record, PERFORMANCE, 40) == {True: (3.0, 4.0), False: (5.0, 6.0)}
    counted = memory_of_step(tmp_path / "none.json", PERFORMANCE, 40)
    rows = json.loads(PERFORMANCE.read_text())["memory"]["results"]
    together = {row["network"]: row["peak MiB, together"] for row in rows if row["grid"] == 40}
    for recompute, name in ((False, "library, bf16"), (True, "library, bf16, recompute")):
        fixed, each = counted[recompute]
        assert fixed + 50 * each == pytest.approx(together[name])


# --- who waits for whom ---------------------------------------------------------------------------


def test_reading_a_number_costs_the_sending_of_the_next_step():
    read, unread = (reading_steps(3, 7, 6, read) for read in (True, False))
    assert max(span.end for span in read) == 6 * (3 + 7)
    assert max(span.end for span in unread) == 3 + 6 * 7
    assert share_busy(unread, "GPU") == 1 and share_busy(read, "GPU") == 42 / 57


def test_where_sending_takes_longest_the_gpu_waits_all_the_same():
    spans = reading_steps(7, 3, 6, read=False)
    assert max(span.end for span in spans) == 6 * 7 + 3


@pytest.mark.parametrize(("workers", "per_step"), [(0, 50), (1, 40), (2, 20), (4, 10), (8, 10)])
def test_workers_feed_a_device_until_it_is_the_slowest(workers, per_step):
    ends = [s.end for s in feeding_steps(40, 10, workers, 80) if s.lane == "device"]
    assert (ends[-1] - ends[39]) / 40 == pytest.approx(per_step)


def test_a_worker_stops_when_two_of_its_batches_wait():
    spans = feeding_steps(1, 100, 1, 12)
    taken = [span.start for span in spans if span.lane == "device"]
    loaded = [span.end for span in spans if span.lane == "worker 1"]
    for index in range(12):
        waiting = sum(end <= taken[index] for end in loaded) - index
        assert waiting <= PREFETCH + 1  # those that wait, and the one that is taken


def test_no_lane_does_two_things_at_once():
    for spans in (feeding_steps(40, 10, 3, 30), feeding_steps(5, 9, 0, 9)):
        for lane in {span.lane for span in spans}:
            own = [span for span in spans if span.lane == lane]
            pairs = zip(own, own[1:], strict=False)
            assert all(before.end <= after.start for before, after in pairs)


# --- pictures -------------------------------------------------------------------------------------


def test_the_pictures_tell_in_words_what_they_show():
    assert "74%" in draw_reading(3, 7).get_label()
    label = draw_feeding(40, 10, 4).get_label()
    assert "no workers: 21%" in label and "4 workers: 100%" in label
    assert "mean" in draw_replicas().get_label()
    assert "1,209" in draw_throughput("Arithmetic", {"a": 1209.2}).get_label()


def test_a_bar_for_each_row_that_has_figures():
    rows = [
        {"step": "1", "samples/s": 10.0, "ms/step": 1.0, "peak MiB": 3.0},
        {"step": "2", "why": "on CUDA only"},
        {"step": "3", "samples/s": 20.0, "ms/step": 1.0, "peak MiB": 4.0},
    ]
    speed, memory = draw_steps(rows).axes
    assert [bar.get_width() for bar in speed.patches] == [10, 20]
    assert [bar.get_width() for bar in memory.patches] == [3, 4]
    assert speed.yaxis_inverted()  # the first step stands on top


def test_a_timeline_has_a_panel_for_each_case_and_a_bar_for_each_span():
    first, second = draw_feeding(40, 10, 2, steps=6).axes
    assert "no workers" in first.get_title("left") and "2 workers" in second.get_title("left")
    assert len(first.patches) == len(second.patches) == 12
    assert len(draw_feeding(40, 10, 0).axes) == 1


# --- several processes ----------------------------------------------------------------------------


class Squares(nn.Module):
    """Its gradient is plain: mask logits are a weight times the batch's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0]))

    def forward(self, batch: dict) -> torch.Tensor:
        return self.weight * batch["numbers"]


def test_two_processes_save_the_mean_of_their_gradients(tmp_path):
    torch.manual_seed(0)
    shares = [{"numbers": torch.randn(4, 2), "target": torch.ones(4, 2)} for _ in range(2)]
    torch.multiprocessing.start_processes(
        save_gradient, (Squares(), shares, tmp_path), nprocs=2, start_method="spawn"
    )
    network = Squares()
    for batch in shares:
        loss = nn.functional.binary_cross_entropy_with_logits(network(batch), batch["target"])
        (loss / 2).backward()
    for rank in range(2):
        saved = torch.load(tmp_path / f"gradient{rank}.pt")
        torch.testing.assert_close(saved["weight"], network.weight.grad)
