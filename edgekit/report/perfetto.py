"""A run as a trace that Perfetto and chrome://tracing open: phases, samples, layers, and counters of power, clock and pressure.

The Trace Event Format, its JSON object form: `X` complete events, `b` and `e` where samples overlap, `C` counters, `M` names.
Times in microseconds. Each measurement is a process of the trace with a clock of its own that begins at 0. Perfetto
knows threads by their number alone, so that no number appears twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.layer_profile import LayerProfile
from edgekit.measurement import Measurement
from edgekit.report import layer_tables, numbers
from edgekit.report.data import Run
from edgekit.report.time_tables import threads

Samples = Mapping[str, np.ndarray]  # process, start_ns, wall_ns, cpu_ns, preempted: a row a sample
Event = dict[str, Any]
MOST = 4_000  # samples of one measurement: the first; a viewer becomes slow beyond
CONDITIONS = (("CPU pressure", "%", 100.0), ("clock", "MHz", 1.0), ("temperature", "°C", 1.0))


def trace(run: Run, samples: Mapping[tuple[str, int], Samples] | None = None) -> dict[str, Any]:
    """The trace as plain JSON values. samples: (folder of the bundle, place of the measurement in it) -> rows, where they are at hand."""
    run = numbers.printable(run)
    ids = itertools.count(1)
    events: list[Event] = []
    for bundle in run.bundles:
        for i, m in enumerate(bundle.measurements):
            scenario = "" if m.load.scenario == "single" else f", {m.load.scenario}"
            name = f"{bundle.label} on {numbers.engine(m.runtime)}, cores: {threads(m)}{scenario}"
            events += _measurement(m, name, (samples or {}).get((bundle.folder, i)), ids)
        for p in bundle.layers:
            events += _layers(p, layer_tables.title(bundle.label, p), next(ids))
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"run": run.name, "written by": "edgekit", **run.machine, **run.versions}}


def _layers(profile: LayerProfile, name: str, pid: int) -> Iterator[Event]:
    yield _name("process_name", pid, pid, f"layers: {name}")
    yield _name("thread_name", pid, pid, "one inference, layer after layer")
    start = 0.0
    for layer in profile.layers:
        known = {"operator": layer.operator, "kernel": layer.kernel, "precision": layer.precision, "kind": "measured"}
        counted = {"operations (counted)": layer.operations, "bytes (counted)": layer.bytes_moved}
        args = {**known, **{k: v for k, v in counted.items() if v is not None}}
        yield _slice(layer.name or layer.operator, "layer", pid, pid, (start, layer.time_us), args)
        start += layer.time_us


def _measurement(m: Measurement, name: str, rows: Samples | None, ids: Iterator[int]) -> Iterator[Event]:
    pid = next(ids)
    said = {"verdict": m.verdict, "kind": m.kind, "device": m.device, "p50 ms": m.latency_p50_ms}
    yield _name("process_name", pid, pid, name)
    yield _name("thread_name", pid, pid, "phases: medians over processes, on a clock of their own")
    start = 0.0
    for phase, ms in (("load", m.load_ms), ("first run", m.first_run_ms)):
        if ms is not None:
            yield _slice(phase, "phase", pid, pid, (start, 1e3 * ms), said)
            start += 1e3 * ms
    if rows is not None and len(rows["start_ns"]):
        yield from _samples(rows, pid, ids)
    for t, *values in m.conditions.trace:
        for (what, unit, factor), value in zip(CONDITIONS, values, strict=True):
            if value is not None:
                yield _counter(what, pid, 1e6 * t, {unit: factor * value})
    if m.power is not None:
        own = next(ids)
        yield _name("process_name", own, own, f"{name}: energy window")
        yield _name("thread_name", own, own, "phases")
        for phase, begin, end in m.power.spans:
            yield _slice(phase, "phase", own, own, (1e6 * begin, 1e6 * (end - begin)), {"kind": m.energy.kind if m.energy else "measured"})
        for channel, watts in m.power.watts.items():
            for at, watt in zip(m.power.times_s, watts, strict=True):
                if watt is not None:
                    yield _counter(f"power {channel}", own, 1e6 * at, {"W": watt})


def _samples(rows: Samples, pid: int, ids: Iterator[int]) -> Iterator[Event]:
    """A track a process; processes ran one after the other, so that each keeps its place in time."""
    process = np.asarray(rows["process"])[:MOST]
    start, wall, cpu = ((np.asarray(rows[n])[:MOST].astype(np.float64)) / 1e3 for n in ("start_ns", "wall_ns", "cpu_ns"))
    preempted = np.asarray(rows["preempted"])[:MOST].astype(bool)
    start = start - start.min()
    for number in np.unique(process):
        tid = next(ids)
        yield _name("thread_name", pid, tid, f"process {int(number) + 1}")
        mine = np.flatnonzero(process == number)
        mine = mine[np.argsort(start[mine], kind="stable")]
        # An open loop counts from the scheduled arrival: samples that queue overlap, which complete events must not.
        overlap = bool(np.any(start[mine][1:] < (start[mine] + wall[mine])[:-1]))
        for i in mine:
            name = "preempted sample" if preempted[i] else "sample"
            args = {"cpu us": round(float(cpu[i]), 3)}
            if overlap:
                both = {"name": name, "cat": "sample", "pid": pid, "tid": tid, "id": f"{tid}.{int(i)}"}
                yield {**both, "ph": "b", "ts": round(float(start[i]), 3), "args": args}
                yield {**both, "ph": "e", "ts": round(float(start[i] + wall[i]), 3)}
            else:
                yield _slice(name, "sample", pid, tid, (float(start[i]), float(wall[i])), args)


def _slice(name: str, category: str, pid: int, tid: int, at_us: tuple[float, float], args: Mapping[str, Any]) -> Event:
    start, duration = at_us
    return {"ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": round(start, 3), "dur": round(duration, 3), "args": dict(args)}


def _counter(name: str, pid: int, at_us: float, value: Mapping[str, float]) -> Event:
    return {"ph": "C", "name": name, "pid": pid, "tid": pid, "ts": round(at_us, 3), "args": dict(value)}


def _name(what: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}
