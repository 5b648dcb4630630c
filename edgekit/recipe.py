"""Read a recipe: strict TOML into the frozen dataclass of its family; an unknown key lists the known ones."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.text_file import parse_toml, read_text


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as read: the family's name, the raw values, and a name (of the file) for folders and tables."""

    name: str
    family: str
    values: Mapping[str, Any]  # without `family`

    @property
    def data(self) -> dict[str, Any]:
        """The whole recipe as plain values."""
        return {"family": self.family, **self.values}


def read(path: Path | str) -> RecipeFile:
    """Read a TOML file; EdgekitError, with the path, when it is not there or not a recipe."""
    path = Path(path)
    if not path.exists():
        raise EdgekitError(f"no recipe at {path}; examples/ holds recipes to start from")
    values = parse_toml(read_text(path, "a TOML recipe"), f"{path} is not a TOML recipe")
    family = values.pop("family", None)
    if not isinstance(family, str):
        raise EdgekitError(f"{path}: the first line of a recipe names its family, as in: family = \"iir_snn\"")
    return RecipeFile(path.stem, family, values)


def fill(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from plain values: nested dataclasses from tables, tuples from arrays, no type is bent.

    Raises EdgekitError for an unknown key (listing the known ones), a missing key and a value of another type; a
    ValueError from the dataclass's own __post_init__ becomes one too.
    """
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise EdgekitError(f"{where}: unknown key '{key}'{hint}; known are: {', '.join(sorted(fields))}")
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise EdgekitError(f"{where}: '{name}' is missing")
    try:
        return cls(**{k: _value(hints[k], v, f"{where}: {k}") for k, v in values.items()})
    except ValueError as error:
        raise EdgekitError(f"{where}: {error}") from None


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Types by field; they are written as text, and to evaluate them takes longer than to read a recipe."""
    return typing.get_type_hints(cls)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise EdgekitError(f"{where} must be a table, found {value!r}")
        return fill(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise EdgekitError(f"{where} must be an array, found {value!r}")
        kinds = [args[0]] * len(value) if args[-1] is ... else args
        if len(kinds) != len(value):
            raise EdgekitError(f"{where} must have {len(kinds)} values, found {value!r}")
        return tuple(_value(kind, v, f"{where}[{i}]") for i, (kind, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise EdgekitError(f"{where} must be a table, found {value!r}")
        return {_value(args[0], k, f"{where}: a key"): _value(args[1], v, f"{where}: {k}") for k, v in value.items()}
    if origin in (types.UnionType, typing.Union):
        for kind in args:
            if kind is type(None) and value is None:
                return None
            try:
                return _value(kind, value, where)
            except EdgekitError:
                continue
        raise EdgekitError(f"{where} must be {' or '.join(_name(k) for k in args)}, found {value!r}")
    if origin is typing.Literal:
        if value not in args:
            raise EdgekitError(f"{where} must be one of {', '.join(map(repr, args))}, found {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise EdgekitError(f"{where} must be {_name(hint)}, found {value!r}")
    return value


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))
