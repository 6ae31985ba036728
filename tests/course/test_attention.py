"""Looks are what the network computes, and the small measures are what loops say."""

import numpy as np
import pytest
from looking_helpers import make_network, make_scenes, read_val

from refgen.refshapes import Thing
from shnet_course.measure.attention import (
    BLOCKS,
    attend,
    kind_of_word,
    lifts,
    received,
    rules_out,
    shrink_to_grid,
)
from shnet_course.measure.inside import attention_inside


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("looking"))


@pytest.fixture(scope="module")
def val(data):
    return read_val(data)


@pytest.fixture(scope="module")
def network(val):
    return make_network(val)


@pytest.fixture(scope="module")
def looks(network, val):
    return list(attend(network, val, batch_size=5))


# --- one look -------------------------------------------------------------------------------------


def test_a_look_is_what_the_network_computes_for_the_phrase_alone(network, val, looks):
    assert [look.expression for look in looks] == val
    assert len({len(look.words) for look in looks}) > 1  # so batches had padding
    for look in looks[::4]:
        alone, attention = attention_inside(
            network, look.expression.image_path, look.expression.text
        )
        assert look.words == alone.prediction.words
        assert np.allclose(look.probability, alone.prediction.probability, atol=1e-4)
        for level, layers in enumerate(attention):
            for layer, weights in enumerate(layers):  # (heads, N, N)
                assert np.allclose(look.weights[level, layer], weights.mean(0), atol=1e-5)


def test_looks_come_in_the_order_asked_even_where_pictures_take_turns(network, val):
    order = sorted(range(len(val)), key=lambda i: (i % 3, i))
    mixed = [val[i] for i in order]
    assert [look.expression for look in attend(network, mixed, batch_size=4)] == mixed


def test_a_network_is_left_in_the_mode_that_it_came_in(val):
    network = make_network(val)
    network.network.train()
    looks = attend(network, val[:4], batch_size=2)
    next(looks)
    assert network.network.training, "between two looks"
    assert len(list(looks)) == 3 and network.network.training


def test_a_network_without_sfm_has_nothing_to_look_into(val):
    with pytest.raises(ValueError, match="no SFM"):
        next(attend(make_network(val, sfm="none"), val))


def test_blocks_and_maps_against_loops(looks):
    look = looks[0]
    pixels, words = look.pixels, len(look.words)
    assert look.weights.shape[-1] == pixels + words
    whole = np.block(
        [
            [look.block("pixel-pixel")[0, 0], look.block("pixel-word")[0, 0]],
            [look.block("word-pixel")[0, 0], look.block("word-word")[0, 0]],
        ]
    )
    assert np.array_equal(whole, look.weights[0, 0])
    asks = look.words_over_pixels()
    for t in range(words):
        row = look.weights[1, 0, pixels + t, :pixels]
        for n in range(pixels):
            y, x = divmod(n, look.grid)
            assert asks[1, 0, t, y, x] == pytest.approx(row[n] / row.sum(), rel=1e-4)
    with pytest.raises(ValueError, match=r"no block 'word'.*word-word"):
        look.block("word")
    assert len(BLOCKS) == 4


def test_what_pixels_take_together_against_a_loop(looks):
    look = looks[1]
    asking = np.random.default_rng(0).random((look.grid, look.grid))
    found = look.pixels_over_pixels(asking)
    expected = np.zeros(look.pixels)
    for n in range(look.pixels):
        expected += asking[divmod(n, look.grid)] * look.weights[1, 0, n, : look.pixels]
    assert found[1, 0].ravel() == pytest.approx(expected / expected.sum(), rel=1e-4)


def test_received_against_a_loop(looks):
    block = max(looks, key=lambda look: len(look.words)).block("word-word")
    count = block.shape[-1]
    for t in range(count):
        taken = 0.0
        for s in range(count):
            if s != t:
                taken += block[1, 0, s, t] / sum(block[1, 0, s, u] for u in range(count) if u != s)
        assert received(block)[1, 0, t] == pytest.approx(taken, rel=1e-4)
    assert received(np.full((2, 3, 4, 4), 0.1)) == pytest.approx(1)  # an even look
    assert np.isnan(received(np.ones((2, 3, 1, 1)))).all()


# --- small measures -------------------------------------------------------------------------------


def test_shrink_is_the_mean_of_each_cell():
    masks = np.random.default_rng(0).random((3, 12, 20)) > 0.6
    small = shrink_to_grid(masks, 4)
    for m, y, x in np.ndindex(3, 4, 4):
        cell = masks[m, 3 * y : 3 * y + 3, 5 * x : 5 * x + 5]
        assert small[m, y, x] == pytest.approx(cell.mean())
    assert shrink_to_grid(np.ones((1, 128, 128), bool), 12) == pytest.approx(
        1
    )  # 128 is no multiple of 12


def test_lifts_against_loops():
    random = np.random.default_rng(1)
    maps = random.random((2, 3, 4, 4))
    maps /= maps.sum((-1, -2), keepdims=True)
    covers = random.random((5, 4, 4))
    covers[4] = 0
    found = lifts(maps, covers)
    for i, j, m in np.ndindex(2, 3, 4):
        got = area = 0.0
        for y, x in np.ndindex(4, 4):
            got += maps[i, j, y, x] * covers[m, y, x]
            area += covers[m, y, x] / 16
        assert found[i, j, m] == pytest.approx(got / area)
    assert np.isnan(found[..., 4]).all()
    assert lifts(np.full((4, 4), 1 / 16), covers[:4]) == pytest.approx(1)  # an even look


THINGS = (
    Thing("star", "red", "small", "striped", (0, 0), 0, 0.04),
    Thing("star", "blue", "small", "plain", (0, 0), 0, 0.04),
    Thing("ring", "red", "big", "striped", (0, 0), 0, 0.1),
    Thing("moon", "red", "small", "dotted", (0, 0), 0, 0.04),
)


def test_what_words_say():
    words = ("star", "crescent", "red", "little", "stripes", "spotted", "left", "biggest", "the")
    assert [rules_out(w, THINGS) for w in words] == [2, 3, 1, 1, 2, 3, None, None, None]
    kinds = [kind_of_word(w) for w in words]
    assert kinds == [
        "shape",
        "shape",
        "colour",
        "size",
        *["pattern"] * 2,
        "place",
        "size",
        "function",
    ]
