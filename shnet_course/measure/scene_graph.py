"""Which thing of a RefShapes scene is where: the scene graph with the masks of its elements."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refgen.refshapes import Scene, annotation_id, read_scenes
from shnet_lib.data import DataError, Expression
from shnet_lib.data.coco import rasterize
from shnet_lib.data.refer import read_records


@dataclass(frozen=True)
class SceneGraph:
    """The elements of one picture: things from back to front, then the regions behind them."""

    scene: Scene
    masks: np.ndarray  # (elements, height, width) bool: what is visible of each
    first_id: int  # the annotation id of element 0

    def target(self, expression: Expression) -> int:
        """The element that an expression of this picture refers to.

        Raises:
            DataError: the expression belongs to another picture.
        """
        element = expression.ref_id - self.first_id
        if not 0 <= element < len(self.masks):
            raise DataError(
                f"“{expression.text}” is of image {expression.image_id}, whose scene graph this "
                "is not: look it up by expression.image_id"
            )
        return element

    def name(self, element: int) -> str:
        """What a person would call it: "small red dotted star", "grass"."""
        if element not in self.scene.thing_ids:
            return self.scene.kind_of(element)
        thing = self.scene.things[element]
        return f"{thing.size} {thing.colour} {thing.pattern} {thing.shape}"


def read_scene_graphs(data: Path, expressions: Iterable[Expression]) -> dict[int, SceneGraph]:
    """The scene graphs of the expressions' pictures, by image id.

    Raises:
        DataError: `data` holds no RefShapes, or has no scene for one of the expressions.
    """
    wanted = dict.fromkeys(expression.image_id for expression in expressions)
    scenes = read_scenes(data)
    _, instances = read_records(Path(data), "refshapes-unc")
    if missing := [image for image in wanted if image not in scenes]:
        raise DataError(f"{data} has no scene for image {missing[0]}: was it generated anew?")
    graphs = {}
    for image in wanted:
        size = instances.images[image]["height"], instances.images[image]["width"]
        first = annotation_id(image, 0)
        count = len(scenes[image].things) + len(scenes[image].regions)
        masks = [
            rasterize(instances.annotations[first + element]["segmentation"], *size)
            for element in range(count)
        ]
        graphs[image] = SceneGraph(scenes[image], np.stack(masks), first)
    return graphs
