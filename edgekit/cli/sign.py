"""`edgekit sign BUNDLE --key private.pem`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("sign")
@folder_argument("bundle")
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Private key, PEM, of the curve P-256, P-384 or P-521.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The signature's file. Default: BUNDLE.sig, beside the bundle.")
@json_option
def command(bundle: Path, key: Path, out: Path | None, as_json: bool) -> None:
    """Sign BUNDLE, so that others see who made it (OpenSSF model-signing).

    A key is made by openssl: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem`, and
    `openssl pkey -in private.pem -pubout -out public.pem` for those who check. The password of an encrypted key is asked
    for, or read from EDGEKIT_KEY_PASSWORD.
    """
    from edgekit import signing

    made = signing.sign(bundle, key, out, _password(key))
    if as_json:
        print_json(made.to_json())
        return
    click.echo(f"signed: {bundle}, {made.signature} (key {made.key.sha256[:16]}..., {made.key.curve})\n  digest  {made.bundle.sha256}")
    click.echo(f"  check   edgekit check-signature {bundle} --signed-by public.pem, or edgekit-run --digest {made.bundle.sha256} {bundle}")


def _password(key: Path) -> str | None:
    import os
    import sys

    from edgekit import signing_keys

    if not signing_keys.is_encrypted(key):
        return None
    said = os.environ.get(signing_keys.PASSWORD)
    if said or not sys.stdin.isatty():
        return said or None
    return str(click.prompt(f"password of {key}", hide_input=True, err=True))
