"""A command on a bundle of a stranger, run again in a process with limits: whatever its graphs do to an engine is one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgekit.bundle import Bundle

ARGUMENTS = "edgekit.arguments"  # in a context's meta: the whole command line


def behind(*bundles: Bundle) -> None:
    """Return where this account made the bundles here, --trust was said, or the limits are on already. Else run this very command in a process
    with limits on memory, time, files and network, and exit as it did; EdgekitError when it was ended."""
    from edgekit.machine_code import FENCED, trusted
    from edgekit.plain_text import shown

    context = click.get_current_context(silent=True)
    theirs = next((b for b in bundles if not trusted(b.sha256)), None)
    if theirs is None or context is None or ARGUMENTS not in context.meta or os.environ.get(FENCED):
        return
    limited = "it runs with limits on memory and time, without a network; --trust: without limits"
    click.echo(f"note: {shown(theirs.folder)} was not made here: {limited}", err=True)
    raise click.exceptions.Exit(_run_again(theirs, context.meta[ARGUMENTS]))


def _run_again(bundle: Bundle, arguments: tuple[str, ...]) -> int:
    from edgekit import limits, own_process
    from edgekit.errors import Broken
    from edgekit.machine_code import FENCED
    from edgekit.plain_text import shown
    from edgekit.untrusted_process import DEATHS

    size = sum(p.stat().st_size for p in bundle.folder.rglob("*") if p.is_file())
    most_s = limits.seconds() * limits.QUESTIONS_OF_A_COMMAND
    fences = (limits.memory_bytes(size), int(most_s * limits.CPU_SECONDS_EACH) + 60, limits.MOST_DATA_BYTES)
    command = [sys.executable, "-P", "-m", "edgekit.cli._fenced", *map(str, fences), *arguments]
    process = subprocess.Popen(command, env={**own_process.environment(), FENCED: "1"}, start_new_session=True)  # noqa: S603
    try:
        code = process.wait(most_s)
    except subprocess.TimeoutExpired:
        mend = "for a slow model set EDGEKIT_UNTRUSTED_SECONDS, for your own say --trust"
        raise Broken(f"{shown(bundle.folder)} took more than {most_s:.0f} s and was stopped; {mend}") from None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: it and all that it began
        process.wait()
    if code < 0:
        died = signal.Signals(-code)
        raise Broken(f"{shown(bundle.folder)} {DEATHS.get(died, f'was ended by {died.name}')}; it is not run here")
    return code
