"""The scene graph's elements are the annotations that expressions refer to."""

import numpy as np
import pytest
from looking_helpers import make_scenes, read_val

from refgen.refshapes import draw
from shnet_course.measure.scene_graph import read_scene_graphs
from shnet_lib.data import DataError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("graphs"))


def test_the_masks_are_the_drawn_ones_and_the_target_is_the_expressions(data):
    val = read_val(data)
    graphs = read_scene_graphs(data, val)
    assert set(graphs) == {expression.image_id for expression in val}
    for expression in val:
        graph = graphs[expression.image_id]
        target = graph.target(expression)
        assert np.array_equal(graph.masks[target], expression.mask())
        assert graph.scene.kind_of(target) == expression.category
        assert expression.category in graph.name(target)
    graph = next(iter(graphs.values()))
    assert np.array_equal(graph.masks, draw(graph.scene, 64)[1])


def test_an_expression_of_another_picture_has_no_target(data):
    val = read_val(data)
    graphs = read_scene_graphs(data, val)
    with pytest.raises(DataError, match="image_id"):
        graphs[val[0].image_id].target(val[-1])


def test_a_scene_that_is_not_there_is_named(data, tmp_path):
    val = read_val(data)
    with pytest.raises(DataError, match="no scene for image 399999"):
        read_scene_graphs(data, [type(val[0])(**{**vars(val[0]), "image_id": 399999})])
    with pytest.raises(DataError, match="does not exist"):
        read_scene_graphs(tmp_path, val)
