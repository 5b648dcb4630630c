"""From a teacher to students that need 4, 2 or 1 calls: consistency distillation, distribution matching, and shortcuts.

A student is the teacher's own network read another way: f(x, l) = a x - b v(x, l), which is x itself at level 0 and the
teacher's denoiser at the start, so that no output layer has to be zeroed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.net import UNet, hidden_matrices
from edgekit.models._diffusion.schedule import LEVELS, clean, noised, velocity
from edgekit.models._diffusion.training import (
    Learner,
    dropped,
    frozen,
    guided,
    own,
    shuffled,
    squared,
    stratified,
    turned,
)

SEGMENTS = 32  # between level 0 and 1000, of the consistency loss and of the shortest shortcut
TARGET_DECAY = 0.99  # of the running average that gives the targets
HUBER = 0.03  # c of the pseudo-Huber loss, on the root mean square of a picture's difference
LOWEST = 20.0  # noise levels of distribution matching lie between here and 980: outside, scores say nothing
FAKE_TURNS = 2  # updates of the network that follows the student, to one of the student

Quality = Callable[[UNet], float]  # of a student, more is better, from validation pictures


def huber(difference: Tensor) -> Tensor:
    """sqrt(mean of squares + c^2) - c of each picture, averaged (Song and Dhariwal, 2024, with c of diffusion_small's study)."""
    return ((difference.square().flatten(1).mean(1) + HUBER**2).sqrt() - HUBER).mean()


class WithTarget(Learner):
    """A student and the running average of it that gives its targets; the average is stored with it, so that a broken-off training
    ends with the same weights."""

    def __init__(self, net: UNet) -> None:
        super().__init__(net)
        self.target = frozen(copy.deepcopy(net))

    def follow(self) -> UNet:
        """The target, after one more step towards the student."""
        with torch.no_grad():
            for mine, theirs in zip(self.target.parameters(), self.net.parameters(), strict=True):
                mine.lerp_(theirs, 1 - TARGET_DECAY)
        return self.target


class _Distilling:
    """Batches of noisy real pictures for a student, and its quality as the score."""

    def __init__(self, split: Split, teacher: UNet, guidance: float, quality: Quality) -> None:
        self.split, self.teacher, self.guidance, self.quality = split, frozen(teacher), guidance, quality

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(images, conditions, numbers in [0, 1) (N, 1), noise, place of the batch in the epoch (N,))."""
        if split == "validation":
            yield (torch.zeros(1),)
            return
        for turn, (rng, images, conditions) in enumerate(shuffled(self.split.train, epoch, seed, batch_size)):
            share = torch.from_numpy(stratified(len(images), rng))[:, None]
            eps = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
            given = torch.from_numpy(dropped(conditions, self.teacher.heads, rng))
            yield images, given, share, eps, torch.full((len(images),), turn)

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The student's quality on validation pictures."""
        return torch.tensor(self.quality(own(module).net))


class ConsistencyTask(_Distilling):
    """Consistency distillation (Song et al., ICML 2023, algorithm 2): what the student says at a level equals what its average says
    where one DDIM step of the guided teacher leads."""

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Pseudo-Huber of f(x_l, l) - f_target(x_m, m), m one segment below l."""
        images, conditions, share, eps, _ = batch
        target = own(module).follow()
        upper = (share * SEGMENTS).floor() + 1
        levels, lower = upper * (LEVELS / SEGMENTS), (upper - 1) * (LEVELS / SEGMENTS)
        x = noised(images, eps, levels)
        with torch.no_grad():
            below = turned(x, guided(self.teacher, x, levels, conditions, self.guidance), levels, lower)
            aim = clean(below, target(below, lower, conditions), lower)
        return huber(clean(x, module(x, levels, conditions), levels) - aim)


class ShortcutTask(_Distilling):
    """Shortcut models (Frans et al., ICLR 2025): one jump of length 2d equals two of length d; the shortest is the teacher's step."""

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Pseudo-Huber between the clean picture that the student's jump implies and the one that two half jumps imply."""
        images, conditions, share, eps, turn = batch
        target = own(module).follow()
        x, levels, lengths = self._start(images, share, eps, int(turn[0]))
        with torch.no_grad():
            half = lengths / 2
            shortest = lengths[:, 0] <= LEVELS / SEGMENTS + 0.5
            middle = turned(x, target(x, levels, conditions, half), levels, levels - half)
            end = turned(middle, target(middle, levels - half, conditions, half), levels - half, levels - lengths)
            taught = turned(x, guided(self.teacher, x, levels, conditions, self.guidance), levels, levels - lengths)
            end = torch.where(shortest[:, None, None, None], taught, end)
            aim = implied(x, end, levels, lengths)
        return huber(clean(x, module(x, levels, conditions, lengths), levels) - aim)

    def _start(self, images: Tensor, share: Tensor, eps: Tensor, turn: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy pictures, their levels, and jumps of 1, 2, 4, ... segments: half of the batch the shortest and the longest, the rest
        any, each from a multiple of its own length."""
        sizes = [2**k for k in range(SEGMENTS.bit_length())]
        segments = torch.tensor([sizes[(i + turn) % len(sizes)] for i in range(len(images))])[:, None]
        slots = SEGMENTS // segments
        levels = ((share * slots).floor() + 1) * segments * (LEVELS / SEGMENTS)
        return noised(images, eps, levels), levels, segments * (LEVELS / SEGMENTS)


def implied(x: Tensor, end: Tensor, levels: Tensor, lengths: Tensor) -> Tensor:
    """The clean picture whose DDIM step of `lengths` from x at `levels` ends at `end`: v = (cos d x - end) / sin d, x0 = a x - b v.

    With the cosine schedule a step is a turn by the angle d = pi/2 length/1000 in the plane of x and v.
    """
    angle = lengths[..., None, None] * (torch.pi / 2 / LEVELS)
    return clean(x, (angle.cos() * x - end) / angle.sin(), levels)


class Matched(Learner):
    """A student and the network that follows what it makes (the "fake score")."""

    def __init__(self, net: UNet, teacher: UNet) -> None:
        super().__init__(net)
        self.fake = copy.deepcopy(teacher).requires_grad_(True)

    def hidden_matrices(self) -> list[str]:
        """Of both networks."""
        return [f"{part}.{n}" for part in ("net", "fake") for n in hidden_matrices(self.net)]

    def forward(self, which: str, *arguments: Any) -> Tensor:
        """v of the student ("net") or of the network that follows it ("fake")."""
        out: Tensor = getattr(self, which)(*arguments)
        return out


class MatchingTask(_Distilling):
    """Distribution matching distillation (Yin et al., CVPR 2024; DMD2, NeurIPS 2024, whose student sees its own pictures again between
    its calls): the student moves where the guided teacher says that pictures are likelier than its own are."""

    def __init__(self, split: Split, teacher: UNet, guidance: float, quality: Quality, calls: int) -> None:
        super().__init__(split, teacher, guidance, quality)
        self.levels = [LEVELS * (calls - k) / calls for k in range(calls)]

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """By turns: FAKE_TURNS losses of v on the student's pictures for the follower, then one of the student."""
        _, conditions, share, eps, turn = batch
        learns = int(turn[0]) % (FAKE_TURNS + 1) == FAKE_TURNS
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            made = self._made(module, conditions, eps, int(turn[0]))
        levels = LOWEST + share * (LEVELS - 2 * LOWEST)
        fresh = torch.randn_like(made)
        x = noised(made.detach(), fresh, levels)
        if not learns:
            return squared(module("fake", x, levels, conditions), velocity(made, fresh, levels))
        with torch.no_grad():
            real = clean(x, guided(self.teacher, x, levels, conditions, self.guidance), levels)
            fake = clean(x, own(module).fake(x, levels, conditions), levels)
            size = (made - real).abs().flatten(1).mean(1).clamp(min=1e-3)[:, None, None, None]
            aim = made - (fake - real) / size
        return 0.5 * squared(made, aim)

    def _made(self, module: Any, conditions: Tensor, eps: Tensor, turn: int) -> Tensor:
        """Pictures of the student after 1, 2, ... of its calls by turns; gradients flow through the last call alone."""
        calls = 1 + (turn // (FAKE_TURNS + 1)) % len(self.levels)
        x = made = eps
        for i, level in enumerate(self.levels[:calls]):
            levels = torch.full((len(eps), 1), level)
            with torch.set_grad_enabled(torch.is_grad_enabled() and i == calls - 1):
                made = clean(x, module("net", x, levels, conditions), levels)
            if i < calls - 1:
                lower = torch.full((len(eps), 1), self.levels[i + 1])
                x = noised(made, torch.randn_like(made), lower)
        found: Tensor = made
        return found


def with_jumps(net: UNet) -> UNet:
    """The same network, told the lengths of jumps too; it answers as before until it learns."""
    made = UNet(net.channels, net.size, net.heads, net.slots, net.width, jumps=True)
    made.load_state_dict(net.state_dict(), strict=False)
    return made
