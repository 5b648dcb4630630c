"""How a report draws: static SVG by Vega-Lite from data alone, cut down to shapes and text, in colours that the page can swap."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    import altair as alt

WIDTH = 380  # pixels; a phone shows it at about this size, so that 12 px of text stay 12 px
FONT = "Helvetica, Arial, sans-serif"
# page.css gives each of these its dark counterpart
INK, MUTED, GRID, BLUE, CARD = "#1f2328", "#59636e", "#e3e6ea", "#1f6feb", "#ffffff"
ORANGE, PURPLE, GREEN, TEAL, PINK, OCHRE = "#c2571a", "#7a4fd0", "#2b7a4b", "#0f7c86", "#b83280", "#8a6d00"
RED = "#b42318"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, PINK, TEAL, OCHRE)
COLOURS = (INK, MUTED, RED, *PALETTE)  # that text of the page may have
LOG_FROM = 20.0  # largest / smallest from which an axis is logarithmic; below it starts at 0
TICKS = ",~g"
FRAME = {"background": "transparent", "padding": {"left": 2, "right": 4, "top": 4, "bottom": 2}, "autosize": {"type": "fit", "contains": "padding"}}
CONFIG = {
    "font": FONT, "view": {"stroke": None},
    "axis": {"labelColor": MUTED, "titleColor": MUTED, "titleFontWeight": "normal", "titleFontSize": 12, "labelFontSize": 12, "gridColor": GRID,
             "domainColor": GRID, "tickColor": GRID, "labelOverlap": True},
}  # fmt: skip
TIP = "tip:"  # begins a mark's description that is to be kept: it becomes the mark's title

_SHAPES = frozenset({"svg", "g", "path", "text", "tspan", "rect", "line", "circle"})
_DRAWING = frozenset({
    "viewBox", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "dx", "dy", "width", "height", "fill", "fill-opacity",
    "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "text-anchor",
    "font-size", "font-weight", "font-family", "font-style", "class",
})  # fmt: skip
_PLACES = frozenset({"transform", "d", "x", "y", "x1", "x2", "y1", "y2", "width", "height"})
_NAMESPACE = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Figure:
    """One plot: its title, its drawings with a heading each, what its marks mean, and how to read it."""

    title: str
    kind: str
    drawings: tuple[tuple[str, str], ...]  # (heading or "", SVG text)
    key: tuple[tuple[str, str, str], ...]  # (mark, colour, meaning)
    caption: str


def value_axis(values: Iterable[float], title: str) -> tuple[alt.Axis, alt.Scale]:
    """An axis from 0, or a logarithmic one when the values are far apart."""
    import altair as alt

    there = [v for v in values if v > 0] or [1.0]
    low, high = min(there), max(there)
    if high / low < LOG_FROM:
        return alt.Axis(title=title, tickCount=5, grid=True), alt.Scale(domain=[0, 1.05 * high], nice=False)
    axis = alt.Axis(title=f"{title} (logarithmic)", values=log_ticks(low / 1.3, high * 1.3), format=TICKS, grid=True)
    return axis, alt.Scale(type="log", domain=[low / 1.3, high * 1.3], nice=False)


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times each where there are few of them."""
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 400 else (1,)
    return [t for e in tens for k in steps if low <= (t := float(f"{k}e{e}")) <= high]


def axis_of(
    field: str, title: str | None, domain: tuple[float, float] | None = None, log: bool = False, **axis: Any
) -> dict[str, Any]:
    """The encoding of a number on an axis, for a specification that is written as data."""
    scale: dict[str, Any] = {"nice": False} | ({"domain": list(domain)} if domain else {}) | ({"type": "log"} if log else {})
    return {"field": field, "type": "quantitative", "scale": scale, "axis": {"title": title, **axis}}


def left_out(count: int, most: int) -> str:
    """A sentence for what a figure has no room for."""
    return f" {count - most} more are not drawn." if count > most else ""


def axis_words(scale: alt.Scale) -> str:
    """A sentence that a logarithmic axis needs."""
    return " The axis is logarithmic." if scale.to_dict().get("type") == "log" else ""


def data(rows: Iterable[dict[str, Any]]) -> Any:
    """Rows for a chart, as they are."""
    import altair as alt

    return alt.Data(values=list(rows))  # type: ignore[no-untyped-call]


def svg(chart: Any, height: int, width: int = WIDTH) -> str:
    """Draw an altair chart, or a Vega-Lite specification, in this size, and keep the shapes only."""
    import altair as alt
    import vl_convert

    spec = chart if isinstance(chart, dict) else chart.to_dict()
    spec = {**spec, **FRAME, "width": width, "height": height, "config": {**spec.get("config", {}), **CONFIG}}
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return shapes_only(vl_convert.vegalite_to_svg(spec, vl_version=version))


def shapes_only(drawn: str) -> str:
    """The SVG with nothing in it but shapes, text and their drawing attributes: no link, script, style, image or handler.

    A description that begins with TIP becomes the title of its mark, which browsers show.
    """
    root = ElementTree.fromstring(drawn)
    _strip(root)
    root.attrib.pop("width", None)  # the page sets the width; viewBox keeps the shape
    root.attrib.pop("height", None)
    root.set("role", "img")
    return ElementTree.tostring(root, encoding="unicode")


def _strip(element: ElementTree.Element) -> None:
    element.tag = element.tag.removeprefix(_NAMESPACE)
    said = element.attrib.get("aria-label", "")
    element.attrib = {k: _short(v) if k in _PLACES else v for k, v in element.attrib.items() if k in _DRAWING and "url(" not in v.lower()}
    for child in list(element):
        if not isinstance(child.tag, str) or child.tag.removeprefix(_NAMESPACE) not in _SHAPES:
            element.remove(child)
        else:
            _strip(child)
    if said.startswith(TIP):
        title = ElementTree.SubElement(element, "title")
        title.text = said.removeprefix(TIP)


def _short(places: str) -> str:
    """Coordinates to a hundredth of a pixel: half the size, and nobody sees it."""
    return re.sub(r"-?\d+\.\d{3,}(?:e-?\d+)?", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), places)
