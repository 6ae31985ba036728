"""python -m shnet_lib.data.fetch --dataset unc --data data/unc [--images-from train2014.zip]

Run it again after an interruption: what is there is not fetched again. Exit status 0 where
everything is there in the end, 2 where not; what is missing is said.
"""

import argparse
import sys
from pathlib import Path

from shnet_lib.data.errors import DataError
from shnet_lib.data.fetch.prepare import Request, prepare
from shnet_lib.data.fetch.sources import PUBLISHED


def main(arguments: list[str] | None = None) -> int:
    """Fetch, print the report, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m shnet_lib.data.fetch",
        description="Fetch annotations, the photos they need, and GloVe's vectors of their words.",
    )
    parser.add_argument("--dataset", required=True, help="unc, unc+, gref, gref-umd, refclef, ...")
    parser.add_argument("--data", required=True, type=Path, help="the folder to put them in")
    parser.add_argument(
        "--images-from", type=Path, help="a train2014 folder or zip that you have already"
    )
    parser.add_argument("--glove", action="store_true", help="GloVe too (2 GB to fetch)")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="decode every photo and compare checksums; fetch again what is damaged",
    )
    parser.add_argument(
        "--no-download", action="store_true", help="only say what is missing or damaged"
    )
    parser.add_argument("--mirror", help="an address that is asked before the published ones")
    parser.add_argument(
        "--workers", type=int, default=8, help="photos at a time (default %(default)s)"
    )
    asked = parser.parse_args(arguments)
    request = Request(
        data=asked.data,
        dataset=asked.dataset,
        images_from=asked.images_from,
        glove=asked.glove,
        verify=asked.verify,
        download=not asked.no_download,
        workers=asked.workers,
    )
    try:
        report = prepare(request, PUBLISHED.first(asked.mirror) if asked.mirror else PUBLISHED)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Run the same command again: it continues.", file=sys.stderr)
        return 130
    print(report)
    return 0 if report.complete else 2


if __name__ == "__main__":
    sys.exit(main())
