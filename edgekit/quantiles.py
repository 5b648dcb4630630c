"""Percentiles that say how sure they are: distribution-free bounds, floors below which there is no figure, process intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from edgekit.measurement import Histogram, Percentile

SHOWN = (50.0, 90.0, 99.0, 99.9)
TAIL = 0.025  # of a 95 % interval, on each side
DOUBT = 0.01  # MLPerf's loadgen: a percentile is reported when it holds at 99 % confidence
BINS = 60

# Student's t, 97.5 %, for 1 to 30 degrees of freedom (any table of it); beyond, the next lower entry errs on the wide side.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
      2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip


@cache
def floor(percent: float) -> int:
    """The least number of samples for a percentile: the early-stopping rule of MLPerf Inference with one query discarded.

    The smallest n at which at most one of n samples lies above the percentile with a probability of at most 1 %:
    11, 64, 662, 6636 for p50, p90, p99, p99.9.
    """
    q = 1 - percent / 100
    n = 2
    while (1 - q) ** n + n * q * (1 - q) ** (n - 1) > DOUBT:
        n += 1
    return n


@cache
def ranks(n: int, percent: float) -> tuple[int | None, int | None]:
    """Ranks (from 1) of the order statistics that enclose a percentile with 95 %; None: no sample is far enough out.

    The lower is the largest l with P(B(n, p) < l) <= 2.5 %, the upper the smallest u with P(B(n, p) >= u) <= 2.5 %.
    Holds for independent samples; those of one process are correlated, so that the headline's interval is between processes.
    """
    p = percent / 100
    k = np.arange(n + 1)
    log_choose = math.lgamma(n + 1) - np.array([math.lgamma(i + 1) + math.lgamma(n - i + 1) for i in k])
    below = np.cumsum(np.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p)))  # P(B <= k)
    lower = int(np.searchsorted(below, TAIL, side="right"))  # P(B < l) = below[l - 1]
    upper = int(np.searchsorted(below, 1 - TAIL - 1e-12)) + 1  # P(B >= u) = 1 - below[u - 1]
    return (lower if lower >= 1 else None), (upper if upper <= n else None)


def percentile(sorted_ms: np.ndarray, percent: float) -> Percentile:
    """A percentile of rising samples, its bounds, or the reason why there is none."""
    n = len(sorted_ms)
    if n < floor(percent):
        return Percentile(percent, None, None, None, f"not estimable: {floor(percent):,} samples are needed, there are {n:,}")
    low, high = ranks(n, percent)
    return Percentile(
        percent,
        float(np.percentile(sorted_ms, percent)),
        None if low is None else float(sorted_ms[low - 1]),
        None if high is None else float(sorted_ms[high - 1]),
    )


def percentiles(samples_ms: np.ndarray) -> tuple[Percentile, ...]:
    """p50, p90, p99 and p99.9."""
    rising = np.sort(samples_ms)
    return tuple(percentile(rising, p) for p in SHOWN)


def between(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Median of one positive figure a process, and the 95 % interval between processes: Student's t on logarithms.

    The interval is None with fewer than 3 processes, and always encloses the median.
    """
    middle = float(np.median(values))
    n = len(values)
    if n < 3:
        return middle, None, None
    logs = np.log(np.maximum(values, 1e-12))
    half = _T[min(n - 1, len(_T)) - 1] * float(logs.std(ddof=1)) / math.sqrt(n)
    centre = float(logs.mean())
    return middle, min(middle, math.exp(centre - half)), max(middle, math.exp(centre + half))


def histogram(samples_ms: np.ndarray, preempted: np.ndarray) -> Histogram:
    """Logarithmic bins from the least sample to the 99.9th percentile; what lies above is counted in `above`."""
    low = max(float(samples_ms.min()), 1e-6)
    high = max(float(np.percentile(samples_ms, 99.9)), 1.02 * low)
    edges = np.geomspace(low, high * 1.0001, BINS + 1)
    edges[0] = min(edges[0], float(samples_ms.min()))
    counts, _ = np.histogram(samples_ms, edges)
    calm, _ = np.histogram(samples_ms[~preempted], edges)
    return Histogram(
        tuple(float(f"{e:.6g}") for e in edges), tuple(map(int, counts)), tuple(map(int, calm)), int((samples_ms > edges[-1]).sum())
    )
