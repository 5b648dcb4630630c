"""What a converter is scored on: strings of digits said by held-out speakers in held-out voices; without digits, how well it hits a pitch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bundle import Model
from edgekit.errors import EdgekitError
from edgekit.models._stream_voice_options import Options, options_of
from edgekit.models._voice.corpora import RATE_HZ, Clip, of_part, part
from edgekit.models._voice.generated import generated
from edgekit.models._voice.pairing import digit_strings
from edgekit.models._voice.spectra import HOP
from edgekit.parts import Arrays, Score

if TYPE_CHECKING:
    from edgekit.models._voice.whole import Whole

DIGITS = "fsdd"
SCORES = ("digits recognised", "pitch within 2 semitones")
STRINGS = 24  # of 5 digits
MOST, SOURCE_S, TARGET_S = 24, 1.6, 2.0  # of what calibrators look at
WITHIN = 2.0  # semitones
DELAY = 800  # samples; deploy.DELAY, said here without torch


@lru_cache(maxsize=4)
def _clips(options: Options, which: str) -> tuple[Clip, ...]:
    d = options.data
    if d.real:
        return part(d.real, which, d.with_validation and which == "train")
    every = generated(d.generated)  # few speakers: those of the validation part are none that were learned either
    return (*of_part(every, which), *(of_part(every, "validation") if which == "test" else ()))


@lru_cache(maxsize=8)
def _material(options: Options, which: str) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    clips = _clips(options, which)
    strings = digit_strings([c for c in clips if c.corpus == DIGITS])
    others = [c for c in clips if c.corpus != DIGITS and c.seconds >= 1.5]
    order = np.random.default_rng(0).permutation(len(others))
    others = [others[i] for i in order]
    sources = [*strings, *others] if strings else others
    # A target is another speaker than the source of the same place.
    targets, at = [], 0
    voices = others or strings
    for source in sources:
        while len({v.speaker for v in voices}) > 1 and voices[at % len(voices)].speaker == source.speaker:
            at += 1
        targets.append(voices[at % len(voices)])
        at += 1
    return tuple(sources), tuple(targets)


def material(recipe: Mapping[str, Any], which: str) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Sources and, for each, a recording of another speaker, of the "train" or the "test" part; EdgekitError where there are too few."""
    sources, targets = _material(options_of(recipe), which)
    if len(sources) < 2:
        raise EdgekitError(f"the {which} part has {len(sources)} recordings of 1.5 s or more, 2 are needed; give more speech")
    return sources, targets


def score(model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
    """Digits of STRINGS strings in voices of their targets (all, or the first `limit`), or the share of STRINGS pitches that are hit.

    run: takes `audio` and, in place of the voice, `target` (1, samples), the recording that the voice is made of."""
    sources, targets = material(model.recipe, "test")
    count = min(STRINGS, len(sources), limit or STRINGS)
    sources, targets = sources[:count], targets[:count]
    out = []
    for source, target in zip(sources, targets, strict=True):
        late = np.concatenate([source.samples, np.zeros(DELAY, np.float32)])
        spoken = run({"audio": late[None], "target": target.samples[None]})["speech"][0]
        out.append(spoken[DELAY : DELAY + len(source.samples)])
    if sources[0].spans:
        from edgekit.models._voice.digit_judge import DigitJudge, recognised

        found = recognised(DigitJudge(), out, [s.spans for s in sources], [s.text for s in sources])
        return Score(SCORES[0], found, sum(len(s.text) for s in sources))
    hit = [abs(12 * np.log2(median_hz(o) / median_hz(t.samples))) <= WITHIN for o, t in zip(out, targets, strict=True)]
    return Score(SCORES[1], float(np.mean(hit)), count)


def runner(whole: Whole) -> Callable[[Arrays], Arrays]:
    """Trained networks in torch, as `score` runs a bundle."""
    return lambda given: {"speech": whole.stream(whole.voice(given["target"][0]), given["audio"][0])[0][None]}


def inputs_of(model: Model, which: str, limit: int) -> dict[str, np.ndarray]:
    """At most MOST sources of SOURCE_S and recordings of targets of TARGET_S: `audio` and `target`, float32 (N, samples)."""
    sources, targets = material(model.recipe, which)
    rows = np.linspace(0, len(sources) - 1, min(limit, MOST, len(sources))).astype(np.int64)
    return {
        "audio": np.stack([_cut(sources[i].samples, SOURCE_S) for i in rows]), "target": np.stack([_cut(targets[i].samples, TARGET_S) for i in rows]),
    }  # fmt: skip


def _cut(samples: np.ndarray, seconds: float) -> np.ndarray:
    """The first seconds of a sound, said again where it is shorter."""
    count = int(seconds * RATE_HZ)
    return np.resize(samples, count) if len(samples) < count else samples[:count]


def median_hz(samples: np.ndarray) -> float:
    """By the converter's own tracker, which needs no data."""
    import torch

    from edgekit.models._voice.spectra import Pitch, windows

    padded = np.concatenate([samples, np.zeros(-len(samples) % HOP, np.float32)])
    with torch.no_grad():
        voiced, log_hz = Pitch()(windows(torch.from_numpy(padded)[None]))
    heard = log_hz[voiced > 0]
    return float(heard.median().exp()) if len(heard) else float(RATE_HZ)
