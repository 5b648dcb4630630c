"""`edgekit verify BUNDLE...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._common import json_option, opened_bundle, print_json, progress_bar, signed_option, trust_option
from edgekit.cli._fence import behind

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.verify import Verification


@click.command("verify")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--runtime", default="", help="An engine, see `edgekit parts`. Default: the format's own.")
@click.option("--all-runtimes", is_flag=True, help="Every engine that opens the format and is ready here.")
@click.option(
    "--score-limit",
    default=None,
    type=click.IntRange(min=0),
    help="Score over the first N test samples; 0 leaves the score out. Default: all; with --all-runtimes: 0.",
)
@signed_option
@trust_option
@json_option
def command(bundles: tuple[Path, ...], runtime: str, all_runtimes: bool, score_limit: int | None, signed_by: Path | None, as_json: bool) -> int:
    """Compare each BUNDLE on an engine with the golden answers and the task score. Exit code 1 when one differs."""
    from edgekit import examine
    from edgekit.errors import EdgekitError

    if runtime and all_runtimes:
        raise click.UsageError("--runtime names one engine, --all-runtimes takes all: give one of the two")
    opened = [opened_bundle(b, signed_by) for b in bundles]
    behind(*opened)
    if all_runtimes:
        with progress_bar(as_json) as progress:
            found, absent = examine.verify_everywhere(opened, score_limit or 0, progress)
        if not found:
            raise EdgekitError(f"no engine could run: {'; '.join(f'{n}: {why}' for n, why in absent.items())}")
        _show_all(found, absent, as_json)
        return 0 if all(v.passed for _, _, v in found) else 1
    results = [(b, examine.verify(b, runtime, score_limit)) for b in opened]
    if as_json:
        data = [{"bundle": str(b.folder), "label": b.label, **v.to_json()} for b, v in results]
        print_json(data if len(data) > 1 else data[0])
    else:
        for bundle, verification in results:
            _show(bundle, verification)
    return 0 if all(v.passed for _, v in results) else 1


def _show(bundle: Bundle, found: Verification) -> None:
    click.echo(
        f"{bundle.label} on {found.runtime}: {'verified' if found.passed else 'NOT EQUAL'} ({found.golden_samples} golden inputs)"
    )
    if found.output_max_abs is not None:
        click.echo(f"  outputs   largest difference {found.output_max_abs:.3g}, mean {found.output_mean_abs or 0:.3g}")
    if found.sqnr_db is not None:
        click.echo(f"  SQNR      {found.sqnr_db:.1f} dB, signal to quantisation noise of the worst output")
    if found.same_share is not None:
        before = 100 * (found.chunks_compared or 0.0)
        where = "up to the first difference" if bundle.manifest.program.stream else "where nothing differs"
        of = "chunks" if bundle.manifest.program.stream else "samples"
        click.echo(f"  decided   {100 * found.same_share:.1f} % alike; the rest is compared {where}, {before:.3g} % of the {of}")
    if found.spikes_compared:
        click.echo(
            f"  spikes    {found.spike_flips} of {found.spikes_compared} flipped, {found.spike_flips_near} of them at the threshold"
        )
        for flip in found.flips:
            click.echo(f"            {flip}")
    if found.pieces_equal:
        click.echo(f"  stream    {found.pieces_equal} runs, in pieces of random sizes and begun anew, equal bit for bit")
    if found.exact_mismatches is not None:
        click.echo(f"  integers  {found.exact_mismatches} differ from the integer reference")
    for name, said in found.prepares.items():
        gap = f", largest difference {said['output_max_abs']:.3g}" if said["output_max_abs"] is not None else ""
        click.echo(f"  prepares  {name}: {'verified' if said['passed'] else 'NOT EQUAL'} ({said['golden_samples']} golden inputs){gap}")
    for name, said in found.tasks.items():
        gap = f", largest difference {said['output_max_abs']:.3g}" if said["output_max_abs"] is not None else ""
        click.echo(f"  task      {name}: {'verified' if said['passed'] else 'NOT EQUAL'} ({said['golden_samples']} golden inputs){gap}")
    if found.score is not None:
        against = f", trained network {found.score_reference:.4f}" if found.score_reference is not None else ""
        click.echo(f"  score     {found.score:.4f} over {found.score_samples} samples{against}")
    if found.note:
        click.echo(f"  note      {found.note}")
    for failure in found.failures:
        click.echo(f"  failed    {failure}")


def _show_all(found: list[tuple[Bundle, str, Verification]], absent: dict[str, str], as_json: bool) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [
            {"bundle": str(b.folder), "label": b.label, "engine": name, **v.to_json()} for b, name, v in found
        ]
        print_json({"passed": all(v.passed for _, _, v in found), "verifications": rows, "not_ready": absent})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("bundle", overflow="fold")
    for title, side in (("runtime", "left"), ("same", "left"), ("largest gap", "right"), ("flips", "right"),
                        ("spikes", "right"), ("pieces", "right")):  # fmt: skip
        table.add_column(title, justify=side)  # type: ignore[arg-type]
    shown = None
    for bundle, name, v in found:
        first, shown = "" if bundle is shown else bundle.folder.name, bundle
        spikes = f"{v.spikes_compared:,}" if v.spikes_compared else "-"
        flips = "-" if not v.spikes_compared else str(v.spike_flips)
        same = "yes" if v.passed else "NO" if v.golden_samples else "refused"
        table.add_row(first, name, same, _gap(v.output_max_abs), flips, spikes, str(v.pieces_equal or "-"))
        for inner, said in {**v.prepares, **v.tasks}.items():
            table.add_row(f"  {inner}", "", "yes" if said["passed"] else "NO", _gap(said["output_max_abs"]), "-", "-", "-")
    console = Console(highlight=False)
    console.print(table)
    for bundle, name, v in found:
        for failure in v.failures:
            console.print(f"{bundle.folder.name} on {name}: {failure}", markup=False)
    if any(v.failures and v.golden_samples and b.manifest.model is None for b, _, v in found):
        console.print("where f32 itself is no finer than that, say so at the export: --tolerance", markup=False)
    for name, why in absent.items():
        console.print(f"{name} was left out: {why}", markup=False)


def _gap(largest: float | None) -> str:
    return "-" if largest is None else f"{largest:.1e}" if largest else "0"
