"""How much of the roof models reach on a device: assumed wide, or fitted to other models that were measured there.

efficiency = calculated least time / measured time. The fit is a log-normal one: engines are off by factors, not by milliseconds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

UNTUNED = (0.05, 0.7)  # what ordinary models reach of a processor's peak without tuning (least, most)
LEAST_MODELS = 3
# Student's t, 95 % one-sided, by degrees of freedom; beyond the table the normal 1.645 is close enough.
_T = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753)


@dataclass(frozen=True)
class Known:
    """A model that was measured: the time that the roof alone would take, and the time it took."""

    name: str
    least_ms: float
    measured_ms: float

    @property
    def efficiency(self) -> float:
        """At most 1 where the roof is right."""
        return self.least_ms / self.measured_ms


@dataclass(frozen=True)
class Fit:
    """The efficiency to calculate with. low to high: where the next model lies in 9 of 10 cases, or the untuned range."""

    low: float
    mid: float
    high: float
    fitted: bool
    notes: tuple[str, ...] = ()


def fit(known: Sequence[Known]) -> Fit:
    """Of at least three models whose 90 % prediction interval is narrower than the untuned range; else that range."""
    low, high = UNTUNED
    untuned = Fit(low, math.sqrt(low * high), high, False)
    if len(known) < LEAST_MODELS:
        few = f"{len(known)} measured models are too few to narrow the range, {LEAST_MODELS} are needed"
        return Fit(untuned.low, untuned.mid, untuned.high, False, (few,) if known else ())
    least, mid, most = _interval([k.efficiency for k in known])
    if most / least >= high / low:
        spread = f"{len(known)} measured models reach {_span(known)} of the roof: too far apart to narrow the range"
        return Fit(untuned.low, untuned.mid, untuned.high, False, (spread,))
    told = f"fitted to {len(known)} models measured there, which reach {_span(known)} of the roof"
    return Fit(least, mid, min(most, max(1.0, mid)), True, (told, _left_out(known)))


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the 90 % prediction interval of one more value, of logarithms."""
    logs = [math.log(v) for v in values]
    n = len(logs)
    t = _T[n - 2] if n - 2 < len(_T) else 1.645
    reach = t * statistics.stdev(logs) * math.sqrt(1 + 1 / n)
    mean = statistics.fmean(logs)
    return math.exp(mean - reach), math.exp(statistics.median(logs)), math.exp(mean + reach)


def _span(known: Sequence[Known]) -> str:
    found = sorted(k.efficiency for k in known)
    return f"{found[0]:.2g} to {found[-1]:.2g} (median {statistics.median(found):.2g})"


def _left_out(known: Sequence[Known]) -> str:
    """Each model estimated by the median of the others: by which factor that is off."""
    off = []
    for k in known:
        others = [o.efficiency for o in known if o is not k]
        guess = k.least_ms / statistics.median(others)
        off.append(max(guess / k.measured_ms, k.measured_ms / guess))
    return f"each of them estimated from the others is off by a factor of {statistics.median(off):.2f} (median), {max(off):.2f} (most)"
