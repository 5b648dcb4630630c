"""Energy from readings is held against closed forms, and a figure that cannot be had is refused with what would do."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from fake_sysfs import laptop, rapl, write
from hypothesis import given
from hypothesis import strategies as st

from edgekit import energy, registry
from edgekit.errors import EdgekitError
from edgekit.joules import Track, Unmeasured, unwrap
from edgekit.parts import Channel, Meter, Readout
from edgekit.sysfs import Snapshot
from edgekit.watch import Watch

S = 1_000_000_000
EDGES = (100 * S, 101 * S, 104 * S, 105 * S)  # idle 1 s, back to back 3 s, idle 1 s
COUNTER = Channel("package-0", "energy", 2.0**-14, 0.001, 262143.32885)
SENSOR = Channel("VDD_IN", "power", 0.04)


class Fixed(Readout):
    scope = "a scope"

    def __init__(self, channels: Sequence[Channel], total: Sequence[str] | None = None) -> None:
        self.channels = tuple(channels)
        self.total = tuple(c.name for c in channels) if total is None else tuple(total)

    def read(self):
        raise AssertionError("readings are given")


class Counter(Meter):
    kind = "counter"

    def available(self, tree=None):
        return ""

    def open(self, tree=None):
        raise AssertionError("not opened here")


METER = Counter()


def moments(every: float, start: float = -0.1, end: float = 5.1, seed: int = 0) -> np.ndarray:
    """Times of readings in s after the first edge, jittered as Watch does it."""
    steps = every * np.random.default_rng(seed).uniform(0.8, 1.2, int((end - start) / every * 1.3) + 2)
    times = start + np.cumsum(steps)
    return np.concatenate([[start], times[times < end], [end]])


def readings(times: np.ndarray, *values: np.ndarray | Sequence[float | None]):
    rows = zip(*(list(v) for v in values), strict=True)
    return [(EDGES[0] + round(float(t) * S), tuple(None if v is None else float(v) for v in row)) for t, row in zip(times, rows, strict=True)]


def counted(power: Callable[[np.ndarray], np.ndarray], times: np.ndarray, channel: Channel = COUNTER, phase: float = 0.0) -> np.ndarray:
    """What a counter of that channel shows: the energy at its last update, in whole steps, wrapped. Fine numeric integral."""
    grid = np.arange(-1.0, 7.0, 1e-4)
    joules = np.concatenate([[0.0], np.cumsum(power((grid[:-1] + grid[1:]) / 2)) * 1e-4]) + 1000.0
    updated = np.floor((times - phase) / channel.refresh_s) * channel.refresh_s + phase if channel.refresh_s else times
    shown = np.floor(np.interp(updated, grid, joules) / channel.resolution) * channel.resolution
    return shown % channel.wraps_at_j if channel.wraps_at_j else shown


def phases(idle: float, active: float, after: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.where(t < 1, idle, np.where(t < 4, active, idle if after is None else after))


def account(channel: Channel, times: np.ndarray, values, inferences: int = 1000, edges=EDGES):
    return energy.account(METER, Fixed([channel]), readings(times, values), edges, inferences)


def test_a_counter_under_constant_power_gives_power_times_time():
    times = moments(0.01)
    found = account(COUNTER, times, counted(phases(2, 7), times))
    assert found.gross_mj == pytest.approx(7 * 3, rel=0.004)  # 1000 inferences: mJ per inference = J
    assert found.gross_mj_low <= 7 * 3 <= found.gross_mj_high
    assert found.gross_mj_high - found.gross_mj_low < 0.02 * 7 * 3
    assert found.net_mj == pytest.approx((7 - 2) * 3, rel=0.01) and found.net_mj_low <= 15 <= found.net_mj_high
    assert found.idle_before_w == pytest.approx(2, rel=0.03) and found.idle_after_w == pytest.approx(2, rel=0.03)
    assert (found.meter, found.kind, found.scope, found.window_s, found.inferences) == ("test_energy", "counter", "a scope", 3.0, 1000)
    assert 0.008 < found.longest_gap_s < 0.0125 and found.readings == ((times > 1) & (times < 4)).sum()
    assert found.channels_mj == {"package-0": found.gross_mj}


@given(
    levels=st.lists(st.floats(0, 300), min_size=8, max_size=8),
    refresh=st.sampled_from([0.0, 0.001, 0.02, 0.1]), step=st.sampled_from([1e-6, 1e-3, 0.05]),
    every=st.sampled_from([0.01, 0.05, 0.09]), phase=st.floats(0, 0.09), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_bounds_of_a_counter_hold_whatever_the_power_does(levels, refresh, step, every, phase, seed):
    """The power changes every half second and at no edge: nothing is steady, and the interval still holds the truth."""
    channel = Channel("c", "energy", step, refresh)
    borders = np.array([-1.0, 0.3, 0.8, 1.4, 2.1, 2.9, 3.7, 4.6, 9.0])

    def power(t):
        return np.array(levels)[np.clip(np.searchsorted(borders, t, "right") - 1, 0, 7)]

    times = moments(every, seed=seed)
    track = Track.of(channel, 0, readings(times, counted(power, times, channel, phase)), EDGES[0])
    grid = np.arange(1.0, 4.0, 1e-4) + 5e-5
    spent = track.spent(1.0, 4.0)
    assert spent.low - 1e-6 <= power(grid).sum() * 1e-4 <= spent.high + 1e-6
    assert spent.low <= spent.joules <= spent.high


def test_a_slow_counter_is_right_within_its_bounds_at_any_phase():
    """NVML's counter moves every 0.1 s: at a window of 3 s the bounds are some percent, and the middle is better."""
    channel = Channel("GPU 0", "energy", 1e-3, 0.1)
    misses = []
    for seed in range(60):
        times = moments(0.05, seed=seed)
        found = account(channel, times, counted(phases(60, 300), times, channel, phase=seed / 600))
        assert found.gross_mj_low <= 900 <= found.gross_mj_high
        assert found.gross_mj_high - found.gross_mj_low < 0.15 * 900
        misses.append((found.gross_mj - 900) / 900)
    assert np.abs(misses).max() < 0.025 and abs(np.mean(misses)) < 0.003  # a line across the edges would be 1 % low


def test_a_counter_that_wraps_inside_the_window_gives_the_same():
    times = moments(0.01)
    small = Channel("package-0", "energy", 2.0**-14, 0.001, 5.0)  # wraps four times
    found = account(small, times, counted(phases(2, 7), times, small))
    assert found.gross_mj == pytest.approx(21, rel=0.004) and found.gross_mj_low <= 21 <= found.gross_mj_high


@given(
    steps=st.lists(st.floats(0, 0.999), min_size=1, max_size=50), start=st.floats(0, 1), wraps=st.sampled_from([1.0, 65.5, 262143.0])
)
def test_unwrapping_undoes_any_wraps_that_are_not_whole(steps, start, wraps):
    truth = np.concatenate([[start], start + np.cumsum(steps)]) * wraps
    times = np.arange(len(truth)) * wraps  # below a watt: no step is impossible
    found = unwrap(truth % wraps, times, Channel("c", "energy", 1e-6, wraps_at_j=wraps))
    assert found - found[0] == pytest.approx(truth - truth[0], abs=1e-9 * wraps * len(truth))


def test_a_counter_that_was_set_back_is_refused():
    times = moments(0.01)
    shown = counted(phases(2, 7), times)
    shown[times > 2] -= shown[times > 2][0]
    with pytest.raises(Unmeasured, match="package-0 fell, and not by a wrap at 262143 J: the counter was set back; measure again"):
        account(COUNTER, times, shown)
    with pytest.raises(Unmeasured, match=r"GPU fell by 10\d\d J: the counter was set back"):
        account(Channel("GPU", "energy", 1e-3), times, shown)


def test_a_power_ramp_is_integrated_exactly_by_the_trapezoid():
    times = moments(0.02)
    found = account(SENSOR, times, 5 + 2 * times)
    truth = 5 * 3 + (4**2 - 1**2)
    assert found.gross_mj == pytest.approx(truth, rel=1e-9)
    assert found.gross_mj_low <= truth <= found.gross_mj_high < 1.05 * truth
    assert found.active_w == pytest.approx(truth / 3)


def test_constant_power_is_bounded_by_one_step_of_the_sensor():
    times = moments(0.02)
    found = account(SENSOR, times, np.full(len(times), 6.0))
    assert (found.gross_mj, found.gross_mj_low, found.gross_mj_high) == pytest.approx((18, 18 - 0.04 * 3, 18 + 0.04 * 3))
    assert found.net_mj == pytest.approx(0, abs=1e-9)
    assert (found.net_mj_low, found.net_mj_high) == pytest.approx((-0.04 * 3 * 2, 0.04 * 3 * 2))


def test_bursts_that_are_sampled_at_points_have_bounds_that_hold_them():
    """7.3 ms at 8 W in every 50 ms, else 2 W: the mean is 2.876 W. Point samples miss it; the interval says by how much."""
    truth, held, widths = 2 + 6 * 7.3 / 50, 0, []
    for seed in range(200):
        times = moments(0.02, seed=seed)
        found = account(SENSOR, times, np.where((times + seed / 4000) % 0.05 < 0.0073, 8.0, 2.0))
        held += found.gross_mj_low <= truth * 3 <= found.gross_mj_high
        widths.append((found.gross_mj_high - found.gross_mj_low) / 2 / (truth * 3))
    assert held >= 190
    assert 0.05 < np.median(widths) < 0.25


def test_power_below_zero_is_kept():
    """The GPU rail of a Thor reads -392 mW while it is gated: an offset of the sensor that a sum needs."""
    times = moments(0.02)
    found = energy.account(
        METER, Fixed([Channel("VDD_GPU", "power", 0.0), Channel("VDD_CPU", "power", 0.0)]),
        readings(times, np.full(len(times), -0.392), np.full(len(times), 4.0)), EDGES, 1000,
    )  # fmt: skip
    assert found.channels_mj["VDD_GPU"] == pytest.approx(-0.392 * 3) and found.gross_mj == pytest.approx((4 - 0.392) * 3)


def test_net_of_idle_takes_the_mean_and_its_bounds_hold_the_drift():
    times = moments(0.01)
    found = account(COUNTER, times, counted(phases(2, 10, after=4), times))
    assert found.net_mj == pytest.approx((10 - 3) * 3, rel=0.01)
    assert found.net_mj_low < (10 - 4) * 3 and found.net_mj_high > (10 - 2) * 3


def test_a_net_figure_below_zero_is_not_clamped():
    times = moments(0.01)
    assert account(COUNTER, times, counted(phases(9, 8), times)).net_mj == pytest.approx(-3, rel=0.1)


def test_without_idle_there_is_a_gross_figure_only_and_a_note():
    times = moments(0.01, start=0.95, end=4.05)
    found = account(COUNTER, times, counted(phases(2, 7), times))
    assert found.gross_mj == pytest.approx(21, rel=0.01)
    assert found.net_mj is found.net_mj_low is found.idle_before_w is None
    assert "no idle before: package-0 did not answer for the first" in found.notes[0] and "no idle after" in found.notes[1]
    found = account(COUNTER, moments(0.01), counted(phases(2, 7), moments(0.01)), edges=(EDGES[0], EDGES[1], EDGES[2], EDGES[2]))
    assert found.net_mj == pytest.approx(15, rel=0.01) and found.notes == ("no idle after was measured",)


def test_a_sensor_that_vanishes_is_refused_with_the_time():
    times = moments(0.02)
    values = [6.0 if t < 2.5 else None for t in times]
    with pytest.raises(Unmeasured, match=r"VDD_IN stopped answering 1\.[45]\d? s into the window of 3 s"):
        account(SENSOR, times, values)
    with pytest.raises(Unmeasured, match="VDD_IN never answered"):
        account(SENSOR, times, [None] * len(times))
    with pytest.raises(Unmeasured, match=r"did not answer for the first 0\.5\d* s of the window"):
        account(SENSOR, times, [None if t < 1.5 else 6.0 for t in times])


def test_a_long_gap_is_refused_for_a_sensor_and_harmless_for_a_counter():
    times = moments(0.02)
    keep = (times < 2) | (times > 2.6)
    with pytest.raises(Unmeasured, match=r"VDD_IN was not read for 0\.6\d* s of a window of 3 s; measure again"):
        account(SENSOR, times[keep], np.full(keep.sum(), 6.0))
    found = account(COUNTER, times[keep], counted(phases(2, 7), times)[keep])
    assert found.gross_mj == pytest.approx(21, rel=0.01) and found.longest_gap_s > 0.6


def test_a_counter_that_was_not_read_around_an_edge_is_refused():
    times = moments(0.02)
    keep = (times < 3.7) | (times > 4.3)
    with pytest.raises(Unmeasured, match=r"package-0 was not read for 0\.6\d* s of a window of 3 s"):
        account(COUNTER, times[keep], counted(phases(2, 7), times)[keep])


def test_a_short_gap_widens_the_bounds_by_what_the_power_could_have_done():
    times = moments(0.02)
    power = np.where(times % 0.5 < 0.25, 4.0, 8.0)
    keep = (times < 2) | (times > 2.2)
    whole, gap = account(SENSOR, times, power), account(SENSOR, times[keep], power[keep])
    assert gap.gross_mj_high - gap.gross_mj_low > whole.gross_mj_high - whole.gross_mj_low + 2 * 4 * 0.19


def test_a_slow_reading_widens_the_bounds():
    times = moments(0.01)
    rows, readout = readings(times, counted(phases(2, 7), times)), Fixed([COUNTER])
    quick, slow = (energy.account(METER, readout, rows, EDGES, 1000, read_s) for read_s in (0.0, 0.2))
    assert slow.gross_mj_high - slow.gross_mj_low == pytest.approx(quick.gross_mj_high - quick.gross_mj_low + 2 * 0.1 * (7 + 2), rel=0.1)


@pytest.mark.parametrize(
    ("channel", "every"),
    [
        (Channel("GPU 0", "energy", 1e-3, 0.1), 0.05),
        (Channel("BAT0", "energy", 36.0, 0.0), 0.05),
        (Channel("GPU 0", "power", 1e-3, 1.0), 0.2),
        (Channel("VIN", "power", 1e-3, 0.05), 0.2),
    ],
    ids=["refresh of a counter", "steps of a counter", "refresh of a sensor", "readings far apart"],
)
def test_a_window_that_is_too_short_says_how_long_it_must_be_and_that_is_enough(channel, every):
    def of_length(length: float):
        edges = tuple(round(EDGES[0] + t * S) for t in (0, 1, 1 + length, 2 + length))
        times = moments(every, end=length + 2.2)
        values = np.floor(40 * times / channel.resolution) * channel.resolution if channel.quantity == "energy" else np.full(len(times), 40.0)
        return energy.account(METER, Fixed([channel]), readings(times, values), edges, 1)

    with pytest.raises(Unmeasured) as refused:
        of_length(0.9)
    needed = float(re.search(r"must be ([\d.]+) s", str(refused.value))[1])
    assert needed > 0.9
    found = of_length(needed * 1.05)
    assert found.gross_mj == pytest.approx(40e3 * needed * 1.05, rel=0.2)


def test_a_counter_that_stands_still_is_refused():
    times = moments(0.01)
    with pytest.raises(Unmeasured, match="package-0 did not move in 3 s: it is stuck, or a virtual machine"):
        account(COUNTER, times, np.full(len(times), 12.0))


def test_a_channel_that_is_only_shown_may_fail():
    times = moments(0.01)
    readout = Fixed([COUNTER, Channel("psys", "energy", 1e-6)], total=["package-0"])
    found = energy.account(METER, readout, readings(times, counted(phases(2, 7), times), [None] * len(times)), EDGES, 1000)
    assert found.gross_mj == pytest.approx(21, rel=0.01) and list(found.channels_mj) == ["package-0"]
    assert found.notes == ("left out: psys never answered",)


def test_shown_channels_are_not_added_and_totals_are_with_their_bounds():
    times = moments(0.01)
    a, b, shown = (Channel(n, "power", 0.5) for n in ("A", "B", "C"))
    found = energy.account(METER, Fixed([a, b, shown], ["A", "B"]), readings(times, *(np.full(len(times), w) for w in (3.0, 4.0, 9.0))), EDGES, 1000)
    assert found.gross_mj == pytest.approx(21) and found.gross_mj_high - found.gross_mj == pytest.approx(2 * 0.5 * 3)
    assert found.channels_mj == pytest.approx({"A": 9, "B": 12, "C": 27})


def test_a_wrap_that_could_hide_in_a_gap_is_noted():
    times = moments(0.01)
    keep = (times < 1.5) | (times > 3.5)
    small = Channel("package-0", "energy", 2.0**-14, 0.001, 100.0)
    found = account(small, times[keep], counted(phases(2, 7), times, small)[keep])
    assert re.fullmatch(r"package-0 was not read for 2\.?\d* s: above (49|50)\.?\d* W it would have wrapped unseen", found.notes[0])


def test_no_inference_is_no_figure():
    times = moments(0.01)
    with pytest.raises(Unmeasured, match="no inference ran"):
        account(COUNTER, times, counted(phases(2, 7), times), inferences=0)


# Power over time ------------------------------------------------------------------------------------------------------


def test_a_power_trace_holds_the_energy_of_the_readings():
    times = moments(0.01)
    trace = energy.power_trace([COUNTER, SENSOR], readings(times, counted(phases(2, 7), times), phases(2, 7)(times)), EDGES)
    assert 100 < len(trace.times_s) <= energy.MOST_BINS
    width = trace.times_s[1] - trace.times_s[0]
    for watts in trace.watts.values():
        assert sum(watts) * width == pytest.approx(2 + 21 + 2, rel=0.01)
        middle = [w for t, w in zip(trace.times_s, watts, strict=True) if 1.1 < t < 3.9]
        assert middle == pytest.approx([7.0] * len(middle), rel=0.1)
    assert trace.spans == (("idle before", 0.0, 1.0), ("back to back", 1.0, 4.0), ("idle after", 4.0, 5.0))


def test_a_power_trace_follows_the_updates_of_a_slow_counter():
    channel, times = Channel("GPU 0", "energy", 1e-3, 0.1), moments(0.02)
    trace = energy.power_trace([channel], readings(times, counted(phases(60, 300), times, channel)), EDGES)
    assert len(trace.times_s) == 50
    middle = [w for t, w in zip(trace.times_s, trace.watts["GPU 0"], strict=True) if 1.3 < t < 3.7]
    assert middle == pytest.approx([300.0] * len(middle), rel=0.25)  # no zeros and doubles between updates


def test_a_power_trace_has_holes_where_readings_are_missing():
    times = moments(0.01)
    values = [None if 2 < t < 2.5 else 6.0 for t in times]
    trace = energy.power_trace([SENSOR], readings(times, values), EDGES)
    hole = [t for t, w in zip(trace.times_s, trace.watts["VDD_IN"], strict=True) if w is None]
    assert 2 - 0.03 < min(hole) < 2.03 and 2.47 < max(hole) < 2.53 and len(hole) == pytest.approx(0.5 / 0.0103, rel=0.1)


def test_a_power_trace_of_many_readings_is_thinned_and_one_of_none_is_empty():
    times = np.linspace(-0.1, 5.1, 40_000)
    trace = energy.power_trace([SENSOR], readings(times, 3 + np.sin(40 * times)), EDGES)
    assert len(trace.times_s) == 500 and np.mean(trace.watts["VDD_IN"]) == pytest.approx(3, rel=0.01)
    assert energy.power_trace([SENSOR], [], EDGES).watts == {"VDD_IN": (None,)}


# From a watched meter to a figure -------------------------------------------------------------------------------------


def test_a_live_counter_is_accounted_at_its_seven_watts(tmp_path):
    """A thread advances a RAPL counter in a file (it wraps meanwhile) while Watch polls the real meter part."""
    tree = write(tmp_path, rapl({"intel-rapl:0": ("package-0", 2_000_000)}, range_uj=5_000_000))
    handle = os.open(tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj", os.O_WRONLY)
    active, stop, lateness = threading.Event(), threading.Event(), [0.0]

    def advance():
        joules, before = 2.0, time.monotonic_ns()
        while not stop.is_set():
            time.sleep(0.0005)
            now = time.monotonic_ns()
            lateness[0] = max(lateness[0], (now - before) / S)
            joules += (7.0 if active.is_set() else 2.0) * (now - before) / S
            before = now
            os.pwrite(handle, b"%012d\n" % int(joules % 5.000001 * 1e6), 0)

    meter = registry.find(Meter, "rapl")
    readout = meter.open(tree)
    thread = threading.Thread(target=advance)
    thread.start()
    try:
        with Watch(readout.read, energy.interval_s(readout.channels)) as watch:
            edges = []
            for on in (False, True, False):
                (active.set if on else active.clear)()
                edges.append(time.monotonic_ns())
                time.sleep(0.9 if on else 0.3)
            edges.append(time.monotonic_ns())
    finally:
        stop.set()
        thread.join()
        os.close(handle)
    metered = energy.measured(meter, readout, watch, edges, 90)
    found, window = metered.energy, (edges[2] - edges[1]) / S
    assert found is not None, metered.reason
    late = 7 * lateness[0]  # the thread stands in for a register and is no better than the scheduler lets it be
    assert (found.gross_mj_low - late * 1e3 / 90) <= 7 * window * 1e3 / 90 <= (found.gross_mj_high + late * 1e3 / 90)
    assert found.active_w == pytest.approx(7, abs=0.2 + late / window)
    assert found.meter == "rapl" and found.kind == "counter" and found.scope.startswith("processor package by RAPL")
    assert found.net_mj == pytest.approx(5 * window * 1e3 / 90, abs=(0.4 + 4 * late) * 1e3 / 90)
    assert metered.power is not None and set(metered.power.watts) == {"package-0"}


def test_a_meter_that_fails_while_it_is_watched_gives_a_reason_and_no_number(tmp_path):
    answers = itertools.chain([(1.0,)] * 3, itertools.repeat(None))

    def read():
        found = next(answers)
        if found is None:
            raise EdgekitError("the bus is gone")
        return found

    with Watch(read, 0.002) as watch:
        time.sleep(0.05)
    metered = energy.measured(METER, Fixed([SENSOR]), watch, EDGES, 10)
    assert metered.energy is None and metered.reason == "test_energy: reading failed after 3 readings: the bus is gone"


def test_a_refused_figure_keeps_the_power_trace():
    times = moments(0.02)
    with Watch(lambda: (0.0,), 0.01) as watch:
        pass
    watch.readings = readings(times, [6.0 if t < 2.5 else None for t in times])
    metered = energy.measured(METER, Fixed([SENSOR]), watch, EDGES, 10)
    assert metered.energy is None and metered.reason.startswith("test_energy: VDD_IN stopped answering")
    assert metered.power is not None and metered.power.watts["VDD_IN"][0] == pytest.approx(6.0)


def test_a_source_that_times_its_own_readings_is_taken_at_its_word():
    class Logger(Fixed):
        def recorded(self, start_ns, end_ns):
            assert (start_ns, end_ns) == (EDGES[0], EDGES[-1])
            times = moments(0.001)
            return readings(times, np.full(len(times), 5.0))

    with Watch(lambda: 1 / 0, 0.01) as watch:  # nobody needs it
        pass
    metered = energy.measured(METER, Logger([SENSOR]), watch, EDGES, 1000)
    assert metered.energy is not None and metered.energy.gross_mj == pytest.approx(15)


def test_readings_are_as_fast_as_the_source_and_no_faster():
    assert energy.interval_s([COUNTER]) == 0.01
    assert energy.interval_s([SENSOR]) == 0.02
    assert energy.interval_s([Channel("GPU", "energy", 1e-3, 0.1)]) == 0.05
    assert energy.interval_s([Channel("BAT0", "power", 0.01, 30.0)]) == 1.0
    assert energy.interval_s([Channel("VIN", "power", 0.01, 0.05), SENSOR]) == 0.02


# Which meter ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_external(monkeypatch):
    for name in ("EDGEKIT_METER_CSV", "EDGEKIT_METER_CSV_OFFSET_S", "EDGEKIT_TOTAL_RAILS"):
        monkeypatch.delenv(name, raising=False)


def test_auto_takes_the_first_meter_that_can_be_read(no_external):
    meter, reason = energy.choose("auto", Snapshot(laptop()))
    assert meter is registry.load(Meter, "rapl") and reason == "" and energy.name_of(meter) == "rapl"


def test_auto_without_a_sensor_is_none_and_says_where_the_reasons_are(no_external):
    meter, reason = energy.choose("auto", Snapshot({}))
    assert meter is None and all(name in reason for name in energy.AUTO) and "edgekit doctor" in reason


def test_auto_says_how_to_mend_a_sensor_that_is_there_and_may_not_be_read(no_external):
    texts = {p: None if p.endswith("energy_uj") else t for p, t in laptop().items()}
    meter, reason = energy.choose("auto", Snapshot(texts))
    assert meter is None and reason.startswith("rapl: ") and "sudo chmod a+r" in reason and "INA" not in reason


def test_every_meter_is_taken_by_auto_or_left_out_on_purpose():
    assert {*energy.AUTO, *energy.NOT_AUTO} == set(registry.names(Meter))


def test_a_meter_that_is_named_is_taken_or_its_own_reason_is_given(no_external):
    assert energy.choose("rapl", Snapshot(laptop()))[0] is registry.load(Meter, "rapl")
    assert energy.choose("ina3221", Snapshot(laptop())) == (None, "ina3221: " + registry.load(Meter, "ina3221").available(Snapshot({})))
    assert energy.choose("none") == (None, "none: no energy counter is known for this target; name one with `meter` in its file")
    with pytest.raises(EdgekitError, match="no meter 'wattmeter'; there are: battery, external_csv"):
        energy.choose("wattmeter")


def test_a_meter_whose_library_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setattr(registry, "missing_modules", list)
    assert energy.choose("nvml") == (None, "nvml: needs pynvml, not installed here: pip install 'edgekit[nvml]'")
