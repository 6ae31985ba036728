"""What a run needs before its first step: a folder, words, data sets, the order of the batches."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

from shnet_lib.data import Expression
from shnet_lib.data.dataset import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageBatchSampler,
    ReferringDataset,
)
from shnet_lib.data.errors import require_file
from shnet_lib.data.glove import read_glove
from shnet_lib.data.text import Vocabulary
from shnet_lib.files import write_json
from shnet_lib.model.backbone import build_backbone
from shnet_lib.training.cache import cache_images, cache_levels
from shnet_lib.training.checkpoint import CheckpointError, read_settings, require_start
from shnet_lib.training.config import ConfigError, TrainConfig
from shnet_lib.training.resume import has_progress, tidy

RIGHT_POOLING = ("cpu", "cuda")  # the devices on which it was tried
SHIPPED_VECTORS = Path(__file__).parents[2] / "data" / "vectors" / "referit-50.txt"


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The devices and the arithmetic of a run.

    Raises:
        ConfigError: fp16 on a CPU; or several processes were started and each believes to be
            alone; or the device pools wrongly.
    """
    AcceleratorState._reset_state()  # a second run in a notebook may ask for another precision
    accelerator = Accelerator(mixed_precision=config.precision)
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError(
            "precision = fp16: a CPU would compute in fp32 all the same; use bf16 or no"
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ConfigError(
            f"{started} processes were started and each would train alone: with torchrun on a CPU, "
            "set the environment variable ACCELERATE_USE_CPU=true"
        )
    require_right_pooling(accelerator.device)
    return accelerator


def require_right_pooling(device: torch.device) -> None:
    """Whether the device pools as the CPU does, to sizes that do not divide and to larger ones.

    On Apple's GPUs some versions of torch give other values, without a word: pytorch/pytorch
    issue 190064.

    Raises:
        ConfigError: it does not.
    """
    if device.type in RIGHT_POOLING:
        return
    for size, grid in ((40, 36), (20, 36), (8, 16)):
        maps = torch.arange(size * size).sin().view(1, 1, size, size)
        expected = F.adaptive_max_pool2d(maps, grid)
        found = F.adaptive_max_pool2d(maps.to(device), grid).cpu()
        if found.shape != expected.shape or not torch.equal(found, expected):
            raise ConfigError(
                f"this torch ({torch.__version__}) pools wrongly on the device {device.type} "
                f"({size} x {size} to {grid} x {grid}): set the environment variable "
                "ACCELERATE_USE_CPU=true, or install a newer torch"
            )


@contextmanager
def run_lock(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Keep other runs out of the folder as long as the block lasts.

    The main process holds the lock for all. When it is killed, the system takes the lock away.

    Raises:
        CheckpointError: another run is at work in the folder, or it cannot be written.
    """
    if not accelerator.is_main_process:
        yield
        return
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(
            f"{folder.absolute()}: another run is at work in this folder. Wait for it, end it, or "
            "name another folder"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{folder.absolute()} cannot be written ({error}): name another run folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def open_folder(
    folder: Path,
    config: TrainConfig,
    vocabulary: Vocabulary,
    resume: bool,
    accelerator: Accelerator,
) -> None:
    """Write the run's settings and words, or prove that they are those of the run in there.

    Raises:
        CheckpointError: a run is there that may not be overwritten, or is another one, or none is.
    """
    if resume:
        saved, words = read_settings(folder)
        if different := saved.differences(config):
            raise CheckpointError(f"{folder.absolute()} was begun with other settings: {different}")
        if words.to_dict() != vocabulary.to_dict():
            raise CheckpointError(f"{folder.absolute()} was begun with other training expressions")
    elif has_progress(folder):
        raise CheckpointError(
            f"{folder.absolute()} holds a run already: resume it, delete it or name another folder"
        )
    accelerator.wait_for_everyone()  # all have read before the main process writes
    if accelerator.is_main_process:
        tidy(folder)
        write_json(folder / "config.json", config.to_dict())
        write_json(folder / "vocabulary.json", vocabulary.to_dict())


def require_named_files(config: TrainConfig, vocabulary: Vocabulary) -> None:
    """Whether the files that the settings name are there, before minutes go into GloVe's text.

    Raises:
        ConfigError: the model wants word vectors and no file is named.
        DataError, WeightsError, CheckpointError: a file is missing; or `start_from` knows other
            words.
    """
    if config.model.word_vectors == "glove":
        if config.glove is None:
            raise ConfigError(
                "model.word_vectors is 'glove': name the text file of the vectors with glove=..., "
                "or set model.word_vectors=onehot (Table 2, row 6)"
            )
        require_file(
            vectors_file(config.glove), "Name GloVe's text file with its full path: glove=..."
        )
        with torch.random.fork_rng(devices=[]):
            build_backbone(config.model.backbone, config.model.backbone_weights)
    if config.start_from is not None:
        require_start(Path(config.start_from), vocabulary)


def vectors_file(glove: str) -> Path:
    """The file that the setting `glove` names; "shipped" is the course's own."""
    return SHIPPED_VECTORS if glove == "shipped" else Path(glove)


def read_word_vectors(
    config: TrainConfig, vocabulary: Vocabulary, accelerator: Accelerator
) -> Tensor | None:
    """(words, D) GloVe vectors where the model wants them (section 4.2); zeros where it lacks one.

    Raises:
        DataError: the file is missing or no GloVe file, or lacks more than half of the words.
    """
    if config.model.word_vectors != "glove":
        return None
    vectors, missing = read_glove(vectors_file(config.glove), vocabulary.words)
    accelerator.print(f"{len(missing)} of {len(vocabulary)} words have no vector in {config.glove}")
    return torch.from_numpy(vectors)


def make_dataset(
    config: TrainConfig,
    expressions: Sequence[Expression],
    vocabulary: Vocabulary,
    backbone: nn.Module,
    evaluation: bool = False,
) -> ReferringDataset:
    """The data set of a split; with what its images always give kept, where the settings say so."""
    size, words = config.model.image_size, config.max_words
    dataset = ReferringDataset(list(expressions), vocabulary, size, words, evaluation)
    if config.cache_images:
        dataset.resized_photos = cache_images(dataset, Path(config.cache_images), config.workers)
    if config.cache_features:
        dataset.levels = cache_levels(backbone, dataset, config.workers)
    return dataset


class MicroBatches:
    """What one process reads, from one optimiser step to another, over as many epochs as it takes.

    A step's batch is cut into (processes x accumulate) equal shares. Two processes therefore see
    the very shares that one process sees which accumulates two.
    """

    def __init__(
        self, config: TrainConfig, dataset: ReferringDataset, rank: int = 0, world: int = 1
    ) -> None:
        shares = world * config.accumulate
        if config.batch_size % shares or config.batch_size // shares < 2:
            raise ConfigError(
                f"batch_size = {config.batch_size} has to divide into {world} processes x "
                f"{config.accumulate} (accumulate) shares of 2 or more: BatchNorm needs two"
            )
        if len(dataset) < 2 * shares:
            raise ConfigError(
                f"{len(dataset)} training expressions are too few for {world} processes x "
                f"{config.accumulate} (accumulate) shares of 2 or more, whatever batch_size is "
                f"({config.batch_size}): BatchNorm needs two"
            )
        self.shares = [
            ImageBatchSampler(
                dataset,
                config.batch_size,
                config.expressions_per_image,
                config.seed,
                rank=rank * config.accumulate + number,
                world=shares,
            )
            for number in range(config.accumulate)
        ]
        self.batch_size = self.shares[0].batch_size  # smaller where the data set is
        self.steps_per_epoch = len(self.shares[0])
        self.first_step = self.last_step = 0

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        step = self.first_step
        while step < self.last_step:
            for share in self.shares:
                share.set_position(*divmod(step, self.steps_per_epoch))
            for shares in zip(*self.shares, strict=True):
                if step == self.last_step:
                    return
                yield from shares
                step += 1


def grayscale_some(images: Tensor, probability: float) -> Tensor:
    """(I, 3, S, S) normalised images, each without its colours with this probability.

    Drawn where the training's other random numbers are, so that a resumed run draws the same.
    """
    mean = images.new_tensor(IMAGENET_MEAN)[:, None, None]
    std = images.new_tensor(IMAGENET_STD)[:, None, None]
    gray = rgb_to_grayscale(images * std + mean, num_output_channels=3)
    chosen = torch.rand(len(images)) < probability
    return torch.where(chosen.to(images.device)[:, None, None, None], (gray - mean) / std, images)


def forget_some(words: Tensor, probability: float) -> Tensor:
    """(B, T) ids of words, each the unknown word's with this probability; padding stays.

    So the network learns what to make of a word that it does not know.
    """
    chosen = torch.rand(words.shape) < probability
    forgotten = chosen.to(words.device) & (words != Vocabulary.PADDING)
    return words.masked_fill(forgotten, Vocabulary.UNKNOWN)
