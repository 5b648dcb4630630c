"""What native libraries do with a model that somebody else wrote: check, fold and run it. In a child process, or trusted here."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.byte_products import ort_session
from edgekit.plain_text import one_line

Arrays = Mapping[str, np.ndarray]


class Refused(Exception):  # noqa: N818
    """What the library said, in one line; whose file it was is said by who asked."""


class Engine:
    """onnx's checker and ONNX Runtime over one model at a time, in the process that makes it."""

    def __init__(self, threads: int = 0) -> None:
        self._threads = threads
        self._session: Any = None

    def check(self, model: bytes) -> None:
        """onnx's own checker with types and shapes; Refused says the first thing that is wrong."""
        import onnx

        try:
            onnx.checker.check_model(model, full_check=True)
        except MemoryError:
            raise
        except Exception as error:
            raise Refused(_first(error)) from None

    def fold(self, model: bytes) -> bytes:
        """The model with all that is constant in it computed, by ONNX Runtime's basic level, which keeps to standard operators."""
        import onnxruntime as ort

        with tempfile.TemporaryDirectory(prefix="fold-") as folder:
            options = self._options(ort)
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
            try:
                ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                return Path(options.optimized_model_filepath).read_bytes()
            except MemoryError:
                raise
            except Exception as error:
                raise Refused(_first(error)) from None

    def open(self, model: bytes, fast: bool) -> None:
        """Make ready to run; fast: with the optimisations that are usual, else with none."""
        import onnxruntime as ort

        options = self._options(ort)
        if not fast:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = None
        try:
            self._session = ort_session(model, options)
        except MemoryError:
            raise
        except Exception as error:
            raise Refused(_first(error)) from None

    def run(self, values: Arrays) -> dict[str, np.ndarray]:
        """One call of the model that was opened last."""
        names = [o.name for o in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(values)), strict=True))
        except MemoryError:
            raise
        except Exception as error:
            raise Refused(_first(error)) from None

    def _options(self, ort: Any) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads
        return options


def _first(error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return one_line(first.strip(), 300)
