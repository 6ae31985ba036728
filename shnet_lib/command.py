"""The command `shnet` (also `python -m shnet_lib`): a verb for each thing that people do.

    shnet train --preset quick --data data/refshapes --run runs/x
    shnet evaluate runs/x/best --data data/refshapes --split val testA
    shnet predict runs/x/best photos --phrase "second elephant from right" --out masks
    shnet ablate --data data/refshapes --out docs/results/ablations.csv
    shnet data check --dataset unc --data data/unc

On several devices: accelerate launch -m shnet_lib train ... What is wrong with a file or a setting
is told in one line, and the exit status is 2.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from shnet_lib.errors import ShnetError

INTERRUPTED = 130  # the exit status that shells give to what Ctrl-C ended
PHOTO_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MAKERS = "shnet.makers"  # entry points of packages that make data sets: name -> main(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 130 after Ctrl-C; 2 where a file or a setting is wrong, the loss
    is not finite, or memory or disk do not suffice. One line says what happened and what to do.
    """
    given = parser().parse_args(arguments)
    try:
        return given.verb(given) or 0
    except ShnetError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say(given.after_stop(given))
        return INTERRUPTED


def say(line: str) -> None:
    """Print to stderr, above the progress bar where one stands there."""
    from tqdm import tqdm

    if line:
        tqdm.write(line, file=sys.stderr)


def path(text: str) -> Path:
    """A path as shells write it: ~ is the home folder."""
    return Path(text).expanduser()


def parser() -> argparse.ArgumentParser:
    """All verbs with their options. A verb imports what it needs when it runs, not before."""
    top = argparse.ArgumentParser(prog="shnet", description=__doc__)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = top.add_subparsers(required=True, metavar="VERB")
    for add in (add_train, add_evaluate, add_predict, add_ablate):
        add(verbs)
    data = verbs.add_parser("data", help="check, fetch or make a data set")
    data_verbs = data.add_subparsers(required=True, metavar="VERB")
    for add in (add_check, add_fetch, add_make):
        add(data_verbs)
    return top


def new_verb(
    verbs: argparse._SubParsersAction, name: str, function: Callable, **options: object
) -> argparse.ArgumentParser:
    """A verb whose help is the first line of its function's docstring."""
    says = inspect.getdoc(function) or ""
    added = verbs.add_parser(name, help=says.splitlines()[0], description=says, **options)
    added.formatter_class = argparse.RawDescriptionHelpFormatter
    added.set_defaults(verb=function, after_stop=lambda given: "Stopped.")
    return added


def add_settings(verb: argparse.ArgumentParser, says: str) -> None:
    more = {"action": "extend", "default": [], "dest": "settings", "help": says}
    verb.add_argument("--set", nargs="+", metavar="NAME=VALUE", **more)


# --- train ----------------------------------------------------------------------------------------


def add_train(verbs: argparse._SubParsersAction) -> None:
    verb = new_verb(verbs, "train", do_train)
    verb.add_argument("--preset", default="quick", help="the settings to begin with: %(default)s")
    verb.add_argument("--dataset", help="in place of the preset's")
    verb.add_argument("--data", type=path, required=True, help="folder of the data sets")
    verb.add_argument("--run", type=path, required=True, help="folder to write the run into")
    verb.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    add_settings(verb, "in place of the preset's; all of them are listed below")
    options = verb.format_help

    def options_and_settings() -> str:
        from shnet_lib.training.config import list_settings

        return f"{options()}\n{list_settings()}\n"

    verb.format_help = options_and_settings
    verb.set_defaults(after_stop=how_to_resume)


def how_to_resume(given: argparse.Namespace) -> str:
    from accelerate import PartialState

    from shnet_lib.training.interruption import how_to_go_on

    return how_to_go_on(given.run) if PartialState().is_main_process else ""


def do_train(given: argparse.Namespace) -> None:
    """Train, then evaluate on every unseen split; the last line is one JSON object."""
    from accelerate import PartialState

    from shnet_lib.training.config import configure, parse_settings
    from shnet_lib.training.run import run

    overrides = parse_settings(given.settings)
    if given.dataset:
        overrides["dataset"] = given.dataset
    config = configure(given.preset, **overrides)
    report = run(config, given.data, given.run, given.resume).report
    if PartialState().is_main_process:
        print(json.dumps(report))


def add_ablate(verbs: argparse._SubParsersAction) -> None:
    verb = new_verb(verbs, "ablate", do_ablate)
    verb.add_argument("--data", type=path, required=True, help="folder of RefShapes")
    verb.add_argument("--out", type=path, required=True, help="the CSV, continued if it exists")
    verb.add_argument("--runs", type=path, default=Path("runs/ablations"), help="for checkpoints")
    verb.add_argument("--preset", default="tables", help="default %(default)s")
    verb.add_argument("--rows", nargs="+", metavar="ROW", help="default: every row")
    verb.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    add_settings(verb, "settings in place of the preset's; shnet train --help lists them")
    verb.set_defaults(after_stop=lambda given: "Stopped. The same command continues the series.")


def do_ablate(given: argparse.Namespace) -> None:
    """Train the rows of Tables 2 and 4 with several seeds, a line per run in a CSV."""
    from shnet_lib.training.ablations import ROWS, train_rows
    from shnet_lib.training.config import configure, parse_settings

    base = configure(given.preset, **parse_settings(given.settings))
    train_rows(given.rows or ROWS, given.seeds, base, given.data, given.out, given.runs)


# --- use a trained network ------------------------------------------------------------------------


def add_network_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("network", type=path, help="folder of a trained network, such as runs/x/best")
    verb.add_argument("--backbone-weights", help="where the frozen backbone's file lies here")
    verb.add_argument("--device", help="cuda, cpu, ...; CUDA where there is one")


def load(given: argparse.Namespace):
    """The trained network that was named, on its device."""
    import torch

    from shnet_lib.training.checkpoint import load_shnet

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return load_shnet(given.network, given.backbone_weights, device)


def add_evaluate(verbs: argparse._SubParsersAction) -> None:
    verb = new_verb(verbs, "evaluate", do_evaluate)
    add_network_options(verb)
    verb.add_argument("--data", type=path, required=True, help="folder of the data sets")
    verb.add_argument("--dataset", help="in place of the one it was trained on")
    verb.add_argument("--split", nargs="+", help="all that it was not trained on, by default")
    verb.add_argument("--protocol", choices=("original", "released"), default="original")
    verb.add_argument("--out", type=path, help="folder for one CSV per split, a row per expression")
    verb.add_argument("--batch-size", type=int, default=50, help="default %(default)s")
    verb.add_argument("--workers", type=int, default=0, help="processes that read photos")


def do_evaluate(given: argparse.Namespace) -> None:
    """Measure a trained network on any data set and split; the last line is one JSON object."""
    from shnet_lib.data import read_expressions
    from shnet_lib.files import write_table
    from shnet_lib.training.evaluate import evaluate
    from shnet_lib.training.run import unseen_splits

    trained = load(given)
    dataset = given.dataset or trained.config.dataset
    report: dict = {"network": str(given.network), "dataset": dataset, "protocol": given.protocol}
    for split in given.split or unseen_splits(dataset, given.data):
        expressions = read_expressions(given.data, dataset, split)
        if split != "train":
            expressions = _unseen(expressions, trained, split)
        measured = evaluate(
            trained.network,
            trained.evaluation_set(expressions),
            protocol=given.protocol,
            batch_size=given.batch_size,
            workers=given.workers,
        )
        report[split] = measured.rounded()
        if given.out:
            write_table(given.out / f"expressions-{split}.csv", measured.rows)
    print(json.dumps(report))


def _unseen(expressions: list, trained: Any, split: str) -> list:
    """Without those on photos whose COCO numbers stand in the network's card as trained on."""
    from shnet_lib.data.coco import coco_photo
    from shnet_lib.data.errors import DataError

    trained_on = frozenset(trained.card.get("trained_on", ()))
    unseen = [one for one in expressions if coco_photo(one.image_path.name) not in trained_on]
    if expressions and not unseen:
        raise DataError(
            f"{split}: the network was trained on every photo of it. Take other photos."
        )
    if left_out := len(expressions) - len(unseen):
        told = f"{split}: {left_out:,} expressions left out, on photos that it was trained on"
        print(told, file=sys.stderr)
    return unseen


def add_predict(verbs: argparse._SubParsersAction) -> None:
    verb = new_verb(verbs, "predict", do_predict)
    add_network_options(verb)
    verb.add_argument("photos", type=path, nargs="+", help="photos, or folders of them")
    phrases = verb.add_mutually_exclusive_group(required=True)
    phrases.add_argument("--phrase", help="asked of every photo")
    phrases.add_argument("--phrases", type=path, help="a text file, one phrase per line")
    verb.add_argument("--out", type=path, required=True, help="folder for the pictures")
    verb.add_argument("--threshold", type=float, default=0.5, help="default %(default)s")


def do_predict(given: argparse.Namespace) -> None:
    """Ask a trained network: per photo and phrase a mask and an overlay as PNG, and a line."""
    import numpy as np
    from PIL import Image

    from shnet_lib.prediction import highlight, predict, read_photo

    photos, phrases = photos_in(given.photos), phrases_of(given)
    trained = load(given)
    given.out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for photo in photos:
        pixels = np.asarray(read_photo(photo))
        for phrase in phrases:
            answer = predict(trained, photo, phrase, given.threshold)
            name = free_name(f"{photo.stem} {phrase}", taken)
            Image.fromarray(answer.mask).save(given.out / f"{name}.mask.png")
            Image.fromarray(highlight(pixels, answer.mask)).save(given.out / f"{name}.overlay.png")
            unknown = ", ".join(answer.unknown_words)
            note = f"; never seen in training: {unknown}" if unknown else ""
            share = f"{answer.mask.mean():.1%} of the photo"
            print(f"{photo.name}, {phrase!r}: {share}{note} -> {given.out / name}.mask.png")


def photos_in(named: Sequence[Path]) -> list[Path]:
    """The photos that are named, and those that lie in a named folder.

    Raises:
        ShnetError: there is no such file, or a folder holds no photo.
    """
    photos: list[Path] = []
    for each in named:
        inside = [each]
        if each.is_dir():
            inside = sorted(
                file for file in each.iterdir() if file.suffix.lower() in PHOTO_SUFFIXES
            )
        if not inside or not inside[0].is_file():
            raise ShnetError(f"{each.absolute()}: no photo. Name a photo, or a folder of photos")
        photos += inside
    return photos


def phrases_of(given: argparse.Namespace) -> list[str]:
    """The phrase of the command line, or those of a file, one per line.

    Raises:
        ShnetError: the file cannot be read as text, or holds no phrase.
    """
    if given.phrase is not None:
        return [given.phrase]
    try:
        lines = given.phrases.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ShnetError(f"{given.phrases.absolute()} cannot be read as text: {error}") from error
    phrases = [line.strip() for line in lines if line.strip()]
    if not phrases:
        raise ShnetError(f"{given.phrases.absolute()} holds no phrase: write one per line")
    return phrases


def free_name(text: str, taken: set[str]) -> str:
    """A file name out of a text's letters and digits, unlike those `taken`; it becomes one."""
    base = "-".join("".join(c if c.isalnum() else " " for c in text).split())[:100]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


# --- data sets ------------------------------------------------------------------------------------


def add_check(verbs: argparse._SubParsersAction) -> None:
    verb = new_verb(verbs, "check", do_check)
    verb.add_argument("--dataset", required=True, help="unc, unc+, gref, refshapes-unc, ...")
    verb.add_argument("--data", type=path, required=True, help="the folder the data lies in")


def do_check(given: argparse.Namespace) -> None:
    """Say what a data set holds, a line per split, or what is missing from it."""
    from shnet_lib.data import read_expressions, splits_of
    from shnet_lib.data.images import warn_of_turned

    for split in splits_of(given.dataset, given.data):
        expressions = read_expressions(given.data, given.dataset, split)
        photos = {expression.image_path for expression in expressions}
        refs = {expression.ref_id for expression in expressions}
        print(
            f"{split:<8} {len(photos):>7,} images {len(refs):>7,} refs "
            f"{len(expressions):>8,} expressions"
        )
        if given.dataset != "own":  # there the reader has done it
            warn_of_turned(photos)


def add_fetch(verbs: argparse._SubParsersAction) -> None:
    verb = new_verb(verbs, "fetch", do_fetch)
    verb.add_argument("--dataset", required=True, help="unc, unc+, gref, refclef, coco-val, ...")
    verb.add_argument("--data", type=path, required=True, help="the folder to put it in")
    verb.add_argument("--images-from", type=path, help="a folder or zip of photos that you have")
    verb.add_argument("--photos", type=int, metavar="N", help="of coco-val, the first N of 5,000")
    verb.add_argument("--glove", action="store_true", help="GloVe too (2 GB to fetch)")
    verb.add_argument(
        "--verify",
        action="store_true",
        help="decode every photo and compare checksums; fetch again what is damaged",
    )
    verb.add_argument("--no-download", action="store_true", help="only say what is missing")
    verb.add_argument("--mirror", help="an address that is asked before the published ones")
    verb.add_argument("--workers", type=int, default=8, help="photos at a time, %(default)s")
    verb.set_defaults(after_stop=lambda given: "Stopped. Run the same command again: it continues.")


def do_fetch(given: argparse.Namespace) -> int:
    """Fetch annotations, the photos they need, and GloVe's vectors of their words.

    The addresses are those that people reported up to 2025. None of these addresses was reached
    when this was written: --mirror and --images-from take the parts from elsewhere.
    """
    from shnet_lib.data.fetch.fetch import Fetch
    from shnet_lib.data.fetch.sources import NO_SOURCES, PUBLISHED

    sources = PUBLISHED.first(given.mirror) if given.mirror else PUBLISHED
    report = Fetch(
        data=given.data,
        dataset=given.dataset,
        images_from=given.images_from,
        glove=given.glove,
        photos=given.photos,
        verify=given.verify,
        workers=given.workers,
        sources=NO_SOURCES if given.no_download else sources,
    ).run()
    print(report)
    return 0 if report.complete else 2


def add_make(verbs: argparse._SubParsersAction) -> None:
    verb = new_verb(verbs, "make", do_make, add_help=False)
    verb.add_argument("maker", nargs="?", help="refshapes, photos, ...")
    verb.add_argument(
        "options", nargs=argparse.REMAINDER, help="the maker's own; --help lists them"
    )


def do_make(given: argparse.Namespace) -> int:
    """Make a data set: shnet data make refshapes --out data/refshapes; KIND --help says more."""
    makers = {each.name: each for each in entry_points(group=MAKERS)}
    if given.maker not in makers:
        known = ", ".join(sorted(makers)) or "none: install the course, pip install -e ."
        raise ShnetError(f"there is no maker {given.maker!r}; there are: {known}")
    return makers[given.maker].load()(given.options)
