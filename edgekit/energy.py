"""Energy per inference from the readings of a meter: which meter, gross and net of idle, bounds, and power over time.

    |-- idle --|-- back to back --|-- idle --|      edges_ns: the four times, monotonic

gross: all that the scope used while inferences ran. net: less idle power (mean of before and after) x time; what idle
power drifted between the two widens its bounds. Nothing is clamped: a net figure may be below zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from edgekit import registry
from edgekit.errors import EdgekitError
from edgekit.joules import Reading, Spent, Track, Unmeasured, check_length
from edgekit.measurement import Energy, PowerTrace
from edgekit.parts import Channel, Meter, Readout
from edgekit.summary import Metered
from edgekit.sysfs import HERE, Tree
from edgekit.watch import Watch

# In this order, and then those of other packages. `nvml` is not among them: a GPU is metered where a target says that the
# model runs on it, for the figure would say nothing of a model on the processor.
AUTO = ("external_csv", "ina238", "ina3221", "rpi_pmic", "rapl", "battery")
NOT_AUTO = ("none", "nvml")
FASTEST_S = {"energy": 0.01, "power": 0.02}  # between readings: faster loads what is measured, and chips average as long
SLOWEST_S = 1.0
MOST_BINS = 500  # of a power trace
WRAP_W = 1000.0  # a wrap that hides in a gap at less power than this is worth a note


@runtime_checkable
class Recorder(Protocol):
    """A readout whose source times its readings itself (a logger's file): they are better than the polled ones."""

    def recorded(self, start_ns: int, end_ns: int) -> list[Reading]:
        """Readings that cover a time, in monotonic ns; EdgekitError when they cannot be matched with it."""


def choose(name: str, tree: Tree = HERE) -> tuple[Meter | None, str]:
    """The meter of that name, or with "auto" the first that can be read in `tree`, and ""; else None and why not."""
    if name != "auto":
        part = registry.load(Meter, name)
        reason = why_not(part, tree)
        return (None, f"{name}: {reason}") if reason else (part, "")
    tried = [*AUTO, *(n for n in registry.names(Meter) if n not in (*AUTO, *NOT_AUTO))]
    near = []  # what is there and cannot be read: that a person can mend; what is not there begins with "no "
    for each in tried:
        part = registry.load(Meter, each)
        reason = why_not(part, tree)
        if not reason:
            return part, ""
        near += [] if reason.startswith(("no ", "needs ")) else [f"{each}: {reason}"]
    return None, "; ".join(near) or f"no sensor is here of {', '.join(tried)}; `edgekit doctor` says what each looks for"


def why_not(meter: Meter, tree: Tree = HERE) -> str:
    """Empty when the meter can be read, else the reason and what to do."""
    absent = registry.missing(meter)
    if absent:
        return f"needs {', '.join(absent)}, not installed here: {registry.install_hint(meter)}"
    return meter.available(tree)


def name_of(meter: Meter) -> str:
    """A part is named by its file."""
    return type(meter).__module__.rsplit(".", 1)[-1]


def interval_s(channels: Sequence[Channel]) -> float:
    """How often to read: twice as often as the fastest source is updated, within reason."""
    return min(SLOWEST_S, *(max(FASTEST_S[c.quantity], c.refresh_s / 2) for c in channels))


def measured(
    meter: Meter, readout: Readout, watch: Watch[tuple[float | None, ...]], edges_ns: Sequence[int], inferences: int
) -> Metered:
    """What a watched readout says: energy and power over time, or why there is none. Nothing is raised."""
    name = name_of(meter)
    try:
        readings: Sequence[Reading] = watch.readings
        if isinstance(readout, Recorder):
            readings = readout.recorded(edges_ns[0], edges_ns[-1])
        elif watch.failed:
            return Metered(reason=f"{name}: {watch.failed}")
        read_s = 0.0 if isinstance(readout, Recorder) else watch.slowest_read_s
        power = power_trace(readout.channels, readings, edges_ns)
        try:
            return Metered(account(meter, readout, readings, edges_ns, inferences, read_s), power)
        except Unmeasured as error:
            return Metered(power=power, reason=f"{name}: {error}")
    except EdgekitError as error:
        return Metered(reason=f"{name}: {error}")


def account(
    meter: Meter, readout: Readout, readings: Sequence[Reading], edges_ns: Sequence[int], inferences: int, read_s: float = 0.0
) -> Energy:
    """The energy of `inferences` between the second and the third edge. read_s: how long a reading took at most.

    Unmeasured when the figure cannot be had: a source vanished, a gap, a window too short for it (the text says how long
    it must be), a counter that was set back. Idle spans that cannot be had only leave out the net figure, with a note.
    """
    before, start, end, after = ((t - edges_ns[0]) / 1e9 for t in edges_ns)
    length = end - start
    if inferences < 1 or length <= 0:
        raise Unmeasured("no inference ran in the window")
    tracks, spent, notes = {}, {}, list(readout.notes)
    for index, channel in enumerate(readout.channels):
        try:
            track = tracks[channel.name] = Track.of(channel, index, readings, edges_ns[0])
            found = track.spent(start, end, read_s)
            if channel.name in readout.total:
                check_length(track, found, length)
            spent[channel.name] = found
        except Unmeasured as error:
            if channel.name in readout.total:
                raise
            notes.append(f"left out: {error}")
    if not readout.total:
        raise Unmeasured("no channel of this meter is a total")
    total = [tracks[name] for name in readout.total]
    gross = _sum([spent[name] for name in readout.total])
    notes += _wrap_notes(total, spent)
    idle = [_idle(total, span, read_s, notes, what) for span, what in (((before, start), "before"), ((end, after), "after"))]
    net = _net(gross, idle, length)
    each = 1e3 / inferences
    return Energy(
        meter=name_of(meter), scope=readout.scope, kind=meter.kind,
        gross_mj=gross.joules * each, gross_mj_low=gross.low * each, gross_mj_high=gross.high * each,
        net_mj=net.middle * each if net else None, net_mj_low=net.low * each if net else None,
        net_mj_high=net.high * each if net else None,
        idle_before_w=idle[0].middle if idle[0] else None, idle_after_w=idle[1].middle if idle[1] else None,
        active_w=gross.joules / length, window_s=length, inferences=inferences,
        readings=gross.readings, longest_gap_s=gross.longest_gap_s,
        channels_mj={name: found.joules * each for name, found in spent.items()}, notes=tuple(notes),
    )  # fmt: skip


def power_trace(channels: Sequence[Channel], readings: Sequence[Reading], edges_ns: Sequence[int]) -> PowerTrace:
    """Mean power of each channel in at most 500 equal bins from the first edge to the last; None where readings are missing.

    A bin is no shorter than readings are apart and than the fastest source is updated.
    """
    edges = [(t - edges_ns[0]) / 1e9 for t in edges_ns]
    length = edges[-1]
    inside = sum(1 for t, _ in readings if edges_ns[0] <= t <= edges_ns[-1])
    slow = min((c.refresh_s for c in channels), default=0.0)
    count = max(1, min(MOST_BINS, inside, int(length / slow) if slow else MOST_BINS))
    borders = np.linspace(0.0, length, count + 1)
    watts: dict[str, tuple[float | None, ...]] = {}
    for index, channel in enumerate(channels):
        try:
            track = Track.of(channel, index, readings, edges_ns[0])
            watts[channel.name] = tuple(track.mean_w(float(a), float(b)) for a, b in itertools.pairwise(borders))
        except Unmeasured:  # a counter that was set back
            watts[channel.name] = (None,) * count
    middles = tuple(float(m) for m in (borders[:-1] + borders[1:]) / 2)
    names = ("idle before", "back to back", "idle after")
    return PowerTrace(middles, watts, tuple((n, a, b) for n, (a, b) in zip(names, itertools.pairwise(edges), strict=True)))


@dataclass(frozen=True)
class _Range:
    middle: float
    low: float
    high: float


def _sum(parts: Sequence[Spent]) -> Spent:
    """Bounds are added: what makes them wide need not cancel between channels."""
    return Spent(
        sum(p.joules for p in parts), sum(p.low for p in parts), sum(p.high for p in parts),
        min(p.readings for p in parts), max(p.longest_gap_s for p in parts), max(p.edge_gap_s for p in parts),
    )  # fmt: skip


def _idle(total: Sequence[Track], span: tuple[float, float], read_s: float, notes: list[str], what: str) -> _Range | None:
    """Idle power in W over a span; None, with a note, where it cannot be had."""
    length = span[1] - span[0]
    if length <= 0:
        notes.append(f"no idle {what} was measured")
        return None
    try:
        found = _sum([track.spent(*span, read_s) for track in total])
    except Unmeasured as error:
        notes.append(f"no idle {what}: {error}")
        return None
    return _Range(found.joules / length, found.low / length, found.high / length)


def _net(gross: Spent, idle: Sequence[_Range | None], length: float) -> _Range | None:
    """Gross less the mean of the idle powers; the bounds take the lowest and the highest that idle can have been."""
    known = [i for i in idle if i]
    if not known:
        return None
    mean = sum(i.middle for i in known) / len(known)
    low, high = min(i.low for i in known), max(i.high for i in known)
    return _Range(gross.joules - mean * length, gross.low - high * length, gross.high - low * length)


def _wrap_notes(total: Sequence[Track], spent: Mapping[str, Spent]) -> list[str]:
    """Counters that were read so rarely that a whole wrap could have passed unseen."""
    found = []
    for track in total:
        channel, gap = track.channel, spent[track.channel.name].longest_gap_s
        if channel.wraps_at_j and gap and channel.wraps_at_j / gap < WRAP_W:
            watts = channel.wraps_at_j / gap
            found.append(f"{channel.name} was not read for {gap:.3g} s: above {watts:.3g} W it would have wrapped unseen")
    return found
