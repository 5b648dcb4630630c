"""What every training of a diffusion network shares: batches with levels and noise, the teacher's loss, and how a score is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.net import UNet, hidden_matrices
from edgekit.models._diffusion.schedule import LEVELS, noised, velocity

DROP = 0.1  # of the training pictures are learned without any of their conditions, so that guidance has an unconditional answer
VALIDATION_LEVELS = 2  # per picture: the validation loss is taken at fixed noise and at levels that are spread over the pictures


class Learner(nn.Module):
    """One network that learns, with what Muon needs to know of it."""

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def hidden_matrices(self) -> list[str]:
        """Names of the weights that Muon updates."""
        return [f"net.{n}" for n in hidden_matrices(self.net)]

    def forward(self, *arguments: Any) -> Tensor:
        """As UNet.forward."""
        out: Tensor = self.net(*arguments)
        return out


def own(module: Any) -> Any:
    """The module itself, without what a training loop wrapped around it."""
    return getattr(module, "module", module)


def frozen(net: UNet) -> UNet:
    """The same network, that answers and does not learn."""
    return net.eval().requires_grad_(False)


def dropped(conditions: np.ndarray, heads: tuple[int, ...], rng: np.random.Generator, share: float = DROP) -> np.ndarray:
    """conditions int64 (N, heads), with all of them 'not given' in `share` of the rows."""
    return np.where(rng.random(len(conditions))[:, None] < share, np.array(heads, np.int64), conditions)


def stratified(count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` numbers in [0, 1), one in each of as many equal parts, in an order of chance; float32."""
    return ((rng.permutation(count) + rng.random(count)) / count).astype(np.float32)


def shuffled(pictures: Pictures, epoch: int, seed: int, batch_size: int) -> Iterator[tuple[np.random.Generator, Tensor, np.ndarray]]:
    """Whole batches of one pass in an order of chance: (random numbers for more, images, conditions)."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(pictures.images))
    size = min(batch_size, len(order))
    for at in range(0, len(order) - size + 1, size):
        rows = order[at : at + size]
        yield rng, torch.from_numpy(pictures.images[rows]), pictures.conditions[rows]


class TeacherTask:
    """v-prediction with plain MSE at levels drawn evenly from 0 to 1000 (Salimans and Ho, ICLR 2022; diffusion with conditions
    dropped at random: Ho and Salimans, "Classifier-free diffusion guidance", 2022)."""

    def __init__(self, split: Split, heads: tuple[int, ...]) -> None:
        self.split, self.heads = split, heads

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(images, conditions, levels (N, 1), noise); the validation's are the same in every epoch."""
        if split == "validation":
            yield from self._validation(batch_size)
            return
        for rng, images, conditions in shuffled(self.split.train, epoch, seed, batch_size):
            levels = torch.from_numpy(stratified(len(images), rng) * LEVELS)[:, None]
            eps = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
            yield images, torch.from_numpy(dropped(conditions, self.heads, rng)), levels, eps

    def _validation(self, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        held = self.split.validation
        rng = np.random.default_rng(0)
        for _ in range(VALIDATION_LEVELS):
            shares = stratified(len(held.images), rng)
            for at in range(0, len(held.images), batch_size):
                images = torch.from_numpy(held.images[at : at + batch_size])
                levels = torch.from_numpy(shares[at : at + batch_size] * LEVELS)[:, None]
                eps = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
                yield images, torch.from_numpy(held.conditions[at : at + batch_size]), levels, eps

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean squared error of v."""
        images, conditions, levels, eps = batch
        return squared(module(noised(images, eps, levels), levels, conditions), velocity(images, eps, levels))

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of the negative errors of the pictures, each the mean over its pixels."""
        found: Tensor = -self.loss(module, batch) * len(batch[0])
        return found


def squared(found: Tensor, expected: Tensor) -> Tensor:
    """The mean squared difference."""
    mean: Tensor = (found - expected).square().mean()
    return mean


def guided(teacher: UNet, x: Tensor, levels: Tensor, conditions: Tensor, guidance: float) -> Tensor:
    """v_none + g (v_given - v_none). Rows without a condition get v_none, whatever g is."""
    if guidance == 1:
        found: Tensor = teacher(x, levels, conditions)
        return found
    none = torch.tensor(teacher.heads).expand_as(conditions)
    both = teacher(torch.cat([x, x]), torch.cat([levels, levels]), torch.cat([conditions, none]))
    given, without = both.chunk(2)
    mixed: Tensor = without + guidance * (given - without)
    return mixed


def turned(x: Tensor, v: Tensor, levels: Tensor, lower: Tensor, clamp: float = 1.0) -> Tensor:
    """A DDIM step from `levels` to `lower` (N, 1) with x0 clamped to +-clamp, and eps taken from the clamped x0."""
    angle, to = (t[..., None, None] * (math.pi / 2 / LEVELS) for t in (levels, lower))
    x0 = (angle.cos() * x - angle.sin() * v).clamp(-clamp, clamp)
    eps = (x - angle.cos() * x0) / angle.sin().clamp(min=1e-6)
    return to.cos() * x0 + to.sin() * eps
