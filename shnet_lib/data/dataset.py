"""Expressions -> batches in which each image stands once, with its expressions beside it.

UNC has 7.1 expressions per image. The frozen backbone and all that depends on the image alone
should run once per image, so the sampler draws images and takes several of their expressions.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from shnet_lib.data.errors import DataError
from shnet_lib.data.expression import Expression
from shnet_lib.data.text import Vocabulary, tokenize

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResizeTogether(v2.Resize):
    """The photo bilinearly, a mask by its nearest pixel, so that it stays 0 or 1.

    Nearest to the *middle* of the new pixel, where the bilinear filter looks too. torchvision's own
    choice for masks is the pixel at its corner: half a pixel of S x S to the top left.
    """

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        if not isinstance(inpt, tv_tensors.Mask):
            return super().transform(inpt, params)
        mask = inpt.as_subclass(Tensor)
        exact = v2.InterpolationMode.NEAREST_EXACT
        resized = v2.functional.resize_image(mask, list(self.size), interpolation=exact)
        return tv_tensors.wrap(resized, like=inpt)


def resize_and_normalize(image_size: int) -> v2.Compose:
    """Photo and masks to S x S together; the photo as the frozen backbone expects it."""
    return v2.Compose(
        [
            ResizeTogether((image_size, image_size), antialias=True),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


class ReferringDataset(Dataset):
    """A data set of images, each with some of its expressions.

    Its keys are not numbers but tuples of expression indices that share one image, as
    `ImageBatchSampler` yields them. With `evaluation=True` each target keeps its photo's own size.
    `levels`, if set, are three tensors (images, C_l, h_l, w_l) of frozen features: they are then
    handed out in place of the image. `resized_photos`, if set, is a numpy file (images, 3, S, S) of
    uint8 from which images are read in place of their photos.
    """

    def __init__(
        self,
        expressions: list[Expression],
        vocabulary: Vocabulary,
        image_size: int,
        max_words: int = 25,
        evaluation: bool = False,
    ) -> None:
        self.expressions = expressions
        self.vocabulary = vocabulary
        self.image_size = image_size
        self.evaluation = evaluation
        self.transform = resize_and_normalize(image_size)
        self.levels: list[Tensor] | None = None
        self.resized_photos: Path | None = None

        texts = [expression.text for expression in expressions]
        self.words = [vocabulary.encode(text, max_words) for text in texts]
        counts = [len(tokenize(text, vocabulary.keep_numbers)) for text in texts]
        if empty := counts.count(0):
            warnings.warn(f"{empty} expressions hold no word and are read as <unk>", stacklevel=2)
        if long := sum(count > max_words for count in counts):
            warnings.warn(
                f"{long} of {len(texts)} expressions are longer than {max_words} words (the "
                f"longest has {max(counts)}) and are truncated",
                stacklevel=2,
            )

        by_image: dict = {}
        for index, expression in enumerate(expressions):
            by_image.setdefault(expression.image_path, []).append(index)
        self.image_paths = list(by_image)
        self.expressions_of_image = list(by_image.values())
        self.image_row = {path: row for row, path in enumerate(self.image_paths)}

    def __len__(self) -> int:
        return len(self.expressions)

    def read_image(self, row: int) -> tv_tensors.Image:
        """The photo as stored, (3, H, W) uint8.

        Raises DataError where it cannot be read or has another size than its annotations say.
        """
        first = self.expressions[self.expressions_of_image[row][0]]
        return tv_tensors.Image(torch.from_numpy(first.photo()).permute(2, 0, 1))

    def _read_resized(self, row: int) -> tv_tensors.Image:
        """The photo at (3, S, S) uint8. Each process maps the file itself; nothing is handed over.

        Raises DataError where the file is damaged.
        """
        try:
            photos = np.load(self.resized_photos, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.resized_photos} is missing or damaged ({error}): delete it, and the next "
                "run makes it again"
            ) from error
        return tv_tensors.Image(torch.from_numpy(np.array(photos[row])))

    def __getitem__(self, indices: tuple[int, ...]) -> dict:
        expressions = [self.expressions[i] for i in indices]
        row = self.image_row[expressions[0].image_path]
        masks = [torch.from_numpy(expression.mask()) for expression in expressions]
        words = [torch.tensor(self.words[i]) for i in indices]
        item = {"expression_index": list(indices), "words": words}
        if self.evaluation:
            item["targets"] = masks
        if self.levels is not None:
            item["levels"] = [level[row] for level in self.levels]
        return item | self._transformed(row, masks)

    def _transformed(self, row: int, masks: list[Tensor]) -> dict[str, Tensor]:
        """The image (3, S, S) and the `target` masks (expressions, S, S), where needed."""
        parts = {}
        if self.levels is None:
            read = self._read_resized if self.resized_photos else self.read_image
            parts["image"] = read(row)
        if not self.evaluation:
            parts["target"] = tv_tensors.Mask(torch.stack(masks))
        together = self.transform(parts)
        return {name: part.as_subclass(Tensor) for name, part in together.items()}


def collate(items: list[dict]) -> dict:
    """Items -> a batch: `images (I, 3, S, S)` or `levels`, `image_index (B,)`, `words (B, T)`,
    `word_mask (B, T)`, `expression_index (B,)`, `target (B, S, S)` or, in evaluation, `targets`.
    """
    words = [ids for item in items for ids in item["words"]]
    lengths = torch.tensor([len(ids) for ids in words])
    batch = {
        "image_index": torch.arange(len(items)).repeat_interleave(
            torch.tensor([len(item["words"]) for item in items])
        ),
        "words": pad_sequence(words, batch_first=True),  # (B, T), padded with 0
        "word_mask": torch.arange(int(lengths.max())) < lengths[:, None],
        "expression_index": torch.tensor([i for item in items for i in item["expression_index"]]),
    }
    if "levels" in items[0]:
        by_level = zip(*(item["levels"] for item in items), strict=True)
        batch["levels"] = [torch.stack(level).float() for level in by_level]
    else:
        batch["images"] = torch.stack([item["image"] for item in items])
    if "targets" in items[0]:
        batch["targets"] = _in_one_piece([mask for item in items for mask in item["targets"]])
    else:
        batch["target"] = torch.cat([item["target"] for item in items]).float()
    return batch


def _in_one_piece(masks: list[Tensor]) -> list[Tensor]:
    """The same masks as views of one tensor: a loader worker hands over one file descriptor, not
    one per mask, of which a process has 1024 as a rule."""
    together = torch.cat([mask.flatten() for mask in masks])
    parts = together.split([mask.numel() for mask in masks])
    return [part.view(mask.shape) for part, mask in zip(parts, masks, strict=True)]


class ImageBatchSampler:
    """Batches of `batch_size` expressions, drawn in runs of up to `expressions_per_image` that
    share an image.

    With `training=True` images and expressions are shuffled, anew each epoch and the same for equal
    seeds; every batch is full (the few expressions left over wait for the next epoch). Otherwise
    every expression comes exactly once, in order. With several processes each takes its part of
    every batch: `rank` of `world`.
    """

    def __init__(
        self,
        dataset: ReferringDataset,
        batch_size: int,
        expressions_per_image: int,
        seed: int = 0,
        training: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % world:
            raise ValueError(
                f"batch_size {batch_size} cannot be shared by {world} processes: take a multiple"
            )
        self.groups = dataset.expressions_of_image
        self.image_of = {i: image for image, group in enumerate(self.groups) for i in group}
        self.batch_size = min(batch_size, len(dataset) // world * world)
        if self.batch_size == 0:
            raise ValueError(f"{len(dataset)} expressions are too few for {world} processes")
        self.expressions = len(dataset)
        self.expressions_per_image = expressions_per_image
        self.seed, self.training = seed, training
        self.rank, self.world = rank, world
        self.epoch, self.first_batch = 0, 0

    def set_position(self, epoch: int, first_batch: int = 0) -> None:
        """The next iteration is this epoch's, from this batch on: where a run was interrupted."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        full = self.expressions // self.batch_size
        return full if self.training else -(-self.expressions // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        batches = self._pack(self._chunks())
        for number, batch in enumerate(batches):
            if number >= self.first_batch and (share := self._share(batch)):
                yield share

    def _chunks(self) -> list[list[int]]:
        """Expression indices in runs that share an image, in this epoch's order."""
        k = self.expressions_per_image
        groups = self.groups
        if self.training:
            random = np.random.default_rng([self.seed, self.epoch])
            groups = [random.permutation(group).tolist() for group in groups]
        chunks = [group[i : i + k] for group in groups for i in range(0, len(group), k)]
        if self.training:
            chunks = [chunks[i] for i in random.permutation(len(chunks))]
        return chunks

    def _pack(self, chunks: list[list[int]]) -> Iterator[list[list[int]]]:
        """Runs -> batches of `batch_size` expressions; a run is cut where a batch is full."""
        batch, room = [], self.batch_size
        for chunk in chunks:
            while chunk:
                batch.append(chunk[:room])
                room -= len(batch[-1])
                chunk = chunk[len(batch[-1]) :]
                if room == 0:
                    yield batch
                    batch, room = [], self.batch_size
        if batch and not self.training:
            yield batch

    def _share(self, batch: list[list[int]]) -> list[tuple[int, ...]]:
        """This process's part of a batch: as many expressions as any other's, by image.

        Runs of one image that chance brought into one batch become one, so that it stands there
        once.
        """
        size = sum(len(chunk) for chunk in batch)
        first, last = size * self.rank // self.world, size * (self.rank + 1) // self.world
        share: dict[int, tuple[int, ...]] = {}
        position = 0
        for chunk in batch:
            part = chunk[max(first - position, 0) : max(last - position, 0)]
            position += len(chunk)
            if part:
                image = self.image_of[part[0]]
                share[image] = share.get(image, ()) + tuple(part)
        return list(share.values())
