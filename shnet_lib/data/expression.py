"""What every reader of a data set gives: an expression, its photo and its mask."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shnet_lib.data.images import read_pixels


@dataclass(frozen=True)
class Expression:
    """One sentence that refers to one thing in one photo. Can be pickled (for loader workers)."""

    image_path: Path
    image_id: int | str
    height: int  # of the photo and of the mask, in pixels
    width: int
    ref_id: int | str  # the thing referred to; several sentences may share it
    sent_id: int | str  # unique in a data set
    text: str
    category: str  # "" where the data set has none
    family: str | None  # the kind of expression, where the data set says it (RefShapes does)
    read_mask: Callable[[], np.ndarray] = field(repr=False, compare=False)

    def photo(self) -> np.ndarray:
        """(height, width, 3) uint8, RGB: the pixels as stored, on which the mask is drawn.

        EXIF's orientation and what is transparent are not heeded, as in training and evaluation.
        DataError where the photo cannot be read or has another size than its annotations say.
        """
        return read_pixels(self.image_path, self.height, self.width)

    def mask(self) -> np.ndarray:
        """(height, width) bool, True on the thing referred to. DataError if it is damaged."""
        return self.read_mask()
