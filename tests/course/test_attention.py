"""Looks are what the network computes; each statistic finds what was planted, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from looking_helpers import make_network, make_scenes, read_val

from refgen.refshapes import Thing
from shnet_course.measure.attention import (
    BLOCKS,
    Look,
    Measured,
    Sample,
    agreement,
    attend,
    centres,
    interval,
    kind_of_word,
    lifts,
    measure,
    named_and_others,
    namesakes,
    received_by,
    report,
    rules_out,
    shrink,
    side_shifts,
    telling_word,
    turned,
    when_named,
)
from shnet_course.measure.inside import attention_inside
from shnet_course.measure.scene_graph import read_scene_graphs


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
    asks, asked = look.words_over_pixels(), look.pixels_over_words()
    for t in range(words):
        row = look.weights[1, 0, pixels + t, :pixels]
        column = look.weights[1, 0, :pixels, pixels + t]
        for n in range(pixels):
            y, x = divmod(n, look.grid)
            assert asks[1, 0, t, y, x] == pytest.approx(row[n] / row.sum(), rel=1e-4)
            assert asked[1, 0, t, y, x] == pytest.approx(column[n] / column.sum(), rel=1e-4)
    with pytest.raises(ValueError, match=r"no block 'word'.*word-word"):
        look.block("word")
    assert len(BLOCKS) == 4


def test_agreement_is_the_mean_correlation(looks):
    look = max(looks, key=lambda look: len(look.words))
    pixels = look.pixels
    for level, layer in np.ndindex(look.weights.shape[:2]):
        weights = look.weights[level, layer]
        expected = [
            np.corrcoef(weights[t, :pixels], weights[:pixels, t])[0, 1]
            for t in range(pixels, len(weights))
        ]
        # A column is scaled by its sum, which no correlation sees; so is a row.
        assert agreement(look)[level, layer] == pytest.approx(np.mean(expected), abs=1e-3)


# --- small measures -------------------------------------------------------------------------------


def test_shrink_is_the_mean_of_each_cell():
    masks = np.random.default_rng(0).random((3, 12, 20)) > 0.6
    small = shrink(masks, 4)
    for m, y, x in np.ndindex(3, 4, 4):
        cell = masks[m, 3 * y : 3 * y + 3, 5 * x : 5 * x + 5]
        assert small[m, y, x] == pytest.approx(cell.mean())
    assert shrink(np.ones((1, 128, 128), bool), 12) == pytest.approx(1)  # 128 is no multiple of 12


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


def test_centres_are_in_the_middle_of_cells():
    maps = np.zeros((2, 4, 5))
    maps[0, 1, 4] = 1
    maps[1] = 1 / 20
    assert centres(maps).tolist() == [pytest.approx([0.9, 0.375]), pytest.approx([0.5, 0.5])]


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


def test_turned_changes_one_side_word_or_nothing():
    assert turned("the 2nd star from left") == "the 2nd star from right"
    assert turned("Lower ring") == "upper ring"
    assert turned("red star") is None
    assert turned("left star above ring") is None


# --- statistics on looks with something planted ---------------------------------------------------


def planted(words: str, target: int, image: int = 1, **parts) -> Measured:
    """A look that prefers nothing, but for the parts given; 2 levels, 3 layers."""
    count = len(words.split())
    even = {
        "word_lifts": np.ones((2, 3, count, len(THINGS))),
        "pixel_lifts": np.ones((2, 3, len(THINGS))),
        "received": np.ones((2, 3, count)),
        "word_centres": np.full((2, 3, count, 2), 0.5),
        "answer_centre": np.full(2, 0.5),
    }
    return Measured(image, words.split(), target, THINGS, **even | parts)


def test_named_and_others_compares_things_of_one_size():
    lift = np.ones((2, 3, 2, 4))
    lift[:, :, 1] = [5, 2, 100, 4]  # the big ring is not of the star's size
    measured = [planted("red star", 0, word_lifts=lift), planted("red star", 2)]
    named, others = named_and_others(measured, "shape")  # no other thing is as big as the ring
    assert named.values.shape == (1, 2, 3)
    assert (named.values == 5).all() and (others.values == 3).all()
    colour, _ = named_and_others(measured, "colour")
    assert (colour.values == 1).all()
    with pytest.raises(ValueError, match="no phrase"):
        named_and_others(measured, "pattern")


def test_when_named_compares_a_thing_with_itself():
    lift = np.ones((2, 3, 1, 4))
    lift[..., 0] = 3
    other = np.ones((2, 3, 1, 4))
    other[..., 0] = 2.5  # liked anyway
    measured = [
        planted("star", 0, word_lifts=lift),
        planted("ring", 2, word_lifts=other),
        planted("moon", 3, image=2, word_lifts=9 * lift),  # never unmeant in its scene
    ]
    found = when_named(measured, "words")
    assert found.scenes.tolist() == [1, 1]  # things 0 and 2
    assert found.values[0] == pytest.approx(0.5) and found.values[1] == pytest.approx(0)
    assert (when_named(measured, "pixels").values == 0).all()


def test_namesakes_leave_the_meant_thing_out():
    lift = np.ones((2, 3, 2, 4))
    lift[:, :, 1] = [50, 2, 1, 0.5]
    found = namesakes([planted("red star", 0, word_lifts=lift), planted("red ring", 2)])
    assert found.values.shape == (1, 2, 3)  # the ring has no namesake
    assert found.values == pytest.approx(2 - 0.75)


def test_received_by_and_the_telling_word():
    got = np.broadcast_to([0.6, 0.9, 1.5], (2, 3, 3))
    measured = [planted("left red star", 0, received=got), planted("star", 1)]
    assert received_by(measured, "shape").values == pytest.approx(1.5)  # one word has no others
    assert len(received_by(measured, "shape").values) == 1
    found = telling_word(measured)  # star rules out two things, red one, left says nothing
    assert found.values == pytest.approx(0.6)


def test_side_shifts_have_the_sign_of_the_side():
    def at(x, y, words):
        return np.broadcast_to([[x, y], [0.5, 0.5]], (2, 3, 2, 2))[:, :, :words]

    left = planted("left star", 0, word_centres=at(0.3, 0.5, 2), answer_centre=np.array([0.1, 0.5]))
    right = planted("right star", 0, word_centres=at(0.7, 0.6, 2), answer_centre=np.array([0.9, 0]))
    top = planted("top star", 0, word_centres=at(0.5, 0.2, 2))
    bottom = planted("bottom star", 0, word_centres=at(0.5, 0.3, 2))
    for pair in ((left, right), (right, left)):
        found = side_shifts([pair[0], top], [pair[1], bottom], across=True)
        assert found["side word"].values == pytest.approx(np.full((1, 2, 3), 0.4))
        assert found["other words"].values == pytest.approx(0)
        assert found["answer"].values == pytest.approx(0.8)
        assert abs(found["wrong axis"].values) == pytest.approx(0.1)
    found = side_shifts([left, bottom], [right, top], across=False)
    assert found["side word"].values == pytest.approx(np.full((1, 2, 3), 0.1))
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        side_shifts([left, top], [right], across=True)


# --- intervals ------------------------------------------------------------------------------------


def sample(values, scenes) -> Sample:
    return Sample(np.array(values, dtype=float)[:, None, None], np.array(scenes))


def test_the_interval_is_the_normal_one_where_cases_are_independent():
    values = np.random.default_rng(3).normal(2, 1, 400)
    found = interval(sample(values, range(400)))
    error = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + error, abs=0.02)
    assert (found.cases, found.scenes) == (400, 400)


def test_saying_the_same_ten_times_makes_nothing_surer():
    values = np.random.default_rng(4).normal(0, 1, 50)
    once = interval(sample(values, range(50)))
    often = interval(sample(np.repeat(values, 10), np.repeat(range(50), 10)))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_samples_are_subtracted_case_by_case_and_only_of_the_same_cases():
    one, other = sample([3, 5], [1, 2]), sample([1, 1], [1, 2])
    assert (one - other).values.ravel().tolist() == [2, 4]
    with pytest.raises(ValueError, match="no pairs"):
        one - sample([1, 1], [1, 3])


def test_the_report_has_a_line_each():
    lines = report({"a": sample([1, 1], [1, 2]), "longer": sample([2, 2], [1, 1])}).splitlines()
    assert lines == [
        "a        1.00  [ 1.00,  1.00]  2 cases in 2 scenes",
        "longer   2.00  [ 2.00,  2.00]  2 cases in 1 scenes",
    ]


# --- from looks to measures -----------------------------------------------------------------------


def test_measures_against_loops(data, looks):
    graphs = read_scene_graphs(data, [look.expression for look in looks])
    look = max(looks, key=lambda look: len(look.words))
    graph = graphs[look.expression.image_id]
    found = measure(look, graph)
    things, pixels, grid = len(graph.scene.things), look.pixels, look.grid
    covers = shrink(graph.masks[:things], grid).reshape(things, -1)
    weights = look.weights[1, 0].astype(float)
    for t in range(len(look.words)):
        row = weights[pixels + t, :pixels] / weights[pixels + t, :pixels].sum()
        assert found.word_lifts[1, 0, t] == pytest.approx(covers @ row / covers.mean(1), rel=1e-4)
        x = sum(row[n] * (n % grid + 0.5) / grid for n in range(pixels))
        assert found.word_centres[1, 0, t, 0] == pytest.approx(x, rel=1e-4)
        taken = 0.0
        for s in range(len(look.words)):
            if s != t:
                others = [pixels + u for u in range(len(look.words)) if u != s]
                taken += weights[pixels + s, pixels + t] / weights[pixels + s, others].sum()
        assert found.received[1, 0, t] == pytest.approx(taken, rel=1e-4)
    given = np.zeros(pixels)
    for n in range(pixels):
        given += max(0.0, 1 - covers[:, n].sum()) * weights[n, :pixels]
    expected = covers @ (given / given.sum()) / covers.mean(1)
    assert found.pixel_lifts[1, 0] == pytest.approx(expected, rel=1e-4)
    assert found.target == graph.target(look.expression) and found.things == graph.scene.things


def test_an_even_look_has_no_preference(data, val):
    graph = read_scene_graphs(data, val[:1])[val[0].image_id]
    words = val[0].text.split()
    tokens = 16 + len(words)
    even = np.full((3, 2, tokens, tokens), 1 / tokens)
    found = measure(Look(val[0], words, 4, even, np.full((64, 64), 0.1)), graph)
    assert found.word_lifts == pytest.approx(1) and found.pixel_lifts == pytest.approx(1)
    assert found.word_centres == pytest.approx(0.5) and found.answer_centre == pytest.approx(0.5)
    if len(words) > 1:
        assert found.received == pytest.approx(1)


def test_a_turned_phrase_is_measured_on_the_same_scene(network, data, val):
    sided = [expression for expression in val if turned(expression.text)]
    graphs = read_scene_graphs(data, sided)
    other_way = [replace(expression, text=turned(expression.text)) for expression in sided]
    both = [
        [measure(look, graphs[look.expression.image_id]) for look in attend(network, each)]
        for each in (sided, other_way)
    ]
    assert all(len(a.words) == len(b.words) for a, b in zip(*both, strict=True))
    found = side_shifts(*both, across=True)
    assert set(found) == {"side word", "other words", "wrong axis", "answer"}
