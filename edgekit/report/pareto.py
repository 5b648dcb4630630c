"""The plot to decide by: quality against a cost, as a Vega-Lite specification that Python fills once and the page fills again."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.candidate import Candidate, Cost, Quantity
from edgekit.measurement import Kind
from edgekit.report import choice, drawing, numbers
from edgekit.report.data import Run
from edgekit.report.drawing import BLUE, CARD, INK, MUTED, PALETTE, TIP, Figure

# kind -> (shape, filled, its sign in the key, what it means)
MARKS: Mapping[Kind, tuple[str, bool, str, str]] = {
    "measured": ("circle", True, "●", "measured here"),
    "counter": ("square", True, "■", "from a counter that models it"),
    "imported": ("triangle-up", True, "▲", "measured elsewhere, imported"),
    "calibrated-estimate": ("diamond", False, "◇", "estimated, calibrated on the device; the bar is its range"),
    "spec-estimate": ("circle", False, "○", "estimated from specifications; the bar is its range"),
}
FACETS = ("target", "model", "steps", "precision")
KEPT = {"opacity": "quantitative", "stroke": "nominal", "fill": "nominal"}  # channels whose values are given as they are
FAINT, BAR = 0.3, 0.6  # opacity of what is dominated, and of the range of what is not
HEIGHT = 330
MARGIN = 0.08  # of the span of quality, above and below
LONGEST_NAME = 160  # characters: a row is drawn, listed and told; a longer name says nothing more


def figure(run: Run) -> Figure | None:
    """The static plots, one a cost; None where no candidate has both a quality and a cost."""
    shown = rows(run)
    drawings = []
    for cost, (word, _) in choice.COSTS.items():
        if any(r[cost] for r in shown):
            drawings.append((f"By {word}", drawing.svg(filled(run, shown, cost), HEIGHT)))
    if not drawings:
        return None
    used = {r[cost][3] for r in shown for cost in choice.COSTS if r[cost]}
    key = [(sign, INK, meaning) for kind, (_, _, sign, meaning) in MARKS.items() if kind in used]
    key.append(("▬", INK, "front: the best quality up to each cost; dominated candidates are faint"))
    if any(r["doubtful"] for r in shown):
        key.append(("◎", drawing.RED, "NOISY, THROTTLED or TOO-SHORT: not to be relied on"))
    return Figure("Quality against cost", "mixed", tuple(drawings), tuple(key), caption(run))


def caption(run: Run) -> str:
    """What the reader must know of the axes and of the ranking."""
    told = ["Up and left is better. One candidate dominates another where it is at least as good and certainly cheaper: intervals that "
            "overlap rank nothing, so that a candidate beside the line may be on the front too."]  # fmt: skip
    ways = choice.methods(choice.plotted(run.candidates, "energy_mj"), "energy_mj")
    if len(ways) > 1:
        told.append(f"Energy is known in {len(ways)} ways here ({', '.join(ways[:4])}{', ...' if len(ways) > 4 else ''}): "
                    "a front across them ranks the ways as much as the candidates.")  # fmt: skip
    if any(c.verdict == "SIMULATED" for c in run.candidates):
        told.append("Simulated candidates have no latency.")
    return " ".join(told)


def rows(run: Run) -> list[dict[str, Any]]:
    """A row per candidate, in the order of the table, with everything that the page says of it."""
    short, marks = choice.short_names(run.candidates), choice.front_marks(run.candidates)
    facet, colours = paint(run.candidates)
    made: list[dict[str, Any]] = []
    for i, c in enumerate(choice.in_order(run.candidates)):
        own: dict[str, Any] = {name: _facet(c, name) for name in FACETS} | {cost: _cost(c, cost) for cost in choice.COSTS}
        made.append({
            "i": i, "name": numbers.cut(short[c.name], LONGEST_NAME), **own,
            "front": [cost for cost, (_, unit) in choice.COSTS.items() if unit in marks[c.name].split(", ")], "label": _label(c, run.candidates),
            "quality": c.quality, "colour": colours.get(own[facet], MUTED) if facet else BLUE, "doubtful": c.verdict in choice.DOUBTFUL,
            "tip": _tip(run, c, numbers.cut(short[c.name], LONGEST_NAME), marks[c.name]),
        })  # fmt: skip
    return made


def _facet(c: Candidate, name: str) -> str:
    if name == "steps":
        return "no steps" if c.steps is None else f"T={c.steps}"
    return numbers.cut(str(getattr(c, name)), 60)


def _cost(c: Candidate, cost: Cost) -> list[Any] | None:
    """[value, low, high, kind]; None where it is not to be drawn."""
    q: Quantity | None = getattr(c, cost) if choice.plotted([c], cost) else None
    return None if q is None else [q.value, q.low, q.high, q.kind]


def scale_of(run: Run) -> float:
    """What a quality is multiplied by to be drawn."""
    return 100.0 if numbers.is_share(run) else 1.0


def facets(candidates: Sequence[Candidate]) -> list[str]:
    """What the page can be filtered by: facets with several values; of model and steps one, where each says the other."""
    found = [name for name in FACETS if len({_facet(c, name) for c in candidates}) > 1]
    pairs = {(_facet(c, "model"), _facet(c, "steps")) for c in candidates}
    same = len(pairs) == len({m for m, _ in pairs}) == len({s for _, s in pairs})
    return [name for name in found if not (same and name == "model" and "steps" in found)]


def _label(c: Candidate, candidates: Sequence[Candidate]) -> str:
    """What stands beside a mark on the front: the facets that differ."""
    there = [_facet(c, name) for name in ("steps", "precision", "target") if len({_facet(o, name) for o in candidates}) > 1]
    return " ".join(there)[:32] or c.format


def _tip(run: Run, c: Candidate, name: str, mark: str) -> list[str]:
    told = [name, f"{numbers.score(run, c.quality)} {run.score_name}" if c.quality is not None else "no score"]
    for cost, (word, unit) in choice.COSTS.items():
        q: Quantity | None = getattr(c, cost)
        if cost == "latency_ms" and c.verdict == "SIMULATED":
            told.append("latency: simulated, none")
        elif q is None:
            told.append(f"{word}: none")
        else:
            told.append(f"{word}: {numbers.with_kind(q, unit)}, {numbers.interval(q.low, q.high)}" + (f"; {q.note}" if q.note else ""))
    told += [c.device] if c.device != c.target else []
    told += [f"of all candidates: on the front by {mark}" if mark else "of all candidates: on no front"]
    return [numbers.cut(t, LONGEST_NAME) for t in (*told, *c.notes[:2])]


def paint(candidates: Sequence[Candidate]) -> tuple[str, Mapping[str, str]]:
    """(facet, colour of each of its values) for the first facet that has several, but not too many; ("", {}) for none."""
    for name in ("target", "precision", "steps", "model"):
        counted = Counter(_facet(c, name) for c in candidates)
        if len(counted) > 1:
            most = [value for value, _ in counted.most_common(len(PALETTE))]
            return name, dict(zip(sorted(most), PALETTE, strict=False))
    return "", {}


def spec(run: Run) -> dict[str, Any]:
    """The specification with empty data sets `line`, `bars`, `points`, `rings` and `labels`."""
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "scale": {}, "axis": {}}
    title = run.score_name + (", %" if numbers.is_share(run) else "")
    y: dict[str, Any] = {"field": "y", "type": "quantitative", "scale": {"zero": False, "nice": False}, "axis": {"title": title, "tickCount": 6}}

    def layer(data: str, mark: dict[str, Any], **encoding: Any) -> dict[str, Any]:
        return {"data": {"name": data}, "mark": mark, "encoding": {"x": copy.deepcopy(x), "y": y, **encoding}}

    text = {"type": "text", "align": "right", "dx": -9, "dy": -9, "fontSize": 11}
    as_it_is = {name: {"field": name, "type": kind, "scale": None} for name, kind in KEPT.items()}
    shape = {"field": "shape", "type": "nominal", "scale": None}
    labels = [layer("labels", {**text, **how}, text={"field": "label"}) for how in (
        {"color": CARD, "stroke": CARD, "strokeWidth": 4}, {"color": INK},  # first what keeps lines from crossing the letters
    )]  # fmt: skip
    return {
        "datasets": {"line": [], "bars": [], "points": [], "rings": [], "labels": []},
        "layer": [
            layer("line", {"type": "line", "interpolate": "step-after", "color": INK, "strokeWidth": 1.5, "strokeOpacity": 0.55}),
            layer("bars", {"type": "rule", "strokeWidth": 1}, x2={"field": "x2"}, stroke=as_it_is["stroke"], opacity=as_it_is["opacity"]),
            layer("rings", {"type": "point", "shape": "circle", "size": 210, "stroke": drawing.RED, "strokeWidth": 1.25, "fill": None}),
            layer("points", {"type": "point", "size": 62, "strokeWidth": 1.75}, shape=shape, **as_it_is, description={"field": "said"}),
            *labels,
        ],
        "config": drawing.CONFIG, **drawing.FRAME,
    }  # fmt: skip


def filled(run: Run, shown: Sequence[Mapping[str, Any]], cost: Cost) -> dict[str, Any]:
    """The specification with the data of one cost. page.js does the same with the rows that a reader leaves."""
    there = sorted((r for r in shown if r["quality"] is not None and r[cost]), key=lambda r: r[cost][0])
    word, unit = choice.COSTS[cost]
    times = scale_of(run)
    quality = [times * r["quality"] for r in there]
    room = max(MARGIN * (max(quality) - min(quality)), 0.01 * abs(max(quality))) or 1.0  # engines that differ in the sixth digit are one line
    low = min(r[cost][1] if r[cost][1] > 0 else r[cost][0] for r in there)
    scale, axis = _axis(low, max(r[cost][2] for r in there), f"{word}, {unit} per inference")
    best, line = float("-inf"), []
    for r in there:
        if cost in r["front"] and r["quality"] > best:
            best = r["quality"]
            line.append({"x": r[cost][0], "y": times * best})
    line.append({"x": scale["domain"][1], "y": times * best})
    made = spec(run)
    made["datasets"] = {
        "line": line, "labels": [], "points": [_point(r, cost, times) for r in there],
        "bars": [{"x": max(r[cost][1], scale["domain"][0]), "x2": r[cost][2], "y": times * r["quality"], "stroke": r["colour"],
                  "opacity": BAR if cost in r["front"] else FAINT / 2} for r in there if r[cost][2] > r[cost][1]],
        "rings": [{"x": r[cost][0], "y": times * r["quality"]} for r in there if r["doubtful"]],
    }  # fmt: skip
    for layer in made["layer"]:
        layer["encoding"]["x"] |= {"scale": scale, "axis": axis}
        layer["encoding"]["y"] = {**layer["encoding"]["y"], "scale": {"domain": [min(quality) - room, max(quality) + room], "nice": False}}
    return made


def _point(r: Mapping[str, Any], cost: Cost, times: float) -> dict[str, Any]:
    shape, full, *_ = MARKS[r[cost][3]]
    return {
        "i": r["i"], "x": r[cost][0], "y": times * r["quality"], "shape": shape, "stroke": r["colour"], "fill": r["colour"] if full else CARD,
        "opacity": 1 if cost in r["front"] else FAINT, "said": TIP + r["name"],
    }  # fmt: skip


def _axis(low: float, high: float, title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if low <= 0 or high / low < drawing.LOG_FROM:
        return {"type": "linear", "domain": [min(0, 1.05 * low), 1.05 * high], "nice": False}, {"title": title, "tickCount": 6}
    domain = [low / 1.3, high * 1.3]
    axis = {"title": f"{title} (logarithmic)", "values": drawing.log_ticks(*domain), "format": drawing.TICKS}
    return {"type": "log", "domain": domain, "nice": False}, axis
