"""Bundles whose files are machine code (plans, compiled packages): opened where they were made, or on a person's word."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgekit import files
from edgekit.data import cache_folder
from edgekit.errors import EdgekitError

FORMATS = ("tensorrt", "aotinductor")  # whose graph files are programs: no check of their bytes can say that they are harmless
TRUST = "EDGEKIT_TRUST"  # set by --trust, so that processes that edgekit starts know it too


def remember(format_name: str, manifest_sha256: str) -> None:
    """Note that this account made a bundle here. Where no note can be kept, --trust will be asked for."""
    if format_name in FORMATS:
        with suppress(EdgekitError):
            files.write_bytes(_note(manifest_sha256), b"")


def check(format_name: str, manifest_sha256: str, folder: Path) -> None:
    """EdgekitError unless the bundle holds no machine code, was made here by this account, or is trusted."""
    if format_name in FORMATS and os.environ.get(TRUST) != "1" and not _note(manifest_sha256).is_file():
        raise EdgekitError(
            f"{folder} holds machine code ({format_name}) that was not made here; make it anew from ONNX, or, if you would run a program of "
            "whoever made it, say --trust"
        )


def _note(sha256: str) -> Path:
    return cache_folder() / "made_here" / sha256
