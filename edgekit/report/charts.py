"""The plots of a deployed model: score, spikes, latency and estimated energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgekit.report import drawing, numbers, words
from edgekit.report.data import Run
from edgekit.report.drawing import BLUE, CARD, GREEN, INK, MUTED, ORANGE, PURPLE, WIDTH, Figure
from edgekit.report.energy_tables import estimated
from edgekit.report.time_tables import timings

if TYPE_CHECKING:
    import altair as alt

CONTROLS = (("diamond", ORANGE, "◆◇"), ("triangle-down", PURPLE, "▼▽"), ("square", GREEN, "■□"))  # filled, hollow
_REACH = 2.0  # a control farther below the rest than so many times their span is drawn on the axis' floor


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
    points = drawing.data({"T": r.steps, "score": scale * r.score, "text": numbers.score(run, r.score, unit=False)} for r in stages)
    line = alt.Chart(points)
    layers: list[Any] = [
        line.mark_line(color=BLUE, strokeWidth=2).encode(x=x, y=y),
        line.mark_point(color=BLUE, filled=True, size=55, opacity=1).encode(x=x, y=y),
        line.mark_text(dy=-12, color=INK, fontSize=11).encode(x=x, y=y, text="text:N"),
    ]
    key = [("●", BLUE, "trained stage by stage, from the most timesteps to the fewest")]
    if ann:
        rule = alt.Chart(drawing.data([{"score": scale * ann.score}])).mark_rule(color=MUTED, strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(rule.encode(y=y))
        key.append(("╌", MUTED, f"{ann.label}: {numbers.score(run, ann.score)}"))
    aside = min(20.0, 0.35 * WIDTH / len({r.steps for r in (*stages, *controls)}))  # beside the stage's number, in the same T
    for i, r in enumerate(controls):
        shape, colour, marks = CONTROLS[i % len(CONTROLS)]
        below = scale * r.score < low
        at = drawing.data([{"T": r.steps, "score": max(scale * r.score, low)}])
        drawn = alt.Chart(at).mark_point(shape=shape, color=colour, filled=not below, size=75, opacity=1, strokeWidth=1.5, xOffset=aside)
        layers.append(drawn.encode(x=x, y=y))
        key.append((marks[below], colour, f"{r.label}: {numbers.score(run, r.score)}" + (" (below the axis)" if below else "")))
    caption = f"{run.test_samples:,} test samples. The axis does not start at 0." + (
        " The controls say what the stages are worth." if controls else ""
    )
    return Figure(f"{run.score_name.capitalize()} by timesteps", "counted", (("", drawing.svg(alt.layer(*layers), 250)),), tuple(key), caption)


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
    base = alt.Chart(drawing.data(cells)).encode(
        x=alt.X("T:O", title="timesteps T", sort=sorted(r.steps or 0 for r in stages), axis=alt.Axis(labelAngle=0, domain=False)),
        y=alt.Y("layer:N", title=None, sort=names, axis=alt.Axis(labelLimit=110, domain=False)),
    )
    top = max([1e-9, *(c["value"] for c in cells)])
    shade = alt.FillOpacity("value:Q", scale=alt.Scale(domain=[0, top], range=[0.04, 0.5]), legend=None)
    layers = [base.mark_rect(fill=BLUE, stroke=CARD, strokeWidth=2).encode(fillOpacity=shade), base.mark_text(color=INK).encode(text="text:N")]
    caption = "Spikes of one inference, summed over its T steps and averaged over the layer's neurons; first layer on top."
    svg = drawing.svg(alt.layer(*layers), max(120, 30 * len(names) + 40))
    return Figure("Spikes per neuron, by layer and timesteps", "counted", (("", svg),), (), caption)


def latency(run: Run) -> Figure | None:
    """p50 of one inference on one thread, between its minimum and p90; a simulator's time is no latency."""
    import altair as alt

    real = [(b, m) for b, m in timings(run) if m.verdict != "SIMULATED" and m.load.scenario == "single"]
    found = [(b, m) for b, m in real if m.threads == 1] or real
    if not found:
        return None
    rows: list[dict[str, Any]] = []
    for i, (b, m) in enumerate(found):
        told = f"{numbers.significant(m.latency_p50_ms)} ms" + (f" {m.verdict}" if m.verdict != "VALID" else "")
        rows.append({"name": f"{b.label} on {numbers.engine(m.runtime)}", "text": told, "low": m.latency_min_ms, "mid": m.latency_p50_ms,
                     "high": m.latency_p90_ms or m.latency_p50_ms, **_lines(i)})  # fmt: skip
    x, scale = drawing.value_axis([r[k] for r in rows for k in ("low", "high")], "milliseconds")
    data, rows_scale = drawing.data(rows), _row_scale(len(rows))
    chart = alt.Chart(data)
    middle = alt.Y("bar:Q", scale=rows_scale, axis=None)
    rule = chart.mark_rule(color=BLUE, strokeWidth=1.5)
    layers = [*_names(data, len(rows)), rule.encode(x=alt.X("low:Q", scale=scale, axis=x), x2="high:Q", y=middle)]
    for end in ("low", "high"):
        layers.append(rule.encode(x=alt.X(f"{end}:Q", scale=scale, axis=x), y=alt.Y("top:Q", scale=rows_scale, axis=None), y2="bottom:Q"))
    dot = chart.mark_point(stroke=BLUE, fill=BLUE, size=45, opacity=1, strokeWidth=1.5)
    layers.append(dot.encode(x=alt.X("mid:Q", scale=scale, axis=x), y=middle))
    threads = "one thread, pinned to one core" if any(m.threads == 1 for _, m in found) else "all cores"
    caption = f"One inference at a time on {'; '.join(dict.fromkeys(m.device for _, m in found))}." + drawing.axis_words(scale)
    if len(real) < len(timings(run)) and any(m.verdict == "SIMULATED" for _, m in timings(run)):
        caption += " Simulators are not drawn: their time says nothing of the device."
    key = (("●", BLUE, f"p50 between minimum and p90, {threads}"),)
    return Figure("Latency by bundle", "measured", (("", drawing.svg(alt.layer(*layers), _row_height(len(rows)))),), key, caption)


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
    axis, scale = drawing.value_axis([r[k] for r in rows for k in ("low", "high")], f"estimated {unit} per inference")
    data, n = drawing.data(rows), len(rows)
    y = alt.Y("top:Q", scale=_row_scale(n), axis=None)
    bar = alt.Chart(data).mark_rect(fill=MUTED, fillOpacity=0, stroke=MUTED, strokeWidth=1.25, strokeDash=[3, 2])
    dot = alt.Chart(data).mark_point(fill=CARD, stroke=MUTED, size=45, opacity=1, strokeWidth=1.5)
    layers = [
        *_names(data, n),
        bar.encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", y=y, y2="bottom:Q"),
        dot.encode(x=alt.X("mid:Q", scale=scale, axis=axis), y=alt.Y("bar:Q", scale=_row_scale(n), axis=None)),
    ]
    return drawing.svg(alt.layer(*layers), _row_height(n))


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
