"""The plots of a report as static SVG: drawn by Vega-Lite from data alone, then cut down to shapes and text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from edgekit.report import numbers, words
from edgekit.report.data import Run
from edgekit.report.tables import estimated

if TYPE_CHECKING:
    import altair as alt

WIDTH = 380  # pixels; a phone shows it at about this size, so that 12 px of text stay 12 px
_FONT = "Helvetica, Arial, sans-serif"
# page.css gives each of these its dark counterpart
INK, MUTED, GRID, BLUE, CARD = "#1f2328", "#59636e", "#e3e6ea", "#1f6feb", "#ffffff"
CONTROLS = (("diamond", "#c2571a", "◆◇"), ("triangle-down", "#7a4fd0", "▼▽"), ("square", "#2b7a4b", "■□"))  # filled, hollow
_LOG_FROM = 20.0  # largest / smallest from which an axis is logarithmic; below it starts at 0
_REACH = 2.0  # a control farther below the rest than so many times their span is drawn on the axis' floor

_SHAPES = frozenset({"svg", "g", "path", "text", "tspan", "rect", "line", "circle"})
_DRAWING = frozenset({
    "viewBox", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "dx", "dy", "width", "height", "fill", "fill-opacity",
    "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "text-anchor",
    "font-size", "font-weight", "font-family", "font-style", "class",
})  # fmt: skip
_NAMESPACE = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Figure:
    """One plot: its title, its drawings with a heading each, what its marks mean, and how to read it."""

    title: str
    kind: str
    drawings: tuple[tuple[str, str], ...]  # (heading or "", SVG text)
    key: tuple[tuple[str, str, str], ...]  # (mark, colour, meaning)
    caption: str


def figures(run: Run) -> tuple[Figure, ...]:
    """The plots that there is data for."""
    return tuple(f for f in (score_by_steps(run), spikes_by_layer(run), latency(run), energy(run)) if f)


def score_by_steps(run: Run) -> Figure | None:
    """Score against T: the stages as a line, the ANN as a level, each control as a mark of its own."""
    import altair as alt

    stages, ann = words.stages(run), words.ann_of(run)
    controls = [r for r in run.training if r.role == "control" and r.steps]
    if not stages:
        return None
    scale = 100.0 if numbers.is_share(run) else 1.0
    low, high = _score_axis([scale * r.score for r in (*stages, *([ann] if ann else []))], [scale * r.score for r in controls])
    y_scale = alt.Scale(domain=[low, high], zero=False, nice=False)
    unit = ", %" if numbers.is_share(run) else ""
    x = alt.X("T:O", title="timesteps T", sort=sorted({r.steps or 0 for r in (*stages, *controls)}), axis=alt.Axis(labelAngle=0))
    y = alt.Y("score:Q", scale=y_scale, title=f"{run.score_name}{unit}")
    points = _data({"T": r.steps, "score": scale * r.score, "text": numbers.score(run, r.score, unit=False)} for r in stages)
    line = alt.Chart(points)
    layers: list[Any] = [
        line.mark_line(color=BLUE, strokeWidth=2).encode(x=x, y=y),
        line.mark_point(color=BLUE, filled=True, size=55, opacity=1).encode(x=x, y=y),
        line.mark_text(dy=-12, color=INK, fontSize=11).encode(x=x, y=y, text="text:N"),
    ]
    key = [("●", BLUE, "trained stage by stage, from the most timesteps to the fewest")]
    if ann:
        rule = alt.Chart(_data([{"score": scale * ann.score}])).mark_rule(color=MUTED, strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(rule.encode(y=y))
        key.append(("╌", MUTED, f"{ann.label}: {numbers.score(run, ann.score)}"))
    aside = min(20.0, 0.35 * WIDTH / len({r.steps for r in (*stages, *controls)}))  # beside the stage's number, in the same T
    for i, r in enumerate(controls):
        shape, colour, marks = CONTROLS[i % len(CONTROLS)]
        below = scale * r.score < low
        at = _data([{"T": r.steps, "score": max(scale * r.score, low)}])
        drawn = alt.Chart(at).mark_point(shape=shape, color=colour, filled=not below, size=75, opacity=1, strokeWidth=1.5, xOffset=aside)
        layers.append(drawn.encode(x=x, y=y))
        key.append((marks[below], colour, f"{r.label}: {numbers.score(run, r.score)}" + (" (below the axis)" if below else "")))
    caption = f"{run.test_samples:,} test samples. The axis does not start at 0." + (
        " The controls say what the stages are worth." if controls else ""
    )
    return Figure(f"{run.score_name.capitalize()} by timesteps", "counted", (("", _svg(alt.layer(*layers), 250)),), tuple(key), caption)


def _score_axis(main: Sequence[float], controls: Sequence[float]) -> tuple[float, float]:
    """From just below the lowest to just above the highest; controls that lie far below do not squeeze the rest."""
    low, high = min(main), max(main)
    reach = _REACH * max(high - low, 0.01 * abs(high), 1e-6)
    near = [c for c in controls if low - reach <= c]
    low, high = min([low, *near]), max([high, *near])
    room = max(high - low, 0.01 * abs(high), 1e-6)
    return low - 0.18 * room, high + 0.18 * room


def spikes_by_layer(run: Run) -> Figure | None:
    """Spikes per neuron and inference of each layer at each T, as numbers on a darker ground the more there are."""
    import altair as alt

    stages = [r for r in words.stages(run) if r.spikes_per_neuron]
    names = list(dict.fromkeys(name for r in stages for name in r.spikes_per_neuron))
    if not stages or not names:
        return None
    cells: list[dict[str, Any]] = [
        {"T": r.steps, "layer": name, "value": value, "text": numbers.significant(value, 2)}
        for r in stages for name, value in r.spikes_per_neuron.items()
    ]  # fmt: skip
    base = alt.Chart(_data(cells)).encode(
        x=alt.X("T:O", title="timesteps T", sort=sorted(r.steps or 0 for r in stages), axis=alt.Axis(labelAngle=0, domain=False)),
        y=alt.Y("layer:N", title=None, sort=names, axis=alt.Axis(labelLimit=110, domain=False)),
    )
    top = max([1e-9, *(c["value"] for c in cells)])
    shade = alt.FillOpacity("value:Q", scale=alt.Scale(domain=[0, top], range=[0.04, 0.5]), legend=None)
    layers = [base.mark_rect(fill=BLUE, stroke=CARD, strokeWidth=2).encode(fillOpacity=shade), base.mark_text(color=INK).encode(text="text:N")]
    caption = "Spikes of one inference, summed over its T steps and averaged over the layer's neurons; first layer on top."
    svg = _svg(alt.layer(*layers), max(120, 30 * len(names) + 40))
    return Figure("Spikes per neuron, by layer and timesteps", "counted", (("", svg),), (), caption)


def latency(run: Run) -> Figure | None:
    """p50 of one inference on one thread, between its minimum and p90; a simulator's time is hollow."""
    import altair as alt

    found = [(b, m) for b, m in words.timings(run) if m.threads == 1] or words.timings(run)
    if not found:
        return None
    rows: list[dict[str, Any]] = []
    for i, (b, m) in enumerate(found):
        simulated = m.verdict == "SIMULATED"
        told = f"{numbers.significant(m.latency_p50_ms)} ms" + (" (simulated)" if simulated else " NOISY" * (m.verdict == "NOISY"))
        rows.append({"name": f"{b.label} on {numbers.engine(m.runtime)}", "text": told, "low": m.latency_min_ms, "mid": m.latency_p50_ms,
                     "high": m.latency_p90_ms, "hollow": simulated, **_lines(i)})  # fmt: skip
    x, scale = _value_axis([r[k] for r in rows for k in ("low", "high")], "milliseconds")
    data = _data(rows)
    chart = alt.Chart(data)
    layers = [*_names(data, len(rows))]
    for field, hollow in (("datum.hollow", True), ("!datum.hollow", False)):
        some = chart.transform_filter(field)
        middle = alt.Y("bar:Q", scale=_row_scale(len(rows)), axis=None)
        layers.append(some.mark_rule(color=BLUE, strokeWidth=1.5, strokeDash=[2, 2] if hollow else [1, 0]).encode(
            x=alt.X("low:Q", scale=scale, axis=x), x2="high:Q", y=middle))  # fmt: skip
        for end in ("low", "high"):
            tick = some.mark_rule(color=BLUE, strokeWidth=1.5)
            top = alt.Y("top:Q", scale=_row_scale(len(rows)), axis=None)
            layers.append(tick.encode(x=alt.X(f"{end}:Q", scale=scale, axis=x), y=top, y2="bottom:Q"))
        dot = some.mark_point(stroke=BLUE, fill=CARD if hollow else BLUE, size=45, opacity=1, strokeWidth=1.5)
        layers.append(dot.encode(x=alt.X("mid:Q", scale=scale, axis=x), y=middle))
    threads = "one thread, pinned to one core" if any(m.threads == 1 for _, m in found) else "all cores"
    key = [("●", BLUE, f"p50 between minimum and p90, {threads}")]
    if any(r["hollow"] for r in rows):
        key.append(("○", BLUE, "time of a simulator on this CPU: says nothing of the device"))
    caption = f"One inference at a time on {found[0][1].device}." + _axis_words(scale)
    return Figure("Latency by bundle", "measured", (("", _svg(alt.layer(*layers), _row_height(len(rows)))),), tuple(key), caption)


def energy(run: Run) -> Figure | None:
    """Low to high of every estimate that pays for memory (or of a profile that has no other), one drawing a profile."""
    panels: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    found = [(label, e) for label, es in estimated(run) for e in es if words.energy_range(e)]
    paying = {e.profile for _, e in found if e.includes_memory}
    for label, e in found:
        energies = words.energy_range(e)
        if energies and e.includes_memory == (e.profile in paying):
            memory = "with memory" if e.includes_memory else "arithmetic only"
            rows = panels.setdefault(e.profile, (f"{e.label}, {memory}", []))[1]
            rows.append({"name": label, "low": energies[0], "mid": energies[1], "high": energies[2], **_lines(len(rows))})
    if not panels:
        return None
    drawings = tuple((heading, _energy_panel(rows)) for heading, rows in panels.values())
    key = (("▭", MUTED, "estimate, low to high"), ("○", MUTED, "estimate, middle"))
    caption = (
        "Counted operations times published prices, per inference: nothing here was measured. Axes differ from price profile to "
        "price profile; estimates whose bars overlap are not ranked."
    )
    return Figure("Energy, estimated", "estimate", drawings, key, caption)


def _energy_panel(rows: list[dict[str, Any]]) -> str:
    import altair as alt

    unit, nj = numbers.energy_unit(r["mid"] for r in rows)
    for r in rows:
        r["text"] = f"~{numbers.significant(r['mid'] / nj)} {unit} ({words.span((r['low'], r['mid'], r['high']), nj)})"
        r.update({k: r[k] / nj for k in ("low", "mid", "high")})
    axis, scale = _value_axis([r[k] for r in rows for k in ("low", "high")], f"estimated {unit} per inference")
    data, n = _data(rows), len(rows)
    y = alt.Y("top:Q", scale=_row_scale(n), axis=None)
    bar = alt.Chart(data).mark_rect(fill=MUTED, fillOpacity=0, stroke=MUTED, strokeWidth=1.25, strokeDash=[3, 2])
    dot = alt.Chart(data).mark_point(fill=CARD, stroke=MUTED, size=45, opacity=1, strokeWidth=1.5)
    layers = [
        *_names(data, n),
        bar.encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", y=y, y2="bottom:Q"),
        dot.encode(x=alt.X("mid:Q", scale=scale, axis=axis), y=alt.Y("bar:Q", scale=_row_scale(n), axis=None)),
    ]
    return _svg(alt.layer(*layers), _row_height(n))


def _lines(i: int) -> dict[str, float]:
    """Where row i writes (`write`) and draws (`bar`, from `top` to `bottom`), in rows."""
    return {"write": i + 0.3, "bar": i + 0.7, "top": i + 0.58, "bottom": i + 0.82}


def _row_height(rows: int) -> int:
    return 40 * rows + 45  # two lines a row, and the axis below


def _row_scale(rows: int) -> alt.Scale:
    import altair as alt

    return alt.Scale(domain=[rows, 0], nice=False, zero=False)


def _names(data: Any, rows: int) -> list[Any]:
    """Above each bar its name on the left and its value on the right: no room is lost to an axis of names."""
    import altair as alt

    y = alt.Y("write:Q", scale=_row_scale(rows), axis=None)
    text = alt.Chart(data)
    name = text.mark_text(align="left", color=INK, fontSize=12, limit=215).encode(x=alt.value(0), y=y, text="name:N")
    value = text.mark_text(align="right", color=MUTED, fontSize=11).encode(x=alt.value("width"), y=y, text="text:N")
    return [name, value]


def _value_axis(values: Iterable[float], title: str) -> tuple[alt.Axis, alt.Scale]:
    """An axis from 0, or a logarithmic one with powers of ten marked when the values are far apart."""
    import altair as alt

    there = [v for v in values if v > 0] or [1.0]
    low, high = min(there), max(there)
    if high / low < _LOG_FROM:
        return alt.Axis(title=title, tickCount=5, grid=True), alt.Scale(domain=[0, 1.05 * high], nice=False)
    low, high = low / 1.3, high * 1.3
    tens = [10.0**e for e in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return alt.Axis(title=f"{title} (logarithmic)", values=tens, format=",~g", grid=True), alt.Scale(type="log", domain=[low, high], nice=False)


def _axis_words(scale: alt.Scale) -> str:
    return " The axis is logarithmic." if scale.to_dict().get("type") == "log" else ""


def _data(rows: Iterable[dict[str, Any]]) -> Any:
    import altair as alt

    return alt.Data(values=list(rows))  # type: ignore[no-untyped-call]


def _svg(chart: Any, height: int) -> str:
    """Draw at WIDTH and keep the shapes only."""
    import altair as alt
    import vl_convert

    chart = chart.properties(width=WIDTH, height=height, background="transparent", padding={"left": 2, "right": 4, "top": 4, "bottom": 2},
                             autosize=alt.AutoSizeParams(type="fit", contains="padding"))  # fmt: skip
    chart = (
        chart.configure(font=_FONT)
        .configure_view(stroke=None)
        .configure_axis(labelColor=MUTED, titleColor=MUTED, titleFontWeight="normal", titleFontSize=12, labelFontSize=12, gridColor=GRID,
                        domainColor=GRID, tickColor=GRID, labelOverlap=True)
    )  # fmt: skip
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return shapes_only(vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=version))


def shapes_only(svg: str) -> str:
    """The SVG with nothing in it but shapes, text and their drawing attributes: no link, script, style, image or handler."""
    root = ElementTree.fromstring(svg)
    _strip(root)
    root.attrib.pop("width", None)  # the page sets the width; viewBox keeps the shape
    root.attrib.pop("height", None)
    root.set("role", "img")
    return ElementTree.tostring(root, encoding="unicode")


def _strip(element: ElementTree.Element) -> None:
    element.tag = element.tag.removeprefix(_NAMESPACE)
    element.attrib = {k: v for k, v in element.attrib.items() if k in _DRAWING and "url(" not in v.lower()}
    for child in list(element):
        if not isinstance(child.tag, str) or child.tag.removeprefix(_NAMESPACE) not in _SHAPES:
            element.remove(child)
        else:
            _strip(child)
