"""A function in a process of its own, with an end to its time.

After an illegal access a GPU answers nothing more in that process, a kernel can hang, a compiler
can take minutes, and Python cannot stop any of them. So each section is a process: what it sends is
kept, and the next one begins with a GPU that is free and in order.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # of Linux: the signal for a process whose parent has died


class Child:
    """`work(send, *arguments)` in another process, whose output goes to the end of the file `log`.

    By "fork" nothing is imported again, but the parent must never have touched the GPU; "spawn"
    starts Python anew. Leaving the block ends the process and all that it started.
    """

    def __init__(self, work: Callable, arguments: tuple, log: Path, start: str = "fork") -> None:
        context = multiprocessing.get_context(start)
        self.reader, writer = context.Pipe(duplex=False)
        self.process = context.Process(target=_run, args=(work, arguments, writer, log))
        sys.stdout.flush()
        sys.stderr.flush()
        self.process.start()
        writer.close()
        with suppress(OSError):  # the child does the same: whoever comes first
            os.setpgid(self.process.pid, self.process.pid)
        self.failed: str | None = None  # in one line, once it has ended

    def sent(self, until: float) -> Iterator[Any]:
        """What `work` sends, until it returns, or until this time of time.monotonic()."""
        while True:
            seconds = max(until - time.monotonic(), 0)
            if not (ready := wait([self.reader, self.process.sentinel], seconds)):
                self.failed = "stopped: its time was over"
                return
            try:
                if self.reader not in ready:
                    raise EOFError
                kind, value = self.reader.recv()
            except (EOFError, OSError):
                self.process.join(timeout=5)
                self.failed = f"its process died: {_exit_in_words(self.process.exitcode)}"
                return
            if kind == "end":
                self.failed = value
                return
            yield value

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.join()
        self.reader.close()


def _exit_in_words(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit status {code}"


def _run(work: Callable, arguments: tuple, writer: Connection, log: Path) -> None:
    with suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":  # killed with its parent, whatever kills that one
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.stdout = sys.stderr = open(log, "a", buffering=1, encoding="utf-8")
    for descriptor in (1, 2):  # what other processes and C++ say goes there too
        os.dup2(sys.stdout.fileno(), descriptor)
    failed = None
    try:
        work(lambda value: writer.send(("sent", value)), *arguments)
    except BaseException as error:
        traceback.print_exc()
        failed = in_one_line(error)
    writer.send(("end", failed))
    sys.stdout.flush()
    os._exit(0)  # what a library does at exit could hang, and nothing is left to keep


def in_one_line(error: BaseException) -> str:
    """The error's kind and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
