"""ONNX Runtime on the CPU, with inputs bound once for timing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.parts import Arrays, Runtime, Session


class _OrtSession(Session):
    def __init__(self, session: Any, outputs: Sequence[str]) -> None:
        self._session, self._outputs = session, list(outputs)

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # the engine's own exception types share no base
            raise EdgekitError(f"onnxruntime failed while running: {_first_line(error)}") from None
        return dict(zip(self._outputs, values, strict=True))

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        session = self._session

        def once() -> None:
            session.run_with_iobinding(binding)

        return once


class OnnxRuntime(Runtime):
    """The `onnxruntime` package, CPU execution provider only."""

    needs = ("onnxruntime",)
    formats = ("onnx",)

    def version(self) -> str:
        """As in 'onnxruntime 1.32.0'."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Probes are added as graph outputs, on a copy in memory."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        names = [t.name for t in bundle.manifest.signature.outputs]
        extra = list(bundle.manifest.probes) if probes else []
        graph = _with_outputs(bundle, extra) if extra else bundle.graph.read_bytes()
        try:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Broken(f"onnxruntime cannot open {bundle.graph}: {_first_line(error)}") from None
        yield _OrtSession(session, [*names, *extra])


PART = OnnxRuntime()


def _with_outputs(bundle: Bundle, names: Sequence[str]) -> bytes:
    import onnx

    proto = onnx.load(bundle.graph)
    inner = {v.name: v for v in proto.graph.value_info}
    absent = [n for n in names if n not in inner]
    if absent:
        raise Broken(f"{bundle.graph} has no tensor {', '.join(absent)}, which its manifest lists as probes")
    proto.graph.output.extend(inner[n] for n in names)
    data: bytes = proto.SerializeToString()
    return data


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
