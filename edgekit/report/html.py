"""The report as one offline HTML page: no script, no request, every string escaped, under a closed CSP."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from edgekit import registry
from edgekit.errors import Missing
from edgekit.report import tables, words
from edgekit.report.data import Run
from edgekit.report.numbers import printable

NEEDS = ("altair", "vl_convert", "jinja2")


def page(run: Run) -> str:
    """The whole page. Missing, with the command that installs it, when the extra `report` is not there."""
    absent = registry.missing_modules(NEEDS)
    if absent:
        raise Missing(f"the page needs {', '.join(absent)}, not installed here: pip install 'edgekit[report]'")
    import jinja2

    from edgekit.report import charts

    run = printable(run)
    folder = resources.files("edgekit.report")
    css = (folder / "page.css").read_text(encoding="utf-8")
    # Only this very style sheet may be applied: its hash stands in the policy, scripts and requests are off altogether.
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (folder / "page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        run=run,
        css=css,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        verdict=words.verdict(run),
        figures=charts.figures(run),
        tables=tables.all_tables(run),
        notes=words.notes(run),
    )
