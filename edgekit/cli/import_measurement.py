"""`edgekit import-measurement FILE... --bundle BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import json_option, print_json


@click.command("import-measurement")
@click.argument("sources", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="The TensorRT bundle whose plan or kit was timed.")
@click.option("--device", default="", help="The device with its power mode and clocks. Default: as the log names it.")
@click.option("--graph", default="", help="Which graph was timed, where the bundle has several.")
@json_option
def command(sources: tuple[Path, ...], bundle: Path, device: str, graph: str, as_json: bool) -> None:
    """Store what trtexec measured on another machine: its log, --exportTimes, --exportProfile, lines of tegrastats."""
    from edgekit.bundle import open_bundle
    from edgekit.imported import import_measurement

    opened = open_bundle(bundle)
    found, name = import_measurement(opened, sources, device, graph)
    if as_json:
        print_json({"bundle": str(bundle), "label": opened.label, "evidence": name, **found.to_json()})
        return
    p90 = "" if found.latency_p90_ms is None else f", p90 {found.latency_p90_ms:.4g} ms"
    many = f" (n = {found.samples})" if found.samples else ""
    click.echo(f"{opened.label} on {found.device}, {found.runtime}: imported, {found.verdict}")
    click.echo(f"  latency   p50 {found.latency_p50_ms:.4g} ms{p90}, min {found.latency_min_ms:.4g} ms{many}")
    for reason in found.reasons:
        click.echo(f"  note      {reason}")
    click.echo(f"  energy    not measured: {found.energy_reason}")
    click.echo(f"  stored    {opened.folder / 'evidence' / name}.json")
