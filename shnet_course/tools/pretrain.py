"""Make the small frozen backbone: pre-train it on RefShapes semantic segmentation.

The paper's DeepLabv3+ backbone was trained on Pascal VOC segmentation before SHNet met it (section
4.2). The small one learns the same way: name what every pixel shows. No expression is read here.

    python -m shnet_course.tools.pretrain --data data/refshapes --out my_backbone.safetensors
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import v2
from tqdm.auto import tqdm

from refgen.refshapes import SEMANTIC_CLASSES, annotation_id, read_scenes
from refgen.refshapes.scene import COLOURS, PATTERNS
from shnet_lib.data.coco import rasterize
from shnet_lib.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from shnet_lib.data.errors import DataError, read_json
from shnet_lib.errors import ShnetError, report_error
from shnet_lib.model.backbone import ShapesBackbone
from shnet_lib.training.evaluate import evaluating

NOT_A_THING = 255  # a background pixel has a kind but neither colour nor pattern
MAKE = "Generate RefShapes again: make data"
HEADS = {"kind": SEMANTIC_CLASSES, "colour": COLOURS, "pattern": PATTERNS}


class SegmentationHead(nn.Module):
    """Each level votes for the classes of its cells; the votes meet at level 2's resolution."""

    def __init__(self, level_channels: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.vote = nn.ModuleList(nn.Conv2d(channels, classes, 1) for channels in level_channels)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Three (I, C_l, h_l, w_l) -> (I, classes, h_2, w_2)."""
        size = levels[0].shape[-2:]
        votes = [
            F.interpolate(vote(level), size=size, mode="bilinear")
            for vote, level in zip(self.vote, levels, strict=True)
        ]
        return sum(votes)


def read_labelled(data: Path, split: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Images (I, 3, S, S) uint8, and per head the class of every pixel (I, S, S) uint8.

    Raises:
        DataError: RefShapes is not there, or a file of it is missing or damaged.
    """
    folder = data / "refshapes"
    scenes = read_scenes(data)
    instances = read_json(folder / "instances.json", MAKE)
    masks = {a["id"]: a["segmentation"] for a in instances["annotations"]}
    images, labels = [], {name: [] for name in HEADS}
    for record in instances["images"]:
        name, scene = record["file_name"], scenes[record["id"]]
        if not name.startswith(f"refshapes_{split}_"):
            continue
        image = _pixels(data / "images" / "refshapes" / name)
        images.append(image)
        labels["kind"].append(_pixels(folder / "semantic" / name))
        colour = np.full(image.shape[:2], NOT_A_THING, np.uint8)
        pattern = colour.copy()
        for element, thing in enumerate(scene.things):
            visible = rasterize(masks[annotation_id(record["id"], element)], *colour.shape)
            colour[visible] = COLOURS.index(thing.colour)
            pattern[visible] = PATTERNS.index(thing.pattern)
        labels["colour"].append(colour)
        labels["pattern"].append(pattern)
    stacked = {name: torch.from_numpy(np.stack(maps)) for name, maps in labels.items()}
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), stacked


def _pixels(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except OSError as error:
        raise DataError(f"{path.absolute()} cannot be read ({error}). {MAKE}") from error


def pixel_accuracy(network: nn.Module, heads: nn.ModuleDict, images: Tensor, labels: dict) -> dict:
    """Per head the share of labelled pixels named rightly, in evaluation mode."""
    right, seen = dict.fromkeys(HEADS, 0), dict.fromkeys(HEADS, 0)
    with evaluating(network), torch.no_grad():
        for start in range(0, len(images), 64):
            levels = network(normalize(images[start : start + 64]))
            for name, head in heads.items():
                target = labels[name][start : start + 64].long()
                votes = F.interpolate(head(levels), size=target.shape[-1], mode="bilinear")
                labelled = target != NOT_A_THING
                right[name] += int((votes.argmax(1) == target)[labelled].sum())
                seen[name] += int(labelled.sum())
    return {name: round(right[name] / seen[name], 4) for name in HEADS}


def normalize(images: Tensor) -> Tensor:
    """(I, 3, S, S) uint8 -> float32, as the frozen backbone will see them."""
    return v2.functional.normalize(images.float() / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))


def pretrain(
    data: Path, out: Path, steps: int, batch_size: int, learning_rate: float, seed: int
) -> dict:
    """Train, write the backbone's weights to `out` and return the pixel accuracies on val."""
    torch.manual_seed(seed)
    images, labels = read_labelled(data, "train")
    val_images, val_labels = read_labelled(data, "val")
    network = ShapesBackbone()
    heads = nn.ModuleDict(
        {n: SegmentationHead(network.level_channels, len(c)) for n, c in HEADS.items()}
    )
    parameters = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    progress = tqdm(range(steps), desc="pre-training")
    for _ in progress:
        rows = torch.randint(len(images), (batch_size,))
        levels = network(normalize(images[rows]))
        loss = torch.zeros(())
        for name, head in heads.items():
            target = labels[name][rows].long()
            votes = F.interpolate(head(levels), size=target.shape[-1], mode="bilinear")
            loss = loss + F.cross_entropy(votes, target, ignore_index=NOT_A_THING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, out)
    return pixel_accuracy(network, heads, val_images, val_labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where the data are not there (one line says what to do)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/refshapes"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args(arguments))
    given |= {name: given[name].expanduser() for name in ("data", "out")}
    try:
        accuracy = pretrain(**given)
    except ShnetError as error:
        return report_error(error)
    print(json.dumps({"val pixel accuracy": accuracy, "torch": torch.__version__}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
