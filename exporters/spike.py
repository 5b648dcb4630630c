"""A spiking network in integers for edgekit's own spike engine, which adds up events where others multiply zeros."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import __version__, integer_net, spiking_net, stepped_net
from edgekit.bundle import Allowed, Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Exporter, Trained, manifest_of
from edgekit.program import Phase, Program, State, Stream
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import SpikingNet
from edgekit.stepped_net import SteppedNet

FILE = "integer_net.safetensors"
MOST_VALUES = 1 << 26  # of all populations; kMostValues in runtime/src/spike/network.hpp
BYTES = (0, 255)  # what an image may hold: the engine reads bytes
LANES = 16  # a place's membranes lie in multiples of so many; Population::padded in runtime/src/spike/network.hpp


class Spike(Exporter):
    """The integers of integer_net.quantise_per_channel, or over several timesteps of stepped_net.quantise: no graph, since the
    engine knows one. Its membranes are states of the program, as those of any step graph, but int32 and place by place."""

    format = "spike"
    accepts = ("checkpoint",)
    precision = "int8"

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """EdgekitError for what is no spiking network over images of bytes, or whose sums are too large."""
        assert isinstance(source, Trained)
        image = source.signature.inputs[0]
        if image.dtype != "uint8":
            raise EdgekitError(f"the spike engine reads images of bytes, but '{image.name}' is {image.dtype}; export it as nir or onnx")
        stepped = source.stepped_net() if source.program.loops("main") else None
        net = stepped.net if stepped else integer_net.quantise_per_channel(source.spiking_net())
        check(net)
        lineage = Lineage("export spike", source.sha256, dict(options), {"edgekit": __version__})
        if done := done_already(out, lineage):
            return done
        base = manifest_of(source, "spike", {"main": FILE}, lineage)
        manifest = dataclasses.replace(base, precision="int8", allowed=Allowed(score_drop=0.02, exact=True))
        if stepped:
            graph = dataclasses.replace(manifest.graphs["main"], signature=_step(source.graphs["main"], stepped))
            manifest = dataclasses.replace(manifest, graphs={"main": graph}, program=_program(source.program, stepped))
        goldens = []
        for g in source.goldens():
            images = next(iter(g.inputs.values()))
            exact = stepped_net.simulate(stepped, images, _steps(source.program, images)) if stepped else spiking_net.simulate(net, images)
            goldens.append(dataclasses.replace(g, exact=exact))
        with new_bundle(out, manifest, goldens) as draft:
            if stepped:
                stepped_net.save(stepped, draft / FILE)
            else:
                spiking_net.save(net, draft / FILE)
        return open_bundle(out)


PART = Spike()


def check(net: SpikingNet) -> None:
    """Raise EdgekitError, naming the layer, unless the engine can hold the network: runtime/src/spike/network.cpp has the same limits."""
    if not BYTES[0] <= net.input_offset <= BYTES[1]:
        raise EdgekitError(f"the image minus {net.input_offset} is what the network sees; the spike engine subtracts 0 to 255")
    values = sum(math.prod(p.shape) for p in net.populations)
    if values > MOST_VALUES:
        raise EdgekitError(f"an image makes {values} values in this network; the spike engine holds {MOST_VALUES}")
    for p in net.populations:
        largest = int((integer_net.largest_current(net, p) + np.abs(p.bias)).max())
        if largest >= 1 << 30:
            raise EdgekitError(f"layer '{p.name}': its sum can reach {largest}, the spike engine holds less than {1 << 30}")


def _steps(program: Program, images: np.ndarray) -> int:
    """Of a loop as many as it says, of a stream one a frame of images (N, frames, C, H, W)."""
    return images.shape[1] if program.stream else next(p.steps for p in program.graph_phases())


def _membranes(stepped: SteppedNet) -> dict[str, tuple[int | str, ...]]:
    """State -> its shape, of the populations that remember anything."""
    shapes: dict[str, tuple[int | str, ...]] = {}
    for p in stepped.net.populations:
        if p.spiking and stepped.neurons[p.name].leak:
            shapes[f"u_{p.name}"] = ("batch", math.prod(p.shape[1:]), -(-p.shape[0] // LANES) * LANES)
    return shapes


def _step(graph: Signature, stepped: SteppedNet) -> Signature:
    """The signature of the float step graph with integer membranes."""
    shapes = _membranes(stepped)

    def port(t: Tensor, name: str) -> Tensor | None:
        if name in shapes:
            return Tensor(t.name, "int32", shapes[name], "membranes, place by place, channels padded")
        return None if name.startswith("u_") else t

    inputs = [port(t, t.name) for t in graph.inputs]
    outputs = [port(t, t.name.removesuffix("_next")) for t in graph.outputs]
    return Signature(tuple(t for t in inputs if t), tuple(t for t in outputs if t))


def _program(program: Program, stepped: SteppedNet) -> Program:
    """The float program's loop with integer membranes."""
    shapes = _membranes(stepped)

    def states(old: Mapping[str, State]) -> dict[str, State]:
        kept = {n: s for n, s in old.items() if n in shapes or not n.startswith("u_")}
        return {n: State("int32", shapes[n]) if n in shapes else s for n, s in kept.items()}

    def phase(p: Phase) -> Phase:
        gone = {n for n in p.inputs if n.startswith("u_") and n not in shapes}
        return dataclasses.replace(
            p, inputs={n: v for n, v in p.inputs.items() if n not in gone}, states=states(p.states),
            carry={out: to for out, to in p.carry.items() if to not in gone},
        )  # fmt: skip

    parts: list[Phase | Stream] = []
    for part in program.phases:
        if isinstance(part, Stream):
            parts.append(dataclasses.replace(part, phases=tuple(phase(p) for p in part.phases), states=states(part.states)))
        else:
            parts.append(phase(part))
    return dataclasses.replace(program, phases=tuple(parts))
