"""INT8 with activation ranges from the smallest to the largest value seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.qdq import Choice
from edgekit.quantise_search import Forms, quantised_bundle


class MinMax(Calibrator):
    """uint8 activations, per-channel int8 weights (Krishnamoorthi, arXiv 1806.08342)."""

    needs = ("onnx",)
    format = "onnx"
    variant = "minmax"
    accepts = ("onnx:f32",)
    precision = "int8"
    options: ClassVar[Mapping[str, Any]] = {"max_score_drop": 0.01}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError when the model came without samples."""
        return quantised_bundle(source, out, self.variant, Forms((Choice("minmax"),)), options, progress)


PART = MinMax()
