"""Films in torch, with the noise that the deployed programs draw: the reference of every engine, and the graphs that they run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import noised
from edgekit.models._fvdm.clips import FRAMES
from edgekit.models._fvdm.plans import FilmPlan, rows
from edgekit.noise import draw

FILM_NOISE, STREAM_NOISE = 0, 1  # ids of the programs' noise sources
CLAMP = 1.0  # of the clean frame that is guessed in each call
AT_ONCE = 50  # films: what fits a cache is faster than what does not


class FilmStep(nn.Module):
    """The graph `main`: one network call with everything between it and the next one, each frame at its own level.

    x, known float32 (B, frames, C, H, W), condition int64 (B, 1), and a row of each table of plans.rows -> the next x."""

    inputs = ("x", "known", "condition", "given", "level", "coefficients")

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, known: Tensor, condition: Tensor, given: Tensor, level: Tensor, coefficients: Tensor) -> tuple[Tensor]:
        """Tensors as `inputs` says; `given` 0 makes the condition 'not given'."""
        a, b, by_guess, by_eps, hold = coefficients[:, :, None, None, None].unbind(0)
        held = hold > 0
        x = torch.where(held, known, x)
        asked = condition * given + self.net.heads[0] * (1 - given)
        v = self.net(x.flatten(1, 2), level.expand(x.shape[0], FRAMES), asked).reshape(x.shape)
        guess = (a * x - b * v).clamp(-CLAMP, CLAMP)
        eps = (x - a * guess) / torch.where(held, 1.0, b)
        return (torch.where(held, known, by_guess * guess + by_eps * eps),)


class Spread(nn.Module):
    """The graph `spread`: a picture (B, C, H, W) as every frame of a film, of which the plan takes the known one."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """-> (B, frames, C, H, W)."""
        return (torch.stack([image] * FRAMES, 1),)


class Pair(nn.Module):
    """The graph `pair`: two frames (B, 2, C, H, W) as the first frame of a film and all others, of which the plan takes the known ones."""

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """-> (B, frames, C, H, W)."""
        return (torch.cat([frames[:, :1], *[frames[:, 1:]] * (FRAMES - 1)], 1),)


class Turn(nn.Module):
    """The graph `turn`: of a film its frames that are new, and what the film after it knows: the last frames as its first."""

    def __init__(self, overlap: int) -> None:
        super().__init__()
        self.overlap = overlap

    def forward(self, film: Tensor) -> tuple[Tensor, Tensor]:
        """(B, frames, C, H, W) -> (the same, of which the first `overlap` are to be held; the frames after those that were held)."""
        last = film[:, FRAMES - self.overlap :]
        return torch.cat([last, film[:, : FRAMES - self.overlap]], 1), film[:, self.overlap :]


@torch.no_grad()
def draw_films(net: UNet, plan: FilmPlan, known: Tensor | None, condition: Tensor, seed: int, source: tuple[int, int] = (FILM_NOISE, 0)) -> Tensor:
    """Films float32 (B, frames, C, H, W) about -1 to 1 for condition int64 (B, 1).

    known: of that shape, of which the plan's frames are held; None where it has none. source: id and chunk of the noise, which depends
    on the seed and the place in the batch. No gradient."""
    shape = (len(condition), FRAMES, net.channels // FRAMES, net.size, net.size)
    x = torch.from_numpy(draw("normal", shape, seed, source[0], 0, source[1]))
    known = torch.zeros(shape) if known is None else known
    step = FilmStep(net.eval())
    tables = [{n: torch.from_numpy(t[i]) for n, t in rows(plan).items()} for i in range(plan.steps)]
    made = []
    for piece in _pieces(len(x)):
        film = x[piece]
        for row in tables:
            (film,) = step(film, known[piece], condition[piece], row["given"], row["level"], row["coefficients"])
        made.append(film)
    return torch.cat(made)


@torch.no_grad()
def replaced_films(net: UNet, steps: int, frames: tuple[int, ...], known: Tensor, condition: Tensor, seed: int) -> Tensor:
    """Films of a network of one level, whose known frames are set to their noised selves before each call (replacement; Song et al., ICLR
    2021; Ho et al., "Video diffusion models", 2022) and to themselves at the end. As draw_films otherwise."""
    plan, where = FilmPlan(steps), list(frames)
    eps = torch.from_numpy(draw("normal", tuple(known.shape), seed, FILM_NOISE))
    step = FilmStep(net.eval())
    made = []
    for piece in _pieces(len(eps)):
        held, x = known[piece], eps[piece]
        for i in range(steps):
            row = {n: torch.from_numpy(t[i]) for n, t in rows(plan).items()}
            x = x.clone()
            x[:, where] = noised(held, eps[piece], row["level"].expand(len(held), -1))[:, where]
            (x,) = step(x, held, condition[piece], row["given"], row["level"], row["coefficients"])
        x[:, where] = held[:, where]
        made.append(x)
    return torch.cat(made)


def _pieces(count: int) -> list[slice]:
    return [slice(at, at + AT_ONCE) for at in range(0, count, AT_ONCE)]


@torch.no_grad()
def long_films(net: UNet, steps: int, overlap: int, condition: Tensor, ticks: int, seed: int) -> tuple[Tensor, Tensor]:
    """(films that begin from nothing, the frames that follow: (B, ticks * (frames - overlap), C, H, W)), as the task long-video."""
    turn, on = Turn(overlap), FilmPlan(steps, tuple(range(overlap)))
    opening = draw_films(net, FilmPlan(steps, told=True), None, condition, seed)
    known, _ = turn(opening)
    made = []
    for chunk in range(ticks):
        film = draw_films(net, on, known, condition, seed, (STREAM_NOISE, chunk))
        known, new = turn(film)
        made.append(new)
    return opening, torch.cat(made, 1)
