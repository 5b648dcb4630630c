"""INT8 with the activation ranges that leave the least square error, by NNCF's histogram search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.qdq import Choice
from edgekit.quantise_search import Forms, quantised_bundle


class Mse(Calibrator):
    """Trades clipped large values against finer steps, tensor by tensor (as torch.ao's HistogramObserver)."""

    needs = ("onnx", "nncf")
    extra = "nncf"
    format = "onnx"
    variant = "mse"
    accepts = ("onnx:f32",)
    precision = "int8"
    options: ClassVar[Mapping[str, Any]] = {"max_score_drop": 0.01}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError when the model came without samples."""
        return quantised_bundle(source, out, self.variant, Forms((Choice("mse"),)), options, progress)


PART = Mse()
