"""A bundle: a folder with a manifest, the graph files and golden answers; whole, hashed, with its lineage."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import __version__, files
from edgekit.errors import Broken, EdgekitError
from edgekit.signature import Signature

MANIFEST = "bundle.json"
GOLDEN = "golden.safetensors"
EVIDENCE = "evidence"  # what was found out about the bundle later: verifications, measurements; not part of its hash
FORMAT_VERSION = 1

# The one program that this version can say: one graph, run once. Loops with state are the next version's.
RUN_ONCE: Mapping[str, Any] = {"phases": [{"graph": "main", "run": "once"}]}


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


@dataclass(frozen=True)
class Model:
    """The trained model behind a bundle: its family, the recipe it was made with, and its own test score."""

    family: str
    recipe: Mapping[str, Any]
    checkpoint_sha256: str
    score_name: str
    score: float
    score_samples: int


@dataclass(frozen=True)
class Manifest:
    """What bundle.json says. `files` (name -> sha256) is filled in when the bundle is sealed."""

    name: str
    format: str  # onnx, openvino, nir, lava
    precision: str  # f32, int8
    signature: Signature
    graph: str  # the file that the engine opens
    model: Model
    allowed: Allowed
    lineage: Lineage
    probes: tuple[str, ...] = ()  # inner tensors that can be asked for: the spikes of each layer
    details: Mapping[str, Any] = field(default_factory=dict)  # what only this format needs, documented by its exporter
    program: Mapping[str, Any] = field(default_factory=lambda: dict(RUN_ONCE))
    files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        data = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        data["signature"] = self.signature.to_json()
        data["probes"] = list(self.probes)
        return data


@dataclass(frozen=True)
class Golden:
    """Inputs with the answers of the trained float model (eager), and what an integer network must give exactly.

    inputs, outputs: as in the signature. probes: uint8 spikes, in the shape of the layer.
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
        from safetensors.numpy import save_file

        groups = {g.name: getattr(self, g.name) for g in dataclasses.fields(self)}
        flat = {f"{g}/{n}": np.ascontiguousarray(a) for g, arrays in groups.items() for n, a in arrays.items()}
        save_file(flat, path)

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

    @property
    def graph(self) -> Path:
        """The file that the engine opens."""
        return self.folder / self.manifest.graph

    @property
    def label(self) -> str:
        """`nir:int8`: what tells this bundle from its sisters in a table."""
        return f"{self.manifest.format}:{self.manifest.precision}"

    def golden(self) -> Golden:
        """The golden inputs and answers."""
        return Golden.load(self.folder / GOLDEN)

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
    folder = Path(folder)
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
    there = {
        str(p.relative_to(folder))
        for p in folder.rglob("*")
        if p.is_file() and p.relative_to(folder).parts[0] != EVIDENCE and not p.name.startswith(files.DRAFT)
    } - {MANIFEST}
    if there != set(manifest.files):
        odd = sorted(there ^ set(manifest.files))
        raise Broken(
            f"{folder}: the files differ from what {MANIFEST} lists: {', '.join(odd)}; export the bundle again"
        )
    for name, sha256 in manifest.files.items():
        if (folder / name).is_symlink() or files.sha256_of(folder / name) != sha256:
            raise Broken(f"{folder / name} was changed after the bundle was made; export the bundle again")
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())


@contextmanager
def new_bundle(out: Path | str, manifest: Manifest, golden: Golden) -> Iterator[Path]:
    """Give a draft folder to write graph files into; hash and rename it to `out` when the block ends well."""
    with files.folder_draft(Path(out)) as draft:
        yield draft
        golden.save(draft / GOLDEN)
        hashes = {str(p.relative_to(draft)): files.sha256_of(p) for p in sorted(draft.rglob("*")) if p.is_file()}
        if manifest.graph not in hashes:
            raise EdgekitError(
                f"the exporter promised {manifest.graph} but wrote {sorted(hashes)}: a defect in edgekit"
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
    manifest: Manifest = _read(Manifest, data, where)
    if manifest.program != RUN_ONCE:
        raise Broken(f"{where}: holds a program with a loop, which this edgekit cannot run; use a newer edgekit")
    for name in (manifest.graph, *manifest.files):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Broken(f"{where}: the file '{name}' would lie outside the bundle")
    return manifest


_NESTED = {"model": Model, "allowed": Allowed, "lineage": Lineage}
_PLAIN: dict[str, Any] = {"str": str, "float": (int, float), "int": int, "bool": bool, "Mapping": dict, "tuple": list}


def _read(cls: Any, data: Any, where: str) -> Any:
    """A dataclass from JSON, refusing unknown, missing and wrongly typed fields."""
    names = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(data, dict) or set(data) != set(names):
        found = sorted(data) if isinstance(data, dict) else data
        raise Broken(f"{where}: {cls.__name__} has the fields {sorted(names)}, found {found}")
    return cls(**{name: _field(name, str(names[name].type), value, where) for name, value in data.items()})


def _field(name: str, declared: str, value: Any, where: str) -> Any:
    if name == "signature":
        return Signature.from_json(value, where)
    if name in _NESTED:
        return _read(_NESTED[name], value, f"{where}: {name}")
    kind = declared.split("[", maxsplit=1)[0]
    if not isinstance(value, _PLAIN[kind]) or (kind in ("int", "float") and isinstance(value, bool)):
        raise Broken(f"{where}: '{name}' must be {kind}, found {value!r}")
    return tuple(value) if kind == "tuple" else value
