"""Ask a trained network: the picture of one answer, and the same in words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from shnet_course.pictures.base import draw_mask, grid_of
from shnet_lib.prediction import Prediction, predict, read_photo
from shnet_lib.training.checkpoint import TrainedSHNet

Photo = Path | str | Image.Image | np.ndarray  # whatever `predict` reads
LONGEST_SIDE = 800  # pixels: more are not seen in a notebook, and take time to draw


def draw_answers(trained: TrainedSHNet, asked: Sequence[tuple[Photo, str]]) -> Figure:
    """What the network marks for each pair of a photo and a phrase, side by side.

    Raises:
        PredictionError: a phrase holds no word, or a photo cannot be read.
    """
    figure, axes = grid_of(len(asked), len(asked), cell=9 / len(asked))
    told = []
    for ax, (photo, phrase) in zip(axes, asked, strict=True):
        photo = for_the_screen(photo)
        mask = predict(trained, photo, phrase).mask
        draw_mask(ax, np.asarray(photo), f"“{phrase}”", predicted=mask)
        told.append(f"“{phrase}” marks {mask.mean():.0%}")
    figure.set_label(f"Photos, and what is marked in each: {', '.join(told)}.")
    return figure


def for_the_screen(photo: Photo) -> Image.Image:
    """A photo as people see it, at most `LONGEST_SIDE` wide and high.

    Raises:
        PredictionError: it cannot be read.
    """
    shown = read_photo(photo)
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return shown


def draw_answer(trained: TrainedSHNet, photo: Photo, phrase: str) -> Figure:
    """The mask that a phrase gets on a photo, and how sure the network is of each pixel.

    Raises:
        PredictionError: the phrase holds no word, or the photo cannot be read.
    """
    photo = for_the_screen(photo)
    prediction = predict(trained, photo, phrase)
    figure = Figure(figsize=(8, 4))
    left, right = figure.subplots(1, 2)
    draw_mask(left, np.asarray(photo), f"“{phrase}”", predicted=prediction.mask)
    shown = right.imshow(prediction.probability, vmin=0, vmax=1, cmap="cividis")
    right.set_title("probability of each pixel")
    right.set_axis_off()
    figure.colorbar(shown, ax=right, shrink=0.8)
    if prediction.unknown_words:
        figure.supxlabel(_unknown(prediction))
    figure.set_label(_describe(prediction, phrase))
    return figure


def _describe(prediction: Prediction, phrase: str) -> str:
    share = prediction.mask.mean()
    where = "nowhere"
    if prediction.mask.any():
        rows, columns = np.nonzero(prediction.mask)
        height, width = prediction.mask.shape
        left, top = (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height
        where = f"around {left:.0%} from the left and {top:.0%} from the top"
    sentence = f"“{phrase}” marks {share:.1%} of the picture, {where}."
    return " ".join([sentence, _unknown(prediction)]).strip()


def _unknown(prediction: Prediction) -> str:
    if not prediction.unknown_words:
        return ""
    return f"It never saw the words: {', '.join(prediction.unknown_words)}."
