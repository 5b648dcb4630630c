"""`edgekit targets`."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._common import json_option, print_json

if TYPE_CHECKING:
    from edgekit.target import Recognised, Target

COLUMNS = ("target", "precisions", "meter", "f32", "int8", "GB/s", "W")
WIDTHS = (24, 19, 9, -6, -6, -6, -5)  # negative: from the right


@click.command("targets")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """The devices that edgekit knows, what can run there, what is installed here, and their peak figures.

    With a NAME (or a TOML file of your own): all figures of one, each with its source.
    """
    from edgekit import registry, target
    from edgekit.parts import Runtime

    found = [target.load(name)] if name else [target.load(n) for n in target.names()]
    asked = {r for t in found for r in t.runtimes} & set(registry.names(Runtime))
    here = {n for n in asked if not registry.missing(registry.load(Runtime, n)) and not registry.load(Runtime, n).ready()}
    if as_json:
        rows = [_as_json(t, here) for t in found]
        print_json(rows[0] if name else rows)
    elif name:
        _one(found[0], here)
    else:
        _table(found, here, target.which_target())


def _as_json(target: Target, here: set[str]) -> dict[str, Any]:
    import dataclasses

    from edgekit.target import command_of

    modes = [{**dataclasses.asdict(m), "command": command_of(m)} for m in target.power_modes]
    return {
        **dataclasses.asdict(target), "figures": [dataclasses.asdict(f) for f in target.known_figures()], "power_modes": modes,
        "ready_here": sorted(here & set(target.runtimes)), "estimate_only": target.estimate_only,
    }  # fmt: skip


def _table(targets: list[Target], here: set[str], this: Recognised) -> None:
    click.secho(_row(COLUMNS), bold=True)
    for t in targets:
        values = {f.name: f.value for f in t.known_figures()}
        peaks = (_peak(values.get("compute_f32")), _peak(values.get("compute_int8")), *(_plain(values.get(n)) for n in ("bandwidth", "power_max")))
        line = _row((t.name, " ".join(t.precisions), t.meter, *peaks))
        click.echo(click.style(line[: len(t.name)], bold=True) + line[len(t.name) :])
        click.echo(_filled(f"{t.label}: {_runs(t, here)}", "    "))
    click.echo()
    click.echo(_filled(
        "* ready here. f32 and int8: dense peaks of the unit that the first runtime uses, in operations a second, 2 a multiply-add; "
        f"-: no figure. `edgekit targets NAME` shows each with its source and grade. This machine is '{this.target}': {this.because}."
    ))  # fmt: skip


def _one(target: Target, here: set[str]) -> None:
    from edgekit import probe
    from edgekit.target import command_of

    machine = probe.machine() if target.here else None
    told = {
        "kind": ", ".join(x for x in (target.kind, target.architecture, "simulated" if target.simulated else "") if x),
        "runs": _runs(target, here) + ("  (* ready here)" if here else ""),
        "precisions": ", ".join(target.precisions),
        "meter": target.meter,
        "prices": ", ".join(target.prices),
        "processor": machine.processor if machine else "",
        "board": machine.board + (f", Jetson Linux {machine.l4t}" if machine.l4t else "") if machine else "",
        "GPU": ", ".join(machine.gpus) if machine else "",
        "can do": ", ".join(machine.instructions) if machine else "",
    }
    click.secho(f"{target.name}: {target.label}", bold=True)
    for key, text in told.items():
        if text:
            click.echo(_filled(text, f"{key:<12}", " " * 12))
    click.secho("\nfigures", bold=True)
    if target.probed and not target.known_figures():
        click.echo("  read on the machine itself, and this one is not of its kind")
    for f in target.known_figures():
        _entry(f"{f.name:<34}{f.value:>12,.6g} {f.unit:<11}{f.grade}", f.source)
    for name, why in target.unknown.items():
        _entry(f"{name:<34}{'-':>12} {'':<11}not available", why)
    if target.power_modes:
        click.secho("\npower modes (edgekit sets none)", bold=True)
    for m in target.power_modes:
        limits = [(m.watts, "W"), (m.clock, "MHz"), (m.cores, "cores"), (m.bandwidth, "GB/s")]
        _entry(f"{m.name:<14}{', '.join(f'{v:g} {unit}' for v, unit in limits if v is not None) or 'no limit'}", command_of(m),
               f"{m.source} ({m.grade})" if m.source else "")  # fmt: skip
    for heading, text in (("nothing of edgekit runs there", target.no_runtime), ("notes", target.notes)):
        if text:
            click.secho(f"\n{heading}", bold=True)
            click.echo(_filled(text, "  "))


def _row(cells: tuple[str, ...]) -> str:
    return "".join(c.ljust(w) if w > 0 else c.rjust(-w) for c, w in zip(cells, WIDTHS, strict=True))


def _runs(target: Target, here: set[str]) -> str:
    return ", ".join(r + ("*" if r in here else "") for r in target.runtimes) or "estimate only"


def _entry(line: str, *below: str) -> None:
    click.echo(f"  {line}")
    for text in below:
        if text:
            click.secho(_filled(text, " " * 6), dim=True)


def _filled(text: str, indent: str = "", then: str | None = None) -> str:
    width = max(60, min(shutil.get_terminal_size((80, 24)).columns, 110))
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent if then is None else then, break_on_hyphens=False)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _peak(gops: float | None) -> str:
    """Three digits and a letter: 33.5T."""
    if gops is None:
        return "-"
    for big, letter in ((1e6, "P"), (1e3, "T"), (1, "G"), (1e-3, "M")):
        if gops >= big:
            return f"{gops / big:.3g}{letter}"
    return f"{gops * 1e6:.3g}k"
