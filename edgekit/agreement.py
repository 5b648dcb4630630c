"""How far answers agree with golden ones where whole numbers may differ: their share, and all else up to the first chunk that differs,
or, without a stream, in the samples that do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.bundle import Golden, Manifest
from edgekit.decisions import decides
from edgekit.program_check import WHOLE


@dataclass(frozen=True)
class Agreement:
    """Of one golden. A chunk is equal when all whole numbers in it are; `equal` counts the chunks before the first that is not.

    Without a stream the samples along axis 0 are the chunks, and since none follows from another, `equal` counts all that are equal.
    """

    shares: Mapping[str, float]  # output that may differ -> share of its places that are equal
    chunks: int
    equal: int
    alike: np.ndarray | None = None  # of a program without a stream: bool (samples,), which are equal


def may_differ(manifest: Manifest) -> tuple[str, ...]:
    """Whole-number outputs that a form which rounds may give otherwise: all of them; of a stream, those joined chunk by chunk, where it decides."""
    numbers = [t.name for t in manifest.signature.outputs if t.dtype in WHOLE]
    stream = manifest.program.stream
    if stream is None:
        return tuple(numbers)
    if not decides(manifest):
        return ()
    return tuple(n for n in numbers if n in stream.joins and stream.joins[n].how != "last")


def agreement(manifest: Manifest, names: Collection[str], golden: Golden, answers: Mapping[str, np.ndarray]) -> Agreement:
    """`names`: the outputs that may differ. An output of another shape agrees nowhere."""
    stream = manifest.program.stream
    chunks = samples_of(names, golden) if stream is None else chunks_of(manifest, golden)
    alike, shares = np.ones(chunks, bool), {}
    for name in names:
        expected, got = golden.outputs[name], answers[name]
        if got.shape != expected.shape:
            alike[:], shares[name] = False, 0.0
            continue
        same = got == expected
        shares[name] = float(same.mean()) if same.size else 1.0
        if stream is None:
            alike &= same.reshape(chunks, -1).all(axis=1)
            continue
        axis = stream.joins[name].axis
        along = same.all(axis=tuple(i for i in range(same.ndim) if i != axis))
        each = max(1, len(along) // max(1, chunks))
        alike[int(along.argmin()) // each if not along.all() else chunks :] = False
    if stream is None:
        return Agreement(shares, chunks, int(alike.sum()), alike)
    return Agreement(shares, chunks, chunks if alike.all() else int(alike.argmin()))


def comparable(manifest: Manifest, found: Agreement, name: str, value: np.ndarray) -> np.ndarray | None:
    """The part of an output before the first chunk that differs, or of the samples that do not; None where there is no such part."""
    if found.equal == found.chunks:
        return value
    if found.alike is not None:
        return value[found.alike] if found.equal and value.ndim and len(value) == found.chunks else None
    join = manifest.program.stream.joins.get(name) if manifest.program.stream else None
    if join is None or join.how == "last" or not found.equal:
        return None
    each = value.shape[join.axis] // found.chunks
    return value[(slice(None),) * join.axis + (slice(0, found.equal * each),)]


def samples_of(names: Collection[str], golden: Golden) -> int:
    """How many samples the outputs that may differ hold along axis 0; 1 where they do not agree on it: then all is one sample."""
    counts = {golden.outputs[n].shape[0] if golden.outputs[n].ndim else 1 for n in names}
    return max(1, counts.pop()) if len(counts) == 1 else 1


def chunks_of(manifest: Manifest, golden: Golden) -> int:
    """How many chunks the golden inputs make."""
    stream = manifest.program.stream
    assert stream is not None
    counts: list[int] = []
    for name, feed in stream.feeds.items():
        length, hop = golden.inputs[name].shape[feed.axis], feed.hop or 1
        counts.append(-(-length // hop) if stream.tail == "pad" else length // hop)
    return min(counts)
