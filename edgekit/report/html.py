"""One offline HTML page of a run: nothing is loaded from anywhere, every string is escaped, no script runs but those hashed in its policy."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import json
from importlib import resources
from typing import Any

from edgekit.errors import Missing
from edgekit.report import charts, choice, drawing, numbers, pareto, profile_charts, roofline, table, tables, words
from edgekit.report.data import Picture, Run

NEEDS = ("altair", "vl_convert", "jinja2")
LARGEST = 1_450_000  # bytes of a page; the library that draws takes 900,000 of them
MOST_PICTURES = 350_000  # bytes of all pictures of a page together, as base64
FEWEST = 40  # candidates that are shown at any size; those on a front come first, and report.json and report.md hold all


def page(run: Run) -> str:
    """The page as text. Missing when the extra `report` is not installed."""
    absent = [module for module in NEEDS if importlib.util.find_spec(module) is None]
    if absent:
        raise Missing(f"the page of a report needs {', '.join(absent)}, not installed here: pip install 'edgekit[report]'")
    run = numbers.printable(run)
    most = len(run.candidates)
    while len(made := _page(run, most).encode()) > LARGEST and most > FEWEST:
        most = max(FEWEST, min(4 * most // 5, most * LARGEST // len(made)))
    return made.decode()


def _page(run: Run, most: int) -> str:
    """The page with this many candidates."""
    import jinja2
    from markupsafe import Markup

    verdict, notes = words.verdict(run), words.notes(run)
    if len(run.candidates) > most:
        notes = (f"{len(run.candidates) - most} of {len(run.candidates)} candidates are not on this page; report.json and report.md hold all", *notes)
        run = dataclasses.replace(run, candidates=tuple(choice.in_order(run.candidates)[:most]))
    pictures = _within(run.pictures)
    if len(run.pictures) > len(pictures):
        notes = (f"{len(run.pictures) - len(pictures)} of {len(run.pictures)} pictures are not on this page; report.md links all", *notes)
    decide, shown = pareto.figure(run), [table.for_page(t) for t in tables.all_tables(run)]
    drawn = (*charts.figures(run), roofline.figure(run), *profile_charts.figures(run))
    style, script, library = _own("page.css"), _own("page.js"), _library() if decide else ""
    scripts = [s for s in (library, script) if s]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_own("page.html.j2"))
    return template.render(
        run=run,
        policy=f"default-src 'none'; script-src {' '.join(map(_allowed, scripts))}; style-src {_allowed(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        style=Markup(style),  # our own file, as the scripts are
        scripts=[Markup(s) for s in scripts],
        notices=Markup(_own("vega_notices.html") if decide else ""),
        decide=decide,
        painted=pareto.paint(run.candidates),
        live=Markup(embedded(_live(run))) if decide else "",
        verdict=verdict,
        figures=sorted((f for f in drawn if f), key=lambda f: len(f.drawings) > 1),  # wide ones below
        svg=Markup,  # what drawing.shapes_only left
        pictures=pictures,
        tables=shown,
        contents=list({t.title.partition(":")[0]: (t.title.partition(":")[0], t.title) for t in reversed(shown)}.values())[::-1],
        notes=notes,
        marks={colour: f"ink-{i}" for i, colour in enumerate(drawing.COLOURS)},
    )


def _within(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """The first pictures, as many as a page has room for."""
    room = itertools.accumulate(len(p.png) for p in pictures)
    return tuple(p for p, taken in zip(pictures, room, strict=True) if taken <= MOST_PICTURES)


def embedded(data: Any) -> str:
    """JSON that cannot end the script element that it stands in, whatever its strings hold."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _live(run: Run) -> dict[str, Any]:
    """What page.js draws the plot of candidates from."""
    facet, colours = pareto.paint(run.candidates)
    return {
        "spec": pareto.spec(run), "rows": pareto.rows(run), "facets": pareto.facets(run.candidates), "painted": facet, "colours": colours,
        "costs": {cost: {"word": word, "axis": f"{word}, {unit} per inference"} for cost, (word, unit) in choice.COSTS.items()},
        "marks": {kind: {"shape": shape, "full": full} for kind, (shape, full, *_) in pareto.MARKS.items()},
        "card": drawing.CARD, "times": pareto.scale_of(run), "faint": pareto.FAINT, "bar": pareto.BAR, "margin": pareto.MARGIN,
        "logFrom": drawing.LOG_FROM, "ticks": drawing.TICKS,
    }  # fmt: skip


def _own(name: str) -> str:
    return resources.files("edgekit.report").joinpath(name).read_text(encoding="utf-8").strip()


@functools.cache
def _library() -> str:
    """Vega-Lite with its interpreter, which needs no `unsafe-eval`."""
    import vl_convert

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    if "</script" in bundle.lower() or "<!--" in bundle:
        raise Missing("this version of vl-convert bundles scripts that cannot stand in a page: pip install 'edgekit[report]' anew")
    return bundle.strip()


def _allowed(text: str) -> str:
    """The source expression of a policy that lets exactly this text through."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
