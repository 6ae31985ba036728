"""shnet data make refshapes --out data/refshapes"""

import argparse
import sys
import time
from collections.abc import Sequence

from shnet_lib.data.errors import DataError
from shnet_lib.errors import report_error

from .write import IMAGES, SPLITS, generate


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where something is wrong; one line says what."""
    parser = argparse.ArgumentParser(
        prog="shnet data make refshapes",
        description="Generate RefShapes; does nothing if the folder already holds it.",
    )
    parser.add_argument("--out", required=True, help="folder to make, for example data/refshapes")
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            type=int,
            default=IMAGES[split],
            metavar="N",
            help=f"images in {split} (default %(default)s)",
        )
    parser.add_argument(
        "--size", type=int, default=128, help="side in pixels (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    asked = parser.parse_args(arguments)
    images = {split: getattr(asked, split) for split in SPLITS}
    start = time.perf_counter()
    try:
        out = generate(asked.out, images, asked.size, asked.seed)
    except (DataError, ValueError) as error:
        return report_error(error)
    print(f"{out}: {sum(images.values())} images, {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
