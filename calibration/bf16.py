"""bfloat16 arithmetic in OpenVINO: the same file, another execution precision, and what it costs in signal to noise."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Allowed, Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.prepares import copy_prepares
from edgekit.rounding import Kept, with_floors


class Bf16(Calibrator):
    """Needs no data. Processors without bfloat16 instructions run it in float32, and are then only more exact. Spikes of a
    spiking network flip; its score says whether that matters."""

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

        def write(folder: Path, floors: Kept) -> Bundle:
            drop = max(float(options["max_score_drop"]), source.manifest.allowed.score_drop)
            allowed = Allowed(score_drop=drop, sqnr_db=floors.sqnr_db, same_share=floors.same_share)
            graphs = {n: dataclasses.replace(g, probes=()) for n, g in source.manifest.graphs.items()}
            manifest = dataclasses.replace(
                source.manifest, precision="bf16", graphs=graphs, details=details, allowed=allowed, golden=floors.note(source), lineage=lineage,
                files={}, tasks=floors.task_programs(source),
            )  # fmt: skip
            own = [n for n in source.manifest.files if not n.startswith(("golden", "tensors")) and "/" not in n]
            with new_bundle(folder, manifest, floors.goldens(source), source.tensors(), floors.task_goldens(source), parent=source) as draft:
                for name in own:
                    shutil.copy2(source.folder / name, draft / name)
                copy_prepares(source, manifest, draft)
            return open_bundle(folder)

        return with_floors(source, write, out, "openvino")


PART = Bf16()
