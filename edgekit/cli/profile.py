"""`edgekit profile BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json, seconds_option


@click.command("profile")
@folder_argument("bundle")
@click.option("--runtime", default="", help="An engine, see `edgekit parts`. Default: the format's own.")
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(min=0),
    help="1 = one thread pinned to one core; 0 = all cores.",
)
@seconds_option
@json_option
def command(bundle: Path, runtime: str, threads: int, seconds: float, as_json: bool) -> None:
    """Time single inferences of a verified BUNDLE in a fresh process."""
    from edgekit import flow
    from edgekit.bundle import open_bundle

    opened = open_bundle(bundle)
    m = flow.profile(opened, runtime, threads, seconds)
    if as_json:
        print_json({"bundle": str(bundle), "label": opened.label, **m.to_json()})
        return
    cores = "one pinned thread" if m.pinned else f"{m.threads or 'all'} threads"
    click.echo(f"{opened.label} on {m.runtime}, {cores}: {m.verdict}")
    click.echo(
        f"  latency   p50 {m.latency_p50_ms:.4g} ms, p90 {m.latency_p90_ms:.4g} ms, min {m.latency_min_ms:.4g} ms (n = {m.samples})"
    )
    if m.latency_undisturbed_p50_ms is not None and m.preempted_samples:
        click.echo(
            f"            {m.preempted_samples} samples preempted; p50 of the others {m.latency_undisturbed_p50_ms:.4g} ms"
        )
    click.echo(f"  before    load {m.load_ms:.4g} ms, first run {m.first_run_ms:.4g} ms, {m.warm_up_runs} warm-up runs")
    click.echo(f"  memory    {m.memory_peak_mb:.0f} MB at most, of the whole process")
    click.echo(f"  energy    {'not measured: ' + m.energy_reason if m.energy_mj is None else f'{m.energy_mj:.4g} mJ'}")
    for reason in m.reasons:
        click.echo(f"  {m.verdict.lower():<9} {reason}")
