"""`edgekit check-signature BUNDLE --signed-by public.pem`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("check-signature")
@folder_argument("bundle")
@click.option("--signed-by", required=True, type=click.Path(path_type=Path), help="Public key, PEM, of whoever should have made it.")
@click.option("--signature", type=click.Path(path_type=Path), default=None, help="The signature's file. Default: BUNDLE.sig, beside the bundle.")
@json_option
def command(bundle: Path, signed_by: Path, signature: Path | None, as_json: bool) -> None:
    """Who made BUNDLE? Exit code 0 when every file is as the owner of the key signed it, and no other file is there.

    `run`, `verify`, `profile` and `embed` take --signed-by, too, and then open nothing else.
    """
    from edgekit import signing

    found = signing.open_signed(bundle, signed_by, signature)
    if as_json:
        print_json(found.to_json())
        return
    click.echo(f"signed: {bundle} is as the owner of {signed_by} signed it ({len(found.bundle.manifest.files) + 1} files)")
    click.echo(f"  digest  {found.bundle.sha256}")
