"""Tables of a film: for every network call and every frame its level, what is done between two calls, and whether the frame is known.

DDIM for each frame (Song et al., ICLR 2021, eq. 12 with eta 0): unknown frames fall evenly from level 1000 to 0, known ones stay at level 0
(or at the level of doubt, where a network is to trust them less) and are held exactly. One graph draws every task; only these rows differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.models._diffusion.schedule import LEVELS, noise, signal
from edgekit.models._fvdm.clips import FRAMES

COLUMNS = ("a", "b", "x0", "eps", "hold")  # of the network's level; what the next frame is made of; 1 where it is known
DOUBT_MOST = 200.0  # level of a known frame: training knows none above it
FIRST, PAIR, ENDS = (0,), (0, 1), (0, FRAMES - 1)  # known frames of image-to-video, continuation, interpolation


@dataclass(frozen=True)
class FilmPlan:
    """How a film is drawn."""

    steps: int
    known: tuple[int, ...] = ()  # frames that are given
    told: bool = False  # whether the condition counts; known frames say what is to be shown
    one_level: bool = False  # tell the network one level for all frames, as one that knows no other is to be told
    guidance: float = 1.0  # by the condition and the known frames, 1: none
    doubt: float = 0.0  # level of the known frames, as far as the others are above it

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a film takes at least 1 step, found {self.steps}")
        if not set(self.known) <= set(range(FRAMES)) or len(set(self.known)) != len(self.known):
            raise ValueError(f"known frames are different ones of 0 to {FRAMES - 1}, found {list(self.known)}")
        if self.guided and FRAMES - 1 in self.known:
            raise ValueError("a guided film ends with a frame that is not known: its level is what the blind half is told")

    @property
    def guided(self) -> bool:
        """Whether it is drawn by the graph `guided`, which calls the network on twice the batch, and not by `main`."""
        return self.guidance != 1 or self.doubt > 0


@dataclass(frozen=True)
class Loop:
    """How films are drawn: network calls, and the guidance of films from nothing (1: none); of long ones the shared frames, their parts' guidance
    and the doubt in what they know."""

    steps: int
    overlap: int
    guidance: float = 1.0
    history: float = 1.0
    doubt: float = 0.0

    @property
    def opening(self) -> FilmPlan:
        """A film from nothing."""
        return FilmPlan(self.steps, told=True, guidance=self.guidance)

    @property
    def part(self) -> FilmPlan:
        """A part of a long film, which is told what was asked for: without it shapes change on the way."""
        return FilmPlan(self.steps, tuple(range(self.overlap)), told=True, guidance=self.history, doubt=self.doubt)


def rows(plan: FilmPlan) -> dict[str, np.ndarray]:
    """A row a network call: level float32 (S, frames), coefficients float32 (S, len(COLUMNS), frames), given int64 (S, 1); of a guided plan,
    whose condition always counts, guidance float32 (S, 1) instead of the last."""
    grid = np.linspace(LEVELS, 0, plan.steps + 1)
    hold = np.isin(np.arange(FRAMES), plan.known)
    here, there = (np.where(hold, np.minimum(g, plan.doubt)[:, None], g[:, None]) for g in (grid[:-1], grid[1:]))
    told = np.repeat(grid[:-1, None], FRAMES, 1) if plan.one_level else here
    held = np.broadcast_to(hold, here.shape)
    coefficients = np.stack([signal(here), noise(here), signal(there), noise(there), held.astype(np.float64)], 1)
    found = {"level": told.astype(np.float32), "coefficients": coefficients.astype(np.float32)}
    if plan.guided:
        return {**found, "guidance": np.full((plan.steps, 1), plan.guidance, np.float32)}
    return {**found, "given": np.full((plan.steps, 1), int(plan.told), np.int64)}
