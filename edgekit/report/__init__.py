"""A run as a table in the terminal, as JSON, and as one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import files
from edgekit.errors import Broken

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.report.data import Run

JSON, PAGE = "report.json", "page.html"


def show(run: Run, console: Console | None = None) -> None:
    """Print the tables of a run, to fit the console's width."""
    from edgekit.report import terminal

    terminal.show(run, console)


def page(run: Run) -> str:
    """The HTML page of a run. Missing when the extra `report` is not installed."""
    from edgekit.report import html

    return html.page(run)


def write(run: Run, folder: Path) -> None:
    """Write `report.json` (Run.from_json reads it) and `page.html`, each whole or not at all.

    Missing when the extra `report` is not installed: the JSON is there by then.
    """
    try:
        text = files.canonical_json(run.to_json())
    except ValueError:
        raise Broken(f"the run '{run.name}' holds a number that is not finite; verify and profile again") from None
    files.write_text(folder / JSON, text)
    files.write_text(folder / PAGE, page(run))
