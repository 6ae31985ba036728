"""The picture on the README: phrases of the validation split and the shipped model's masks.

python -m shnet_lib.teaching.readme_picture
"""

from pathlib import Path

from shnet_lib import SHIPPED_SHNET, load_shnet, predict
from shnet_lib.data import read_expressions
from shnet_lib.teaching.plots import draw_predictions

ROOT = Path(__file__).parents[2]
CHOSEN = 6  # one an expression family, the first of each in the order of the data set


def main() -> None:
    """Write docs/phrases.png."""
    first_of_family = {}
    for expression in read_expressions(ROOT / "data" / "refshapes", "refshapes-unc", "val")[40:]:
        first_of_family.setdefault(expression.family, expression)
    expressions = list(first_of_family.values())[:CHOSEN]
    shnet = load_shnet(SHIPPED_SHNET)
    masks = [predict(shnet, e.image_path, e.text).mask for e in expressions]
    out = ROOT / "docs" / "phrases.png"
    out.parent.mkdir(exist_ok=True)
    draw_predictions(expressions, masks, columns=3).savefig(out)
    print(out)


if __name__ == "__main__":
    main()
