"""`edgekit profile BUNDLE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._common import (
    folder_argument,
    json_option,
    opened_bundle,
    print_json,
    progress_bar,
    request_options,
    signed_option,
    task_option,
    trust_option,
)
from edgekit.cli._fence import behind

if TYPE_CHECKING:
    from edgekit.layer_profile import LayerProfile
    from edgekit.measurement import Energy, Measurement, Percentile

LAYERS_SHOWN = 12


@click.command("profile")
@folder_argument("bundle")
@task_option
@request_options
@click.option("--meter", default="", help="An energy meter, see `edgekit parts`; none = do not measure. Default: the target's.")
@click.option("--target", default="", help="What the machine is, see `edgekit targets`. Default: what it is recognised as, else host.")
@click.option("--layers", is_flag=True, help="Also where the time goes, graph by graph and layer by layer, against the roofline of this machine.")
@click.option("--on", default="", metavar="DEVICE", help="ssh://user@host[:port], or the name of a device in --fleet. Default: here.")
@click.option("--fleet", type=click.Path(path_type=Path), default=None, help="TOML file of devices, for --on NAME.")
@click.option("--strict", is_flag=True, help="Exit code 1 unless the verdict is VALID.")
@signed_option
@trust_option
@json_option
def command(  # noqa: PLR0913, PLR0917 - the options of the command
    bundle: Path, task: str, meter: str, target: str, layers: bool, on: str, fleet: Path | None, strict: bool, signed_by: Path | None,
    as_json: bool, **asked: Any,
) -> int:
    """Time a verified BUNDLE in several fresh processes, here or on a device, and say whether the figures can be trusted.

    Scenarios: single (one query after the other), multi (8 samples a query), offline (64), poisson (random arrivals,
    latency from the scheduled time), stream (chunks in real time at --rate-hz, deadlines counted).
    """
    from edgekit import examine
    from edgekit import fleet as devices
    from edgekit.errors import EdgekitError

    opened = opened_bundle(bundle, signed_by).of_task(task)
    if not on:  # a device runs it there
        behind(opened)
    request = examine.request(**asked)
    by_layer = None
    with progress_bar(as_json) as progress:
        if on:
            if layers:
                raise EdgekitError("layers are profiled on this machine only; leave --layers or --on out")
            m = examine.profile_on(opened, devices.find(on, fleet, target), request, progress)
        else:
            m = examine.profile(opened, request, target, meter, progress)
            by_layer = examine.profile_layers(opened, request) if layers else None
    if as_json:
        import dataclasses

        layered = {"layers": dataclasses.asdict(by_layer)} if by_layer else {}
        print_json({"bundle": str(bundle), "label": opened.label, "task": opened.manifest.task, **m.to_json(), **layered})
    else:
        show(f"{opened.label} {task}".rstrip(), m)
        if by_layer:
            _show_layers(by_layer)
    return 1 if strict and m.verdict != "VALID" else 0


def show(label: str, m: Measurement) -> None:
    """Print a measurement, a line a fact."""
    cores = "one pinned thread" if m.pinned else f"{m.threads or 'all'} threads"
    click.echo(f"{label} on {m.runtime}, {cores}: {m.verdict}")
    if m.target != "host" or m.device:
        click.echo(f"  device    {m.device}" + (f" ({m.target})" if m.target != "host" else ""))
    between = "" if m.latency_p50_low_ms is None else f" ({m.latency_p50_low_ms:.4g} to {m.latency_p50_high_ms:.4g} between {m.processes} processes)"
    click.echo(f"  latency   p50 {m.latency_p50_ms:.4g} ms{between}, min {m.latency_min_ms:.4g} ms")
    if m.latency_engine_p50_ms is not None:
        click.echo(f"  engine    p50 {m.latency_engine_p50_ms:.4g} ms by its own clock; the rest is the call from Python")
    click.echo(f"  raw       {', '.join(_percentile(p) for p in m.percentiles)} (n = {m.samples:,})")
    if m.preempted_samples:
        share = 100 * m.preempted_samples / m.samples
        rest = ", ".join(_percentile(p) for p in m.percentiles_undisturbed) or "none were left"
        click.echo(f"  undisturbed  {rest} (without {m.preempted_samples:,} preempted samples, {share:.2g} %)")
    for p in m.percentiles:
        if p.value_ms is None:
            click.echo(f"            p{p.percent:g} {p.reason}")
    _show_load(m)
    click.echo(f"  before    load {m.load_ms:.4g} ms, first run {m.first_run_ms:.4g} ms, {m.warm_up_runs} warm-up runs")
    if m.overhead_us is not None:
        click.echo(f"  overhead  {m.overhead_us:.2g} us of a sample are edgekit's own (a model that does nothing, timed likewise)")
    if m.memory_peak_mb is not None:
        click.echo(f"  memory    {m.memory_peak_mb:.0f} MB at most, of the whole process")
    click.echo(f"  energy    {_energy(m.energy) if m.energy else 'not measured: ' + m.energy_reason}")
    click.echo(f"  machine   {_conditions(m)}")
    for reason in m.reasons:
        click.echo(f"  why       {reason}")


def _percentile(p: Percentile) -> str:
    if p.value_ms is None:
        return f"p{p.percent:g} -"
    ends = ["-" if v is None else f"{v:.4g}" for v in (p.low_ms, p.high_ms)]
    return f"p{p.percent:g} {p.value_ms:.4g} [{' to '.join(ends)}]"


def _show_load(m: Measurement) -> None:
    load = m.load
    if load.different_inputs > 1:
        click.echo(f"  inputs    {load.different_inputs} golden ones in turn: its time depends on what is in them")
    if load.events_per_s and load.events_per_query:
        click.echo(f"  events    {load.events_per_s:,.4g} a second, {load.events_per_query:,.4g} in a packet")
    if load.scenario == "single":
        return
    told = [f"{load.samples_per_query} samples a query" if load.samples_per_query > 1 else "one sample a query"]
    if load.throughput_per_s:
        told.append(f"{load.throughput_per_s:,.4g} samples a second")
    if load.offered_per_s:
        told.append(f"{load.offered_per_s:,.4g} arrivals a second were scheduled")
    if load.period_ms:
        told.append(f"a chunk every {load.period_ms:.4g} ms, {load.deadline_misses:,} came too late, real-time factor {load.real_time_factor:.3g}")
    click.echo(f"  {load.scenario:<9} {', '.join(told)}")


def _energy(e: Energy) -> str:
    net = "" if e.net_mj is None else f", net of idle {e.net_mj:.4g} [{e.net_mj_low:.4g} to {e.net_mj_high:.4g}]"
    return f"{e.gross_mj:.4g} mJ [{e.gross_mj_low:.4g} to {e.gross_mj_high:.4g}]{net}; {e.meter}, {e.scope}"


def _conditions(m: Measurement) -> str:
    c = m.conditions
    told = [f"CPU pressure {100 * c.cpu_pressure:.1f} %"] if c.cpu_pressure is not None else []
    told += [f"clock {c.clock_mhz:.0f} MHz (least {c.clock_mhz_low:.0f})"] if c.clock_mhz is not None else []
    told += [f"{c.temperature_c_high:.0f} degree C at most"] if c.temperature_c_high is not None else []
    told += [f"governor {c.governor}"] if c.governor else []
    told += [f"power mode {c.power_mode}"] if c.power_mode else []
    return ", ".join([*told, *([f"not readable: {', '.join(c.unread)}"] if c.unread else [])]) or "nothing could be read"


def _show_layers(found: LayerProfile) -> None:
    if found.graphs:
        total, whole = sum(g.time_us for g in found.graphs), found.whole_us or 0.0
        click.echo(f"  graphs    {total:.1f} us in all, without a profiler; one inference or chunk has p50 {whole:.1f} us")
    for graph in found.graphs:
        often = f" ({graph.calls} calls of {graph.call_us:.1f} us)" if graph.calls > 1 else ""
        click.echo(f"            {100 * graph.share:5.1f} %  {graph.time_us:9.1f} us  {graph.name}{often}")
    click.echo(f"  layers    {len(found.layers)} on {found.runtime}; the slowest:")
    for layer in sorted(found.layers, key=lambda x: -x.time_us)[:LAYERS_SHOWN]:
        rate = f"{layer.gops:8.1f} GOP/s" if layer.gops else " " * 14
        moved = f"{layer.gb_s:6.1f} GB/s" if layer.gb_s else " " * 11
        click.echo(f"            {100 * layer.share:5.1f} %  {layer.time_us:9.1f} us {rate} {moved}  {layer.operator} {layer.name[:40]}")
    if found.roof:
        peaks = ", ".join(f"{p} {v:.0f} GOP/s" for p, v in found.roof.compute_gops.items())
        click.echo(f"  roof      {peaks}, {found.roof.bandwidth_gb_s:.0f} GB/s (measured here, {found.roof.threads or 'all'} threads)")
    for note in found.notes:
        click.echo(f"  note      {note}")
