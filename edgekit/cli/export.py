"""`edgekit export SOURCE --format FORMAT`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("export")
@folder_argument("source")
@click.option("--format", "wish", required=True, help="onnx, openvino, nir, lava, or with a precision: nir:int8.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the new bundle.")
@json_option
def command(source: Path, wish: str, out: Path, as_json: bool) -> None:
    """Export a checkpoint or a run folder to FORMAT, or compile a bundle to it.

    What lies on the way is kept beside OUT, as in OUT.nir-int8.
    """
    from edgekit import flow

    bundle = flow.export(source, wish, out)
    facts = {"bundle": str(bundle.folder), "format": bundle.manifest.format, "precision": bundle.manifest.precision,
             "sha256": bundle.sha256, "files": dict(bundle.manifest.files)}  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        click.echo(
            f"{bundle.label} bundle: {bundle.folder} ({len(bundle.manifest.files)} files, sha256 {bundle.sha256[:12]})"
        )
