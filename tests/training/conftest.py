"""The data set of squares, written once."""

from pathlib import Path

import pytest
import torch
from training_helpers import read_squares, write_squares

from shnet_lib.data import Expression


@pytest.fixture(scope="session")
def squares_folder(tmp_path_factory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="session")
def squares(squares_folder) -> dict[str, list[Expression]]:
    return read_squares(squares_folder)


@pytest.fixture(autouse=True)
def one_thread():
    """The tests' networks are so small that threads only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
