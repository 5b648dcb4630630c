"""The work behind the cells of a sweep: train once, make each bundle once, verify, estimate, and measure on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from edgekit import __version__, files, intake, registry, target
from edgekit import recipe as recipes
from edgekit.bundle import Bundle, open_bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.parts import Runtime
from edgekit.route import Step
from edgekit.sweep import device as sweep_device
from edgekit.sweep import host as sweep_host
from edgekit.sweep.plan import Cell, ModelSpec, Plan, way

Kind = Literal["train", "make", "verify", "estimate", "measure"]
Results = Mapping[str, Mapping[str, Any]]  # task -> what came of it


@dataclass(frozen=True)
class Call:
    """A function of this package with its arguments, and the key under which what comes of it is kept ("": it is not kept)."""

    key: str
    function: Callable[..., sweep_host.Outcome]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Task:
    """A piece of work. `call` is asked once all of `needs` are done; `still` whether an old result holds."""

    name: str
    kind: Kind
    what: str
    needs: tuple[str, ...]
    call: Callable[[Results], Call]
    still: Callable[[Mapping[str, Any]], bool]
    devices: tuple[str, ...] = ()  # any of these; none: a compute worker


def tasks(plan: Plan, cells: Sequence[Cell], out: Path, again: bool = False) -> dict[str, Task]:
    """What is to be done for all cells that can exist, in an order in which nothing comes before what it needs.

    again: a measurement that was disturbed or too short does not count as done.
    """
    found: dict[str, Task] = {}
    models = {m.title: m for m in plan.models}
    for cell in (c for c in cells if not c.refused):
        model = models[cell.model]
        if source_name(cell) not in found:
            found[source_name(cell)] = _source(model, out)
        steps = way(cell.label)
        assert not isinstance(steps, str)  # such a cell is refused
        for step in steps:
            name = bundle_name(cell, step.label)
            if name not in found:
                found[name] = _make(model, cell, step, out)
        if verify_name(cell) not in found:
            found[verify_name(cell)] = _verify(plan, cell, out)
        if (name := estimate_name(cell)) and name not in found:
            found[name] = _estimate(cell, out)
        if not cell.estimated:
            found[measure_name(cell)] = _measure(plan, cell, out, again)
    return found


def source_name(cell: Cell) -> str:
    """Of the task that brings the model of a cell."""
    return f"source {cell.model}"


def bundle_name(cell: Cell, label: str = "") -> str:
    """Of the task that makes a bundle."""
    return f"bundle {cell.model_label} {label or cell.label}"


def bundle_folder(out: Path, cell: Cell, label: str = "") -> Path:
    """Where that bundle lies."""
    return out / "bundles" / cell.model_label / (label or cell.label).replace(":", "-")


def verify_name(cell: Cell) -> str:
    """Of the task that verifies the cell's bundle."""
    return f"verify {cell.model_label} {cell.label} {cell.scored_on}"


def estimate_name(cell: Cell) -> str:
    """Of the task that estimates the cell's bundle for its target; "" where the figures of that are read on the machine itself."""
    there = target.load(cell.target)
    if there.here or there.probed:
        return ""
    return f"estimate {cell.model_label} {cell.label} {cell.target}"


def measure_name(cell: Cell) -> str:
    """Of the task that measures a cell."""
    return f"measure {cell.name}"


def _source(model: ModelSpec, out: Path) -> Task:
    folder = _trained_in(model, out)

    def train(_: Results) -> Call:
        key = {"train": recipes.read(model.recipe).data, "steps": model.steps, **_tools("torch")}
        return Call(files.hash_of(key), sweep_host.apart, ("train", model.recipe, str(folder), model.steps))

    def read(_: Results) -> Call:
        return Call(_key_of_source(model), sweep_host.apart, ("read", model.source, model.wishes))

    def still(result: Mapping[str, Any]) -> bool:
        if not model.recipe:
            return True  # the key holds the hashes of its files
        try:
            return all(open_checkpoint(folder / s["folder"]).sha256 == s["sha256"] for s in result["sources"].values())
        except EdgekitError:
            return False

    what = f"train {model.title}" if model.recipe else f"read {model.title}"
    return Task(f"source {model.title}", "train", what, (), train if model.recipe else read, still)


def _key_of_source(model: ModelSpec) -> str:
    """Of the files that decide what a checkpoint or a model is; "" for module:function, which only running it tells."""
    path = Path(model.source)
    if model.checkpoint:
        found = sorted(path.glob("train/t*/checkpoint.json")) or [path / "checkpoint.json"]
        return files.hash_of({"read": {str(p): files.sha256_of(p) for p in found if p.is_file()}, **_tools("torch")})
    if not path.is_file():
        return ""
    return files.hash_of({"read": intake.key_of(files.sha256_of(path), model.wishes), **_tools("torch", "onnx")})


def _make(model: ModelSpec, cell: Cell, step: Step, out: Path) -> Task:
    part = registry.load(step.kind, step.part)
    first = step.accepts == "checkpoint"
    before = source_name(cell) if first else bundle_name(cell, step.accepts)
    folder = bundle_folder(out, cell, step.label)

    def call(results: Results) -> Call:
        told = _of_steps(results[before]["sources"], model, cell.steps) if first else results[before]
        wishes = intake.key_of("", model.wishes) if model.file else ""
        key = {"make": step.label, "part": step.part, "of": told["sha256"], "options": dict(part.options), "wishes": wishes}
        key |= _tools(*part.needs, *(("torch",) if first else ()))
        source = "" if not first else str(_trained_in(model, out) / told["folder"]) if model.recipe else model.source
        parent = "" if first else str(bundle_folder(out, cell, step.accepts))
        return Call(files.hash_of(key), sweep_host.apart, ("make", step, source, model.wishes, parent, str(folder)))

    what = f"make {cell.model_label} {step.label}"
    return Task(bundle_name(cell, step.label), "make", what, (before,), call, lambda result: _opened(folder, result) is not None)


def _verify(plan: Plan, cell: Cell, out: Path) -> Task:
    before, folder = bundle_name(cell), bundle_folder(out, cell)

    def call(results: Results) -> Call:
        key = {"verify": results[before]["sha256"], "runtime": _version(cell.scored_on), "score_limit": plan.score_limit, **_tools()}
        return Call(files.hash_of(key), sweep_host.verify, (str(folder), cell.scored_on, plan.score_limit))

    def still(result: Mapping[str, Any]) -> bool:
        opened = _opened(folder, result)
        return opened is not None and opened.read_evidence(f"verify-{cell.scored_on}") is not None

    what = f"verify {cell.model_label} {cell.label} on {cell.scored_on}"
    return Task(verify_name(cell), "verify", what, (before,), call, still)


def _estimate(cell: Cell, out: Path) -> Task:
    def call(_: Results) -> Call:  # it is quick, and the figures of targets may change: not kept
        return Call("", sweep_host.estimate, (str(bundle_folder(out, cell)), cell.target, cell.precision))

    what = f"estimate {cell.model_label} {cell.label} for {cell.target}"
    return Task(estimate_name(cell), "estimate", what, (bundle_name(cell),), call, lambda _: False)


def _measure(plan: Plan, cell: Cell, out: Path, again: bool) -> Task:
    named = {d.name: d for d in plan.devices}
    able = (cell.device,) if cell.device else tuple(d.name for d in plan.devices if d.target == cell.target)
    before = bundle_name(cell)

    def call(results: Results) -> Call:
        request = sweep_device.request_of(plan.profile, cell.runtime)
        key = {
            "measure": results[before]["sha256"], "on": sweep_device.identity(named.get(cell.device)) if cell.device else cell.target,
            "precision": cell.precision, "settings": request.to_json(), "runtime": _version(cell.runtime), **_tools(),
        }  # fmt: skip
        return Call(files.hash_of(key), sweep_device.run, (str(bundle_folder(out, cell)), request, cell.target))

    def still(result: Mapping[str, Any]) -> bool:
        return not again or result["measurement"]["verdict"] in ("VALID", "SIMULATED")

    return Task(measure_name(cell), "measure", f"measure {cell.name}", (before, verify_name(cell)), call, still, able)


def _of_steps(sources: Mapping[str, Mapping[str, str]], model: ModelSpec, steps: int | None) -> Mapping[str, str]:
    if str(steps or "") not in sources:
        raise EdgekitError(f"{model.recipe} trains no network of {steps} timesteps; of those asked for there are: {', '.join(sources) or 'none'}")
    return sources[str(steps or "")]


def _trained_in(model: ModelSpec, out: Path) -> Path:
    return out / "models" / model.title


def _opened(folder: Path, result: Mapping[str, Any]) -> Bundle | None:
    """The bundle in `folder`, when it is still the one of that result."""
    try:
        found = open_bundle(folder)
    except EdgekitError:
        return None
    return found if found.sha256 == result["sha256"] else None


def _version(runtime: str) -> str:
    part = registry.load(Runtime, runtime)
    return runtime if registry.missing(part) or part.ready() else part.version()


def _tools(*modules: str) -> dict[str, Any]:
    """edgekit's version and those of the libraries that decide a result."""
    found = {}
    for name in modules:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""  # a module that is named otherwise than its package
    return {"edgekit": __version__, "tools": found}

