"""The plots of a profile: a histogram of latencies, power over time, and the machine meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from edgekit.measurement import Histogram, Measurement, PowerTrace
from edgekit.report import drawing, numbers
from edgekit.report.data import BundleRow, Run
from edgekit.report.drawing import BLUE, GRID, INK, MUTED, ORANGE, PALETTE, PURPLE, TIP, Figure, axis_of
from edgekit.report.time_tables import threads, timings

MOST = 6  # drawings in one figure; the tables hold the rest
MOST_TRACES = 2  # of the machine meanwhile: three curves each
PARTS = 160  # of a long trace: the lowest and the highest of each are drawn
TRACES = (("CPU pressure, %", ORANGE, 100.0), ("clock, MHz", BLUE, 1.0), ("temperature, °C", PURPLE, 1.0))  # as in Conditions.trace


def figures(run: Run) -> tuple[Figure, ...]:
    """The plots that there is data for."""
    return tuple(f for f in (histograms(run), power(run), conditions(run)) if f)


def _named(b: BundleRow, m: Measurement) -> str:
    cores = "all cores" if m.threads == 0 else f"{threads(m)} thread" + "s" * (m.threads not in (1, None))
    scenario = "" if m.load.scenario == "single" else f", {m.load.scenario}"
    return f"{b.label} on {numbers.engine(m.runtime)}, {cores}{scenario}"


def histograms(run: Run) -> Figure | None:
    """How often each latency was seen; what the scheduler disturbed stands on top of the rest."""
    found = [(b, m, m.histogram) for b, m in timings(run) if m.histogram and m.verdict != "SIMULATED"]
    found.sort(key=lambda x: x[1].threads != 1)  # one thread first: the figure that compares engines
    if not found:
        return None
    drawings = tuple((_dropped(b, m), drawing.svg(_histogram(m, h), 170)) for b, m, h in found[:MOST])
    key = (("■", BLUE, "undisturbed"), ("■", ORANGE, "preempted: the scheduler took the core away"), ("╌", INK, "p50 of all samples"))
    above = sum(h.above for _, _, h in found[:MOST])
    caption = (
        "Samples of all processes in bins that grow with the latency; heights are square roots, so that single samples show. Nothing is dropped "
        "without being shown: p50, p90 and p99 are of all samples."
        + (f" {above:,} samples lie beyond the right edges." if above else "")
        + drawing.left_out(len(found), MOST)
    )
    return Figure("Latency, sample by sample", "measured", drawings, key, caption)


def _dropped(b: BundleRow, m: Measurement) -> str:
    share = f": {100 * (m.preempted_samples or 0) / m.samples:.1f} % preempted" if m.samples else ""
    return f"{_named(b, m)}{share}" + (f", {m.verdict}" if m.verdict != "VALID" else "")


def _histogram(m: Measurement, h: Histogram) -> dict[str, Any]:
    bars = []
    for low, high, count, calm in zip(h.edges_ms, h.edges_ms[1:], h.counts, h.undisturbed, strict=False):
        said = f"{TIP}{numbers.significant(low)}–{numbers.significant(high)} ms: {count:,} samples, {count - calm:,} of them preempted"
        for bottom, top, colour in ((0, calm, BLUE), (calm, count, ORANGE)):
            if top > bottom:
                bars.append({"x": low, "x2": high, "y": bottom, "y2": top, "fill": colour, "said": said})
    ends = (h.edges_ms[0], h.edges_ms[-1])
    x = axis_of("x", "milliseconds (logarithmic)", ends, log=True, format=drawing.TICKS, values=_ticks(*ends), grid=False)
    ticks = [0, *(float(f"{share * max(h.counts):.1g}") for share in (0.08, 0.4, 0.9))]
    y = axis_of("y", "samples", values=ticks, format=",d") | {"scale": {"type": "sqrt"}}
    encoding = {
        "x": x, "x2": {"field": "x2"}, "y": y, "y2": {"field": "y2"}, "fill": {"field": "fill", "type": "nominal", "scale": None},
        "description": {"field": "said"},
    }  # fmt: skip
    rule = {"type": "rule", "color": INK, "strokeDash": [4, 3], "strokeWidth": 1.25}
    return {"layer": [
        {"data": {"values": bars}, "mark": {"type": "rect"}, "encoding": encoding},
        {"data": {"values": [{"x": m.latency_p50_ms}]}, "mark": rule, "encoding": {"x": x}},
    ]}  # fmt: skip


def _ticks(low: float, high: float) -> list[float]:
    """Four figures with two digits, evenly apart on a logarithmic axis; powers of ten where it is long."""
    if high / low > 30:
        return drawing.log_ticks(low, high)
    return [float(f"{low * (high / low) ** (i / 3):.2g}") for i in range(4)]


def power(run: Run) -> Figure | None:
    """Watts over time, with the phases under them."""
    found = [(b, m, m.power) for b, m in timings(run) if m.power and len(m.power.times_s) > 1]
    if not found:
        return None
    channels = list(dict.fromkeys(name for _, _, p in found[:MOST] for name in p.watts))
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(channels)}
    drawings = tuple(
        (f"{_named(b, m)}: {m.energy.scope if m.energy else 'no total'}", drawing.svg(_power(p, colours), 190)) for b, m, p in found[:MOST]
    )
    kinds = dict.fromkeys(m.energy.kind if m.energy else "measured" for _, m, _ in found)
    key = tuple(("▬", colour, name) for name, colour in colours.items())
    caption = f"Each channel as it was read ({' and '.join(kinds)}); channels need not add up.{drawing.left_out(len(found), MOST)}"
    return Figure("Power over time", "measured", drawings, key, caption)


def _power(p: PowerTrace, colours: dict[str, str]) -> dict[str, Any]:
    read = [w for ws in p.watts.values() for w in ws if w is not None] or [0.0, 1.0]
    x = axis_of("x", "seconds", (p.times_s[0], p.times_s[-1]), grid=False)
    y = axis_of("y", "watt", (min(0.0, *read), 1.15 * max(read) or 1.0), tickCount=4)
    lines = [
        {"x": t, "y": w, "channel": name, "colour": colours[name]}
        for name, ws in p.watts.items() for t, w in thinned(list(zip(p.times_s, ws, strict=True)))
    ]  # fmt: skip
    spans = [
        {"x": low, "x2": high, "mid": (low + high) / 2, "text": name, "opacity": 0.5 if i % 2 else 0.0} for i, (name, low, high) in enumerate(p.spans)
    ]
    opacity = {"field": "opacity", "scale": None, "type": "quantitative"}
    stroke = {"field": "colour", "type": "nominal", "scale": None}
    text = {"type": "text", "baseline": "top", "dy": 3, "fontSize": 11, "color": MUTED, "limit": 110}
    return {"layer": [
        {"data": {"values": spans}, "mark": {"type": "rect", "fill": GRID}, "encoding": {"x": x, "x2": {"field": "x2"}, "opacity": opacity}},
        {"data": {"values": lines}, "mark": {"type": "line", "strokeWidth": 1.5},
         "encoding": {"x": x, "y": y, "detail": {"field": "channel"}, "stroke": stroke}},
        {"data": {"values": spans}, "mark": text, "encoding": {"x": {**x, "field": "mid"}, "y": {"value": 0}, "text": {"field": "text"}}},
    ]}  # fmt: skip


def thinned(points: Sequence[tuple[float, float | None]]) -> Iterator[tuple[float, float]]:
    """A trace without what was not read; of a long one the lowest and the highest of each of PARTS, so that no peak is lost."""
    there = [(t, v) for t, v in points if v is not None]
    if len(there) <= 2 * PARTS:
        yield from there
        return
    size = math.ceil(len(there) / PARTS)
    for start in range(0, len(there), size):
        part = there[start : start + size]
        ends = {part.index(min(part, key=lambda p: p[1])), part.index(max(part, key=lambda p: p[1]))}
        yield from (part[i] for i in sorted(ends))


def conditions(run: Run) -> Figure | None:
    """CPU pressure, clock and temperature over time, of the measurements that have them; what is in doubt comes first."""
    found = [(b, m) for b, m in timings(run) if len(m.conditions.trace) > 1]
    found.sort(key=lambda x: (x[1].verdict == "VALID", x[1].threads != 1))
    drawings = []
    for b, m in found[:MOST_TRACES]:
        panels = []
        for i, (name, colour, factor) in enumerate(TRACES, 1):
            values = [(r[0], None if (v := r[i]) is None else factor * v) for r in m.conditions.trace]
            if kept := list(thinned(values)):
                panels.append(_trace(kept, name, colour))
        if panels:
            drawings.append((f"{_named(b, m)}, {m.verdict}", drawing.svg({"vconcat": panels, "spacing": 12}, 96 * len(panels))))
    if not drawings:
        return None
    caption = f"As the kernel said it while the samples were taken.{drawing.left_out(len(found), MOST_TRACES)}"
    return Figure("The machine meanwhile", "measured", tuple(drawings), (), caption)


def _trace(values: list[tuple[float, float]], name: str, colour: str) -> dict[str, Any]:
    low, high = min(v for _, v in values), max(v for _, v in values)
    room = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
    return {
        "width": drawing.WIDTH - 60, "height": 56,
        "title": {"text": name, "anchor": "start", "fontSize": 12, "fontWeight": "normal", "color": MUTED, "offset": 4},
        "data": {"values": [{"x": t, "y": v} for t, v in values]},
        "mark": {"type": "line", "color": colour, "strokeWidth": 1.5},
        "encoding": {
            "x": axis_of("x", None, (values[0][0], values[-1][0]), grid=False, tickCount=5, format="~g"),
            "y": axis_of("y", None, (max(0.0, low - room), high + room), tickCount=2, minExtent=44, maxExtent=44),
        },
    }  # fmt: skip
