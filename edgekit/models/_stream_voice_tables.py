"""What came of a training, as tables: codec, semantic vectors, conversion beside its controls, and what each part of it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from edgekit.models._stream_voice_figures import SYSTEMS

Row = list[Any]
Found = Mapping[int, Mapping[str, Any]]  # seed -> what was found


def tables(found: Found, variants: Mapping[str, Found]) -> list[dict[str, Any]]:
    """found: of each seed `codec` (levels -> CodecQuality), `probes`, and `systems` (name -> Conversion). variants: name -> seed -> Conversion."""
    seeds = sorted(found)
    made = [_codec(found, seeds), _probes(found, seeds), _systems(found, seeds), _kinds(found, seeds)]
    if variants:
        made.append(_variants(found, variants, seeds))
    return made


def _codec(found: Found, seeds: Sequence[int]) -> dict[str, Any]:
    first = found[seeds[0]]["codec"]
    corpora = sorted({c for q in first.values() for c in q["nearest"]})
    rows: list[Row] = []
    for levels in first:
        of = [found[s]["codec"][levels] for s in seeds]
        nearest = [_mean([q["nearest"][c] for q in of]) for c in corpora]
        rows.append([int(levels), *nearest, *(_mean([q[n] for q in of]) for n in ("own", "log_mel", "digits"))])
    return {
        "title": "The codec on held-out speakers, mean over seeds", "rows": rows,
        "columns": ["levels", *(f"nearest speaker, {c}" for c in corpora), "cosine to itself", "log-mel distance, nats", "digits"],
        "caption": "levels: of the codes, beside the pitch token. nearest speaker: share of clips whose nearest other recording, by an independent "
        "network, is of the same speaker. digits: recognised by a network trained on real recordings.",
    }  # fmt: skip


def _probes(found: Found, seeds: Sequence[int]) -> dict[str, Any]:
    kinds = (("semantic vectors", ""), ("log-mel bands", "_of_bands"))
    rows = [[name, *(_mean([found[s]["probes"][f"{what}{of}"] for s in seeds]) for what in ("digits", "speaker"))] for name, of in kinds]
    return {
        "title": "What a linear classifier finds, mean over seeds", "columns": ["of", "digits of unseen speakers", "speaker"], "rows": rows,
        "caption": "Logistic regression on means over a digit, or over a clip. The first is wanted, the second not (of 20 speakers, chance is 0.05).",
    }


def _systems(found: Found, seeds: Sequence[int]) -> dict[str, Any]:
    rows: list[Row] = []
    for short, name in SYSTEMS.items():
        of = [found[s]["systems"][short] for s in seeds]
        rows.append([name, *(_mean([q[n] for q in of]) for n in COLUMNS.values()), _spread([q["prefers"] for q in of])])
    first = found[seeds[0]]["systems"]["model"]
    return {
        "title": "Conversion to unseen voices, mean over seeds", "columns": ["system", *COLUMNS, "sd of prefers"], "rows": rows,
        "caption": f"{first['pairs']} pairs of held-out speakers within a corpus, {first['digit_count']} digits said by held-out speakers. "
        "prefers target: share of pairs nearer to the target's recordings than to the source's, by an independent network; nearest: share whose "
        "nearest speaker of all is the target. pitch error: of the median pitch, in semitones, the median over pairs. sd: over seeds.",
    }  # fmt: skip


COLUMNS = {
    "prefers target": "prefers", "nearest": "nearest", "cosine to target": "to_target", "to source": "to_source",
    "pitch error": "pitch_semitones", "digits": "digits",
}  # fmt: skip


def _kinds(found: Found, seeds: Sequence[int]) -> dict[str, Any]:
    kinds = sorted(found[seeds[0]]["systems"]["model"]["prefers_by"])
    every = [(f"{name}, seed {s}", found[s]["systems"][short]) for short, name in SYSTEMS.items() for s in seeds]
    rows = [[label, *(round(q["prefers_by"][k], 3) for k in kinds), _rounded(q["digits"])] for label, q in every]
    return {
        "title": "Prefers target, by corpus and by sex, every seed", "columns": ["system", *kinds, "digits"], "rows": rows,
        "caption": "same sex: source and target are both women or both men.",
    }


def _variants(found: Found, variants: Mapping[str, Found], seeds: Sequence[int]) -> dict[str, Any]:
    every: dict[str, list[Mapping[str, Any]]] = {"as trained and deployed": [found[s]["systems"]["model"] for s in seeds]}
    every |= {name: [of[s] for s in seeds] for name, of in variants.items()}
    rows = [
        [name, *(_mean([q[n] for q in of]) for n in COLUMNS.values()), _spread([q["prefers"] for q in of]), _spread([q["digits"] for q in of])]
        for name, of in every.items()
    ]
    return {
        "title": "What each part is worth, mean over seeds", "columns": ["converter", *COLUMNS, "sd of prefers", "sd of digits"], "rows": rows,
        "caption": "Each line changes one thing, and is run as it would be deployed: free-running, not told the right frames before.",
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return round(fmean(there), 3) if there else None


def _spread(values: Sequence[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return round(stdev(there), 3) if len(there) > 1 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
