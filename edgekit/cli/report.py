"""`edgekit report RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("report")
@folder_argument("run")
@click.option("--no-page", is_flag=True, help="Only the table (or the JSON); needs no plotting library.")
@json_option
def command(run: Path, no_page: bool, as_json: bool) -> None:
    """Show a run folder as a table and write RUN/report/page.html and report.json."""
    from edgekit import flow, report, run_folder

    found = run_folder.read_run(run) if no_page else flow.write_report(run)
    if as_json:
        print_json(found.to_json())
        return
    report.show(found)
    if not no_page:
        click.echo(f"page: {run / 'report' / 'page.html'}")
