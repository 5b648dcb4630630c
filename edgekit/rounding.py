"""What rounding costs in one engine: the signal to noise and the share of decisions that a bundle's golden answers keep, and floors for others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit import registry
from edgekit.agreement import agreement, comparable, may_differ
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
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

    def floors(self) -> Kept:
        """What another engine is held to."""
        shares = {n: round(max(0.0, 1 - MORE * (1 - s) - FEW), 4) for n, s in self.same_share.items()}
        return Kept({n: db - FLOOR_DB for n, db in self.sqnr_db.items()}, shares)


def with_floors(write: Callable[[Path, Kept], Bundle], out: Path, runtime: str) -> Bundle:
    """The bundle that `write` makes at `out` with its floors, which a draft of it was run for.

    Raises EdgekitError when a model without a score keeps less than LEAST_DB; with one, the score decides when it is
    verified.
    """
    draft = out.parent / f".{out.name}.measured"
    try:
        bundle = write(draft, Kept())
        kept = kept_of(bundle, runtime)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    model = bundle.manifest.model
    lost = [f"'{n}' {db:.1f} dB" for n, db in kept.sqnr_db.items() if db < LEAST_DB]
    if lost and not (model and model.score_samples):
        raise EdgekitError(f"rounding to {bundle.manifest.precision} leaves too little of the answers: {', '.join(lost)}; "
                           f"{LEAST_DB:g} dB of signal to noise are asked for where there is no score")  # fmt: skip
    return write(out, kept.floors())


def kept_of(bundle: Bundle, runtime: str) -> Kept:
    """What the bundle keeps of its golden answers on an engine; MOST_DB where it is more."""
    manifest, free = bundle.manifest, may_differ(bundle.manifest)
    worst = {t.name: MOST_DB for t in manifest.signature.outputs if t.dtype.startswith("float")}
    shares = dict.fromkeys(free, 1.0)
    with registry.find(Runtime, runtime).open(bundle) as session:
        for golden in bundle.goldens():
            got = session.run(golden.inputs)
            found = agreement(manifest, free, golden, got) if free else None
            for name, db in worst.items():
                y, z = (comparable(manifest, found, name, v) if found else v for v in (golden.outputs[name], got[name]))
                if y is not None and z is not None:
                    worst[name] = min(db, sqnr_db(y, z))
            shares = {n: min(s, found.shares[n]) for n, s in shares.items()} if found else shares
    return Kept(worst, shares)
