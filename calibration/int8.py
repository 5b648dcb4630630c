"""INT8 that keeps a promise: every form tried and timed, the worst layers left in float where it must be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.quantise_search import EVERY_FORM, quantised_bundle


class Int8(Calibrator):
    """options.max_score_drop: how much of the score may be lost. What was tried is in details.quantisation."""

    needs = ("onnx",)
    format = "onnx"
    variant = ""
    accepts = ("onnx:f32",)
    precision = "int8"
    options: ClassVar[Mapping[str, Any]] = {"max_score_drop": 0.01}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError when the model came without samples."""
        return quantised_bundle(source, out, self.variant, EVERY_FORM, options, progress)


PART = Int8()
