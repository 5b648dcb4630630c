"""What was found out about a bundle on an engine: times, memory, energy; the unit in each name, and how it is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgekit.errors import Broken, EdgekitError
from edgekit.recipe import fill

# measured: a clock or a sensor; counter: a register that models energy (RAPL); imported: by another tool, elsewhere.
Kind = Literal["measured", "counter", "calibrated-estimate", "spec-estimate", "imported"]
Verdict = Literal["VALID", "NOISY", "THROTTLED", "TOO-SHORT", "SIMULATED"]
ScenarioName = Literal["single", "multi", "offline", "poisson", "stream"]


class Progress(Protocol):
    """Where long work says how far it is."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """`what` is at step `done` of `total`."""


def silent(what: str, done: int, total: int) -> None:
    """The progress that shows nothing."""


@dataclass(frozen=True)
class Percentile:
    """One percentile of the samples of all processes, with distribution-free 95 % bounds (order statistics)."""

    percent: float  # 50, 90, 99, 99.9
    value_ms: float | None
    low_ms: float | None  # None: the bound does not exist with so few samples
    high_ms: float | None
    reason: str = ""  # why value_ms is None: "not estimable: 662 samples are needed, there are 312"


@dataclass(frozen=True)
class Histogram:
    """How often each latency was seen. n + 1 edges, rising; of `counts`, `undisturbed` were never preempted."""

    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]
    undisturbed: tuple[int, ...]
    above: int = 0  # samples above the last edge


@dataclass(frozen=True)
class Conditions:
    """What the machine did meanwhile. None: it could not be read, and `unread` says why.

    trace: (seconds since the start, CPU pressure 0..1, clock in MHz, temperature in degree Celsius) per reading.
    """

    cpu_pressure: float | None = None  # share of the time in which some task waited for a CPU (PSI "some")
    steal: float | None = None  # share of the time that the hypervisor took
    clock_mhz_low: float | None = None
    clock_mhz: float | None = None  # median
    temperature_c_start: float | None = None
    temperature_c_high: float | None = None
    throttle_events: int | None = None  # thermal or over-current events counted meanwhile
    governor: str = ""
    power_mode: str = ""
    trace: tuple[tuple[float, float | None, float | None, float | None], ...] = field(default=(), repr=False)
    unread: Mapping[str, str] = field(default_factory=dict)  # what could not be read -> why


@dataclass(frozen=True)
class Energy:
    """What a meter read over a window of back-to-back inferences, per inference in millijoule.

    gross: all that the scope used; net: less idle power (mean of before and after) x time. low and high hold the
    resolution of the counter, gaps, and the drift of idle power. A net figure may be negative: it is not clamped.
    """

    meter: str
    scope: str  # "package (no board, no supply)", "module input VDD_IN", "sum of rails: a lower bound of the board"
    kind: Literal["measured", "counter"]
    gross_mj: float
    gross_mj_low: float
    gross_mj_high: float
    net_mj: float | None
    net_mj_low: float | None
    net_mj_high: float | None
    idle_before_w: float | None
    idle_after_w: float | None
    active_w: float
    window_s: float
    inferences: int
    readings: int
    longest_gap_s: float
    channels_mj: Mapping[str, float]  # gross, per channel (rail or zone); they need not add up
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PowerTrace:
    """Power over time: of each channel one value a reading (None: the reading failed); spans: (phase, from s, to s)."""

    times_s: tuple[float, ...]
    watts: Mapping[str, tuple[float | None, ...]]
    spans: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Load:
    """What only some scenarios have. A query is what is answered at once: 8 samples in `multi`, a chunk in `stream`."""

    scenario: ScenarioName
    samples_per_query: int = 1
    different_inputs: int = 1  # that took turns, where the time depends on what is in them
    events_per_query: float | None = None  # of an event camera: in a packet, in the mean
    events_per_s: float | None = None  # that were worked off a second
    throughput_per_s: float | None = None  # samples answered a second
    offered_per_s: float | None = None  # poisson: arrivals scheduled a second
    period_ms: float | None = None  # stream: time from chunk to chunk, which is its deadline
    deadline_misses: int | None = None
    real_time_factor: float | None = None  # stream: time computed / time of the signal; below 1 it keeps up


@dataclass(frozen=True)
class Measurement:
    """Times of queries on buffers bound once, in fresh processes. Nothing here is an estimate.

    latency_p50_ms is the median over processes of each one's p50; low and high are its 95 % interval between processes.
    What another tool did not say of an imported measurement is None.
    """

    runtime: str  # with version
    device: str
    threads: int | None  # 0 = all
    pinned: bool | None
    load_ms: float | None
    first_run_ms: float | None
    warm_up_runs: int | None
    latency_p50_ms: float
    latency_p90_ms: float | None
    latency_min_ms: float
    samples: int
    preempted_samples: int | None  # samples during which the scheduler took the core away
    latency_undisturbed_p50_ms: float | None  # of the samples that were not preempted
    memory_peak_mb: float | None  # of the whole process
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    energy_mj: float | None = None  # gross, of `energy`
    energy_reason: str = "no meter"  # why energy_mj is None
    kind: Kind = "measured"
    target: str = "host"
    latency_p50_low_ms: float | None = None
    latency_p50_high_ms: float | None = None
    process_p50_ms: tuple[float, ...] = ()  # one a process, in the order they ran
    percentiles: tuple[Percentile, ...] = ()  # raw: of all samples
    percentiles_undisturbed: tuple[Percentile, ...] = ()
    histogram: Histogram | None = field(default=None, repr=False)
    load: Load = Load("single")
    conditions: Conditions = Conditions()
    energy: Energy | None = None
    power: PowerTrace | None = field(default=None, repr=False)
    latency_engine_p50_ms: float | None = None  # by the engine's own clock, where it has one: without the call from Python
    overhead_us: float | None = None  # what timing itself adds to a sample: p50 of a model that does nothing

    @property
    def processes(self) -> int:
        """How many fresh processes were timed."""
        return len(self.process_p50_ms)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Measurement:
        """Read what to_json wrote; Broken, with the field, when it is not that."""
        try:
            found: Measurement = fill(Measurement, data, "measurement")
        except EdgekitError as error:
            raise Broken(f"not a measurement of this edgekit: {error}; profile again") from None
        return found
