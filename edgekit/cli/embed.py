"""`edgekit embed BUNDLE --out DIR`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, opened_bundle, print_json, signed_option, task_option


@click.command("embed")
@folder_argument("bundle")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the new project; must not exist.")
@task_option
@click.option("--rate-hz", default=0, type=click.IntRange(min=0), help="Sound of other rates is refused by the application.")
@signed_option
@json_option
def command(bundle: Path, out: Path, task: str, rate_hz: int, signed_by: Path | None, as_json: bool) -> None:
    """Write a small C++ project around BUNDLE: CMake, main.cpp, the bundle and the runtime; it builds as it is."""
    from edgekit.embed import embed

    made = embed(opened_bundle(bundle, signed_by).of_task(task), out, rate_hz)
    if as_json:
        print_json({"project": str(out), "files": made})
    else:
        click.echo(f"C++ project: {out} ({', '.join(made)})\n  cd {out} && cmake -B build && cmake --build build")
