"""What test_processes.py starts as two processes: `killed_process.py DATA OUT`.

The second one is killed while it reads a mask, as by a machine that runs out of memory.
"""

import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from training_helpers import read_squares, tiny

from shnet_lib.data import Expression
from shnet_lib.training.fit import fit

READ = []


def read_until_killed(expression: Expression, times: int):
    READ.append(expression)
    if len(READ) > times and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return expression.mask()


def main(data: Path, out: Path) -> None:
    squares = read_squares(data)
    squares["train"] = [
        replace(expression, read_mask=partial(read_until_killed, expression, times=20))
        for expression in squares["train"]
    ]
    fit(tiny(steps=10_000, evaluate_every=1), squares, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
