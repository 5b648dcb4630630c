"""A bundle: a folder with a manifest, the graph files and golden answers; whole, hashed, with its lineage."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import bom, files, limits, machine_code
from edgekit.errors import Broken, EdgekitError, no_such
from edgekit.manifest import (
    ANY_GOLDEN,
    EVIDENCE,
    MANIFEST,
    Allowed,
    GoldenNote,
    GraphFile,
    Lineage,
    Manifest,
    Model,
    TaskProgram,
    golden_files,
    read_manifest,
)
from edgekit.program_check import check, check_preparation, check_same_share
from edgekit.sniff import read_plain
from edgekit.text_file import parse_json

__all__ = [
    "EVIDENCE", "GOLDEN", "MANIFEST", "TENSORS", "Allowed", "Bundle", "Golden", "GoldenNote", "GraphFile", "Lineage", "Manifest", "Model",
    "TaskProgram", "done_already", "golden_files", "new_bundle", "open_bundle",
]  # fmt: skip

GOLDEN = "golden.safetensors"
TENSORS = "tensors.safetensors"


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
    """An opened bundle: its folder, its manifest, and the hash by which others refer to it; or one of its tasks, see of_task."""

    folder: Path
    manifest: Manifest
    sha256: str
    task: str = ""  # of of_task: whose signature, program, golden answers and evidence these are; "": the bundle's own

    def graph(self, name: str = "main") -> Path:
        """The file that the engine opens."""
        return self.folder / self.manifest.graphs[name].file

    @property
    def label(self) -> str:
        """`nir:int8`, `onnx-fused:f32`: what tells this bundle from its sisters in a table."""
        variant = f"-{self.manifest.variant}" if self.manifest.variant else ""
        return f"{self.manifest.format}{variant}:{self.manifest.precision}"

    @property
    def task_names(self) -> tuple[str, ...]:
        """The bundle's own task first; () where it has but one program."""
        return (self.manifest.task, *self.manifest.tasks) if self.manifest.tasks else ()

    def of_task(self, name: str) -> Bundle:
        """The same bundle with the program of a task in the place of its own; itself for "" and its own task's name.

        EdgekitError for a task that there is not."""
        if name in ("", self.manifest.task):
            return self
        if not self.manifest.tasks:
            raise EdgekitError(f"{self.folder} has one program and no task '{name}'; leave the task out")
        if name not in self.manifest.tasks:
            raise no_such(f"task of {self.folder}", name, self.task_names)
        other = self.manifest.tasks[name]
        manifest = dataclasses.replace(
            self.manifest, signature=other.signature, program=other.program, allowed=other.allowed, task=name, tasks={}
        )
        return dataclasses.replace(self, manifest=manifest, task=name)

    def golden(self) -> Golden:
        """The golden inputs and answers."""
        return self.goldens()[0]

    def goldens(self) -> list[Golden]:
        """golden(), and the same at other sizes of the free dimensions."""
        return [Golden.load(self.folder / name) for name in golden_files(self.manifest.files, self.task)]

    def task_goldens(self) -> dict[str, list[Golden]]:
        """goldens() of every other task."""
        return {n: self.of_task(n).goldens() for n in self.manifest.tasks}

    @property
    def bytes_total(self) -> int:
        """Of the files that run again and again: without golden answers, inventory and preparations."""
        names = [n for n in self.manifest.files if not ANY_GOLDEN.fullmatch(n) and n != bom.BOM]
        return sum((self.folder / n).stat().st_size for n in names if n.split("/")[0] not in self.manifest.prepares)

    def tensors(self) -> dict[str, np.ndarray]:
        """Tables, constants and initial states that the program names."""
        return files.load_tensors(self.folder / TENSORS) if TENSORS in self.manifest.files else {}

    def preparation(self, name: str) -> Bundle:
        """The bundle that makes inputs of this one."""
        return open_bundle(self.folder / name)

    @property
    def evidence(self) -> Path:
        """The folder of what was found out about it."""
        return self.folder / EVIDENCE / self.task

    def write_evidence(self, name: str, data: Any) -> None:
        """Store a finding about this bundle beside it, stamped with its hash."""
        text = files.canonical_json({"bundle_sha256": self.sha256, **data})
        files.write_text(self.evidence / f"{name}.json", text)

    def read_evidence(self, name: str) -> dict[str, Any] | None:
        """What write_evidence stored about exactly this bundle, or None."""
        path = self.evidence / f"{name}.json"
        try:
            data = parse_json(path.read_bytes(), str(path))
        except (OSError, EdgekitError):
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
    raw = read_plain(path, limits.MOST_TEXT_BYTES, "a manifest")
    manifest = read_manifest(parse_json(raw, str(path), "export the bundle again"), str(path))
    if manifest.prepares and not may_prepare:
        raise Broken(f"{path}: a preparation has none of its own, but this one names {', '.join(manifest.prepares)}; export the bundle again")
    there = _files_in(folder, manifest.prepares) - {MANIFEST}
    if there != set(manifest.files):
        odd = sorted(there ^ set(manifest.files))
        raise Broken(
            f"{folder}: the files differ from what {MANIFEST} lists: {', '.join(odd)}; export the bundle again"
        )
    for name, sha256 in manifest.files.items():
        plain = (folder / name).is_file() and not (folder / name).is_symlink()  # a pipe would be waited for
        if not plain or (proven.get(name) or files.sha256_of(folder / name)) != sha256:
            raise Broken(f"{folder / name} was changed after the bundle was made; export the bundle again")
    bundle = Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())
    graphs = {n: g.signature for n, g in manifest.graphs.items()}
    check(manifest.program, manifest.signature, graphs, bundle.tensors(), str(path))
    check_same_share(manifest.program, manifest.signature, manifest.allowed.same_share, str(path))
    for name, task in manifest.tasks.items():
        check(task.program, task.signature, graphs, bundle.tensors(), f"{path}: task '{name}'")
        check_same_share(task.program, task.signature, task.allowed.same_share, f"{path}: task '{name}'")
    _check_prepares(bundle, str(path))
    return bundle


def _files_in(folder: Path, prepares: Sequence[str]) -> set[str]:
    """Files of a bundle as they lie there, without evidence: its own, and that of its preparations."""
    found = set()
    for p in folder.rglob("*"):
        parts = p.relative_to(folder).parts
        own = parts[1:] if parts[0] in prepares and len(parts) > 1 else parts
        folder_only = p.is_dir() and not p.is_symlink()  # a link to a folder, a pipe or a device is a file too many
        if not folder_only and own[0] != EVIDENCE and not p.name.startswith(files.DRAFT):
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


@contextmanager
def new_bundle(
    out: Path | str, manifest: Manifest, goldens: Sequence[Golden], tensors: Mapping[str, np.ndarray] | None = None,
    tasks: Mapping[str, Sequence[Golden]] | None = None, parent: Bundle | None = None,
) -> Iterator[Path]:  # fmt: skip
    """Give a draft folder to write graph files into; hash and rename it to `out` when the block ends well.

    tasks: the golden answers of every other task. parent: the bundle that it is made from, whose tools its inventory names, too."""
    with files.folder_draft(Path(out)) as draft:
        yield draft
        for task, answers in {"": goldens, **(tasks or {})}.items():
            for i, golden in enumerate(answers):
                golden.save(draft / f"golden{f'-{task}' if task else ''}{f'-{i + 1}' if i else ''}.safetensors")
        if tensors:
            files.save_tensors(draft / TENSORS, tensors)
        hashes = {str(p.relative_to(draft)): files.sha256_of(p) for p in sorted(draft.rglob("*")) if p.is_file()}
        absent = {g.file for g in manifest.graphs.values()} - set(hashes)
        if absent:
            raise EdgekitError(f"the exporter promised {sorted(absent)} but wrote {sorted(hashes)}: a defect in edgekit")
        if set(manifest.tasks) != set(tasks or {}):
            raise EdgekitError(f"the tasks {sorted(manifest.tasks)} have golden answers for {sorted(tasks or {})}: a defect in edgekit")
        left = [n for n in manifest.prepares if f"{n}/{MANIFEST}" not in hashes]
        if left:
            raise EdgekitError(
                f"'{manifest.name}' needs its preparation '{left[0]}', which bundles made this way do not carry; "
                "choose onnx, openvino or aotinductor"
            )
        hashes.pop(bom.BOM, None)  # of the bundle that an exporter copied
        before = bom.tools_of(parent.folder, parent.manifest) if parent else ()
        (draft / bom.BOM).write_text(files.canonical_json(bom.of(dataclasses.replace(manifest, files=hashes), before)))
        sealed = dataclasses.replace(manifest, files={**hashes, bom.BOM: files.sha256_of(draft / bom.BOM)})
        text = files.canonical_json(sealed.to_json())
        (draft / MANIFEST).write_text(text)
        machine_code.remember(hashlib.sha256(text.encode()).hexdigest())


def done_already(out: Path, lineage: Lineage) -> Bundle | None:
    """The bundle at `out` if it is whole and came from the same inputs and options, else None."""
    try:
        bundle = open_bundle(out)
    except EdgekitError:
        return None
    return bundle if bundle.manifest.lineage.key == lineage.key else None
