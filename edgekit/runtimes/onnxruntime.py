"""ONNX Runtime on the CPU; every buffer is bound once, and read and written in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.bundle import Bundle
from edgekit.byte_products import ort_session
from edgekit.errors import Broken, EdgekitError
from edgekit.execute import Execution
from edgekit.layer_profile import LayerProfile
from edgekit.parts import Arrays, Graph, Runtime, Session


class _OrtGraph(Graph):
    def __init__(self, session: Any, outputs: Sequence[str]) -> None:
        self._session, self._outputs = session, list(outputs)

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        with _told():
            values = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, values, strict=True))

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        import onnxruntime as ort

        binding = self._session.io_binding()
        # An OrtValue lies on the array's own memory and must live as long as the binding.
        kept = {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in (*inputs.items(), *outputs.items())}
        with _told():
            for name in inputs:
                binding.bind_ortvalue_input(name, kept[name])
            for name in self._outputs:
                if name in outputs:
                    binding.bind_ortvalue_output(name, kept[name])
                else:
                    binding.bind_output(name, "cpu")

        run, bound = self._session._sess.run_with_iobinding, binding._iobinding  # what the wrapper of that name calls: 0.4 us less

        def once() -> None:
            try:
                run(bound, None)
            except Exception as error:  # the engine's own exception types share no base
                raise EdgekitError(f"onnxruntime failed while running: {_first_line(error)}") from None

        once.kept = kept, binding  # type: ignore[attr-defined]
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
        graphs = {}
        for name, graph in bundle.manifest.graphs.items():
            extra = list(graph.probes) if probes else []
            source = _with_outputs(bundle, name, extra) if extra else str(bundle.graph(name))
            session = _session(bundle, name, source, _options(threads))
            graphs[name] = _OrtGraph(session, [*(t.name for t in graph.signature.outputs), *extra])
        yield Execution(bundle, graphs, probes)

    def layers(self, bundle: Bundle, inputs: Arrays, threads: int, runs: int) -> LayerProfile:
        """By the engine's own profiler, which costs tens of percent on small networks: see `slowed`."""
        from edgekit.runtimes import _ort_layers

        with files.scratch("layers") as folder, self.open(bundle, threads) as plain:
            work = _ort_layers.Profiled(bundle, Path(folder))
            graphs = {}
            for name, graph in bundle.manifest.graphs.items():
                session = _session(bundle, name, work.source(name), work.asked(name, _options(threads)))
                work.sessions[name] = session
                graphs[name] = _OrtGraph(session, [t.name for t in graph.signature.outputs])
            rows, notes, slowed = work.run(plain, Execution(bundle, graphs), inputs, runs)
        return LayerProfile(self.version(), threads, runs, rows, None, slowed, notes)


PART = OnnxRuntime()


def _options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions; its own log would print names out of the file as they are
    return options


def _session(bundle: Bundle, graph: str, source: str | bytes, options: Any) -> Any:
    try:
        return ort_session(source, options, bundle.manifest.allowed.exact)
    except Exception as error:
        raise Broken(f"onnxruntime cannot open {bundle.graph(graph)}: {_first_line(error)}") from None


def _with_outputs(bundle: Bundle, graph: str, names: Sequence[str]) -> bytes:
    import onnx

    proto = onnx.load(bundle.graph(graph))
    inner = {v.name: v for v in proto.graph.value_info}
    absent = [n for n in names if n not in inner]
    if absent:
        raise Broken(f"{bundle.graph(graph)} has no tensor {', '.join(absent)}, which its manifest lists as probes")
    proto.graph.output.extend(inner[n] for n in names)
    data: bytes = proto.SerializeToString()
    return data


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise EdgekitError(f"onnxruntime failed while running: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
