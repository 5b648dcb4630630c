"""OpenVINO IR from an ONNX bundle, weights kept in f32, the execution precision written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Exporter, Trained
from edgekit.prepares import export_prepares


class OpenVino(Exporter):
    """model.xml and model.bin. `details.inference_precision` is what the runtime must set: OpenVINO's own default is
    bf16 on many CPUs, which would not give the f32 answers."""

    needs = ("openvino",)
    extra = "openvino"
    format = "openvino"
    accepts = ("onnx:f32", "onnx:int8", "onnx-spike:int8")

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Convert; EdgekitError with OpenVINO's own words when it cannot read the graph."""
        import openvino as ov

        assert isinstance(source, Bundle)
        lineage = Lineage("compile openvino", source.sha256, dict(options), {"openvino": ov.__version__})
        if done := done_already(out, lineage):
            return done
        manifest = dataclasses.replace(
            source.manifest, format="openvino", lineage=lineage, details={**source.manifest.details, "inference_precision": "f32"}, files={},
            graphs={n: dataclasses.replace(g, file=f"{Path(g.file).stem}.xml") for n, g in source.manifest.graphs.items()},
        )  # fmt: skip
        with new_bundle(out, manifest, source.goldens(), source.tensors(), source.task_goldens(), parent=source) as draft:
            for name, graph in manifest.graphs.items():
                try:
                    model = ov.Core().read_model(source.graph(name))
                    ov.save_model(model, draft / graph.file, compress_to_fp16=False)
                except RuntimeError as error:
                    last = str(error).strip().splitlines()[-1]
                    raise EdgekitError(f"openvino cannot read {source.graph(name)}: {last}") from None
            export_prepares(self, source, draft, options)
        return open_bundle(out)


PART = OpenVino()
