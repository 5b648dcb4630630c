"""What the graphs of a program are given while it runs: the samples that a step graph is calibrated with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from edgekit.bundle import Bundle
from edgekit.byte_products import ort_session
from edgekit.execute import Execution
from edgekit.parts import Arrays, Graph

MOST = 400  # calls kept of each graph, evenly spread: the first steps of a loop are not like its last


class _Recorder(Graph):
    """A graph of an ONNX bundle that copies its inputs before each run."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # on a busy machine spinning takes ten times as long
        self._session = ort_session(str(bundle.graph(name)), options, bundle.manifest.allowed.exact)
        self._names = [t.name for t in bundle.manifest.graphs[name].signature.outputs]
        self.calls: list[dict[str, np.ndarray]] = []

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        self.calls.append({n: np.array(v) for n, v in inputs.items()})
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        def once() -> None:
            for name, value in self.run(inputs).items():
                if name in outputs:
                    np.copyto(outputs[name], value)

        return once


def record(bundle: Bundle, batches: Iterable[Arrays], most: int = MOST) -> dict[str, list[dict[str, np.ndarray]]]:
    """{graph: its inputs, call by call, `most` at most} of the float program over batches of its own inputs."""
    graphs = {name: _Recorder(bundle, name) for name in bundle.manifest.graphs}
    execution = Execution(bundle, graphs)
    for batch in batches:
        execution.run(batch)
    return {n: spread(g.calls, most) for n, g in graphs.items()}


def spread(calls: list[dict[str, np.ndarray]], most: int) -> list[dict[str, np.ndarray]]:
    """At most so many of the calls, from the first to the last."""
    if len(calls) <= most:
        return calls
    return [calls[int(i)] for i in np.linspace(0, len(calls) - 1, most)]
