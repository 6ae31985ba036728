"""What the tests of every room share, and the counts that end a run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from _pytest.runner import runtestprotocol
from drawn import write_drawn

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"  # real photos and expressions, where somebody has them
SESSION = "SHNET_TEST_SESSION"  # in the environment of whatever a run of the tests starts
GRACE = 60.0  # seconds for what is ending when the last test has ended
LEFT: list[str] = []  # what was still there then
# Python's own helpers end with the process that started them.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # a worker of pytest-xdist has the mark already
        os.environ[SESSION] = f"{os.getpid()}-{time.time_ns()}"


def left_behind() -> Iterator[psutil.Process]:
    """The processes that this run of the tests has started and that still run."""
    own = psutil.Process()
    children = set(own.children(recursive=True))
    for process in psutil.process_iter():
        try:
            started = process in children or process.environ().get(SESSION) == os.environ[SESSION]
            if process == own or not started or process.status() == psutil.STATUS_ZOMBIE:
                continue
            helps = any(name in " ".join(process.cmdline()) for name in HELPERS)
            if not (helps and process.ppid() == own.pid):
                yield process
        except (psutil.Error, OSError):
            continue  # it has ended, or is somebody else's


@pytest.hookimpl(trylast=True)  # after pytest-xdist has ended its workers
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that outlives the tests fails the run, is named, and is ended."""
    if hasattr(session.config, "workerinput"):
        return
    end = time.monotonic() + GRACE
    while (left := list(left_behind())) and time.monotonic() < end:
        time.sleep(0.1)
    for process in left:
        with contextlib.suppress(psutil.Error):
            LEFT.append(f"{process.pid}: {' '.join(process.cmdline())[:150]}")
            process.kill()
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


ABORTED = ("src/signaler.cpp", "Kernel died before replying to kernel_info")


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """A test runs once more where libzmq has aborted its kernel.

    With two workers that happens to one kernel in fifty ("Assertion failed: pfd.revents & POLLIN"),
    and says nothing of what is tested.
    """
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed and any(a in report.longreprtext for a in ABORTED) for report in reports):
        item._initrequest()  # fresh fixtures
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture(scope="session")
def refer_real() -> Path:
    """80 real COCO photos with annotations and expressions, in the published layout.

    They are not ours to hand on: who has them names their folder.
    """
    folder = Path(os.environ.get("SHNET_REAL_PHOTOS", REAL / "refer_real"))
    if not folder.is_dir():
        pytest.skip("the 80 real photos are not here: SHNET_REAL_PHOTOS does not name their folder")
    return folder


@pytest.fixture(scope="session", params=["drawn", "real"])
def photo_data(request, tmp_path_factory) -> Path:
    """UNC, UNC+ and G-Ref in the published layout: three drawn photos, and the 80 real ones."""
    if request.param == "drawn":
        return write_drawn(tmp_path_factory.mktemp("drawn") / "data")
    return request.getfixturevalue("refer_real")


@pytest.fixture(scope="session")
def referit_queries() -> Path:
    """The 54,134 expressions of ReferIt's training split."""
    path = REAL / "referit_query_train.json"
    if not path.is_file():
        pytest.skip(
            "ReferIt's expressions (referit_query_train.json) are not beside this repository"
        )
    return path


def pytest_terminal_summary(terminalreporter) -> None:
    """How many faults and hostile files were answered as they should be, and mutations made.

    A test marked `fault` or `hostile` counts as one; others say their number with
    record_property("mutations", n), and "kills" in the same way.
    """
    for process in LEFT:
        terminalreporter.write_line(f"ERROR left behind by a test, and ended: {process}", red=True)
    passed = [each for each in terminalreporter.stats.get("passed", []) if each.when == "call"]
    counts = {
        "faults": sum("fault" in each.keywords for each in passed),
        "hostile files": sum("hostile" in each.keywords for each in passed),
        "mutations": 0,
        "kills": 0,
        "planted mistakes": 0,
        "alternative right answers": 0,
    }
    for report in passed:
        for name, value in report.user_properties:
            if name in counts:
                counts[name] += value
    taught = ("planted mistakes", "alternative right answers")
    for about, end in (("trust", "each answered as documented"), ("exercises", "each told apart")):
        names = [name for name in counts if (name in taught) == (about == "exercises")]
        if said := [f"{counts[name]:,} {name}" for name in names if counts[name]]:
            terminalreporter.write_sep("-", f"{about}: {', '.join(said)}, {end}")
