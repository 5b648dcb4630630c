"""How a network learns films: which level each frame has in a training example, and the loss.

vector: of three eighths of a batch some frames are known and the others share one level, as the tasks ask for; a half share one level among
all frames, as a film from nothing asks for; an eighth has a level of chance for each frame. With levels of chance alone, two clean frames and
six noisy ones hardly ever occur together, and known frames are not used. Known frames are at level 0, a quarter of them a little above: parts of
a long film know frames that a network drew, and are told to trust them a little less (stabilisation; Chen et al., "Diffusion forcing", 2024).
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
from edgekit.models._fvdm.plans import DOUBT_MOST

PAPER_SHARE = 0.2  # of the clips that have independent levels under PTSS
KNOWN_SHARE, EACH_SHARE = 3 / 8, 1 / 8  # vector: of a batch, clips with known frames and with independent levels
DOUBTED_SHARE = 0.25  # of the clips with known frames, those whose known frames are a little noisy, up to DOUBT_MOST
# Of the clips learned without their condition. Where frames are known, it is told in half of them: of a long film it is asked, of given frames not.
UNTOLD, UNTOLD_KNOWN = {"vector": 0.2, "scalar": 0.5, "paper": 0.5}, 0.5
# Which frames are known, and how often: what the tasks ask for (the first, the first two, the first half, both ends), and any of them.
KNOWN = ((0,), (0, 1), (0, 1, 2, 3), (0, FRAMES - 1))
KNOWN_SHARES = (0.15, 0.35, 0.2, 0.15)
ANY_KNOWN = (2, 6)  # how many of any frames


def levels_of(kind: Kind, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of a batch of training clips: levels float32 (count, FRAMES), 0 to 1000, and bool (count, FRAMES), which frames are known."""
    shared = np.repeat(stratified(count, rng)[:, None] * LEVELS, FRAMES, 1).astype(np.float32)
    each = (rng.random((count, FRAMES)) * LEVELS).astype(np.float32)
    known = np.zeros((count, FRAMES), np.bool_)
    if kind == "scalar":
        return shared, known
    if kind == "paper":
        return np.where(rng.random(count)[:, None] < PAPER_SHARE, each, shared), known
    found = shared
    independent = round(count * EACH_SHARE)
    found[count - independent :] = each[count - independent :]
    for row in range(round(count * KNOWN_SHARE)):
        known[row, known_frames(rng)] = True
        doubt = rng.random() * DOUBT_MOST if rng.random() < DOUBTED_SHARE else 0.0
        found[row, known[row]] = min(doubt, found[row, 0])  # never noisier than what they tell about
    return found, known


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
        """(films (B, frames * C, H, W), conditions, levels (B, frames), which are to be said (B, frames), noise); the validation's are the
        same in every epoch."""
        part = self.split.train if split == "train" else self.split.validation
        rng = np.random.default_rng((seed, epoch) if split == "train" else 0)
        rows = np.arange(len(part)) if split == "validation" else self._rows(epoch, seed, batch_size)
        for at in range(0, len(rows), batch_size):
            chosen = rows[at : at + batch_size]
            films = part.pixels(chosen)
            if split == "train" and self.split.mirrors:
                films = np.where(rng.random(len(films))[:, None, None, None, None] < 0.5, films[..., ::-1], films)
            levels, known = levels_of(self.kind, len(films), rng)
            untold = rng.random(len(films)) < np.where(known.any(1), UNTOLD_KNOWN, UNTOLD[self.kind])
            conditions = np.where(untold[:, None], len(part.values), part.conditions[chosen])
            pictures = np.ascontiguousarray(films.reshape(len(films), -1, *films.shape[3:]), np.float32)
            yield tuple(map(torch.from_numpy, (pictures, conditions, levels, ~known, rng.standard_normal(pictures.shape, np.float32))))

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
        """The mean squared error of v over the frames that are to be said: of a clean frame v is the noise itself, which nobody can know."""
        films, conditions, levels, said, eps = batch
        found = module(noised(films, eps, levels), levels, conditions)
        errors = (found - velocity(films, eps, levels)).square().reshape(*levels.shape, -1).mean(2)
        mean: Tensor = (errors * said).sum() / said.sum()
        return mean

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of the negative errors of the films."""
        found: Tensor = -self.loss(module, batch) * len(batch[0])
        return found
