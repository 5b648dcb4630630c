"""`edgekit sweep SWEEP.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli._common import json_option, print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.candidate import Quantity
    from edgekit.report.data import Run
    from edgekit.sweep.plan import Cell
    from edgekit.sweep.result import Swept

MOST = 20  # estimates that are listed, where nothing was measured


@click.command("sweep")
@click.argument("plan", metavar="SWEEP.toml", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder of the sweep. Default: runs/<name of the file>.")
@click.option(
    "--scheduler", default="", metavar="tcp://HOST:PORT",
    help="A dask cluster that trains, exports, quantises and scores; its workers must see --out. Devices are still measured from here.",
)  # fmt: skip
@click.option("--workers", default=0, type=click.IntRange(min=0), help="Processes that do so here. Default: one for every two cores.")
@click.option("--again", is_flag=True, help="Measure anew what was NOISY, THROTTLED or TOO-SHORT.")
@click.option("--dry-run", is_flag=True, help="List every combination, and why some cannot be; do nothing.")
@json_option
def command(plan: Path, out: Path | None, scheduler: str, workers: int, again: bool, dry_run: bool, as_json: bool) -> int:
    """Measure models x precisions x steps on this machine and on devices, estimate them for others, and show which to choose.

    examples/sweep_digits.toml shows what SWEEP.toml says. Killed or run again, it goes on: what is done is not done twice.
    Exit code 1 when a run failed; what cannot be is no failure.
    """
    from edgekit.errors import Missing
    from edgekit.sweep import flow as sweep
    from edgekit.sweep import plan as sweep_plan
    from edgekit.sweep import result as sweep_result

    read = sweep_plan.read(plan)
    if dry_run:
        _list(sweep_plan.cells(read), as_json)
        return 0
    out = out or Path("runs") / plan.stem
    with progress_bar(as_json) as progress:
        found = sweep.run(read, out, scheduler, workers, progress, again)
    page, unwritten = out / "report" / "page.html", None
    try:
        sweep_result.write_report(found, out)
    except Missing as error:  # the results are there, and are shown first
        unwritten = error
    if as_json:
        print_json({**found.to_json(), "page": None if unwritten else str(page)})
    else:
        _show(found, sweep_result.run_of(found, out))
    if unwritten:
        raise unwritten
    if not as_json:
        click.echo(f"page: {page}")
    return 1 if any(r.state == "failed" for r in found.rows) else 0


def _list(cells: tuple[Cell, ...], as_json: bool) -> None:
    import dataclasses

    if as_json:
        print_json([{**dataclasses.asdict(c), "name": c.name} for c in cells])
        return
    for c in cells:
        click.echo(f"{'no ' if c.refused else 'yes'}  {c.name}" + (f": {c.refused}" if c.refused else ""))
    refused = sum(bool(c.refused) for c in cells)
    click.echo(f"{len(cells) - refused} of {len(cells)} combinations; {refused} cannot be")


def _show(found: Swept, run: Run) -> None:
    """The verdict, what is on a front, and what there is no figure of."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edgekit.report import choice

    latency, energy = found.front("latency_ms"), found.front("energy_mj")
    short = choice.short_names(found.candidates)
    console = Console()
    for sentence in choice.sentences(run):
        console.print(sentence, markup=False, highlight=False)
    on = [*latency, *(e for e in energy if e not in latency)]
    measured = [c for c in on if c.latency_ms is not None and not c.latency_ms.estimated]
    table = Table("not dominated", "front", run.score_name, "ms", "mJ", box=None, header_style="bold", pad_edge=False)
    for c in measured or on[:MOST]:
        fronts = ", ".join(unit for unit, front in (("ms", latency), ("mJ", energy)) if c in front)
        table.add_row(escape(short[c.name]), fronts, f"{c.quality:.4f}", _cost(c.latency_ms), _cost(c.energy_mj))
    console.print(table)
    if measured and len(measured) < len(on):
        console.print(f"and {len(on) - len(measured)} whose time is only estimated, too widely to be ranked: they are on the page", highlight=False)
    if any(q is not None and q.estimated for c in found.candidates for q in (c.latency_ms, c.energy_mj)):
        console.print("~ is an estimate from published figures: nothing was measured")
    for sentence in found.missing():
        console.print(f"· {sentence}", markup=False, highlight=False)


def _cost(q: Quantity | None) -> str:
    return "-" if q is None else f"{'~' * q.estimated}{q.value:.3g} ({q.low:.3g}–{q.high:.3g})"
