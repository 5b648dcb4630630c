"""Golden inputs and answers of a user's own model: drawn or given, run step by step in the plainest way."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Golden
from edgekit.errors import Broken, EdgekitError
from edgekit.parts import Arrays
from edgekit.program import Program, Stream
from edgekit.signature import Signature, Tensor

SEED = 0
BATCHES = (2, 3)  # sizes of a free dimension in the first golden and in the second
CHUNKS = (9, 5)  # chunks of a stream in each, the last one begun but not whole
DRAWN = f"drawn from the signature with seed {SEED}: floats normal, whole numbers 0 to 7, bools even"

Step = Callable[[Arrays], dict[str, np.ndarray]]  # graph inputs -> graph outputs


def golden_inputs(signature: Signature, program: Program, example: str) -> tuple[list[dict[str, np.ndarray]], str]:
    """(inputs of one or two goldens, where they come from). Two where a dimension is free and nothing was given."""
    if example:
        return [_given(signature, Path(example))], f"given: {Path(example).name}"
    free = any(isinstance(n, str) for t in signature.inputs for n in t.shape)
    rng = np.random.default_rng(SEED)
    made = []
    for i in range(2 if free else 1):
        sizes = _sizes(signature, program.stream, i)
        made.append({t.name: _drawn(t, sizes, rng) for t in signature.inputs})
    return made, DRAWN


def _sizes(signature: Signature, stream: Stream | None, i: int) -> dict[str, int]:
    sizes = {n: BATCHES[i] for t in signature.inputs for n in t.shape if isinstance(n, str)}
    for t in signature.inputs:
        feed = stream.feeds.get(t.name) if stream else None
        if feed is not None:
            hop = feed.hop or 1
            sizes[str(t.shape[feed.axis])] = hop * CHUNKS[i] - hop // 3
    return sizes


def _drawn(t: Tensor, sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = tuple(sizes[n] if isinstance(n, str) else n for n in t.shape)
    if t.dtype.startswith("float"):
        return np.asarray(rng.standard_normal(shape)).astype(t.dtype)
    return np.asarray(rng.integers(0, 2 if t.dtype == "bool" else 8, shape)).astype(t.dtype)


def _given(signature: Signature, path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            arrays = {n: packed[n] for n in packed.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise Broken(f"{path} is no .npz of arrays ({error})") from None
    signature.check_inputs(arrays)
    return arrays


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
        states = {**states, **{state: found[out] for out, state in phase.carry.items()}}
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
