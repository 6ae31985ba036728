"""The checks of exercise 02: one grid, averages and last states under padding, freezing."""

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shnet_course.checks.core import CheckFailed, Exercise, add_exercise, seed_torch
from shnet_lib.model.features import average_words

LESSON = "02_features"


# --- one grid -------------------------------------------------------------------------------------


def _level_and_grid(source: random.Random) -> tuple[Tensor, int]:
    """A level that is too high for its grid and not wide enough; most of its numbers negative."""
    seed_torch(source)
    grid = source.choice([4, 5, 6])
    height, width = 2 * grid + source.randrange(1, grid), grid - source.randrange(1, 3)
    return torch.randn(3, height, width) - 1.5, grid


def pool_to_grid(level: Tensor, grid: int) -> Tensor:
    """(C, h, w) -> (C, grid, grid): adaptive max-pooling."""
    return F.adaptive_max_pool2d(level, grid)


def _pool(level: Tensor, grid: int, reduce: Callable, ends: Callable) -> Tensor:
    """Pool window by window; `ends(i, size)` gives a window's first place and that behind it."""

    def window(i: int, j: int) -> Tensor:
        (top, bottom), (left, right) = ends(i, level.shape[1]), ends(j, level.shape[2])
        return reduce(level[:, top:bottom, left:right].flatten(1), dim=1)  # (C,)

    cells = [window(i, j) for i in range(grid) for j in range(grid)]
    return torch.stack(cells, dim=1).unflatten(1, (grid, grid))


def _touching(grid: int) -> Callable[[int, int], tuple[int, int]]:
    """Windows that never overlap: each ends where the next begins."""
    return lambda i, size: (i * size // grid, max((i + 1) * size // grid, i * size // grid + 1))


def _of_one_size(grid: int) -> Callable[[int, int], tuple[int, int]]:
    """Windows of size // grid places, one beside the other, the rest left out."""

    def ends(i: int, size: int) -> tuple[int, int]:
        side = max(size // grid, 1)
        begin = min(i * side, size - 1)
        return begin, begin + side

    return ends


add_exercise(
    LESSON,
    "pool to a grid",
    Exercise(
        pool_to_grid,
        _level_and_grid,
        {
            "that is the mean of each window: the released code takes the maximum": (
                lambda level, grid: F.adaptive_avg_pool2d(level, grid)
            ),
            "your windows stop short: a window ends at (i + 1) h / grid rounded *up*": (
                lambda level, grid: _pool(level, grid, torch.amax, _touching(grid))
            ),
            "your windows are all of one size and miss the rest: cut at i h / grid": (
                lambda level, grid: _pool(level, grid, torch.amax, _of_one_size(grid))
            ),
            "you take one place of each window: take the maximum of all of it": (
                lambda level, grid: F.interpolate(level[None], size=(grid, grid))[0]
            ),
            "your maximum starts at 0: where all features are negative it must be negative": (
                lambda level, grid: pool_to_grid(level, grid).clamp(min=0)
            ),
            "rows and columns are swapped: i counts rows, j columns": (
                lambda level, grid: pool_to_grid(level, grid).transpose(1, 2)
            ),
        },
    ),
)

# --- words with padding ---------------------------------------------------------------------------


def _padded_words(source: random.Random) -> tuple[Tensor, Tensor]:
    """Features of B phrases, among them one of one word and one of T; loud numbers in padding."""
    seed_torch(source)
    lengths = torch.tensor(source.sample([1, 3, 4, 6], k=4))
    word_mask = torch.arange(6) < lengths[:, None]  # (B, T)
    word_feats = torch.randn(4, 6, 5)
    return torch.where(word_mask[..., None], word_feats, 7 * word_feats), word_mask


def _zeroed(word_feats: Tensor, word_mask: Tensor) -> Tensor:
    return word_feats * word_mask[..., None]


add_exercise(
    LESSON,
    "the mean of the real words",
    Exercise(
        average_words,
        _padded_words,
        {
            "you average over padding too: only the words where word_mask is True count": (
                lambda word_feats, word_mask: word_feats.mean(1)
            ),
            "you divide by T: padded words are out of your sum but still in the number of words": (
                lambda word_feats, word_mask: _zeroed(word_feats, word_mask).mean(1)
            ),
            "padding is still in your sum: only the words where word_mask is True count": (
                lambda word_feats, word_mask: word_feats.sum(1) / word_mask.sum(1)[:, None]
            ),
            "that is the sum: divide by the number of real words": (
                lambda word_feats, word_mask: _zeroed(word_feats, word_mask).sum(1)
            ),
            "you divide by the batch's words: each phrase has its own number": (
                lambda word_feats, word_mask: (
                    _zeroed(word_feats, word_mask).sum(1) / word_mask.sum()
                )
            ),
            "your mask is inside out: it is True at real words": (
                lambda word_feats, word_mask: average_words(word_feats, ~word_mask)
            ),
        },
    ),
)


def last_state(word_feats: Tensor, word_mask: Tensor) -> Tensor:
    """(B, T, C), (B, T) -> (B, C): the state at each phrase's last real word."""
    return _state_at(word_feats, word_mask.sum(1) - 1)


def _state_at(word_feats: Tensor, places: Tensor) -> Tensor:
    return word_feats[torch.arange(len(word_feats)), places]


add_exercise(
    LESSON,
    "the last real state",
    Exercise(
        last_state,
        _padded_words,
        {
            "you take the last column: in a short phrase that is padding": (
                lambda word_feats, word_mask: word_feats[:, -1]
            ),
            "one too far: a phrase of n words has its last word at n - 1": (
                lambda word_feats, word_mask: _state_at(word_feats, word_mask.sum(1).clamp(max=5))
            ),
            "one short: a phrase of n words has its last word at n - 1": (
                lambda word_feats, word_mask: _state_at(
                    word_feats, (word_mask.sum(1) - 2).clamp(min=0)
                )
            ),
            "that is the first word's state: the LSTM had not read the others then": (
                lambda word_feats, word_mask: word_feats[:, 0]
            ),
            "that is a mean: the last state is one of the states": average_words,
        },
    ),
)

# --- freezing -------------------------------------------------------------------------------------


def _small_cnn(source: random.Random) -> tuple[dict[str, Tensor], Tensor]:
    """Weights and statistics of a small CNN that was trained elsewhere, and photos (6, 3, 6, 7)."""
    seed_torch(source)
    state = _cnn().state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.normal_()
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
    return state, torch.randn(6, 3, 6, 7) * 2 + 1


def _cnn() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))


def use_frozen(
    freeze: Callable[[nn.Module], nn.Module], state: dict[str, Tensor], photos: Tensor
) -> dict[str, bool]:
    """Put what `freeze` gives into a model, train that, and see what became of the features.

    Raises:
        CheckFailed: it gives no module.
    """
    network = _cnn()
    network.load_state_dict(state)
    own = network.eval()(photos).detach()
    frozen = freeze(network.train())
    if not isinstance(frozen, nn.Module):
        raise CheckFailed(f"freeze has to return a module, and returned {frozen!r}")
    seen = {
        "its parameters ask for gradients": any(p.requires_grad for p in frozen.parameters()),
        "it gives the network's own features": _same(_look(frozen, photos), own),
        "a photo's features depend on its batch": _depends_on_batch(frozen, photos),
    }
    model = nn.Sequential(frozen, nn.Conv2d(5, 1, 1))
    model.train()
    seen["after model.train() they depend on its batch"] = _depends_on_batch(frozen, photos)
    seen["gradients reach it in training"] = _train(model, frozen, photos)
    model.eval()
    seen["its features are the same after training"] = _same(_look(frozen, photos), own)
    return seen


@torch.no_grad()
def _look(network: nn.Module, photos: Tensor) -> Tensor:
    """The features, without moving the network's statistics by asking."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    features = network(photos)
    network.load_state_dict(state)
    return features


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.allclose(one, other, atol=1e-4))


def _depends_on_batch(network: nn.Module, photos: Tensor) -> bool:
    """Whether the first photo gets other features beside other photos."""
    return not _same(_look(network, photos[:3])[:1], _look(network, photos[[0, 4, 5]])[:1])


def _train(model: nn.Module, frozen: nn.Module, photos: Tensor) -> bool:
    """Two steps on everything the model has; whether a gradient arrived in the frozen part."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    arrived = False
    for batch in photos.split(3):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        arrived |= any(p.grad is not None for p in frozen.parameters())
        optimizer.step()
    return arrived


class Frozen(nn.Module):
    """A network that stays in evaluation mode, whatever its surroundings are told."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class _WithoutGraph(nn.Module):
    """Its forward pass records no graph, and that is all."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class _StaysInEvaluation(Frozen):
    """Evaluation mode for good, but its parameters learn."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        network.requires_grad_(True)


class _StaysWithoutGraph(_StaysInEvaluation):
    """Nothing moves it, and its parameters ask for gradients all the same."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


def _without_momentum(network: nn.Module) -> nn.Module:
    for module in network.requires_grad_(False).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return network


add_exercise(
    LESSON,
    "freeze a backbone",
    Exercise(
        Frozen,
        _small_cnn,
        {
            "without gradients BatchNorm still follows the batches: evaluation mode is missing": (
                lambda network: network.requires_grad_(False)
            ),
            "model.train() wakes your BatchNorms: it calls train(True) on every part it has": (
                lambda network: network.requires_grad_(False).eval()
            ),
            "eval() stops no gradient, and model.train() ends it: the network was trained on": (
                lambda network: network.eval()
            ),
            "no_grad() stops gradients, not BatchNorm: in training mode it follows the batches": (
                lambda network: _WithoutGraph(network)
            ),
            "no_grad() and eval() hold until model.train(): BatchNorm follows the batches then": (
                lambda network: _WithoutGraph(network.eval())
            ),
            "evaluation mode stays, but the parameters learn: they still ask for gradients": (
                _StaysInEvaluation
            ),
            "nothing moves it, but its parameters still ask for gradients: requires_grad_(False)": (
                _StaysWithoutGraph
            ),
            "the statistics stay, but in training mode BatchNorm uses the batch's own": (
                _without_momentum
            ),
            "you froze nothing: the network was trained with the rest": lambda network: network,
        },
        ask=use_frozen,
    ),
)
