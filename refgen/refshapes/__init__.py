"""RefShapes: a generated data set of referring expressions that is always there.

Read in this order: scene.py (what a picture shows), draw.py (its pixels), queries.py and
../queries.py (what a sentence asks for and denotes), sentences.py (queries as English), flavours.py
(which sentences a scene gets), write.py (the files).
"""

from refgen.queries import (
    All,
    Extreme,
    Not,
    Ordinal,
    Query,
    Reading,
    Relation,
    denotation,
    reading,
    refers,
)

from .draw import draw
from .queries import Regions, Things, family
from .scene import CORNERED, ROUND, SHAPES, Border, Region, Scene, Thing, make_scene
from .sentences import describe
from .write import (
    IMAGES,
    SEMANTIC_CLASSES,
    annotation_id,
    generate,
    image_id,
    make_example,
    read_scenes,
)

__all__ = [
    "CORNERED",
    "IMAGES",
    "ROUND",
    "SEMANTIC_CLASSES",
    "SHAPES",
    "All",
    "Border",
    "Extreme",
    "Not",
    "Ordinal",
    "Query",
    "Reading",
    "Region",
    "Regions",
    "Relation",
    "Scene",
    "Thing",
    "Things",
    "annotation_id",
    "denotation",
    "describe",
    "draw",
    "family",
    "generate",
    "image_id",
    "make_example",
    "make_scene",
    "read_scenes",
    "reading",
    "refers",
]
