"""Preparations carried along: exported with the bundle that they are for, converted or copied with what is made from it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bundle import EVIDENCE, Bundle, Manifest
from edgekit.parts import Exporter, Trained


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
