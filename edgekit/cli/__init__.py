"""The command line: one file a verb, loaded when named, so that --help imports nothing heavy."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any

import click

from edgekit import __version__
from edgekit.cli._fence import ARGUMENTS

# verb -> its line in --help; a literal, so that listing the verbs loads none of them.
VERBS = {
    "demo": "Train, export, verify and profile the digits network; show one page.",
    "train": "Train by a recipe.",
    "export": "Export a checkpoint, a bundle, or a model of your own, to one format.",
    "calibrate": "Quantise a bundle.",
    "verify": "Same inputs, same answers? Check a bundle on an engine.",
    "profile": "Time a verified bundle, here or on a device; energy, where there is a meter.",
    "compare": "Which of two bundles is faster here, and how sure that is.",
    "import-measurement": "Store what trtexec measured on another machine.",
    "estimate": "What a bundle would take on devices that are not here.",
    "deploy": "Export to several formats, verify and profile each.",
    "sweep": "Models x precisions x steps on many devices: which to choose.",
    "report": "Table, JSON and one offline page of a run folder.",
    "run": "Run a bundle, loop and all, on inputs of your own.",
    "embed": "Write a C++ project around a bundle.",
    "sign": "Sign a bundle, so that others see who made it.",
    "check-signature": "Who made this bundle? Check its signature and every file.",
    "parts": "What there is: families, exporters, calibrators, runtimes, meters.",
    "targets": "The devices that edgekit knows.",
    "doctor": "What this machine has, and what is missing.",
    "data": "List and fetch data sets.",
    "setup": "Build what pip cannot bring: setup lava, setup cpp.",
}


class _Verbs(click.Group):
    """A group whose commands are modules of this package, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"edgekit.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"no command '{args[0]}'; there are: {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgekit")
def cli() -> None:
    """Take a trained, time-stepped model to a device: export the step and its loop, prove it, say what it costs."""


def main() -> int:
    """Run the command line; errors that a user can mend end in one sentence and exit code 2."""
    from edgekit.errors import EdgekitError
    from edgekit.plain_text import one_line

    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except EdgekitError as error:
        click.echo(f"error: {one_line(error)}", err=True)  # names out of files may hold anything
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; run the same command again to go on", err=True)
        return 130
    except Exception as error:
        from edgekit.files import what_the_disk_said

        said = what_the_disk_said(error)  # of a folder for temporary files, say, or of whatever takes the output
        if not said:
            raise
        place = f" {one_line(error.filename)}" if isinstance(error, OSError) and error.filename else ""
        with suppress(OSError):
            click.echo(f"error: cannot write{place}: {said}; free space, or set TMPDIR to another folder", err=True)
        return 2
    return code if isinstance(code, int) else 0
