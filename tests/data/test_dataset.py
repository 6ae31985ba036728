"""Batches: image and masks stay together, each image stands there once, no expression is lost."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader

from shnet_lib.data import DataError, Expression, read_expressions
from shnet_lib.data.dataset import ImageBatchSampler, ReferringDataset, collate
from shnet_lib.data.text import Vocabulary

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet
TEXTS = ("red cup", "the man on the left of the red bus", "second dog", "left", "dog on the bus")
VOCABULARY = Vocabulary.from_texts(TEXTS)
SIZES = [(37, 53), (101, 64), (48, 48), (20, 151)]  # (height, width) of the photos


def expression(path: Path, number: int, size: tuple[int, int], mask: Path, text: str) -> Expression:
    return Expression(
        image_path=path,
        image_id=path.stem,
        height=size[0],
        width=size[1],
        ref_id=number,
        sent_id=number,
        text=text,
        category="",
        family=None,
        read_mask=partial(np.load, mask),
    )


def colour_of(photo: int) -> np.ndarray:
    return np.array([40 * photo + 20, 200 - 30 * photo, 128], np.uint8)


def write_photos(folder: Path, expressions_each: Sequence[int] = (3, 1, 4, 2)) -> list[Expression]:
    """Photos of one colour each, and masks of random pixels. The photos take turns in the list."""
    random = np.random.default_rng(5)
    made: list[list[Expression]] = []
    for photo, (size, count) in enumerate(zip(SIZES, expressions_each, strict=True)):
        path = folder / f"photo_{photo}.png"
        Image.fromarray(np.full((*size, 3), colour_of(photo))).save(path)
        made.append([])
        for turn in range(count):
            number = 10 * photo + turn
            np.save(folder / f"{number}.npy", random.random(size) < 0.3)
            text = TEXTS[number % len(TEXTS)]
            made[-1].append(expression(path, number, size, folder / f"{number}.npy", text))
    rounds = range(max(expressions_each))
    return [one[turn] for turn in rounds for one in made if turn < len(one)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Expression]:
    return write_photos(tmp_path_factory.mktemp("photos"))


def unread(groups: Sequence[int]) -> ReferringDataset:
    """A data set with so many expressions on each image, none of which is ever read."""
    made = [
        expression(Path(f"{image}.png"), 0, (1, 1), Path("none.npy"), "red cup")
        for image, count in enumerate(groups)
        for _ in range(count)
    ]
    return ReferringDataset(made, VOCABULARY, 16)


def flat(batches: list[list[tuple[int, ...]]]) -> list[int]:
    return [index for batch in batches for run in batch for index in run]


def as_photo(images: torch.Tensor) -> np.ndarray:
    """(I, 3, S, S) normalised -> (I, S, S, 3) in 0 .. 255."""
    return (images.numpy().transpose(0, 2, 3, 1) * STD + MEAN) * 255


# ---------------------------------------------------------------- image and masks


def draw_object(folder: Path, size: tuple[int, int]) -> Expression:
    """White on black: an ellipse off the middle. The mask is the very same pixels."""
    height, width = size
    photo = Image.new("L", (width, height))
    box = [0.13 * width, 0.31 * height, 0.62 * width, 0.87 * height]
    ImageDraw.Draw(photo).ellipse(box, fill=255)
    photo.convert("RGB").save(folder / "photo.png")
    np.save(folder / "mask.npy", np.asarray(photo) > 0)
    return expression(folder / "photo.png", 0, size, folder / "mask.npy", "left")


@pytest.mark.parametrize("size", [(427, 640), (640, 481), (97, 333), (64, 101)])
def test_an_object_and_its_mask_stay_on_each_other(tmp_path: Path, size) -> None:
    dataset = ReferringDataset([draw_object(tmp_path, size)], VOCABULARY, 64)
    batch = collate([dataset[(0,)]])
    white = as_photo(batch["images"])[0, :, :, 0] / 255  # 0 .. 1: the share of the object
    target = batch["target"][0].numpy()
    assert white.shape == target.shape == (64, 64)
    assert set(np.unique(target)) == {0, 1}
    assert target[white > 0.95].all() and not target[white < 0.05].any()
    assert (np.minimum(white, target).sum() / np.maximum(white, target).sum()) > 0.93
    places = np.arange(64)
    for axis in (0, 1):  # neither is shifted against the other
        centres = [(part.sum(1 - axis) * places).sum() / part.sum() for part in (white, target)]
        assert centres[0] == pytest.approx(centres[1], abs=0.15)


def test_a_target_pixel_is_the_masks_pixel_at_its_middle(photos) -> None:
    dataset = ReferringDataset(photos, VOCABULARY, 24)
    for index, one in enumerate(photos):
        mask = one.mask()
        rows = [int((i + 0.5) * one.height / 24) for i in range(24)]
        columns = [int((i + 0.5) * one.width / 24) for i in range(24)]
        target = collate([dataset[(index,)]])["target"]
        assert target.dtype == torch.float32
        assert np.array_equal(target[0].numpy(), mask[rows][:, columns])


def test_the_image_is_normalised_with_imagenets_mean_and_deviation(photos) -> None:
    dataset = ReferringDataset(photos, VOCABULARY, 16)
    image = collate([dataset[(1,)]])["images"]  # photos take turns: expression 1 is of photo 1
    assert image.dtype == torch.float32 and image.shape == (1, 3, 16, 16)
    expected = (colour_of(1) / 255 - MEAN) / STD
    assert np.allclose(image[0].numpy(), expected[:, None, None], atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_photos_without_three_channels_become_rgb(tmp_path: Path, mode: str) -> None:
    one = draw_object(tmp_path, (40, 60))
    expected = ReferringDataset([one], VOCABULARY, 32)[(0,)]["image"]
    Image.open(one.image_path).convert(mode).save(one.image_path)
    assert torch.allclose(ReferringDataset([one], VOCABULARY, 32)[(0,)]["image"], expected)


# ---------------------------------------------------------------- a batch


def batch_of(dataset: ReferringDataset, runs: list[tuple[int, ...]]) -> dict:
    return collate([dataset[run] for run in runs])


def runs_of(dataset: ReferringDataset, k: int) -> list[tuple[int, ...]]:
    return [tuple(group[-k:]) for group in dataset.expressions_of_image]


def test_each_image_stands_once_and_every_expression_points_to_its_own(photos) -> None:
    dataset = ReferringDataset(photos, VOCABULARY, 16)
    runs = runs_of(dataset, 3)[::-1]
    batch = batch_of(dataset, runs)
    indices = [index for run in runs for index in run]
    assert batch["expression_index"].tolist() == indices
    assert len(batch["images"]) == len(SIZES) < len(indices) == len(batch["target"])
    shown = as_photo(batch["images"]).mean((1, 2))
    for position, index in enumerate(indices):
        photo = int(photos[index].image_id.removeprefix("photo_"))
        row = batch["image_index"][position]
        assert np.allclose(shown[row], colour_of(photo), atol=0.01)
        alone = collate([dataset[(index,)]])
        assert torch.equal(batch["target"][position], alone["target"][0])


def test_words_are_padded_behind_and_the_mask_says_where(photos) -> None:
    with pytest.warns(UserWarning, match="3 of 10 expressions are longer than 5 words"):
        dataset = ReferringDataset(photos, VOCABULARY, 16, max_words=5)
    indices = list(range(len(photos)))
    batch = batch_of(dataset, [(index,) for index in indices])
    assert batch["words"].dtype == torch.long and batch["word_mask"].dtype == torch.bool
    assert batch["words"].shape == batch["word_mask"].shape == (len(photos), 5)
    for row, index in enumerate(indices):
        ids = [VOCABULARY.words.index(word) for word in photos[index].text.split()[:5]]
        assert batch["words"][row].tolist() == ids + [0] * (5 - len(ids))
        assert batch["word_mask"][row].tolist() == [True] * len(ids) + [False] * (5 - len(ids))


def test_in_evaluation_the_targets_keep_the_photos_sizes(photos) -> None:
    dataset = ReferringDataset(photos, VOCABULARY, 16, evaluation=True)
    runs = runs_of(dataset, 2)
    batch = batch_of(dataset, runs)
    assert "target" not in batch and batch["images"].shape == (4, 3, 16, 16)
    indices = [index for run in runs for index in run]
    for index, target in zip(indices, batch["targets"], strict=True):
        assert target.dtype == torch.bool
        assert np.array_equal(target.numpy(), photos[index].mask())
    assert len({target.untyped_storage().data_ptr() for target in batch["targets"]}) == 1


@pytest.mark.parametrize("evaluation", [False, True])
def test_frozen_levels_stand_in_for_the_images(photos, evaluation: bool) -> None:
    dataset = ReferringDataset(photos, VOCABULARY, 16, evaluation=evaluation)
    pixels = batch_of(dataset, [(5, 8), (4,)])
    rows = torch.arange(4.0).half().view(4, 1, 1, 1)  # as many as photos; a level holds its row
    dataset.levels = [rows.expand(4, 2 + i, 3, 3) + 10 * i for i in range(3)]
    batch = batch_of(dataset, [(5, 8), (4,)])
    assert "images" not in batch
    assert [level.shape for level in batch["levels"]] == [(2, 2 + i, 3, 3) for i in range(3)]
    for i, level in enumerate(batch["levels"]):
        assert level.dtype == torch.float32
        assert level[:, 0, 0, 0].tolist() == [10 * i + 2, 10 * i]  # photos 2 and 0
    for name in set(pixels) - {"images", "targets"}:
        assert torch.equal(batch[name], pixels[name])


def test_an_item_is_the_same_whatever_stands_beside_it(photos) -> None:
    dataset = ReferringDataset(photos, VOCABULARY, 16)
    runs = runs_of(dataset, 3)
    whole, start = batch_of(dataset, runs), 0
    for row, run in enumerate(runs):
        alone = batch_of(dataset, [run])
        part = slice(start, start + len(run))
        start += len(run)
        assert torch.equal(whole["images"][row], alone["images"][0])
        assert torch.equal(whole["target"][part], alone["target"])
        for name in ("words", "word_mask"):
            length = alone[name].shape[1]
            assert torch.equal(whole[name][part, :length], alone[name])
            assert not whole[name][part, length:].any()


# ---------------------------------------------------------------- what is wrong is said


def animation(path: Path) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


def truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:-900])


UNREADABLE = {
    "absent": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "a web page": lambda path: path.write_text("<html>404</html>"),
    "truncated": truncated,
    "an animation": animation,
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_image_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.jpg"
    UNREADABLE[kind](path)
    np.save(tmp_path / "mask.npy", np.ones((64, 64), bool))
    one = expression(path, 0, (64, 64), tmp_path / "mask.npy", "left")
    with pytest.raises(DataError, match=f"{path}: not a readable image"):
        ReferringDataset([one], VOCABULARY, 16)[(0,)]


def test_an_unreadable_image_is_named_from_a_worker_too(tmp_path: Path) -> None:
    expressions = write_photos(tmp_path)
    (tmp_path / "photo_2.png").write_bytes(b"no picture")
    dataset = ReferringDataset(expressions, VOCABULARY, 16)
    sampler = ImageBatchSampler(dataset, 10, 5)
    with pytest.raises(DataError, match="photo_2.png: not a readable image"):
        list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=1))


def test_expressions_without_a_word_are_counted_in_a_warning() -> None:
    made = [
        expression(Path("a.png"), number, (1, 1), Path("none.npy"), text)
        for number, text in enumerate(("???", "red cup", "", "2"))
    ]
    with pytest.warns(UserWarning, match="^2 expressions hold no word"):
        assert ReferringDataset(made, VOCABULARY, 16).words[0] == [Vocabulary.UNKNOWN]
    only_letters = Vocabulary.from_texts(TEXTS, keep_numbers=False)
    with pytest.warns(UserWarning, match="^3 expressions hold no word"):
        ReferringDataset(made, only_letters, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ReferringDataset(made[1:2], VOCABULARY, 16)


# ---------------------------------------------------------------- the order of the expressions

GROUPS = st.lists(st.integers(1, 9), min_size=1, max_size=8)  # expressions of each image


def check_runs(dataset: ReferringDataset, batch: list[tuple[int, ...]]) -> None:
    """A run shares an image, and no other run of the batch is of that image."""
    images = [{dataset.expressions[index].image_path for index in run} for run in batch]
    assert all(len(image) == 1 for image in images)
    assert len(set.union(*images)) == len(batch)


@settings(deadline=None, max_examples=50)
@given(GROUPS, st.integers(1, 12), st.integers(1, 6), st.integers(0, 3), st.integers(0, 3))
def test_a_training_epoch(groups, batch_size, k, seed, epoch) -> None:
    dataset = unread(groups)
    sampler, again = (ImageBatchSampler(dataset, batch_size, k, seed) for _ in range(2))
    sampler.set_position(epoch)
    again.set_position(epoch)
    batches = list(sampler)
    assert batches == list(again)
    size = min(batch_size, len(dataset))
    assert len(batches) == len(sampler) == len(dataset) // size
    assert all(len(flat([batch])) == size for batch in batches)  # full, all of them
    assert len(set(flat(batches))) == len(flat(batches))  # each expression at most once
    for batch in batches:
        check_runs(dataset, batch)


@settings(deadline=None, max_examples=50)
@given(GROUPS, st.integers(1, 12), st.integers(1, 6), st.integers(0, 9), st.integers(0, 9))
def test_an_interrupted_epoch_goes_on_where_it_was(groups, batch_size, k, epoch, done) -> None:
    dataset = unread(groups)
    whole, rest = (ImageBatchSampler(dataset, batch_size, k, seed=1) for _ in range(2))
    whole.set_position(epoch)
    rest.set_position(epoch, done)
    assert list(rest) == list(whole)[done:]


def test_epochs_and_seeds_differ_and_equal_ones_do_not() -> None:
    dataset = unread([5] * 12)

    def order(seed: int, epoch: int) -> list[int]:
        sampler = ImageBatchSampler(dataset, 6, 3, seed)
        sampler.set_position(epoch)
        return flat(list(sampler))

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(one) for one in orders}) == 6
    assert all(sorted(one) == list(range(60)) for one in orders)
    assert order(1, 2) == orders[-1]


def test_another_epoch_brings_other_expressions_of_an_image_together() -> None:
    sampler = ImageBatchSampler(unread([6] * 4), 3, 3)  # a batch is one run of three
    runs = []
    for epoch in range(2):
        sampler.set_position(epoch)
        runs.append({frozenset(flat([batch])) for batch in sampler})
    assert runs[0] != runs[1]


def test_expressions_left_over_get_their_turn_in_another_epoch() -> None:
    dataset = unread([3] * 5)
    sampler = ImageBatchSampler(dataset, 4, 2, seed=0)
    seen = set()
    for epoch in range(20):
        sampler.set_position(epoch)
        seen.update(flat(list(sampler)))
    assert seen == set(range(15))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_an_image_gives_a_batch_at_most_k_expressions_but_by_chance(k: int) -> None:
    dataset = unread([10] * 300)
    lengths = [len(run) for batch in ImageBatchSampler(dataset, 20, k) for run in batch]
    assert np.mean([length <= k for length in lengths]) > 0.9
    assert np.mean(lengths) > 0.8 * k  # and no fewer than it may


def test_an_image_is_not_repeated_in_a_batch_that_holds_two_of_its_runs() -> None:
    dataset = unread([6])
    assert [len(batch) for batch in ImageBatchSampler(dataset, 6, 2)] == [1]


@settings(deadline=None, max_examples=50)
@given(GROUPS, st.integers(1, 12), st.integers(1, 12))
def test_evaluation_takes_each_expression_once_in_order(groups, batch_size, k) -> None:
    dataset = unread(groups)
    sampler = ImageBatchSampler(dataset, batch_size, k, training=False)
    batches = list(sampler)
    assert flat(batches) == list(range(len(dataset)))
    size = min(batch_size, len(dataset))
    sizes = [len(flat([batch])) for batch in batches]
    assert len(sampler) == len(sizes)
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert sizes[-1] == (len(dataset) % size or size)
    for batch in batches:
        check_runs(dataset, batch)


@settings(deadline=None, max_examples=50)
@given(GROUPS, st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_processes_share_every_batch(groups, world, each, k, training) -> None:
    dataset = unread(groups)
    batch_size = world * each
    assume(batch_size <= len(dataset))

    def batches(rank: int, world: int) -> list[list[tuple[int, ...]]]:
        sampler = ImageBatchSampler(dataset, batch_size, k, 7, training, rank, world)
        sampler.set_position(2)
        return list(sampler)

    whole = batches(0, 1)
    parts = [batches(rank, world) for rank in range(world)]
    for number, batch in enumerate(whole):
        # In evaluation the last batch may be smaller than the world: some then have no share of it.
        shares = [flat(part[number : number + 1]) for part in parts]
        together = sorted(index for share in shares for index in share)
        assert together == sorted(flat([batch]))  # disjoint, and nothing is left out
        sizes = {len(share) for share in shares}
        assert max(sizes) - min(sizes) <= (0 if len(together) == batch_size else 1)
    for part in parts:
        for batch in part:
            check_runs(dataset, batch)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    dataset = unread([3])
    with pytest.raises(ValueError, match="batch_size 10 cannot be shared by 4 processes"):
        ImageBatchSampler(dataset, 10, 2, world=4)
    with pytest.raises(ValueError, match="3 expressions are too few for 4 processes"):
        ImageBatchSampler(dataset, 8, 2, world=4)
    assert ImageBatchSampler(dataset, 8, 2, world=2).batch_size == 2  # what two can share of three


# ---------------------------------------------------------------- worker processes


def test_spawned_workers_give_the_same_batches_of_a_large_data_set(photos) -> None:
    """Every tensor in a data set would cost a file descriptor, of which 1024 are usual."""
    resource = pytest.importorskip("resource", reason="file descriptors are limited on Unix only")
    dataset = ReferringDataset(photos * 300, VOCABULARY, 16, evaluation=True)
    batches = list(ImageBatchSampler(dataset, 4, 2, training=False))[:5]

    def load(**workers) -> list[dict]:
        return list(DataLoader(dataset, batch_sampler=batches, collate_fn=collate, **workers))

    expected = load()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[0]), before[1]))
    try:
        found = load(num_workers=2, multiprocessing_context="spawn")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(found) == 5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            pairs = [(ours[name], value)]
            if name == "targets":
                pairs = zip(ours[name], value, strict=True)
            assert all(torch.equal(mine, expected) for mine, expected in pairs)


# ---------------------------------------------------------------- real photos


def test_photos_and_their_masks(photo_data: Path) -> None:
    expressions = read_expressions(photo_data, "unc", "val")
    dataset = ReferringDataset(expressions, Vocabulary.from_texts(["x"]), 64)
    batch = batch_of(dataset, runs_of(dataset, 100))
    count = len({expression.image_id for expression in expressions})
    assert batch["images"].shape == (count, 3, 64, 64)
    assert batch["target"].shape == (len(expressions), 64, 64)
    for row, path in enumerate(dataset.image_paths):
        small = Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
        difference = np.abs(as_photo(batch["images"])[row] - np.asarray(small, float))
        assert difference.mean() < 1  # of 255: two libraries that decode and filter alike
    for target, index in zip(batch["target"], batch["expression_index"].tolist(), strict=True):
        share = expressions[index].mask().mean()
        assert target.mean().item() == pytest.approx(share, abs=0.01)
