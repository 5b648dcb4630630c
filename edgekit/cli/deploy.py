"""`edgekit deploy SOURCE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import (
    folder_argument,
    formats_option,
    json_option,
    missing_option,
    print_json,
    progress_bar,
    seconds_option,
    wishes,
)


@click.command("deploy")
@folder_argument("source")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="Run folder. Default: the one that SOURCE lies in."
)
@formats_option
@missing_option
@click.option(
    "--score-limit",
    default=None,
    type=click.IntRange(min=0),
    help="Score over the first N test samples; 0 leaves the score out.",
)
@seconds_option
@json_option
def command(
    source: Path,
    out: Path | None,
    formats: str,
    allow_missing: bool,
    score_limit: int | None,
    seconds: float,
    as_json: bool,
) -> None:
    """All of export, calibrate, compile, verify, profile and report. SOURCE is a recipe, a checkpoint or a run folder.

    A recipe is trained first, to runs/<name of the recipe>. What is done already is kept.
    """
    from edgekit import flow, report

    with progress_bar(as_json) as progress:
        if source.suffix == ".toml":
            out = out or Path("runs") / source.stem
            found = flow.run(
                source,
                out,
                wishes(formats),
                progress,
                allow_missing=allow_missing,
                score_limit=score_limit,
                seconds=seconds,
            )
        else:
            out = out or flow.run_folder_of(source)
            bundles = flow.deploy(
                source, out, wishes(formats) or flow.DEFAULT_FORMATS, progress, score_limit, seconds, allow_missing
            )
            found = flow.write_report(out)
            flow.require_all(bundles, out)
    if as_json:
        print_json(found.to_json())
    else:
        report.show(found)
        click.echo(f"page: {out / 'report' / 'page.html'}")
