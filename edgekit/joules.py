"""Joules that one channel of a meter used between two times, with bounds, from the readings of it.

Energy counters: unwrapped and differenced. What a counter shows is what was used up to some moment within the last
`refresh_s`, and it never falls; so the readings before and after an edge bound what was used at the edge, whatever the
power did between them. Power sensors: the trapezoid rule with the edges interpolated; the bounds hold one step of the
converter, the edges, the gaps, and the error of sampling at points (from the differences of successive readings).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.parts import Channel

Reading = tuple[int, tuple[float | None, ...]]  # monotonic ns, a value a channel

SHARE = 0.1  # of a window that may be unseen; more, and the figure is refused
STEPS = 10  # of a counter within a window, at least
LONG_GAP = 3.0  # times the usual distance of readings
SHORTEST_S = 0.001  # readings may be nearer than a counter is updated
POSSIBLE_W = 10_000.0  # what looks like more is no wrap but a counter that was set back


class Unmeasured(EdgekitError):
    """The readings give no figure; the text says why, and what would."""


@dataclass(frozen=True)
class Spent:
    """low <= joules <= high."""

    joules: float
    low: float
    high: float
    readings: int  # within the window
    longest_gap_s: float  # between readings, anywhere in it
    edge_gap_s: float  # between the readings around an edge


@dataclass(frozen=True)
class Track:
    """The readings that a channel answered: seconds since some origin, rising, and J (unwrapped) or W. float64 (N,)."""

    channel: Channel
    times: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(channel: Channel, index: int, readings: Sequence[Reading], origin_ns: int) -> Track:
        """Of channel number `index`. Unmeasured when a counter was set back."""
        read = np.array([np.nan if (value := v[index]) is None else value for _, v in readings], np.float64)
        times = np.array([(t - origin_ns) / 1e9 for t, _ in readings], np.float64)
        times, values = times[np.isfinite(read)], read[np.isfinite(read)]
        if channel.quantity == "energy":
            values = unwrap(values, times, channel)
        return Track(channel, times, values)

    @cached_property
    def usual_s(self) -> float:
        """The usual distance of readings that tell something new."""
        return max(float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0, self.channel.refresh_s)

    @cached_property
    def updates(self) -> np.ndarray:
        """Which readings of a counter show something new: bool (N,)."""
        return np.concatenate([[True], np.diff(self.values) != 0])

    def spent(self, start: float, end: float, read_s: float = 0.0) -> Spent:
        """Of the window. read_s: how long one reading took at most. Unmeasured when the readings do not cover it."""
        name = self.channel.name
        if not len(self.times):
            raise Unmeasured(f"{name} never answered")
        if self.times[-1] < end:
            after = max(0.0, self.times[-1] - start)
            raise Unmeasured(f"{name} stopped answering {after:.3g} s into the window of {end - start:.3g} s")
        if self.times[0] > start:
            raise Unmeasured(f"{name} did not answer for the first {self.times[0] - start:.3g} s of the window")
        find = self._counted if self.channel.quantity == "energy" else self._sampled
        return find(start, end, read_s / 2)

    def mean_w(self, start: float, end: float) -> float | None:
        """Mean power between two times that the readings cover; None where they leave a gap."""
        near = self.times[self._around(start, end)]
        widest = max(LONG_GAP * self.usual_s, end - start)
        if len(near) < 2 or near[0] > start or near[-1] < end or np.diff(near).max() > widest:
            return None
        if self.channel.quantity == "energy":
            return self._interpolated(start, end) / (end - start)
        return self._trapezoid(start, end) / (end - start)

    def _counted(self, start: float, end: float, half: float) -> Spent:
        refresh, step = self.channel.refresh_s, self.channel.resolution
        low_a, high_a = self._shown(start - half), self._shown_from(start + refresh + half)
        low_b, high_b = self._shown(end - half), self._shown_from(end + refresh + half)
        low, high = max(0.0, low_b - high_a) - step, high_b - low_a + step
        middle = min(max(self._at_mean_power(start, end), low), high)
        inside = (self.times > start) & (self.times < end)
        edge_gap = max(self._gap_at(start), self._gap_at(end))
        return Spent(middle, low, high, int(inside.sum()), self._longest_gap(start, end), edge_gap)

    def _at_mean_power(self, start: float, end: float) -> float:
        """The power between the first and the last update that are surely inside, times the whole: the power changes at
        the edges of a window, so a line across an edge would mix both sides."""
        sure = self.updates & (np.concatenate([[-math.inf], self.times[:-1]]) >= start) & (self.times <= end)
        times, values = self.times[sure], self.values[sure]
        if len(times) < 2 or times[-1] - times[0] < (end - start) / 2:
            return self._interpolated(start, end)
        return float((values[-1] - values[0]) / (times[-1] - times[0])) * (end - start)

    def _interpolated(self, start: float, end: float) -> float:
        times, values = self.times[self.updates], self.values[self.updates]
        return float(np.interp(end, times, values) - np.interp(start, times, values))

    def _sampled(self, start: float, end: float, half: float) -> Spent:
        channel, length = self.channel, end - start
        times, values = self._between(start, end)
        gaps = np.diff(times)
        edge = channel.refresh_s + half + self.usual_s
        near = self.values[(self.times >= start - edge) & (self.times <= end + edge)]
        spread = float(near.max() - near.min()) if len(near) else 0.0
        unseen = float(gaps[gaps > LONG_GAP * self.usual_s].sum())
        joules = self._trapezoid(start, end)
        error = channel.resolution * length + spread * (edge + unseen) + self._sampling_error(times, values) * length
        edge_gap = max(self._gap_at(start), self._gap_at(end))
        return Spent(joules, joules - error, joules + error, len(times) - 2, self._longest_gap(start, end), edge_gap)

    def _trapezoid(self, start: float, end: float) -> float:
        times, values = self._between(start, end)
        return float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(times)))

    def _between(self, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """The readings inside, with the two edges interpolated."""
        inside = self.times[(self.times > start) & (self.times < end)]
        times = np.concatenate([[start], inside, [end]])
        return times, np.interp(times, self.times, self.values)

    def _sampling_error(self, times: np.ndarray, values: np.ndarray) -> float:
        """Twice the standard error of the mean power in W, from successive differences (von Neumann), which a slow
        drift does not enlarge. Of readings within one refresh of the source, one counts."""
        if self.channel.refresh_s:
            values = values[np.unique(np.floor(times / self.channel.refresh_s), return_index=True)[1]]
        steps = np.diff(values)
        return 2 * math.sqrt(float(np.mean(steps**2)) / 2 / len(values)) if len(steps) else 0.0

    def _shown(self, at: float) -> float:
        """What the last reading until then showed: no more than was used by then."""
        return float(self.values[max(0, int(np.searchsorted(self.times, at, "right")) - 1)])

    def _shown_from(self, at: float) -> float:
        """What the first reading from then on shows; after the last one, that and the mean power for the rest."""
        index = int(np.searchsorted(self.times, at, "left"))
        if index < len(self.times):
            return float(self.values[index])
        rate = (self.values[-1] - self.values[0]) / max(self.times[-1] - self.times[0], SHORTEST_S)
        return float(self.values[-1] + (at - self.times[-1]) * rate)

    def _gap_at(self, at: float) -> float:
        index = int(np.searchsorted(self.times, at, "left"))
        return float(self.times[index] - self.times[index - 1]) if 0 < index < len(self.times) else 0.0

    def _longest_gap(self, start: float, end: float) -> float:
        return float(np.diff(self.times[self._around(start, end)]).max(initial=0.0))

    def _around(self, start: float, end: float) -> slice:
        """The readings of a time, with the last before it and the first after it."""
        first = max(0, int(np.searchsorted(self.times, start, "right")) - 1)
        return slice(first, int(np.searchsorted(self.times, end, "left")) + 1)


def unwrap(values: np.ndarray, times: np.ndarray, channel: Channel) -> np.ndarray:
    """A counter without its wraps. It must be read more often than it wraps: several wraps look like one."""
    steps = np.diff(values)
    fell = steps < 0
    if fell.any() and channel.wraps_at_j is None:
        raise Unmeasured(f"{channel.name} fell by {-steps.min():.4g} J: the counter was set back; measure again")
    steps[fell] += channel.wraps_at_j or 0.0
    least_s = max(channel.refresh_s, SHORTEST_S)
    wrong = fell & ((steps < 0) | (steps / np.maximum(np.diff(times), least_s) > POSSIBLE_W))
    if wrong.any():
        raise Unmeasured(
            f"{channel.name} fell, and not by a wrap at {channel.wraps_at_j:.6g} J: the counter was set back; measure again"
        )
    return np.concatenate([values[:1], values[:1] + np.cumsum(steps)])


def check_length(track: Track, spent: Spent, length: float) -> None:
    """Unmeasured when the window is too short for the source, with the length that would do."""
    channel, counts = track.channel, track.channel.quantity == "energy"
    gap = spent.edge_gap_s if counts else spent.longest_gap_s  # a counter forgets nothing between the edges
    if gap > SHARE * length and gap > LONG_GAP * track.usual_s:
        raise Unmeasured(f"{channel.name} was not read for {gap:.3g} s of a window of {length:.3g} s; measure again")
    blind = gap + channel.refresh_s if counts else max(gap, channel.refresh_s)
    if blind > SHARE * length:
        raise Unmeasured(
            f"{channel.name} tells something new every {blind:.3g} s only: a window of {length:.3g} s is too short, it must be "
            f"{blind / SHARE:.3g} s"
        )
    steps = spent.joules / channel.resolution if counts and channel.resolution else math.inf
    if counts and spent.joules <= 0:
        raise Unmeasured(
            f"{channel.name} did not move in {length:.3g} s: it is stuck, or a virtual machine shows it without counting"
        )
    if steps < STEPS:
        raise Unmeasured(
            f"{channel.name} moved by {steps:.2g} steps of {channel.resolution:.3g} J in {length:.3g} s: the window must be "
            f"{length * STEPS / steps:.3g} s"
        )
