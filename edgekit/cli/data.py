"""`edgekit data` and `edgekit data fetch NAME`."""

from __future__ import annotations

import click

from edgekit.cli._common import json_option, print_json, progress_bar


@click.group("data", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the data sets and where they lie; `fetch` downloads one and checks it."""
    if ctx.invoked_subcommand:
        return
    from edgekit import data

    rows = [{"name": n, "folder": str(data.folder(n) or ""), "licence": d.licence} for n, d in data.DATASETS.items()]
    if as_json:
        print_json(rows)
        return
    click.echo("digits   comes with scikit-learn, nothing to download")
    for r in rows:
        click.echo(f"{r['name']:<8} {r['folder'] or 'not here: edgekit data fetch ' + r['name']}   ({r['licence']})")


@command.command("fetch")
@click.argument("name")
@json_option
def fetch(name: str, as_json: bool) -> None:
    """Download NAME from its official source and check it against its SHA-256."""
    from edgekit import data

    with progress_bar(as_json) as progress:
        folder = data.fetch(name, progress)
    if as_json:
        print_json({"name": name, "folder": str(folder)})
    else:
        click.echo(f"{name}: {folder}")
