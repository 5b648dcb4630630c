"""A program: which graphs run, how often, with which rows, states and noise. What docs/bundle-format.md says, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MOST_FUSED_STEPS = 8  # more steps make a graph that engines compile slowly and gain nothing from


@dataclass(frozen=True)
class Source:
    """Where a value comes from; `name` is the value, tensor or distribution."""

    kind: Literal["value", "tensor", "row", "zeros", "noise"]
    name: str = ""
    id: int = 0  # of a noise source: different for each of a program
    calls: int = 0  # of a fused graph's noise: iterations drawn at once, along a leading axis

    def to_json(self) -> dict[str, Any]:
        """One key says the kind."""
        if self.kind == "zeros":
            return {"zeros": True}
        return {"noise": self.name, "id": self.id, "calls": self.calls} if self.kind == "noise" else {self.kind: self.name}


def value(name: str) -> Source:
    """A value of the environment."""
    return Source("value", name)


def tensor(name: str) -> Source:
    """A whole tensor of the bundle."""
    return Source("tensor", name)


def row(name: str) -> Source:
    """Row i of a tensor of the bundle, in iteration i."""
    return Source("row", name)


def noise(identity: int, distribution: str = "normal") -> Source:
    """Numbers drawn by seed, identity, iteration and chunk."""
    return Source("noise", distribution, identity)


ZEROS = Source("zeros")


@dataclass(frozen=True)
class State:
    """A value carried from one iteration to the next. A shape holds sizes, or names of sizes that are free."""

    dtype: str
    shape: tuple[int | str, ...]
    initial: Source = ZEROS

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"dtype": self.dtype, "shape": list(self.shape), "initial": self.initial.to_json()}


@dataclass(frozen=True)
class Term:
    """One product of an affine operation: by * of."""

    of: Source
    by: float | Source

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"of": self.of.to_json(), "by": self.by.to_json() if isinstance(self.by, Source) else self.by}


@dataclass(frozen=True)
class Affine:
    """to = sum_k by_k * of_k, in float32 from left to right."""

    terms: tuple[Term, ...]
    to: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"op": "affine", "terms": [t.to_json() for t in self.terms], "to": self.to}


@dataclass(frozen=True)
class Clamp:
    """to = min(max(of, low), high), in float32."""

    of: Source
    low: float
    high: float
    to: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"op": "clamp", "of": self.of.to_json(), "low": self.low, "high": self.high, "to": self.to}


@dataclass(frozen=True)
class ArgMax:
    """to = the place of the first largest value along an axis, int64."""

    of: Source
    axis: int
    to: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"op": "argmax", "of": self.of.to_json(), "axis": self.axis, "to": self.to}


Operation = Affine | Clamp | ArgMax


@dataclass(frozen=True)
class Phase:
    """A graph that runs `steps` times; see docs/bundle-format.md 2.1 for the order within an iteration."""

    graph: str = "main"
    run: Literal["once", "steps"] = "once"
    steps: int = 1
    inputs: Mapping[str, Source] = field(default_factory=dict)  # graph input -> where it comes from
    outputs: Mapping[str, str] = field(default_factory=dict)  # graph output -> value
    states: Mapping[str, State] = field(default_factory=dict)
    carry: Mapping[str, str] = field(default_factory=dict)  # graph output -> state
    epilogue: tuple[Operation, ...] = ()
    collect: Mapping[str, str] = field(default_factory=dict)  # new value -> value gathered along a new axis 0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "run": self.run,
            "steps": self.steps,
            "graph": self.graph,
            "states": {n: s.to_json() for n, s in self.states.items()},
            "inputs": {n: s.to_json() for n, s in self.inputs.items()},
            "outputs": dict(self.outputs),
            "carry": dict(self.carry),
            "epilogue": [o.to_json() for o in self.epilogue],
            "collect": dict(self.collect),
        }


@dataclass(frozen=True)
class Feed:
    """How a program input is cut into chunks: windows that move by `hop`, or slices (window None)."""

    axis: int
    window: int | None = None
    hop: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"axis": self.axis, "window": self.window, "hop": self.hop}


@dataclass(frozen=True)
class Join:
    """How the values of all chunks make one program output."""

    how: Literal["concat", "stack", "last"] = "concat"
    axis: int = 0
    delay: int = 0  # of concat: element k + delay along the axis belongs to element k of the input; the first ones to nothing

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"axis": self.axis, "how": self.how, "delay": self.delay}


@dataclass(frozen=True)
class Stream:
    """Phases that run once for every chunk of the inputs that are pushed."""

    feeds: Mapping[str, Feed]
    phases: tuple[Phase, ...]
    joins: Mapping[str, Join]
    states: Mapping[str, State] = field(default_factory=dict)
    tail: Literal["pad", "drop"] = "pad"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "run": "stream",
            "feeds": {n: f.to_json() for n, f in self.feeds.items()},
            "tail": self.tail,
            "states": {n: s.to_json() for n, s in self.states.items()},
            "phases": [p.to_json() for p in self.phases],
            "joins": {n: j.to_json() for n, j in self.joins.items()},
        }


@dataclass(frozen=True)
class Program:
    """Phases in order over named values; `seed` is used where the caller gives none."""

    phases: tuple[Phase | Stream, ...]
    seed: int = 0

    @property
    def stream(self) -> Stream | None:
        """The stream among the phases, if there is one."""
        return next((p for p in self.phases if isinstance(p, Stream)), None)

    @property
    def runs_once(self) -> bool:
        """True for one graph, run once, with nothing around it."""
        only = self.phases[0]
        return (
            len(self.phases) == 1 and isinstance(only, Phase) and only.run == "once"
            and not only.states and not only.epilogue and not only.collect
        )  # fmt: skip

    def graph_phases(self) -> Iterator[Phase]:
        """Every phase that runs a graph, those inside a stream too, in order."""
        for phase in self.phases:
            yield from phase.phases if isinstance(phase, Stream) else (phase,)

    def loops(self, graph: str) -> bool:
        """True when `graph` runs in a loop, so that its probes have a leading axis of calls."""
        inside = self.stream.phases if self.stream else ()
        return any(p.graph == graph and (p.run == "steps" or p in inside) for p in self.graph_phases())

    @property
    def tensors(self) -> set[str]:
        """Names of the bundle's tensors that the program reads."""
        return {s.name for s in sources(self) if s.kind in ("tensor", "row")}

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"seed": self.seed, "phases": [p.to_json() for p in self.phases]}


def fusable(program: Program) -> bool:
    """True for a program that is one loop short enough to be unrolled into a graph."""
    only = program.phases[0]
    return len(program.phases) == 1 and isinstance(only, Phase) and only.run == "steps" and 2 <= only.steps <= MOST_FUSED_STEPS


def sources(program: Program) -> Iterator[Source]:
    """Every source that the program names."""
    for phase in program.phases:
        yield from (s.initial for s in phase.states.values())
        for inner in phase.phases if isinstance(phase, Stream) else (phase,):
            if inner is not phase:
                yield from (s.initial for s in inner.states.values())
            yield from inner.inputs.values()
            for op in inner.epilogue:
                if isinstance(op, Affine):
                    yield from (s for t in op.terms for s in (t.of, t.by) if isinstance(s, Source))
                else:
                    yield op.of


def once(inputs: Mapping[str, str] | tuple[str, ...], outputs: Mapping[str, str] | tuple[str, ...]) -> Program:
    """The program of a plain graph: every input and output under its own name."""
    ins = inputs if isinstance(inputs, Mapping) else {n: n for n in inputs}
    outs = outputs if isinstance(outputs, Mapping) else {n: n for n in outputs}
    return Program((Phase(inputs={n: value(v) for n, v in ins.items()}, outputs=dict(outs)),))
