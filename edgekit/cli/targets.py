"""`edgekit targets`."""

from __future__ import annotations

import click

from edgekit.cli._common import json_option, print_json


@click.command("targets")
@json_option
def command(as_json: bool) -> None:
    """The devices that edgekit knows, their runtimes and precisions, and what is installed here."""
    import dataclasses

    from edgekit import registry, target
    from edgekit.parts import Runtime

    found = [target.load(name) for name in target.names()]
    here = {
        n
        for n in registry.names(Runtime)
        if not registry.missing(registry.load(Runtime, n)) and not registry.load(Runtime, n).ready()
    }
    if as_json:
        print_json([{**dataclasses.asdict(t), "ready_here": sorted(here & set(t.runtimes))} for t in found])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("target", "is", "runtimes (* = ready here)", "precisions", "meter")
    for t in found:
        runtimes = ", ".join(r + ("*" if r in here else "") for r in t.runtimes)
        table.add_row(t.name, t.label, runtimes or "-", ", ".join(t.precisions) or "-", t.meter)
    Console().print(table)
