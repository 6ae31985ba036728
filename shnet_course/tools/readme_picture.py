"""The picture of the README: a phrase of each family of val, and what the shipped model marks.

python -m shnet_course.tools.readme_picture
"""

from pathlib import Path

from shnet_course.paths import COURSE
from shnet_course.pictures.base import draw_predictions
from shnet_lib import load_shnet, predict
from shnet_lib.data import Expression, read_expressions

README_PICTURE = COURSE / "docs" / "phrases.png"


def one_of_each_family(expressions: list[Expression]) -> list[Expression]:
    """The first expression of three words or more of each family, each from another photo."""
    chosen: dict[str | None, Expression] = {}
    for expression in expressions:
        photos = {other.image_path for other in chosen.values()}
        long_enough = len(expression.text.split()) >= 3
        if expression.family not in chosen and expression.image_path not in photos and long_enough:
            chosen[expression.family] = expression
    return list(chosen.values())


def main(target: Path = README_PICTURE) -> None:
    """Write the picture. The phrases are not chosen by how well they are answered."""
    shnet = load_shnet(COURSE / "data" / "weights" / "shnet_refshapes")
    asked = one_of_each_family(read_expressions(COURSE / "data/refshapes", "refshapes-unc", "val"))
    masks = [predict(shnet, expression.photo(), expression.text).mask for expression in asked]
    draw_predictions(asked, masks, columns=3).savefig(target)
    print(target)


if __name__ == "__main__":
    main()
