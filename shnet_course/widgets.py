"""Something to play with: controls over a picture that one pure function draws.

The picture is an ordinary output of the cell, redrawn in place when a control changes. So it is
there wherever the notebook is read: in JupyterLab, in a web preview, in print. Only the controls
need a front end.
"""

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
from IPython.display import display
from ipywidgets.widgets.interaction import interactive
from matplotlib.figure import Figure

from shnet_course.answer import Photo, draw_answer
from shnet_course.pictures.base import live_picture
from shnet_course.pictures.lesson_01 import count_examples, describe_example, draw_example
from shnet_lib.data import splits_of
from shnet_lib.training.checkpoint import TrainedSHNet


def explore(
    draw: Callable[..., Figure], alt: Callable[..., str] | None = None, **controls: Any
) -> None:
    """Show `draw(**values)` with a control for each of its arguments, redrawn when one changes.

    Args:
        draw: a function of the controls' values, and of nothing that changes.
        alt: the same arguments -> a text for those who cannot see the picture;
            `"The grid {grid} wide".format` is one. Where None, the figure's label is the text.
        controls: a widget each, or what ipywidgets makes one of: (0, 9) a slider, a list a
            dropdown, a str a text field, a bool a tick box. All of them wait until the slider is
            let go, or Enter is pressed.

    Raises:
        ValueError: a control is neither a widget nor anything that one can be made of.
        What `draw` raises, at the first drawing. Later, an error is told under the controls: there
        is no cell under which it could be raised.
    """
    picture = live_picture()
    box, update = connect_controls(draw, alt, picture, **controls)
    names = ", ".join(widget.description for widget in box.children[:-1])
    text = f"Controls ({names}): they appear where this notebook runs."
    display({**box._repr_mimebundle_(), "text/plain": text}, raw=True)
    update()


def connect_controls(
    draw: Callable[..., Figure],
    alt: Callable[..., str] | None,
    picture: Callable[[Figure, str], None],
    **controls: Any,
) -> tuple[ipywidgets.VBox, Callable[[], None]]:
    """The controls of `explore` in a box, and the function that draws for their present values.

    Each figure goes to `picture` with its text. The box ends in the field for messages.
    """
    made = {name: _control(name, given) for name, given in controls.items()}
    message = ipywidgets.HTML()
    drawn: list[dict[str, Any]] = []

    def update() -> None:
        values = {name: widget.value for name, widget in made.items()}
        if drawn != [values]:
            figure = draw(**values)
            picture(figure, alt(**values) if alt else figure.get_label())
            drawn[:] = [values]

    def update_or_tell(_change: Any) -> None:
        try:
            update()
            message.value = ""
        except Exception as error:  # whatever it is, the person at the control should read it
            message.value = f"<b>{escape(type(error).__name__)}</b>: {escape(str(error))}"

    for widget in made.values():
        widget.observe(update_or_tell, "value")
    return ipywidgets.VBox([*made.values(), message]), update


def _control(name: str, given: Any) -> ipywidgets.Widget:
    widget = given
    if not isinstance(given, ipywidgets.Widget):
        widget = interactive.widget_from_abbrev(given)
    if widget is None:
        raise ValueError(f"no control can be made for {name!r} of {given!r}: give a widget")
    widget.description = widget.description or name.replace("_", " ")
    if widget.has_trait("continuous_update"):
        widget.continuous_update = False
    return widget


def ask_photos(trained: TrainedSHNet, photos: Mapping[str, Photo], phrase: str) -> None:
    """Ask about one of some photos, or about a file: a dropdown, and two fields to type into.

    Args:
        photos: name -> photo; the first one is shown first.
        phrase: asked at first.

    Raises:
        PredictionError: the phrase holds no word, or the first photo cannot be read. Later, also
            of a file that is not there, it is told under the controls.
    """

    def draw(photo: str, file: str, phrase: str) -> Figure:
        return draw_answer(trained, file.strip() or photos[photo], phrase)

    file = ipywidgets.Text(description="or a file", placeholder="photo.jpg, /home/me/photo.jpg")
    explore(draw, photo=list(photos), file=file, phrase=phrase)


def browse(data_sets: Mapping[str, Path], split: str, index: int = 0) -> None:
    """Leaf through the examples of data sets: one dropdown each for data set and split, a slider.

    Args:
        data_sets: name -> the folder that holds it, as data_plots.find_data_sets gives; the first
            is shown first, at `split` and `index`.

    Raises:
        DataError: a file of the first data set is missing or damaged.
    """

    def draw(dataset: str, split: str, index: int) -> Figure:
        return draw_example(data_sets[dataset], dataset, split, index)

    def describe(dataset: str, split: str, index: int) -> str:
        return describe_example(data_sets[dataset], dataset, split, index)

    explore(draw, describe, **data_controls(data_sets, split, index))


def data_controls(data_sets: Mapping[str, Path], split: str, index: int) -> dict[str, Any]:
    """Controls `dataset`, `split` and `index`; the first two decide what the others offer."""
    dataset = ipywidgets.Dropdown(options=list(data_sets), description="data set")
    splits = ipywidgets.Dropdown(options=splits_of(dataset.value), value=split, description="split")
    last = count_examples(data_sets[dataset.value], dataset.value, split) - 1
    slider = ipywidgets.IntSlider(
        index, 0, last, description="index", layout=ipywidgets.Layout(width="60%")
    )

    def offer(_change: Any) -> None:
        if splits.options != splits_of(dataset.value):
            splits.options = splits_of(dataset.value)
        slider.max = count_examples(data_sets[dataset.value], dataset.value, splits.value) - 1

    dataset.observe(offer, "value")
    splits.observe(offer, "value")
    return {"dataset": dataset, "split": splits, "index": slider}
