"""Put on PYTHONPATH by benchmarks/hostile_overhead.py: switches edgekit's checks of files off in every process of a command.

Python imports a module of this name when it starts. EDGEKIT_CHECKS=off replaces the checks by functions that do nothing, each as soon
as its module is there; EDGEKIT_PROFILING=off leaves the timing out of a deploy. With neither, a command is what it is.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class Same:
    """Is equal to everything: a hash that nobody computed, a list of files that nobody made."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def __sub__(self, other: object) -> Same:
        return self

    def get(self, name: str) -> Same:
        """The same for every file."""
        return self


class SameHashes:
    """edgekit.files, whose files all have the hash that was written down."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return (lambda _path: Same()) if name == "sha256_of" else getattr(self._module, name)


def nothing(*_: Any, **__: Any) -> None:
    """No check."""


def bundle(module: ModuleType) -> None:
    """Opened without its hashes and without a look at what lies there; what is made is hashed as ever, since lineage is made of it."""
    whole = module._open
    module._open = lambda folder, _proven, may_prepare: whole(folder, Same(), may_prepare)
    module._files_in = lambda *_: Same()
    module._check_prepares = nothing


def untrusted(module: ModuleType) -> None:
    """The engine in the process itself."""
    @contextmanager
    def guarded(path: Any, _model_bytes: int, _trust: bool) -> Any:
        yield module.Guarded(path, module.Engine())

    module.guarded = guarded


def replaced(**names: Any) -> Callable[[ModuleType], None]:
    """Set these names of a module, which it must have."""

    def patch(module: ModuleType) -> None:
        for name, value in names.items():
            place, last = module, name
            if "__of__" in name:
                last, _, kind = name.partition("__of__")
                place = getattr(module, kind)
            getattr(place, last)  # a check that was renamed would stay on unnoticed
            setattr(place, last, value)

    return patch


CHECKS: dict[str, Callable[[ModuleType], None]] = {
    "edgekit.sniff": replaced(check_plain=nothing, read_plain=lambda path, *_: path.read_bytes(), refuse_file=nothing, kind_of=lambda _: ""),
    "edgekit.text_file": replaced(parse_json=lambda raw, *_: json.loads(raw), _plain=lambda data, *_: data),
    "edgekit.plain_text": replaced(find_odd=nothing, is_odd=lambda *_: False),
    "edgekit.program_check": replaced(check=nothing, check_preparation=nothing, check_same_share=nothing),
    "edgekit.bundle": bundle,
    "edgekit.checkpoint": lambda module: setattr(module, "files", SameHashes(module.files)),
    "edgekit.machine_code": replaced(check=nothing, remember=nothing, trusted=lambda _: True),
    "edgekit.nir_file": replaced(_look_through=nothing),
    "edgekit.files": replaced(_sync=nothing),
    "edgekit.wire": replaced(check_wire=nothing),
    "edgekit.onnx_checks": replaced(check_proto=nothing, check_filled=nothing),
    "edgekit.model_engine": replaced(check__of__Engine=nothing),
    "edgekit.untrusted": untrusted,
}
PROFILING = {"edgekit.examine": replaced(profile=nothing, profile_layers=nothing)}


class Finder(importlib.abc.MetaPathFinder):
    """Finds as ever, and patches once the module is there."""

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self._left = dict(patches)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """See MetaPathFinder."""
        patch = self._left.pop(fullname, None)
        spec = importlib.util.find_spec(fullname) if patch else None
        if patch is None or spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_PATCHES = {**(CHECKS if os.environ.get("EDGEKIT_CHECKS") == "off" else {}), **(PROFILING if os.environ.get("EDGEKIT_PROFILING") == "off" else {})}
if _PATCHES:
    sys.meta_path.insert(0, Finder(_PATCHES))
    if "edgekit.files" in _PATCHES:
        os.fsync = nothing  # type: ignore[assignment]
