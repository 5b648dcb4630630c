"""The tables that hold a level per frame against one level for all, and both against what nobody had to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from edgekit.models._fvdm.clips import FRAMES
from edgekit.models._fvdm.outcome import CALLS, LONG_ENDS, LONG_FILMS, LONG_FRAMES, Outcome
from edgekit.models._fvdm.plans import ENDS, PAIR, Loop

NAMES = {"vector": "a level per frame", "scalar": "one level for all frames", "paper": "a level per frame, published sampler (PTSS)"}
HOW = {"own levels": "level 0", "held": "held clean", "replaced": "replaced by noised selves"}
Groups = Mapping[str, list[Outcome]]


@dataclass(frozen=True)
class LongFilms:
    """Figures of long films of one seed; see outcome.long_statistics."""

    seed: int
    loop: Loop
    found: Mapping[str, float]


def tables(
    outcomes: Sequence[Outcome], long: Sequence[LongFilms], after: Mapping[str, float], between: Mapping[str, float],
    real: Mapping[str, float], seconds: Mapping[str, list[float]],
) -> list[dict[str, Any]]:  # fmt: skip
    """long: of the networks with a level per frame; after, between: errors of the bars as shares of copying and of blending;
    real: figures of test clips; seconds: of training."""
    groups: dict[str, list[Outcome]] = {kind: [o for o in outcomes if o.kind == kind] for kind in NAMES}
    groups = {kind: found for kind, found in groups.items() if found}
    return [
        _continuation(groups, after), _between(groups, between), _by_frame(groups), _free(groups, real), _long(long), _by_seed(groups),
        _seconds(seconds),
    ]  # fmt: skip


def _calls(groups: Groups, what: str) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for kind, found in groups.items():
        for calls in map(str, CALLS):
            shares = [getattr(o, what)[calls] for o in found]
            ways = " / ".join(sorted({HOW[o.way[calls]] for o in found}))
            rows.append([NAMES[kind], int(calls), ways, round(fmean(shares), 4), round(stdev(shares), 4) if len(shares) > 1 else None, len(found)])
    return rows


def _continuation(groups: Groups, bars: Mapping[str, float]) -> dict[str, Any]:
    unlearned = [[name, None, None, round(share, 4), None, None] for name, share in bars.items()]
    return {
        "title": f"Continuation: {len(PAIR)} known frames, the other {FRAMES - len(PAIR)} to be said",
        "columns": ["film", "calls", "known frames", "share of copying", "sd", "seeds"],
        "rows": [*_calls(groups, "continuation"), *unlearned, ["copy of the last known frame", None, None, 1.0, None, None]],
        "caption": (
            "Held-out clips: mean squared error of the unknown frames as a share of that of copying the last known one. known frames: how the "
            "network is given them; of two ways the better one on validation clips. More calls draw one of the films that may follow, one call "
            "their mean, which errs less. sd: over seeds."
        ),
    }  # fmt: skip


def _between(groups: Groups, bars: Mapping[str, float]) -> dict[str, Any]:
    unlearned = [[name, None, None, round(share, 4), None, None] for name, share in bars.items()]
    return {
        "title": f"Interpolation: the first and the last frame known, {FRAMES - len(ENDS)} between them to be said",
        "columns": ["film", "calls", "known frames", "share of blending", "sd", "seeds"],
        "rows": [*_calls(groups, "between"), *unlearned, ["linear blending", None, None, 1.0, None, None]],
        "caption": "As above, as a share of the error of blending the two known frames linearly.",
    }  # fmt: skip


def _by_frame(groups: Groups) -> dict[str, Any]:
    unknown = [f for f in range(FRAMES) if f not in PAIR]
    rows = [[NAMES[kind], *(round(fmean(o.by_frame[f] for o in found), 4) for f in unknown)] for kind, found in groups.items()]
    return {
        "title": f"Continuation frame by frame, {CALLS[-1]} calls", "columns": ["film", *(f"frame {f + 1}" for f in unknown)], "rows": rows,
        "caption": "Mean over seeds, each frame as a share of copying at that frame.",
    }  # fmt: skip


def _free(groups: Groups, real: Mapping[str, float]) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for kind, found in groups.items():
        fid, shown, energy = (fmean(getattr(o, what) for o in found) for what in ("fid", "shown", "energy"))
        chosen = " / ".join(f"{g:g}" for g in sorted({o.guidance for o in found}))
        rows.append([NAMES[kind], chosen, round(fid, 3), round(fid / real["fid"], 2), round(shown, 4), round(energy, 4)])
    rows.append(["real held-out clips", "-", round(real["fid"], 3), 1.0, round(real["shown"], 4), round(real["energy"], 4)])
    return {
        "title": f"Films from nothing, {CALLS[-1]} calls, mean over seeds", "rows": rows,
        "columns": ["film", "guidance", "feature-FID", "x floor", "shown", "motion"],
        "caption": (
            "Fréchet distance of the features of all frames to those of training frames, for as many films as there are held-out clips. shown: "
            "share of films that show what was asked, to the feature network. motion: mean absolute difference of neighbouring frames. guidance: by "
            "what was asked for; for each network the one with the least distance on validation clips."
        ),
    }  # fmt: skip


def _long(long: Sequence[LongFilms]) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for name, some in (("none", [f for f in long if not f.loop.part.guided]), ("chosen", [f for f in long if f.loop.part.guided])):
        every = []
        for f in some:
            ratios = [f.found[f"{what} last"] / f.found[f"{what} first"] for what in ("variance", "ink", "motion")]
            every.append([f.found["apart"], *ratios, f.found["same"], f.found["asked"]])
            said = [f"{f.loop.history:g}", f"{f.loop.doubt:g}"] if name == "chosen" else [name, name]
            rows.append([*said, str(f.seed), *(round(v, 4) for v in every[-1])])
        if len(every) > 1:
            rows.append([name, name, "mean", *(round(fmean(v), 4) for v in zip(*every, strict=True))])
    return {
        "title": f"Long films: the last {LONG_ENDS} of {LONG_FRAMES} frames against the first {LONG_ENDS}",
        "columns": ["guidance", "doubt", "seed", "means apart", "variance", "ink", "motion", "shows the same", "shows what was asked"],
        "rows": rows,
        "caption": (
            f"At most {LONG_FILMS} films from nothing, in parts of which each knows the last frames of the part before it. guidance: of "
            "parts, by those frames and by what was asked for; doubt: the level of those frames; both chosen on validation clips for each seed. "
            "means apart: distance of the mean features of the last frames from those of the first, over the length of the latter. variance "
            "(trace of the features' covariance), ink (mean brightness), motion (mean absolute difference of neighbours): last over first. shows "
            "the same: share of films in which the feature network sees the same at both ends; of those whose last frames show what was asked for."
        ),
    }  # fmt: skip


def _by_seed(groups: Groups) -> dict[str, Any]:
    rows = [
        [NAMES[kind], o.seed, *(round(o.continuation[str(c)], 4) for c in CALLS), *(round(o.between[str(c)], 4) for c in CALLS), round(o.fid, 3)]
        for kind, found in groups.items() for o in found
    ]  # fmt: skip
    told = [*(f"continuation, {c} calls" for c in CALLS), *(f"interpolation, {c} calls" for c in CALLS)]
    columns = ["film", "seed", *told, "feature-FID"]
    return {"title": "Every seed", "columns": columns, "rows": rows, "caption": "As above; noise differs between seeds too."}


def _seconds(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    rows = [[NAMES[kind], round(fmean(found), 1), round(max(found), 1)] for kind, found in seconds.items()]
    return {
        "title": "Seconds of training", "columns": ["network", "mean over seeds", "slowest seed"], "rows": rows,
        "caption": "By the clock, validation included; other work on the machine counts.",
    }  # fmt: skip
