"""The integrators in NumPy, many systems at once: the reference that needs nothing, operation by operation as compiled.

Only +, -, *, / and square roots, in one order: _time_stepping_numba.py and the C++ application give the same bits.
"""

from __future__ import annotations

import numpy as np

from edgekit.models._time_stepping_bodies import Systems

Array = np.ndarray
SHORTEST = 1e-8  # share of the span that a step has at least: bodies that too large a mu threw together cannot stop time
NEVER = 1e300  # of a pair without a time scale


def start(s: Systems) -> None:
    """The first accelerations, jerks and time scales; one evaluation."""
    s.acceleration[:], s.jerk[:], s.quartic[:] = forces(s.mass, s.position, s.velocity)
    s.evaluations[:] += 1


def forces(mass: Array, x: Array, v: Array) -> tuple[Array, Array, Array]:
    """Accelerations (n, b, 2), jerks (n, b, 2), and (n,) the shortest time scale of any pair to the 4th power.

    A pair's time scales are r / v and sqrt(r^3 / (m_i + m_j)) (Hut and Makino, The Art of Computational Science, nbody_sh1).
    """
    a, j = np.zeros_like(x), np.zeros_like(x)
    quartic = np.full(len(x), NEVER)
    for i in range(len(mass)):
        for k in range(i + 1, len(mass)):
            dx, dy = x[:, k, 0] - x[:, i, 0], x[:, k, 1] - x[:, i, 1]
            du, dw = v[:, k, 0] - v[:, i, 0], v[:, k, 1] - v[:, i, 1]
            r2, v2 = dx * dx + dy * dy, du * du + dw * dw
            r3 = r2 * np.sqrt(r2)
            alpha = 3.0 * (dx * du + dy * dw) / r2
            ax, ay = dx / r3, dy / r3
            jx, jy = (du - alpha * dx) / r3, (dw - alpha * dy) / r3
            a[:, i, 0] += mass[k] * ax
            a[:, i, 1] += mass[k] * ay
            a[:, k, 0] -= mass[i] * ax
            a[:, k, 1] -= mass[i] * ay
            j[:, i, 0] += mass[k] * jx
            j[:, i, 1] += mass[k] * jy
            j[:, k, 0] -= mass[i] * jx
            j[:, k, 1] -= mass[i] * jy
            both = mass[i] + mass[k]
            with np.errstate(divide="ignore"):
                quartic = np.minimum(quartic, np.where(v2 > 0, r2 * r2 / (v2 * v2), NEVER))
            quartic = np.minimum(quartic, r2 * r2 * r2 / (both * both))
    return a, j, quartic


def hermite(s: Systems, span: float, mu: Array) -> None:
    """Advance all systems by `span` with the shared step mu * time scale, the last step clipped to the end.

    4th-order Hermite: predict, evaluate, correct once (Makino and Aarseth 1992). One evaluation a step; the next step begins
    with it, though it was made where the bodies were predicted to be, as in nbody_sh1.
    """
    done = np.zeros(len(s))
    rows = np.arange(len(s))
    while len(rows):
        x0, v0, a0, j0 = (part[rows] for part in (s.position, s.velocity, s.acceleration, s.jerk))
        dt, done[rows] = _step(mu[rows] * np.sqrt(np.sqrt(s.quartic[rows])), span, done[rows])
        h = dt[:, None, None]
        x = x0 + v0 * h + a0 * h * h / 2.0 + j0 * h * h * h / 6.0
        v = v0 + a0 * h + j0 * h * h / 2.0
        a, j, s.quartic[rows] = forces(s.mass, x, v)
        v = v0 + (a0 + a) * h / 2.0 + (j0 - j) * h * h / 12.0
        x = x0 + (v0 + v) * h / 2.0 + (a0 - a) * h * h / 12.0
        s.position[rows], s.velocity[rows], s.acceleration[rows], s.jerk[rows] = x, v, a, j
        s.evaluations[rows] += 1
        rows = rows[done[rows] < span]


def leapfrog(s: Systems, span: float, substeps: Array) -> None:
    """Advance by `span` in equal kick-drift-kick steps, `substeps` (n,) of them for each system. One evaluation a step."""
    rows, taken = np.arange(len(s)), 0
    step = span / substeps
    while len(rows):
        _kick_drift_kick(s, rows, step[rows])
        taken += 1
        rows = rows[substeps[rows] > taken]


def adaptive_leapfrog(s: Systems, span: float, mu: Array) -> None:
    """Kick-drift-kick with the step rule of `hermite`: a second variable-step integrator. One evaluation a step."""
    done = np.zeros(len(s))
    rows = np.arange(len(s))
    while len(rows):
        dt, done[rows] = _step(mu[rows] * np.sqrt(np.sqrt(s.quartic[rows])), span, done[rows])
        _kick_drift_kick(s, rows, dt)
        rows = rows[done[rows] < span]


def _step(wanted: Array, span: float, done: Array) -> tuple[Array, Array]:
    """(the step to take, what is done after it): as wanted, not vanishing, the last one ending at `span` to the bit."""
    step = np.maximum(wanted, SHORTEST * span)
    last = step >= span - done
    step = np.where(last, span - done, step)
    return step, np.where(last, span, done + step)


def _kick_drift_kick(s: Systems, rows: Array, dt: Array) -> None:
    h = dt[:, None, None]
    v = s.velocity[rows] + s.acceleration[rows] * h / 2.0
    x = s.position[rows] + v * h
    s.acceleration[rows] = forces(s.mass, x, v)[0]
    v = v + s.acceleration[rows] * h / 2.0
    s.position[rows], s.velocity[rows] = x, v
    s.quartic[rows] = forces(s.mass, x, v)[2]  # by the final velocities: distances are known, so it is not counted
    s.evaluations[rows] += 1
