"""`edgekit calibrate BUNDLE --method METHOD`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("calibrate")
@folder_argument("bundle")
@click.option("--method", required=True, help="A calibrator, see `edgekit parts`: loihi.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the quantised bundle.")
@json_option
def command(bundle: Path, method: str, out: Path, as_json: bool) -> None:
    """Quantise BUNDLE; its golden answers stay those of the float model."""
    from edgekit import flow

    made = flow.calibrate(bundle, method, out)
    if as_json:
        print_json(
            {
                "bundle": str(made.folder),
                "format": made.manifest.format,
                "precision": made.manifest.precision,
                "sha256": made.sha256,
            }
        )
    else:
        click.echo(f"{made.label} bundle: {made.folder} (sha256 {made.sha256[:12]})")
