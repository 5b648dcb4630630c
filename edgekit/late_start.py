"""A further golden answer for a form whose decisions may differ: a golden input from a later chunk on, chosen so that much can be compared.

What is behind the first decision that differs is not compared (agreement.py). Of the inputs that a model came with, that may be the
first chunk or the second, and a fault behind the decisions would hide there. A stream may begin anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit import registry
from edgekit.agreement import agreement, chunks_of, may_differ
from edgekit.bundle import Bundle, Golden
from edgekit.parts import Arrays, Runtime

STARTS = 60  # that are tried, over all golden inputs
LOOK = 16  # chunks of each
CHUNKS = 40  # of the one that is kept


def late_start(source: Bundle, form: Bundle, runtime: str) -> Golden | None:
    """The golden input of `source` (float) from a later chunk on, CHUNKS long at most, on which `form` decides longest as it does; with the
    answers of `source` on the same engine. None where the form decides nothing otherwise, or at no start the first chunk alike, and without
    a stream."""
    manifest, part = form.manifest, registry.find(Runtime, runtime)
    free = may_differ(manifest)
    best: tuple[int, Arrays | None] = 0, None
    if not free or manifest.program.stream is None:
        return None
    with part.open(source, threads=1) as exact, part.open(form, threads=1) as other:
        own = (agreement(manifest, free, g, other.run(g.inputs)) for g in source.goldens())
        if all(a.equal == a.chunks for a in own):
            return None
        for inputs in _starts(source):
            short = _part(source, inputs, 0, LOOK)
            found = agreement(manifest, free, Golden(short, exact.run(short)), other.run(short))
            if found.equal > best[0]:
                best = found.equal, inputs
            if found.equal == LOOK:
                break
        if best[1] is None:
            return None
        kept = _part(source, best[1], 0, CHUNKS)
        return Golden(kept, exact.run(kept))


def _starts(bundle: Bundle) -> Iterator[Arrays]:
    """Golden inputs from later chunks on, each with LOOK chunks at least, or half of what there is."""
    goldens = bundle.goldens()
    for golden in goldens:
        count = chunks_of(bundle.manifest, golden)
        last = max(count - LOOK, count // 2)
        for first in np.unique(np.linspace(1, last, STARTS // len(goldens)).astype(int)) if last else ():
            yield _part(bundle, golden.inputs, int(first), count - int(first))


def _part(bundle: Bundle, inputs: Arrays, first: int, chunks: int) -> dict[str, np.ndarray]:
    """Inputs of whose streamed ones only some chunks are left."""
    stream = bundle.manifest.program.stream
    assert stream is not None
    found = dict(inputs)
    for name, feed in stream.feeds.items():
        hop = feed.hop or 1
        cut = (slice(None),) * feed.axis + (slice(first * hop, (first + chunks) * hop),)
        found[name] = np.ascontiguousarray(inputs[name][cut])
    return found
