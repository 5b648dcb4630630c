"""A watcher covers its block from before to after, and one that failed says so."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from types import SimpleNamespace

import pytest

from edgekit import watch
from edgekit.watch import Watch


def test_readings_begin_before_the_block_and_end_after_it():
    with Watch(lambda: 7, 0.005) as seen:
        start = time.monotonic_ns()
        time.sleep(0.05)
        end = time.monotonic_ns()
    times = [t for t, _ in seen.readings]
    assert times[0] < start and end < times[-1] and times == sorted(times)
    assert {value for _, value in seen.readings} == {7} and not seen.failed and seen.error is None


def test_the_time_of_a_reading_is_the_middle_of_it():
    edges = []

    def slow():
        edges.append(time.monotonic_ns())
        time.sleep(0.02)
        edges.append(time.monotonic_ns())

    with Watch(slow, 0.01) as seen:
        pass
    (middle, _), *_ = seen.readings
    assert edges[0] < middle < edges[1]
    assert abs(middle - (edges[0] + edges[1]) / 2) < 1e6
    assert seen.slowest_read_s >= 0.02


def test_intervals_are_jittered_by_a_fifth(monkeypatch):
    asked = []

    class Counted(threading.Event):
        def wait(self, timeout=None):
            asked.append(timeout)
            return len(asked) > 400

    clock = SimpleNamespace(monotonic=lambda: 0.0, monotonic_ns=time.monotonic_ns)
    monkeypatch.setattr(watch, "time", clock)  # stands still, so that each wait is the sum of the intervals until then
    seen = Watch(lambda: None, 1.0)
    seen._stop = Counted()
    with seen:
        while len(asked) <= 400:
            time.sleep(0.001)
    waits = [b - a for a, b in itertools.pairwise([0.0, *asked])]
    assert 0.8 <= min(waits) < 0.82 and 1.18 < max(waits) <= 1.2
    assert statistics.mean(waits) == pytest.approx(1.0, abs=0.02)
    assert statistics.pstdev(waits) == pytest.approx(0.4 / 12**0.5, rel=0.1)  # of a uniform distribution


def test_a_read_that_fails_ends_the_watching_and_is_not_raised():
    answers = iter([1, 2, 3])

    def read():
        try:
            return next(answers)
        except StopIteration:
            raise OSError("the sensor was unplugged") from None

    with Watch(read, 0.002) as seen:
        time.sleep(0.05)
    assert [v for _, v in seen.readings] == [1, 2, 3]
    assert seen.failed == "reading failed after 3 readings: the sensor was unplugged" and isinstance(seen.error, OSError)


def test_a_first_read_that_fails_leaves_no_readings_and_the_block_runs():
    ran = []
    with Watch(lambda: 1 / 0, 0.01) as seen:
        ran.append(1)
    assert ran and not seen.readings and seen.failed.startswith("reading failed after 0 readings")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death is the case
def test_a_watcher_that_died_certifies_nothing():
    calls, died = itertools.count(), threading.Event()

    def read():
        if next(calls) == 2:
            died.set()
            raise SystemExit  # ends a thread without a word
        return 0

    with Watch(read, 0.002) as seen:
        assert died.wait(10)
        time.sleep(0.05)
    assert "ended by itself" in seen.failed


def test_a_read_that_hangs_certifies_nothing(monkeypatch):
    monkeypatch.setattr(watch, "HUNG_S", 0.05)
    calls, release = itertools.count(), threading.Event()

    def read():
        if next(calls):
            release.wait(5)

    with Watch(read, 0.002) as seen:
        time.sleep(0.02)
    assert seen.failed == "a read did not come back within 0.05 s"
    release.set()
    seen._thread.join()


def test_an_error_in_the_block_is_raised_and_the_thread_ends():
    with pytest.raises(KeyError), Watch(lambda: 0, 0.002):
        raise KeyError("of the block")
    assert not [t for t in threading.enumerate() if t.name == "edgekit-watch"]


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="more than 0 s"):
        Watch(lambda: 0, 0.0)
