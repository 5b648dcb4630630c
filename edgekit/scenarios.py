"""How queries come: one after the other, eight at once, all at once, at random times, or as the chunks of a live stream.

| scenario | a query is | the next one comes | latency counts from |
|---|---|---|---|
| single  | one inference (of a stream: one chunk) | when the last is answered | its start |
| multi   | 8 samples | when the last is answered | its start |
| offline | 64 samples | when the last is answered | its start; throughput is the figure |
| poisson | one inference | at a time drawn beforehand (exponential gaps) | its scheduled arrival |
| stream  | one chunk | every hop / rate seconds | its scheduled arrival; the next arrival is its deadline |

single, multi, offline and poisson are the four of MLPerf Inference. In the last two a late answer delays no arrival: what waits
meanwhile is counted (no coordinated omission).
"""

from __future__ import annotations

import resource
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.measurement import ScenarioName
from edgekit.process_run import Request

NAMES: tuple[ScenarioName, ...] = ("single", "multi", "offline", "poisson", "stream")
SAMPLES_PER_QUERY = {"multi": 8, "offline": 64}  # 8: MLPerf's multi-stream
LEAST, MOST = 20, 20_000  # samples a process
PATIENCE_S = 10.0  # a process that has not reached LEAST by then stops
LOAD = 0.5  # of what the model can do: poisson's rate where none is given
SPIN_NS = 200_000  # a sleep may be late by about 60 us: the last stretch before an arrival is waited for awake


@dataclass
class Samples:
    """The columns of ProcessRun, growing."""

    start_ns: array[int] = field(default_factory=lambda: array("q"))
    wall_ns: array[int] = field(default_factory=lambda: array("q"))
    cpu_ns: array[int] = field(default_factory=lambda: array("q"))
    preempted: array[int] = field(default_factory=lambda: array("b"))
    busy_ns: array[int] = field(default_factory=lambda: array("q"))
    engine_ns: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.wall_ns)

    def take(self, once: Callable[[], None], arrival_ns: int | None = None) -> None:
        """Run once and write a row. The core was taken away when the count of involuntary switches rose."""
        engine = getattr(once, "engine_ns", None)
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        cpu = time.thread_time_ns()
        start = time.monotonic_ns()
        once()
        end = time.monotonic_ns()
        self.cpu_ns.append(time.thread_time_ns() - cpu)
        self.preempted.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw != switches)
        since = start if arrival_ns is None else arrival_ns
        self.start_ns.append(since)
        self.wall_ns.append(end - since)
        self.busy_ns.append(end - start)
        if engine is not None:
            self.engine_ns.append(engine())


def back_to_back(once: Callable[[], None], seconds: float, least: int = LEAST) -> Samples:
    """Query after query for `seconds`, at least `least` unless that takes more than 10 s."""
    taken = Samples()
    begin = time.monotonic()
    while len(taken) < MOST:
        spent = time.monotonic() - begin
        if spent >= seconds and (len(taken) >= least or (spent >= PATIENCE_S and len(taken) >= 3)):
            break
        taken.take(once)
    return taken


def scheduled(once: Callable[[], None], arrivals_ns: Iterator[int], seconds: float) -> Samples:
    """One server, first come first served: a query starts at its arrival, or as soon as those before it are answered.

    arrivals_ns: rising, from 0. Stops after `seconds` once LEAST are there, and never later than 10 s after; a queue that is left then
    was growing, which summary.py tells.
    """
    taken = Samples()
    begin = time.monotonic_ns()
    for arrival in arrivals_ns:
        spent_s = max(arrival, time.monotonic_ns() - begin) / 1e9
        if len(taken) >= MOST or (spent_s >= seconds and len(taken) >= LEAST) or spent_s > seconds + PATIENCE_S:
            break
        _wait_until(begin + arrival)
        taken.take(once, begin + arrival)
    return taken


def poisson(rate_hz: float, seed: int) -> Iterator[int]:
    """Arrival times in ns of a Poisson process, drawn from a seeded generator."""
    generator = np.random.default_rng(seed)
    at = 0.0
    while True:
        at += float(generator.exponential(1e9 / rate_hz))
        yield int(at)


def regular(period_ns: int) -> Iterator[int]:
    """Arrival times in ns of the chunks of a stream: the first is there after one period."""
    at = 0
    while True:
        at += period_ns
        yield at


def period_of(bundle: Bundle, rate_hz: float) -> int:
    """From chunk to chunk, in ns, of a signal of rate_hz samples (rows, bins) a second along the streamed axis."""
    stream = bundle.manifest.program.stream
    if stream is None:
        name = bundle.manifest.name
        raise EdgekitError(f"'{name}' is no stream, so it has no chunks to come in time; scenarios for it: single, multi, offline, poisson")
    if not rate_hz > 0:
        raise EdgekitError("the scenario 'stream' needs the rate of the signal, to know when the next chunk comes: --rate-hz 16000")
    return round(max(f.hop or 1 for f in stream.feeds.values()) / rate_hz * 1e9)


def samples_per_query(bundle: Bundle, request: Request) -> int:
    """How many samples a query of the scenario holds."""
    if request.scenario in SAMPLES_PER_QUERY and bundle.manifest.program.stream is not None:
        raise EdgekitError(f"a stream takes one chunk after the other, so '{request.scenario}' cannot be; scenarios for it: single, poisson, stream")
    return SAMPLES_PER_QUERY.get(request.scenario, 1)


def _wait_until(at_ns: int) -> None:
    left = at_ns - time.monotonic_ns()
    if left > SPIN_NS:
        time.sleep((left - SPIN_NS) / 1e9)
    while time.monotonic_ns() < at_ns:
        pass
