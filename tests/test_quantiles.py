"""Percentiles with bounds, against scipy's binomial distribution, published floors and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgekit import quantiles


@pytest.mark.parametrize(("percent", "least"), [(50, 11), (90, 64), (95, 130), (97, 219), (99, 662), (99.9, 6636)])
def test_floors_are_those_of_early_stopping_in_mlperf(percent: float, least: int) -> None:
    """One discarded query, 99 % confidence; the same numbers stand in MLPerf's endpoints repository (pull request 417)."""
    assert quantiles.floor(percent) == least


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 4000), percent=st.sampled_from([50.0, 90.0, 99.0, 99.9]))
def test_ranks_are_the_tightest_that_the_binomial_distribution_allows(n: int, percent: float) -> None:
    p = percent / 100
    low, high = quantiles.ranks(n, percent)
    if low is not None:
        assert stats.binom.cdf(low - 1, n, p) <= 0.025 < stats.binom.cdf(low, n, p) + 1e-9
    else:
        assert stats.binom.cdf(0, n, p) > 0.025
    if high is not None:
        assert stats.binom.sf(high - 1, n, p) <= 0.025 + 1e-9 and stats.binom.sf(high - 2, n, p) > 0.025
    else:
        assert stats.binom.sf(n - 1, n, p) > 0.025


def test_known_ranks() -> None:
    assert quantiles.ranks(100, 50.0) == (40, 61)
    assert quantiles.ranks(100, 99.0) == (97, None)
    assert quantiles.ranks(1000, 99.0) == (983, 997)


def test_bounds_hold_the_true_percentile_in_95_of_100_experiments() -> None:
    random = np.random.default_rng(3)
    true = -np.log(0.1)  # p90 of the exponential distribution
    held = sum(
        p.low_ms <= true <= p.high_ms
        for p in (quantiles.percentile(np.sort(random.exponential(size=400)), 90.0) for _ in range(1500))
        if p.low_ms is not None and p.high_ms is not None
    )
    assert 0.935 <= held / 1500 <= 0.975


def test_too_few_samples_give_no_figure_but_the_number_that_is_needed() -> None:
    found = {p.percent: p for p in quantiles.percentiles(np.arange(1.0, 313.0))}
    assert found[50].value_ms == pytest.approx(156.5) and found[90].value_ms is not None
    assert found[99].value_ms is None and found[99].reason == "not estimable: 662 samples are needed, there are 312"
    assert found[99.9].low_ms is None and "6,636" in found[99.9].reason


def test_the_interval_between_processes_is_student_t_on_logarithms() -> None:
    values = [1.0, 1.1, 0.95, 1.05, 1.02]
    middle, low, high = quantiles.between(values)
    oracle = stats.t.interval(0.95, 4, np.log(values).mean(), stats.sem(np.log(values)))
    assert middle == 1.02 and low == pytest.approx(np.exp(oracle[0]), rel=1e-3) and high == pytest.approx(np.exp(oracle[1]), rel=1e-3)
    assert quantiles.between([1.0, 2.0]) == (1.5, None, None)
    low_end = quantiles.between([1.0, 1.0, 1.0, 1.0, 9.0])
    assert low_end[1] is not None and low_end[1] <= low_end[0] <= (low_end[2] or 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=300), st.integers(0, 2**32 - 1))
def test_a_histogram_counts_every_sample_once(values: list[float], seed: int) -> None:
    samples = np.array(values)
    preempted = np.random.default_rng(seed).random(len(samples)) < 0.3
    found = quantiles.histogram(samples, preempted)
    assert sum(found.counts) + found.above == len(samples)
    assert all(u <= c for u, c in zip(found.undisturbed, found.counts, strict=True))
    assert list(found.edges_ms) == sorted(found.edges_ms) and len(found.edges_ms) == len(found.counts) + 1
