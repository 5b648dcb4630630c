"""A run as a table in the terminal, as JSON, and as one offline page."""

from __future__ import annotations

from pathlib import Path

from edgekit import files
from edgekit.errors import Broken
from edgekit.report.data import BundleRow, Run, TrainingRow, VerificationRow
from edgekit.report.page import page
from edgekit.report.terminal import show
from edgekit.report.words import verdict

__all__ = ["JSON", "PAGE", "BundleRow", "Run", "TrainingRow", "VerificationRow", "page", "show", "verdict", "write"]

JSON, PAGE = "report.json", "page.html"


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
