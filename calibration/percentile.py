"""INT8 with activation ranges that leave out the largest 0.01 % of the values seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.qdq import Choice
from edgekit.quantise_search import Forms, quantised_bundle


class Percentile(Calibrator):
    """Clips rare large values, which minmax would spend its steps on."""

    needs = ("onnx",)
    format = "onnx"
    variant = "percentile"
    accepts = ("onnx:f32",)
    precision = "int8"
    options: ClassVar[Mapping[str, Any]] = {"max_score_drop": 0.01}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError when the model came without samples."""
        return quantised_bundle(source, out, self.variant, Forms((Choice("percentile"),)), options, progress)


PART = Percentile()
