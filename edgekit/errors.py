"""The errors that a user can mend: what was asked, what there is, what to do, in one sentence."""

from collections.abc import Iterable


class EdgekitError(Exception):
    """The base of all errors that the command line prints without a traceback; exit code 2."""

    exit_code = 2


class Missing(EdgekitError):
    """Something that can be installed or set up is not there; the text says with which command."""


class Broken(EdgekitError):
    """A file is not what it says it is: a hash, a field or a version does not fit."""


class Unwritable(EdgekitError):
    """The place to write to refuses: it is full, read only, or another process works there. The same work may go well later."""


class NotEqual(EdgekitError):
    """An exported model does not give the answers of the model it came from; exit code 1."""

    exit_code = 1


def no_such(kind: str, asked: str, known: Iterable[str], hint: str = "") -> EdgekitError:
    """`no target 'cqu'; there are: cpu, jetson` - the one way edgekit refuses a name."""
    there = ", ".join(sorted(known)) or "none"
    return EdgekitError(f"no {kind} '{asked}'; there are: {there}" + (f"; {hint}" if hint else ""))
