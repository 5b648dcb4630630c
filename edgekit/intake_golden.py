"""Golden inputs and answers of a user's own model: drawn or given, run step by step in the plainest way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import labelled, untrusted_archive
from edgekit.bundle import Golden
from edgekit.errors import Broken, EdgekitError
from edgekit.parts import Arrays
from edgekit.program import Program, Stream
from edgekit.signature import Signature, Tensor

SEED = 0
BATCHES = (2, 3)  # sizes of a free batch in the first golden and in the second
SAMPLED = (32, 3)  # calibration samples in each, where there are any
CHUNKS = (9, 5)  # chunks of a stream in each, the last one begun but not whole
# Sizes of the other free dimensions: a model may need many samples or pixels, or a multiple of 8, 32 or 64, or take no more
# than a few. The first pair that the model takes is used, so the usual ones come first.
LADDER = ((64, 96), (256, 320), (1024, 1280), (4096, 5120), (16000, 20480), (16, 24), (2, 3))
WHOLE = (7, 1, 0)  # the largest whole number drawn: it may be an index, a length or a token that there is not
MOST_VALUES = 1 << 22  # in one drawn input: the ladder ends there

Step = Callable[[Arrays], dict[str, np.ndarray]]  # graph inputs -> graph outputs


class Final(Broken):
    """Other inputs would not help: none is tried."""


@dataclass(frozen=True)
class Drawn:
    """Inputs of one or two goldens, and where they come from. Two where a dimension is free and nothing was given."""

    inputs: tuple[dict[str, np.ndarray], ...]
    origin: str


def golden_inputs(
    signature: Signature, program: Program, example: str, own: Arrays | None = None, calibration: str = ""
) -> Iterator[Drawn]:
    """Golden inputs for the model to refuse, one after the other: given ones, or drawn at other sizes and smaller numbers.

    own: the example inputs that came with the model; the last resort, since they are often zeros. calibration: a file of
    samples, whose first ones are taken.
    """
    if example:
        yield Drawn((_given(signature, Path(example)),), f"given: {Path(example).name}")
        return
    if calibration and program.stream is None:
        yield _first_samples(signature, Path(calibration))
        return
    whole = any(t.dtype.startswith(("int", "uint")) for t in signature.inputs)
    for most in WHOLE if whole else WHOLE[:1]:
        for sizes in _rungs(signature, program.stream):
            rng = np.random.default_rng(SEED)
            inputs = tuple({t.name: _drawn(t, s, most, rng) for t in signature.inputs} for s in sizes)
            said = "".join(f"; {n} {' and '.join(str(s[n]) for s in sizes)}" for n in sorted(sizes[0]))
            yield Drawn(inputs, f"drawn from the signature with seed {SEED}: floats normal, whole numbers 0 to {most}, bools even{said}")
    if own is not None and program.stream is None:
        yield Drawn(({t.name: own[t.name] for t in signature.inputs},), "the example inputs that came with the model")


def _rungs(signature: Signature, stream: Stream | None) -> Iterator[tuple[dict[str, int], ...]]:
    """(sizes of the first golden, of the second) by the name of the free dimension; one golden where all is fixed."""
    free = {n for t in signature.inputs for n in t.shape if isinstance(n, str)}
    cut = {str(t.shape[stream.feeds[t.name].axis]) for t in signature.inputs if t.name in stream.feeds} if stream else set()
    deep = stream is not None or any(len(t.shape) > 1 for t in signature.inputs)
    batches = {next((n for n in t.shape if n not in cut), "") for t in signature.inputs if deep} & free
    last = {t.shape[-1] for t in signature.inputs if t.shape} & free - batches - cut
    if not free:
        yield ({},)
    for rung in LADDER if free - cut - batches else LADDER[-1:] if free else ():
        for grown in dict.fromkeys((frozenset(free - cut - batches), frozenset(last))):  # all but the batch; the last axes alone
            sizes = tuple(
                {n: rung[i] if n in grown else BATCHES[i] for n in sorted(free)} | _cut_sizes(signature, stream, i) for i in range(2)
            )
            if max(math.prod(_shape(t, s)) for t in signature.inputs for s in sizes) <= MOST_VALUES:
                yield sizes


def first_taken(offers: Iterator[Drawn], answers_of: Callable[[Drawn], tuple[Golden, ...]]) -> tuple[tuple[Golden, ...], str]:
    """(goldens, where their inputs come from) of the first offer that the model takes.

    Raises what the first offer raised, and what to do about it, when it takes none.
    """
    said: EdgekitError | None = None
    tried = 0
    for offer in offers:
        tried += 1
        try:
            return answers_of(offer), offer.origin
        except Final:
            raise
        except EdgekitError as error:
            said = said or error
    assert said is not None
    if tried == 1:
        raise said
    raise type(said)(
        f"{said} - and with {tried - 1} other draws of inputs it fails as well; give some that fit with --example x.npz, "
        "or fix a size with --size NAME=N"
    ) from None


def _cut_sizes(signature: Signature, stream: Stream | None, i: int) -> dict[str, int]:
    """How long the i-th golden is along the axis that a stream is cut along."""
    sizes = {}
    for t in signature.inputs:
        feed = stream.feeds.get(t.name) if stream else None
        if feed is not None:
            hop = feed.hop or 1
            sizes[str(t.shape[feed.axis])] = hop * CHUNKS[i] - hop // 3
    return sizes


def _shape(t: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[n] if isinstance(n, str) else n for n in t.shape)


def _drawn(t: Tensor, sizes: Mapping[str, int], most: int, rng: np.random.Generator) -> np.ndarray:
    shape = _shape(t, sizes)
    if t.dtype.startswith("float"):
        return np.asarray(rng.standard_normal(shape)).astype(t.dtype)
    return np.asarray(rng.integers(0, 2 if t.dtype == "bool" else most + 1, shape)).astype(t.dtype)


def _given(signature: Signature, path: Path) -> dict[str, np.ndarray]:
    arrays = untrusted_archive.read_npz(path)
    signature.check_inputs(arrays)
    return arrays


def _first_samples(signature: Signature, path: Path) -> Drawn:
    arrays = labelled.checked(path, signature)
    first = signature.inputs[0].shape[0] if signature.inputs[0].shape else 1
    counts = SAMPLED if isinstance(first, str) else (int(first),)
    inputs = tuple({t.name: np.require(arrays[t.name][:count], requirements="C") for t in signature.inputs} for count in counts)
    return Drawn(inputs, f"the first {' and '.join(map(str, counts))} samples of {path.name}")


def answers(program: Program, signature: Signature, tensors: Arrays, inputs: Arrays, step: Step) -> Golden:
    """The answers of `step` (the model itself) on whole inputs; a stream is cut beforehand, not as it is pushed."""
    phase = next(program.graph_phases())
    stream = program.stream

    def bound(values: Arrays) -> dict[str, np.ndarray]:
        return {n: tensors[s.name] if s.kind == "tensor" else values[s.name] for n, s in phase.inputs.items()}

    if stream is None:
        found = step(bound(inputs))
        return _golden(signature, inputs, {name: found[out] for out, name in phase.outputs.items()})
    sizes = {str(n): v.shape[i] for t in signature.inputs for i, (n, v) in _dims(t, inputs[t.name])}
    states = {
        n: tensors[s.initial.name] if s.initial.kind == "tensor"
        else np.zeros([sizes[d] if isinstance(d, str) else d for d in s.shape], s.dtype)
        for n, s in stream.states.items()
    }  # fmt: skip
    cut = {n: _chunks(inputs[n], f.axis, f.window, f.hop, stream.tail == "pad") for n, f in stream.feeds.items()}
    gathered: dict[str, list[np.ndarray]] = {n: [] for n in stream.joins}
    for k in range(min(map(len, cut.values()))):
        chunk = {n: c[k] for n, c in cut.items()}
        found = step(bound({**inputs, **chunk, **states}))
        for out, state in phase.carry.items():
            if found[out].shape != states[state].shape:
                raise EdgekitError(
                    f"the output '{out}' is {list(found[out].shape)} where the state '{state}' is {list(states[state].shape)}; "
                    "a state keeps one shape from step to step"
                )
            states[state] = found[out]
        for out, name in phase.outputs.items():
            gathered[name].append(found[out])
    joined = {}
    for name, values in gathered.items():
        join = stream.joins[name]
        if not values:
            raise EdgekitError(f"the golden input is shorter than one chunk, so '{name}' has no answer; give a longer --example")
        by = {"last": lambda v, a: v[-1], "stack": np.stack, "concat": np.concatenate}[join.how]
        joined[name] = np.asarray(by(values, join.axis))  # type: ignore[operator]
    return _golden(signature, inputs, joined)


def _dims(t: Tensor, value: np.ndarray) -> list[tuple[int, tuple[int | str, np.ndarray]]]:
    return [(i, (n, value)) for i, n in enumerate(t.shape) if isinstance(n, str)]


def _chunks(x: np.ndarray, axis: int, window: int | None, hop: int | None, pad: bool) -> list[np.ndarray]:
    """All chunks of a whole input, by padding it first: history before, the begun hop behind."""
    if window is None or hop is None:
        return [np.require(np.take(x, k, axis), requirements="C") for k in range(x.shape[axis])]
    behind = -x.shape[axis] % hop if pad else 0
    wide = [(0, 0)] * x.ndim
    wide[axis] = (window - hop, behind)
    padded = np.pad(x, wide)
    count = (x.shape[axis] + behind) // hop
    return [np.require(np.take(padded, range(k * hop, k * hop + window), axis), requirements="C") for k in range(count)]


def _golden(signature: Signature, inputs: Arrays, outputs: Mapping[str, np.ndarray]) -> Golden:
    for t in signature.outputs:
        value = outputs[t.name]
        if value.dtype.name != t.dtype:
            raise EdgekitError(f"the model gives '{t.name}' as {value.dtype.name}, its own signature says {t.dtype}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise EdgekitError(f"the model answers '{t.name}' with infinities or NaN on the golden inputs; give others with --example")
    # np.ascontiguousarray would make a scalar an array of one
    whole = [{n: np.require(v, requirements="C") for n, v in arrays.items()} for arrays in (inputs, outputs)]
    return Golden(*whole)
