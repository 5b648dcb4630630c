"""Samplers as tables: one row a network call, holding every number that the arithmetic between two calls needs.

Kinds: "ddim" (Song et al., ICLR 2021, eq. 12 with eta 0), "ancestral" (the same with eta 1), "renoise" (multistep consistency
sampling; Song et al., ICML 2023, algorithm 1), "s-pndm" and "f-pndm" (Liu et al., "Pseudo numerical methods for diffusion
models on manifolds", ICLR 2022), "shortcut" (DDIM whose network is told the length of the step; Frans et al., ICLR 2025).
Shifts of time are those of Li et al., "Alleviating exposure bias in diffusion models through sampling with shifted time
steps", ICLR 2024: "paper" gives the network another level than the plan's, "landing" lands on another level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgekit.models._diffusion.schedule import LEVELS, noise, signal

Kind = Literal["ddim", "ancestral", "renoise", "s-pndm", "f-pndm", "shortcut"]
Shift = Literal["", "paper", "landing"]
KINDS: tuple[Kind, ...] = ("ddim", "ancestral", "renoise", "s-pndm", "f-pndm", "shortcut")
SHIFTED_KINDS: tuple[Kind, ...] = ("ddim", "s-pndm", "f-pndm")
# Multistep kinds divide by a, so that they begin below level 1000, after one step of DDIM. To begin there with noise alone, as the
# paper does where a is 0.006, leaves the picture's mean out: 0.12 a pixel away from 200 steps of DDIM on avatars, at any number of steps.
MULTISTEP_FIRST = 975.0
WARM_UP = {"s-pndm": 1, "f-pndm": 3}  # steps of several calls, until there is a history
REMEMBERED = {"s-pndm": 1, "f-pndm": 4}  # arrays: the history, and for f-pndm the sum inside a Runge-Kutta step
# What every call takes, in this order. a, b: of the network's level; x0, eps, z: what the next x is made of.
COLUMNS = ("a", "b", "x0", "eps", "z")
# base_a, base_b: of the step's start. begins, ends: whether the call is its step's first, its last. direct: no history, no division by a.
MULTISTEP_COLUMNS = (*COLUMNS, "base_a", "base_b", "begins", "ends", "direct")


@dataclass(frozen=True)
class Sampling:
    """Which sampler. `steps` are steps of the plan; `calls` says how many network calls they take."""

    steps: int
    kind: Kind = "ddim"
    guidance: float = 1.0  # 1: the condition as it is, in one call of the network's batch; else of twice the batch
    first_level: float = 0.0  # of the noise that it starts from; 0: 1000. Where s-pndm and f-pndm are given one, they begin there at once
    clamp: float = 1.0  # of the clean picture that is guessed in each call; 0: none
    shift: Shift = ""
    window: int = 0  # levels, half of them to either side of the plan's
    cutoff: float = 0.0  # no shift from this level on down

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}; found '{self.kind}'")
        fewest = WARM_UP.get(self.kind, 0) + 1  # the last step must be one of the history: a warm-up looks at its end
        if self.steps < fewest:
            raise ValueError(f"{self.kind} needs at least {fewest} steps; found {self.steps}")
        most = LEVELS - 1 if self.multistep else LEVELS
        if self.first_level and not 1 <= self.first_level <= most:
            raise ValueError(f"first_level of {self.kind} is 0 or from 1 to {most}; found {self.first_level}")
        if self.guidance < 0 or self.clamp < 0:
            raise ValueError(f"guidance and clamp are not negative; found {self.guidance} and {self.clamp}")
        if self.shift not in ("", "paper", "landing"):
            raise ValueError(f"shift is paper, landing or empty; found '{self.shift}'")
        if self.shift and self.kind not in SHIFTED_KINDS:
            raise ValueError(f"time is shifted in {', '.join(SHIFTED_KINDS)}; found '{self.kind}'")
        if not 0 <= self.window < LEVELS or not 0 <= self.cutoff <= LEVELS:
            raise ValueError(f"window and cutoff are levels from 0 to {LEVELS}; found {self.window} and {self.cutoff}")
        if self.window and not self.shift:
            raise ValueError(f"a window needs a shift; found a window of {self.window} and none")

    @property
    def multistep(self) -> bool:
        """True for a kind that remembers earlier calls."""
        return self.kind in WARM_UP

    @property
    def draws(self) -> bool:
        """True for a kind that takes new noise in each step."""
        return self.kind in ("ancestral", "renoise")

    @property
    def calls(self) -> int:
        """Network calls of one picture, each of twice the batch under guidance."""
        return self.steps + sum(n - 1 for n in self._calls_of_steps()) + self.direct

    @property
    def direct(self) -> bool:
        """True where one more step, of DDIM, leads from level 1000 to where the multistep kind begins."""
        return self.multistep and not self.first_level

    @property
    def start(self) -> float:
        """The level from which the steps fall evenly to 0."""
        return self.first_level or (MULTISTEP_FIRST if self.multistep else float(LEVELS))

    def _calls_of_steps(self) -> Iterator[int]:
        for i in range(self.steps):
            yield {"s-pndm": 2, "f-pndm": 4}[self.kind] if i < WARM_UP.get(self.kind, 0) else 1


@dataclass(frozen=True)
class Call:
    """One network call: at `level`, in the step from `start` to `end`, landing on `to` (between the two inside a warm-up)."""

    level: float
    start: float
    end: float
    to: float
    weights: tuple[float, ...] = ()  # of (the new eps, what is remembered): the eps that the landing uses
    rule: tuple[tuple[float, ...], ...] = ()  # what is remembered next, each of (the new eps, what is remembered)
    begins: bool = True
    ends: bool = True
    first: bool = False  # of the whole plan's steps
    direct: bool = False  # DDIM's step by v, whatever is remembered


def columns(sampling: Sampling) -> tuple[str, ...]:
    """What the entries of a row of `coefficients` are."""
    return MULTISTEP_COLUMNS if sampling.multistep else COLUMNS


def rows(sampling: Sampling) -> dict[str, np.ndarray]:
    """The tables, float32 with a row for each of `calls` calls, in the order in which Step takes their rows.

    level (S, 1); coefficients (S, len(columns)); jump (S, 1) for shortcut; weights (S, M + 1) and rule (S, M, M + 1) for
    multistep kinds; for a shift the candidates window_level, window_a, window_b (S, W), W = 2 * (window // 2) + 1: of this
    call's network level (paper) or landing (landing). paper has next_b too, of the next call's candidates, and paper
    with a multistep kind base_a, base_b (S, W). Where nothing is shifted, all candidates are the plan's level.
    """
    calls = list(calls_of(sampling))
    table: dict[str, list[object]] = {"level": [[c.level] for c in calls]}
    table["coefficients"] = [_coefficients(sampling, c) for c in calls]
    if sampling.kind == "shortcut":
        table["jump"] = [[c.start - c.end] for c in calls]
    if sampling.multistep:
        table["weights"] = [c.weights for c in calls]
        table["rule"] = [c.rule for c in calls]
    found = {name: np.array(values, np.float64).astype(np.float32) for name, values in table.items()}
    windows = _windows(sampling, calls) if sampling.shift else {}
    return {**found, **{name: np.stack(values).astype(np.float32) for name, values in windows.items()}}


def calls_of(sampling: Sampling) -> Iterator[Call]:
    """Every network call in order. Levels fall evenly from the start to 0."""
    if sampling.direct:
        memory = REMEMBERED[sampling.kind]
        nothing = (0.0,) * (memory + 1)
        only = (1.0, *nothing[1:])
        yield Call(LEVELS, LEVELS, sampling.start, sampling.start, only, (nothing,) * memory, first=True, direct=True)
    grid = np.linspace(sampling.start, 0, sampling.steps + 1)
    for i, (start, end) in enumerate(zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True)):
        if sampling.kind == "s-pndm":
            yield from _second_order(i, start, end)
        elif sampling.kind == "f-pndm":
            yield from _fourth_order(i, start, end)
        else:
            yield Call(start, start, end, end, first=i == 0)


def _second_order(i: int, start: float, end: float) -> Iterator[Call]:
    """Heun's step at first, then (3 e_i - e_(i-1)) / 2 (S-PNDM of Liu et al.)."""
    if i:
        yield Call(start, start, end, end, (1.5, -0.5), ((1, 0),))
        return
    yield Call(start, start, end, end, (1, 0), ((1, 0),), ends=False, first=True)
    yield Call(end, start, end, end, (0.5, 0.5), ((0, 1),), begins=False, first=True)


def _fourth_order(i: int, start: float, end: float) -> Iterator[Call]:
    """Three Runge-Kutta steps of four calls, then (55 e_i - 59 e_(i-1) + 37 e_(i-2) - 9 e_(i-3)) / 24: F-PNDM of
    Liu et al. Remembered are the first eps of the last three steps, and e1 + 2 e2 + 2 e3 inside a Runge-Kutta step."""
    older = ((1.0, 0, 0, 0, 0), (0, 1.0, 0, 0, 0), (0, 0, 1.0, 0, 0))
    kept = ((0, 1.0, 0, 0, 0), (0, 0, 1.0, 0, 0), (0, 0, 0, 1.0, 0))
    if i >= WARM_UP["f-pndm"]:
        yield Call(start, start, end, end, (55 / 24, -59 / 24, 37 / 24, -9 / 24, 0), (*older, (0, 0, 0, 0, 0)))
        return
    middle, new, first = (start + end) / 2, (1.0, 0, 0, 0, 0), i == 0
    yield Call(start, start, end, middle, new, (*older, new), ends=False, first=first)
    yield Call(middle, start, end, middle, new, (*kept, (2, 0, 0, 0, 1)), begins=False, ends=False, first=first)
    yield Call(middle, start, end, end, new, (*kept, (2, 0, 0, 0, 1)), begins=False, ends=False, first=first)
    yield Call(end, start, end, end, (1 / 6, 0, 0, 0, 1 / 6), (*kept, (0, 0, 0, 0, 0)), begins=False, first=first)


def _coefficients(sampling: Sampling, call: Call) -> list[float]:
    a, b, a_to, b_to = _a(call.level), _b(call.level), _a(call.to), _b(call.to)
    toward, drawn = b_to, 0.0
    if sampling.kind == "renoise":
        toward, drawn = 0.0, b_to
    elif sampling.kind == "ancestral":  # eta = 1: the variance of the forward process given both ends
        drawn = b_to / b * float(np.sqrt(1 - (a / a_to) ** 2))
        toward = float(np.sqrt(max(b_to**2 - drawn**2, 0.0)))
    row = [a, b, a_to, toward, drawn]
    if not sampling.multistep:
        return row
    return [*row, _a(call.start), _b(call.start), float(call.begins), float(call.ends), float(call.direct)]


def _windows(sampling: Sampling, calls: list[Call]) -> dict[str, list[np.ndarray]]:
    """Candidates of every call. A shift is decided where a step ends, and not within a warm-up."""

    def around(level: float, shifted: bool) -> np.ndarray:
        half = sampling.window // 2
        near = level + np.arange(-half, half + 1)
        # A network is told levels above 0 and below 1000: at the ends fewer candidates are left.
        return np.where(shifted & (near >= 1) & (near <= LEVELS - 1), near, level)

    if sampling.shift == "landing":
        lands = [around(c.to, c.ends and not c.first and c.to > sampling.cutoff) for c in calls]
        return {"window_level": lands, "window_a": [_a(w) for w in lands], "window_b": [_b(w) for w in lands]}
    starts = [around(c.start, not c.first and c.start > sampling.cutoff) for c in calls]
    told = [w if c.begins else np.full_like(w, c.level) for c, w in zip(calls, starts, strict=True)]
    ends = [around(c.end, c.end > sampling.cutoff) for c in calls]
    found: dict[str, list[np.ndarray]] = {"window_level": told, "window_a": [_a(w) for w in told], "window_b": [_b(w) for w in told]}
    found["next_b"] = [_b(w) for w in ends]
    if sampling.multistep:
        found |= {"base_a": [_a(w) for w in starts], "base_b": [_b(w) for w in starts]}
    return found


def _a(level: float | np.ndarray) -> Any:
    return signal(np.asarray(level, np.float64))


def _b(level: float | np.ndarray) -> Any:
    return noise(np.asarray(level, np.float64))
