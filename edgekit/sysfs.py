"""Small text files that a kernel serves (/sys, /proc): read below a root, so that a fake or a remote tree works too."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol


class Tree(Protocol):
    """Where sysfs files are read: this machine, a folder that imitates it, or a snapshot of another machine."""

    def read(self, path: str) -> str:
        """The text of an absolute path, stripped. OSError when it is not there, not readable or gone."""

    def find(self, pattern: str) -> list[str]:
        """Absolute paths that fit a pattern of whole path parts (`/sys/class/hwmon/hwmon*/in*_label`), sorted."""


class Files:
    """The files below `root`; "/" is this machine."""

    def __init__(self, root: Path | str = "/") -> None:
        self.root = Path(root)

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace").strip()

    def find(self, pattern: str) -> list[str]:
        found = self.root.glob(pattern.lstrip("/"))
        return sorted("/" + str(p.relative_to(self.root)) for p in found)


class Snapshot:
    """Files as they were read once, elsewhere: path -> text, or None for a file that could not be read there."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = dict(texts)

    def read(self, path: str) -> str:
        text = self.texts.get(path, "")
        if path not in self.texts:
            raise FileNotFoundError(2, "No such file or directory", path)
        if text is None:
            raise PermissionError(13, "Permission denied", path)
        return text.strip()

    def find(self, pattern: str) -> list[str]:
        parts = pattern.split("/")
        return sorted(p for p in self.texts if len(p.split("/")) == len(parts)
                      and all(fnmatchcase(a, b) for a, b in zip(p.split("/"), parts, strict=True)))  # fmt: skip


HERE = Files()
