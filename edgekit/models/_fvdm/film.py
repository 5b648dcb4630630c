"""Films in torch, with the noise that the deployed programs draw: the reference of every engine, and the graphs that they run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import noised
from edgekit.models._fvdm.clips import FRAMES
from edgekit.models._fvdm.plans import FilmPlan, Loop, rows
from edgekit.noise import draw

FILM_NOISE, STREAM_NOISE, HISTORY_NOISE = 0, 1, 2  # ids of the programs' noise sources
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
        rows_of = coefficients[:, :, None, None, None]
        x = torch.where(rows_of[4] > 0, known, x)
        asked = condition * given + self.net.heads[0] * (1 - given)
        v = self.net(x.flatten(1, 2), level.expand(x.shape[0], FRAMES), asked).reshape(x.shape)
        return (_landed(x, v, known, rows_of),)


class GuidedStep(nn.Module):
    """The graph `guided`: as `main`, with guidance by all that is given: the condition (classifier-free guidance; Ho, Salimans, 2022) and the
    known frames (history guidance; Song et al., ICML 2025).

    v = v_blind + guidance (v_told - v_blind), both from one call of twice the batch. v_blind knows neither: its condition is 'not given', and it sees
    the known frames as noisy as the others, which a network with a level per frame has learned. v_told sees them at their row's own level, 0 or that
    of doubt. `noise` is normal, like x, and stays the same for a film."""

    inputs = ("x", "known", "noise", "condition", "guidance", "level", "coefficients")

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(  # noqa: PLR0913, PLR0917 - the inputs of the graph
        self, x: Tensor, known: Tensor, noise: Tensor, condition: Tensor, guidance: Tensor, level: Tensor, coefficients: Tensor
    ) -> tuple[Tensor]:
        """Tensors as `inputs` says; the last frame is never a known one."""
        rows_of = coefficients[:, :, None, None, None]
        held = rows_of[4] > 0
        seen, blind = (torch.where(held, rows_of[0, at] * known + rows_of[1, at] * noise, x) for at in (slice(None), -1))
        levels = torch.stack([level, level[-1:].expand(FRAMES)])[:, None].expand(2, x.shape[0], FRAMES).flatten(0, 1)
        asked = torch.cat([condition, condition * 0 + self.net.heads[0]])
        told, untold = self.net(torch.cat([seen, blind]).flatten(1, 2), levels, asked).reshape(2, -1, *x.shape[1:]).unbind(0)
        return (_landed(torch.where(held, known, x), untold + guidance * (told - untold), known, rows_of),)


def _landed(x: Tensor, v: Tensor, known: Tensor, rows_of: Tensor) -> Tensor:
    """Every frame after its own DDIM step, known ones as they are; rows_of: coefficients, each a factor of frames."""
    a, b, by_guess, by_eps, hold = rows_of.unbind(0)
    held = hold > 0
    guess = (a * x - b * v).clamp(-CLAMP, CLAMP)
    eps = (x - a * guess) / torch.where(held, 1.0, b)
    return torch.where(held, known, by_guess * guess + by_eps * eps)


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
    given = {"x": torch.from_numpy(draw("normal", shape, seed, source[0], 0, source[1])), "condition": condition}
    given["known"] = torch.zeros(shape) if known is None else known
    if plan.guided:
        given["noise"] = torch.from_numpy(draw("normal", shape, seed, HISTORY_NOISE, 0, source[1])) if plan.known else torch.zeros(shape)
    step = GuidedStep(net.eval()) if plan.guided else FilmStep(net.eval())
    tables = rows(plan)
    made = []
    for piece in _pieces(len(condition)):
        of = {name: value[piece] for name, value in given.items()}
        for i in range(plan.steps):
            row = {n: torch.from_numpy(t[i]) for n, t in tables.items()}
            (of["x"],) = step(*({**of, **row}[name] for name in step.inputs))
        made.append(of["x"])
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
def long_films(net: UNet, loop: Loop, condition: Tensor, ticks: int, seed: int) -> tuple[Tensor, Tensor]:
    """(films that begin from nothing, the frames that follow: (B, ticks * (frames - overlap), C, H, W)), as the task long-video."""
    turn = Turn(loop.overlap)
    opening = draw_films(net, loop.opening, None, condition, seed)
    known, _ = turn(opening)
    made = []
    for chunk in range(ticks):
        known, new = turn(draw_films(net, loop.part, known, condition, seed, (STREAM_NOISE, chunk)))
        made.append(new)
    return opening, torch.cat(made, 1)
