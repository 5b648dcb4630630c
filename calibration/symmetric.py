"""INT8 as TensorRT wants it: symmetric int8 activations and weights, zero points 0, biases in float."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.qdq import Choice
from edgekit.quantise_search import Forms, quantised_bundle


class Symmetric(Calibrator):
    """Ranges by minmax; slower than uint8 activations on most x86 processors, the only form on NVIDIA GPUs."""

    needs = ("onnx",)
    format = "onnx"
    variant = "symmetric"
    accepts = ("onnx:f32",)
    precision = "int8"
    options: ClassVar[Mapping[str, Any]] = {"max_score_drop": 0.01}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError when the model came without samples."""
        return quantised_bundle(source, out, self.variant, Forms((Choice("minmax", "s8", bias=False),)), options, progress)


PART = Symmetric()
