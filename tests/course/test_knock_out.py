"""A closed path is closed, against literal loops; behind the `with` the network is as it was."""

import math

import numpy as np
import pytest
import torch
from looking_helpers import make_network, make_scenes, read_val

from shnet_course.measure.attention import BLOCKS
from shnet_course.measure.knock_out import (
    answer,
    block_mask,
    closed,
    gates_at,
    measure_iou,
    prepare,
)
from shnet_lib.model.sfm import MultiHeadAttention
from shnet_lib.training.evaluate import evaluate


@pytest.fixture(scope="module")
def val(tmp_path_factory):
    return read_val(make_scenes(tmp_path_factory.mktemp("knock_out")))


@pytest.fixture(scope="module")
def trained(val):
    """Random weights, with gates and words that matter."""
    made = make_network(val, sfm="released", sfm_layers=2)
    with torch.no_grad():
        for name, value in made.network.named_parameters():
            if not name.startswith("backbone.") and value.dim() > 1:
                value.mul_(2)
    return made


@pytest.fixture(scope="module")
def batches(trained, val):
    return prepare(trained, val, batch_size=5)


@pytest.fixture(scope="module")
def whole(trained, batches):
    return answer(trained.network, batches)


def test_a_mask_against_a_loop():
    pixels, tokens = 4, 7
    for block in BLOCKS:
        allowed = block_mask(block, pixels, tokens)
        for asking, asked in np.ndindex(tokens, tokens):
            name = "-".join("pixel" if n < pixels else "word" for n in (asking, asked))
            assert allowed[asking, asked] == (name != block)
    with pytest.raises(ValueError, match=r"no block 'words'.*word-word"):
        block_mask("words", 4, 7)


@pytest.mark.parametrize("block", BLOCKS)
def test_attention_with_a_closed_block_against_loops_over_queries_and_keys(trained, block):
    attention = next(m for m in trained.network.sfm.modules() if isinstance(m, MultiHeadAttention))
    pixels, length, channels = trained.network.config.grid**2, 3, attention.query.in_features
    tokens, heads = pixels + length, attention.heads
    size = channels // heads
    keyed, valued = torch.randn(2, 1, tokens, channels, generator=torch.manual_seed(0))
    keep = torch.ones(1, tokens, dtype=torch.bool)
    keep[0, -1] = False  # a padded word
    with closed(trained.network, block, [1]), torch.no_grad():
        found, _ = attention(keyed, valued, keep)
    query, key, value = (
        linear(x)[0].detach()
        for linear, x in (
            (attention.query, keyed), (attention.key, keyed), (attention.value, valued)
        )
    )  # fmt: skip
    kind = ["pixel"] * pixels + ["word"] * length
    for asking in (0, pixels - 1, pixels, tokens - 2):
        mixed = torch.zeros(channels)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            weights = [
                math.exp(float(query[asking, part] @ key[asked, part]) / size**0.5)
                if keep[0, asked] and f"{kind[asking]}-{kind[asked]}" != block
                else 0.0
                for asked in range(tokens)
            ]
            for asked, weight in enumerate(weights):
                mixed[part] += weight / sum(weights) * value[asked, part]
        assert torch.allclose(found[0, asking], attention.out(mixed), atol=1e-4)


def test_only_the_layers_named_are_closed_and_all_without_a_name(trained, batches, whole):
    def with_closed(layers):
        with closed(trained.network, "pixel-pixel", layers):
            return answer(trained.network, batches)

    first, second, both, all_of_them = map(with_closed, ([1], [2], [1, 2], None))
    assert torch.equal(both, all_of_them)
    different = [whole, first, second, both]
    for i, one in enumerate(different):
        assert not any(torch.allclose(one, other, atol=1e-4) for other in different[:i])


def test_behind_it_the_network_is_as_it_was_even_after_an_error(trained, batches, whole):
    with pytest.raises(RuntimeError), closed(trained.network, "word-pixel"):
        raise RuntimeError
    with pytest.raises(RuntimeError), gates_at(trained.network, 0.0):
        raise RuntimeError
    assert torch.equal(answer(trained.network, batches), whole)


def test_gates_stand_where_they_are_held(trained, batches, whole):
    """At 0 nothing is exchanged: the context is the aggregation of the levels themselves."""
    network, batch = trained.network, batches[0]
    with torch.no_grad():
        visual = [
            project(level)[batch["image_index"]]
            for project, level in zip(network.projections, batch["levels"], strict=True)
        ]
        visual, words, _ = network.sfm(
            visual, network.word_encoder(batch["words"]), batch["word_mask"]
        )
        for value in (0.0, 0.5, 1.0):
            enriched = [visual[i] + value * (sum(visual) - visual[i]) for i in range(3)]
            with gates_at(network, value):
                found = network.fusion(visual, words, batch["word_mask"])
            assert torch.allclose(found, network.fusion.aggregate(enriched), atol=1e-4)


def test_with_both_paths_closed_the_phrase_is_not_heard(trained, val, batches, whole):
    def differ(logits):
        first = {e.image_id: n for n, e in reversed(list(enumerate(val)))}
        return max((logits[n] - logits[first[e.image_id]]).abs().max() for n, e in enumerate(val))

    with closed(trained.network, "pixel-word"):
        through_gates = answer(trained.network, batches)
        with gates_at(trained.network, 0.5):
            deaf = answer(trained.network, batches)
    assert differ(whole) > 1e-2 and differ(through_gates) > 1e-2
    assert differ(deaf) < 1e-3  # logits of 10: rounding, where batches have other lengths


def test_the_iou_is_the_library_s_in_the_order_of_the_expressions(trained, val):
    order = sorted(range(len(val)), key=lambda n: (n % 3, n))
    mixed = [val[n] for n in order]
    found = measure_iou(trained.network, prepare(trained, mixed, batch_size=4))
    rows = evaluate(trained.network, trained.evaluation_set(mixed)).rows
    assert found == pytest.approx([row["iou"] for row in rows], abs=1e-6)


def test_what_is_not_there_cannot_be_closed(trained, val):
    without = make_network(val, sfm="none", fusion="none").network
    with pytest.raises(ValueError, match="no SFM"), closed(without, "word-word"):
        pass
    with pytest.raises(ValueError, match="no gates.*none"), gates_at(without, 0.5):
        pass
    with pytest.raises(ValueError, match="no block"), closed(trained.network, "word"):
        pass
    with (
        pytest.raises(ValueError, match="layers 1 to 2; there is no layer 3"),
        closed(trained.network, "word-word", [3]),
    ):
        pass
