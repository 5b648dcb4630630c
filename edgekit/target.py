"""A device: what it is, which runtimes serve it, and its figures, each with its source; read strictly from TOML."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.resources import files as package_files
from pathlib import Path
from typing import Literal

from edgekit import probe
from edgekit.errors import EdgekitError, no_such
from edgekit.figures import PARTS, Figure, Grade, base_of, contradictions, find
from edgekit.recipe import fill
from edgekit.sysfs import HERE, Tree
from edgekit.text_file import parse_toml, read_text

FOLDER = "edgekit.targets"
processor = probe.processor


@dataclass(frozen=True)
class PowerMode:
    """A mode that a person can put the device in; edgekit never runs the command.

    {id} in the command is the number that the device's own /etc/nvpmodel.conf gives this name: it differs by board and
    JetPack. None: not limited by the mode, or not known. What is given here holds instead of the target's figure.
    """

    name: str
    command: str
    watts: float | None = None  # the budget of the mode
    clock: float | None = None  # MHz, of the target's main unit
    cores: float | None = None
    bandwidth: float | None = None  # GB/s
    source: str = ""
    grade: Grade = "second-hand"


@dataclass(frozen=True)
class Target:
    """A device. `runtimes` names runtime parts, the preferred one first; `precisions` are those it runs, best first.

    Figures without an ending are of the unit that the first runtime uses; `runs_on` names the part (figures.PARTS) that
    another runtime uses, as in {onnxruntime = "cpu"} on a board with a GPU.
    """

    name: str
    label: str
    kind: Literal["cpu", "gpu", "npu", "neuromorphic", "mcu"]
    runtimes: tuple[str, ...]
    precisions: tuple[Literal["f32", "f16", "bf16", "int8"], ...]
    meter: str  # the meter part; "auto": the first that can be read; "none" where there is no counter
    no_runtime: str = ""  # where runtimes is empty: why, and what to do instead
    runs_on: Mapping[str, str] = field(default_factory=dict)  # runtime -> part
    architecture: Literal["", "x86_64", "aarch64", "armv7em", "xtensa"] = ""  # of the processor that runs programs
    recognise: tuple[str, ...] = ()  # patterns for what such a machine calls itself (probe.Machine.names)
    here: bool = False  # this machine itself
    probed: bool = False  # any machine of this architecture: its figures are read on it when asked for, not typed
    simulated: bool = False  # a simulator stands for the device: its times say nothing of the device
    prices: tuple[str, ...] = ()  # price profiles that fit the device (edgekit/prices.py)
    power_modes: tuple[PowerMode, ...] = ()
    figures: tuple[Figure, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)  # figure -> why there is none
    notes: str = ""

    def __post_init__(self) -> None:
        """Refuse what no device can be."""
        if not self.precisions:
            raise ValueError("a target needs at least one precision")
        if bool(self.runtimes) == bool(self.no_runtime.strip()):
            raise ValueError("a target needs at least one runtime, or no_runtime with the reason and what to do instead, and not both")
        for what, given in (("figure", self.figures), ("power mode", self.power_modes)):
            known = [x.name for x in given]
            if len(set(known)) != len(known):
                raise ValueError(f"each {what} is given once, found {known}")
        strange = [r for r, part in self.runs_on.items() if r not in self.runtimes or part not in PARTS]
        if strange:
            raise ValueError(f"runs_on says of a runtime of the target which part it uses ({', '.join(PARTS)}), found {strange}")
        if (self.here or self.probed) and self.figures:
            raise ValueError("the figures of this machine are probed when asked for; remove them from the file")
        if any(f.grade == "probed" for f in self.figures):
            raise ValueError("'probed' is the grade of what a machine said itself, never of a typed figure")
        wrong = [n for n in self.unknown if base_of(n) is None or any(f.name == n for f in self.figures)]
        if wrong:
            raise ValueError(f"unknown says of a figure that is not given why not, found {wrong}")
        if against := contradictions(self.figures):
            raise ValueError("; ".join(against))

    @property
    def estimate_only(self) -> bool:
        """Nothing of edgekit runs there."""
        return not self.runtimes

    def known_figures(self, tree: Tree = HERE) -> tuple[Figure, ...]:
        """The figures of the file or, for a probed target, those of the machine of `tree` where that is of its kind."""
        if self.here or (self.probed and probe.machine(tree).architecture == self.architecture):
            return probe.probe(tree)
        return self.figures

    def figure(self, name: str, runtime: str = "") -> Figure | None:
        """A typed figure of the part that a runtime uses; where the part has none of its own, memory and power are shared."""
        part = self.runs_on.get(runtime, "")
        shared = name in ("bandwidth", "memory", "power_idle", "power_typical", "power_max")
        return find(self.figures, name, part) or (find(self.figures, name) if shared else None)

    def why_unknown(self, name: str, runtime: str = "") -> str:
        """Why there is no such figure, in one sentence."""
        part = self.runs_on.get(runtime, "")
        told = self.unknown.get(f"{name}_{part}" if part else name, "")
        return told or f"targets/{self.name}.toml has no figure '{name}'" + (f" of its {part}" if part else "")

    def in_power_mode(self, name: str) -> Target:
        """The same device in one of its power modes: clock, cores, bandwidth and power replaced, peaks scaled with them."""
        mode = next((m for m in self.power_modes if m.name == name), None)
        if mode is None:
            raise no_such(f"power mode of {self.name}", name, [m.name for m in self.power_modes])
        given = {"clock": mode.clock, "cores": mode.cores, "bandwidth": mode.bandwidth, "power_max": mode.watts}
        before = {f.name: f.value for f in self.figures}
        scale = 1.0
        for what in ("clock", "cores"):
            value = given[what]
            scale *= value / before[what] if value is not None and before.get(what) else 1.0
        how = f"{mode.source or 'the mode'}, in power mode {name}"
        changed = []
        for f in self.figures:
            value = given.get(f.name)
            if value is not None:
                changed.append(dataclasses.replace(f, value=value, source=how, grade=mode.grade))
            elif f.name.startswith("compute_") and f.name == _main(f.name) and scale != 1:
                source = f"{f.source}; scaled by {scale:.3f} for power mode {name}"
                changed.append(dataclasses.replace(f, value=f.value * scale, source=source, grade="derived"))
            elif f.name != "memory_rate" or mode.bandwidth is None:
                changed.append(f)
        return dataclasses.replace(self, figures=tuple(changed))


def _main(name: str) -> str:
    """The name itself for a figure of the main unit, its base for another part's."""
    return base_of(name) or name


@dataclass(frozen=True)
class Recognised:
    """Which target a machine is, and what it said that tells."""

    target: str
    because: str


def which_target(tree: Tree = HERE) -> Recognised:
    """The target that names what the machine of `tree` calls itself most exactly; else that of its architecture, or host."""
    machine = probe.machine(tree)
    devices = [load(name) for name in names()]
    fits = [(len(p), d.name, said) for d in devices for p in d.recognise for said in machine.names if fnmatchcase(said, p)]
    if fits:
        _, name, said = max(fits)
        return Recognised(name, f"it calls itself '{said}'")
    if tree is not HERE:
        for d in devices:
            if d.probed and d.architecture == machine.architecture:
                return Recognised(d.name, f"no target names it, and its processors are {machine.architecture}")
    said = machine.board or machine.processor or "nothing"
    return Recognised("host", f"no target names what it calls itself: '{said}'")


def command_of(mode: PowerMode, tree: Tree = HERE) -> str:
    """The command that sets a power mode on the machine of `tree`, with the number from its own /etc/nvpmodel.conf."""
    if "{id}" not in mode.command:
        return mode.command
    try:
        text = tree.read("/etc/nvpmodel.conf")
    except OSError:
        text = ""
    for model in re.findall(r"<\s*POWER_MODEL\s([^<>]*)>", text):
        number, name = re.search(r"\bID=(\d+)", model), re.search(r"\bNAME=(\S+)", model)
        if number and name and name[1] == mode.name:
            return mode.command.format(id=int(number[1]))
    return mode.command.format(id="ID") + f" (ID: that of {mode.name} in the device's /etc/nvpmodel.conf)"


def names() -> list[str]:
    """The targets that edgekit brings."""
    folder = package_files(importlib.import_module(FOLDER))
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load(name: str | Path) -> Target:
    """The target of that name, or of a TOML file of your own: a path that ends in .toml."""
    if str(name).endswith(".toml"):
        path = Path(name)
        if not path.exists():
            raise EdgekitError(f"cannot read the target file {path}: there is none; there are also: {', '.join(names())}")
        return read(read_text(path, "a target file"), path.stem, str(path))
    if str(name) not in names():
        raise no_such("target", str(name), names(), "a target of your own is given as a path that ends in .toml")
    return _brought(str(name))


@functools.cache
def _brought(name: str) -> Target:
    """One that edgekit brings: to recognise a machine reads all of them, which takes 60 ms."""
    file = package_files(importlib.import_module(FOLDER)) / f"{name}.toml"
    return read(file.read_text(encoding="utf-8"), name, f"targets/{name}.toml")


def read(text: str, name: str, where: str) -> Target:
    """A target from the text of a TOML file; EdgekitError, beginning with `where`, for anything that does not fit."""
    values = parse_toml(text, f"{where} is not TOML")
    if "name" in values:
        raise EdgekitError(f"{where}: a target is named by its file; remove the key 'name'")
    target: Target = fill(Target, {"name": name, **values}, where)
    return target
