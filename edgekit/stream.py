"""A stream at work: inputs of any length are cut into chunks, chunks run, their outputs are joined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgekit.environment import Sizes, sizes_of
from edgekit.errors import EdgekitError
from edgekit.layout import Layout
from edgekit.parts import Arrays, Session
from edgekit.program import Feed, Join, Program, Stream
from edgekit.signature import Signature, Tensor

Outputs = dict[str, np.ndarray]


class StreamRun:
    """One stream from its begin to its close. Buffers are laid out at the first push, when all sizes are known."""

    def __init__(
        self, signature: Signature, program: Program, given: Arrays, seed: int, layout_of: Callable[[Sizes], Layout]
    ) -> None:
        assert program.stream is not None
        self._signature, self._stream = signature, program.stream
        self._given, self._seed, self._layout_of = given, seed, layout_of
        self._layout: Layout | None = None
        self._queues: dict[str, _Queue] = {}
        self._chunk = 0

    def push(self, inputs: Arrays) -> Outputs:
        """The joined outputs of the chunks that became whole; size 0 along the axis when none did."""
        self._check(inputs)
        if self._layout is None:
            self._layout = self._begin(inputs)
        for name, value in inputs.items():
            self._queues[name].add(value)
        return self._run(self._layout)

    def close(self) -> Outputs:
        """Outputs of the tail, of the phases after the stream, and the last value of outputs that are joined as `last`."""
        if self._layout is None:
            raise EdgekitError("the stream was closed before anything was pushed, so there is nothing to answer")
        layout = self._layout
        if self._stream.tail == "pad" and all(q.begun or q.ready for q in self._queues.values()):
            for queue in self._queues.values():
                if queue.begun:
                    queue.pad()
        answers = self._run(layout)
        for phase in layout.after:
            phase.run()
        answers.update(layout.probes())
        for t in self._signature.outputs:
            join = self._stream.joins.get(t.name)
            if join is None or (join.how == "last" and self._chunk):
                answers[t.name] = layout.env.slots[t.name].value.copy()
        return answers

    def _begin(self, inputs: Arrays) -> Layout:
        cut = {n: f.axis for n, f in self._stream.feeds.items()}
        layout = self._layout_of(sizes_of(self._signature, {**self._given, **inputs}, cut))
        tensors = {t.name: t for t in self._signature.inputs}
        self._queues = {
            n: _Queue(tensors[n], f, np.asarray(inputs[n]).shape) for n, f in self._stream.feeds.items()
        }
        env = layout.env
        env.seed = self._seed
        for name, value in self._given.items():
            env.slots[name].write(value)
        layout.probes()
        for phase in layout.before:
            phase.run()
        env.start(self._stream.states, 0)
        for phase in layout.inner:
            phase.begin(self._stream.states)
        return layout

    def _run(self, layout: Layout) -> Outputs:
        gathered: dict[str, list[np.ndarray]] = {n: [] for n in self._stream.joins}
        slots = layout.env.slots
        feeds = [(slots[n], q) for n, q in self._queues.items()]
        while all(q.ready for _, q in feeds):
            for slot, queue in feeds:
                queue.take(slot.buffers[0])
            for phase in layout.inner:
                phase.run(self._chunk)
            for name, values in gathered.items():
                if self._stream.joins[name].how != "last":
                    values.append(slots[name].value.copy())
            self._chunk += 1
        answers = {
            n: join_chunks(self._stream.joins[n], values, layout.empty(n))
            for n, values in gathered.items() if self._stream.joins[n].how != "last"
        }  # fmt: skip
        return {**answers, **layout.probes()}

    def _check(self, inputs: Arrays) -> None:
        feeds = self._stream.feeds
        if set(inputs) != set(feeds):
            raise EdgekitError(f"{sorted(inputs)} was pushed, but this stream takes {sorted(feeds)}")
        for t in self._signature.inputs:
            if t.name in inputs:
                t.check(inputs[t.name])
                if t.name in self._queues:
                    self._queues[t.name].check(inputs[t.name])


class _Queue:
    """What was pushed to one feed and has not run yet, with the history that windows reach back to."""

    def __init__(self, t: Tensor, feed: Feed, shape: tuple[int, ...]) -> None:
        self._name, self._feed = t.name, feed
        self._window, self._hop = feed.window or 1, feed.hop or 1
        blank = list(shape)
        blank[feed.axis] = self._window - self._hop
        self._rest = np.zeros(blank, t.dtype)
        self._at = 0  # where the next window begins in _rest

    @property
    def _length(self) -> int:
        return int(self._rest.shape[self._feed.axis]) - self._at

    @property
    def ready(self) -> bool:
        """True when the next chunk is whole."""
        return self._length >= self._window

    @property
    def begun(self) -> bool:
        """True when samples of the next chunk are there, but not all."""
        return self._window - self._hop < self._length < self._window

    def check(self, value: np.ndarray) -> None:
        """Raise EdgekitError when sizes other than along the stream have changed."""
        a = self._feed.axis
        if value.shape[:a] + value.shape[a + 1 :] != self._rest.shape[:a] + self._rest.shape[a + 1 :]:
            raise EdgekitError(f"'{self._name}' began as {list(self._rest.shape)} and now has the shape {list(value.shape)}")

    def add(self, value: np.ndarray) -> None:
        """Append samples; what has run is let go."""
        self._rest = np.concatenate([self._slice(self._at, None), value], self._feed.axis)
        self._at = 0

    def pad(self) -> None:
        """Fill the chunk that was begun with zeros."""
        blank = list(self._rest.shape)
        blank[self._feed.axis] = self._window - self._length
        self.add(np.zeros(blank, self._rest.dtype))

    def take(self, into: np.ndarray) -> None:
        """Copy the next chunk into a buffer and move on by one hop."""
        chunk = self._slice(self._at, self._at + self._window)
        np.copyto(into, chunk if self._feed.window else np.squeeze(chunk, self._feed.axis))
        self._at += self._hop

    def _slice(self, low: int, high: int | None) -> np.ndarray:
        return self._rest[(slice(None),) * self._feed.axis + (slice(low, high),)]


def join_chunks(join: Join, values: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    """The values of chunks as one array; `empty` is the value's shape where there is none."""
    if join.how == "stack":
        return np.stack(values, join.axis) if values else np.expand_dims(empty, join.axis).take([], join.axis)
    return np.concatenate(values, join.axis) if values else empty.take([], join.axis)


def joined(joins: Mapping[str, Join], pushed: Outputs, closed: Outputs) -> Outputs:
    """The outputs of two parts of a stream, the second after the first; probes go along axis 0."""
    answers = {**pushed, **closed}
    for name in set(pushed) & set(closed):
        join = joins.get(name)
        if join is None or join.how != "last":
            answers[name] = np.concatenate([pushed[name], closed[name]], 0 if join is None else join.axis)
    return answers


def run_pieces(session: Session, stream: Stream, inputs: Arrays, sizes: Sequence[int], seed: int | None) -> Outputs:
    """A stream over whole inputs, pushed in pieces of these sizes (they repeat), from its begin to its close."""
    session.begin({n: v for n, v in inputs.items() if n not in stream.feeds}, seed)
    longest = max(inputs[n].shape[f.axis] for n, f in stream.feeds.items())
    answers: Outputs = {}
    at = 0
    for size in itertools.cycle(sizes):
        if at >= longest:
            break
        piece = {n: cut(inputs[n], f.axis, at, at + size) for n, f in stream.feeds.items()}
        answers = joined(stream.joins, answers, session.push(piece))
        at += size
    return joined(stream.joins, answers, session.close())


def cut(value: np.ndarray, axis: int, low: int, high: int) -> np.ndarray:
    return np.ascontiguousarray(value[(slice(None),) * axis + (slice(low, high),)])
