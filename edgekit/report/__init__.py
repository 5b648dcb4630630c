"""A run as a table in the terminal, as JSON, as Markdown, as a trace, and as one offline page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import files
from edgekit.errors import Broken

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.report.data import Run
    from edgekit.report.perfetto import Samples

JSON, PAGE, MARKDOWN, TRACE = "report.json", "page.html", "report.md", "trace.json"


def show(run: Run, console: Console | None = None) -> None:
    """Print the tables of a run, to fit the console's width."""
    from edgekit.report import terminal

    terminal.show(run, console)


def page(run: Run) -> str:
    """The HTML page of a run. Missing when the extra `report` is not installed."""
    from edgekit.report import html

    return html.page(run)


def as_markdown(run: Run, pictures: bool = False) -> str:
    """The verdict, the table of candidates (else all tables) and the notes, as Markdown; the family's pictures too where their
    files lie beside it."""
    from edgekit.report import markdown

    return markdown.text(run, pictures)


def trace(run: Run, samples: Mapping[tuple[str, int], Samples] | None = None) -> str:
    """The trace of a run for Perfetto, as JSON. samples: as in perfetto.trace."""
    from edgekit.report import perfetto

    return _writable(json.dumps(perfetto.trace(run, samples), ensure_ascii=False, allow_nan=False)) + "\n"


def write(run: Run, folder: Path, samples: Mapping[tuple[str, int], Samples] | None = None) -> None:
    """Write `report.json` (Run.from_json reads it), `report.md`, its pictures, `trace.json` and `page.html`, each whole or not at all.

    Missing when the extra `report` is not installed: all but the page is there by then.
    """
    try:
        text, traced = files.canonical_json(run.to_json()), trace(run, samples)
    except ValueError:
        raise Broken(f"the run '{run.name}' holds a number that is not finite; verify and profile again") from None
    files.write_text(folder / JSON, _writable(text))
    for picture in run.pictures:
        files.write_bytes(folder / picture.file, picture.content())
    files.write_text(folder / MARKDOWN, as_markdown(run, pictures=True))
    files.write_text(folder / TRACE, traced)
    files.write_text(folder / PAGE, page(run))


def _writable(text: str) -> str:
    """JSON in which a half of a surrogate pair, which no encoding can write, stands as its escape."""
    return re.sub(r"[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text)
