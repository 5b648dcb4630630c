"""A build kit for a Jetson from an ONNX bundle: everything but the plan, which only the device itself can build."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.parts import Exporter, Trained
from edgekit.tensorrt_graphs import NUMERICS, check_graphs
from edgekit.tensorrt_kit import write_kit
from edgekit.tensorrt_tables import version
from edgekit.tensorrt_targets import DEVICES, Wish, check_wish


class TensorRtKit(Exporter):
    """The folder `kit` of the bundle: its README says what to do with it. Needs no NVIDIA library; `details.status` is 'planned'."""

    needs = ("onnx", "onnxruntime")
    format = "tensorrt"
    variant = "kit"
    accepts = ("onnx:f32", "onnx:f16", "onnx-symmetric:int8")
    options: ClassVar[Mapping[str, Any]] = {"device": "orin", "tensorrt": "", "dla": False, "calibrator": False, "profiles": {}}

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Refuse what the device cannot do, check the graphs by that TensorRT's table, write the kit."""
        import onnxruntime

        assert isinstance(source, Bundle)
        lineage = Lineage("plan tensorrt", source.sha256, dict(options), {"onnxruntime": onnxruntime.__version__})
        if done := done_already(out, lineage):
            return done
        wish = Wish(str(options["device"]), str(options["tensorrt"]), bool(options["dla"]), bool(options["calibrator"]))
        named = wish.tensorrt or (DEVICES[wish.device].tensorrt if wish.device in DEVICES else "10")
        checked = check_graphs(source, version(named), options["profiles"])
        device, number = check_wish(wish, {t for g in checked for t in g.types})
        details = {**source.manifest.details, "engine": f"TensorRT {number}, on {device.label}", "status": "planned",
                   "numerics": NUMERICS, "kit": "kit",
                   "profiles": {g.name: {n: p.to_json() for n, p in g.profiles.items()} for g in checked}}  # fmt: skip
        manifest = dataclasses.replace(
            source.manifest, format="tensorrt", variant="kit", lineage=lineage, details=details, files={},
            graphs={n: dataclasses.replace(g, file=f"kit/{n}.onnx") for n, g in source.manifest.graphs.items()},
        )  # fmt: skip
        with new_bundle(out, manifest, source.goldens(), source.tensors(), source.task_goldens(), parent=source) as draft:
            write_kit(source, checked, device, number, wish.dla, draft / "kit")
        return open_bundle(out)


PART = TensorRtKit()
