"""`edgekit deploy SOURCE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli._common import (
    formats_option,
    json_option,
    missing_option,
    print_json,
    processes_option,
    progress_bar,
    seconds_option,
    wishes,
)
from edgekit.cli._own_model import own_model_options, own_wishes


@click.command("deploy")
@click.argument("source")
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
@processes_option
@own_model_options
@json_option
def command(
    source: str,
    out: Path | None,
    formats: str,
    allow_missing: bool,
    score_limit: int | None,
    seconds: float,
    processes: int,
    as_json: bool,
    **said: Any,
) -> None:
    """All of export, calibrate, compile, verify, profile and report. SOURCE is a recipe, a checkpoint, a run folder, or a
    model of your own: a .onnx file, a .pt2, or module:function.

    A recipe is trained first, to runs/<name of the recipe>. A model of your own is scored with --test and quantised
    with --calibration. What is done already is kept.
    """
    from edgekit import flow, intake, report

    with progress_bar(as_json) as progress:
        if source.endswith(".toml"):
            out = out or Path("runs") / Path(source).stem
            found = flow.run(
                source,
                out,
                wishes(formats),
                progress,
                allow_missing=allow_missing,
                score_limit=score_limit,
                seconds=seconds,
                processes=processes,
            )
        else:
            own = intake.is_own(source)
            out = out or (Path("runs") / Path(source.replace(":", "-")).stem if own else flow.run_folder_of(Path(source)))
            usual = wishes(formats) or flow.usual_formats(source, bool(said["calibration"]))
            bundles = flow.deploy(  # fmt: skip
                source, out, usual, progress, score_limit=score_limit, seconds=seconds,
                allow_missing=allow_missing, wishes=own_wishes(**said), processes=processes,
            )
            found = flow.write_report(out)
            flow.require_all(bundles, out)
    if as_json:
        print_json(found.to_json())
    else:
        report.show(found)
        click.echo(f"page: {out / 'report' / 'page.html'}")
