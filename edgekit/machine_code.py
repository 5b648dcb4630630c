"""Which bundles were made here; those that are machine code (plans, compiled packages) are opened only then, or on a person's word."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgekit import files
from edgekit.data import cache_folder
from edgekit.errors import EdgekitError

FORMATS = ("tensorrt", "aotinductor")  # whose graph files are programs: no check of their bytes can say that they are harmless
FENCED = "EDGEKIT_FENCED"  # set in the process that runs a stranger's bundle, see cli/_fence.py
TRUST = "EDGEKIT_TRUST"  # set by --trust, so that processes that edgekit starts know it too


def remember(manifest_sha256: str) -> None:
    """Note that this account made a bundle here. Where no note can be kept, it is taken for a stranger's."""
    if os.environ.get(FENCED):  # it was made from a stranger's
        return
    with suppress(EdgekitError):
        files.write_bytes(_note(manifest_sha256), b"")


def check(format_name: str, manifest_sha256: str, folder: Path) -> None:
    """EdgekitError unless the bundle holds no machine code, was made here by this account, or is trusted."""
    if format_name in FORMATS and not trusted(manifest_sha256):
        raise EdgekitError(
            f"{folder} holds machine code ({format_name}) that was not made here; make it anew from ONNX, or, if you would run a program of "
            "whoever made it, say --trust"
        )


def trusted(manifest_sha256: str) -> bool:
    """Whether this account made the bundle here, or a person said --trust."""
    return os.environ.get(TRUST) == "1" or _note(manifest_sha256).is_file()


def _note(sha256: str) -> Path:
    return cache_folder() / "made_here" / sha256
