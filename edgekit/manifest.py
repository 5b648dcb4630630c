"""What bundle.json says, as data: signature, program, graphs, tasks, lineage, what is allowed; read strictly."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgekit import __version__, files
from edgekit.errors import Broken
from edgekit.program import Program
from edgekit.program_file import read_program
from edgekit.signature import Signature
from edgekit.strict_fields import Reader, read

MANIFEST = "bundle.json"
EVIDENCE = "evidence"  # what was found out about the bundle later: verifications, measurements; not part of its hash
FORMAT_VERSION = 4  # docs/bundle-format.md
TASK_NAME = re.compile(r"[a-z]+(-[a-z]+)*", re.ASCII)  # letters and hyphens: golden-NAME-2.safetensors is the second one of NAME
GRAPH_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)  # calibrators and exporters write NAME.onnx into a folder of theirs
ANY_GOLDEN = re.compile(r"golden(-[a-z-]+)?(-[2-9])?\.safetensors", re.ASCII)


@dataclass(frozen=True)
class Lineage:
    """Where a bundle comes from. `key` is the hash of everything that decided its content."""

    step: str  # "export onnx", "calibrate loihi", "compile lava"
    parent_sha256: str  # of the checkpoint or of the parent bundle
    options: Mapping[str, Any]
    tools: Mapping[str, str]  # library -> version

    @property
    def key(self) -> str:
        """Equal keys mean that the step need not be done again."""
        return files.hash_of({**dataclasses.asdict(self), "edgekit": __version__})


@dataclass(frozen=True)
class Allowed:
    """How far an exported model may be from the model it came from."""

    output_max_abs: Mapping[str, float] = field(default_factory=dict)  # per output, against the golden answers
    near_threshold: float = 1e-6  # a spike may flip where |u/V - 1| is below this: float rounding decides there
    score_drop: float = 0.0  # how much of the task score may be lost
    exact: bool = False  # the answers must equal the integer reference bit for bit
    sqnr_db: Mapping[str, float] = field(default_factory=dict)  # of outputs that are rounded: the least signal to noise
    # Of whole-number outputs that may differ: the least share of equal places. What differs first ends a stream's comparison of others;
    # without a stream, others are compared in the samples in which nothing differs.
    same_share: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """The trained model behind a bundle: its family, the recipe it was made with, and its own test score."""

    family: str
    recipe: Mapping[str, Any]
    checkpoint_sha256: str
    score_name: str
    score: float
    score_samples: int
    steps: int | None = None  # timesteps of the trained network; None where it has none


@dataclass(frozen=True)
class GraphFile:
    """One graph: the file that the engine opens, its own inputs and outputs, and inner tensors that can be asked for."""

    file: str
    signature: Signature
    probes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"file": self.file, **self.signature.to_json(), "probes": list(self.probes)}


@dataclass(frozen=True)
class GoldenNote:
    """Who computed the golden answers, and where their inputs come from."""

    answers_by: str  # "torch 2.13.0, eager"
    inputs_from: str  # "held-out test data", "drawn from the signature with seed 0"


@dataclass(frozen=True)
class TaskProgram:
    """Another program over the graphs and tensors of a bundle: a picture made of words, where the bundle's own finds words for one."""

    signature: Signature
    program: Program
    allowed: Allowed

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"signature": self.signature.to_json(), "program": self.program.to_json(), "allowed": dataclasses.asdict(self.allowed)}


@dataclass(frozen=True)
class Manifest:
    """What bundle.json says. `files` (name -> sha256) is filled in when the bundle is sealed."""

    name: str
    format: str  # onnx, openvino, nir, lava
    precision: str  # f32, int8
    signature: Signature  # of the whole program
    graphs: Mapping[str, GraphFile]
    program: Program
    golden: GoldenNote
    model: Model | None  # None: edgekit did not train it
    allowed: Allowed
    lineage: Lineage
    variant: str = ""  # "fused": a loop unrolled into one graph
    details: Mapping[str, Any] = field(default_factory=dict)  # what only this format needs, documented by its exporter
    prepares: tuple[str, ...] = ()  # subfolders, each a bundle that makes inputs of this one: a voice from a sound
    task: str = ""  # what the bundle's own program is called where it has others beside it: "text-to-image"
    tasks: Mapping[str, TaskProgram] = field(default_factory=dict)  # those others, by name
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def probes(self) -> tuple[str, ...]:
        """Inner tensors of all graphs: the spikes of each layer."""
        return tuple(p for g in self.graphs.values() for p in g.probes)

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        plain = ("golden", "model", "allowed", "lineage")
        data: dict[str, Any] = {"format_version": FORMAT_VERSION}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            data[f.name] = dataclasses.asdict(value) if f.name in plain and value is not None else value
        data["signature"] = self.signature.to_json()
        data["program"] = self.program.to_json()
        data["graphs"] = {n: g.to_json() for n, g in self.graphs.items()}
        data["tasks"] = {n: t.to_json() for n, t in self.tasks.items()}
        return data


def golden_files(names: Iterable[str], task: str = "") -> list[str]:
    """golden.safetensors, golden-2.safetensors, ... in this order; of a task golden-TASK.safetensors, golden-TASK-2.safetensors, ..."""
    stem = f"golden-{task}" if task else "golden"
    return sorted((n for n in names if re.fullmatch(rf"{stem}(-[2-9])?\.safetensors", n)), key=lambda n: (len(n), n))


def read_manifest(data: Any, where: str) -> Manifest:
    """Read what Manifest.to_json wrote; Broken, naming field and place, for what cannot be."""
    if not isinstance(data, dict):
        raise Broken(f"{where}: must hold a JSON object")
    version = data.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise Broken(
            f"{where}: is of bundle format {version!r}, this edgekit reads {FORMAT_VERSION}; "
            "export it again, or use the edgekit that made it"
        )
    manifest: Manifest = read(Manifest, data, where, _READERS)
    for name, graph in manifest.graphs.items():
        if not GRAPH_NAME.fullmatch(name):
            raise Broken(f"{where}: the graph '{name}' must be named by letters, digits, '_', '-' and '.', since files are called so")
        if graph.file not in manifest.files:
            raise Broken(f"{where}: the graph file '{graph.file}' is not listed in 'files'")
    _check_tasks(manifest, where)
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Broken(f"{where}: the file '{name}' would lie outside the bundle")
    for name in manifest.prepares:
        if f"{name}/{MANIFEST}" not in manifest.files or "/" in name or name == EVIDENCE or manifest.prepares.count(name) > 1:
            raise Broken(f"{where}: the preparation '{name}' must be a folder of the bundle, named once, whose {MANIFEST} is listed in 'files'")
    return manifest


def _check_tasks(manifest: Manifest, where: str) -> None:
    names = (manifest.task, *manifest.tasks) if manifest.tasks else (manifest.task,) if manifest.task else ()
    odd = [n for n in names if not TASK_NAME.fullmatch(n)]
    if odd or len(set(names)) != len(names):
        raise Broken(f"{where}: tasks have different names of small letters and hyphens, the bundle's own too, found {', '.join(map(repr, names))}")
    bare = [n for n in manifest.tasks if not golden_files(manifest.files, n)]
    if bare:
        raise Broken(f"{where}: the task '{bare[0]}' has no golden answers in 'files'; export the bundle again")
    if manifest.tasks and manifest.prepares:
        raise Broken(f"{where}: a bundle has tasks or preparations, found the tasks {', '.join(names)} and the preparation '{manifest.prepares[0]}'")


def _graph_file(data: Any, where: str) -> GraphFile:
    if not isinstance(data, dict) or set(data) != {"file", "inputs", "outputs", "probes"}:
        raise Broken(f"{where}: a graph has the fields file, inputs, outputs, probes")
    if not isinstance(data["file"], str) or not isinstance(data["probes"], list):
        raise Broken(f"{where}: 'file' must be a name and 'probes' a list of names")
    signature = Signature.from_json({"inputs": data["inputs"], "outputs": data["outputs"]}, where)
    return GraphFile(data["file"], signature, tuple(map(str, data["probes"])))


def _nested(name: str, cls: Any, value: Any, where: str) -> Any:
    return read(cls, value, f"{where}: {name}")


def _graphs(value: Any, where: str) -> dict[str, GraphFile]:
    if not isinstance(value, dict) or not value:
        raise Broken(f"{where}: 'graphs' must name at least one graph")
    if "" in value:
        raise Broken(f"{where}: 'graphs' has a graph without a name")
    return {n: _graph_file(g, f"{where}: graph '{n}'") for n, g in value.items()}


def _tasks(value: Any, where: str) -> dict[str, TaskProgram]:
    if not isinstance(value, dict):
        raise Broken(f"{where}: 'tasks' must be an object, a task by its name")
    return {n: read(TaskProgram, t, f"{where}: task '{n}'", _READERS) for n, t in value.items()}


_READERS: dict[str, Reader] = {
    "signature": Signature.from_json, "program": read_program, "graphs": _graphs, "tasks": _tasks,
    "model": lambda value, where: None if value is None else read(Model, value, f"{where}: model"),
    **{n: partial(_nested, n, cls) for n, cls in (("allowed", Allowed), ("lineage", Lineage), ("golden", GoldenNote))},
}  # fmt: skip
