"""One phase at work: bind the graph's inputs, run it, carry states, do the epilogue, `steps` times over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from edgekit.environment import Environment, Slot, resolved
from edgekit.errors import EdgekitError
from edgekit.noise import draw
from edgekit.parts import Graph
from edgekit.program import Affine, ArgMax, Clamp, Operation, Phase, Source
from edgekit.signature import Signature, Tensor

Action = Callable[[int, int], None]  # (iteration, chunk)


class PhaseRun:
    """A phase with its buffers.

    held: graph output -> graph input of the states that the engine keeps itself. outputs: of the whole program.
    """

    def __init__(
        self, phase: Phase, graph: Graph, signature: Signature, env: Environment, probes: tuple[str, ...],
        held: Mapping[str, str], loops: bool, outputs: Collection[str],
    ) -> None:  # fmt: skip
        self.phase, self._graph, self._env, self._probes, self._held, self._loops = phase, graph, env, probes, held, loops
        env.declare(phase.states)
        self._told = {phase.carry[out]: n for out, n in held.items() if phase.carry[out] in outputs}
        self._fill: list[Action] = []  # rows and noise, copied into their buffers before each run
        self._reads: dict[str, Slot | np.ndarray] = {
            t.name: self._reader(t, phase.inputs[t.name]) for t in signature.inputs if t.name not in held.values()
        }
        made = {t.name: t for t in signature.outputs}
        self._carries = {out: env.slots[state] for out, state in phase.carry.items() if out not in held}
        self._writes = {out: env.slot(name, made[out].dtype, made[out].shape) for out, name in phase.outputs.items()}
        slots = [s for s in (*self._reads.values(), *self._writes.values()) if isinstance(s, Slot)]
        # Engines bind inner tensors only by their own allocation, so phases that are probed run free as well.
        self._bound = all(s.fixed for s in slots) and not probes
        self._turning = list(dict.fromkeys(s for s in (*slots, *self._carries.values()) if len(s.buffers) == 2))
        self._bindings: dict[tuple[int, ...], Callable[[], None]] = {}
        self._after: list[Action] = [self._operation(op) for op in phase.epilogue]
        self._collected: dict[str, list[np.ndarray]] = {new: [] for new in phase.collect}
        for new, old in phase.collect.items():
            slot = env.slots[old]
            env.slot(new, slot.dtype.name, (phase.steps, *slot.declared))
        self._seen: dict[str, list[np.ndarray]] = {p: [] for p in probes}

    def begin(self, states: Mapping[str, object], chunk: int = 0) -> None:
        """Give the states among `states` that the engine keeps their initial values."""
        named = {graph_input: self.phase.carry[out] for out, graph_input in self._held.items()}
        values = {}
        for graph_input, name in named.items():
            if name in states:
                state = states[name]
                values[graph_input] = self._env.initial(state, self._env.slots[name], chunk)  # type: ignore[arg-type]
        if values:
            self._graph.set_held(values)

    def run(self, chunk: int = 0) -> None:
        """All iterations of the phase."""
        if self.phase.states:
            self._env.start(self.phase.states, chunk)
            self.begin(self.phase.states, chunk)
        collect = self.phase.collect
        for gathered in self._collected.values():
            gathered.clear()
        step = self._step_bound if self._bound else self._step_free
        fill, after = self._fill, self._after
        for i in range(self.phase.steps):
            for action in fill:
                action(i, chunk)
            step()
            for action in after:
                action(i, chunk)
            for new, old in collect.items():
                self._collected[new].append(self._env.slots[old].value.copy())
        for new, gathered in self._collected.items():
            self._env.slots[new].write(np.stack(gathered))
        for name, graph_input in self._told.items():
            self._env.slots[name].write(self._graph.held(graph_input))

    @property
    def single(self) -> Callable[[], None] | None:
        """The engine's own call, when the phase is no more than that; known after the first run."""
        plain = self.phase.run == "once" and not (self._fill or self._after or self._carries or self.phase.collect)
        return next(iter(self._bindings.values())) if plain and self._bindings else None

    def take_probes(self) -> dict[str, np.ndarray]:
        """What was seen since the last call: calls stacked along axis 0 where the graph runs in a loop."""
        found = {n: np.stack(v) if self._loops else v[-1] for n, v in self._seen.items() if v}
        for gathered in self._seen.values():
            gathered.clear()
        return found

    def _step_bound(self) -> None:
        key = tuple([s.at for s in self._turning])
        call = self._bindings.get(key)
        if call is None:
            inputs = {n: s.value if isinstance(s, Slot) else s for n, s in self._reads.items()}
            outputs = {n: s.next for n, s in (*self._writes.items(), *self._carries.items())}
            call = self._bindings[key] = self._graph.bind(inputs, outputs)
        call()
        for slot in self._carries.values():
            slot.at ^= 1

    def _step_free(self) -> None:
        found = self._graph.run({n: s.value if isinstance(s, Slot) else s for n, s in self._reads.items()})
        for out, slot in self._writes.items():
            slot.write(found[out])
        for out, slot in self._carries.items():
            slot.at ^= 1
            slot.write(found[out])
        for name, gathered in self._seen.items():
            gathered.append(found[name])

    def _reader(self, t: Tensor, source: Source) -> Slot | np.ndarray:
        """The slot or array that stays bound to a graph input; rows and noise get a buffer that is filled each time."""
        env = self._env
        if source.kind == "value":
            return env.slots[source.name]
        if source.kind == "tensor":
            return env.tensors[source.name]
        if source.kind == "row":
            table = env.tensors[source.name]
            buffer = np.empty(table.shape[1:], table.dtype)

            self._fill.append(lambda i, chunk: np.copyto(buffer, table[i]))
            return buffer
        shape = resolved(t.shape, env.sizes)
        if shape is None:
            raise EdgekitError(f"noise for '{t.name}' needs a known shape, but {list(t.shape)} has a size that no input carries")
        buffer = np.empty(shape, np.float32)

        def redraw(i: int, chunk: int) -> None:
            if not source.calls:
                buffer[...] = draw(source.name, shape, env.seed, source.id, i, chunk)
            for k in range(source.calls):
                buffer[k] = draw(source.name, shape[1:], env.seed, source.id, k, chunk)

        self._fill.append(redraw)
        return buffer

    def _operation(self, op: Operation) -> Action:
        env = self._env
        if isinstance(op, ArgMax):
            of = self._operand(op.of)
            like = env.slots[op.of.name] if op.of.kind == "value" else None
            shape = list(like.declared if like else env.tensors[op.of.name].shape)
            del shape[op.axis]
            target = env.slot(op.to, "int64", tuple(shape))
            return lambda i, chunk: target.write(of(i, chunk, None).argmax(op.axis))
        terms = [t.of for t in op.terms] if isinstance(op, Affine) else [op.of]
        target = env.slot(op.to, "float32", next(s for s in map(self._declared, terms) if s is not None))
        if isinstance(op, Clamp):
            of, low, high = self._operand(op.of), np.float32(op.low), np.float32(op.high)
            return lambda i, chunk: target.write(np.clip(of(i, chunk, None), low, high))
        parts = [(self._operand(t.of), self._factor(t.by)) for t in op.terms]
        first = next(i for i, t in enumerate(op.terms) if t.of.kind != "noise")

        def affine(i: int, chunk: int) -> None:
            shape = parts[first][0](i, chunk, None).shape
            total: np.ndarray | None = None
            for operand, by in parts:
                product = operand(i, chunk, shape) * by(i)
                total = product if total is None else np.add(total, product, out=total)
            assert total is not None
            target.write(total)

        return affine

    def _declared(self, source: Source) -> tuple[int | str, ...] | None:
        if source.kind == "value":
            return self._env.slots[source.name].declared
        if source.kind == "noise":
            return None
        shape = self._env.tensors[source.name].shape
        return shape[1:] if source.kind == "row" else shape

    def _operand(self, source: Source) -> Callable[[int, int, tuple[int, ...] | None], np.ndarray]:
        env = self._env
        if source.kind == "value":
            slot = env.slots[source.name]
            return lambda i, chunk, shape: slot.value
        if source.kind == "noise":
            return lambda i, chunk, shape: draw(source.name, shape or (), env.seed, source.id, i, chunk)
        array = env.tensors[source.name]
        return (lambda i, chunk, shape: array[i]) if source.kind == "row" else (lambda i, chunk, shape: array)

    def _factor(self, by: float | Source) -> Callable[[int], np.ndarray | np.float32]:
        if not isinstance(by, Source):
            constant = np.float32(by)
            return lambda i: constant
        array = self._env.tensors[by.name]
        return (lambda i: array[i]) if by.kind == "row" else (lambda i: array)
