"""`edgekit train RECIPE`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgekit.cli._common import json_option, print_json, progress_bar


@click.command("train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="Run folder. Default: runs/<name of the recipe>."
)
@click.option(
    "--devices", default=1, show_default=True, type=click.IntRange(min=1), help="Processes (or GPUs) on this machine."
)
@click.option(
    "--nodes",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Machines; MASTER_ADDR, MASTER_PORT and NODE_RANK as for torch.",
)
@json_option
def command(recipe: Path, out: Path | None, devices: int, nodes: int, as_json: bool) -> None:
    """Train by RECIPE (a TOML file, see examples/). Run again, it goes on where it was stopped."""
    from edgekit import flow, report, run_folder

    out = out or Path("runs") / recipe.stem
    with progress_bar(as_json) as progress:
        checkpoint = flow.train(recipe, out, progress, devices, nodes)
    if not flow.is_first_process():
        return
    if as_json:
        result = json.loads((out / "train" / "result.json").read_text())
        print_json({"checkpoint": str(checkpoint), **result})
    else:
        report.show(run_folder.read_run(out))
        click.echo(f"checkpoint: {checkpoint}")
