"""A picture to click into, and a phrase to click on: which token asks?"""

from collections.abc import Sequence

import ipywidgets
import numpy as np
from matplotlib.colors import to_hex
from traitlets import Int, Unicode

from shnet_course.pictures.base import cut_into_cells

BUTTONS_SIDE = 260  # of the picture of buttons, in screen pixels
ASKING = "?"  # on the button of the token that asks
BLANK = "\u00a0"  # on a pixel's: ipywidgets would leave the old text for an empty one


class TokenPicker(ipywidgets.VBox):
    """A button for each pixel of the grid, in the photo's colours, and one for each word.

    `value` is the token that was clicked last: pixels row by row from 0, then the words.

    Args:
        photo: (height, width, 3) uint8.
        grid: H = W.
        words: the phrase's.
        value: the token chosen at first.

    Raises:
        ValueError: there is no such token.
    """

    value = Int()
    description = Unicode("pixel or word")

    def __init__(self, photo: np.ndarray, grid: int, words: Sequence[str], value: int = 0) -> None:
        tokens = grid * grid + len(words)
        if not 0 <= value < tokens:
            raise ValueError(f"there is no token {value}: {grid} x {grid} pixels and {words}")
        side = f"{BUTTONS_SIDE // grid}px"
        cell = ipywidgets.Layout(width=side, height=side, margin="0", padding="0")
        self.buttons = [
            ipywidgets.Button(
                description=BLANK,
                tooltip=f"row {n // grid}, column {n % grid}",
                style={"button_color": colour},
                layout=cell,
            )
            for n, colour in enumerate(cell_colours(photo, grid))
        ]
        self.buttons += [
            ipywidgets.Button(description=word, layout=ipywidgets.Layout(width="auto"))
            for word in words
        ]
        self._labels = [button.description for button in self.buttons]
        for token, button in enumerate(self.buttons):
            button.on_click(lambda _button, token=token: setattr(self, "value", token))
        pixels = ipywidgets.GridBox(
            self.buttons[: grid * grid],
            layout=ipywidgets.Layout(grid_template_columns=f"repeat({grid}, {side})", grid_gap="0"),
        )
        super().__init__([pixels, ipywidgets.HBox(self.buttons[grid * grid :])], value=value)
        self._mark({"old": value, "new": value})
        self.observe(self._mark, "value")

    def _mark(self, change: dict) -> None:
        old, new = change["old"], change["new"]
        self.buttons[old].description = self._labels[old]
        self.buttons[new].description = f"{self._labels[new]} {ASKING}".strip()


def cell_colours(photo: np.ndarray, grid: int) -> list[str]:
    """The mean colour "#rrggbb" of each cell of a photo (height, width, 3) uint8, row by row."""
    return [to_hex(cell.mean((0, 1)) / 255) for cell in cut_into_cells(photo, grid)]
