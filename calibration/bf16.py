"""bfloat16 arithmetic in OpenVINO: the same file, another execution precision, and what it costs in signal to noise."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit import registry
from edgekit.bundle import Allowed, Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator, Runtime
from edgekit.verify import sqnr_db

FLOOR_DB = 3.0  # how much lower another processor's SQNR may be
LEAST_DB = 20.0  # below it, bfloat16's 8 bits of mantissa have spoilt the answers


class Bf16(Calibrator):
    """Needs no data. Processors without bfloat16 instructions run it in float32, and are then only more exact."""

    needs = ("openvino",)
    extra = "openvino"
    format = "openvino"
    accepts = ("openvino:f32",)
    precision = "bf16"
    options: ClassVar[Mapping[str, Any]] = {"max_score_drop": 0.01}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError when the golden answers are lost."""
        import openvino as ov

        lineage = Lineage("calibrate bf16", source.sha256, dict(options), {"openvino": ov.__version__})
        if done := done_already(out, lineage):
            return done
        details = {**source.manifest.details, "inference_precision": "bf16"}

        def write(folder: Path, floors: Mapping[str, float]) -> Bundle:
            allowed = Allowed(score_drop=float(options["max_score_drop"]), sqnr_db=floors)
            manifest = dataclasses.replace(source.manifest, precision="bf16", details=details, allowed=allowed, lineage=lineage, files={})
            own = [n for n in source.manifest.files if not n.startswith(("golden", "tensors"))]
            with new_bundle(folder, manifest, source.goldens(), source.tensors()) as draft:
                for name in own:
                    shutil.copy2(source.folder / name, draft / name)
            return open_bundle(folder)

        floats = [t.name for t in source.manifest.signature.outputs if t.dtype.startswith("float")]
        draft = out.parent / f".{out.name}.measured"
        try:
            measured = _sqnr(write(draft, dict.fromkeys(floats, 0.0)), floats)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        lost = [f"'{n}' {db:.1f} dB" for n, db in measured.items() if db < LEAST_DB]
        if lost:
            raise EdgekitError(f"bfloat16 leaves too little of the answers: {', '.join(lost)}; at least {LEAST_DB:g} dB is asked for")
        return write(out, {n: db - FLOOR_DB for n, db in measured.items()})


PART = Bf16()


def _sqnr(bundle: Bundle, names: list[str]) -> dict[str, float]:
    worst = dict.fromkeys(names, 200.0)
    with registry.find(Runtime, "openvino").open(bundle) as session:
        for golden in bundle.goldens():
            got = session.run(golden.inputs)
            worst = {n: min(db, sqnr_db(golden.outputs[n], got[n])) for n, db in worst.items()}
    return worst
