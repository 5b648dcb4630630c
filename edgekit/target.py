"""A device: what it is, which runtimes serve it, and its figures, each with its source; read strictly from TOML."""

from __future__ import annotations

import importlib
import os
import platform
import tomllib
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Literal

from edgekit.errors import EdgekitError, no_such
from edgekit.recipe import fill

FOLDER = "edgekit.targets"


@dataclass(frozen=True)
class Figure:
    """One number of a device. `source` names the document or counter, `grade` says how good the evidence is."""

    name: str
    value: float
    unit: str
    source: str
    grade: Literal["specified", "simulated", "derived", "measured"]


@dataclass(frozen=True)
class PowerMode:
    """A mode that a person can put the device in, with the command for it; edgekit never runs it."""

    name: str
    command: str


@dataclass(frozen=True)
class Target:
    """A device. `runtimes` names runtime parts, the preferred one first; `precisions` are those it runs, best first."""

    name: str
    label: str
    kind: Literal["cpu", "gpu", "npu", "neuromorphic"]
    runtimes: tuple[str, ...]
    precisions: tuple[Literal["f32", "f16", "int8"], ...]
    meter: str  # the meter part; "none" where there is no counter
    here: bool = False  # this machine itself: its figures are probed when asked for, not typed
    simulated: bool = False  # a simulator stands for the device: its times say nothing of the device
    prices: tuple[str, ...] = ()  # price profiles that fit the device (edgekit/prices.py)
    power_modes: tuple[PowerMode, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        """Refuse what no device can be."""
        if not self.runtimes or not self.precisions:
            raise ValueError("a target needs at least one runtime and one precision")
        for what, given in (("figure", self.figures), ("power mode", self.power_modes)):
            known = [x.name for x in given]
            if len(set(known)) != len(known):
                raise ValueError(f"each {what} is given once, found {known}")
        if self.here and self.figures:
            raise ValueError("the figures of this machine are probed when asked for; remove them from the file")

    def known_figures(self) -> tuple[Figure, ...]:
        """The figures of the file or, for this machine, those that can be read from it now."""
        return probe() if self.here else self.figures


def names() -> list[str]:
    """The targets that edgekit brings."""
    folder = package_files(importlib.import_module(FOLDER))
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load(name: str | Path) -> Target:
    """The target of that name, or of a TOML file of your own: a path that ends in .toml."""
    if str(name).endswith(".toml"):
        path = Path(name)
        try:
            return read(path.read_text(encoding="utf-8"), path.stem, str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise EdgekitError(f"cannot read the target file {path}: {error}; there are also: {', '.join(names())}") from None
    if str(name) not in names():
        raise no_such("target", str(name), names(), "a target of your own is given as a path that ends in .toml")
    file = package_files(importlib.import_module(FOLDER)) / f"{name}.toml"
    return read(file.read_text(encoding="utf-8"), str(name), f"targets/{name}.toml")


def read(text: str, name: str, where: str) -> Target:
    """A target from the text of a TOML file; EdgekitError, beginning with `where`, for anything that does not fit."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EdgekitError(f"{where} is not TOML: {error}") from None
    if "name" in values:
        raise EdgekitError(f"{where}: a target is named by its file; remove the key 'name'")
    target: Target = fill(Target, {"name": name, **values}, where)
    return target


def processor() -> str:
    """The model name of this machine's processor, as it states it itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    stated = next((x.partition(":")[2].strip() for x in lines if x.startswith(("model name", "Model"))), "")
    return stated or platform.processor() or platform.machine()


def probe() -> tuple[Figure, ...]:
    """What this machine says about itself; a figure that cannot be read is left out."""
    figures = []
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if usable:
        figures.append(Figure("usable_cores", float(usable), "cores", "scheduler affinity of this process", "measured"))
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
        figures.append(Figure("memory", total, "MiB", "sysconf", "measured"))
    except (AttributeError, ValueError, OSError):
        pass
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
        if limit.isdigit():
            figures.append(Figure("memory_limit", int(limit) / 2**20, "MiB", "cgroup memory.max", "measured"))
    except OSError:
        pass
    return tuple(figures)
