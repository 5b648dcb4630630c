"""`edgekit parts`."""

from __future__ import annotations

import click

from edgekit.cli._common import json_option, print_json


@click.command("parts")
@json_option
def command(as_json: bool) -> None:
    """All parts by kind, what each takes and makes, and whether it can work here."""
    from edgekit import registry
    from edgekit.parts import Calibrator, Exporter, Runtime
    from edgekit.route import all_steps

    rows = []
    for kind in registry.FOLDERS:
        for name in registry.names(kind):
            part = registry.load(kind, name)
            absent = registry.missing(part)
            lacking = f"needs {', '.join(absent)}: {registry.install_hint(part)}" if absent else ""
            if isinstance(part, Runtime):
                does = f"opens {', '.join(part.formats)}" + (f"; simulates {part.simulates}" if part.simulates else "")
                lacking = lacking or part.ready()
            elif isinstance(part, (Exporter, Calibrator)):
                does = "; ".join(f"{s.accepts} -> {s.label}" for s in all_steps() if s.kind is kind and s.part == name)
            else:
                does = (part.__doc__ or "").splitlines()[0]
            rows.append(
                {"kind": kind.__name__.lower(), "name": name, "does": does, "ready": not lacking, "lacking": lacking}
            )
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("kind", "name", "does", "here")
    for r in rows:
        table.add_row(str(r["kind"]), str(r["name"]), str(r["does"]), "ready" if r["ready"] else str(r["lacking"]))
    Console().print(table)
