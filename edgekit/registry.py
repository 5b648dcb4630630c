"""Find a part by the name of its file, or by an entry point of another package."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from edgekit.errors import EdgekitError, Missing, no_such
from edgekit.parts import Calibrator, Exporter, Family, Meter, Part, Runtime

P = TypeVar("P", bound=Part)

FOLDERS: dict[type[Part], str] = {
    Family: "models",
    Exporter: "exporters",
    Calibrator: "calibration",
    Runtime: "runtimes",
    Meter: "meters",
}


def names(kind: type[Part]) -> list[str]:
    """All parts of a kind, installed libraries or not."""
    folder = importlib.import_module(f"edgekit.{FOLDERS[kind]}")
    return sorted({*_own(tuple(folder.__path__)), *_foreign(f"edgekit.{FOLDERS[kind]}")})


@functools.cache
def _own(paths: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of these folders; a deploy asks a hundred times."""
    return tuple(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def load(kind: type[P], name: str) -> P:
    """The part of that name, whether or not its libraries are installed."""
    if name not in names(kind):
        raise no_such(kind.__name__.lower(), name, names(kind))
    foreign = _foreign(f"edgekit.{FOLDERS[kind]}")
    module = foreign[name].load() if name in foreign else importlib.import_module(f"edgekit.{FOLDERS[kind]}.{name}")
    part = getattr(module, "PART", None)
    if not isinstance(part, kind):
        raise EdgekitError(f"{module.__name__}.PART must be of type {kind.__name__}, found {type(part).__name__}")
    return part


@functools.cache
def _foreign(group: str) -> dict[str, EntryPoint]:
    """Parts of other packages; reading the metadata of all that is installed takes 7 ms."""
    return {e.name: e for e in entry_points(group=group)}


def find(kind: type[P], name: str) -> P:
    """The part of that name, ready to work; Missing says what to install."""
    part = load(kind, name)
    absent = missing(part)
    if absent:
        raise Missing(f"{kind.__name__.lower()} '{name}' needs {', '.join(absent)}, not installed here: {install_hint(part)}")
    return part


def missing(part: Part) -> list[str]:
    """The modules that a part needs and that cannot be imported here."""
    return missing_modules(part.needs)


def missing_modules(names: tuple[str, ...]) -> list[str]:
    """Those of the modules that cannot be imported here."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def install_hint(part: Part) -> str:
    """The command that brings what a part needs."""
    return f"pip install 'edgekit[{part.extra}]'" if part.extra else f"pip install {' '.join(part.needs)}"
