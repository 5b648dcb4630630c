"""The integrators compiled by numba, one system after another: the bits of _time_stepping_numpy.py, some hundred times as fast."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from edgekit.models._time_stepping_numpy import NEVER, SHORTEST

Array = np.ndarray
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code, kept on disk beside this file. No fast-math: nothing is reordered or fused."""
    made: F = importlib.import_module("numba").njit(cache=True, error_model="numpy")(function)
    return made


@compiled
def forces(mass: Array, x: Array, v: Array, a: Array, j: Array) -> float:
    """Fill a and j (b, 2) of one system; the shortest time scale of any pair to the 4th power."""
    bodies = len(mass)
    for i in range(bodies):
        a[i, 0] = a[i, 1] = j[i, 0] = j[i, 1] = 0.0
    quartic = NEVER
    for i in range(bodies):
        for k in range(i + 1, bodies):
            dx, dy = x[k, 0] - x[i, 0], x[k, 1] - x[i, 1]
            du, dw = v[k, 0] - v[i, 0], v[k, 1] - v[i, 1]
            r2, v2 = dx * dx + dy * dy, du * du + dw * dw
            r3 = r2 * math.sqrt(r2)
            alpha = 3.0 * (dx * du + dy * dw) / r2
            ax, ay = dx / r3, dy / r3
            jx, jy = (du - alpha * dx) / r3, (dw - alpha * dy) / r3
            a[i, 0] += mass[k] * ax
            a[i, 1] += mass[k] * ay
            a[k, 0] -= mass[i] * ax
            a[k, 1] -= mass[i] * ay
            j[i, 0] += mass[k] * jx
            j[i, 1] += mass[k] * jy
            j[k, 0] -= mass[i] * jx
            j[k, 1] -= mass[i] * jy
            both = mass[i] + mass[k]
            if v2 > 0:
                quartic = min(quartic, r2 * r2 / (v2 * v2))
            quartic = min(quartic, r2 * r2 * r2 / (both * both))
    return quartic


@compiled
def step_of(wanted: float, span: float, done: float) -> tuple[float, float]:
    """(the step to take, what is done after it)."""
    step = max(wanted, SHORTEST * span)
    return (span - done, span) if step >= span - done else (step, done + step)


@compiled
def hermite(  # noqa: PLR0913, PLR0917 - the arrays of Systems, which numba takes one by one
    mass: Array, x: Array, v: Array, a: Array, j: Array, quartic: Array, evaluations: Array, span: float, mu: Array,
) -> None:  # fmt: skip
    """See _time_stepping_numpy.hermite; arrays with all systems."""
    bodies = len(mass)
    xp, vp, an, jn = np.empty((bodies, 2)), np.empty((bodies, 2)), np.empty((bodies, 2)), np.empty((bodies, 2))
    for n in range(len(x)):
        done = 0.0
        while done < span:
            h, done = step_of(mu[n] * math.sqrt(math.sqrt(quartic[n])), span, done)
            for i in range(bodies):
                for c in range(2):
                    xp[i, c] = x[n, i, c] + v[n, i, c] * h + a[n, i, c] * h * h / 2.0 + j[n, i, c] * h * h * h / 6.0
                    vp[i, c] = v[n, i, c] + a[n, i, c] * h + j[n, i, c] * h * h / 2.0
            quartic[n] = forces(mass, xp, vp, an, jn)
            for i in range(bodies):
                for c in range(2):
                    now = v[n, i, c] + (a[n, i, c] + an[i, c]) * h / 2.0 + (j[n, i, c] - jn[i, c]) * h * h / 12.0
                    x[n, i, c] = x[n, i, c] + (v[n, i, c] + now) * h / 2.0 + (a[n, i, c] - an[i, c]) * h * h / 12.0
                    v[n, i, c], a[n, i, c], j[n, i, c] = now, an[i, c], jn[i, c]
            evaluations[n] += 1


@compiled
def kick_drift_kick(mass: Array, x: Array, v: Array, a: Array, j: Array, h: float) -> float:
    """One step of one system; the time scale to the 4th power at its end."""
    for i in range(len(mass)):
        for c in range(2):
            v[i, c] = v[i, c] + a[i, c] * h / 2.0
            x[i, c] = x[i, c] + v[i, c] * h
    forces(mass, x, v, a, j)
    for i in range(len(mass)):
        for c in range(2):
            v[i, c] = v[i, c] + a[i, c] * h / 2.0
    return pair_time(mass, x, v)


@compiled
def pair_time(mass: Array, x: Array, v: Array) -> float:
    """The shortest time scale of any pair to the 4th power."""
    quartic = NEVER
    for i in range(len(mass)):
        for k in range(i + 1, len(mass)):
            dx, dy = x[k, 0] - x[i, 0], x[k, 1] - x[i, 1]
            du, dw = v[k, 0] - v[i, 0], v[k, 1] - v[i, 1]
            r2, v2, both = dx * dx + dy * dy, du * du + dw * dw, mass[i] + mass[k]
            if v2 > 0:
                quartic = min(quartic, r2 * r2 / (v2 * v2))
            quartic = min(quartic, r2 * r2 * r2 / (both * both))
    return quartic


@compiled
def leapfrog(  # noqa: PLR0913, PLR0917
    mass: Array, x: Array, v: Array, a: Array, j: Array, quartic: Array, evaluations: Array, span: float, substeps: Array,
) -> None:  # fmt: skip
    """See _time_stepping_numpy.leapfrog."""
    for n in range(len(x)):
        h = span / substeps[n]
        for _ in range(substeps[n]):
            quartic[n] = kick_drift_kick(mass, x[n], v[n], a[n], j[n], h)
        evaluations[n] += substeps[n]


@compiled
def adaptive_leapfrog(  # noqa: PLR0913, PLR0917
    mass: Array, x: Array, v: Array, a: Array, j: Array, quartic: Array, evaluations: Array, span: float, mu: Array,
) -> None:  # fmt: skip
    """See _time_stepping_numpy.adaptive_leapfrog."""
    for n in range(len(x)):
        done = 0.0
        while done < span:
            h, done = step_of(mu[n] * math.sqrt(math.sqrt(quartic[n])), span, done)
            quartic[n] = kick_drift_kick(mass, x[n], v[n], a[n], j[n], h)
            evaluations[n] += 1
