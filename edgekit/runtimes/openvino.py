"""OpenVINO on the CPU: precision always explicit, tensors bound once, states kept in the engine as variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgekit.bundle import Bundle
from edgekit.byte_products import openvino_settings
from edgekit.errors import Broken, EdgekitError
from edgekit.execute import Execution
from edgekit.layer_profile import LayerProfile
from edgekit.parts import Arrays, Graph, Runtime, Session

DEFAULT_PRECISION = "f32"  # OpenVINO's own is bf16 on many CPUs, which would not give the golden answers


class _OvGraph(Graph):
    """Compiled at the first run, when it is known which states it keeps."""

    def __init__(self, core: Any, model: Any, settings: Mapping[str, Any], outputs: Sequence[str]) -> None:
        self._core, self.model, self._settings = core, model, settings
        self._outputs = list(outputs)
        self.compiled: Any = None
        self._request: Any = None  # of run, and of all bindings where the engine keeps states
        self._holds: dict[str, str] = {}  # graph input -> name of the variable
        self._bound: object = None  # whose tensors the shared request has

    def hold(self, states: Mapping[str, str]) -> bool:
        """ReadValue and Assign in place of the pairs of input and output."""
        from openvino._offline_transformations import apply_make_stateful_transformation

        pairs = {graph_input: out for out, graph_input in states.items()}
        if any(_rank_unknown(self.model.input(n)) or not self.model.input(n).element_type.is_real() for n in pairs):
            return False  # the CPU plugin compiles no variable of whole numbers
        if any(op.get_type_name() == "FakeQuantize" for op in self.model.get_ops()):
            return False  # OpenVINO 2026.4's low-precision pass fails on states: "AssignAndReadValueTransformation ... index '0' out of range"
        apply_make_stateful_transformation(self.model, pairs)
        self.model.validate_nodes_and_infer_types()
        self._holds = {graph_input: f"{graph_input}{out}" for graph_input, out in pairs.items()}
        self._outputs = [n for n in self._outputs if n not in states]
        return True

    def set_held(self, values: Arrays) -> None:
        import openvino as ov

        states = {s.name: s for s in self._shared().query_state()}
        for name, value in values.items():
            states[self._holds[name]].state = ov.Tensor(np.require(value, requirements="C"))

    def held(self, name: str) -> np.ndarray:
        states = {s.name: s for s in self._shared().query_state()}
        return np.array(states[self._holds[name]].state.data)

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        import openvino as ov

        request, self._bound = self._shared(), None
        with _told():
            for name, value in inputs.items():
                request.set_tensor(name, ov.Tensor(np.require(value, requirements="C")))
            request.infer()  # infer(inputs) would cost 45 to 80 microseconds more a call
        return {n: np.array(request.get_tensor(n).data) for n in self._outputs}

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        import openvino as ov

        # Variables belong to a request, so a graph that holds states has one request, whose tensors change with the binding.
        request = self._shared() if self._holds else self._compile().create_infer_request()
        tensors = [(n, ov.Tensor(v, shared_memory=True)) for n, v in (*inputs.items(), *outputs.items())]
        # Past the wrapper that sorts inputs, which are bound already, and without copies of outputs: 5.5 us become 3.5 us a call.
        infer = super(type(request), request).infer  # type: ignore[misc]
        if not self._holds:
            with _told():
                for name, tensor in tensors:
                    request.set_tensor(name, tensor)

        def once() -> None:
            if self._holds and self._bound is not tensors:
                for name, tensor in tensors:
                    request.set_tensor(name, tensor)
                self._bound = tensors
            infer({}, True, False)

        once.engine_ns = lambda: round(request.latency * 1e6)  # type: ignore[attr-defined]
        return once

    def _shared(self) -> Any:
        if self._request is None:
            self._request = self._compile().create_infer_request()
        return self._request

    def _compile(self) -> Any:
        if self.compiled is None:
            with _told():
                self.compiled = self._core.compile_model(self.model, "CPU", self._settings)
        return self.compiled


class OpenVino(Runtime):
    """The `openvino` package, CPU device; it reads ONNX bundles too."""

    needs = ("openvino",)
    extra = "openvino"
    formats = ("openvino",)
    also_opens = ("onnx",)

    def version(self) -> str:
        """As in 'openvino 2026.4.1'."""
        import openvino as ov

        return f"openvino {ov.__version__.split('-')[0]}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """The precision is the one that the bundle names, else f32; the model is not cached on disk."""
        yield Execution(bundle, _graphs(bundle, threads, probes, {}), probes)

    def layers(self, bundle: Bundle, inputs: Arrays, threads: int, runs: int) -> LayerProfile:
        """By the engine's own counters, which cost next to nothing; they count whole microseconds."""
        from edgekit.runtimes import _ov_layers

        with self.open(bundle, threads) as plain:
            counted = {n: _ov_layers.Counted(g) for n, g in _graphs(bundle, threads, False, {"PERF_COUNT": True}).items()}
            rows, notes, slowed = _ov_layers.run(counted, plain, Execution(bundle, counted), inputs, runs)
        return LayerProfile(self.version(), threads, runs, rows, None, slowed, notes)


PART = OpenVino()


def _graphs(bundle: Bundle, threads: int, probes: bool, more: Mapping[str, Any]) -> dict[str, _OvGraph]:
    """more: settings beside the usual ones."""
    import openvino as ov

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": bundle.manifest.details.get("inference_precision", DEFAULT_PRECISION),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        **more,
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = ov.Core()
    graphs = {}
    for name, graph in bundle.manifest.graphs.items():
        extra = list(graph.probes) if probes else []
        try:
            model = core.read_model(bundle.graph(name))
            if extra:
                model.add_outputs(extra)
        except RuntimeError as error:
            free = any(isinstance(n, str) for t in graph.signature.inputs for n in t.shape)
            hint = "; it may open with fixed sizes: edgekit export ... --size NAME=N" if free else ""
            raise Broken(f"openvino cannot open {bundle.graph(name)}: {_last_line(error)}{hint}") from None
        own = {**settings, **openvino_settings(model, bundle.manifest.allowed.exact)}
        graphs[name] = _OvGraph(core, model, own, [*(t.name for t in graph.signature.outputs), *extra])
    return graphs


def _rank_unknown(port: Any) -> bool:
    return bool(port.get_partial_shape().rank.is_dynamic)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise EdgekitError(f"openvino cannot run the model: {_last_line(error)}") from None


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
