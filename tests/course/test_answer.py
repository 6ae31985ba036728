"""The answer's picture shows the mask that `predict` gives, and says what was not understood."""

import numpy as np
import pytest
import torch
from PIL import Image

from shnet_course import widgets
from shnet_course.answer import LONGEST_SIDE, draw_answer, draw_answers
from shnet_lib.data.text import Vocabulary
from shnet_lib.prediction import PredictionError, predict
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.config import configure


class MarksAQuarter(torch.nn.Module):
    """Logits that are high in the upper left quarter, whatever was asked."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.size = size

    def forward(self, batch: dict) -> torch.Tensor:
        logits = torch.full((len(batch["words"]), self.size, self.size), -9.0)
        logits[:, : self.size // 2, : self.size // 2] = 9.0
        return logits


@pytest.fixture
def trained() -> TrainedSHNet:
    config = configure("tables", **{"model.image_size": 32})
    return TrainedSHNet(MarksAQuarter(32), Vocabulary.from_texts(["left cup"]), config, {})


@pytest.fixture
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_what_is_marked_keeps_its_colours(trained, photo):
    figure = draw_answer(trained, photo, "left cup")
    mask = predict(trained, photo, "left cup").mask
    picture, probability = (np.asarray(ax.images[0].get_array()) for ax in figure.axes[:2])
    assert 0.2 < mask.mean() < 0.3
    assert np.array_equal(picture[mask], np.asarray(photo)[mask])
    assert (picture[~mask] != np.asarray(photo)[~mask]).any(-1).mean() > 0.99
    assert np.array_equal(probability > 0.5, mask)
    assert figure.axes[0].get_title() == "“left cup”"
    assert figure.get_supxlabel() == ""


def test_words_it_never_saw_are_told_in_the_picture_and_in_the_text(trained, photo):
    figure = draw_answer(trained, photo, "left mug")
    assert figure.get_supxlabel() == "It never saw the words: mug."
    assert figure.get_label().endswith("It never saw the words: mug.")


def test_the_text_says_how_much_and_where(trained, photo):
    assert draw_answer(trained, photo, "cup").get_label() == (
        "“cup” marks 25.0% of the picture, around 25% from the left and 25% from the top."
    )
    trained.network.forward = lambda batch: torch.full((1, 32, 32), -9.0)
    assert "marks 0.0% of the picture, nowhere." in draw_answer(trained, photo, "cup").get_label()


def test_the_picture_and_its_text_take_one_look_of_the_network(trained, photo, monkeypatch):
    looks, answer = [], trained.network.forward
    trained.network.forward = lambda batch: looks.append(batch) or answer(batch)
    explored = []
    monkeypatch.setattr(widgets, "live_picture", lambda: lambda figure, alt: explored.append(alt))
    widgets.ask_photos(trained, {"a cup": photo}, "cup")
    assert len(looks) == 1 and explored[0].startswith("“cup” marks 25.0% of the picture")


def test_a_phrase_without_words_is_an_error(trained, photo):
    with pytest.raises(PredictionError, match="holds no word"):
        draw_answer(trained, photo, " !")


def test_answers_stand_side_by_side_each_under_its_phrase(trained, photo):
    figure = draw_answers(trained, [(photo, "left cup"), (np.asarray(photo), "cup")])
    assert [ax.get_title() for ax in figure.axes] == ["“left cup”", "“cup”"]
    assert figure.get_label().endswith("“left cup” marks 25%, “cup” marks 25%.")
    for ax in figure.axes:
        picture = np.asarray(ax.images[0].get_array())
        assert np.array_equal(picture[:16, :32], np.asarray(photo)[:16, :32])  # the marked quarter


def test_a_large_photo_is_drawn_no_larger_than_is_seen(trained):
    large = Image.new("RGB", (4 * LONGEST_SIDE, 2 * LONGEST_SIDE), "gray")
    (picture,) = draw_answer(trained, large, "cup").axes[0].images
    assert picture.get_array().shape == (LONGEST_SIDE // 2, LONGEST_SIDE, 3)
    assert large.size == (4 * LONGEST_SIDE, 2 * LONGEST_SIDE)  # the caller's is left alone


def test_a_file_of_ones_own_goes_before_the_chosen_photo(trained, photo, tmp_path, monkeypatch):
    explored = {}
    monkeypatch.setattr(
        widgets, "explore", lambda *args, **controls: explored.update(controls, args=args)
    )
    photo.crop((0, 0, 20, 32)).save(tmp_path / "own.png")
    widgets.ask_photos(trained, {"a cup": photo, "a mug": np.asarray(photo)[:16]}, "cup")
    (draw,) = explored["args"]
    assert explored["photo"] == ["a cup", "a mug"] and explored["phrase"] == "cup"

    def shape(*values: str) -> tuple[int, ...]:
        return draw(*values).axes[0].images[0].get_array().shape

    assert shape("a cup", "", "cup") == (32, 64, 3) and shape("a mug", "", "cup") == (16, 64, 3)
    assert shape("a cup", f" {tmp_path / 'own.png'} ", "cup") == (32, 20, 3)
    assert "marks 25.0%" in draw("a mug", "", "cup").get_label()
    with pytest.raises(PredictionError, match="there is no image .*none.jpg"):
        draw("a cup", "none.jpg", "cup")
