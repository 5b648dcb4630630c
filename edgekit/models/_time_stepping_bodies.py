"""Systems of bodies under Newton's gravity: the published three-body starts, their units, energy and momentum, in float64.

N-body units: G = 1, the total mass 3 Msun is 1, 1 au is 1. One unit of time is 0.09189 yr, one of velocity 51.59 km/s. The
published systems are planar (z = 0 at the start, and so for ever), so positions are two numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUN_GM = 1.3271244e20  # m^3/s^2, IAU 2015 nominal solar mass parameter
AU_M = 149_597_870_700.0  # IAU 2012
YEAR_S = 365.25 * 86_400.0  # Julian year
TOTAL_MASS_SUNS = 3.0
UNIT_TIME_S = math.sqrt(AU_M**3 / (TOTAL_MASS_SUNS * SUN_GM))
UNIT_TIME_YR = UNIT_TIME_S / YEAR_S
UNIT_VELOCITY_KM_S = AU_M / UNIT_TIME_S / 1000.0
ENERGY_GUARD = 1e-20  # added to the relative energy error, so that its logarithm exists (published code)


@dataclass(frozen=True)
class Systems:
    """n systems of b bodies, float64 in N-body units. The arrays change as the systems move; `evaluations` counts calls of
    the force law of each system, all b (b - 1) / 2 pairs at once."""

    mass: np.ndarray  # (b,)
    position: np.ndarray  # (n, b, 2)
    velocity: np.ndarray  # (n, b, 2)
    acceleration: np.ndarray  # (n, b, 2), of the last evaluation
    jerk: np.ndarray  # (n, b, 2), its derivative
    quartic: np.ndarray  # (n,), the shortest time scale of any pair to the 4th power, of the last evaluation
    evaluations: np.ndarray  # (n,) int64

    def __len__(self) -> int:
        return len(self.position)

    def replace(self, rows: np.ndarray, other: Systems) -> None:
        """Put the systems of `other` at these places, in their order."""
        for name in ("position", "velocity", "acceleration", "jerk", "quartic", "evaluations"):
            getattr(self, name)[rows] = getattr(other, name)


def systems_of(mass: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> Systems:
    """Systems that nothing was evaluated of yet; an integrator's `start` does that."""
    position, velocity = np.array(position, np.float64), np.array(velocity, np.float64)
    return Systems(
        np.array(mass, np.float64), position, velocity, np.zeros_like(position), np.zeros_like(position),
        np.zeros(len(position)), np.zeros(len(position), np.int64),
    )  # fmt: skip


def published_start(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (3, 2) in au and velocities (3, 2) in km/s of the published system of this seed, before centring.

    r1 = 0, r2 = (U[5, 20], U[0, 10]), r3 = (U[0, -10], U[5, 20]) au; v1 = (0, 10), v2 = (-10, 0), v3 = 0 km/s. x2, y2, x3, y3
    are drawn in this order by NumPy's legacy generator (veronicasaz/ThreeBodyProblem_astronomy, environment).
    """
    drawn = np.random.RandomState(seed)  # noqa: NPY002 - the published one
    second = (drawn.uniform(5, 20), drawn.uniform(0, 10))
    third = (drawn.uniform(0, -10), drawn.uniform(5, 20))
    return np.array([(0.0, 0.0), second, third]), np.array([(0.0, 10.0), (-10.0, 0.0), (0.0, 0.0)])


def published_systems(seeds: Sequence[int] | np.ndarray) -> Systems:
    """The published systems of these seeds: three bodies of 1 Msun, in N-body units, centre of mass and momentum 0."""
    starts = [published_start(int(s)) for s in seeds]
    position = np.array([p for p, _ in starts])
    velocity = np.array([v for _, v in starts]) / UNIT_VELOCITY_KM_S
    mass = np.full(3, 1 / 3)  # all equal, so that the centre of mass is the mean
    return systems_of(mass, position - position.mean(1, keepdims=True), velocity - velocity.mean(1, keepdims=True))


def energy(systems: Systems) -> np.ndarray:
    """Kinetic and potential energy, float64 (n,): 1/2 sum m v^2 - sum over pairs m_i m_j / r_ij.

    Summed in one fixed order, which the C++ application repeats: the same bits come out."""
    m, x, v = systems.mass, systems.position, systems.velocity
    total = np.zeros(len(x))
    for i in range(len(m)):
        total = total + 0.5 * m[i] * (v[:, i, 0] * v[:, i, 0] + v[:, i, 1] * v[:, i, 1])
    for i in range(len(m)):
        for j in range(i + 1, len(m)):
            dx, dy = x[:, j, 0] - x[:, i, 0], x[:, j, 1] - x[:, i, 1]
            total = total - m[i] * m[j] / np.sqrt(dx * dx + dy * dy)
    return total


def momentum(systems: Systems) -> np.ndarray:
    """Sum of m v, float64 (n, 2)."""
    total: np.ndarray = np.einsum("b,nbk->nk", systems.mass, systems.velocity)
    return total


def relative_error(now: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(E - E0) / E0 + 1e-20, float64, as published: cumulative and signed."""
    relative: np.ndarray = (now - start) / start + ENERGY_GUARD
    return relative
