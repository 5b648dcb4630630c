"""Pairwise sample optimisation: a few-step student is moved towards what is preferred, measured against itself as it was.

PSO (Miao et al., "Tuning timestep-distilled diffusion model using pairwise sample optimization", ICLR 2025). The likelihood of a
step is that of the re-noise sampler, p(x_m | x_l) = N(a_m f(x_l, l), b_m^2); the last step draws nothing and is left out, so that
n steps give n - 1 that learn. Densities are means over the elements of a picture, not sums, as in the released code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.models._diffusion.data import Pictures
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import LEVELS, clean, noise, noised, signal, velocity
from edgekit.models._diffusion.training import frozen, own, squared

CLIP = 0.1  # of a ratio of densities around 1; beyond it a step learns nothing (a trust region; the released epsilon)

Reward = Callable[[np.ndarray], np.ndarray]  # pictures -> float64 (N,), which nobody differentiates
Judge = Callable[[UNet], float]


def student_levels(steps: int) -> list[float]:
    """The levels at which a student of so many steps is called, from 1000 down; plans.py has the same."""
    return [LEVELS * (steps - k) / steps for k in range(steps)]


def log_density(net: UNet, x: Tensor, after: Tensor, levels: Tensor, lower: Tensor, conditions: Tensor) -> Tensor:
    """log p(after | x) of a re-noise step without its constant, the mean over elements: (N,)."""
    guess = clean(x, net(x, levels, conditions), levels).clamp(-1, 1)
    a, b = signal(lower), noise(lower)
    found: Tensor = ((after - a[..., None, None] * guess) / b[..., None, None]).square().flatten(1).mean(1) / -2
    return found


def pair_loss(better: Tensor, worse: Tensor, reference_better: Tensor, reference_worse: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta (log r_better - log r_worse)), r = clamp(p / p_reference, 1 - CLIP, 1 + CLIP); log 2 where nothing moved."""
    ratios = [(p - q).exp().clamp(1 - CLIP, 1 + CLIP).log() for p, q in ((better, reference_better), (worse, reference_worse))]
    return -F.logsigmoid(beta * (ratios[0] - ratios[1])).mean()


class OnlineTask:
    """Two trajectories of the student as it is, for each condition; what a black box likes better is made likelier, step by step.

    An epoch rolls `pairs` pairs, then every step of every pair is learned once, in an order of its own for each pair.
    """

    def __init__(self, learner: Any, conditions: np.ndarray, reward: Reward, judge: Judge, *, pairs: int, steps: int, beta: float) -> None:
        self.learner, self.reference = learner, frozen(deepcopy(learner.net))
        self.conditions, self.reward, self.judge = conditions, reward, judge
        self.pairs, self.levels, self.beta = pairs, student_levels(steps), beta

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(conditions, levels, lower levels, then x and what followed of the better and of the worse picture)."""
        if split == "validation":
            yield (torch.zeros(1),)
            return
        rng = np.random.default_rng((seed, epoch))
        conditions = torch.from_numpy(self.conditions[rng.choice(len(self.conditions), self.pairs)])
        with torch.no_grad():
            rolled = [self._roll(conditions, rng) for _ in range(2)]
        rewards = [self.reward(images.numpy()) for _, images in rolled]
        first = torch.from_numpy(rewards[0] > rewards[1])[:, None, None, None, None]  # ties go to the second
        better = torch.where(first, rolled[0][0], rolled[1][0])  # (pairs, steps, C, H, W)
        worse = torch.where(first, rolled[1][0], rolled[0][0])
        transitions = len(self.levels) - 1
        order = np.argsort(rng.random((self.pairs, transitions)), 1)
        rows = torch.arange(self.pairs)
        for turn in range(transitions):
            at = torch.from_numpy(order[:, turn])
            levels, lower = (torch.tensor(self.levels)[at + k][:, None] for k in (0, 1))
            every = (conditions, levels, lower, better[rows, at], better[rows, at + 1], worse[rows, at], worse[rows, at + 1])
            for begin in range(0, self.pairs, batch_size):
                yield tuple(t[begin : begin + batch_size] for t in every)

    def _roll(self, conditions: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(x at every level (N, steps, C, H, W), the pictures in the end)."""
        net = self.learner.net
        shape = (len(conditions), net.channels, net.size, net.size)
        seen = []
        x = torch.from_numpy(rng.standard_normal(shape, np.float32))
        for i, level in enumerate(self.levels):
            seen.append(x)
            levels = torch.full((len(x), 1), level)
            guess = clean(x, net(x, levels, conditions), levels).clamp(-1, 1)
            if i + 1 < len(self.levels):
                x = noised(guess, torch.from_numpy(rng.standard_normal(shape, np.float32)), torch.full((len(x), 1), self.levels[i + 1]))
        return torch.stack(seen, 1), guess

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The pair loss of one step of each pair."""
        conditions, levels, lower, *pairs = batch
        new = [log_density(module, x, after, levels, lower, conditions) for x, after in (pairs[:2], pairs[2:])]
        with torch.no_grad():
            old = [log_density(self.reference, x, after, levels, lower, conditions) for x, after in (pairs[:2], pairs[2:])]
        return pair_loss(new[0], new[1], old[0], old[1], self.beta)

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """What the judge says of the student as it is."""
        return torch.tensor(self.judge(own(module).net))


class OfflineTask:
    """Target pictures against the student's own, both noised alike to the student's own levels; the reference is the student as it was.

    With e(x) the squared error of f(noised x) on x by signal-to-noise ratio, the loss is
    -log sigmoid(-beta ((e(target) - e_reference(target)) - (e(own) - e_reference(own)))).
    """

    def __init__(self, learner: Any, targets: Pictures, made: np.ndarray, judge: Judge, *, steps: int, beta: float) -> None:
        """made: the student's own pictures for the conditions of `targets`, in their order, drawn once."""
        self.reference, self.targets, self.made = frozen(deepcopy(learner.net)), targets, made
        self.judge, self.beta = judge, beta
        self.levels = student_levels(steps)[1:]  # at level 1000 a picture has no part in what the network sees

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(conditions, levels, noise, targets, own pictures)."""
        if split == "validation":
            yield (torch.zeros(1),)
            return
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(self.made))
        size = min(batch_size, len(order))
        for at in range(0, len(order) - size + 1, size):
            rows = order[at : at + size]
            levels = torch.tensor(self.levels)[rng.integers(len(self.levels), size=size)][:, None]
            eps = torch.from_numpy(rng.standard_normal(self.made[rows].shape, np.float32))
            pictures = (torch.from_numpy(p[rows]) for p in (self.targets.images, self.made))
            yield (torch.from_numpy(self.targets.conditions[rows]), levels, eps, *pictures)

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The pairwise loss; log 2 where nothing moved."""
        conditions, levels, eps, target, made = batch
        new = [error(module, p, eps, levels, conditions) for p in (target, made)]
        with torch.no_grad():
            old = [error(self.reference, p, eps, levels, conditions) for p in (target, made)]
        return -F.logsigmoid(-self.beta * ((new[0] - old[0]) - (new[1] - old[1]))).mean()

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """What the judge says of the student as it is."""
        return torch.tensor(self.judge(own(module).net))


class NaiveTask(OfflineTask):
    """The control: the plain diffusion loss on the target pictures at the student's levels, as fine-tuning is usually done."""

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean squared error of v."""
        conditions, levels, eps, target, _ = batch
        return squared(module(noised(target, eps, levels), levels, conditions), velocity(target, eps, levels))


def error(net: Any, picture: Tensor, eps: Tensor, levels: Tensor, conditions: Tensor) -> Tensor:
    """The squared error of eps, (a/b)^2 |f(x_l, l) - picture|^2, the mean over elements: (N,)."""
    x = noised(picture, eps, levels)
    off = clean(x, net(x, levels, conditions), levels) - picture
    ratio = (signal(levels) / noise(levels))[..., None, None]
    found: Tensor = (ratio * off).square().flatten(1).mean(1)
    return found

