"""How long one query takes and what it uses: several fresh processes are timed while the machine is watched from outside.

The processes only time (edgekit/profile_child.py). This one waits, reads the state of the machine and the meter on the
other cores, and reduces the rows to a Measurement (edgekit/summary.py).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgekit import conditions as machine
from edgekit import energy, files, own_process, registry, scenarios, summary
from edgekit import target as targets
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.measurement import Conditions, Measurement, Progress, silent
from edgekit.parts import Meter, Readout, Runtime
from edgekit.process_run import ProcessRun, Request
from edgekit.summary import Metered, Setup
from edgekit.sysfs import HERE, Tree
from edgekit.watch import Watch

CHILD_LIMIT_S = 600
WATCH_S = 0.05  # between readings of the machine's state
T = TypeVar("T")


@dataclass(frozen=True)
class Profiled:
    """A measurement, and every sample of it with the state of the machine beside it (columns: summary.table)."""

    measurement: Measurement
    samples: Mapping[str, np.ndarray]


def profile(
    bundle: Bundle, request: Request, *, target: str = "host", meter: str = "auto", tree: Tree = HERE, progress: Progress = silent
) -> Profiled:
    """Time a bundle on one runtime of this machine. EdgekitError when the engine or a process fails.

    meter: a meter part; "auto" takes the first that can be read here. tree: where the state of the machine is read.
    """
    runtime = registry.find(Runtime, request.runtime)
    energy.choose(meter, tree)  # a wrong name is told before anything is timed
    scenarios.samples_per_query(bundle, request)
    if request.scenario == "stream":
        scenarios.period_of(bundle, request.rate_hz)
    if runtime.simulates:
        request = Request(**{**request.to_json(), "processes": 1, "scenario": "single"})
    runs, seen = watched([(bundle, request)] * request.processes, tree, progress)
    metered = Metered(reason="a simulator's energy says nothing of a device")
    if not runtime.simulates:
        metered = measured_energy(bundle, request, meter, tree)
    setup = Setup(runs[0].facts.engine, device_name(), target, request.threads, request.scenario, runtime.simulates)
    found = summary.summarise(runs, seen.conditions(runs), setup, metered, seen.failed)
    return Profiled(found, summary.table(runs, found.conditions, seen.start_ns))


@dataclass(frozen=True)
class Seen:
    """The state of the machine over some processes: readings as edgekit/conditions.py takes them."""

    readings: machine.Readings
    tree: Tree
    start_ns: int
    failed: str

    def conditions(self, runs: Sequence[ProcessRun]) -> Conditions:
        """Reduced to the times of the samples, with the clock of the core that was used."""
        spans = [(int(r.start_ns[0]), int(r.start_ns[-1] + r.wall_ns[-1])) for r in runs]
        return machine.reduce(self.readings, self.tree, self.start_ns, runs[0].facts.pinned_to, spans)


def watched(jobs: Sequence[tuple[Bundle, Request]], tree: Tree = HERE, progress: Progress = silent) -> tuple[list[ProcessRun], Seen]:
    """Time one fresh process a job, one after the other in this order, while the machine's state is read."""
    start = time.monotonic_ns()
    paths = machine.files(tree)
    runs = []
    with Watch(_on_other_cores(machine.reader(tree, paths)), WATCH_S) as watch, files.scratch("profile") as work:
        for i, (bundle, request) in enumerate(jobs):
            progress(f"time {bundle.label}", i, len(jobs))
            samples = Path(work) / f"{i}.safetensors"
            told = child(bundle, request, [str(i), str(samples)])
            runs.append(ProcessRun.load(samples, told["facts"]))
    if jobs:
        progress(f"time {jobs[-1][0].label}", len(jobs), len(jobs))
    return runs, Seen(watch.readings, tree, start, watch.failed)


def measured_energy(bundle: Bundle, request: Request, meter: str = "auto", tree: Tree = HERE) -> Metered:
    """Energy and power over time by a meter, of a process of its own; without one, the reason."""
    found, reason = energy.choose(meter, tree)
    if found is None or not request.energy_seconds:
        return Metered(reason=reason or "no energy was asked for")
    try:
        readout = found.open(tree)
    except EdgekitError as error:  # it was there a moment ago: the latency is not lost for it
        return Metered(reason=str(error))
    try:
        with Watch(_on_other_cores(readout.read), energy.interval_s(readout.channels)) as watch:
            told = child(bundle, request, ["energy"])
    finally:
        readout.close()
    if moved := _renumbered(found, readout, tree):
        return Metered(reason=moved)
    return energy.measured(found, readout, watch, told["edges_ns"], int(told["inferences"]))


def _renumbered(meter: Meter, readout: Readout, tree: Tree) -> str:
    """Why readings may be another sensor's: the numbers in the paths are given anew when a driver is loaded anew. Else empty."""
    if not any(c.files for c in readout.channels):
        return ""
    try:
        now = meter.open(tree)
    except EdgekitError:
        return ""  # it is gone, and the readings end where it went
    now.close()
    if [(c.name, c.files) for c in now.channels] == [(c.name, c.files) for c in readout.channels]:
        return ""
    return "the files that were read belong to other sensors now: a driver was loaded anew in the run; measure again"


def child(bundle: Bundle, request: Request, rest: Sequence[str]) -> dict[str, Any]:
    """Run edgekit/profile_child.py; what it says. EdgekitError with its own sentence when it fails."""
    limit_s = CHILD_LIMIT_S + request.seconds + 2 * request.energy_seconds
    arguments = [str(bundle.folder.absolute()), json.dumps({**request.to_json(), "task": bundle.task}), *rest]
    return own_process.ask("edgekit.profile_child", arguments, f"profiling {bundle.label} on {request.runtime}", limit_s)


def device_name() -> str:
    """Processor model and number of cores of this machine."""
    return f"{targets.processor()}, {os.cpu_count()} cores"


def _on_other_cores(read: Callable[[], T]) -> Callable[[], T]:
    """`read`, called by a thread that stays off the core that a pinned child takes (the last one), where there is another."""
    moved = False

    def elsewhere() -> T:
        nonlocal moved
        if not moved and hasattr(os, "sched_setaffinity"):
            mine = os.sched_getaffinity(0)
            if len(mine) > 1:
                os.sched_setaffinity(0, mine - {max(mine)})
            moved = True
        return read()

    return elsewhere
