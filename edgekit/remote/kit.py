"""What another machine needs to run bundles without Python: one program and the library that it opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekit.measurement import Progress


@dataclass(frozen=True)
class Kit:
    """Files of this machine, built for another. library: None where the other machine has its own."""

    runner: Path  # the C++ runner, edgekit-run
    library: Path | None  # libonnxruntime.so


@runtime_checkable
class Portable(Protocol):
    """A runtime that can be carried to another machine."""

    def kit(self, architecture: str, glibc: tuple[int, int], library: bool, progress: Progress) -> Kit:
        """The kit for a Linux of that architecture (as `uname -m` says it) with that glibc, built and fetched where it is not
        there yet. library=False: without ONNX Runtime. EdgekitError when there is none for such a machine."""
