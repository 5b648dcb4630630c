"""Preparations carried along: exported with the bundle that they are for, converted or copied with what is made from it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bundle import EVIDENCE, Bundle, Manifest
from edgekit.parts import Arrays, Exporter, Runtime, Trained


def export_prepares(part: Exporter, source: Trained | Bundle, draft: Path, options: Mapping[str, Any]) -> None:
    """Every preparation of `source` by the same exporter, into its folder of a bundle that is being written."""
    if isinstance(source, Bundle):
        for name in source.manifest.prepares:
            part.export(source.preparation(name), draft / name, options)
    else:
        for name, inner in source.prepares.items():
            part.export(inner, draft / name, options)


def copy_prepares(source: Bundle, manifest: Manifest, draft: Path) -> None:
    """The preparations that `manifest` names as they are in `source`: of a step that changes only the precision of what runs
    again and again, since a preparation runs once."""
    for name in manifest.prepares:
        shutil.copytree(source.folder / name, draft / name, ignore=lambda folder, names: {EVIDENCE} & set(names))


def completed(bundle: Bundle, arrays: Arrays, runtime: Runtime) -> dict[str, Any]:
    """The inputs of a program from arrays that hold, instead of what a preparation makes, what it makes that of; others stay as they are."""
    found = dict(arrays)
    for name in bundle.manifest.prepares:
        inner = bundle.preparation(name)
        wanted = [t.name for t in inner.manifest.signature.inputs]
        if all(n in found for n in wanted):
            with runtime.open(inner, threads=1) as session:
                found |= session.run({n: found.pop(n) for n in wanted})
    return found
