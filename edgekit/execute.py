"""Run a bundle's program over the graphs of any engine: run, and for streams begin, push, close."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from edgekit.bundle import Bundle
from edgekit.environment import Sizes, sizes_of
from edgekit.errors import EdgekitError
from edgekit.layout import Layout, holdable
from edgekit.parts import Arrays, Graph, Session
from edgekit.program import Stream, sources
from edgekit.signature import Signature
from edgekit.stream import StreamRun, cut, joined, run_pieces

G = TypeVar("G", bound=Graph)
KEPT_LAYOUTS = 2  # sets of buffers kept: one for each combination of free sizes seen last


class Execution(Session):
    """A program at work. States lie in buffers that are bound once, or in the engine. One thread at a time."""

    def __init__(self, bundle: Bundle, graphs: Mapping[str, Graph], probes: bool = False) -> None:
        self._manifest, self._graphs, self._probes = bundle.manifest, graphs, probes
        self._signature, self._program = bundle.manifest.signature, bundle.manifest.program
        self._tensors = bundle.tensors()
        self._held = {n: pairs for n, pairs in holdable(self._program).items() if graphs[n].hold(pairs)}
        self._layouts: dict[tuple[tuple[str, int], ...], Layout] = {}
        self._stream: StreamRun | None = None
        self._plain = self._program.runs_once and all(s.kind == "value" for s in sources(self._program))

    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        self._signature.check_inputs(inputs)
        stream = self._program.stream
        if stream is not None:
            self.begin({n: v for n, v in inputs.items() if n not in stream.feeds}, seed)
            pushed = self.push({n: inputs[n] for n in stream.feeds})
            return joined(stream.joins, pushed, self.close())
        if self._plain:
            return self._run_plain(inputs)
        layout = self._ready(inputs, seed)
        for phase in layout.before:
            phase.run()
        answers = {t.name: layout.env.slots[t.name].value.copy() for t in self._signature.outputs}
        return {**answers, **layout.probes()}

    def begin(self, inputs: Arrays, seed: int | None = None) -> None:
        stream = self._need_stream()
        given = tuple(t for t in self._signature.inputs if t.name not in stream.feeds)
        Signature(given, ()).check_inputs(inputs)
        self._stream = StreamRun(self._signature, self._program, dict(inputs), self._seed(seed), self._layout)

    def push(self, inputs: Arrays) -> dict[str, np.ndarray]:
        self._need_stream()
        if self._stream is None:
            self.begin({})
        assert self._stream is not None
        return self._stream.push(inputs)

    def close(self) -> dict[str, np.ndarray]:
        self._need_stream()
        if self._stream is None:
            raise EdgekitError("no stream was begun, so none can be closed; call push first")
        stream, self._stream = self._stream, None
        return stream.close()

    def run_pieces(self, inputs: Arrays, sizes: Sequence[int], seed: int | None = None) -> dict[str, np.ndarray]:
        self._signature.check_inputs(inputs)
        return run_pieces(self, self._need_stream(), inputs, sizes, seed)

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """The whole program on bound buffers; of a stream, one push of one chunk."""
        self._signature.check_inputs(inputs)
        stream = self._program.stream
        if stream is not None:
            self.begin({n: v for n, v in inputs.items() if n not in stream.feeds})
            chunk = {n: cut(inputs[n], f.axis, 0, f.hop or 1) for n, f in stream.feeds.items()}

            def push() -> None:
                self.push(chunk)

            return push
        layout = self._ready(inputs, None)
        if len(layout.before) == 1:
            phase = layout.before[0]
            phase.run()
            return phase.single or phase.run

        def once() -> None:
            for phase in layout.before:
                phase.run()

        return once

    def around_graphs(self, wrap: Callable[[Graph], G]) -> dict[str, G]:
        """Put something around every graph from now on, such as a clock, in the order in which the program first runs them. A stream that
        was begun is given up; states that the engine keeps stay with it."""
        order = list(dict.fromkeys(p.graph for p in self._program.graph_phases()))
        wrapped = {n: wrap(self._graphs[n]) for n in order}
        self._graphs, self._stream = {**self._graphs, **wrapped}, None
        self._layouts.clear()
        return wrapped

    def _ready(self, inputs: Arrays, seed: int | None) -> Layout:
        """The layout for these sizes, with the inputs written into it."""
        layout = self._layout(sizes_of(self._signature, inputs))
        layout.env.seed = self._seed(seed)
        layout.probes()
        for name, value in inputs.items():
            layout.env.slots[name].write(value)
        return layout

    def _run_plain(self, inputs: Arrays) -> dict[str, np.ndarray]:
        phase = self._program.phases[0]
        assert not isinstance(phase, Stream)
        found = self._graphs[phase.graph].run({n: inputs[s.name] for n, s in phase.inputs.items()})
        answers = {name: found[out] for out, name in phase.outputs.items()}
        seen = self._manifest.graphs[phase.graph].probes if self._probes else ()
        return {**answers, **{p: found[p] for p in seen}}

    def _layout(self, sizes: Sizes) -> Layout:
        key = tuple(sorted(sizes.items()))
        layout = self._layouts.pop(key, None)
        if layout is None:
            layout = Layout(self._manifest, self._graphs, self._tensors, sizes, self._held, self._probes)
        self._layouts[key] = layout  # the last used is the last
        while len(self._layouts) > KEPT_LAYOUTS:
            self._layouts.pop(next(iter(self._layouts)))
        return layout

    def _seed(self, seed: int | None) -> int:
        chosen = self._program.seed if seed is None else seed
        if not 0 <= chosen < 2**64:
            raise EdgekitError(f"a seed is a whole number from 0 to 2^64 - 1, but {chosen} was given")
        return chosen

    def _need_stream(self) -> Stream:
        if self._program.stream is None:
            raise EdgekitError(f"'{self._manifest.name}' is no stream: give it whole inputs with run")
        return self._program.stream
