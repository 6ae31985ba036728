"""Photos: their size from the header, their pixels, and what is refused as a photo."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from shnet_lib.data.errors import DataError

# 8192 x 8192. A photo takes three bytes per pixel as soon as it is decoded: a file of a few
# kilobytes can ask for gigabytes.
MAX_PIXELS = 2**26
PHOTO_FORMATS = ("JPEG", "PNG")


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a JPEG or PNG in pixels, from its header; nothing is decoded.

    DataError where the file is missing, is no such image, or has more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            with Image.open(path, formats=PHOTO_FORMATS) as image:
                height, width = image.height, image.width
    except Exception as error:  # a damaged image can raise nearly every kind of error
        raise not_readable(path, error) from error
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{path.absolute()}: an image of {width} x {height} pixels, where at most "
            f"{MAX_PIXELS:,} are read. Make it smaller, or fetch the file again."
        )
    return height, width


def require_size(path: Path, height: int, width: int) -> None:
    """Raise DataError unless the header of a photo says `height` x `width` pixels."""
    found = image_size(path)
    if found != (height, width):
        raise DataError(
            f"{path.absolute()}: {found[1]} x {found[0]} pixels (width x height), where the "
            f"annotations say {width} x {height}. Take photos and annotations of one release; "
            "a photo must not be scaled or turned."
        )


def read_pixels(path: Path, height: int, width: int) -> np.ndarray:
    """The pixels of a photo that should be `height` x `width`: (height, width, 3) uint8, RGB.

    Pillow decodes, since it answers every damaged file with an exception: torchvision's decoder
    (0.29) ends the whole process at some damaged PNGs.
    DataError where the photo cannot be decoded to its end, has another size than said, or more
    than 8 bits per colour.
    """
    require_size(path, height, width)
    try:
        with Image.open(path, formats=PHOTO_FORMATS) as image:
            mode = image.mode
            pixels = np.array(image.convert("RGB"))
    except Exception as error:
        raise not_readable(path, error) from error
    if mode.startswith(("I", "F")):
        raise DataError(
            f"{path.absolute()}: more than 8 bits per colour. Save it again with 8 bits."
        )
    return pixels


def warn_of_turned(paths: Iterable[Path]) -> None:
    """Warn with how many photos have a note (EXIF) that they are to be turned when shown.

    Whoever drew masks on the photos as shown has to turn the pixels too. Reads headers only.
    DataError where a photo cannot be read.
    """
    turned = []
    for path in dict.fromkeys(paths):
        try:
            with Image.open(path, formats=PHOTO_FORMATS) as image:
                noted = "exif" in image.info or "xmp" in image.info
                if noted and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                    turned.append(path)
        except Exception as error:  # a damaged image can raise nearly every kind of error
            raise not_readable(path, error) from error
    if turned:
        warnings.warn(
            f"{len(turned)} photos, the first {turned[0].absolute()}, say that they are turned "
            "(EXIF). Their masks are read as drawn on the pixels as stored; if they were drawn on "
            "the photos as shown, save these upright and without the note.",
            stacklevel=2,
        )


def not_readable(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{path.absolute()}: not a readable image, JPEG or PNG ({reason}). Fetch the file again."
    )
