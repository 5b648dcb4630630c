"""The environment of an integrator's time-step policy: many systems at once, one decision a control interval each.

State, raw and float64 (n, 13): x, y of the three bodies, vx, vy of the three (N-body units), and the relative energy error
(0 at reset, then (E - E0) / E0 + 1e-20). What a network makes of it (x / 10, -log10|dE|) is inside its graph.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.errors import Missing
from edgekit.models import _time_stepping_numpy as reference
from edgekit.models._time_stepping_bodies import UNIT_TIME_YR, Systems, energy, published_systems, relative_error

STATE = 13
REFERENCE_ERROR = 1e-10  # of the published reward
TOO_FEW = 1e-14  # added to an error increment before its logarithm

Integrator = Literal["hermite", "leapfrog", "adaptive_leapfrog"]


@dataclass(frozen=True)
class Reward:
    """What a step is worth. Weights and forms, dE the cumulative relative error after step i, inc = |dE_i - dE_(i-1)|:

    published: -w_error log10(|dE|/1e-10) / |log10|dE||^3 / i + w_cost / |log10 parameter|, 0 on the first step
    plain:     -w_error log10|dE| + w_cost / |log10 parameter|
    increment: -w_error log10(inc + 1e-14) - w_cost log10(evaluations)
    balance:   -log10(evaluations + w_error * inc / (1 + |dE_(i-1)| / relief))
    """

    form: Literal["published", "plain", "increment", "balance"] = "balance"
    w_error: float = 3e7
    w_cost: float = 4.0
    relief: float = 0.0  # of balance: an error much larger than this, made before, forgives the next; 0 = never

    def __post_init__(self) -> None:
        if not (0 <= self.w_error < math.inf and 0 <= self.w_cost < math.inf and 0 <= self.relief < math.inf):
            raise ValueError(f"weights of a reward and its relief are 0 or more, found {self.w_error}, {self.w_cost}, {self.relief}")

    def of(self, now: np.ndarray, before: np.ndarray, evaluations: np.ndarray, parameter: np.ndarray, step: np.ndarray) -> np.ndarray:
        """float64 (n,): dE now and before, evaluations of the step, its parameter, and i (1 for the first)."""
        increment = np.abs(now - before)
        if self.form == "balance":
            forgiven = 1 + np.abs(before) / self.relief if self.relief else 1.0
            return np.asarray(-np.log10(evaluations + self.w_error * increment / forgiven))
        if self.form == "increment":
            return np.asarray(-self.w_error * np.log10(increment + TOO_FEW) - self.w_cost * np.log10(evaluations))
        digits = np.log10(np.abs(now))
        cheap = self.w_cost / np.abs(np.log10(parameter))
        if self.form == "plain":
            return np.asarray(-self.w_error * digits + cheap)
        error = (digits - math.log10(REFERENCE_ERROR)) / np.maximum(np.abs(digits), 1e-3) ** 3
        return np.where(step == 1, 0.0, -self.w_error * error / step + cheap)


@dataclass(frozen=True)
class Rules:
    """How systems are moved and judged. parameters: of the actions; mu for variable steps, substeps an interval for leapfrog."""

    integrator: Integrator
    interval_yr: float
    parameters: tuple[float, ...]
    reward: Reward
    error_limit: float = 0.1  # an episode ends above it (published)

    @property
    def cost_order(self) -> float:
        """Along fixed parameters the energy error goes as evaluations^-order: 5 of Hermite (measured), 2 of leapfrog."""
        return 5.0 if self.integrator == "hermite" else 2.0

    @property
    def span(self) -> float:
        """The control interval in N-body units."""
        return self.interval_yr / UNIT_TIME_YR


def mover(name: Integrator, compiled: bool = True) -> Callable[[Systems, float, np.ndarray], None]:
    """The integrator as a function of systems, span and parameter (n,); compiled by numba, or of NumPy alone."""
    if not compiled:
        found: Callable[[Systems, float, np.ndarray], None] = getattr(reference, name)
        return found
    if importlib.util.find_spec("numba") is None:
        raise Missing("the time-stepping family moves its systems with numba, which is not installed here: pip install 'edgekit[train]'")
    fast = getattr(importlib.import_module("edgekit.models._time_stepping_numba"), name)

    def move(s: Systems, span: float, parameter: np.ndarray) -> None:
        fast(s.mass, s.position, s.velocity, s.acceleration, s.jerk, s.quartic, s.evaluations, span, parameter)

    return move


@dataclass(frozen=True)
class Outcome:
    """What a step gave: reward, evaluations of the step, and whether the episode of a system ended."""

    reward: np.ndarray  # (n,) float64
    evaluations: np.ndarray  # (n,) int64
    ended: np.ndarray  # (n,) bool, |dE| above the limit


class Environment:
    """n systems side by side. A system whose error is above the limit stays as it is until it is reset."""

    def __init__(self, rules: Rules, seeds: Sequence[int] | np.ndarray, compiled: bool = True) -> None:
        self.rules = rules
        self._compiled = compiled
        parameters = np.array(rules.parameters)
        self._parameters = np.round(parameters).astype(np.int64) if rules.integrator == "leapfrog" else parameters
        self.systems = _started(seeds)
        self.first_energy = energy(self.systems)
        self.error = np.zeros(len(self.systems))
        self.steps = np.zeros(len(self.systems), np.int64)
        self.ended = np.zeros(len(self.systems), bool)

    def reset(self, rows: np.ndarray, seeds: Sequence[int] | np.ndarray) -> None:
        """Begin anew at these places, with the systems of these seeds."""
        fresh = _started(seeds)
        self.systems.replace(rows, fresh)
        self.first_energy[rows] = energy(fresh)
        self.error[rows], self.steps[rows], self.ended[rows] = 0.0, 0, False

    def copy(self) -> Environment:
        """The same systems at the same time, to try something on."""
        return copy.deepcopy(self)

    def state(self) -> np.ndarray:
        """float64 (n, 13)."""
        s = self.systems
        n = len(s)
        return np.concatenate([s.position.reshape(n, -1), s.velocity.reshape(n, -1), self.error[:, None]], 1)

    def step(self, actions: np.ndarray) -> Outcome:
        """One interval with these actions (n,), places in `parameters`."""
        alive = np.flatnonzero(~self.ended)
        moving = _part(self.systems, alive)
        parameter = self._parameters[actions]
        mover(self.rules.integrator, self._compiled)(moving, self.rules.span, parameter[alive])
        used = np.zeros(len(self.systems), np.int64)
        used[alive] = moving.evaluations - self.systems.evaluations[alive]
        self.systems.replace(alive, moving)
        before = self.error.copy()
        self.error[alive] = relative_error(energy(moving), self.first_energy[alive])
        self.steps[alive] += 1
        now = np.where(self.error == 0, TOO_FEW, self.error)
        reward = np.zeros(len(used))
        reward[alive] = self.rules.reward.of(
            now[alive], before[alive], used[alive], parameter[alive].astype(float), self.steps[alive]
        )
        self.ended = self.ended | ~(np.abs(self.error) <= self.rules.error_limit)  # also where it is not a number
        return Outcome(reward, used, self.ended.copy())


def _started(seeds: Sequence[int] | np.ndarray) -> Systems:
    systems = published_systems(seeds)
    reference.start(systems)
    return systems


def _part(s: Systems, rows: np.ndarray) -> Systems:
    names = ("position", "velocity", "acceleration", "jerk", "quartic", "evaluations")
    return Systems(s.mass, *(getattr(s, n)[rows] for n in names))
