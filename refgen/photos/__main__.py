"""shnet data make photos --instances instances.json --photos FOLDER --out DATA"""

import argparse
import sys
import time
from collections.abc import Sequence

from shnet_lib.data.errors import DataError
from shnet_lib.errors import report_error

from .write import Settings, generate


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where something is wrong; one line says what."""
    parser = argparse.ArgumentParser(
        prog="shnet data make photos",
        description="Make referring phrases for photos from COCO-format instance annotations; does "
        "nothing if the folder already holds them.",
    )
    parser.add_argument("--instances", required=True, help="COCO-format instance file")
    parser.add_argument("--photos", required=True, help="folder of the photos it names")
    parser.add_argument("--out", required=True, help="data folder; OUT/photos is made in it")
    parser.add_argument(
        "--variants",
        type=int,
        default=8,
        help="pictures of each training photo, itself included (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    parser.add_argument(
        "--people",
        help='JSON of annotation ids by label, {"man": [...], "woman": [...], "boy": [...], '
        '"girl": [...]}; without it people are only called persons',
    )
    asked = parser.parse_args(arguments)
    if asked.variants < 1 or asked.workers < 1:
        parser.error("variants and workers are counts, at least 1")
    settings = Settings(asked.instances, asked.photos, asked.variants, asked.seed, asked.people)
    start = time.perf_counter()
    try:
        report = generate(settings, asked.out, asked.workers)
    except DataError as error:
        return report_error(error)
    for split, counts in report.items():
        print(
            f"{split}: {counts['photos']} photos, {counts['pictures']} pictures, "
            f"{counts['phrases']} phrases"
        )
        for title in ("phrases_per_family", "objects"):
            for name, count in counts[title].items():
                print(f"    {count:7,}  {name}")
    print(f"{asked.out}/photos: {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
