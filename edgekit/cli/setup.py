"""`edgekit setup RUNTIME`."""

from __future__ import annotations

import click

from edgekit.cli._common import json_option, print_json, progress_bar


@click.command("setup")
@click.argument("runtime")
@json_option
def command(runtime: str, as_json: bool) -> None:
    """Build the isolated environment of a RUNTIME that pip cannot bring: `edgekit setup lava`."""
    from edgekit import registry
    from edgekit.parts import Runtime

    with progress_bar(as_json) as progress:
        done = registry.load(Runtime, runtime).setup(progress)
    if as_json:
        print_json({"runtime": runtime, "done": done})
    else:
        click.echo(done)
