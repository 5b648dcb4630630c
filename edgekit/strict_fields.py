"""A frozen dataclass from JSON: an unknown, a missing or a wrongly typed field is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from edgekit.errors import Broken

Reader = Callable[[Any, str], Any]  # (value, where)
_PLAIN: dict[str, Any] = {"str": str, "float": (int, float), "int": int, "bool": bool, "Mapping": dict, "tuple": list,
                          "int | None": (int, type(None))}


def read(cls: Any, data: Any, where: str, readers: Mapping[str, Reader] | None = None) -> Any:
    """`data` as an instance of the dataclass `cls`; `readers`: field -> what reads it. Raises Broken, naming `where` and the field."""
    names = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(data, dict) or set(data) != set(names):
        found = sorted(data) if isinstance(data, dict) else data
        raise Broken(f"{where}: {cls.__name__} has the fields {sorted(names)}, found {found}")
    special = readers or {}
    return cls(**{n: special[n](v, where) if n in special else _field(n, str(names[n].type), v, where) for n, v in data.items()})


def _field(name: str, declared: str, value: Any, where: str) -> Any:
    kind = declared.split("[", maxsplit=1)[0]
    if not isinstance(value, _PLAIN[kind]) or (kind in ("int", "float", "int | None") and isinstance(value, bool)):
        raise Broken(f"{where}: '{name}' must be {kind}, found {value!r}")
    if kind == "tuple" and not all(isinstance(v, str) and v for v in value):
        raise Broken(f"{where}: '{name}' must be a list of names, found {value!r}")
    return tuple(value) if kind == "tuple" else value
