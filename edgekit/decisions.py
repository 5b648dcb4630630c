"""Programs that decide: graphs that give whole numbers which other graphs take, such as codes by their largest logit.

Where a program decides, a form of it that rounds cannot be judged by its outputs: one other code, and all that follows is another
sound, no worse and no better. Each graph is judged alone instead, given what the float program gave it (docs/design.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.bundle import Manifest
from edgekit.program import ArgMax, Program
from edgekit.program_check import WHOLE
from edgekit.signature import Signature


def decisions(program: Program, graphs: Mapping[str, Signature]) -> frozenset[str]:
    """Names of the whole-number values that a phase gives, or picks by `argmax`, and a graph takes. Numbers that are only carried
    (counters, positions) are none."""
    phases = list(program.graph_phases())
    types = {(g, t.name): t.dtype for g, s in graphs.items() for t in s.outputs}
    given = {name for p in phases for out, name in p.outputs.items() if types[p.graph, out] in WHOLE}
    given |= {op.to for p in phases for op in p.epilogue if isinstance(op, ArgMax)}
    return frozenset(given & {s.name for p in phases for s in p.inputs.values() if s.kind == "value"})


def decides(manifest: Manifest) -> bool:
    """True where the program has decisions."""
    return bool(decisions(manifest.program, {n: g.signature for n, g in manifest.graphs.items()}))


def left_float(manifest: Manifest) -> dict[str, str]:
    """Graph -> why it stays float when the others are quantised; empty for a program that does not decide."""
    if not decides(manifest):
        return {}
    program, signals = manifest.program, {t.name for t in manifest.signature.outputs if t.rate_hz}
    found = {}
    inside = {p.graph for p in program.stream.phases} if program.stream else set()
    for phase in program.graph_phases():
        if inside and phase.graph not in inside:
            found[phase.graph] = "runs once, outside of the stream"
        if signals & set(phase.outputs.values()):
            found[phase.graph] = "makes a sampled signal, in which rounding is heard"
    return found
