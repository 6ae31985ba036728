"""An example of own data: our masks and phrases, over photos that two packages ship.

    shnet data make own-example --out data/mine

The photos are scikit-image's and scikit-learn's; they are copied from where pip put them.
"""

import argparse
import shutil
from importlib.util import find_spec
from pathlib import Path

from shnet_lib.data.coco import Instances
from shnet_lib.data.errors import DataError
from shnet_lib.errors import report_error

EXAMPLE = Path(__file__).parents[1] / "data" / "own_example"  # instances.json and refs.json
PHOTOS = {"skimage": "data", "sklearn": "datasets/images"}  # by package, below its folder


def write_own_example(out: Path) -> None:
    """Make `out` a folder as docs/own_data.md describes it: instances.json, refs.json, images/.

    Raises:
        DataError: a package is not installed, or no longer has a photo; nothing is written then.
    """
    folders = []
    for package, below in PHOTOS.items():
        spec = find_spec(package)
        if spec is None:
            raise DataError(
                f"{package} is not installed, and the example's photos are its: "
                "pip install scikit-image scikit-learn."
            )
        folders.append(Path(spec.origin).parent / below)
    instances = Instances(EXAMPLE / "instances.json", "Get the file from the course again.")
    photos = {}
    for image in instances.images.values():
        name = image["file_name"]
        photos[name] = next((f / name for f in folders if (f / name).is_file()), None)
        if photos[name] is None:
            raise DataError(f"{name} is in neither {folders[0]} nor {folders[1]} any more.")
    (out / "images").mkdir(parents=True, exist_ok=True)
    for name, photo in photos.items():
        shutil.copyfile(photo, out / "images" / name)
    for name in ("instances.json", "refs.json"):
        shutil.copyfile(EXAMPLE / name, out / name)


def main(arguments: list[str] | None = None) -> int:
    """Write the example; return the exit status: 0, or 2 where its photos are not there."""
    parser = argparse.ArgumentParser(
        prog="shnet data make own-example", description="Write an example of own data."
    )
    parser.add_argument("--out", required=True, type=Path, help="the folder to write it into")
    try:
        write_own_example(parser.parse_args(arguments).out)
    except DataError as error:
        return report_error(error)
    return 0
