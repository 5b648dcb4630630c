"""What a run folder holds, read from its files: training, bundles, verifications, measurements, and what was refused."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit import files, labelled, limits, registry
from edgekit import recipe as recipes
from edgekit.bundle import Bundle, open_bundle
from edgekit.device_estimate import DeviceEstimate
from edgekit.errors import Broken, EdgekitError
from edgekit.estimate import Estimate
from edgekit.layer_profile import LayerProfile
from edgekit.measurement import Measurement
from edgekit.parts import Runtime
from edgekit.process_run import COLUMNS
from edgekit.report import JSON, candidates
from edgekit.report.data import BundleRow, FamilyTable, Picture, Run, TaskRow, TrainingRow, VerificationRow
from edgekit.report.perfetto import Samples
from edgekit.route import runtimes_of
from edgekit.sniff import read_plain
from edgekit.text_file import parse_json

DEFAULT_FORMATS = ("onnx", "openvino", "nir", "lava")
AGAIN = "remove it and run the command that made it again"
REFUSED = "refused.json"  # in a run folder: the formats that could not be made, and why


def refused_formats(out: Path) -> dict[str, str]:
    """{format: why it could not be made} of the last deploy into a run folder."""
    data = _table(out / REFUSED)
    return {k: str(v) for k, v in data.items()}


def _table(path: Path) -> dict[str, Any]:
    """A JSON object that edgekit wrote into the run folder; {} where there is no such file."""
    if not path.exists():
        return {}
    data = parse_json(read_plain(path, limits.MOST_TEXT_BYTES, "what edgekit notes of a run"), str(path), AGAIN)
    if not isinstance(data, dict):
        raise Broken(f"{path} holds no table; {AGAIN}")
    return data


def _tables(data: dict[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    found = data.get(name, [])
    if not isinstance(found, list) or not all(isinstance(t, dict) for t in found):
        raise Broken(f"{path}: '{name}' is no list of tables; {AGAIN}")
    return found


def read_run(out: Path) -> Run:
    """Everything that is known about a run folder, from its files."""
    result_path = out / "train" / "result.json"
    result = _table(result_path)
    folders = _bundles(out)
    written = next((p for p in (out / "report" / JSON, out / JSON) if p.is_file()), None)
    if not result and not folders and written:
        return _swept(written)
    if not result and not folders:
        raise EdgekitError(f"nothing to report in {out}; run `edgekit train` or `edgekit deploy` with --out first")
    bundles = [open_bundle(p) for p in folders]
    order = {f: i for i, f in enumerate(DEFAULT_FORMATS)}
    bundles.sort(key=lambda b: (order.get(b.manifest.format, 9), b.manifest.precision != "f32"))
    tools = {k: v for b in bundles for k, v in b.manifest.lineage.tools.items()}
    notes = [
        f"runtime '{n}' was not used: {r}"
        for b in bundles
        for n in runtimes_of(b.manifest.format)
        if (r := registry.load(Runtime, n).ready()) and b.read_evidence(f"verify-{n}") is None
    ]
    checked: dict[str, list[str]] = {}  # how far numerics were checked -> bundles, where it is less than on the engine itself
    for b in bundles:
        if said := b.manifest.details.get("numerics"):
            checked.setdefault(str(said), []).append(b.label)
    notes += [f"{', '.join(labels)}: numerics were {said}" for said, labels in checked.items()]
    notes += [f"{label} was not made: {why}" for label, why in refused_formats(out).items()]
    notes += [f"{b.label}: {note}" for b in bundles for note in _quantisation_notes(b)]
    model = bundles[0].manifest.model if bundles else None
    rows = tuple(_bundle_row(b, out) for b in bundles)
    return Run(
        name=out.name, family=model.family if model and model.family != labelled.FAMILY else "own model",
        score_name=result.get("score_name", model.score_name if model else "score"),
        test_samples=result.get("test_samples", model.score_samples if model else 0),
        training=tuple(TrainingRow.from_json(r) for r in _tables(result, "rows", result_path)),
        bundles=rows, candidates=candidates.of_bundles(rows),
        family_tables=tuple(FamilyTable.from_json(t) for t in _tables(result, "tables", result_path)),
        pictures=tuple(Picture.read(p, result_path.parent) for p in _tables(result, "pictures", result_path)),
        machine={"system": platform.platform(), "python": platform.python_version(), "cores": str(os.cpu_count())},
        versions=tools, notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _swept(path: Path) -> Run:
    """A sweep has no bundles beside its report: what it wrote is all there is."""
    try:
        return Run.from_json(parse_json(read_plain(path, limits.MOST_TEXT_BYTES, "a report"), str(path)))
    except (EdgekitError, ValueError) as error:
        raise Broken(f"{path} is not a report of edgekit ({error}); run the sweep again, it goes on where it was") from None


def read_samples(out: Path) -> dict[tuple[str, int], Samples]:
    """(folder of a bundle, place of a measurement in its row) -> every sample, of those that were kept and belong to that bundle."""
    found: dict[tuple[str, int], Samples] = {}
    for path in _bundles(out):
        bundle = open_bundle(path)
        for i, name in enumerate(_evidence(bundle, "profile")):
            rows = _samples(bundle, name.replace("profile", "samples", 1))
            if rows is not None:
                found[str(bundle.folder.relative_to(out)), i] = rows
    return found


def _bundles(out: Path) -> list[Path]:
    """The folders of the bundles of a run; one that is being made, or was when its process was killed, is none."""
    return [p.parent for p in sorted((out / "bundles").glob("*/bundle.json")) if not p.parent.name.startswith(files.DRAFT)]


def _samples(bundle: Bundle, name: str) -> Samples | None:
    from safetensors import SafetensorError, safe_open

    path = bundle.evidence / f"{name}.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            if (file.metadata() or {}).get("bundle_sha256") != bundle.sha256:
                return None
        rows = files.load_tensors(path)
    except (OSError, SafetensorError, EdgekitError):
        return None
    whole = {"process", *COLUMNS} <= set(rows) and len({len(rows[n]) for n in ("process", *COLUMNS)}) == 1
    return rows if whole else None


def _evidence(bundle: Bundle, prefix: str) -> dict[str, dict[str, Any]]:
    """Name -> content of the findings of one sort that belong to exactly this bundle."""
    names = sorted(p.stem for p in bundle.evidence.glob(f"{prefix}-*.json"))
    return {n: data for n in names if (data := bundle.read_evidence(n))}


def _layer_profile(data: dict[str, Any]) -> LayerProfile:
    found: LayerProfile = recipes.fill(LayerProfile, data.get("profile", {}), "profile of layers")
    return found


def _bundle_row(bundle: Bundle, out: Path) -> BundleRow:
    def read(prefix: str, of: Callable[[dict[str, Any]], Any]) -> tuple[Any, ...]:
        return tuple(of(data) for data in _evidence(bundle, prefix).values())

    stored = bundle.read_evidence("estimate") or {"estimates": []}
    return BundleRow(
        label=bundle.label, format=bundle.manifest.format, precision=bundle.manifest.precision,
        folder=str(bundle.folder.relative_to(out)), sha256=bundle.sha256,
        bytes_total=bundle.bytes_total,
        verifications=read("verify", VerificationRow.from_json),
        measurements=read("profile", Measurement.from_json),
        imported=read("imported", lambda data: Measurement.from_json({k: v for k, v in data.items() if k != "imported"})),
        estimates=tuple(recipes.fill(Estimate, e, "estimate") for e in stored["estimates"]),
        layers=read("layers", _layer_profile),
        device_estimates=_device_estimates(bundle),
        model=bundle.manifest.name, steps=bundle.manifest.model.steps if bundle.manifest.model else None,
        task=bundle.manifest.task, tasks=tuple(_task_row(bundle.of_task(n)) for n in bundle.manifest.tasks),
    )  # fmt: skip


def _task_row(view: Bundle) -> TaskRow:
    return TaskRow(
        name=view.task, verifications=tuple(VerificationRow.from_json(d) for d in _evidence(view, "verify").values()),
        measurements=tuple(Measurement.from_json(d) for d in _evidence(view, "profile").values()), device_estimates=_device_estimates(view),
    )  # fmt: skip


def _device_estimates(bundle: Bundle) -> tuple[DeviceEstimate, ...]:
    stored = bundle.read_evidence("device-estimate") or {"estimates": []}
    return tuple(recipes.fill(DeviceEstimate, e, "estimate of a device") for e in stored["estimates"])


def _quantisation_notes(bundle: Bundle) -> list[str]:
    found = bundle.manifest.details.get("quantisation")
    if not found or bundle.manifest.format != "onnx":  # said once, where it was found
        return []
    alone = {row["layer"]: row["sqnr_db"] for row in found.get("sensitivity", ())}
    left = [f"{n} (quantised alone it brings SQNR down to {alone[n]:.1f} dB)" for n in found.get("given_back", ())]
    return [*found["notes"], *([f"left in float: {', '.join(left)}"] if left else [])]
