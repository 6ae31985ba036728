"""Answers to exercise 02, wrong ones and right ones, as a learner might write them.

A wrong one is (answer, a part of the message that has to name it, or None).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def pooled(level, grid, start=math.floor, end=math.ceil, first=-math.inf, reduce=max):
    """Number by number, with any rounding of the windows."""
    channels, height, width = level.shape
    result = torch.zeros(channels, grid, grid)
    for c in range(channels):
        for i in range(grid):
            for j in range(grid):
                top, left = start(i * height / grid), start(j * width / grid)
                bottom, right = end((i + 1) * height / grid), end((j + 1) * width / grid)
                numbers = level[c, top : max(bottom, top + 1), left : max(right, left + 1)]
                result[c, i, j] = reduce([first, *numbers.flatten().tolist()])
    return result


def fixed_windows(level, grid):
    """max_pool2d with a window of h // grid, as one would for sizes that fit."""
    _, height, width = level.shape
    rows, columns = max(height // grid, 1), max(width // grid, 1)
    level = level.repeat_interleave(2, dim=2) if width < grid else level
    return F.max_pool2d(level, (rows, columns))[:, :grid, :grid]


def batch_norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def only_gradients(network):
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network


def without_gradients_and_eval(network):
    network.eval()
    return only_gradients(network)


class NoGrad(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        with torch.no_grad():
            return self.network(images)


class NoGradEval(NoGrad):
    def __init__(self, network):
        super().__init__(network)
        self.eval()


class NoGradStaysInEval(NoGradEval):
    def train(self, mode=True):
        return super().train(False)


class EvalInForward(nn.Module):
    """Awake until it is used, and then not any more."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        network.requires_grad_(False)

    def forward(self, images):
        self.network.eval()
        return self.network(images)


class LearnsInEval(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network.eval()

    def train(self, mode=True):
        return self

    def forward(self, images):
        return self.network(images)


def no_momentum(network):
    for norm in batch_norms(network):
        norm.momentum = 0
    return only_gradients(network)


def no_statistics(network):
    for norm in batch_norms(network):
        norm.track_running_stats = False
    return without_gradients_and_eval(network)


def only_batch_norms_frozen(network):
    for norm in batch_norms(network):
        norm.requires_grad_(False)
        norm.eval()
        norm.train = lambda mode=True: None
    return network


def train_replaced(network):
    without_gradients_and_eval(network)
    network.train = lambda mode=True: network
    return network


def each_norm_replaced(network):
    """Every BatchNorm becomes the scale and shift that it is in evaluation mode."""

    class Affine(nn.Module):
        def __init__(self, norm):
            super().__init__()
            scale = norm.weight / (norm.running_var + norm.eps) ** 0.5
            self.register_buffer("scale", scale.detach()[:, None, None])
            shift = norm.bias - norm.running_mean * scale
            self.register_buffer("shift", shift.detach()[:, None, None])

        def forward(self, x):
            return x * self.scale + self.shift

    parts = [Affine(m) if isinstance(m, nn.BatchNorm2d) else m for m in network]
    return nn.Sequential(*parts).requires_grad_(False)


def hooked(network):
    network.requires_grad_(False)
    network.register_forward_pre_hook(lambda module, images: network.eval() and None)
    return network


MISTAKES = {
    "pool to a grid": {
        "mean": (
            lambda level, grid: pooled(level, grid, first=0, reduce=lambda n: sum(n) / len(n[1:])),
            "that is the mean",
        ),
        "rounded down": (lambda level, grid: pooled(level, grid, end=math.floor), "stop short"),
        "rounded": (lambda level, grid: pooled(level, grid, start=round, end=round), None),
        "windows of one size": (fixed_windows, None),
        "one place": (
            lambda level, grid: torch.stack(
                [
                    torch.stack(
                        [
                            level[:, i * level.shape[1] // grid, j * level.shape[2] // grid]
                            for j in range(grid)
                        ],
                        dim=1,
                    )
                    for i in range(grid)
                ],
                dim=1,
            ),
            "one place of each window",
        ),
        "from 0": (lambda level, grid: pooled(level, grid, first=0.0), "starts at 0"),
        "swapped": (lambda level, grid: pooled(level, grid).mT, "swapped"),
        "minimum": (lambda level, grid: -F.adaptive_max_pool2d(-level, grid), None),
        "bilinear": (
            lambda level, grid: F.interpolate(level[None], size=(grid, grid), mode="bilinear")[0],
            None,
        ),
        "over the channels too": (
            lambda level, grid: pooled(level, grid).amax(0, keepdim=True).expand(3, -1, -1),
            None,
        ),
    },
    "the mean of the real words": {
        "padding too": (lambda f, m: torch.einsum("btc->bc", f) / f.shape[1], "padding too"),
        "divided by T": (lambda f, m: torch.einsum("btc,bt->bc", f, m.float()) / 6, "divide by T"),
        "padding in the sum": (
            lambda f, m: torch.stack([x.sum(0) / n.sum() for x, n in zip(f, m)]),
            "still in your sum",
        ),
        "sum": (lambda f, m: f.masked_fill(~m[..., None], 0).sum(1), "the sum"),
        "the batch's words": (
            lambda f, m: torch.where(m[..., None], f, 0.0).sum(1) / m.float().sum(),
            "batch's words",
        ),
        "inside out": (
            lambda f, m: (f * ~m[..., None]).nansum(1) / (~m).sum(1, keepdim=True),
            "inside out",
        ),
        "maximum": (lambda f, m: f.masked_fill(~m[..., None], -1e9).amax(1), None),
        "one vector for all": (lambda f, m: f[m].mean(0).expand(len(f), -1), None),
        "the axis kept": (
            lambda f, m: (f * m[..., None]).sum(1, True) / m.sum(1)[:, None, None],
            None,
        ),
    },
    "the last real state": {
        "last column": (lambda f, m: f[:, f.shape[1] - 1], "last column"),
        "one too far": (
            lambda f, m: torch.stack([x[min(int(n.sum()), 5)] for x, n in zip(f, m)]),
            "one too far",
        ),
        "one short": (
            lambda f, m: torch.stack([x[max(int(n.sum()) - 2, 0)] for x, n in zip(f, m)]),
            "one short",
        ),
        "first word": (lambda f, m: f.unbind(1)[0], "first word"),
        "mean": (lambda f, m: torch.stack([x[n].mean(0) for x, n in zip(f, m)]), "a mean"),
        "masked, then the last column": (lambda f, m: (f * m[..., None])[:, -1], None),
        "all places of all phrases": (lambda f, m: f[:, m.sum(1) - 1], None),
        "the longest phrase's": (lambda f, m: f[:, m.sum(1).max() - 1], "last column"),
    },
    "freeze a backbone": {
        "gradients alone": (only_gradients, "without gradients"),
        "eval alone": (lambda network: network.train(False), "eval() stops no gradient"),
        "gradients and eval": (without_gradients_and_eval, "model.train() wakes"),
        "no_grad alone": (NoGrad, "no_grad() stops gradients"),
        "no_grad and eval": (NoGradEval, "until model.train()"),
        "eval, but it learns": (LearnsInEval, "parameters learn"),
        "no_grad and eval for good": (NoGradStaysInEval, "still ask for gradients"),
        "no momentum": (no_momentum, "uses the batch's own"),
        "nothing": (nn.Sequential, "froze nothing"),
        "gradients, and eval for the norms once": (
            lambda network: (
                [norm.eval() for norm in batch_norms(network)] and only_gradients(network)
            ),
            "model.train() wakes",
        ),
        "statistics switched off": (no_statistics, None),
        "norms alone": (only_batch_norms_frozen, "parameters learn"),
        "no return": (lambda network: None, "has to return a module"),
        "features detached": (
            lambda network: without_gradients_and_eval(nn.Sequential(network, nn.Identity())),
            "model.train() wakes",
        ),
        "another network": (
            lambda network: without_gradients_and_eval(nn.Sequential(*list(network)[:-1])),
            None,
        ),
    },
}

ALTERNATIVES = {
    "pool to a grid": {
        "number by number": pooled,
        "torch": lambda level, grid: F.adaptive_max_pool2d(level[None], (grid, grid))[0],
        "first rows, then columns": lambda level, grid: columns_of(
            columns_of(level, grid).mT, grid
        ).mT.contiguous(),
    },
    "the mean of the real words": {
        "einsum": lambda f, m: torch.einsum("btc,bt->bc", f, m / m.sum(1, keepdim=True)),
        "loop": lambda f, m: torch.stack([x[n].mean(0) for x, n in zip(f, m)]),
        "nanmean": lambda f, m: f.masked_fill(~m[..., None], math.nan).nanmean(1),
    },
    "the last real state": {
        "loop": lambda f, m: torch.stack([x[n][-1] for x, n in zip(f, m)]),
        "gather": lambda f, m: f.gather(
            1, (m.sum(1) - 1)[:, None, None].expand(-1, 1, f.shape[2])
        ).squeeze(1),
        "one-hot": lambda f, m: (f * (m & ~F.pad(m, (0, 1))[:, 1:])[..., None]).sum(1),
    },
    "freeze a backbone": {
        "train replaced": train_replaced,
        "norms replaced": each_norm_replaced,
        "eval before each use": hooked,
        "eval in the forward pass": EvalInForward,
    },
}


def columns_of(level, grid):
    """Pool the last axis alone: (C, h, w) -> (C, h, grid)."""
    width = level.shape[-1]
    ends = [(j * width // grid, math.ceil((j + 1) * width / grid)) for j in range(grid)]
    return torch.stack([level[..., left:right].amax(-1) for left, right in ends], dim=-1)
