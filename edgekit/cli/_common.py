"""What the verbs share: --json, progress bars, --out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.measurement import Progress, silent

if TYPE_CHECKING:
    from edgekit.bundle import Bundle

json_option = click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON document on stdout.")
formats_option = click.option(
    "--formats", default="", help="Comma-separated, as in onnx,openvino,nir,nir:int8,lava. Default: the recipe's."
)
task_option = click.option("--task", default="", metavar="NAME", help="Which program of a bundle that has several. Default: its own.")


def _trusted(_context: click.Context, _option: click.Parameter, said: bool) -> None:
    if said:
        from edgekit.machine_code import TRUST

        os.environ[TRUST] = "1"


trust_option = click.option("--trust", is_flag=True, expose_value=False, callback=_trusted,
                            help="You would run a program of whoever made BUNDLE: no limits; opens TensorRT and AOTInductor code.")  # fmt: skip
signed_option = click.option(
    "--signed-by", type=click.Path(path_type=Path), default=None, metavar="PUBLIC.pem",
    help="Open the bundle only if BUNDLE.sig beside it is a signature by this key: `edgekit sign`.",
)  # fmt: skip
missing_option = click.option(
    "--allow-missing", is_flag=True, help="Go on without the runtimes that are not installed; the report names them."
)
processes_option = click.option(
    "--processes",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="Fresh processes that are timed; fewer than 5 are TOO-SHORT.",
)
seconds_option = click.option(
    "--seconds",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.05),
    help="How long the steady state is timed, all processes together.",
)
_REQUEST = (
    click.option("--runtime", default="", help="An engine, see `edgekit parts`. Default: the format's own."),
    click.option(
        "--threads",
        default=1,
        show_default=True,
        type=click.IntRange(min=0),
        help="1 = one thread pinned to one core; 0 = all cores.",
    ),
    seconds_option,
    processes_option,
    click.option(
        "--scenario",
        default="single",
        show_default=True,
        type=click.Choice(["single", "multi", "offline", "poisson", "stream"]),
        help="How queries come.",
    ),
    click.option(
        "--rate-hz",
        default=0.0,
        type=click.FloatRange(min=0),
        help="poisson: arrivals a second (default: half of what it can do); stream: samples of the signal a second.",
    ),
    click.option(
        "--energy-seconds",
        default=3.0,
        show_default=True,
        type=click.FloatRange(min=0),
        help="Window under a meter, where there is one; 0 = none.",
    ),
)


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is to be timed and how long: the fields of process_run.Request."""
    for option in reversed(_REQUEST):
        command = option(command)
    return command


def wishes(formats: str) -> tuple[str, ...]:
    """`onnx,nir:int8` as a tuple; blanks are dropped."""
    return tuple(part.strip() for part in formats.split(",") if part.strip())


def folder_argument(name: str) -> Callable[[Any], Any]:
    """A path argument; whether there is a bundle or a checkpoint in it is said by edgekit itself."""
    return click.argument(name, type=click.Path(path_type=Path))


def opened_bundle(folder: Path, signed_by: Path | None) -> Bundle:
    """The bundle, whole; with a key only if its owner signed it."""
    if signed_by is None:
        from edgekit.bundle import open_bundle

        return open_bundle(folder)
    from edgekit.signing import open_signed

    return open_signed(folder, signed_by).bundle


def print_json(data: Any) -> None:
    """One JSON document; no NaN."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str))


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A function that shows progress on stderr; nothing with --json, plain lines where stderr is no terminal."""
    if quiet:
        yield silent
        return
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<44}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=False) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


def _plain_progress() -> Progress:
    last: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        if last.get(what) != tenth:
            last[what] = tenth
            click.echo(f"{what}: {done}/{total}", err=True)

    return show
