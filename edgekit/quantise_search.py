"""From trials to one INT8 bundle: all forms compared and timed, the worst layers given back to float until the promise holds."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.bundle import Allowed, Bundle, Lineage, done_already
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.qdq import METHODS, Choice
from edgekit.quantise import Trial, Trials
from edgekit.rounding import Kept, kept_of

ENOUGH_DB = 20.0  # noise of a tenth of the signal's amplitude
ALMOST = 1.1  # latencies this close are one


@dataclass(frozen=True)
class Forms:
    """What may be tried."""

    choices: tuple[Choice, ...]


EVERY_FORM = Forms(tuple(Choice(m, a) for a in ("u8", "s8") for m in METHODS))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """onnxruntime's quantiser prints and logs as it goes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def good_enough(trial: Trial, promise: float) -> bool:
    """True when at most `promise` of the answers change, and the noise is small: samples that the model was trained on are
    answered with more certainty than others, so unchanged answers alone would say too little."""
    return trial.sqnr_db >= ENOUGH_DB and (trial.same_answers is None or trial.same_answers >= 1 - promise)


def search(trials: Trials, forms: Forms, promise: float, progress: Progress) -> dict[str, Any]:
    """The choice and how it was found: {"choice", "candidates", "given_back", "sensitivity", "float_us", "int8_us"}.

    1. Every method with every kind of activations; where none of them is good and faster than float, the same again with only the nodes
       that have weights. Of the good ones, the fastest, and of those as fast the least noisy.
    2. Where none is good: the least noisy of the fastest kind, its layers ranked by the noise that each makes alone, and
       given back to float one after another, the worst first.
    """
    float_us, rows = _tried(trials, list(forms.choices), progress)
    if not any(good_enough(t, promise) and us < float_us for t, us in rows):
        rows += _tried(trials, [dataclasses.replace(c, only_weights=True) for c in forms.choices], progress)[1]
    table = [{"form": t.choice.name, "sqnr_db": t.sqnr_db, "same_answers": t.same_answers, "latency_us": us, "good": good_enough(t, promise)}
             for t, us in rows]  # fmt: skip
    good = [(t, us) for t, us in rows if good_enough(t, promise)]
    pool = good or rows
    # The method decides the numbers, the kind of activations the kernels: only kinds are told apart by time.
    kinds = {_kind(t): min(us for other, us in pool if _kind(other) == _kind(t)) for t, _ in pool}
    quick = {kind for kind, us in kinds.items() if us <= ALMOST * min(kinds.values())}
    best = max((t for t, _ in pool if _kind(t) in quick), key=lambda t: t.sqnr_db)
    found: dict[str, Any] = {"candidates": table, "given_back": [], "sensitivity": [], "float_us": float_us}
    if not good:
        best, found["sensitivity"], found["given_back"] = _give_back(trials, best.choice, promise, progress)
    found |= {"choice": best.choice, "sqnr_db": best.sqnr_db, "same_answers": best.same_answers, "good": good_enough(best, promise)}
    found["int8_us"] = trials.times_us([best.choice])[1]
    return found


def _tried(trials: Trials, choices: list[Choice], progress: Progress) -> tuple[float, list[tuple[Trial, float]]]:
    """(microseconds of the float bundle, each form with its own)."""
    found = []
    for i, choice in enumerate(choices):
        progress("quantise", i, len(choices))
        found.append(trials.trial(choice))
    progress("quantise", len(choices), len(choices))
    float_us, *times = trials.times_us(choices)
    return float_us, list(zip(found, times, strict=True))


def _kind(trial: Trial) -> tuple[str, bool]:
    return trial.choice.activations, trial.choice.only_weights


def _give_back(
    trials: Trials, choice: Choice, promise: float, progress: Progress
) -> tuple[Trial, list[dict[str, Any]], list[str]]:
    """Layers back to float, worst first, until the form is good: (trial, what each layer alone costs, those given back)."""
    names = [n for _, n in trials.nodes]
    everything = {node.name for model in trials.models.values() for node in model.graph.node}
    alone: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        progress("layer by layer", i, len(names))
        trial = trials.trial(choice.without(everything - {name}))
        alone.append({"layer": name, "sqnr_db": trial.sqnr_db, "same_answers": trial.same_answers})
    progress("layer by layer", len(names), len(names))
    alone.sort(key=lambda row: float(row["sqnr_db"]))
    given: list[str] = []
    best = trials.trial(choice)
    for i, row in enumerate(alone):
        if good_enough(best, promise):
            break
        progress("give layers back to float", i, len(alone))
        given.append(str(row["layer"]))
        best = trials.trial(choice.without(_with_neighbours(trials, given)))
    progress("give layers back to float", len(alone), len(alone))
    return best, alone, given


def _with_neighbours(trials: Trials, layers: list[str]) -> set[str]:
    """The layers, and what stands directly around them without weights of its own: else their values would be rounded there."""
    weighted = {n for _, n in trials.nodes}
    kept = set(layers)
    for model in trials.models.values():
        nodes = list(model.graph.node)
        touched = {t for n in nodes if n.name in layers for t in (*n.input, *n.output) if t}
        kept |= {n.name for n in nodes if n.name not in weighted and touched & {*n.input, *n.output}}
    return kept


def quantised_bundle(
    source: Bundle, out: Path, variant: str, forms: Forms, options: Mapping[str, Any], progress: Progress
) -> Bundle:
    """Search among the forms, or take the only one as it is; write the bundle and how it was found (`details.quantisation`)."""
    import onnxruntime

    lineage = Lineage(f"calibrate {variant or 'int8'}", source.sha256, dict(options), {"onnxruntime": onnxruntime.__version__})
    cache = out.parent / f"{out.name}.search.json"
    if done := done_already(out, lineage):
        cache.unlink(missing_ok=True)  # of a process that was killed when it had just made the bundle
        return done
    promise = float(options["max_score_drop"])
    with quiet():
        trials = Trials(source, cache)
        if not trials.nodes:
            raise EdgekitError(
                f"nothing in {source.folder} is worth quantising: no convolution or matrix product with constant weights is in it; keep it in f32"
            )
        if len(forms.choices) == 1:
            choice = forms.choices[0]
            trial = trials.trial(choice)
            float_us, int8_us = trials.times_us([choice])
            found: dict[str, Any] = {"choice": choice, "sqnr_db": trial.sqnr_db, "same_answers": trial.same_answers,
                                     "good": good_enough(trial, promise), "float_us": float_us, "int8_us": int8_us}  # fmt: skip
        else:
            found = search(trials, forms, promise, progress)
        chosen: Choice = found.pop("choice")
        if trials.judged or trials.elsewhere:
            found["graphs"] = {g: dataclasses.asdict(t) for g, t in trials.trial(chosen).graphs.items()}
            found["left_float"] = trials.left_float
        if not any(n.op_type == "QuantizeLinear" for g in trials.graphs(chosen).values() for n in g.graph.node):
            raise EdgekitError(
                f"every layer of {source.folder} had to stay float to lose no more than {100 * promise:g} points; keep it in f32, "
                "or allow more with --max-score-drop"
            )
        slower = found["int8_us"] >= found["float_us"]
        notes = trials.unlike_test_data(chosen)
        if slower:
            notes.append(f"slower than float here: {found['int8_us']:.0f} us against {found['float_us']:.0f} us on one thread")
        if not found["good"]:
            notes.append(f"even so {_missed(found, promise)}")
        said = {
            "form": chosen.name, "method": chosen.method, "activations": chosen.activations, "only_weights": chosen.only_weights,
            "float_nodes": list(chosen.floats), "promise": promise, "slower": slower, "clip_rates": trials.clip_rates(chosen), "notes": notes,
        }  # fmt: skip
        details = {"quantisation": {**found, **said}}
        floors = _floors(trials, chosen)
        manifest = dataclasses.replace(
            trials.plain, precision="int8", variant=variant, lineage=lineage, details=details, files={},
            allowed=_allowed(trials, floors, promise),
        )  # fmt: skip
        made = trials.write(chosen, out, manifest, floors)
    cache.unlink(missing_ok=True)
    return made


def _missed(found: Mapping[str, Any], promise: float) -> str:
    changed = "" if found["same_answers"] is None else f"{100 * (1 - found['same_answers']):.1f} % of the answers change ({100 * promise:g} % may), "
    return f"{changed}SQNR is {found['sqnr_db']:.1f} dB ({ENOUGH_DB:g} dB are asked for)"


def _floors(trials: Trials, choice: Choice) -> Kept:
    """The floors of what the form keeps of the golden answers here."""
    manifest = dataclasses.replace(trials.plain, precision="int8", prepares=())
    with files.scratch("trial") as folder:
        return kept_of(trials.source, trials.write(choice, Path(folder) / "bundle", manifest), "onnxruntime").floors()


def _allowed(trials: Trials, floors: Kept, promise: float) -> Allowed:
    """What graphs left in float make of decisions alone is as near as before, up to the first decision that differs, and held to the float
    bundle's own limit: signal to noise would say little of so few numbers. The score may fall by what the family allows, if that is more."""
    manifest = trials.source.manifest
    exact = {n for p in manifest.program.graph_phases() if p.graph in trials.left_float for n in p.outputs.values()}
    limits = {n: v for n, v in manifest.allowed.output_max_abs.items() if n in exact and floors.max_abs[n] <= v}
    sqnr_db = {n: db for n, db in floors.sqnr_db.items() if n not in limits}
    return Allowed(limits, score_drop=max(promise, manifest.allowed.score_drop), sqnr_db=sqnr_db, same_share=floors.same_share)
