"""Films in torch, with the noise that the deployed programs draw: the reference of every engine, and the graphs that they run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import noised
from edgekit.models._fvdm.clips import FRAMES
from edgekit.models._fvdm.plans import FilmPlan, rows
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


class OnStep(nn.Module):
    """The graph `on`, of long films: as `main`, with guidance by the known frames (history guidance; Song et al., ICML 2025).

    v = v_free + history (v_known - v_free), both from one call of twice the batch. v_free does not know the known frames: it sees them as noisy
    as the others and is told so, which a network with a level per frame has learned. Without it parts fade: each is a little paler than what
    it knows. `noise` is normal, like x, and stays the same for a part."""

    inputs = ("x", "known", "noise", "condition", "given", "level", "coefficients")

    def __init__(self, net: UNet, history: float) -> None:
        super().__init__()
        self.net, self.history = net, history

    def forward(  # noqa: PLR0913, PLR0917 - the inputs of the graph
        self, x: Tensor, known: Tensor, noise: Tensor, condition: Tensor, given: Tensor, level: Tensor, coefficients: Tensor
    ) -> tuple[Tensor]:
        """Tensors as `inputs` says; the last frame is never a known one."""
        rows_of = coefficients[:, :, None, None, None]
        held = rows_of[4] > 0
        x = torch.where(held, known, x)
        free = torch.where(held, rows_of[0, -1] * known + rows_of[1, -1] * noise, x)
        asked = condition * given + self.net.heads[0] * (1 - given)
        told = torch.stack([level, level[-1:].expand(FRAMES)])[:, None].expand(2, x.shape[0], FRAMES).flatten(0, 1)
        both = self.net(torch.cat([x, free]).flatten(1, 2), told, torch.cat([asked, asked]))
        wanted, unguided = both.reshape(2, -1, *x.shape[1:]).unbind(0)
        return (_landed(x, unguided + self.history * (wanted - unguided), known, rows_of),)


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
def long_films(  # noqa: PLR0913, PLR0917 - what decides a long film
    net: UNet, steps: int, overlap: int, condition: Tensor, ticks: int, seed: int, history: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(films that begin from nothing, the frames that follow: (B, ticks * (frames - overlap), C, H, W)), as the task long-video.

    history: guidance by the known frames; 1 is none."""
    turn = Turn(overlap)
    opening = draw_films(net, FilmPlan(steps, told=True), None, condition, seed)
    known, _ = turn(opening)
    made = []
    for chunk in range(ticks):
        film = _part(net, FilmPlan(steps, tuple(range(overlap))), known, condition, seed, chunk, history)
        known, new = turn(film)
        made.append(new)
    return opening, torch.cat(made, 1)


def _part(net: UNet, plan: FilmPlan, known: Tensor, condition: Tensor, seed: int, chunk: int, history: float) -> Tensor:  # noqa: PLR0913, PLR0917
    if history == 1:
        return draw_films(net, plan, known, condition, seed, (STREAM_NOISE, chunk))
    x, noise = (torch.from_numpy(draw("normal", tuple(known.shape), seed, source, 0, chunk)) for source in (STREAM_NOISE, HISTORY_NOISE))
    step, tables = OnStep(net.eval(), history), rows(plan)
    made = []
    for piece in _pieces(len(x)):
        film = x[piece]
        for i in range(plan.steps):
            row = {n: torch.from_numpy(t[i]) for n, t in tables.items()}
            (film,) = step(film, known[piece], noise[piece], condition[piece], row["given"], row["level"], row["coefficients"])
        made.append(film)
    return torch.cat(made)
