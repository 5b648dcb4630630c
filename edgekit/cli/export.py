"""`edgekit export SOURCE --format FORMAT`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli._common import json_option, print_json
from edgekit.cli._own_model import own_model_options, own_wishes


@click.command("export")
@click.argument("source")
@click.option("--format", "wish", default="", help="onnx, openvino, nir, lava, or with a precision: nir:int8. Default: onnx.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the new bundle.")
@click.option("--option", "options", multiple=True, metavar="NAME=JSON", help="An option of the format's exporter, as in opset=18.")
@own_model_options
@json_option
def command(source: str, wish: str, out: Path, options: tuple[str, ...], as_json: bool, **said: Any) -> None:
    """Export SOURCE to FORMAT: a checkpoint or run folder, a bundle, or a model of your own.

    A model of your own is a .onnx file, a .pt2 of torch.export, or module:function returning (nn.Module, example
    inputs). What lies on the way to FORMAT is kept beside OUT, as in OUT.onnx-f32.
    """
    from edgekit import flow
    from edgekit.bundle import MANIFEST, open_bundle
    from edgekit.cli._fence import behind

    if (Path(source) / MANIFEST).is_file():
        if not said["trust"]:
            behind(open_bundle(source))
        said["trust"] = False  # of models of one's own
    bundle = flow.export(source, wish or "onnx", out, own_wishes(**said), _chosen(options))
    facts = {"bundle": str(bundle.folder), "format": bundle.manifest.format, "precision": bundle.manifest.precision,
             "sha256": bundle.sha256, "files": dict(bundle.manifest.files), "signature": bundle.manifest.signature.to_json(),
             "golden": vars(bundle.manifest.golden)}  # fmt: skip
    if as_json:
        print_json(facts)
        return
    click.echo(f"{bundle.label} bundle: {bundle.folder} ({len(bundle.manifest.files)} files, sha256 {bundle.sha256[:12]})")
    for side, tensors in (("takes", bundle.manifest.signature.inputs), ("gives", bundle.manifest.signature.outputs)):
        for t in tensors:
            click.echo(f"  {side}   {t.name}  {t.dtype} [{', '.join(map(str, t.shape))}]")
    click.echo(f"  golden  inputs {bundle.manifest.golden.inputs_from}; answers by {bundle.manifest.golden.answers_by}")


def _chosen(options: tuple[str, ...]) -> dict[str, Any]:
    """`profiles={"batch": [1, 8, 32]}` as JSON; what is no JSON is a word, or a list where it holds commas. So is a number with
    a point: the versions 10.1 and 10.10 must stay two."""
    import json

    found: dict[str, Any] = {}
    for text in options:
        name, between, value = text.partition("=")
        if not name or not between:
            raise click.UsageError(f"'{text}' is not of the form NAME=JSON")
        word: Any = value.split(",") if "," in value else value
        try:
            read = json.loads(value)
            found[name] = word if isinstance(read, float) else read
        except ValueError:
            found[name] = word
    return found
