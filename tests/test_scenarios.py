"""How queries come: closed loops, a queue at random times, chunks with deadlines; against queues worked out by hand."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from toy_bundles import bundle, decay, tensor

from edgekit import scenarios
from edgekit.errors import EdgekitError
from edgekit.process_run import Request
from edgekit.program import Feed, Join, Phase, Program, State, Stream, value
from edgekit.signature import Signature


def busy(seconds: float):
    """A model that takes so long, awake."""

    def once() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    return once


def test_a_closed_loop_takes_the_samples_asked_for_and_counts_from_the_start() -> None:
    taken = scenarios.back_to_back(busy(0.001), 0.05)
    walls = np.array(taken.wall_ns)
    assert len(taken) >= scenarios.LEAST and walls.min() >= 1_000_000
    assert all(len(getattr(taken, n)) == len(taken) for n in ("start_ns", "cpu_ns", "preempted", "busy_ns"))
    assert np.all(np.diff(taken.start_ns) >= walls[:-1])


def test_arrivals_are_those_of_a_poisson_process() -> None:
    gaps = np.diff([0, *itertools.islice(scenarios.poisson(1000.0, seed=1), 20_000)]) / 1e9
    assert gaps.mean() == pytest.approx(1e-3, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)  # exponential: the spread is the mean
    assert list(itertools.islice(scenarios.poisson(1000.0, seed=1), 5)) != list(itertools.islice(scenarios.poisson(1000.0, seed=2), 5))


def test_a_stall_is_felt_by_all_that_arrive_meanwhile() -> None:
    """Coordinated omission: a closed loop would see one slow query, the open one sees every query that had to wait."""
    calls = itertools.count()

    def once() -> None:
        busy(0.15 if next(calls) == 5 else 0.0002)()

    taken = scenarios.scheduled(once, (5_000_000 * (i + 1) for i in range(1000)), 0.4)  # every 5 ms
    wall, served = np.array(taken.wall_ns) / 1e6, np.array(taken.busy_ns) / 1e6
    assert wall[5] >= 150
    waited = wall[6:30] - served[6:30]
    assert waited[0] > 130  # arrived 5 ms into the stall of 150 ms
    assert (waited > 5).sum() >= 20
    assert (served > 100).sum() == 1


def test_an_idle_server_starts_at_the_arrival_and_not_before() -> None:
    taken = scenarios.scheduled(busy(0.0001), scenarios.regular(10_000_000), 0.2)
    assert len(taken) == scenarios.LEAST
    assert min(taken.wall_ns) >= 100_000 and np.median(np.array(taken.wall_ns) - np.array(taken.busy_ns)) < 2_000_000
    assert np.diff(taken.start_ns).tolist() == [10_000_000] * (len(taken) - 1)


def test_an_overloaded_server_ends_all_the_same() -> None:
    taken = scenarios.scheduled(busy(0.01), scenarios.poisson(100_000.0, seed=0), 0.1)
    assert len(taken) >= scenarios.LEAST
    assert np.all(np.diff(taken.wall_ns) > 0)  # the queue grows


def a_stream(folder: Path):
    stream = Stream({"sound": Feed(1, 4, 3)}, (Phase("g", inputs={"x": value("sound"), "u": value("u")}, carry={"u_next": "u"}),),
                    {"u": Join("concat", 1)}, {"u": State("float32", (1, 4))})  # fmt: skip
    whole = Signature((tensor("sound", 1, "samples"),), (tensor("u", 1, "frames"),))
    return bundle(folder, {"g": decay(1, 4)}, whole, Program((stream,)))


def a_plain_one(folder: Path):
    program = Program((Phase("g", inputs={"x": value("x"), "u": value("x")}, outputs={"u_next": "y"}),))
    return bundle(folder, {"g": decay("batch", 4)}, Signature((tensor("x", "batch", 4),), (tensor("y", "batch", 4),)), program)


def test_the_period_of_a_stream_is_its_hop_over_the_rate(tmp_path: Path) -> None:
    assert scenarios.period_of(a_stream(tmp_path / "s"), 100.0) == 30_000_000
    with pytest.raises(EdgekitError, match="needs the rate of the signal.*--rate-hz"):
        scenarios.period_of(a_stream(tmp_path / "s"), 0.0)


def test_a_scenario_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    stream, plain = a_stream(tmp_path / "s"), a_plain_one(tmp_path / "p")
    with pytest.raises(EdgekitError, match="'toy' is no stream.*single, multi, offline, poisson"):
        scenarios.period_of(plain, 16000.0)
    with pytest.raises(EdgekitError, match="one chunk after the other.*single, poisson, stream"):
        scenarios.samples_per_query(stream, Request(scenario="offline"))
    assert scenarios.samples_per_query(plain, Request(scenario="multi")) == 8
    assert scenarios.samples_per_query(plain, Request(scenario="offline")) == 64
    assert scenarios.samples_per_query(stream, Request(scenario="poisson")) == 1


@pytest.mark.parametrize("wrong", [{"threads": -1}, {"processes": 0}, {"seconds": 0.0}, {"rate_hz": -1.0}])
def test_a_request_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one process"):
        Request(**wrong)
