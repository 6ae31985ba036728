"""Any image, any phrase: what a person may hand to `predict`."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from training_helpers import tiny

from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.shnet import SHNet
from shnet_lib.prediction import PredictionError, predict, read_photo
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import evaluate

TEXT = "square on the left"


@pytest.fixture(scope="module")
def trained(squares):
    """Random weights that mark about half of the first photo."""
    vocabulary = Vocabulary.from_texts(expression.text for expression in squares["train"])
    torch.manual_seed(0)
    config = tiny(max_words=6)
    network = SHNet(config.model, len(vocabulary))
    trained = TrainedSHNet(network.eval(), vocabulary, config, {})
    probability = torch.from_numpy(
        predict(trained, squares["train"][0].image_path, TEXT).probability
    )
    with torch.no_grad():
        network.upsample.logits.bias -= torch.logit(probability).median()
    return trained


@pytest.fixture(scope="module")
def photo(squares):
    return Image.open(squares["train"][0].image_path).convert("RGB")


def through_file(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return Image.open(file)


def test_a_prediction_is_what_the_evaluation_measures(squares, trained):
    dataset = ReferringDataset(squares["train"], trained.vocabulary, 32, 6, evaluation=True)
    rows = evaluate(trained.network, dataset).rows
    shares = []
    for row, expression in zip(rows, squares["train"], strict=True):
        prediction = predict(trained, expression.image_path, expression.text)
        mask = expression.mask()
        assert prediction.mask.shape == prediction.probability.shape == mask.shape
        assert prediction.mask.dtype == bool
        assert prediction.probability.dtype == np.float32
        intersection, union = (prediction.mask & mask).sum(), (prediction.mask | mask).sum()
        assert (intersection, union) == (row["intersection"], row["union"])
        shares.append(prediction.mask.mean())
    assert 0.05 < np.mean(shares) < 0.95


def test_path_image_and_array_are_one_image(trained, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    expected = predict(trained, photo, TEXT).probability
    array = np.asarray(photo)
    with_alpha = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    for same in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        array,
        array[:, ::-1][:, ::-1],  # strides of its own
        array / 255,
        (array / 255).astype(np.float32),
        array.astype(np.uint16) * 257,
        with_alpha,
        photo.convert("RGBA"),
    ):
        assert np.array_equal(predict(trained, same, TEXT).probability, expected)
    assert not np.array_equal(predict(trained, 255 - array, TEXT).probability, expected)


def test_the_photo_keeps_its_size_whatever_it_is(trained):
    for height, width in ((1, 1), (1, 300), (333, 7), (640, 480)):
        image = np.zeros((height, width, 3), np.uint8)
        assert predict(trained, image, TEXT).mask.shape == (height, width)


GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


@pytest.mark.parametrize(
    "grey",
    [
        GREY,
        GREY[:, :, None],
        GREY.astype(np.uint16) * 257,
        GREY / 255,
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY.astype(np.int32) * 257),
        Image.fromarray((GREY / 255).astype(np.float32)),
        through_file(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        through_file(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
        through_file(Image.fromarray(GREY), "PNG"),
    ],
)
def test_grey_of_every_depth_is_the_same_grey(grey):
    rgb = read_photo(grey)
    assert rgb.mode == "RGB"
    for channel in range(3):
        assert np.array_equal(np.asarray(rgb)[:, :, channel], GREY)


def test_black_and_white_fill_the_range():
    checks = np.array([[True, False], [False, True]])
    expected = np.where(checks[:, :, None], 255, 0) * np.ones(3)
    for image in (checks, Image.fromarray(checks), Image.fromarray(checks).convert("1")):
        assert np.array_equal(np.asarray(read_photo(image)), expected)


def test_what_is_transparent_lies_on_white():
    array = np.zeros((1, 3, 4), np.uint8)
    array[0, :, 0] = 200  # red
    array[0, :, 3] = (255, 0, 51)  # opaque, clear, a fifth
    fifth = (round(200 * 0.2 + 255 * 0.8), round(255 * 0.8), round(255 * 0.8))
    expected = [[200, 0, 0], [255, 255, 255], list(fifth)]
    image = Image.fromarray(array)
    for same in (array, image, through_file(image, "PNG")):
        assert np.asarray(read_photo(same))[0].tolist() == expected


def test_a_palette_is_looked_up_with_its_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    for same in (image, through_file(image, "PNG"), through_file(image, "GIF")):
        assert np.asarray(read_photo(same))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    clear = through_file(image, "PNG", transparency=1)
    assert np.asarray(read_photo(clear))[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_photo_is_seen_upright(trained, photo, kind, orientation, tmp_path):
    """A camera held sideways writes the pixels lying and says so in EXIF's tag 274."""
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / f"turned.{kind.lower()}"
    photo.save(path, kind, exif=exif, **options)
    stored = np.asarray(through_file(photo, kind, **options))
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]  # quarter turns to the left
    upright = np.rot90(stored, turns)
    for turned in (path, Image.open(path)):
        assert np.array_equal(np.asarray(read_photo(turned)), upright)
    assert predict(trained, path, TEXT).mask.shape == upright.shape[:2]


def test_other_colour_spaces_are_read_or_refused(photo):
    for mode in ("CMYK", "YCbCr", "HSV", "RGBX", "RGBa"):
        close = np.asarray(read_photo(photo.convert("RGBA").convert(mode))).astype(int)
        assert np.abs(close - np.asarray(photo)).mean() < 6
    with pytest.raises(PredictionError, match="mode La cannot be read.*RGB"):
        read_photo(Image.new("La", (2, 2)))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((3, 20, 30), np.uint8), r"not \(3, 20, 30\).*transpose\(1, 2, 0\)"),
        (np.zeros((20, 30, 2), np.uint8), r"not \(20, 30, 2\)$"),
        (np.zeros(5, np.uint8), r"not \(5,\)$"),
        (np.zeros((2, 20, 30, 3), np.uint8), r"not \(2, 20, 30, 3\)$"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (Image.new("RGB", (0, 5)), "no pixels.*0 x 5"),
        (np.full((2, 2), np.nan), "between 0 and 1"),
        (np.full((2, 2), 255.0), "between 0 and 1"),
        (np.full((2, 2), -0.1), "between 0 and 1"),
        (Image.fromarray(np.full((2, 2), 9.0, np.float32)), "between 0 and 1"),
        (np.zeros((2, 2), np.int64), "not int64.*astype"),
        (np.zeros((2, 2), complex), "not complex128"),
        (Image.fromarray(np.full((2, 2), 70000, np.int32)), "beyond 16 bits"),
        (Image.fromarray(np.full((2, 2), -1, np.int32)), "beyond 16 bits"),
        ([[1, 2]], "not a list"),
        (torch.zeros(3, 2, 2), "not a Tensor"),
    ],
)
def test_absurd_images_are_refused_with_a_remedy(image, said):
    with pytest.raises(PredictionError, match=said):
        read_photo(image)


def test_a_file_that_is_none_or_no_image_is_named(tmp_path):
    with pytest.raises(PredictionError, match=r"there is no image .*gone\.jpg"):
        read_photo(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(PredictionError, match=r"text\.jpg cannot be read as an image"):
        read_photo(tmp_path / "text.jpg")
    Image.new("RGB", (40, 40)).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(PredictionError, match=r"cut\.png cannot be read as an image"):
        read_photo(tmp_path / "cut.png")


def test_words_and_unknown_words_are_reported(trained, photo):
    prediction = predict(trained, photo, "The LEFT blarg, on zorgs' left blarg!")
    assert prediction.words == ["the", "left", "blarg", "on", "zorgs", "left"]  # six at most
    assert prediction.unknown_words == ["blarg", "zorgs"]
    assert predict(trained, photo, TEXT).unknown_words == []
    cut = predict(trained, photo, "the left one on the left of zorgs")
    assert cut.unknown_words == []  # never read
    short = predict(trained, photo, "the left one on the left")
    assert np.array_equal(cut.probability, short.probability)
    assert not np.array_equal(cut.probability, predict(trained, photo, TEXT).probability)


@pytest.mark.parametrize("text", ["", "   ", "?!", "..."])
def test_a_text_without_a_word_is_refused(trained, photo, text):
    with pytest.raises(PredictionError, match="holds no word"):
        predict(trained, photo, text)


def test_the_threshold_is_on_the_probability(trained, photo):
    prediction = predict(trained, photo, TEXT, threshold=0.49)
    assert np.array_equal(prediction.mask, prediction.probability > 0.49)
    assert not np.array_equal(prediction.mask, predict(trained, photo, TEXT).mask)


def test_a_network_in_training_mode_predicts_the_same_and_stays_in_it(trained, photo):
    expected = predict(trained, photo, TEXT).probability
    trained.network.train()
    found = predict(trained, photo, TEXT).probability
    assert trained.network.training
    trained.network.eval()
    assert np.array_equal(found, expected)
