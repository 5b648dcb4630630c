"""What rounding costs in one engine: the signal to noise and the share of decisions that a bundle's golden answers keep, and floors for others."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit import registry
from edgekit.agreement import agreement, comparable, may_differ
from edgekit.bundle import Allowed, Bundle, Golden, GoldenNote, TaskProgram
from edgekit.errors import EdgekitError
from edgekit.late_start import late_start
from edgekit.parts import Runtime
from edgekit.verify import sqnr_db

FLOOR_DB = 3.0  # how much lower another engine's signal to noise may be: it rounds differently, but not twice as much
MOST_DB = 110.0  # two engines in float32 differ by about a millionth of the amplitude, 120 dB: more cannot be promised of another one
LEAST_DB = 20.0  # of a model without a score: noise of a tenth of the signal's amplitude
MORE = 10 ** (FLOOR_DB / 20)  # as much larger is the amplitude of that noise, and so, near enough, the number of decisions that it changes
FEW = 0.02  # share of decisions: golden answers hold a few hundred, of which one or two change by chance


@dataclass(frozen=True)
class Kept:
    """Of the golden answers, the least over all golden inputs; or the floors that follow from it."""

    sqnr_db: Mapping[str, float] = field(default_factory=dict)  # float output -> dB; before the first decision that differs
    same_share: Mapping[str, float] = field(default_factory=dict)  # whole-number output that may differ -> share of equal places
    late: Golden | None = None  # a golden answer more (late_start.py)
    max_abs: Mapping[str, float] = field(default_factory=dict)  # float output -> its largest difference, of the same places
    tasks: Mapping[str, Kept] = field(default_factory=dict)  # of every other task

    def goldens(self, source: Bundle) -> list[Golden]:
        """The golden answers of what is made from the float bundle `source`: inner spikes of a rounded network are other ones."""
        own = [dataclasses.replace(g, probes={}, near={}) for g in source.goldens()]
        return own if self.late is None else [*own, self.late]

    def task_goldens(self, source: Bundle) -> dict[str, list[Golden]]:
        """goldens() of every other task."""
        return {n: self.tasks.get(n, Kept()).goldens(source.of_task(n)) for n in source.manifest.tasks}

    def task_programs(self, source: Bundle) -> dict[str, TaskProgram]:
        """The other tasks of `source`, held to what is kept of them."""
        kept = {n: self.tasks.get(n, Kept()) for n in source.manifest.tasks}
        allowed = {n: Allowed(sqnr_db=k.sqnr_db, same_share=k.same_share) for n, k in kept.items()}
        return {n: dataclasses.replace(t, allowed=allowed[n]) for n, t in source.manifest.tasks.items()}

    def note(self, source: Bundle) -> GoldenNote:
        """Where they come from."""
        note = source.manifest.golden
        if self.late is None:
            return note
        return GoldenNote(f"{note.answers_by}; the last ones by the float bundle", f"{note.inputs_from}; the last ones from a later chunk on")

    def floors(self) -> Kept:
        """What another engine is held to."""
        shares = {n: round(max(0.0, 1 - MORE * (1 - s) - FEW), 4) for n, s in self.same_share.items()}
        tasks = {n: k.floors() for n, k in self.tasks.items()}
        return Kept({n: db - FLOOR_DB for n, db in self.sqnr_db.items()}, shares, self.late, self.max_abs, tasks)


def with_floors(source: Bundle, write: Callable[[Path, Kept], Bundle], out: Path, runtime: str) -> Bundle:
    """The bundle that `write` makes of the float bundle `source` at `out` with its floors, which a draft of it was run for.

    Raises EdgekitError when a model without a score keeps less than LEAST_DB; with one, the score decides when it is
    verified.
    """
    draft = out.parent / f".{out.name}.measured"
    try:
        bundle = write(draft, Kept())
        kept = kept_of(source, bundle, runtime)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    model = bundle.manifest.model
    lost = [f"'{n}' {db:.1f} dB" for n, db in kept.sqnr_db.items() if db < LEAST_DB]
    if lost and not (model and model.score_samples):
        raise EdgekitError(f"rounding to {bundle.manifest.precision} leaves too little of the answers: {', '.join(lost)}; "
                           f"{LEAST_DB:g} dB of signal to noise are asked for where there is no score")  # fmt: skip
    return write(out, kept.floors())


def kept_of(source: Bundle, bundle: Bundle, runtime: str) -> Kept:
    """What a form of `source` keeps of its golden answers on an engine, the late one included; MOST_DB where it is more. Of its tasks too."""
    manifest, free = bundle.manifest, may_differ(bundle.manifest)
    worst = {t.name: MOST_DB for t in manifest.signature.outputs if t.dtype.startswith("float")}
    shares, most = dict.fromkeys(free, 1.0), dict.fromkeys(worst, 0.0)
    late = late_start(source, bundle, runtime)
    with registry.find(Runtime, runtime).open(bundle) as session:
        for golden in (*bundle.goldens(), *([late] if late else [])):
            got = session.run(golden.inputs)
            found = agreement(manifest, free, golden, got) if free else None
            for name, db in worst.items():
                y, z = (comparable(manifest, found, name, v) if found else v for v in (golden.outputs[name], got[name]))
                if y is not None and z is not None:
                    worst[name] = min(db, sqnr_db(y, z))
                    most[name] = max(most[name], float(np.abs(y.astype(np.float64) - z).max(initial=0.0)))
            shares = {n: min(s, found.shares[n]) for n, s in shares.items()} if found else shares
    tasks = {n: kept_of(source.of_task(n), bundle.of_task(n), runtime) for n in manifest.tasks}
    return Kept(worst, shares, late, most, tasks)
