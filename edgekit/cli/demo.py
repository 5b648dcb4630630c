"""`edgekit demo`: the whole flow on the digits network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from edgekit.cli._common import (
    formats_option,
    json_option,
    missing_option,
    print_json,
    processes_option,
    progress_bar,
    seconds_option,
    wishes,
)


@click.command("demo")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Run folder."
)
@formats_option
@missing_option
@seconds_option
@processes_option
@json_option
def command(out: Path, formats: str, allow_missing: bool, seconds: float, processes: int, as_json: bool) -> None:
    """Train the digits network at T=5, compress it to T=1, export, verify and profile it, show one page.

    Killed and started again, it goes on where it was.
    """
    from edgekit import flow, report

    recipe = resources.files("edgekit.examples") / "iir_snn_digits.toml"
    with resources.as_file(recipe) as path, progress_bar(as_json) as progress:
        found = flow.run(path, out, wishes(formats), progress, allow_missing=allow_missing, seconds=seconds, processes=processes)
    if as_json:
        print_json(found.to_json())
    else:
        report.show(found)
        click.echo(f"page: {out / 'report' / 'page.html'}")
