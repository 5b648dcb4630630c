"""How far answers agree with golden ones where whole numbers may differ: their share, and all else up to the first chunk that differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.bundle import Golden, Manifest
from edgekit.decisions import decides
from edgekit.program_check import WHOLE


@dataclass(frozen=True)
class Agreement:
    """Of one golden. A chunk is equal when all whole numbers in it are; `equal` counts the chunks before the first that is not."""

    shares: Mapping[str, float]  # output that may differ -> share of its places that are equal
    chunks: int
    equal: int


def may_differ(manifest: Manifest) -> tuple[str, ...]:
    """Whole-number outputs that a form which rounds may give otherwise: those joined chunk by chunk, of a program that decides."""
    if not decides(manifest):
        return ()
    joins = manifest.program.stream.joins if manifest.program.stream else {}
    return tuple(t.name for t in manifest.signature.outputs if t.dtype in WHOLE and t.name in joins and joins[t.name].how != "last")


def agreement(manifest: Manifest, names: Collection[str], golden: Golden, answers: Mapping[str, np.ndarray]) -> Agreement:
    """`names`: the outputs that may differ, of a stream. An output of another shape agrees nowhere."""
    stream = manifest.program.stream
    assert stream is not None
    chunks = chunks_of(manifest, golden)
    first, shares = chunks, {}
    for name in names:
        expected, got = golden.outputs[name], answers[name]
        if got.shape != expected.shape:
            first, shares[name] = 0, 0.0
            continue
        same = got == expected
        shares[name] = float(same.mean()) if same.size else 1.0
        axis = stream.joins[name].axis
        along = same.all(axis=tuple(i for i in range(same.ndim) if i != axis))
        each = max(1, len(along) // max(1, chunks))
        first = min(first, int(along.argmin()) // each if not along.all() else chunks)
    return Agreement(shares, chunks, first)


def comparable(manifest: Manifest, found: Agreement, name: str, value: np.ndarray) -> np.ndarray | None:
    """The part of an output before the first chunk that differs; None where there is no such part."""
    if found.equal == found.chunks:
        return value
    join = manifest.program.stream.joins.get(name) if manifest.program.stream else None
    if join is None or join.how == "last" or not found.equal:
        return None
    each = value.shape[join.axis] // found.chunks
    return value[(slice(None),) * join.axis + (slice(0, found.equal * each),)]


def chunks_of(manifest: Manifest, golden: Golden) -> int:
    """How many chunks the golden inputs make."""
    stream = manifest.program.stream
    assert stream is not None
    counts: list[int] = []
    for name, feed in stream.feeds.items():
        length, hop = golden.inputs[name].shape[feed.axis], feed.hop or 1
        counts.append(-(-length // hop) if stream.tail == "pad" else length // hop)
    return min(counts)
