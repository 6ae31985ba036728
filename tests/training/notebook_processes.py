"""What test_processes.py starts: `notebook_processes.py DATA OUT`, as a notebook's cells would."""

import sys
from pathlib import Path

from accelerate import notebook_launcher
from training_helpers import read_squares, tiny


def train(data: Path, out: Path) -> None:
    from shnet_lib.training.fit import fit

    fit(tiny(steps=2, evaluate_every=1), read_squares(data), out / "run")


if __name__ == "__main__":
    folders = tuple(map(Path, sys.argv[1:]))
    free_port = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}  # not always the same one
    notebook_launcher(train, folders, num_processes=2, **free_port)
