"""The plot of layers under the roof: achieved operations a second against operations per byte, and what this machine can do at most."""

from __future__ import annotations

import math
from typing import Any

from edgekit.layer_profile import LayerProfile, Roof
from edgekit.report import drawing, numbers
from edgekit.report.data import Run
from edgekit.report.drawing import BLUE, GREEN, INK, MUTED, ORANGE, TIP, Figure, axis_of
from edgekit.report.layer_tables import title

MOST = 6  # drawings; the tables hold the rest
NAMED_FROM = 0.05  # of the time: layers that are named in the plot, where there is room
PRECISIONS = {"f32": BLUE, "bf16": ORANGE, "f16": ORANGE, "int8": GREEN}
PLOT = (320.0, 245.0)  # pixels of the area within the axes, near enough to place names


def figure(run: Run) -> Figure | None:
    """None where no layer has operations, bytes and a roof above it."""
    found = [(b.label, p, p.roof, rows) for b in run.bundles for p in b.layers if p.roof and _known(p.roof) and (rows := _rows(p))]
    if not found:
        return None
    drawings = tuple((title(label, p), drawing.svg(_drawn(rows, roof), 300)) for label, p, roof, rows in found[:MOST])
    precisions = dict.fromkeys(layer.precision for _, p, _, _ in found for layer in p.layers)
    key = [("●", PRECISIONS.get(name, MUTED), f"layer in {name or 'unknown precision'}; its area is its share of the time") for name in precisions]
    key.append(("▬", MUTED, "the roof: the most that a probe reached on this machine, so a roof from below"))
    above = any(r["y"] > 1.05 * r["x"] * roof.bandwidth_gb_s for _, _, roof, rows in found for r in rows)
    how = dict.fromkeys(f"{what}: {text}" for _, _, roof, _ in found for what, text in roof.how.items())
    caption = (
        "Up is faster; on the slope memory limits, on the flat arithmetic does. Times were measured with profiling on, operations and bytes are "
        f"counted; both axes are logarithmic. Roof by {'; '.join(how) or 'a probe'}."
        + (" A layer above the slope found its data in a cache." if above else "")
        + drawing.left_out(len(found), MOST)
    )
    return Figure("Layers under the roof", "measured", drawings, tuple(key), caption)


def _known(roof: Roof) -> bool:
    return roof.bandwidth_gb_s > 0 and any(peak > 0 for peak in roof.compute_gops.values())


def _rows(p: LayerProfile) -> list[dict[str, Any]]:
    rows = []
    for layer in p.layers:
        if layer.operations and layer.bytes_moved and layer.gops:
            name = layer.name or layer.operator
            said = f"{name}: {numbers.significant(layer.gops)} GOP/s, {numbers.significant(layer.time_us)} µs, {100 * layer.share:.1f} %"
            rows.append({
                "x": layer.operations / layer.bytes_moved, "y": layer.gops, "size": 30 + 900 * layer.share, "said": TIP + said,
                "colour": PRECISIONS.get(layer.precision, MUTED), "label": name[:18] if layer.share >= NAMED_FROM else "",
            })  # fmt: skip
    return rows


def _drawn(rows: list[dict[str, Any]], roof: Roof) -> dict[str, Any]:
    peaks = {name: peak for name, peak in roof.compute_gops.items() if peak > 0}
    slope = roof.bandwidth_gb_s
    knees = [peak / slope for peak in peaks.values()]
    xs = (min([*(r["x"] for r in rows), *knees]) / 2.5, max([*(r["x"] for r in rows), *knees]) * 2.5)
    top = max([*(r["y"] for r in rows), *peaks.values()]) * 1.8
    ys = (max(min([*(r["y"] for r in rows), xs[0] * slope]) / 1.5, top / 1e6), top)
    start = max(xs[0], ys[0] / slope)
    lines = [
        {"x": x, "y": y, "of": name} for name, peak in peaks.items() for x, y in ((start, start * slope), (peak / slope, peak), (xs[1], peak))
    ]
    texts = [{"x": xs[1], "y": peak, "text": f"{name[:12]} {numbers.significant(peak)} GOP/s"} for name, peak in peaks.items()]
    at = {
        "x": axis_of("x", "operations per byte", xs, log=True, format=drawing.TICKS, values=drawing.log_ticks(*xs)),
        "y": axis_of("y", "GOP/s", ys, log=True, format=drawing.TICKS, values=drawing.log_ticks(*ys)),
    }
    size, fill = ({"field": field, "type": kind, "scale": None} for field, kind in (("size", "quantitative"), ("colour", "nominal")))
    points = {**at, "size": size, "fill": fill, "description": {"field": "said"}}
    roofs = {"type": "text", "align": "right", "dy": -7, "dx": -2, "fontSize": 11, "color": MUTED}
    layers: list[dict[str, Any]] = [
        {"data": {"values": lines}, "mark": {"type": "line", "color": MUTED, "strokeWidth": 1.5}, "encoding": {**at, "detail": {"field": "of"}}},
        {"data": {"values": texts}, "mark": roofs, "encoding": {**at, "text": {"field": "text"}}},
        {"data": {"values": rows}, "mark": {"type": "point", "filled": True, "opacity": 0.8}, "encoding": points},
    ]
    for align, dx in (("left", 12), ("right", -12)):
        named = [r for r in _placed(rows, texts, xs, ys) if r["align"] == align]
        mark = {"type": "text", "align": align, "dx": dx, "fontSize": 11, "color": INK, "baseline": "middle"}
        layers.append({"data": {"values": named}, "mark": mark, "encoding": {**at, "text": {"field": "label"}}})
    return {"layer": layers}


def _placed(rows: list[dict[str, Any]], roofs: list[dict[str, Any]], xs: tuple[float, float], ys: tuple[float, float]) -> list[dict[str, Any]]:
    """Names of layers right of their mark, else left of it; one that would lie on another, a mark or a roof's name is left out."""

    def pixel(r: dict[str, Any]) -> tuple[float, float]:
        return tuple(p * math.log(v / a) / math.log(b / a) for p, v, (a, b) in zip(PLOT, (r["x"], r["y"]), (xs, ys), strict=True))  # type: ignore[return-value]

    # (left, right, y) in pixels
    taken = [(PLOT[0] - 6.5 * len(r["text"]), PLOT[0], pixel(r)[1] + above) for r in roofs for above in (0, 10)]
    taken += [(x - 8, x + 8, y) for x, y in map(pixel, rows)]
    placed = []
    for r in sorted((r for r in rows if r["label"]), key=lambda r: -r["size"]):
        x, y = pixel(r)
        wide = 6.2 * len(r["label"])
        for align, left in (("left", x + 12), ("right", x - 12 - wide)):
            free = all(abs(y - other) > 12 or left > right or left + wide < begin for begin, right, other in taken)
            if free and left > 0 and left + wide < PLOT[0] + 5:
                taken.append((left, left + wide, y))
                placed.append({**r, "align": align})
                break
    return placed
