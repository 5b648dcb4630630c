"""`edgekit verify BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("verify")
@folder_argument("bundle")
@click.option("--runtime", default="", help="An engine, see `edgekit parts`. Default: the format's own.")
@click.option(
    "--score-limit",
    default=None,
    type=click.IntRange(min=0),
    help="Score over the first N test samples; 0 leaves the score out. Default: all.",
)
@json_option
def command(bundle: Path, runtime: str, score_limit: int | None, as_json: bool) -> int:
    """Compare BUNDLE on an engine with the golden answers and the task score. Exit code 1 when it differs."""
    from edgekit import flow
    from edgekit.bundle import open_bundle

    opened = open_bundle(bundle)
    found = flow.verify(opened, runtime, score_limit)
    if as_json:
        print_json({"bundle": str(bundle), "label": opened.label, **found.to_json()})
        return 0 if found.passed else 1
    click.echo(
        f"{opened.label} on {found.runtime}: {'verified' if found.passed else 'NOT EQUAL'} ({found.golden_samples} golden inputs)"
    )
    click.echo(f"  outputs   largest difference {found.output_max_abs or 0:.3g}, mean {found.output_mean_abs or 0:.3g}")
    if found.spike_flips is not None:
        click.echo(
            f"  spikes    {found.spike_flips} of {found.spikes_compared} flipped, {found.spike_flips_near} of them at the threshold"
        )
        for flip in found.flips:
            click.echo(f"            {flip}")
    if found.exact_mismatches is not None:
        click.echo(f"  integers  {found.exact_mismatches} differ from the integer reference")
    if found.score is not None:
        against = f", trained network {found.score_reference:.4f}" if found.score_reference is not None else ""
        click.echo(f"  score     {found.score:.4f} over {found.score_samples} samples{against}")
    if found.note:
        click.echo(f"  note      {found.note}")
    for failure in found.failures:
        click.echo(f"  failed    {failure}")
    return 0 if found.passed else 1
