"""Which parts make a format, and in what order: the way from a checkpoint to a bundle; and which engines run it."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit import registry
from edgekit.errors import no_such
from edgekit.parts import Calibrator, Exporter, Runtime


@dataclass(frozen=True)
class Step:
    """One part that makes one bundle from a checkpoint or from another bundle."""

    kind: type[Exporter] | type[Calibrator]
    part: str
    accepts: str
    label: str  # "nir:int8"


def all_steps() -> list[Step]:
    """What the parts that are here can make."""
    steps = []
    for kind in (Exporter, Calibrator):
        for name in registry.names(kind):
            steps += steps_of(kind, name)
    return steps


def steps_of(kind: type[Exporter] | type[Calibrator], name: str) -> list[Step]:
    """What one part makes of each parent that it accepts: precision and variant are the parent's where it has none."""
    part = registry.load(kind, name)
    made = []
    for parent in part.accepts:
        head, _, precision = parent.partition(":")
        variant = part.variant or head.partition("-")[2]
        label = f"{part.format}{'-' if variant else ''}{variant}:{part.precision or precision or 'f32'}"
        made.append(Step(kind, name, parent, label))
    return made


def route(wish: str) -> list[Step]:
    """The steps from a checkpoint to `format` or `format:precision`; without a precision, the shortest way."""
    steps = all_steps()
    asked = [s for s in steps if wish in (s.label, s.label.split(":")[0])]
    ways = [way for s in asked if (way := _way_to(s, steps))]
    if not ways:
        raise no_such("format", wish, {s.label for s in steps} | {s.label.split(":")[0] for s in steps})
    return min(ways, key=len)


def _way_to(step: Step, steps: list[Step]) -> list[Step]:
    if step.accepts == "checkpoint":
        return [step]
    ways = [_way_to(before, steps) for before in steps if before.label == step.accepts]
    return [*min(ways, key=len), step] if ways else []


def runtimes_of(fmt: str) -> list[str]:
    """The runtimes that `deploy` runs a format on."""
    parts = {n: registry.load(Runtime, n) for n in registry.names(Runtime)}
    return [n for n, part in parts.items() if fmt in part.formats and not part.optional]


def all_runtimes_of(fmt: str) -> list[str]:
    """Every runtime that opens a format."""
    parts = {n: registry.load(Runtime, n) for n in registry.names(Runtime)}
    return [n for n, part in parts.items() if fmt in (*part.formats, *part.also_opens)]
