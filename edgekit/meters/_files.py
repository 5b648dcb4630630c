"""A meter whose channels are small files of the kernel: what is read, and how a value in J or W follows from the texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.errors import EdgekitError
from edgekit.parts import Channel, Readout
from edgekit.sysfs import Tree

GONE = "the sensors went away while they were opened; measure again"


@dataclass(frozen=True)
class Rail:
    """A channel and its value from the texts of its files, in their order; None where one of them does not answer."""

    channel: Channel
    value: Callable[[Sequence[str | None]], float | None]


class FilesReadout(Readout):
    """Reads the files of its rails below a tree; `parse` does the same with texts that somebody else has read."""

    def __init__(self, tree: Tree, scope: str, total: Sequence[str], rails: Sequence[Rail]) -> None:
        self.scope = scope
        self.total = tuple(total)
        self.channels = tuple(r.channel for r in rails)
        check_there(self.total, self.channels)
        self._tree = tree
        self._rails = tuple(rails)

    def read(self) -> tuple[float | None, ...]:
        paths = dict.fromkeys(path for c in self.channels for path in c.files)
        return self.parse({path: text_of(self._tree, path) for path in paths})

    def parse(self, texts: Mapping[str, str | None]) -> tuple[float | None, ...]:
        return tuple(r.value([texts.get(path) for path in r.channel.files]) for r in self._rails)


def check_there(total: Sequence[str], channels: Sequence[Channel]) -> None:
    """EdgekitError unless all that adds up to the figure was found: a sensor may go away while it is opened."""
    if not total or not set(total) <= {c.name for c in channels}:
        raise EdgekitError(GONE)


def text_of(tree: Tree, path: str) -> str | None:
    """The text of a file, without the NUL that ends strings of a device tree; None when it cannot be read."""
    try:
        return tree.read(path).strip().strip("\0")
    except OSError:
        return None


def number(text: str | None) -> float | None:
    """The number that a text is; None for anything else (drivers write "N/A", "unknown" or nothing)."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def product(scale: float) -> Callable[[Sequence[str | None]], float | None]:
    """The numbers of all files multiplied, times `scale`: one energy or power, or volts times amperes."""

    def value(texts: Sequence[str | None]) -> float | None:
        found = scale
        for text in texts:
            factor = number(text)
            if factor is None:
                return None
            found *= factor
        return found

    return value


def board(tree: Tree) -> str:
    """The board's name from its device tree: "NVIDIA Jetson AGX Thor Developer Kit"; empty on a PC."""
    return text_of(tree, "/proc/device-tree/model") or ""
