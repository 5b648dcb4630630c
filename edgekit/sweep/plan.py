"""A sweep as it is written down: models x precisions x runtimes on devices, and on targets that are only estimated."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import Any

from edgekit import fleet, intake, registry, target
from edgekit.errors import EdgekitError, no_such
from edgekit.fleet import Device
from edgekit.intake import Wishes
from edgekit.parts import Runtime
from edgekit.process_run import Request
from edgekit.recipe import fill
from edgekit.route import Step, all_runtimes_of, all_steps, route
from edgekit.sniff import is_there
from edgekit.text_file import parse_toml, read_text

HERE = "this machine"
# These formats and this variant take networks of one timestep (parts.Trained.spiking_net), which is known before any work.
ONE_STEP = ("nir", "lava", "onnx-spike")


@dataclass(frozen=True)
class ModelSpec:
    """One model: a recipe, a folder of a checkpoint, or a file of your own (`.onnx`, `.pt2`, `module:function`)."""

    recipe: str = ""
    checkpoint: str = ""
    file: str = ""
    name: str = ""  # default: that of the file
    steps: tuple[int, ...] = ()  # of a recipe: the checkpoints of these timesteps; empty: the one to deploy
    wishes: Wishes = Wishes()  # what is to be said about a file of your own: states, test, calibration, ...

    def __post_init__(self) -> None:
        """Refuse what is no model."""
        said = [s for s in (self.recipe, self.checkpoint, self.file) if s]
        if len(said) != 1:
            raise ValueError(f"a model is one of recipe, checkpoint and file, found {len(said)} of them")
        if self.steps and not self.recipe:
            raise ValueError("'steps' chooses checkpoints of a recipe; a checkpoint or a file has the steps that it has")
        if any(t < 1 for t in self.steps) or len(set(self.steps)) != len(self.steps):
            raise ValueError(f"'steps' are different numbers above 0, found {list(self.steps)}")
        if self.wishes != Wishes() and not self.file:
            raise ValueError("'wishes' are said about a file of your own")
        if not re.fullmatch(r"\w[\w.-]*", self.title):
            raise ValueError(f"a model's name is of letters, digits, '_', '-' and '.', since folders are called so; found '{self.title}'")
        if self.file and not intake.is_own(self.file):
            raise ValueError(f"a file is a .onnx, a .pt2 or module:function, found '{self.file}'")

    @property
    def source(self) -> str:
        """The path, or module:function."""
        return self.recipe or self.checkpoint or self.file

    @property
    def title(self) -> str:
        """What it is called in tables and folders."""
        return self.name or re.sub(r"[^\w.-]+", "-", Path(self.source).stem)


@dataclass(frozen=True)
class Plan:
    """A sweep. Devices of one target share its jobs, unless `every_device`."""

    name: str
    models: tuple[ModelSpec, ...]
    precisions: tuple[str, ...] = ("f32",)
    runtimes: tuple[str, ...] = ("onnxruntime",)
    variants: tuple[str, ...] = ("",)  # "", "fused", "spike", "minmax": of the format
    here: bool = True  # this machine measures too; false where a file names devices and does not say
    devices: tuple[Device, ...] = ()
    targets: tuple[str, ...] = ()  # estimated, never run
    every_device: bool = False
    profile: Request = Request()
    score_limit: int | None = None
    attempts: int = 3  # of a run on a device that loses its connection or is busy

    def __post_init__(self) -> None:
        """Refuse what is no sweep."""
        if not self.models or not self.precisions or not self.runtimes:
            raise ValueError("a sweep needs at least one model, one precision and one runtime")
        models = [Cell(m.title, steps, "", "", "").model_label for m in self.models for steps in m.steps or (None,)]
        for what, names in (("model", models), ("device", [d.name for d in self.devices])):
            if len(set(names)) != len(names):
                raise ValueError(f"each {what} has a name of its own, found {', '.join(sorted(names))}")
        if HERE in [d.name for d in self.devices]:
            raise ValueError(f"'{HERE}' is the name of the machine that the sweep runs on; call the device something else")
        if self.attempts < 1 or (self.score_limit is not None and self.score_limit < 1):
            raise ValueError("attempts and score_limit are at least 1: a sweep cannot choose without a score")
        if self.profile.runtime:
            raise ValueError("'runtimes' names the runtimes; remove 'runtime' from [profile]")
        if not (self.here or self.devices or self.targets):
            raise ValueError("nothing to measure on and nothing to estimate: here = true, devices or targets")


@dataclass(frozen=True)
class Cell:
    """One combination: a bundle to be measured on a device (or any device of a target), or estimated for a target."""

    model: str
    steps: int | None
    label: str  # of the bundle: "onnx:int8"
    runtime: str  # that runs it; of an estimate: one that could
    target: str
    device: str = ""  # "" : any device of the target, or none where it is estimated
    estimated: bool = False
    scored_on: str = ""  # the runtime here that says whether its answers are right, and how good
    refused: str = ""  # why there can be no such thing

    @property
    def model_label(self) -> str:
        """`digits_t1`."""
        return self.model + (f"_t{self.steps}" if self.steps else "")

    @property
    def name(self) -> str:
        """Unique in its sweep."""
        place = self.device or self.target
        return f"{self.model_label} {self.label} " + (f"estimated for {place}" if self.estimated else f"on {place}, {self.runtime}")

    @property
    def precision(self) -> str:
        """Of the bundle."""
        return self.label.partition(":")[2]


def read(path: Path | str) -> Plan:
    """The plan of a TOML file; paths in it are relative to its folder. EdgekitError, beginning with the path, for
    anything that does not fit."""
    path = Path(path)
    if not path.exists():
        raise EdgekitError(f"no sweep at {path}; examples/sweep_digits.toml is one to start from")
    values = parse_toml(read_text(path, "a TOML file of a sweep"), f"{path} is not a TOML file of a sweep")
    return plan_of(values, path.parent, str(path), path.stem)


def plan_of(values: Mapping[str, Any], folder: Path, where: str, name: str) -> Plan:
    """The plan of plain values; `folder`: what paths are relative to."""
    devices = values.get("devices", [])
    devices = fleet.read(_path(folder, devices)) if isinstance(devices, str) else fleet.devices_of(devices, where)
    usual = {"name": name, "here": not devices}
    plan: Plan = fill(Plan, {**usual, **values, "devices": [dataclasses.asdict(d) for d in devices]}, where)
    plan = dataclasses.replace(plan, models=tuple(_absolute(m, folder) for m in plan.models))
    _check_names(plan)
    for model in plan.models:
        if ":" not in model.source and not is_there(Path(model.source)):
            raise EdgekitError(f"{where}: there is no {model.source}, which model '{model.title}' names")
    return plan


def cells(plan: Plan) -> tuple[Cell, ...]:
    """Every combination, those that cannot exist too, each with the reason."""
    found = []
    for model in plan.models:
        for steps, precision, variant in itertools.product(model.steps or (None,), plan.precisions, plan.variants):
            labels = [(r, label) for r in plan.runtimes for label in _labels(r, variant, precision)]
            for runtime, label in labels:
                found += [_refused(c) for c in _measured(plan, Cell(model.title, steps, label, runtime, ""))]
            found += [_estimated(Cell(model.title, steps, "", "", name, estimated=True), labels) for name in plan.targets]
    return tuple(dict.fromkeys(found))


def _labels(runtime: str, variant: str, precision: str) -> list[str]:
    formats = _runtime(runtime).formats
    return [f"{f}-{variant}:{precision}" if variant else f"{f}:{precision}" for f in formats]


def _measured(plan: Plan, cell: Cell) -> list[Cell]:
    """The cell on this machine, and on each device or once a target."""
    places = [dataclasses.replace(cell, target=_target_here(cell.runtime), device=HERE)] if plan.here else []
    if plan.every_device:
        return places + [dataclasses.replace(cell, target=d.target, device=d.name) for d in plan.devices]
    alone = [t for t in dict.fromkeys(d.target for d in plan.devices)]
    for name in alone:
        own = [d.name for d in plan.devices if d.target == name]
        # A target whose figures are read on the machine is whatever machine it is: two of them are not the same device.
        there = target.load(name)
        if len(own) > 1 and not (there.here or there.probed):
            places.append(dataclasses.replace(cell, target=name))
        else:
            places += [dataclasses.replace(cell, target=name, device=d) for d in own]
    return places


def _target_here(runtime: str) -> str:
    """Of a simulator, the target that it stands for: that whose label begins most like what it simulates. Else the host."""
    simulates = _runtime(runtime).simulates
    stands = [t for n in target.names() if (t := target.load(n)).simulated and runtime in t.runtimes] if simulates else []
    return max(stands, key=lambda t: len(commonprefix([t.label, simulates]))).name if stands else "host"


def _estimated(cell: Cell, labels: list[tuple[str, str]]) -> Cell:
    """The cell with a bundle of its precision that can be made and verified here."""
    there = target.load(cell.target)
    labels = sorted(labels, key=lambda pair: pair[0] not in there.runtimes)  # the engines of the target first
    tried = [_refused(dataclasses.replace(cell, label=label, runtime=runtime)) for runtime, label in labels]
    chosen = next((c for c in tried if not c.refused), tried[0])
    if there.probed:
        reason = f"the figures of {there.label} are read on the machine itself: measure there, with [[devices]]"
        return dataclasses.replace(chosen, refused=chosen.refused or reason)
    if not chosen.refused and chosen.precision not in there.precisions:
        reason = f"{there.label} runs {', '.join(there.precisions)}, not {chosen.precision}"
        return dataclasses.replace(chosen, refused=reason)
    return chosen


def _refused(cell: Cell) -> Cell:
    """The cell with the runtime that verifies it, or with the reason why there can be no such thing."""
    if reason := _reason(cell):
        return dataclasses.replace(cell, refused=reason)
    if cell.device == HERE or not _lacks(cell.runtime):
        return dataclasses.replace(cell, scored_on=cell.runtime, refused=_lacks(cell.runtime))
    others = [n for n in all_runtimes_of(cell.label.partition(":")[0].partition("-")[0]) if not _lacks(n)]
    if not others:
        return dataclasses.replace(cell, refused=f"its answers cannot be verified here: {_lacks(cell.runtime)}")
    return dataclasses.replace(cell, scored_on=others[0])


def _reason(cell: Cell) -> str:
    steps = way(cell.label)
    if isinstance(steps, str):
        return steps
    only_one = next((s.label for s in steps if s.label.partition(":")[0] in ONE_STEP), "")
    if only_one and (cell.steps or 1) > 1:
        return f"{only_one.partition(':')[0]} takes networks of one timestep only"
    if lacking := next(filter(None, map(_step_lacks, steps)), ""):
        return lacking
    runtime = _runtime(cell.runtime)
    if not runtime.timed and not cell.estimated:
        return f"{cell.runtime} is there to be right and is not timed"
    if runtime.simulates and not cell.estimated and cell.device != HERE:
        return f"{cell.runtime} simulates {runtime.simulates}, on this machine only"
    return ""


# Kept: parts are looked for among all installed packages.
_runtime = functools.cache(lambda name: registry.load(Runtime, name))


@functools.cache
def _step_lacks(step: Step) -> str:
    """What must be installed for a step; empty where nothing is missing."""
    part = registry.load(step.kind, step.part)
    absent = registry.missing(part)
    return f"{step.label} needs {', '.join(absent)}, not installed here: {registry.install_hint(part)}" if absent else ""


@functools.cache
def _lacks(name: str) -> str:
    """Why a runtime cannot run here; empty when it can."""
    part = _runtime(name)
    absent = registry.missing(part)
    return f"{name} needs {', '.join(absent)}: {registry.install_hint(part)}" if absent else part.ready()


@functools.cache
def way(label: str) -> list[Step] | str:
    """The steps to a bundle, or why there are none."""
    try:
        return route(label)
    except EdgekitError:
        head = label.partition(":")[0]
        made = sorted({s.label.partition(":")[2] for s in all_steps() if s.label.partition(":")[0] == head})
        return f"nothing makes {label}; of {head} there are: {', '.join(made) or 'none'}"


def _check_names(plan: Plan) -> None:
    """A name that nothing bears is a slip of the pen, not a combination."""
    for name in plan.runtimes:
        _runtime(name)
    known = {s.label.partition(":")[2] for s in all_steps()}
    variants = {"", *(s.label.partition(":")[0].partition("-")[2] for s in all_steps())}
    for what, names, there in (("precision", plan.precisions, known), ("variant", plan.variants, variants)):
        for name in names:
            if name not in there:
                raise no_such(what, name, there)
    for name in (*plan.targets, *(d.target for d in plan.devices)):
        target.load(name)


def _absolute(model: ModelSpec, folder: Path) -> ModelSpec:
    data: dict[str, Any] = {n: str(_path(folder, p)) for n in ("example", "test", "calibration") if (p := getattr(model.wishes, n))}
    own = model.file if model.file and not model.file.endswith((".onnx", ".pt2")) else ""
    paths: dict[str, Any] = {n: str(_path(folder, p)) for n in ("recipe", "checkpoint", "file") if (p := getattr(model, n)) and p != own}
    return dataclasses.replace(model, **{**paths, "name": model.title, "wishes": dataclasses.replace(model.wishes, **data)})


def _path(folder: Path, said: str) -> Path:
    try:
        return (folder / Path(said).expanduser()).absolute()
    except RuntimeError:
        raise EdgekitError(f"the path '{said}' begins with the home of a user that this machine does not have") from None

