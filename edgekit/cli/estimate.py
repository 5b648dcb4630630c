"""`edgekit estimate BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json, task_option


@click.command("estimate")
@folder_argument("bundle")
@task_option
@click.option("--target", "names", multiple=True, help="A device, see `edgekit targets`; may be given again. Default: all.")
@click.option("--like", multiple=True, type=click.Path(path_type=Path), help="A bundle that was profiled on that device: three narrow the estimate.")
@click.option("--why", is_flag=True, help="Also every figure that went in, with its source.")
@json_option
def command(bundle: Path, task: str, names: tuple[str, ...], like: tuple[Path, ...], why: bool, as_json: bool) -> None:
    """What one inference of BUNDLE would take on devices that did not run it: low, middle and high, never a measurement."""
    import dataclasses

    from edgekit import examine, target
    from edgekit.bundle import open_bundle
    from edgekit.report.numbers import significant

    opened = open_bundle(bundle).of_task(task)
    wanted = names or tuple(n for n in target.names() if not target.load(n).probed)
    found = examine.estimate_on(opened, wanted, [open_bundle(p) for p in like])
    if as_json:
        print_json({"bundle": str(bundle), "label": opened.label, "estimates": [dataclasses.asdict(e) for e in found]})
        return
    operations = next((e.operations for e in found if e.operations), None)
    counted = f", {operations:,} operations" if operations else ""
    click.echo(f"{opened.label}, one inference: ESTIMATES{counted} (nothing below was measured on the device)")
    for e in found:
        click.echo(f"{e.target}")
        for what, unit, three, reason in (
            ("latency", "ms", (e.latency_ms_low, e.latency_ms, e.latency_ms_high), e.latency_reason),
            ("energy", "mJ", (e.energy_mj_low, e.energy_mj, e.energy_mj_high), e.energy_reason),
        ):
            low, mid, high = (significant(v) for v in three)
            told = f"~{mid} {unit} ({low} to {high}), {e.kind}, {e.method}"
            click.echo(f"  {what:<8} {told if three[1] is not None else 'not available: ' + reason.removeprefix('not available: ')}")
        for note in e.notes if why or e.kind == "calibrated-estimate" else ():
            click.echo(f"  note     {note}")
        for name, value in e.inputs.items() if why else ():
            click.echo(f"  from     {name}: {value}")
