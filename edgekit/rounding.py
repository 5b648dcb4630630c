"""What rounding costs in one engine: the signal to noise that a bundle's golden answers keep, and the floor for others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from edgekit import registry
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Runtime
from edgekit.verify import sqnr_db

FLOOR_DB = 3.0  # how much lower another engine's signal to noise may be: it rounds differently, but not twice as much
MOST_DB = 110.0  # two engines in float32 differ by about a millionth of the amplitude, 120 dB: more cannot be promised of another one
LEAST_DB = 20.0  # of a model without a score: noise of a tenth of the signal's amplitude


def with_floors(write: Callable[[Path, Mapping[str, float]], Bundle], out: Path, runtime: str) -> Bundle:
    """The bundle that `write` makes at `out` with its floors (Allowed.sqnr_db), which a draft of it was run for.

    Raises EdgekitError when a model without a score keeps less than LEAST_DB; with one, the score decides when it is
    verified.
    """
    draft = out.parent / f".{out.name}.measured"
    try:
        bundle = write(draft, {})
        kept = golden_sqnr_db(bundle, runtime)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    model = bundle.manifest.model
    lost = [f"'{n}' {db:.1f} dB" for n, db in kept.items() if db < LEAST_DB]
    if lost and not (model and model.score_samples):
        raise EdgekitError(f"rounding to {bundle.manifest.precision} leaves too little of the answers: {', '.join(lost)}; "
                           f"{LEAST_DB:g} dB of signal to noise are asked for where there is no score")  # fmt: skip
    return write(out, {n: db - FLOOR_DB for n, db in kept.items()})


def golden_sqnr_db(bundle: Bundle, runtime: str) -> dict[str, float]:
    """Per float output, the least signal to noise over all golden inputs; MOST_DB where it is more."""
    worst = {t.name: MOST_DB for t in bundle.manifest.signature.outputs if t.dtype.startswith("float")}
    with registry.find(Runtime, runtime).open(bundle) as session:
        for golden in bundle.goldens():
            got = session.run(golden.inputs)
            worst = {n: min(db, sqnr_db(golden.outputs[n], got[n])) for n, db in worst.items()}
    return worst
