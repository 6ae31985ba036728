"""What a check draws tells the target from the answer, whatever the answer is."""

import numpy as np
import pytest
import torch

from shnet_course.pictures.checks import compare_maps, draw_grids, draw_masks


def test_masks_stand_side_by_side_and_the_differences_are_counted():
    target, found = np.zeros((4, 6), dtype=bool), np.zeros((4, 6), dtype=bool)
    target[1:3, 1:4], found[1:3, 2:6] = True, True
    figure, alt = draw_masks(target, found)
    assert [ax.get_title() for ax in figure.axes] == ["wanted", "yours", "difference"]
    pictures = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    marked = [(picture < 1).any(-1) for picture in pictures]
    assert np.array_equal(marked[0], target) and np.array_equal(marked[1], found)
    assert np.array_equal(marked[2], target | found)
    assert "2 pixels missing, 4 too many" in alt


def test_an_answer_of_numbers_is_drawn_as_the_mask_that_it_means():
    figure, _ = draw_masks(np.eye(3, dtype=bool), 0.5 * np.eye(3))
    assert np.array_equal((figure.axes[1].images[0].get_array() < 1).any(-1), np.eye(3))


def test_maps_share_one_scale_and_the_one_that_differs_is_shown():
    target = torch.rand(3, 4, 5)
    found = target.clone().requires_grad_()
    with torch.no_grad():
        found[1, 2] = 7.0
    figure, alt = compare_maps(target, found, "queries", "keys")
    wanted, yours = (ax.images[0] for ax in figure.axes[:2])
    assert np.allclose(wanted.get_array(), target[1]) and float(yours.get_array().max()) == 7
    assert wanted.get_clim() == yours.get_clim() == (target[1].min(), target[1].max())
    assert figure.axes[0].get_ylabel() == "queries" and "queries" in alt


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_map_with_holes_can_be_drawn(value):
    figure, _ = compare_maps(torch.rand(2, 3), torch.full((2, 3), value), "pixels", "channels")
    figure.canvas.draw()
    labels = [ax.get_xlabel() for ax in figure.axes[:2]]
    assert labels == ["channels", "channels (white: NaN)"]


def test_of_many_grids_the_one_that_differs_most_is_shown_with_its_difference():
    target = torch.rand(2, 3, 4, 5)
    found = (target + 0.01).requires_grad_()
    with torch.no_grad():
        found[1, 2, 0, 3] += 0.5
    figure, alt = draw_grids(target, found)
    wanted, yours, difference = (ax.images[0].get_array() for ax in figure.axes[:3])
    assert np.allclose(wanted, target[1, 2]) and np.allclose(yours, found[1, 2].detach())
    assert np.allclose(difference, yours - wanted) and "0.51" in alt


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_grids_with_holes_can_be_drawn(value):
    found = torch.rand(2, 3, 4)
    found[1, 0, 0] = value
    figure, _ = draw_grids(torch.rand(2, 3, 4), found)
    figure.canvas.draw()
