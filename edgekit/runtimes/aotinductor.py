"""Packages of AOTInductor, run by torch on the device that they were compiled for."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgekit import machine_code
from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError, Missing
from edgekit.execute import Execution
from edgekit.parts import Arrays, Graph, Runtime, Session
from edgekit.plain_text import shown
from edgekit.signature import Signature


class _Package(Graph):
    def __init__(self, compiled: Any, signature: Signature, device: str) -> None:
        self._compiled, self._device = compiled, device
        self._inputs, self._outputs = [t.name for t in signature.inputs], [t.name for t in signature.outputs]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return {n: v.cpu().numpy() for n, v in self._call(inputs).items()}

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        import torch

        # On the CPU tensors lie on the arrays' own memory; to a GPU and back they are copied at each call, and timed so.
        into = {n: torch.from_numpy(v) for n, v in outputs.items()}
        given = {n: torch.from_numpy(v) for n, v in inputs.items()}

        def once() -> None:
            found = self._call_tensors([given[n].to(self._device) for n in self._inputs])
            for name, tensor in into.items():
                tensor.copy_(found[name])

        return once

    def _call(self, inputs: Arrays) -> dict[str, Any]:
        import torch

        given = [torch.from_numpy(np.require(inputs[n], requirements=("C", "W"))).to(self._device) for n in self._inputs]
        return self._call_tensors(given)

    def _call_tensors(self, tensors: list[Any]) -> dict[str, Any]:
        import torch

        try:
            with torch.no_grad():
                return dict(zip(self._outputs, self._compiled(*tensors), strict=True))
        except Exception as error:
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise EdgekitError(f"aotinductor failed while running: {first[:300]}") from None


class AotInductor(Runtime):
    """The packages are machine code: opening a bundle checks their hashes first (bundle.open_bundle)."""

    needs = ("torch",)
    extra = "train"
    formats = ("aotinductor",)

    def version(self) -> str:
        """As in 'aotinductor 2.13.0'."""
        import torch

        return f"aotinductor {torch.__version__.partition('+')[0]}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Missing when this is not the torch version or device that the packages were compiled for."""
        import torch

        machine_code.check(bundle.manifest.format, bundle.sha256, bundle.folder)
        made = bundle.manifest.details
        if made["torch"] != torch.__version__:
            raise Missing(f"{bundle.folder} was compiled by torch {made['torch']}, here is {torch.__version__}; export it again here")
        if made["device"] == "cuda" and not torch.cuda.is_available():
            raise Missing(f"{bundle.folder} was compiled for {made.get('gpu', 'an NVIDIA GPU')}, and torch finds no GPU here; export it again here")
        if made["device"] == "cuda" and made.get("gpu", torch.cuda.get_device_name()) != torch.cuda.get_device_name():
            raise Missing(f"{bundle.folder} was compiled for {shown(made['gpu'])}, here is {torch.cuda.get_device_name()}; export it again here")
        if made["device"] == "cpu" and made.get("processor", processor()) != processor():
            raise Missing(f"{bundle.folder} was compiled for {shown(made['processor'])}, here is {processor()}, which would end at its first strange "
                          "instruction; export it again here")  # fmt: skip
        before = torch.get_num_threads()
        try:
            if threads:
                torch.set_num_threads(threads)
            graphs: dict[str, Graph] = {}
            for name, graph in bundle.manifest.graphs.items():
                try:
                    compiled = torch._inductor.aoti_load_package(str(bundle.graph(name)))
                except Exception as error:
                    raise Broken(f"torch cannot open {bundle.graph(name)}: {str(error).strip().splitlines()[0][:300]}") from None
                graphs[name] = _Package(compiled, graph.signature, made["device"])
            yield Execution(bundle, graphs, probes)
        finally:
            torch.set_num_threads(before)


PART = AotInductor()


def processor() -> str:
    """What torch compiles for here: "x86_64 AVX2"."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
