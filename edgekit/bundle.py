"""A bundle: a folder with a manifest, the graph files and golden answers; whole, hashed, with its lineage."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import __version__, files
from edgekit.errors import Broken, EdgekitError
from edgekit.program import Program
from edgekit.program_check import check, check_preparation, check_same_share
from edgekit.program_file import read_program
from edgekit.signature import Signature
from edgekit.strict_fields import Reader, read

MANIFEST = "bundle.json"
GOLDEN = "golden.safetensors"
TENSORS = "tensors.safetensors"
EVIDENCE = "evidence"  # what was found out about the bundle later: verifications, measurements; not part of its hash
FORMAT_VERSION = 3  # docs/bundle-format.md


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
        return data


@dataclass(frozen=True)
class Golden:
    """Inputs with the answers of the trained float model (eager), and what an integer network must give exactly.

    inputs, outputs: as in the signature. probes: uint8 spikes, in the shape of the layer; of a graph in a loop with one
    more axis 0, its calls in order.
    near: flat positions in a probe where |u/V - 1| < Allowed.near_threshold.
    exact: outputs of the integer reference on the same inputs; empty for float bundles.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    probes: Mapping[str, np.ndarray] = field(default_factory=dict)
    near: Mapping[str, np.ndarray] = field(default_factory=dict)
    exact: Mapping[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all arrays as safetensors, `<group>/<name>`."""
        groups = {g.name: getattr(self, g.name) for g in dataclasses.fields(self)}
        files.save_tensors(path, {f"{g}/{n}": a for g, arrays in groups.items() for n, a in arrays.items()})

    @staticmethod
    def load(path: Path) -> Golden:
        """Read what save wrote."""
        groups: dict[str, dict[str, np.ndarray]] = {f.name: {} for f in dataclasses.fields(Golden)}
        for full, array in files.load_tensors(path).items():
            group, _, name = full.partition("/")
            if group not in groups:
                raise Broken(f"{path}: '{full}' is in none of the groups {sorted(groups)}")
            groups[group][name] = array
        return Golden(**groups)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder, its manifest, and the hash by which others refer to it."""

    folder: Path
    manifest: Manifest
    sha256: str

    def graph(self, name: str = "main") -> Path:
        """The file that the engine opens."""
        return self.folder / self.manifest.graphs[name].file

    @property
    def label(self) -> str:
        """`nir:int8`, `onnx-fused:f32`: what tells this bundle from its sisters in a table."""
        variant = f"-{self.manifest.variant}" if self.manifest.variant else ""
        return f"{self.manifest.format}{variant}:{self.manifest.precision}"

    def golden(self) -> Golden:
        """The golden inputs and answers."""
        return Golden.load(self.folder / GOLDEN)

    def goldens(self) -> list[Golden]:
        """golden(), and the same at other sizes of the free dimensions."""
        return [Golden.load(self.folder / name) for name in golden_files(self.manifest.files)]

    @property
    def bytes_total(self) -> int:
        """Of the files that run again and again: without golden answers and without preparations."""
        names = set(self.manifest.files) - set(golden_files(self.manifest.files))
        return sum((self.folder / n).stat().st_size for n in names if n.split("/")[0] not in self.manifest.prepares)

    def tensors(self) -> dict[str, np.ndarray]:
        """Tables, constants and initial states that the program names."""
        return files.load_tensors(self.folder / TENSORS) if TENSORS in self.manifest.files else {}

    def preparation(self, name: str) -> Bundle:
        """The bundle that makes inputs of this one."""
        return open_bundle(self.folder / name)

    def write_evidence(self, name: str, data: Any) -> None:
        """Store a finding about this bundle beside it, stamped with its hash."""
        text = files.canonical_json({"bundle_sha256": self.sha256, **data})
        files.write_text(self.folder / EVIDENCE / f"{name}.json", text)

    def read_evidence(self, name: str) -> dict[str, Any] | None:
        """What write_evidence stored about exactly this bundle, or None."""
        path = self.folder / EVIDENCE / f"{name}.json"
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(data, dict) or data.pop("bundle_sha256", None) != self.sha256:
            return None
        return data


def open_bundle(folder: Path | str) -> Bundle:
    """Open a bundle and check every file against its hash.

    Raises EdgekitError when there is none, Broken when a file or field is not what the manifest says.
    """
    return _open(Path(folder), {}, may_prepare=True)


def _open(folder: Path, proven: Mapping[str, str], may_prepare: bool) -> Bundle:
    """open_bundle; `proven`: hashes of files that were compared already."""
    path = folder / MANIFEST
    if not path.is_file():
        raise EdgekitError(
            f"no bundle in {folder}: it has no {MANIFEST}; make one with `edgekit export` or `edgekit deploy`"
        )
    raw = path.read_bytes()
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise Broken(f"{path}: not JSON ({error}); export the bundle again") from None
    manifest = _manifest(data, str(path))
    if manifest.prepares and not may_prepare:
        raise Broken(f"{path}: a preparation has none of its own, but this one names {', '.join(manifest.prepares)}; export the bundle again")
    there = _files_in(folder, manifest.prepares) - {MANIFEST}
    if there != set(manifest.files):
        odd = sorted(there ^ set(manifest.files))
        raise Broken(
            f"{folder}: the files differ from what {MANIFEST} lists: {', '.join(odd)}; export the bundle again"
        )
    for name, sha256 in manifest.files.items():
        if (folder / name).is_symlink() or (proven.get(name) or files.sha256_of(folder / name)) != sha256:
            raise Broken(f"{folder / name} was changed after the bundle was made; export the bundle again")
    bundle = Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())
    graphs = {n: g.signature for n, g in manifest.graphs.items()}
    check(manifest.program, manifest.signature, graphs, bundle.tensors(), str(path))
    check_same_share(manifest.program, manifest.signature, manifest.allowed.same_share, str(path))
    _check_prepares(bundle, str(path))
    return bundle


def _files_in(folder: Path, prepares: Sequence[str]) -> set[str]:
    """Files of a bundle as they lie there, without evidence: its own, and that of its preparations."""
    found = set()
    for p in folder.rglob("*"):
        parts = p.relative_to(folder).parts
        own = parts[1:] if parts[0] in prepares and len(parts) > 1 else parts
        if p.is_file() and own[0] != EVIDENCE and not p.name.startswith(files.DRAFT):
            found.add("/".join(parts))
    return found


def _check_prepares(bundle: Bundle, where: str) -> None:
    """Raise Broken unless every preparation opens, is of the same format, and makes inputs that no other one makes."""
    manifest, made = bundle.manifest, set[str]()
    for name in manifest.prepares:
        own = {n.removeprefix(f"{name}/"): sha for n, sha in manifest.files.items() if n.startswith(f"{name}/")}
        inner = _open(bundle.folder / name, own, may_prepare=False).manifest
        if inner.format != manifest.format:
            raise Broken(f"{where}: the preparation '{name}' is of format {inner.format}, the bundle of {manifest.format}; export it again")
        check_preparation(manifest.program, manifest.signature, name, inner.signature, where)
        outputs = {t.name for t in inner.signature.outputs}
        if made & outputs:
            raise Broken(f"{where}: two preparations make '{min(made & outputs)}'; one must be left out")
        made |= outputs


def golden_files(names: Iterable[str]) -> list[str]:
    """golden.safetensors, golden-2.safetensors, ... in this order."""
    return sorted((n for n in names if re.fullmatch(r"golden(-[2-9])?\.safetensors", n)), key=lambda n: (len(n), n))


@contextmanager
def new_bundle(
    out: Path | str, manifest: Manifest, goldens: Sequence[Golden], tensors: Mapping[str, np.ndarray] | None = None
) -> Iterator[Path]:
    """Give a draft folder to write graph files into; hash and rename it to `out` when the block ends well."""
    with files.folder_draft(Path(out)) as draft:
        yield draft
        for i, golden in enumerate(goldens):
            golden.save(draft / (f"golden-{i + 1}.safetensors" if i else GOLDEN))
        if tensors:
            files.save_tensors(draft / TENSORS, tensors)
        hashes = {str(p.relative_to(draft)): files.sha256_of(p) for p in sorted(draft.rglob("*")) if p.is_file()}
        absent = {g.file for g in manifest.graphs.values()} - set(hashes)
        if absent:
            raise EdgekitError(f"the exporter promised {sorted(absent)} but wrote {sorted(hashes)}: a defect in edgekit")
        left = [n for n in manifest.prepares if f"{n}/{MANIFEST}" not in hashes]
        if left:
            raise EdgekitError(
                f"'{manifest.name}' needs its preparation '{left[0]}', which bundles made this way do not carry; "
                "choose onnx, openvino or aotinductor"
            )
        sealed = dataclasses.replace(manifest, files=hashes)
        (draft / MANIFEST).write_text(files.canonical_json(sealed.to_json()))


def done_already(out: Path, lineage: Lineage) -> Bundle | None:
    """The bundle at `out` if it is whole and came from the same inputs and options, else None."""
    try:
        bundle = open_bundle(out)
    except EdgekitError:
        return None
    return bundle if bundle.manifest.lineage.key == lineage.key else None


def _manifest(data: Any, where: str) -> Manifest:
    if not isinstance(data, dict):
        raise Broken(f"{where}: must hold a JSON object")
    version = data.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise Broken(
            f"{where}: is of bundle format {version!r}, this edgekit reads {FORMAT_VERSION}; "
            "export it again, or use the edgekit that made it"
        )
    manifest: Manifest = read(Manifest, data, where, _READERS)
    for graph in manifest.graphs.values():
        if graph.file not in manifest.files:
            raise Broken(f"{where}: the graph file '{graph.file}' is not listed in 'files'")
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Broken(f"{where}: the file '{name}' would lie outside the bundle")
    for name in manifest.prepares:
        if f"{name}/{MANIFEST}" not in manifest.files or "/" in name or name == EVIDENCE or manifest.prepares.count(name) > 1:
            raise Broken(f"{where}: the preparation '{name}' must be a folder of the bundle, named once, whose {MANIFEST} is listed in 'files'")
    return manifest


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
    return {n: _graph_file(g, f"{where}: graph '{n}'") for n, g in value.items()}


_READERS: dict[str, Reader] = {
    "signature": Signature.from_json, "program": read_program, "graphs": _graphs,
    "model": lambda value, where: None if value is None else read(Model, value, f"{where}: model"),
    **{n: partial(_nested, n, cls) for n, cls in (("allowed", Allowed), ("lineage", Lineage), ("golden", GoldenNote))},
}  # fmt: skip
