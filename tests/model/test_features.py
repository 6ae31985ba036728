"""Section 3.1, second half: levels to one grid, words to vectors, sentences to their average."""

import literal
import pytest
import torch
from torch.nn import functional as F

from shnet_lib.model.features import (
    LevelProjection,
    WordEncoder,
    average_words,
    onehot_vectors,
)


def assert_equal(ours, expected, tolerance=1e-10):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < tolerance


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("level_size", "grid"),
    [((1, 1), 1), ((1, 1), 2), ((4, 4), 3), ((5, 7), 2), ((10, 10), 4), ((8, 8), 4), ((7, 3), 3)],
)
@pytest.mark.parametrize("images", [1, 2])
def test_level_projection_against_loops(level_size, grid, images):
    """Finer and coarser levels than 2H x 2W, and sizes that do not divide."""
    projection = literal.randomised(LevelProjection(3, 5, grid))
    level = draw(images, 3, *level_size)
    ours = projection(level)
    assert ours.shape == (images, 5, grid, grid)
    assert_equal(ours, literal.level_projection(level, projection))


def test_level_projection_in_training_uses_and_remembers_the_batchs_statistics():
    projection = literal.randomised(LevelProjection(3, 5, 3))
    level = draw(2, 3, 7, 5)
    pooled = literal.adaptive_max_pool(level, 6)
    normed, mean, var = literal.batch_norm_training(
        literal.convolve(pooled, projection.conv), projection.norm
    )
    assert_equal(projection.train()(level), literal.leaky_relu(normed))
    assert_equal(projection.norm.running_mean, mean)
    assert_equal(projection.norm.running_var, var)


@pytest.mark.parametrize("lengths", [[1], [25], [1, 2, 25], [7, 7]])
def test_average_against_loops(lengths):
    _, words, mask = literal.levels_and_words(len(lengths), 3, 1, 1, lengths, 25)
    assert_equal(average_words(words[0], mask), literal.average_words(words[0], mask))


def test_average_reads_no_padding():
    _, words, mask = literal.levels_and_words(2, 3, 1, 1, [2, 5], 9)
    changed = torch.where(mask[:, :, None], words[0], 1e9)
    assert torch.equal(average_words(words[0], mask), average_words(changed, mask))


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 25), (3, 4)])
def test_word_encoder_against_one_lstm_step_a_word(batch, length):
    encoder = literal.randomised(WordEncoder(torch.randn(9, 6), channels=4, trainable=True))
    words = torch.arange(batch * length).view(batch, length) * 5 % 9
    ours = encoder(words)
    assert ours.shape == (batch, length, 4)
    assert_equal(ours, literal.encode_words(words, encoder))


def test_a_word_knows_those_before_it_and_none_behind():
    """So padding, which stands at the end, cannot reach a real word."""
    encoder = literal.randomised(WordEncoder(torch.randn(9, 6), channels=4, trainable=True))
    words = torch.tensor([[3, 1, 4, 1, 5]])
    for position in range(5):
        changed = words.clone()
        changed[0, position] = 8
        same = (encoder(words) == encoder(changed)).all(-1)[0]
        assert same.tolist() == [place < position for place in range(5)]


@pytest.mark.parametrize("trainable", [True, False])
def test_word_vectors_are_given_and_train_only_if_asked(trainable):
    vectors = torch.randn(9, 6)
    encoder = WordEncoder(vectors.clone(), channels=4, trainable=trainable)
    assert torch.equal(encoder.embedding.weight, vectors)
    words = torch.tensor([[2, 7, 2]])
    encoder(words).sum().backward()
    gradient = encoder.embedding.weight.grad
    if trainable:
        assert gradient.abs().sum(1).nonzero().flatten().tolist() == [2, 7]
    else:
        assert gradient is None and not encoder.embedding.weight.requires_grad
    assert encoder.lstm.weight_ih_l0.grad.abs().sum() > 0


def test_onehot_gives_each_word_its_own_axis():
    vectors = onehot_vectors(6)
    words = torch.tensor([0, 5, 2, 2])
    assert torch.equal(vectors[words], F.one_hot(words, 6).float())
