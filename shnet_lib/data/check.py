"""What a data set holds, or what is missing from it, before a long run starts.

    python -m shnet_lib.data.check --dataset unc --data data/unc

reads every split as training would and prints one line for each. A file that is missing or wrong
is answered on stderr with the message of its `DataError` alone, and exit status 2.
"""

import argparse
import sys
from pathlib import Path

from shnet_lib.data import DataError, Expression, read_expressions, splits_of
from shnet_lib.data.images import warn_of_turned


def summary(split: str, expressions: list[Expression]) -> str:
    """One line for `split`: how many images, refs (regions referred to) and expressions."""
    images = {expression.image_path for expression in expressions}
    refs = {expression.ref_id for expression in expressions}
    return (
        f"{split:<8} {len(images):>7,} images {len(refs):>7,} refs "
        f"{len(expressions):>8,} expressions"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print a line a split; return the exit status: 0, or 2 where the data cannot be read."""
    parser = argparse.ArgumentParser(description="Say what a data set holds, or what is missing.")
    parser.add_argument("--dataset", required=True, help="unc, unc+, gref, refshapes-unc, ...")
    parser.add_argument("--data", required=True, type=Path, help="the folder the data lies in")
    options = parser.parse_args(arguments)
    try:
        for split in splits_of(options.dataset):
            expressions = read_expressions(options.data, options.dataset, split)
            print(summary(split, expressions))
            warn_of_turned(expression.image_path for expression in expressions)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
