"""`edgekit report RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("report")
@folder_argument("run")
@click.option("--no-page", is_flag=True, help="Only the table (or the JSON); writes no folder and needs no plotting library.")
@click.option("--markdown", type=FILE, help="Write the candidates as Markdown to this file; - prints them and nothing else.")
@click.option("--perfetto", type=FILE, help="Write a trace to this file, for ui.perfetto.dev or chrome://tracing.")
@json_option
def command(run: Path, no_page: bool, markdown: Path | None, perfetto: Path | None, as_json: bool) -> None:
    """Show a run folder as a table and write RUN/report: page.html, report.json, report.md and trace.json.

    RUN is the folder of a deploy, or of a sweep that has a report already.
    """
    from edgekit import files, report, run_folder

    printed = markdown is not None and str(markdown) == "-"
    if printed and as_json:
        raise click.UsageError("--json and --markdown - both print on stdout; choose one")
    found = run_folder.read_run(run)
    samples = run_folder.read_samples(run)
    if not no_page and not printed:
        report.write(found, run / "report", samples)
    if markdown is not None and not printed:
        files.write_text(markdown, report.as_markdown(found))
    if perfetto is not None:
        files.write_text(perfetto, report.trace(found, samples))
    if printed:
        click.echo(report.as_markdown(found), nl=False)
    elif as_json:
        print_json(found.to_json())
    else:
        report.show(found)
        if not no_page:
            click.echo(f"page: {run / 'report' / 'page.html'}")
