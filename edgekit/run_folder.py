"""What a run folder holds, read from its files: training, bundles, verifications, measurements, and what was refused."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit import labelled, registry
from edgekit import recipe as recipes
from edgekit.bundle import Bundle, golden_files, open_bundle
from edgekit.errors import EdgekitError
from edgekit.estimate import Estimate
from edgekit.measurement import Measurement
from edgekit.parts import Runtime
from edgekit.report.data import BundleRow, Run, TrainingRow, VerificationRow
from edgekit.route import runtimes_of

DEFAULT_FORMATS = ("onnx", "openvino", "nir", "lava")
REFUSED = "refused.json"  # in a run folder: the formats that could not be made, and why


def refused_formats(out: Path) -> dict[str, str]:
    """{format: why it could not be made} of the last deploy into a run folder."""
    path = out / REFUSED
    return dict(json.loads(path.read_text())) if path.exists() else {}


def read_run(out: Path) -> Run:
    """Everything that is known about a run folder, from its files."""
    result_path = out / "train" / "result.json"
    result: dict[str, Any] = json.loads(result_path.read_text()) if result_path.exists() else {}
    folders = sorted((out / "bundles").glob("*/bundle.json")) if (out / "bundles").is_dir() else []
    if not result and not folders:
        raise EdgekitError(f"nothing to report in {out}; run `edgekit train` or `edgekit deploy` with --out first")
    bundles = [open_bundle(p.parent) for p in folders]
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
    return Run(
        name=out.name, family=model.family if model and model.family != labelled.FAMILY else "own model",
        score_name=result.get("score_name", model.score_name if model else "score"),
        test_samples=result.get("test_samples", model.score_samples if model else 0),
        training=tuple(TrainingRow.from_json(r) for r in result.get("rows", [])),
        bundles=tuple(_bundle_row(b, out) for b in bundles),
        machine={"system": platform.platform(), "python": platform.python_version(), "cores": str(os.cpu_count())},
        versions=tools, notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _bundle_row(bundle: Bundle, out: Path) -> BundleRow:
    def read(prefix: str, of: Callable[[dict[str, Any]], Any]) -> tuple[Any, ...]:
        names = sorted(p.stem for p in (bundle.folder / "evidence").glob(f"{prefix}-*.json"))
        return tuple(of(data) for n in names if (data := bundle.read_evidence(n)))

    stored = bundle.read_evidence("estimate") or {"estimates": []}
    return BundleRow(
        label=bundle.label, format=bundle.manifest.format, precision=bundle.manifest.precision,
        folder=str(bundle.folder.relative_to(out)), sha256=bundle.sha256,
        bytes_total=sum((bundle.folder / f).stat().st_size for f in bundle.manifest.files if not golden_files([f])),
        verifications=read("verify", VerificationRow.from_json),
        measurements=read("profile", Measurement.from_json),
        imported=read("imported", lambda data: Measurement.from_json({k: v for k, v in data.items() if k != "imported"})),
        estimates=tuple(recipes.fill(Estimate, e, "estimate") for e in stored["estimates"]),
    )  # fmt: skip


def _quantisation_notes(bundle: Bundle) -> list[str]:
    found = bundle.manifest.details.get("quantisation")
    if not found or bundle.manifest.format != "onnx":  # said once, where it was found
        return []
    alone = {row["layer"]: row["sqnr_db"] for row in found.get("sensitivity", ())}
    left = [f"{n} (quantised alone it brings SQNR down to {alone[n]:.1f} dB)" for n in found.get("given_back", ())]
    return [*found["notes"], *([f"left in float: {', '.join(left)}"] if left else [])]
