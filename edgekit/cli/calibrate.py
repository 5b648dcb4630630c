"""`edgekit calibrate BUNDLE --method METHOD`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgekit.cli._common import folder_argument, json_option, print_json, progress_bar, trust_option


@click.command("calibrate")
@folder_argument("bundle")
@click.option("--method", required=True, help="A calibrator, see `edgekit parts`: int8, minmax, percentile, entropy, symmetric, loihi.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the quantised bundle.")
@click.option("--max-score-drop", default=None, type=click.FloatRange(0, 1),
              help="How much of the score may be lost, or what its family allows, if that is more. Default: 0.01.")  # fmt: skip
@trust_option
@json_option
def command(bundle: Path, method: str, out: Path, max_score_drop: float | None, as_json: bool) -> None:
    """Quantise BUNDLE; its golden answers stay those of the float model."""
    from edgekit import flow
    from edgekit.bundle import open_bundle
    from edgekit.cli._fence import behind

    behind(open_bundle(bundle))

    options = {} if max_score_drop is None else {"max_score_drop": max_score_drop}
    with progress_bar(as_json) as progress:
        made = flow.calibrate(bundle, method, out, options, progress)
    found = made.manifest.details.get("quantisation", {})
    if as_json:
        print_json(
            {
                "bundle": str(made.folder),
                "format": made.manifest.format,
                "precision": made.manifest.precision,
                "sha256": made.sha256,
                "quantisation": found,
            }
        )
    else:
        click.echo(f"{made.label} bundle: {made.folder} (sha256 {made.sha256[:12]})")
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    if not found:
        return
    same = "" if found["same_answers"] is None else f", {100 * found['same_answers']:.1f} % of the answers unchanged"
    click.echo(f"  form      {found['form']}: SQNR {found['sqnr_db']:.1f} dB{same}")
    click.echo(f"  latency   {found['int8_us']:.0f} us, float {found['float_us']:.0f} us (one thread, onnxruntime)")
    tensor, rate = next(iter(found["clip_rates"].items()), ("", 0.0))
    click.echo(f"  clipped   {100 * rate:.2f} % of the values of '{tensor}', the most of all tensors, on samples held back")
    for graph, trial in found.get("graphs", {}).items():
        alike = "" if trial["same_decisions"] is None else f", {100 * trial['same_decisions']:.1f} % decided alike"
        click.echo(f"  graph     {graph:<16} {trial['sqnr_db']:6.1f} dB{alike}")
    for graph, why in found.get("left_float", {}).items():
        click.echo(f"  graph     {graph:<16} float: {why}")
    for row in found.get("candidates", ()):
        share = "-" if row["same_answers"] is None else f"{100 * row['same_answers']:.1f} %"
        click.echo(f"  tried     {row['form']:<16} {row['sqnr_db']:6.1f} dB  {share:>7}  {row['latency_us']:6.0f} us")
    for layer in found.get("given_back", ()):
        alone = next(r for r in found["sensitivity"] if r["layer"] == layer)
        click.echo(f"  float     {layer}: alone it brings SQNR down to {alone['sqnr_db']:.1f} dB")
    for note in found["notes"]:
        click.echo(f"  note      {note}")
