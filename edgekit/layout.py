"""The buffers and bound phases of a program for one combination of free sizes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.bundle import Manifest
from edgekit.environment import Environment, Sizes
from edgekit.parts import Arrays, Graph
from edgekit.phase import PhaseRun
from edgekit.program import Phase, Program, Stream, sources

Held = Mapping[str, Mapping[str, str]]  # graph -> graph output -> graph input


class Layout:
    """Phases before, in and after a stream; a program without one has only phases before."""

    def __init__(
        self, manifest: Manifest, graphs: Mapping[str, Graph], tensors: Arrays, sizes: Sizes, held: Held, probes: bool
    ) -> None:
        self.env = Environment(tensors, sizes)
        stream = manifest.program.stream
        for t in manifest.signature.inputs:
            shape = list(t.shape)
            if stream is not None and t.name in stream.feeds:
                feed = stream.feeds[t.name]
                shape[feed.axis : feed.axis + 1] = [] if feed.window is None else [feed.window]
            self.env.slot(t.name, t.dtype, tuple(shape))
        outputs = {t.name for t in manifest.signature.outputs}
        self.before: list[PhaseRun] = []
        self.inner: list[PhaseRun] = []
        self.after: list[PhaseRun] = []

        def made(phase: Phase) -> PhaseRun:
            file = manifest.graphs[phase.graph]
            seen = file.probes if probes else ()
            loops = manifest.program.loops(phase.graph)
            return PhaseRun(phase, graphs[phase.graph], file.signature, self.env, seen, held.get(phase.graph, {}), loops, outputs)

        for phase in manifest.program.phases:
            if isinstance(phase, Stream):
                self.env.declare(phase.states)
                self.inner = [made(p) for p in phase.phases]
            else:
                (self.after if self.inner else self.before).append(made(phase))

    def empty(self, name: str) -> np.ndarray:
        """A value's shape and dtype without its numbers; sizes that are not known are 0."""
        slot = self.env.slots[name]
        shape = [n if isinstance(n, int) else self.env.sizes.get(n, 0) for n in slot.declared]
        return np.zeros(shape, slot.dtype)

    def probes(self) -> dict[str, np.ndarray]:
        """What the probes of all phases saw since the last call."""
        return {n: v for p in (*self.before, *self.inner, *self.after) for n, v in p.take_probes().items()}


def holdable(program: Program) -> dict[str, dict[str, str]]:
    """Graph -> {graph output: graph input} of the states that only one phase, the only one of its graph, reads and writes."""
    phases = list(program.graph_phases())
    reads = [s.name for s in sources(program) if s.kind == "value"]
    joined = program.stream.joins if program.stream else {}
    # What is joined is asked for after each chunk; an output of a loop once, at its end.
    touched = {op.to for p in phases for op in p.epilogue} | set(joined)
    touched |= {n for p in phases for n in (*p.collect.values(), *p.outputs.values())}
    carried = [state for p in phases for state in p.carry.values()]
    found: dict[str, dict[str, str]] = {}
    for phase in phases:
        if sum(p.graph == phase.graph for p in phases) > 1:
            continue
        for out, state in phase.carry.items():
            takers = [n for n, s in phase.inputs.items() if s.kind == "value" and s.name == state]
            if len(takers) == reads.count(state) == carried.count(state) == 1 and state not in touched:
                found.setdefault(phase.graph, {})[out] = takers[0]
    return found
