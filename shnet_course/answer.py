"""Ask a trained network: the picture of one answer, and the same in words."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from shnet_course.pictures.base import draw_mask
from shnet_lib.prediction import Prediction, predict, read_photo
from shnet_lib.training.checkpoint import TrainedSHNet


def draw_answer(trained: TrainedSHNet, photo: Path | str | Image.Image, phrase: str) -> Figure:
    """The mask that a phrase gets on a photo, and how sure the network is of each pixel.

    Raises:
        PredictionError: the phrase holds no word, or the photo cannot be read.
    """
    prediction = predict(trained, photo, phrase)
    figure = Figure(figsize=(8, 4), layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2)
    draw_mask(left, np.asarray(read_photo(photo)), f"“{phrase}”", predicted=prediction.mask)
    shown = right.imshow(prediction.probability, vmin=0, vmax=1, cmap="cividis")
    right.set_title("probability of each pixel", fontsize=10)
    right.set_axis_off()
    figure.colorbar(shown, ax=right, shrink=0.8)
    if prediction.unknown_words:
        figure.supxlabel(_unknown(prediction), fontsize=10)
    return figure


def describe_answer(trained: TrainedSHNet, photo: Path | str | Image.Image, phrase: str) -> str:
    """What `draw_answer` shows, in a sentence. Raises as it does."""
    prediction = predict(trained, photo, phrase)
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
