"""Small text files that a kernel serves (/sys, /proc): read below a root, so that a fake or a remote tree works too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol


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
        self._tree: _Tree = {}
        self._counted = -1  # texts that _tree holds; they only become more

    def read(self, path: str) -> str:
        text = self.texts.get(path, "")
        if path not in self.texts:
            raise FileNotFoundError(2, "No such file or directory", path)
        if text is None:
            raise PermissionError(13, "Permission denied", path)
        return text.strip()

    def find(self, pattern: str) -> list[str]:
        """Walks down part by part, so that a pattern with few wildcards is as cheap in a large tree as in a small one."""
        if self._counted != len(self.texts):
            self._tree, self._counted = _tree_of(self.texts), len(self.texts)
        found = [("", self._tree)]
        for part in pattern.split("/"):
            fits = _fits(part)
            found = [(f"{path}/{name}", inner) for path, here in found for name, inner in fits(here)]
        return sorted(path[1:] for path, _ in found if path[1:] in self.texts)


_Tree = dict[str, Any]


def _tree_of(texts: Mapping[str, str | None]) -> _Tree:
    """Parts of paths in one another."""
    root: _Tree = {}
    for path in texts:
        here = root
        for part in path.split("/"):
            here = here.setdefault(part, {})
    return root


def _fits(part: str) -> Callable[[_Tree], Iterable[tuple[str, _Tree]]]:
    if set(part) & set("*?["):
        return lambda here: ((name, inner) for name, inner in here.items() if fnmatchcase(name, part))
    return lambda here: ((part, here[part]),) if part in here else ()


HERE = Files()
