"""An example of own data: our masks and phrases, over photos that two packages ship.

    shnet data make own-example --out data/mine

The photos are scikit-image's and scikit-learn's; they are copied from where pip put them.
"""

import argparse
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from shnet_lib.data.coco import Instances
from shnet_lib.data.errors import DataError
from shnet_lib.errors import report_error

EXAMPLE = Path(__file__).parents[1] / "data" / "own_example"  # instances.json and refs.json
PHOTOS = {"skimage": "data", "sklearn": "datasets/images"}  # by package, below its folder


def write_own_example(out: Path) -> list[str]:
    """Make `out` a folder as docs/own_data.md describes it: instances.json, refs.json, images/.

    scikit-image comes with the course and scikit-learn does not. The photos of a package that is
    not installed are left out, with their phrases; their names are returned.

    Raises:
        DataError: no photo is there, or a package no longer has one; nothing is written then.
    """
    instances = Instances(EXAMPLE / "instances.json", "Get the file from the course again.")
    photos: dict[int, Path] = {}
    left_out = []
    for number, image in instances.images.items():
        package, name = image["package"], image["file_name"]
        spec = find_spec(package)
        if spec is None:
            left_out.append(name)
            continue
        photos[number] = Path(spec.origin).parent / PHOTOS[package] / name
        if not photos[number].is_file():
            raise DataError(f"{photos[number]} is not there any more: install another {package}.")
    if not photos:
        raise DataError(
            "scikit-image is not installed, and the example's photos are its: "
            "pip install scikit-image scikit-learn."
        )
    refs = [
        ref
        for ref in json.loads((EXAMPLE / "refs.json").read_text())
        if instances.annotations[ref["ann_id"]]["image_id"] in photos
    ]
    (out / "images").mkdir(parents=True, exist_ok=True)
    for number, photo in photos.items():
        shutil.copyfile(photo, out / "images" / instances.images[number]["file_name"])
    shutil.copyfile(EXAMPLE / "instances.json", out / "instances.json")
    (out / "refs.json").write_text(json.dumps(refs, indent=1))
    return left_out


def main(arguments: list[str] | None = None) -> int:
    """Write the example; return the exit status: 0, or 2 where its photos are not there."""
    parser = argparse.ArgumentParser(
        prog="shnet data make own-example", description="Write an example of own data."
    )
    parser.add_argument("--out", required=True, type=Path, help="the folder to write it into")
    try:
        left_out = write_own_example(parser.parse_args(arguments).out)
    except DataError as error:
        return report_error(error)
    if left_out:
        print(f"left out, since their package is not installed: {', '.join(left_out)}")
    return 0
