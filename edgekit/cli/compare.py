"""`edgekit compare A B`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli._common import (
    folder_argument,
    json_option,
    print_json,
    progress_bar,
    request_options,
    task_option,
    trust_option,
)


@click.command("compare")
@folder_argument("a")
@folder_argument("b")
@task_option
@request_options
@click.option("--task-b", default="", metavar="NAME", help="The task of B, where it is not that of A.")
@click.option("--runtime-b", default="", help="The engine of B, where it is not that of A or the format's own.")
@trust_option
@json_option
def command(a: Path, b: Path, task: str, task_b: str, runtime_b: str, as_json: bool, **asked: Any) -> None:
    """Which of two verified bundles is faster here: fresh processes in turns (A B B A), the ratio and its interval.

    A and B may be the same bundle with --runtime and --runtime-b. --seconds is for each of the two.
    """
    import dataclasses

    from edgekit import examine
    from edgekit.bundle import open_bundle
    from edgekit.cli._fence import behind

    first, second = open_bundle(a).of_task(task), open_bundle(b).of_task(task_b or task)
    behind(first, second)
    request = examine.request(**asked)
    other = dataclasses.replace(request, runtime=runtime_b or (request.runtime if second.manifest.format == first.manifest.format else ""))
    with progress_bar(as_json) as progress:
        found = examine.compare(first, second, (request, other), progress)
    if as_json:
        print_json({"bundles": [str(a), str(b)], **found.to_json()})
        return
    for side, bundle, m in (("A", first, found.a), ("B", second, found.b)):
        calm = "" if m.latency_undisturbed_p50_ms is None else f", undisturbed {m.latency_undisturbed_p50_ms:.4g} ms"
        click.echo(f"{side}  {bundle.label} on {m.runtime}: p50 {m.latency_p50_ms:.4g} ms{calm} ({m.verdict})  {bundle.folder}")
        for reason in m.reasons:
            click.echo(f"   {m.verdict.lower()}: {reason}")
    interval = "no interval: 3 processes are needed" if found.ratio_low is None else f"{found.ratio_low:.3f} to {found.ratio_high:.3f} (95 %)"
    click.echo(f"B takes {found.ratio:.3f} times as long as A, {interval}, {len(found.pair_ratios)} pairs")
    said = {"A": "A is faster.", "B": "B is faster.", "": "No difference is shown: the interval holds 1."}[found.faster]
    click.echo(said if found.ratio_low is not None else "Nothing can be said with so few processes.")
