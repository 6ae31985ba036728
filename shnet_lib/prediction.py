"""One photo and one phrase -> the mask of what the phrase refers to.

    trained = load_shnet("runs/x/best")
    prediction = predict(trained, "photo.jpg", "left red circle")
    prediction.mask           # (H, W) bool, at the photo's size
    prediction.unknown_words  # words the network never saw: it reads them all alike

A photo is seen as people see it: upright, and on white where it is transparent. For a photo of a
data set give `expression.photo()`, the pixels as stored, on which its mask is drawn.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision import tv_tensors

from shnet_lib.data.dataset import resize_and_normalize
from shnet_lib.data.text import tokenize
from shnet_lib.errors import ShnetError
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import THRESHOLD, evaluating, probability_at

ARRAY_FORMS = "(H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA"


class PredictionError(ShnetError):
    """An image or a phrase that cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Prediction:
    """What the network marks, at the size of the photo as people see it (EXIF rotation applied)."""

    mask: np.ndarray  # (H, W) bool
    probability: np.ndarray  # (H, W) float32
    words: list[str]  # as the network read them, at most `max_words`
    unknown_words: list[str]  # those among them that training never showed


def predict(
    trained: TrainedSHNet,
    image: str | Path | Image.Image | np.ndarray,
    text: str,
    threshold: float = THRESHOLD["original"],
) -> Prediction:
    """Segment what the text refers to.

    Args:
        image: a file, a PIL image of any mode, or an array: (H, W) grey, (H, W, 3) RGB or
            (H, W, 4) RGBA of uint8, uint16, bool, or floats between 0 and 1. What is transparent is
            laid on white.
        threshold: a pixel whose probability is above it belongs to the mask.

    Raises:
        PredictionError: the text holds no word, or the image cannot be read as one.
    """
    config, vocabulary = trained.config, trained.vocabulary
    words = tokenize(text, vocabulary.keep_numbers)[: config.max_words]
    if not words:
        raise PredictionError(f"the text {text!r} holds no word: say what to look for")
    photo = np.array(read_photo(image))  # (H, W, 3) uint8
    height, width = photo.shape[:2]
    pixels = tv_tensors.Image(torch.from_numpy(photo).permute(2, 0, 1))  # (3, H, W)

    device = next(trained.network.parameters()).device
    image_tensor = resize_and_normalize(config.model.image_size)(pixels).as_subclass(torch.Tensor)
    ids = torch.tensor([vocabulary.encode(text, config.max_words)], device=device)
    batch = {
        "images": image_tensor.unsqueeze(0).to(device),  # (1, 3, S, S)
        "image_index": torch.zeros(1, dtype=torch.long, device=device),
        "words": ids,  # (1, T)
        "word_mask": torch.ones_like(ids, dtype=torch.bool),
    }
    with evaluating(trained.network), torch.inference_mode():
        mask_logits = trained.network(batch).float()  # (1, S, S)
        probability = probability_at(mask_logits, (height, width))[0].cpu().numpy()  # (H, W)
    unknown = [word for word in vocabulary.unknown(text) if word in words]
    return Prediction(probability > threshold, probability, words, unknown)


def highlight(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, (H, W) bool -> the photo, pale outside of the mask, its border orange."""
    inside = mask.copy()  # pixels whose four neighbours belong to the mask too
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    shown = np.where(mask[..., None], photo, (0.35 * photo + 0.65 * 255).astype(np.uint8))
    shown[mask & ~inside] = (230, 159, 0)
    return shown


def read_photo(image: str | Path | Image.Image | np.ndarray) -> Image.Image:
    """Any image as 8-bit RGB, upright, on white where it is transparent."""
    if isinstance(image, (str, Path)):
        image = _open(Path(image).expanduser())
    elif isinstance(image, np.ndarray):
        image = _from_array(image)
    elif not isinstance(image, Image.Image):
        raise PredictionError(
            f"an image is a path, a PIL image or a numpy array, not a {type(image).__name__}"
        )
    if 0 in image.size:
        raise PredictionError(f"the image has no pixels: it is {image.width} x {image.height}")
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _from_16_bit(np.array(image))
    if image.mode == "F":
        image = _from_array(np.array(image))
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except ValueError as error:
        raise PredictionError(
            f"images of mode {image.mode} cannot be read: convert it to RGB first"
        ) from error


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise PredictionError(f"there is no image {path.absolute()}") from error
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise PredictionError(f"{path.absolute()} cannot be read as an image: {error}") from error


def _from_array(array: np.ndarray) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) -> a PIL image of 8 bits."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        remedy = ": move the channels to the end, array.transpose(1, 2, 0)" * channels_first
        raise PredictionError(f"an array is {ARRAY_FORMS}, not {array.shape}{remedy}")
    if array.size == 0:
        raise PredictionError(f"the array has no pixels: its shape is {array.shape}")
    if array.dtype == np.uint16:
        array = _to_8_bit(array)
    elif array.dtype == bool:
        array = array * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise PredictionError("floats have to lie between 0 and 1: divide by their largest")
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PredictionError(
            f"an array is of uint8, uint16, bool or float, not {array.dtype}: convert it, "
            "array.astype(numpy.uint8)"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _from_16_bit(array: np.ndarray) -> Image.Image:
    """PIL's modes I and I;16: a grey image of 16 bits, whatever it is stored in."""
    if array.min() < 0 or array.max() > 65535:
        raise PredictionError("grey values beyond 16 bits: convert the image to 8 bits first")
    return Image.fromarray(_to_8_bit(array))


def _to_8_bit(array: np.ndarray) -> np.ndarray:
    """0 .. 65535 -> 0 .. 255, black on black and white on white."""
    return np.round(array / 257).astype(np.uint8)
