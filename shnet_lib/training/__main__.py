"""Train and evaluate from a command line:

    python -m shnet_lib.training --preset quick --dataset refshapes-unc --data DATA --run runs/x
    accelerate launch -m shnet_lib.training --preset unc-320 --data DATA --run runs/y  # all GPUs
    ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 -m -- shnet_lib.training ...  # on CPUs

The last line printed is one JSON object with the metrics of every split that was not trained on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from tqdm import tqdm

from shnet_lib.errors import ShnetError
from shnet_lib.training.config import PRESETS, configure, parse_settings
from shnet_lib.training.interruption import how_to_go_on
from shnet_lib.training.run import run

INTERRUPTED = 130  # the exit status that shells give to what Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 130 after Ctrl-C; 2 where a setting or a file is wrong, the loss
    is not finite, or memory or disk are too small. One line says what happened and what to do.
    """
    parser = argparse.ArgumentParser(prog="python -m shnet_lib.training", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--preset", default="quick", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--dataset", help="in place of the preset's")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--run", type=Path, required=True, help="folder to write the run into")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="settings"
    )
    given = parser.parse_args(arguments)
    try:
        overrides = parse_settings(given.settings)
        if given.dataset:
            overrides["dataset"] = given.dataset
        config = configure(given.preset, **overrides)
        report = run(config, given.data, given.run, given.resume).report
    except ShnetError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        if PartialState().is_main_process:
            say(how_to_go_on(given.run.expanduser()))
        return INTERRUPTED
    if PartialState().is_main_process:
        print(json.dumps(report))
    return 0


def say(line: str) -> None:
    """Print to stderr, above the progress bar where one stands there."""
    tqdm.write(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
