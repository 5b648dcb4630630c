"""TensorRT plans on this machine's NVIDIA GPU: TensorRT 10 or 11, and TensorRT-RTX; only plans that their own bundle names."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files, machine_code, tensorrt_native
from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.execute import Execution
from edgekit.parts import Arrays, Graph, Runtime, Session
from edgekit.plain_text import shown
from edgekit.registry import missing_modules
from edgekit.tensorrt_kit.on_device import Cuda, Refused

MODULES = ("tensorrt", "tensorrt_rtx")  # what may run a plan; the bundle says which


class TensorRt(Runtime):
    """A plan is native code, so its hash is looked at once more just before it is opened. `needs` names no module: NVIDIA's
    packages and JetPack bring `tensorrt`, and only a child process can say whether it works."""

    formats = ("tensorrt",)
    optional = True

    def version(self) -> str:
        """As in 'TensorRT 10.3.0'."""
        name = next((m for m in MODULES if not missing_modules((m,))), "")
        try:
            return f"TensorRT{'-RTX' if 'rtx' in name else ''} {metadata.version(name)}" if name else "TensorRT"
        except metadata.PackageNotFoundError:  # JetPack's module may have no metadata
            return "TensorRT"

    def ready(self) -> str:
        """Asked of child processes, since these libraries end a process that has no GPU."""
        here = [m for m in MODULES if not missing_modules((m,))] or MODULES[:1]
        reasons = [tensorrt_native.why_not(m) for m in here]
        return "" if "" in reasons else f"{reasons[0]}; its graph is checked by the runtime tensorrt_onnx"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """EdgekitError for a bundle without plans, or with none for this GPU; inner tensors cannot be asked of a plan."""
        manifest = bundle.manifest
        module = manifest.details.get("library")
        if manifest.details.get("status") != "built" or module not in MODULES:
            status = manifest.details.get("status", "no TensorRT bundle")
            raise EdgekitError(f"{bundle.folder} holds no TensorRT plan (its status is '{status}'); build it on the device, as its README says")
        machine_code.check(manifest.format, bundle.sha256, bundle.folder)
        if reason := tensorrt_native.why_not(module):
            raise EdgekitError(f"{bundle.folder} cannot be opened: {reason}")
        gpu = tensorrt_native.gpu()
        assert isinstance(gpu, tensorrt_native.Gpu)
        trt = importlib.import_module(module)
        _check_made_for(bundle, module, str(trt.__version__), gpu)
        plans = {n: _plan(bundle, n, gpu) for n in manifest.graphs}
        log = trt.Logger(trt.Logger.ERROR)
        with _told():
            cuda = Cuda()
            graphs = {n: _PlanGraph(trt, log, cuda, p, {t.name: t.dtype for t in manifest.graphs[n].signature.outputs}) for n, p in plans.items()}
            yield Execution(bundle, graphs)


PART = TensorRt()


class _PlanGraph(Graph):
    """One context; buffers on the device are made once for each binding."""

    def __init__(self, trt: Any, log: Any, cuda: Cuda, plan: Path, outputs: Mapping[str, str]) -> None:
        self._runtime = trt.Runtime(log)  # must live as long as the engine
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise EdgekitError(f"TensorRT cannot open {plan}: it was built for another GPU or another version; build it again on this machine")
        self._context, self._cuda, self._outputs = self._engine.create_execution_context(), cuda, dict(outputs)

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        values = {n: np.require(v, requirements="C") for n, v in inputs.items()}
        for name, value in values.items():
            self._context.set_input_shape(name, value.shape)
        shapes = {n: tuple(self._context.get_tensor_shape(n)) for n in self._outputs}
        open_ended = [n for n, s in shapes.items() if min(s, default=1) < 0]
        if open_ended:
            raise EdgekitError(f"the shape of the output '{open_ended[0]}' depends on the data, which edgekit does not serve with TensorRT")
        answers = {n: np.zeros(s, self._outputs[n]) for n, s in shapes.items()}
        once = self.bind(values, answers)
        once()
        once.free()  # type: ignore[attr-defined]
        return answers

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        context, cuda = self._context, self._cuda
        unread = [n for n in self._outputs if n not in outputs]
        for name, value in inputs.items():
            context.set_input_shape(name, value.shape)
        scratch = {n: np.zeros(tuple(context.get_tensor_shape(n)), self._outputs[n]) for n in unread}
        on_device = {n: cuda.buffer(v) for n, v in (*inputs.items(), *outputs.items(), *scratch.items())}

        def once() -> None:
            # Two bindings of a graph (a state and its next) share the context, so each says its own addresses.
            for name, value in inputs.items():
                cuda.send(value, on_device[name])
                context.set_input_shape(name, value.shape)
            for name, pointer in on_device.items():
                context.set_tensor_address(name, pointer.value)
            if not context.execute_async_v3(0):
                raise EdgekitError("TensorRT failed while running the plan")
            for name, value in outputs.items():
                cuda.fetch(on_device[name], value)

        def free() -> None:
            for pointer in on_device.values():
                cuda.free(pointer)

        once.free = free  # type: ignore[attr-defined]
        return once


def _check_made_for(bundle: Bundle, module: str, number: str, gpu: tensorrt_native.Gpu) -> None:
    """EdgekitError unless the manifest says that its plans are of this very library and GPU. What the library says of a plan of
    another, after it has begun to read it, ranges from a warning to a crash."""
    details, brand = bundle.manifest.details, f"TensorRT{'-RTX' if 'rtx' in module else ''}"
    made = str(details.get("engine", "a library that it does not name"))
    if _release(made) != _release(f"{brand} {number}"):
        why = f"here is {brand} {number}; a plan runs on the one that built it: export it again here"
        raise EdgekitError(f"{bundle.folder} was built by {shown(made)}, {why}")
    if details.get("gpu", gpu.name) != gpu.name:
        raise EdgekitError(f"{bundle.folder} was built on {shown(details['gpu'])}, this GPU is {gpu.name}; export it again for this one")


def _release(engine: str) -> tuple[str, ...]:
    """As in ("TensorRT", "10", "3", "0"); JetPack and pip count builds differently behind the third number."""
    brand, _, number = engine.partition(" ")
    return brand, *re.findall(r"[0-9]+", number)[:3]


def _plan(bundle: Bundle, graph: str, gpu: tensorrt_native.Gpu) -> Path:
    """The plan for this GPU, if its bytes are those that the manifest names."""
    plans = bundle.manifest.details["graphs"][graph]["plans"]
    if gpu.compute_capability not in plans:
        raise EdgekitError(
            f"{bundle.folder} has plans for compute capability {', '.join(plans) or 'none'}, but this GPU ({gpu.name}) has "
            f"{gpu.compute_capability}; export it again for this one"
        )
    path = bundle.folder / str(plans[gpu.compute_capability])
    known = bundle.manifest.files.get(str(plans[gpu.compute_capability]))  # a name of the bundle's own, so no path out of it
    if known is None or known != files.sha256_of(path):
        raise Broken(f"{path} is not the plan that its bundle names, and a plan is native code; export the bundle again")
    return path


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Refused as why:
        raise EdgekitError(str(why)) from None
