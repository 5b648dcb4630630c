"""`edgekit export SOURCE --format FORMAT`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli._common import json_option, print_json

Words = tuple[str, ...]


@click.command("export")
@click.argument("source")
@click.option("--format", "wish", default="", help="onnx, openvino, nir, lava, or with a precision: nir:int8. Default: onnx.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the new bundle.")
@click.option("--state", "states", multiple=True, metavar="OUT:IN", help="An output that is an input of the next step; makes a stream.")
@click.option("--chunk", "chunks", multiple=True, metavar="IN=AXIS:WINDOW[:HOP]", help="Cut an input of the stream into windows.")
@click.option("--constant", "constants", multiple=True, metavar="IN=NUMBER", help="An input that is always this number.")
@click.option("--still", multiple=True, metavar="IN", help="An input of a stream that is given once, at its beginning.")
@click.option("--join", "joins", multiple=True, metavar="OUT=HOW[:AXIS]", help="concat:AXIS, stack:AXIS or last.")
@click.option("--size", "sizes", multiple=True, metavar="NAME=N", help="Fix a free dimension.")
@click.option("--tail", type=click.Choice(["pad", "drop"]), default="pad", show_default=True, help="What is begun at a stream's end.")
@click.option("--example", default="", help="An .npz of golden inputs by name. Default: drawn from the signature.")
@click.option("--tolerance", default=1e-5, show_default=True, type=click.FloatRange(min=0), help="Of floats, times their largest value above 1.")
@json_option
def command(source: str, wish: str, out: Path, as_json: bool, **said: Any) -> None:
    """Export SOURCE to FORMAT: a checkpoint or run folder, a bundle, or a model of your own.

    A model of your own is a .onnx file, a .pt2 of torch.export, or module:function returning (nn.Module, example
    inputs). What lies on the way to FORMAT is kept beside OUT, as in OUT.onnx-f32.
    """
    from edgekit import flow

    bundle = flow.export(source, wish or "onnx", out, _wishes(**said))
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


def _wishes(states: Words, chunks: Words, constants: Words, joins: Words, sizes: Words, **plain: Any) -> Any:
    from edgekit.intake import Wishes
    from edgekit.program import Feed, Join

    def feed(text: str) -> Feed:
        parts = [int(p) for p in text.split(":")]
        if len(parts) not in (2, 3) or min(parts[1:]) < 1 or parts[-1] > parts[1]:
            raise ValueError
        return Feed(parts[0], parts[1], parts[-1])

    def join(text: str) -> Join:
        how, _, axis = text.partition(":")
        if how not in ("concat", "stack", "last") or (how == "last") == bool(axis):
            raise ValueError
        return Join(how, int(axis or 0))  # type: ignore[arg-type]

    def number(text: str) -> float | int:
        return float(text) if set(text) & set(".eEnN") else int(text)

    return Wishes(
        states=_pairs(states, ":", "--state OUT:IN", str), chunks=_pairs(chunks, "=", "--chunk IN=AXIS:WINDOW[:HOP]", feed),
        constants=_pairs(constants, "=", "--constant IN=NUMBER", number), 
        joins=_pairs(joins, "=", "--join OUT=concat:AXIS, OUT=stack:AXIS or OUT=last", join),
        sizes=_pairs(sizes, "=", "--size NAME=N", int), **plain,
    )  # fmt: skip


def _pairs(words: tuple[str, ...], between: str, form: str, of: Any) -> dict[str, Any]:
    made = {}
    for word in words:
        left, _, right = word.rpartition(between) if between == ":" else word.partition(between)
        try:
            made[left] = of(right)
        except ValueError:
            left = ""
        if not left or not right:
            raise click.UsageError(f"'{word}' is not of the form {form}")
    return made
