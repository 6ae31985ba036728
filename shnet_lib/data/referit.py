"""ReferIt's files -> expressions with the path of their photo and their mask.

ReferIt (photos of SAIAPR TC-12), as the code of referring segmentation lays it out:

    DATA/referit/referit_query_train.json    {"<image>_<region>": [expression, ...], ...}
    DATA/referit/images/<image>.jpg
    DATA/referit/mask/<image>_<region>.mat   `segimg_t`, where 0 (!) is the thing referred to

The paper trains on trainval and tests on test.
"""

import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat, whosmat

from shnet_lib.data.errors import DataError, brief, read_json, require_files, require_text
from shnet_lib.data.expression import Expression
from shnet_lib.data.images import image_size

REFERIT_SPLITS = ("train", "val", "trainval", "test")
BAD_IMAGES = {"19579", "19575", "17975"}  # a GIF named .jpg, and two that were never there


def read_referit(data: Path, split: str) -> list[Expression]:
    """The expressions of a split, in the order of its file.

    `ref_id` is "<image>_<region>", `sent_id` the same with the sentence's position in that
    region behind it; there are no categories. Regions of BAD_IMAGES are left out, as the field
    does: a warning says how many expressions that cost.

    DataError where the split does not exist, where its file, a photo or a mask is missing (the
    first by name, and how many), or where a record is malformed.
    """
    data = Path(data)
    if split not in REFERIT_SPLITS:
        raise DataError(
            f"referit has no split {split!r}. Ask for one of {', '.join(REFERIT_SPLITS)}."
        )
    folder = data / "referit"
    path = folder / f"referit_query_{split}.json"
    remedy = (
        "Point DATA at the folder that holds referit/, with images/ and mask/ in it; "
        "data/README.md says where to get them."
    )
    queries = read_json(path, remedy)
    for region, sentences in queries.items():
        _check_region(region, sentences, path)
    kept = {key: texts for key, texts in queries.items() if _image_of(key) not in BAD_IMAGES}
    if not kept:
        raise DataError(f"{path.absolute()}: holds no region with a usable image. {remedy}")
    if len(kept) < len(queries):
        dropped = sum(len(queries[key]) for key in queries.keys() - kept.keys())
        warnings.warn(
            f"{path.absolute()}: left out {dropped} expressions of "
            f"{len(queries) - len(kept)} regions, on images known to be unusable "
            f"({', '.join(sorted(BAD_IMAGES))}).",
            stacklevel=2,
        )
    photos = {_image_of(key): folder / "images" / f"{_image_of(key)}.jpg" for key in kept}
    masks = {key: folder / "mask" / f"{key}.mat" for key in kept}
    require_files(photos.values(), "image", remedy)
    require_files(masks.values(), "mask", remedy)
    sizes = {image: image_size(photo) for image, photo in photos.items()}
    expressions = []
    for region, sentences in kept.items():
        image = _image_of(region)
        height, width = sizes[image]
        read_mask = partial(read_mat_mask, masks[region], height, width)
        for position, text in enumerate(sentences):
            expressions.append(
                Expression(
                    image_path=photos[image],
                    image_id=image,
                    height=height,
                    width=width,
                    ref_id=region,
                    sent_id=f"{region}_{position}",
                    text=text,
                    category="",
                    family=None,
                    read_mask=read_mask,
                )
            )
    return expressions


def read_mat_mask(path: Path, height: int, width: int) -> np.ndarray:
    """(height, width) bool, True where the file's `segimg_t` is 0.

    DataError where the file cannot be read, holds no `segimg_t` of numbers, or one of another
    size. The size is read first, so that a small file cannot unpack to a vast one.
    """
    remedy = "Fetch the file again from where the masks came from."
    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
    except Exception as error:  # a damaged .mat file can raise nearly every kind of error
        raise _not_readable(path, error, remedy) from error
    if "segimg_t" not in shapes:
        raise DataError(f"{path.absolute()}: holds no array `segimg_t`. {remedy}")
    if shapes["segimg_t"] != (height, width):
        raise DataError(
            f"{path.absolute()}: a mask of {brief(shapes['segimg_t'])} for a photo of "
            f"{(height, width)} (height, width). {remedy}"
        )
    try:
        regions = loadmat(path, variable_names=["segimg_t"])["segimg_t"]
    except Exception as error:
        raise _not_readable(path, error, remedy) from error
    if regions.shape != (height, width) or regions.dtype.kind not in "biuf":
        raise DataError(f"{path.absolute()}: `segimg_t` is not a table of numbers. {remedy}")
    return regions == 0


def _not_readable(path: Path, error: Exception, remedy: str) -> DataError:
    return DataError(f"{path.absolute()}: not a readable .mat file ({error}). {remedy}")


def _check_region(region: str, sentences: object, path: Path) -> None:
    remedy = "Fetch the file again, or mend that record."
    if not re.fullmatch(r"[0-9]{1,12}_[0-9]{1,12}", region):
        raise DataError(f"{path.absolute()}: {brief(region)} is not <image>_<region>. {remedy}")
    if (
        not isinstance(sentences, list)
        or not sentences
        or not all(isinstance(text, str) for text in sentences)
    ):
        raise DataError(
            f"{path.absolute()}: region {region!r} does not hold a list of expressions. {remedy}"
        )
    for text in sentences:
        require_text(text, f"{path.absolute()}: an expression of region {region!r}", remedy)


def _image_of(region: str) -> str:
    """ "8756_2" -> "8756"."""
    return region.split("_")[0]
