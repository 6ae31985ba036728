"""Controls over a picture: what is drawn, when it is redrawn, what is left without a browser."""

import base64
import io
from pathlib import Path

import ipywidgets
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from refgen.refshapes import generate
from shnet_course.pictures.lesson_01 import count_examples, describe_example
from shnet_course.widgets import connect_controls, data_controls

WIDGET = "application/vnd.jupyter.widget-view+json"


def draw(number: int, word: str) -> Figure:
    figure = Figure()
    figure.suptitle(f"{word} {number}")
    return figure


class Shown(list):
    """The pictures that were shown, with their texts."""

    def __call__(self, figure: Figure, alt: str) -> None:
        self.append((figure, alt))


def test_the_picture_follows_the_controls() -> None:
    slider, field, shown = ipywidgets.IntSlider(3, 0, 9), ipywidgets.Text("star"), Shown()
    _, update = connect_controls(
        draw, "{word} number {number}".format, shown, number=slider, word=field
    )
    assert not shown
    update()
    slider.value = 5
    field.value = "moon"
    assert [alt for _, alt in shown] == ["star number 3", "star number 5", "moon number 5"]
    assert [figure.get_suptitle() for figure, _ in shown] == ["star 3", "star 5", "moon 5"]


def test_a_figure_may_bring_its_own_text() -> None:
    def labelled(number: int) -> Figure:
        figure = Figure()
        figure.set_label(f"told of {number}")
        return figure

    shown = Shown()
    _, update = connect_controls(labelled, None, shown, number=ipywidgets.IntSlider(3, 0, 9))
    update()
    assert [alt for _, alt in shown] == ["told of 3"]


def test_plain_values_become_controls_that_wait_until_they_are_let_go() -> None:
    given = {"grid_size": (2, 40), "word": "star", "kind": ["a", "b"], "on": True}
    box, _ = connect_controls(draw, "".format, Shown(), **given)
    *made, message = box.children
    kinds = [ipywidgets.IntSlider, ipywidgets.Text, ipywidgets.Dropdown, ipywidgets.Checkbox]
    assert [type(widget) for widget in made] == kinds
    assert isinstance(message, ipywidgets.HTML)
    assert [widget.description for widget in made] == ["grid size", "word", "kind", "on"]
    assert (made[0].min, made[0].max, made[2].options) == (2, 40, ("a", "b"))
    assert not made[0].continuous_update and not made[1].continuous_update


def test_what_no_control_can_be_made_of_is_an_error() -> None:
    with pytest.raises(ValueError, match="'number' of <object"):
        connect_controls(draw, "".format, Shown(), number=object())


def test_the_same_values_are_not_drawn_twice() -> None:
    shown = Shown()
    given = {"number": ipywidgets.IntSlider(3, 0, 9), "word": ipywidgets.Text("star")}
    _, update = connect_controls(draw, "{number}".format, shown, **given)
    update()
    update()
    assert len(shown) == 1


def test_an_error_is_raised_at_first_and_told_under_the_controls_later() -> None:
    def fussy(number: int) -> Figure:
        if number > 4:
            raise ValueError("too many <stars>")
        return Figure()

    shown, slider = Shown(), ipywidgets.IntSlider(5, 0, 9)
    box, update = connect_controls(fussy, "{number}".format, shown, number=slider)
    with pytest.raises(ValueError, match="too many"):
        update()
    message = box.children[-1]
    slider.value = 6
    assert message.value == "<b>ValueError</b>: too many &lt;stars&gt;"
    slider.value = 2
    assert message.value == "" and [alt for _, alt in shown] == ["2"]


# ---------------------------------------------------------------- leafing through data


def test_the_controls_offer_what_the_data_set_has(tmp_path: Path) -> None:
    images = {"train": 6, "val": 3, "testA": 2, "testB": 2}
    data = generate(tmp_path / "refshapes", images, size=64)
    data_sets = {"refshapes-unc": data, "refshapes-gref": data}
    controls, shown = data_controls(data_sets, split="train", index=2), Shown()
    dataset, split, index = controls.values()

    def describe(dataset: str, split: str, index: int) -> str:
        return describe_example(data_sets[dataset], dataset, split, index)  # raises out of bounds

    box, update = connect_controls(lambda **_: Figure(), describe, shown, **controls)
    update()
    assert shown[0][1].startswith("Example 2 of refshapes-unc, train")
    assert split.options == ("train", "val", "testA", "testB")
    assert index.max == count_examples(data, "refshapes-unc", "train") - 1
    index.value = index.max
    split.value = "testB"
    assert index.max == index.value == count_examples(data, "refshapes-unc", "testB") - 1
    dataset.value = "refshapes-gref"
    assert index.max == count_examples(data, "refshapes-gref", "testB") - 1
    assert box.children[-1].value == ""
    assert shown[-1][1].startswith(f"Example {index.value} of refshapes-gref, testB: “")


# ---------------------------------------------------------------- in a notebook

CELLS = [
    """
import ipywidgets
from matplotlib.figure import Figure
from shnet_course.widgets import explore

def draw(width):
    return Figure(figsize=(width, 2), dpi=50)

slider = ipywidgets.IntSlider(2, 1, 9)
explore(draw, "a picture {width} wide".format, width=slider)
""",
    "slider.value = 6",
]


def test_the_picture_is_an_output_of_its_cell_and_is_redrawn_there(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    controls, picture = notebook.cells[0].outputs
    assert not notebook.cells[1].outputs
    assert WIDGET in controls.data and controls.data["text/plain"].startswith("Controls (width)")
    assert picture.data["text/plain"] == "a picture 6 wide"
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))))
    assert seen.shape[1] > 2.5 * seen.shape[0]
