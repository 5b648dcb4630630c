"""Pictures inverted and edited in torch, with the calls of the deployed graph: the reference of every engine, and what choices are made by.

Latent inversion with timestep-aware sampling (arXiv 2402.08601): text optimisation, latent inversion, timestep-aware text injection. Its
code was never published; the latent inversion here is null-text pivots (Mokady et al., CVPR 2023) or stored offsets (as in "direct
inversion", Ju et al., ICLR 2024), which need no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import LEVELS, noised, velocity
from edgekit.models._latent_inversion import plans
from edgekit.models._latent_inversion.plans import Rows
from edgekit.models._latent_inversion.step import Step

AT_ONCE = 2  # levels of a picture in an update of its text
ENOUGH = 1e-5  # of the mean squared error of a step: the empty text is good there
TEXT_SEED = 31  # of levels and noise while texts are optimised


@dataclass(frozen=True)
class Inverted:
    """Pictures on their way up to noise, and what leads down the same way again."""

    pivots: Tensor  # (S + 1, B, C, H, W), the picture first, noise last
    source: Tensor  # (B, E) the text with which they went up
    offsets: Tensor  # (S, B, C, H, W) in the order of the way down, for one guidance

    @property
    def latent(self) -> Tensor:
        """The noisy end."""
        return self.pivots[-1]


def texts(net: UNet, conditions: np.ndarray) -> Tensor:
    """What the network learned for conditions int64 (B, heads): (B, E)."""
    with torch.no_grad():
        return net.embedded(torch.from_numpy(conditions))


def optimised(net: UNet, images: Tensor, begin: Tensor, updates: int, rate: float) -> Tensor:
    """Of each picture the text that predicts it best, from `begin` (B, E) by Adam; the network stays as it is."""
    text = begin.clone().requires_grad_(True)
    adam, rng, count = torch.optim.Adam([text], rate), np.random.default_rng(TEXT_SEED), len(images)
    many = images.repeat(AT_ONCE, 1, 1, 1)
    for _ in range(updates):
        shares = (rng.random((1, count)) + np.arange(AT_ONCE)[:, None]) / AT_ONCE  # a level from each half
        levels = torch.from_numpy((shares.reshape(-1, 1) * LEVELS).astype(np.float32))
        eps = torch.from_numpy(rng.standard_normal(many.shape, np.float32))
        v = net(noised(many, eps, levels), levels, text.repeat(AT_ONCE, 1))
        loss = F.mse_loss(v, velocity(many, eps, levels), reduction="none").flatten(1).mean(1).sum() / AT_ONCE  # pictures do not mix
        adam.zero_grad()
        (text.grad,) = torch.autograd.grad(loss, [text])
        adam.step()
    return text.detach()


@torch.no_grad()
def walk(  # noqa: PLR0913 - the inputs of the graph
    step: Step, x: Tensor, bank: Tensor, source: Tensor, target: Tensor, switch: Tensor, rows: Rows, first: int = 0
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(x after the last row, what was noted in each call (S, B, C, H, W)); `first`: the row to begin with."""
    noted = []
    tables = {n: torch.from_numpy(np.ascontiguousarray(t)) for n, t in rows.items()}
    for i in range(first, len(rows["level"])):
        x, seen = step(x, bank, source, target, switch, *(t[i] for t in tables.values()))
        noted.append(seen)
    return x, torch.stack(noted) if noted else x[None]


def inverted(step: Step, images: Tensor, source: Tensor, steps: int, guidance: float) -> Inverted:
    """The way up by DDIM without guidance, and the offsets of the guided way down."""
    always = torch.zeros(len(images), 1, dtype=torch.int64)
    nothing = torch.zeros(steps, *images.shape)
    latent, pivots = walk(step, images, nothing, source, source, always, plans.up(steps))
    return again(step, torch.cat([pivots, latent[None]]), source, guidance)


def again(step: Step, pivots: Tensor, source: Tensor, guidance: float) -> Inverted:
    """The same way up with the offsets of another guidance."""
    steps = len(pivots) - 1
    always = torch.zeros(pivots.shape[1], 1, dtype=torch.int64)
    _, offsets = walk(step, pivots[-1], pivots[:-1], source, source, always, plans.following(steps, guidance))
    return Inverted(pivots, source, offsets)


def edited(step: Step, known: Inverted, target: Tensor, switch: int | Tensor, guidance: float, keep: float) -> Tensor:
    """The edit: the source's text before call `switch`, the target's from there on. A number for all begins at the pivot there."""
    steps = len(known.offsets)
    rows = plans.down(steps, guidance, keep)
    if isinstance(switch, Tensor):
        return walk(step, known.latent, known.offsets, known.source, target, switch, rows)[0]
    every = torch.full((len(target), 1), switch, dtype=torch.int64)
    return walk(step, known.pivots[steps - switch], known.offsets, known.source, target, every, rows, switch)[0]


def anew(step: Step, known: Inverted, target: Tensor, guidance: float) -> Tensor:
    """The target's text from noise that is no picture's: what an edit would be that kept nothing of its source."""
    noise = torch.from_numpy(np.random.default_rng(TEXT_SEED).standard_normal(known.latent.shape, np.float32))
    every = torch.zeros(len(target), 1, dtype=torch.int64)
    return walk(step, noise, torch.zeros_like(known.offsets), known.source, target, every, plans.down(len(known.offsets), guidance))[0]


def restored(step: Step, known: Inverted, guidance: float, offsets: bool) -> Tensor:
    """The source's text throughout, with its offsets or, plainly, without."""
    bank = known.offsets if offsets else torch.zeros_like(known.offsets)
    every = torch.zeros(len(known.source), 1, dtype=torch.int64)
    return walk(step, known.latent, bank, known.source, known.source, every, plans.restored(len(bank), guidance))[0]


def null_texts(step: Step, known: Inverted, guidance: float, updates: int, rate: float) -> Tensor:
    """Of each call the empty text (S, B, E) with which one guided step from where the calls before led lands on the next pivot; Adam at a rate
    that falls to 0 with the level, from the empty text of the call before."""
    steps = len(known.offsets)
    empty = step.net.embedded(step.none).detach().expand_as(known.source).clone()
    x, found = known.latent, []
    for i in range(steps):
        turn = _Turn(step.net, steps, i, guidance)
        with torch.no_grad():
            asked = turn.asked(x, known.source)
        empty = _landing(turn, x, asked, known.pivots[steps - 1 - i], empty, updates, rate * (1 - i / steps))
        found.append(empty)
        with torch.no_grad():
            x = turn(x, asked, empty)
    return torch.stack(found)


def _landing(turn: _Turn, x: Tensor, asked: Tensor, aim: Tensor, begin: Tensor, updates: int, rate: float) -> Tensor:
    """The empty text with which the step lands on `aim`, or near it."""
    text = begin.clone().requires_grad_(True)
    adam = torch.optim.Adam([text], rate)
    for _ in range(updates):
        missed = (turn(x, asked, text) - aim).square().flatten(1).mean(1)
        if float(missed.detach().max()) < ENOUGH:
            break
        adam.zero_grad()
        (text.grad,) = torch.autograd.grad(missed.sum(), [text])
        adam.step()
    return text.detach()


@torch.no_grad()
def edited_by_null_texts(step: Step, known: Inverted, empty: Tensor, target: Tensor, switch: int, guidance: float) -> Tensor:
    """The edit with an empty text of its own in every call, and no offsets. The number of steps as the switch gives the source again."""
    x, steps = known.latent, len(known.offsets)
    for i in range(steps):
        turn = _Turn(step.net, steps, i, guidance)
        x = turn(x, turn.asked(x, target if i >= switch else known.source), empty[i])
    return x


class _Turn:
    """One step of the way down with an empty text of one's own, which the deployed graph does not take."""

    def __init__(self, net: UNet, steps: int, i: int, guidance: float) -> None:
        rows = plans.down(steps, guidance)
        self.net, self.guidance, self.level = net, guidance, float(rows["level"][i, 0])
        self.cos, self.sin = rows["coefficients"][i, :2].tolist()

    def asked(self, x: Tensor, text: Tensor) -> Tensor:
        """What the network answers to a text."""
        found: Tensor = self.net(x, torch.full((len(x), 1), self.level), text)
        return found

    def __call__(self, x: Tensor, asked: Tensor, empty: Tensor) -> Tensor:
        free = self.asked(x, empty)
        return self.cos * x + self.sin * (free + self.guidance * (asked - free))


def blended(target: Tensor, source: Tensor, share: float) -> Tensor:
    """The text that is given from the switch on: `share` of the target's, the rest of the optimised one."""
    return share * target + (1 - share) * source
