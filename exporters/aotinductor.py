"""A torch model compiled ahead of time by AOTInductor: one package a graph, for an NVIDIA GPU with torch, or for this CPU."""

from __future__ import annotations

import dataclasses
import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError, Missing
from edgekit.parts import Exporter, Trained, manifest_of
from edgekit.prepares import export_prepares

if TYPE_CHECKING:
    import torch


class AotInductor(Exporter):
    """Packages hold machine code for the device and the torch version that made them: `details` names both, and bundles are
    made on the machine that runs them. device: cuda, cpu, or auto (the GPU where there is one)."""

    needs = ("torch",)
    extra = "train"
    format = "aotinductor"
    accepts = ("checkpoint",)
    options: ClassVar[Mapping[str, Any]] = {"device": "auto"}

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """EdgekitError for a model that came as ONNX or cannot be compiled, Missing without the device."""
        import torch

        assert isinstance(source, Trained)
        if any(source.onnx_model(n) is not None for n in source.graphs):
            raise EdgekitError(f"'{source.name}' came as an ONNX file; aotinductor compiles torch models: a .pt2 or module:function")
        device = _device(str(options["device"]))
        tools = {"torch": torch.__version__}
        lineage = Lineage("compile aotinductor", source.sha256, {**options, "device": device}, tools)
        if done := done_already(out, lineage):
            return done
        base = manifest_of(source, self.format, {n: f"{n}.pt2" for n in source.graphs}, lineage)
        details = {"device": device, "torch": torch.__version__}
        if device == "cuda":
            details["gpu"] = torch.cuda.get_device_name()
        else:
            details["processor"] = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        graphs = {n: dataclasses.replace(g, probes=()) for n, g in base.graphs.items()}  # inner tensors are compiled away
        manifest = dataclasses.replace(base, graphs=graphs, details=details)
        goldens = [dataclasses.replace(g, probes={}, near={}) for g in source.goldens()]
        with new_bundle(out, manifest, goldens, source.tensors, source.task_goldens()) as draft:
            for name, graph in graphs.items():
                _compile(source, name, device, draft / graph.file)
            export_prepares(self, source, draft, options)
        return open_bundle(out)


PART = AotInductor()


def _device(asked: str) -> str:
    import torch

    if asked not in ("auto", "cuda", "cpu"):
        raise EdgekitError(f"device '{asked}' is none that aotinductor compiles for; there are: auto, cuda, cpu")
    if asked == "cuda" and not torch.cuda.is_available():
        raise Missing("device 'cuda' was asked for, but torch finds no NVIDIA GPU here; --option device=cpu compiles for this processor")
    return asked if asked != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _compile(source: Trained, graph: str, device: str, path: Path) -> None:
    import torch

    signature, sizes = source.graphs[graph], source.traced_sizes()
    module = _first_outputs(source.module(graph), len(signature.outputs)).to(device)
    example = tuple(
        torch.zeros([sizes.get(n, 2) if isinstance(n, str) else n for n in t.shape], dtype=getattr(torch, t.dtype), device=device)
        for t in signature.inputs
    )
    free = tuple({i: torch.export.Dim.AUTO for i, n in enumerate(t.shape) if isinstance(n, str)} for t in signature.inputs)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, example, dynamic_shapes=(free,))
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise EdgekitError(f"torch cannot compile '{source.name}': {type(error).__name__}: {first[:300]}") from None


def _first_outputs(module: torch.nn.Module, count: int) -> torch.nn.Module:
    """The module behind `forward(*tensors)` without what stands behind its outputs."""
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.module(*tensors)[:count])

    return First().eval()
