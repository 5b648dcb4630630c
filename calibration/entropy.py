"""INT8 with the activation ranges that lose least information (Kullback-Leibler divergence)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.qdq import Choice
from edgekit.quantise_search import Forms, quantised_bundle


class Entropy(Calibrator):
    """As TensorRT 2 to 10 calibrated (Migacz, 8-bit inference with TensorRT, GTC 2017)."""

    needs = ("onnx",)
    format = "onnx"
    variant = "entropy"
    accepts = ("onnx:f32",)
    precision = "int8"
    options: ClassVar[Mapping[str, Any]] = {"max_score_drop": 0.01}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError when the model came without samples."""
        return quantised_bundle(source, out, self.variant, Forms((Choice("entropy"),)), options, progress)


PART = Entropy()
