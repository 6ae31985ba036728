"""A click on a pixel or a word is a token."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from shnet_course.token_picker import ASKING, TokenPicker, cell_colours
from shnet_course.widgets import explore

PHOTO = np.zeros((8, 12, 3), np.uint8)
PHOTO[:4, :6] = (255, 0, 0)
PHOTO[4:, 6:, 1] = 128


def marked(picker: TokenPicker) -> list[int]:
    return [n for n, button in enumerate(picker.buttons) if ASKING in button.description]


def test_a_click_chooses_a_pixel_or_a_word_and_marks_it():
    picker = TokenPicker(PHOTO, 2, ["red", "star"], value=4)
    assert (picker.value, marked(picker)) == (4, [4])
    assert picker.buttons[4].description == f"red {ASKING}"
    picker.buttons[1].click()
    assert (picker.value, marked(picker)) == (1, [1])
    assert picker.buttons[4].description == "red"
    assert all(button.description for button in picker.buttons)  # or the page keeps the old text
    assert picker.buttons[1].tooltip == "row 0, column 1"
    picker.buttons[5].click()
    picker.buttons[5].click()
    assert (picker.value, marked(picker)) == (5, [5])


def test_the_pixels_have_the_photos_colours():
    assert cell_colours(PHOTO, 2) == ["#ff0000", "#000000", "#000000", "#008000"]
    buttons = TokenPicker(PHOTO, 2, ["red"]).buttons
    assert [b.style.button_color for b in buttons[:4]] == cell_colours(PHOTO, 2)
    assert len(cell_colours(PHOTO, 5)) == 25  # cells of unequal size


def test_a_token_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match=r"no token 5"):
        TokenPicker(PHOTO, 2, ["red"], value=5)


def test_explore_redraws_at_a_click():
    asked = []

    def draw(token: int) -> Figure:
        asked.append(token)
        return Figure()

    picker = TokenPicker(PHOTO, 2, ["red", "star"], value=5)
    explore(draw, "token {token}".format, token=picker)
    picker.buttons[2].click()
    assert asked == [5, 2]
    assert picker.description == "pixel or word"
