"""What one fresh process timed, as the Python child and the C++ runner both report it: facts, and a row a sample."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.errors import Broken, EdgekitError
from edgekit.measurement import ScenarioName
from edgekit.plain_text import shown
from edgekit.recipe import fill

COLUMNS = ("start_ns", "wall_ns", "cpu_ns", "preempted")
MORE_COLUMNS = ("busy_ns", "engine_ns")
MOST = 1e15  # of any figure
MOST_CLOCK = 1 << 62  # nanoseconds since the machine was started, or since 1970


@dataclass(frozen=True)
class Request:
    """What is to be timed, and how long."""

    runtime: str = ""  # a runtime part; empty: the format's first that is ready
    threads: int = 1  # 1 = one thread pinned to one core; 0 = all cores, not pinned
    seconds: float = 1.0  # steady state, of all processes together
    processes: int = 5
    scenario: ScenarioName = "single"
    rate_hz: float = 0.0  # poisson: arrivals a second (0: half of what it can do); stream: samples of the signal a second
    task: str = ""  # which program of the bundle; empty: its own
    energy_seconds: float = 3.0  # window of back-to-back inferences under a meter; idle before and after: a third each

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.threads < 0 or self.processes < 1 or not self.seconds > 0 or self.rate_hz < 0 or self.energy_seconds < 0:
            raise ValueError("threads and rate are not negative, there is at least one process, and seconds are more than 0")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Facts:
    """One process; times before the steady state. cpu: the core that it is pinned to."""

    engine: str
    load_ms: float  # opening the bundle on the engine, compilation included
    first_run_ms: float
    warm_up_runs: int
    steady: bool  # the warm-up ended because the median stood still, not because its time was over
    memory_peak_mb: float
    overhead_ns: float  # p50 of a model that does nothing, timed by the same loop
    samples_per_query: int = 1
    different_inputs: int = 1  # that take turns
    events_per_query: float = 0.0  # of an event camera, in the mean; 0: queries are no events
    period_ns: int = 0  # stream: from chunk to chunk
    offered_per_s: float = 0.0  # poisson
    pinned_to: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no clock says."""
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not 0 <= value < MOST:
                raise ValueError(f"{name} is {value:.3g}, which no process takes")


@dataclass(frozen=True)
class ProcessRun:
    """start_ns, wall_ns, cpu_ns: int64 (N,), monotonic clock and CPU time of the thread; preempted: bool (N,).

    In open-loop scenarios start_ns is the scheduled arrival and wall_ns counts from there; busy_ns is then the time
    that was computed.
    """

    facts: Facts
    start_ns: np.ndarray
    wall_ns: np.ndarray
    cpu_ns: np.ndarray
    preempted: np.ndarray
    busy_ns: np.ndarray | None = None
    engine_ns: np.ndarray | None = None  # by the engine's own clock, where it has one: without the call from Python

    def save(self, path: Path) -> None:
        """The columns as safetensors; the facts travel as JSON."""
        found = {n: np.asarray(getattr(self, n)) for n in (*COLUMNS, *MORE_COLUMNS) if getattr(self, n) is not None}
        files.save_tensors(path, {**found, "preempted": self.preempted.astype(np.uint8)})

    @staticmethod
    def load(path: Path, facts: dict[str, Any]) -> ProcessRun:
        """Read what save wrote, or the C++ runner; Broken when columns are missing, of different lengths, or no times."""
        found = files.load_tensors(path)
        absent = [n for n in COLUMNS if n not in found]
        if absent or len({len(v) for v in found.values()}) != 1 or not len(found["wall_ns"]):
            raise Broken(f"{path}: samples need the columns {', '.join(COLUMNS)}, all of one length above 0")
        odd = next((name for name, column in found.items() if not _are_times(name, column)), None)
        if odd is not None:
            raise Broken(f"{path}: the column '{shown(odd)}' holds no times")
        try:
            read: Facts = fill(Facts, facts, "facts of a profiled process")
        except EdgekitError as error:
            raise Broken(f"not what a profiled process says: {error}; the runner may be of another version") from None
        return ProcessRun(
            read, found["start_ns"], found["wall_ns"], found["cpu_ns"], found["preempted"].astype(bool), *(found.get(n) for n in MORE_COLUMNS)
        )


def _are_times(name: str, column: np.ndarray) -> bool:
    """Whole numbers that no clock would not give: not below 0, and of starts, rising."""
    if column.ndim != 1 or column.dtype.kind not in "iub" or int(column.min()) < 0:
        return False
    rising = name != "start_ns" or not (np.diff(column.astype(np.int64)) < 0).any()
    return rising and int(column.max()) < (MOST_CLOCK if name == "start_ns" else MOST)
