"""One offline HTML page of a run: no script, no link, no font and no image from anywhere, every string escaped."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from importlib import resources

from edgekit.errors import Missing
from edgekit.report import charts, numbers, tables, words
from edgekit.report.data import Run

NEEDS = ("altair", "vl_convert", "jinja2")


def page(run: Run) -> str:
    """The page as text. Missing when the extra `report` is not installed."""
    absent = [module for module in NEEDS if importlib.util.find_spec(module) is None]
    if absent:
        raise Missing(f"the page of a report needs {', '.join(absent)}, not installed here: pip install 'edgekit[report]'")
    import jinja2
    from markupsafe import Markup

    run = numbers.printable(run)
    here = resources.files("edgekit.report")
    style = here.joinpath("page.css").read_text(encoding="utf-8").strip()
    # The browser applies this style and no other: not even a style attribute that a name might smuggle in.
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        run=run,
        policy=f"default-src 'none'; style-src 'sha256-{allowed}'; img-src data:; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # our own file
        verdict=words.verdict(run),
        figures=charts.figures(run),
        svg=Markup,  # what charts.shapes_only left
        tables=tables.all_tables(run),
        notes=words.notes(run),
        marks={colour: f"ink-{i}" for i, colour in enumerate((charts.INK, charts.MUTED, charts.BLUE, *(c[1] for c in charts.CONTROLS)))},
    )
