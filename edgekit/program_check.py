"""Does a program fit its signature, graphs and tensors? Every reading comes after a writing, every type fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.errors import Broken
from edgekit.program import Affine, ArgMax, Operation, Phase, Program, Source, State, Stream, sources
from edgekit.signature import Signature

Shape = tuple[int | str, ...]
WHOLE = ("uint8", "int8", "int32", "int64")


@dataclass(frozen=True)
class Type:
    """Dtype and shape of a value, as far as they are known before sizes are."""

    dtype: str
    shape: Shape

    def fits(self, other: Type) -> bool:
        """False when no sizes of the names could make the two equal."""
        return self.dtype == other.dtype and len(self.shape) == len(other.shape) and all(
            a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(self.shape, other.shape, strict=True)
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def check(
    program: Program, signature: Signature, graphs: Mapping[str, Signature], tensors: Mapping[str, np.ndarray], where: str
) -> None:
    """Raise Broken, naming phase and value, unless the program can run: see docs/bundle-format.md 2."""
    _Check(program, signature, graphs, tensors, where).all()


def check_preparation(program: Program, signature: Signature, name: str, made: Signature, where: str) -> None:
    """Raise Broken unless all that the preparation `name` makes is an input of the program that is not streamed."""
    streamed = program.stream.feeds if program.stream else {}
    whole = {t.name: Type(t.dtype, t.shape) for t in signature.inputs if t.name not in streamed}
    for t in made.outputs:
        if t.name not in whole:
            taken = ", ".join(f"'{n}'" for n in whole) or "none"
            raise Broken(f"{where}: the preparation '{name}' makes '{t.name}', which is no input that is given whole; there are: {taken}")
        if not whole[t.name].fits(Type(t.dtype, t.shape)):
            found = Type(t.dtype, t.shape)
            raise Broken(f"{where}: the preparation '{name}' makes '{t.name}' as {found}, but the program takes {whole[t.name]}")


def check_same_share(program: Program, signature: Signature, shares: Mapping[str, float], where: str) -> None:
    """Raise Broken unless all names are whole-number outputs, of a stream such that it joins chunk by chunk, and all shares lie from 0 to 1."""
    numbers = {t.name for t in signature.outputs if t.dtype in WHOLE}
    joined, how = numbers, ""
    if program.stream:
        joined, how = {n for n, j in program.stream.joins.items() if n in numbers and j.how != "last"}, " that a stream joins with concat or stack"
    for name, share in shares.items():
        if name not in joined:
            raise Broken(f"{where}: same_share names '{name}', which is no whole-number output{how}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise Broken(f"{where}: same_share of '{name}' must be a number from 0 to 1, found {share!r}")


class _Check:
    def __init__(
        self, program: Program, signature: Signature, graphs: Mapping[str, Signature], tensors: Mapping[str, np.ndarray],
        where: str,
    ) -> None:  # fmt: skip
        self.program, self.signature, self.graphs, self.tensors, self.where = program, signature, graphs, tensors, where
        self.known = {t.name: Type(t.dtype, t.shape) for t in signature.inputs}
        self.sizes = {n for t in signature.inputs for n in t.shape if isinstance(n, str)}
        self.states: set[str] = set()

    def broken(self, text: str) -> Broken:
        return Broken(f"{self.where}: the program {text}")

    def all(self) -> None:
        identities = [s.id for s in sources(self.program) if s.kind == "noise"]
        if len(identities) != len(set(identities)):
            raise self.broken(f"gives two noise sources one id: {sorted(identities)}")
        if sum(isinstance(p, Stream) for p in self.program.phases) > 1:
            raise self.broken("has more than one stream")
        for i, phase in enumerate(self.program.phases):
            if isinstance(phase, Stream):
                self.stream(phase, f"phases[{i}]")
            else:
                self.phase(phase, f"phases[{i}]")
        for out in self.signature.outputs:
            found = self.known.get(out.name)
            if found is None:
                raise self.broken(f"never writes the output '{out.name}'; it knows {', '.join(sorted(self.known))}")
            if not found.fits(Type(out.dtype, out.shape)):
                raise self.broken(f"gives '{out.name}' as {found}, the signature says {Type(out.dtype, out.shape)}")

    def stream(self, stream: Stream, at: str) -> None:
        outside = dict(self.known)
        streamed: set[str] = set()
        for name, feed in stream.feeds.items():
            given = self.known.get(name)
            if given is None or name not in {t.name for t in self.signature.inputs}:
                raise self.broken(f"feeds '{name}', which is no input")
            if feed.axis >= len(given.shape) or isinstance(given.shape[feed.axis], int):
                raise self.broken(f"cuts '{name}' along axis {feed.axis}, which has no free size in {given}")
            streamed.add(str(given.shape[feed.axis]))
            chunk = list(given.shape)
            chunk[feed.axis : feed.axis + 1] = [] if feed.window is None else [feed.window]
            self.known[name] = Type(given.dtype, tuple(chunk))
        for t in self.signature.inputs:
            left = [n for i, n in enumerate(t.shape) if n in streamed and (t.name not in stream.feeds or i != stream.feeds[t.name].axis)]
            if left:
                raise self.broken(f"cuts the size '{left[0]}', but '{t.name}' has it too")
        self.sizes -= streamed
        self.declare(stream.states, f"{at}.states")
        for i, phase in enumerate(stream.phases):
            self.phase(phase, f"{at}.phases[{i}]")
        outputs = {t.name: t for t in self.signature.outputs}
        for name, join in stream.joins.items():
            if name not in outputs or name not in self.known:
                raise self.broken(f"joins '{name}', which is no output or is never written")
            if join.delay and join.how != "concat":
                raise self.broken(f"joins '{name}' by {join.how} with a delay of {join.delay}, but only concat has one")
            shape = list(self.known[name].shape)
            if join.how == "concat":
                if join.axis >= len(shape):
                    raise self.broken(f"joins '{name}' along axis {join.axis} of {self.known[name]}")
                shape[join.axis] = "joined"
            elif join.how == "stack":
                shape.insert(join.axis, "joined")
            outside[name] = Type(self.known[name].dtype, tuple(shape))
        outside.update({n: self.known[n] for n in stream.states if n not in stream.joins})
        self.known = outside

    def declare(self, states: Mapping[str, State], at: str) -> None:
        for name, state in states.items():
            if name in self.known:
                raise self.broken(f"declares the state '{name}' in {at}, but there is a value of that name")
            free = [n for n in state.shape if isinstance(n, str) and n not in self.sizes]
            if free:
                raise self.broken(f"gives the state '{name}' the size '{free[0]}', which no input carries")
            declared = Type(state.dtype, state.shape)
            self.read(state.initial, declared, f"the initial value of '{name}'", 0)
        for name, state in states.items():
            self.known[name] = Type(state.dtype, state.shape)
            self.states.add(name)

    def phase(self, phase: Phase, at: str) -> None:
        graph = self.graphs.get(phase.graph)
        if graph is None:
            raise self.broken(f"runs the graph '{phase.graph}' in {at}; there are: {', '.join(sorted(self.graphs))}")
        again = set(phase.states) & set(self.known)
        if again and not self.states >= again:
            raise self.broken(f"declares the state '{min(again)}' in {at}, but there is a value of that name")
        self.known = {n: t for n, t in self.known.items() if n not in phase.states}
        self.declare(phase.states, at)
        steps = phase.steps if phase.run == "steps" else 0
        if set(phase.inputs) != {t.name for t in graph.inputs}:
            raise self.broken(
                f"binds {sorted(phase.inputs)} in {at}, but the graph '{phase.graph}' takes {sorted(t.name for t in graph.inputs)}"
            )
        for t in graph.inputs:
            self.read(phase.inputs[t.name], Type(t.dtype, t.shape), f"'{t.name}' of '{phase.graph}' in {at}", steps)
        given = {t.name: Type(t.dtype, t.shape) for t in graph.outputs}
        twice = set(phase.outputs) & set(phase.carry)
        if twice:
            raise self.broken(f"names '{min(twice)}' of '{phase.graph}' both as an output and as a carry in {at}")
        again = set(phase.outputs.values()) & set(self.known)
        if again:
            raise self.broken(f"writes '{min(again)}' in {at} though it is there already; a state is written by carry")
        for out, name in (*phase.outputs.items(), *phase.carry.items()):
            if out not in given:
                raise self.broken(f"takes '{out}' from the graph '{phase.graph}', which gives {', '.join(sorted(given))}")
            if (out in phase.carry and phase.carry[out] == name) and name not in self.states:
                raise self.broken(f"carries '{out}' to '{name}' in {at}, which is no state")
            if name in self.states:
                if not given[out].fits(self.known[name]):
                    raise self.broken(f"carries {given[out]} to the state '{name}' of {self.known[name]}")
            else:
                self.known[name] = given[out]
        for op in phase.epilogue:
            self.operation(op, at, steps)
        for new, old in phase.collect.items():
            if old not in self.known or new in self.states:
                raise self.broken(f"collects '{old}' to '{new}' in {at}, which cannot be")
            self.known[new] = Type(self.known[old].dtype, (phase.steps, *self.known[old].shape))

    def operation(self, op: Operation, at: str, steps: int) -> None:
        many = [t.of for t in op.terms] if isinstance(op, Affine) else [op.of]
        types = [t for s in many if (t := self.type_of(s, at, steps)) is not None]
        if not types:
            raise self.broken(f"makes '{op.to}' in {at} of nothing but noise, which has no shape of its own")
        if isinstance(op, ArgMax):
            rank = len(types[0].shape)
            if not -rank <= op.axis < rank:
                raise self.broken(f"takes the argmax of {types[0]} along axis {op.axis}")
            shape = list(types[0].shape)
            del shape[op.axis]
            made = Type("int64", tuple(shape))
        else:
            if any(t.dtype != "float32" or not t.fits(types[0]) for t in types):
                raise self.broken(f"makes '{op.to}' in {at} of {', '.join(map(str, types))}: float32 of one shape is needed")
            made = types[0]
        if isinstance(op, Affine):
            for term in op.terms:
                if isinstance(term.by, Source) and (term.by.kind not in ("row", "tensor") or self.type_of(term.by, at, steps) is None):
                    raise self.broken(f"multiplies by {term.by.to_json()} in {at}: a number, a row or a tensor is needed")
        if op.to in self.states and not made.fits(self.known[op.to]):
            raise self.broken(f"writes {made} to the state '{op.to}' of {self.known[op.to]}")
        if op.to not in self.states:
            self.known[op.to] = made

    def read(self, source: Source, wanted: Type, what: str, steps: int) -> None:
        if source.kind == "zeros" and not what.startswith("the initial"):
            raise self.broken(f"gives zeros to {what}; zeros are for initial values")
        if source.kind == "noise" and wanted.dtype != "float32":
            raise self.broken(f"gives float32 noise to {what}, which is {wanted}")
        found = self.type_of(source, what, steps)
        if found is not None and not found.fits(wanted):
            raise self.broken(f"gives {found} to {what}, which is {wanted}")

    def type_of(self, source: Source, at: str, steps: int) -> Type | None:
        """None where the reader decides the shape."""
        if source.kind in ("zeros", "noise"):
            return None
        if source.kind == "value":
            if source.name not in self.known:
                raise self.broken(f"reads '{source.name}' for {at} before it is written; it knows {', '.join(sorted(self.known))}")
            return self.known[source.name]
        array = self.tensors.get(source.name)
        if array is None:
            raise self.broken(f"reads the tensor '{source.name}', which tensors.safetensors does not hold")
        if source.kind == "tensor":
            return Type(array.dtype.name, array.shape)
        if not steps or not array.ndim or array.shape[0] != steps:
            raise self.broken(f"reads rows of '{source.name}' {list(array.shape)} for {at}, which has {steps or 'no'} steps")
        return Type(array.dtype.name, array.shape[1:])
