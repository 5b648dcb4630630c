"""What the machine does while a model is timed: CPU pressure, stolen time, clocks, temperature, throttling; from small files.

The files are read as text again and again (on a device, by its runner) and understood here, so that this machine, a
remote one without Python and a fake tree go the same way. What cannot be read is None, with the reason.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgekit.measurement import Conditions
from edgekit.sysfs import Tree

Row = tuple[float, float | None, float | None, float | None]  # of Conditions.trace
Readings = Sequence[tuple[int, Mapping[str, str | None]]]  # (monotonic ns, path -> text or None) in the order of time

PRESSURE, STAT = "/proc/pressure/cpu", "/proc/stat"
# GPU clocks of Jetson boards are devfreq devices; their names hold "gpu", "gv11b", "ga10b", "gb10b".
CLOCKS = ("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq", "/sys/class/devfreq/*/cur_freq")
TEMPERATURES = ("/sys/class/thermal/thermal_zone*/temp", "/sys/class/hwmon/hwmon*/temp*_input")
# Counters of thermal events (x86), over-current events (Jetson Orin: "Jetson Linux Developer Guide", soctherm OC), and
# alarm bits of current sensors. The Raspberry Pi's firmware answers with bits: 0 to 3 are set while it is limited.
EVENT_COUNTERS = ("/sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count", "/sys/class/hwmon/hwmon*/oc*_event_cnt")
ALARMS = ("/sys/class/hwmon/hwmon*/curr*_crit_alarm", "/sys/class/hwmon/hwmon*/curr*_max_alarm")
FIRMWARE = ("/sys/devices/platform/soc/soc:firmware/get_throttled",)
COOLING = "/sys/class/thermal/cooling_device*/cur_state"
COOLS_BY_SLOWING = ("cpufreq", "devfreq", "gpu", "processor")  # types of cooling devices that lower a clock; fans do not
WATCHED_NS = 60_000_000  # a reading this near to a span belongs to it: spans may be shorter than the readings are apart
MOST_ROWS = 400  # of the stored trace


def files(tree: Tree) -> list[str]:
    """The files to read during a measurement; those that cannot be read now are left out, `reduce` says so."""
    wanted = [PRESSURE, STAT, *_found(tree, (*CLOCKS, *TEMPERATURES, *EVENT_COUNTERS, *ALARMS, *FIRMWARE)), *_slowing(tree)]
    return [path for path in dict.fromkeys(wanted) if _text(tree, path) is not None]


def reader(tree: Tree, paths: Sequence[str]) -> Callable[[], dict[str, str | None]]:
    """A function that reads all the files once."""
    return lambda: {path: _text(tree, path) for path in paths}


def reduce(
    readings: Readings, tree: Tree, start_ns: int, cpu: int | None = None, spans: Sequence[tuple[int, int]] = ()
) -> Conditions:
    """What the readings say. start_ns: where the trace's time begins. cpu: the core that was used, None for all.

    spans: (from, to) in monotonic ns in which samples were taken: pressure, clock and temperature are of these; without
    them, of the whole time. The trace is always whole.
    """
    unread: dict[str, str] = {}
    if len(readings) < 2:
        return Conditions(unread={"all": "the files were read fewer than two times"})
    paths = set(readings[0][1])
    clocks = _over(readings, _clock_paths(paths, cpu), 1e-3, max)
    if any("/devfreq/" in p for p in paths) and not any("/cpufreq/" in p for p in paths):
        clocks = _over(readings, [p for p in paths if "/devfreq/" in p], 1e-6, max)
    heats = _over(readings, [p for p in paths if "/temp" in p], 1e-3, max)
    pressures = [_pressure(texts) for _, texts in readings]
    shares = _rates(readings, pressures, 1e6)
    spans = [s for s in spans if s[1] > s[0]] or [(readings[0][0], readings[-1][0])]
    whole = _span_share(readings, pressures, spans)
    if whole is None:
        unread["CPU pressure"] = "the kernel has no /proc/pressure/cpu (PSI is off or older than 4.20)"
    if not any(c is not None for c in clocks):
        unread["clock"] = "no cpufreq or devfreq here (common on virtual machines)"
    if not any(h is not None for h in heats):
        unread["temperature"] = "no thermal zone or sensor here (common on virtual machines)"
    events = _events(readings)
    if events is None:
        unread["throttling"] = "no throttle counter, alarm or cooling device here"
    rows = [((t - start_ns) / 1e9, p, c, h) for (t, _), p, c, h in zip(readings, shares, clocks, heats, strict=True)]
    timed = [any(a - WATCHED_NS <= t <= b + WATCHED_NS for a, b in spans) for t, _ in readings]
    known_clocks, known_heats = ([v for v, inside in zip(x, timed, strict=True) if inside and v is not None] for x in (clocks, heats))
    return Conditions(
        cpu_pressure=whole, steal=_steal(readings),
        clock_mhz_low=min(known_clocks, default=None), clock_mhz=statistics.median(known_clocks) if known_clocks else None,
        temperature_c_start=known_heats[0] if known_heats else None, temperature_c_high=max(known_heats, default=None),
        throttle_events=events, governor=_text(tree, f"/sys/devices/system/cpu/cpu{cpu or 0}/cpufreq/scaling_governor") or "",
        power_mode=power_mode(tree), trace=_thinned(rows), unread=unread,
    )  # fmt: skip


def at(conditions: Conditions, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """pressure, clock_mhz and temperature_c at each time (float32, NaN where unknown): what stands beside each sample."""
    columns = zip(*conditions.trace, strict=True) if conditions.trace else ((),) * 4
    times, *values = (np.array([np.nan if v is None else v for v in column], np.float64) for column in columns)
    found = {}
    for name, value in zip(("pressure", "clock_mhz", "temperature_c"), values, strict=True):
        known = ~np.isnan(value)
        filled = np.interp(seconds, times[known], value[known]) if known.any() else np.full(len(seconds), np.nan)
        found[name] = filled.astype(np.float32)
    return found


def power_mode(tree: Tree) -> str:
    """The Jetson power mode by name, from nvpmodel's own files; empty elsewhere. Ids differ by board and JetPack."""
    status = re.search(r"pmode:(\d+)", _text(tree, "/var/lib/nvpmodel/status") or "")
    if not status:
        return ""
    number = int(status[1])
    for model in re.findall(r"<\s*POWER_MODEL\s([^<>]*)>", _text(tree, "/etc/nvpmodel.conf") or ""):
        found = re.search(rf"\bID=0*{number}\b", model), re.search(r"\bNAME=(\S+)", model)
        if all(found):
            return str(found[1][1])  # type: ignore[index]
    return f"nvpmodel {number}"


def _found(tree: Tree, patterns: Sequence[str]) -> list[str]:
    return [path for pattern in patterns for path in tree.find(pattern)]


def _slowing(tree: Tree) -> list[str]:
    kinds = {p: (_text(tree, p.replace("cur_state", "type")) or "").lower() for p in tree.find(COOLING)}
    return [path for path, kind in kinds.items() if any(word in kind for word in COOLS_BY_SLOWING)]


def _text(tree: Tree, path: str) -> str | None:
    try:
        return tree.read(path)
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        found = float(text) if text else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None


def _clock_paths(paths: set[str], cpu: int | None) -> list[str]:
    wanted = "/cpufreq/" if cpu is None else f"/cpu{cpu}/cpufreq/"
    return [p for p in paths if wanted in p]


def _over(readings: Readings, paths: Sequence[str], scale: float, of: Callable[[list[float]], float]) -> list[float | None]:
    rows = [[v * scale for p in paths if (v := _number(texts.get(p))) is not None] for _, texts in readings]
    return [of(row) if row else None for row in rows]


def _pressure(texts: Mapping[str, str | None]) -> float | None:
    found = re.search(r"^some .*\btotal=(\d+)", texts.get(PRESSURE) or "", re.MULTILINE)
    return float(found[1]) if found else None  # microseconds since boot


def _rates(readings: Readings, counts: Sequence[float | None], a_second: float) -> list[float | None]:
    """The share of the time since the reading before, 0..1; that of the first is the second's."""
    shares: list[float | None] = [None]
    for (t0, _), (t1, _), a, b in zip(readings, readings[1:], counts, counts[1:], strict=False):
        there = a is not None and b is not None and t1 > t0
        shares.append(min(1.0, max(0.0, (b - a) / a_second / ((t1 - t0) / 1e9))) if there else None)  # type: ignore[operator]
    return [shares[1], *shares[1:]]


def _span_share(readings: Readings, counts: Sequence[float | None], spans: Sequence[tuple[int, int]]) -> float | None:
    """The counter (microseconds) at both ends of each span, between readings on a straight line, over the spans' length."""
    there = [(t, c) for (t, _), c in zip(readings, counts, strict=True) if c is not None]
    if len(there) < 2:
        return None
    times, totals = np.array(there).T
    edges = np.interp(np.array(spans, np.float64), times, totals)
    return float(np.clip((edges[:, 1] - edges[:, 0]).sum() * 1e3 / sum(b - a for a, b in spans), 0.0, 1.0))


def _steal(readings: Readings) -> float | None:
    """Stolen / all ticks of all cores between the first and the last reading: columns 8 and 1 to 8 of `cpu` in /proc/stat."""
    ticks = []
    for _, texts in (readings[0], readings[-1]):
        line = next((x for x in (texts.get(STAT) or "").splitlines() if x.startswith("cpu ")), "")
        ticks.append([int(x) for x in line.split()[1:9] if x.isdigit()])
    if min(len(t) for t in ticks) < 8:
        return None
    spent = [b - a for a, b in zip(*ticks, strict=True)]
    return spent[7] / sum(spent) if sum(spent) > 0 else None


def _events(readings: Readings) -> int | None:
    """Thermal and over-current events between the first and the last reading; None when nothing here counts them."""
    events, seen = 0, False
    for path in readings[0][1]:
        values = [(v or "").split() for v in (texts.get(path) for _, texts in readings)]
        if path.endswith(("_throttle_count", "_event_cnt")):
            known = [int(v[0]) for v in values if v and v[0].isdigit()]
            events, seen = events + (max(0, known[-1] - known[0]) if known else 0), True
        elif path.endswith("get_throttled"):
            events, seen = events + any(int(v[0], 16) & 0xF for v in values if v and re.fullmatch(r"(0x)?[0-9a-f]+", v[0])), True
        elif path.endswith(("_alarm", "/cur_state")):
            events, seen = events + any(v[0] not in ("0", "-1") for v in values if v), True
    return events if seen else None


def _thinned(rows: list[Row]) -> tuple[Row, ...]:
    step = -(-len(rows) // MOST_ROWS)
    return tuple((round(t, 4), *(None if v is None else round(v, 4) for v in rest)) for t, *rest in rows[::step])  # type: ignore[misc]
