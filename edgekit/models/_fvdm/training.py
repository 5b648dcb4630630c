"""How a network learns films: which level each frame has in a training example, and the loss.

vector: half of a batch are clips of which some frames are known (level 0) and the others share one level, as the tasks ask for; three
eighths share one level among all frames, as a film from nothing asks for; an eighth has a level of chance for each frame. With levels
of chance alone, two clean frames and six noisy ones hardly ever occur together, and known frames are not used.
paper: probabilistic timestep sampling (Liu et al., "Redefining temporal modeling in video diffusion", 2024): each clip has levels of
chance for each frame with probability 0.2, else one for all. scalar: always one for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import LEVELS, noised, velocity
from edgekit.models._diffusion.training import stratified
from edgekit.models._fvdm.clips import FRAMES, Clips, ClipSplit
from edgekit.models._fvdm.options import Kind

PAPER_SHARE = 0.2  # of the clips that have independent levels under PTSS
KNOWN_PART, EACH_PART = 2, 8  # vector: a half has known frames, an eighth independent levels
UNTOLD = {"vector": 0.2, "scalar": 0.5, "paper": 0.5}  # of the clips without known frames, learned without their condition; with known ones all are
# Which frames are known, and how often: what the tasks ask for (the first, the first two, the first half, both ends), and any of them.
KNOWN = ((0,), (0, 1), (0, 1, 2, 3), (0, FRAMES - 1))
KNOWN_SHARES = (0.15, 0.35, 0.2, 0.15)
ANY_KNOWN = (2, 6)  # how many of any frames


def levels_of(kind: Kind, count: int, rng: np.random.Generator) -> np.ndarray:
    """Levels float32 (count, FRAMES), 0 to 1000, of a batch of training clips; level 0 means known."""
    shared = np.repeat(stratified(count, rng)[:, None] * LEVELS, FRAMES, 1).astype(np.float32)
    each = (rng.random((count, FRAMES)) * LEVELS).astype(np.float32)
    if kind == "scalar":
        return shared
    if kind == "paper":
        return np.where(rng.random(count)[:, None] < PAPER_SHARE, each, shared)
    found = shared
    found[count - count // EACH_PART :] = each[count - count // EACH_PART :]
    for row in range(count // KNOWN_PART):
        found[row, known_frames(rng)] = 0
    return found


def known_frames(rng: np.random.Generator) -> list[int]:
    """Which frames of a clip are known, by chance as above."""
    which = int(np.searchsorted(np.cumsum(KNOWN_SHARES), rng.random()))
    if which < len(KNOWN):
        return list(KNOWN[which])
    return [int(f) for f in rng.permutation(FRAMES)[: rng.integers(ANY_KNOWN[0], ANY_KNOWN[1] + 1)]]


def new_net(clips: Clips, width: int) -> UNet:
    """The network before it has learned: frames as channels, a level for each."""
    _, frames, channels, size, _ = clips.films.shape
    return UNet(frames * channels, size, (len(clips.values),), slots=frames, width=width)


class FilmTask:
    """v-prediction with plain MSE over the frames that are not known."""

    def __init__(self, split: ClipSplit, kind: Kind, an_epoch: int) -> None:
        """an_epoch: clips of an epoch; passes over the training clips follow one another, cut into epochs."""
        self.split, self.kind, self.an_epoch = split, kind, an_epoch

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(films (B, frames * C, H, W), conditions, levels (B, frames), noise); the validation's are the same in every epoch."""
        part = self.split.train if split == "train" else self.split.validation
        rng = np.random.default_rng((seed, epoch) if split == "train" else 0)
        rows = np.arange(len(part)) if split == "validation" else self._rows(epoch, seed, batch_size)
        for at in range(0, len(rows), batch_size):
            chosen = rows[at : at + batch_size]
            films = part.pixels(chosen)
            if split == "train" and self.split.mirrors:
                films = np.where(rng.random(len(films))[:, None, None, None, None] < 0.5, films[..., ::-1], films)
            levels = levels_of(self.kind, len(films), rng)
            untold = (levels == 0).any(1) | (rng.random(len(films)) < UNTOLD[self.kind])
            conditions = np.where(untold[:, None], len(part.values), part.conditions[chosen])
            pictures = np.ascontiguousarray(films.reshape(len(films), -1, *films.shape[3:]), np.float32)
            yield tuple(map(torch.from_numpy, (pictures, conditions, levels, rng.standard_normal(pictures.shape, np.float32))))

    def _rows(self, epoch: int, seed: int, batch_size: int) -> np.ndarray:
        """Rows of an epoch, whole batches: a piece of endless passes, each in an order of its own."""
        count = len(self.split.train)
        size = max(self.an_epoch // batch_size * batch_size, batch_size)
        first, last = (epoch - 1) * size, epoch * size
        passes = range(first // count, -(-last // count))
        rows = np.concatenate([np.random.default_rng((seed, 0, p)).permutation(count) for p in passes])
        found: np.ndarray = rows[first - passes[0] * count :][:size]
        return found

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean squared error of v over the frames with noise: of a clean frame v is the noise itself, which nobody can know."""
        films, conditions, levels, eps = batch
        found = module(noised(films, eps, levels), levels, conditions)
        errors = (found - velocity(films, eps, levels)).square().reshape(*levels.shape, -1).mean(2)
        there = (levels > 0).to(errors.dtype)
        mean: Tensor = (errors * there).sum() / there.sum()
        return mean

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of the negative errors of the films."""
        found: Tensor = -self.loss(module, batch) * len(batch[0])
        return found
