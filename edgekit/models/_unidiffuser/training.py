"""What pictures and captions are learned by: a level for each picture and for each word, drawn so that every task is met.

Bao et al., "One transformer fits all distributions in multi-modal diffusion at scale" (UniDiffuser), ICML 2023, draw both levels evenly
and independently. A small network that learns for minutes needs the tasks themselves too: a clean or an unknown caption, a clean or an
unknown picture, both at one level. What is at level 0 is given and has no loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.net import hidden_matrices
from edgekit.models._diffusion.schedule import LEVELS, noised, velocity
from edgekit.models._diffusion.training import shuffled, stratified
from edgekit.models._unidiffuser.net import Net
from edgekit.models._unidiffuser.options import Shares

WORDS_WEIGHT = 0.05  # of the words' cross-entropy (nats) beside the mean squared error of the picture's v: they share the network
SUBSET = 0.5  # of the captions of several words that are given, only some of the words are


class Learner(nn.Module):
    """The network that learns, with what Muon needs to know of it."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def hidden_matrices(self) -> list[str]:
        """Names of the weights that Muon updates."""
        own = ("heard_second", "say_first", "say_second")
        return [*(f"net.unet.{n}" for n in hidden_matrices(self.net.unet)), *(f"net.{n}.weight" for n in own)]

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """As Net.forward."""
        found: tuple[Tensor, Tensor] = self.net(*given)
        return found


def levels_of(count: int, places: int, shares: Shares, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Levels of `count` pictures (count, 1) and of the words of their captions (count, places), float32 in 0..1000."""
    pictures, words = (stratified(count, rng)[:, None] * np.float32(LEVELS) for _ in range(2))
    words = np.repeat(words, places, 1)
    ends = np.cumsum(list(dataclasses.asdict(shares).values()))
    which = np.searchsorted(ends, rng.permutation((np.arange(count) + rng.random()) / count), "right")  # evenly: all kinds in each batch
    kind = {name: which == i for i, name in enumerate(dataclasses.asdict(shares))}
    words[kind["words_given"]], words[kind["words_unknown"]] = 0, LEVELS
    if places > 1:
        lacking = rng.random((count, places)) < rng.random((count, 1))
        words[lacking & (kind["words_given"] & (rng.random(count) < SUBSET))[:, None]] = LEVELS
    pictures[kind["picture_given"]], pictures[kind["picture_unknown"]] = 0, LEVELS
    words[kind["alike"]] = pictures[kind["alike"]]
    return pictures, words


class BothTask:
    """v of the pictures by their mean squared error and words by cross-entropy, each over what is not given."""

    def __init__(self, split: Split, net: Net, shares: Shares, words_weight: float = WORDS_WEIGHT) -> None:
        """words_weight: 0 for a network that learns pictures only."""
        self.split, self.shares, self.words_weight, self.codes = split, shares, words_weight, net.codes.clone()

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(pictures, words, levels (N, 1) and (N, T), noise of both); the validation's are the same in every epoch."""
        if split == "validation":
            held, rng = self.split.validation, np.random.default_rng(0)
            for at in range(0, len(held), batch_size):
                rows = slice(at, at + batch_size)
                yield self._batch(rng, torch.from_numpy(held.images[rows]), held.conditions[rows])
            return
        for rng, images, conditions in shuffled(self.split.train, epoch, seed, batch_size):
            yield self._batch(rng, images, conditions)

    def _batch(self, rng: np.random.Generator, images: Tensor, words: np.ndarray) -> tuple[Tensor, ...]:
        level, levels = levels_of(len(images), words.shape[1], self.shares, rng)
        noises = (rng.standard_normal(s, np.float32) for s in (images.shape, (*words.shape, self.codes.shape[2])))
        return images, *(torch.from_numpy(v) for v in (words, level, levels, *noises))

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The picture's error and words_weight of the words'."""
        images, words, level, levels, eps, words_eps = batch
        clean = self.codes[torch.arange(words.shape[1]), words]
        v, said = module(noised(images, eps, level), noised(clean, words_eps, levels), level, levels)
        of_picture = (v - velocity(images, eps, level)).square().mean((1, 2, 3))
        of_words = F.cross_entropy(said.transpose(1, 2), words, reduction="none")
        found: Tensor = _over(of_picture, level[:, 0] > 0) + self.words_weight * _over(of_words, levels > 0)
        return found

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of the negative losses."""
        found: Tensor = -self.loss(module, batch) * len(batch[0])
        return found


def _over(values: Tensor, where: Tensor) -> Tensor:
    """The mean where it counts; 0 where nothing does."""
    found: Tensor = (values * where).sum() / where.sum().clamp(min=1)
    return found
