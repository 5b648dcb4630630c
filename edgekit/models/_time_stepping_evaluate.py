"""Policies held against fixed parameters: whole episodes, medians, and the distance to the interpolated Pareto curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.models._time_stepping_environment import Environment, Rules

Decide = Callable[[np.ndarray], np.ndarray]  # raw states float64 (n, 13) -> actions int64 (n,)
KEPT = 1e-3  # a system with a smaller error counts as kept (env B's figure)
SMALLEST = 1e-16  # an energy error below the rounding of float64 is none


@dataclass(frozen=True)
class Episodes:
    """What a policy left behind on some systems: |dE| and evaluations (n,), actions (intervals, n), states."""

    error: np.ndarray  # (n,) float64, at the end
    worst: np.ndarray  # (n,) float64, the largest at the end of any interval
    evaluations: np.ndarray  # (n,) int64
    ended: np.ndarray  # (n,) bool, |dE| above the limit
    actions: np.ndarray  # (steps, n) int64; -1 after the end
    states: np.ndarray  # (steps, n, 13) float64, as decided on; empty unless asked for

    def visited(self) -> np.ndarray:
        """The states that were decided on, (k, 13)."""
        return np.asarray(self.states[self.actions >= 0])


def play(decide: Decide, rules: Rules, seeds: Sequence[int] | np.ndarray, steps: int, keep: bool = False) -> Episodes:
    """Whole episodes of the systems of these seeds, side by side."""
    environment = Environment(rules, seeds)
    actions, states = [], []
    worst = np.full(len(environment.systems), SMALLEST)
    for _ in range(steps):
        state = environment.state()
        chosen = np.asarray(decide(state), np.int64)
        actions.append(np.where(environment.ended, -1, chosen))
        if keep:
            states.append(state)
        environment.step(chosen)
        worst = np.maximum(worst, np.abs(environment.error))
    made = np.array(states) if keep else np.zeros((0, len(environment.systems), state.shape[1]))
    error = np.maximum(np.abs(environment.error), SMALLEST)
    return Episodes(error, worst, environment.systems.evaluations.copy(), environment.ended, np.array(actions), made)


def fixed(action: int) -> Decide:
    """Always the same action."""
    return lambda state: np.full(len(state), action)


def at_random(actions: int, seed: int = 0) -> Decide:
    """Any action, drawn anew at each decision."""
    rng = np.random.default_rng(seed)
    return lambda state: rng.integers(actions, size=len(state))


@dataclass(frozen=True)
class Figures:
    """Of a policy over systems."""

    median_error: float
    p90_error: float
    median_evaluations: float
    mean_evaluations: float
    ended: float  # share of the systems
    kept: float  # share with |dE| < 1e-3

    @staticmethod
    def of(e: Episodes) -> Figures:
        """The figures of episodes."""
        return Figures(
            float(np.median(e.error)), float(np.quantile(e.error, 0.9)), float(np.median(e.evaluations)),
            float(np.mean(e.evaluations)), float(e.ended.mean()), float((e.error < KEPT).mean()),
        )  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """The fixed parameters' Pareto curve: those that no other beats in both figures, joined by lines in logarithms."""

    evaluations: np.ndarray  # rising
    error: np.ndarray  # falling

    @staticmethod
    def of(points: Sequence[tuple[float, float]]) -> Curve:
        """From (evaluations, error) of each fixed parameter."""
        kept: list[tuple[float, float]] = []
        for cost, error in sorted(points):
            if not kept or error < kept[-1][1]:
                kept.append((cost, error))
        return Curve(np.array([c for c, _ in kept]), np.array([e for _, e in kept]))

    def error_factor(self, evaluations: float, error: float) -> float:
        """The error over that of the curve at the same cost; below 1 is better than any fixed parameter."""
        at = np.interp(np.log(evaluations), np.log(self.evaluations), np.log(self.error))
        return float(error / np.exp(at))

    def cost_factor(self, evaluations: float, error: float) -> float:
        """The cost over that of the curve at the same error."""
        at = np.interp(np.log(error), np.log(self.error[::-1]), np.log(self.evaluations[::-1]))
        return float(evaluations / np.exp(at))


@dataclass(frozen=True)
class Baselines:
    """Every fixed parameter and the default on some systems, and the two curves that they make."""

    rules: Rules
    seeds: tuple[int, ...]
    steps: int
    each: tuple[Figures, ...]  # by action
    default: Figures
    default_episodes: Episodes

    @staticmethod
    def of(rules: Rules, default: float, seeds: Sequence[int], steps: int) -> Baselines:
        """Play them all."""
        each = tuple(Figures.of(play(fixed(a), rules, seeds, steps)) for a in range(len(rules.parameters)))
        one = play(fixed(0), _only(rules, default), seeds, steps)
        return Baselines(rules, tuple(seeds), steps, each, Figures.of(one), one)

    def curve(self, figure: str = "median_error") -> Curve:
        """Of the median or p90 error against median evaluations; the default is one of the points."""
        return Curve.of([(f.median_evaluations, getattr(f, figure)) for f in (*self.each, self.default)])

    def place(self, f: Figures) -> dict[str, float]:
        """Where a policy lies: factors to the curves, and the ratios to the default parameter."""
        return {
            "error_factor": self.curve().error_factor(f.median_evaluations, f.median_error),
            "cost_factor": self.curve().cost_factor(f.median_evaluations, f.median_error),
            "p90_factor": self.curve("p90_error").error_factor(f.median_evaluations, f.p90_error),
            "error_to_default": f.median_error / self.default.median_error,
            "cost_to_default": f.median_evaluations / self.default.median_evaluations,
        }


def _only(rules: Rules, parameter: float) -> Rules:
    return Rules(rules.integrator, rules.interval_yr, (parameter,), rules.reward, rules.error_limit)


def merit(place: dict[str, float], cost_order: float) -> float:
    """What chooses a checkpoint on the validation systems: how far it lies below the curves of fixed parameters (mean of the
    decades in median and p90 error), less what it lacks in both figures to match the default parameter."""
    below = -(np.log10(place["error_factor"]) + np.log10(place["p90_factor"])) / 2
    lacking = max(0.0, np.log10(place["error_to_default"])) + cost_order * max(0.0, np.log10(place["cost_to_default"]))
    return float(below - lacking)


def efficiency(e: Episodes, default: Episodes, cost_order: float) -> np.ndarray:
    """For each system 1 / (1 + q), q = |dE| N^order over that of the default parameter: 1/2 as efficient, towards 1 better.

    |dE| N^order is what stays constant along the curve of fixed parameters: none gains by being dearer or cheaper. |dE| is the
    largest of the episode, which no chance cancellation at its end makes small."""
    q = (e.worst / default.worst) * (e.evaluations / default.evaluations) ** cost_order
    return np.asarray(1 / (1 + q))


def worth(rules: Rules, seeds: Sequence[int], steps: int, every: int, middle: int) -> tuple[np.ndarray, np.ndarray]:
    """(states (k, 13), rewards (k, actions)): every so many intervals of episodes under a middle parameter, the reward that
    each action would get next. Nobody's network is asked."""
    environment = Environment(rules, seeds)
    states, rewards = [], []
    for step in range(steps):
        if step % every == 0:
            alive = ~environment.ended
            states.append(environment.state()[alive])
            tried = [environment.copy().step(np.full(len(alive), a)).reward[alive] for a in range(len(rules.parameters))]
            rewards.append(np.stack(tried, 1))
        environment.step(np.full(len(environment.systems), middle))
    return np.concatenate(states), np.concatenate(rewards)


def histogram(e: Episodes, actions: int) -> list[float]:
    """The share of each action among all decisions."""
    counts = np.bincount(e.actions[e.actions >= 0], minlength=actions)
    return [round(float(c), 4) for c in counts / counts.sum()]


def as_row(label: str, f: Figures, place: dict[str, float]) -> list[Any]:
    """A row of the family's table."""
    return [
        label, f.median_error, f.p90_error, round(f.median_evaluations), round(f.mean_evaluations), f.ended,
        f.kept, round(place["error_factor"], 3), round(place["cost_factor"], 3), round(place["p90_factor"], 3),
    ]  # fmt: skip


COLUMNS = ("policy", "median |dE|", "p90 |dE|", "median evaluations", "mean evaluations", "ended", "|dE| < 1e-3",
           "error / curve", "cost / curve", "p90 / curve")  # fmt: skip
