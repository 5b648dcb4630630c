"""TensorRT 10 or 11 plans from an ONNX bundle, built on a machine with the GPU that is to run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit import tensorrt_native
from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.parts import Exporter, Trained
from edgekit.tensorrt_graphs import NUMERICS, check_graphs
from edgekit.tensorrt_tables import version
from edgekit.tensorrt_targets import check_types

MODULE = "tensorrt"


class TensorRt(Exporter):
    """`GRAPH.plan` beside the very ONNX graph that it was built from. For the GPU and the TensorRT of this machine alone.

    `needs` names no module: NVIDIA's packages and JetPack bring `tensorrt`, and that it can be imported does not mean that
    it can build. A child process finds out.
    """

    needs = ("onnx",)
    format = "tensorrt"
    accepts = ("onnx:f32", "onnx:f16", "onnx-symmetric:int8")
    options: ClassVar[Mapping[str, Any]] = {"profiles": {}}

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Missing when there is no GPU or no TensorRT; else check, parse, build."""
        assert isinstance(source, Bundle)
        number, gpu = tensorrt_native.check_builds_here(MODULE)
        lineage = Lineage("build tensorrt", source.sha256, dict(options), {MODULE: number, "gpu": gpu.name})
        if done := done_already(out, lineage):
            return done
        checked = check_graphs(source, version(number), options["profiles"])
        check_types(gpu.compute_capability, {t for g in checked for t in g.types})
        details: dict[str, Any] = {
            **source.manifest.details, "engine": f"TensorRT {number}", "library": MODULE, "numerics": NUMERICS, "gpu": gpu.name, "graphs": {},
        }  # fmt: skip
        manifest = dataclasses.replace(
            source.manifest, format="tensorrt", lineage=lineage, details=details, files={},
            graphs={n: dataclasses.replace(g, file=f"{n}.onnx") for n, g in source.manifest.graphs.items()},
        )  # fmt: skip
        with new_bundle(out, manifest, source.goldens(), source.tensors(), source.task_goldens(), parent=source) as draft:
            for graph in checked:
                model, plan = draft / f"{graph.name}.onnx", draft / f"{graph.name}.plan"
                model.write_bytes(graph.data)
                found = tensorrt_native.parse(MODULE, model, graph)
                tensorrt_native.build(MODULE, model, graph, plan)
                details["graphs"][graph.name] = {
                    "plans": {gpu.compute_capability: plan.name}, "layers": found["layers"],
                    "profiles": {n: p.to_json() for n, p in graph.profiles.items()},
                }  # fmt: skip
            details["status"] = "built"
        return open_bundle(out)


PART = TensorRt()
