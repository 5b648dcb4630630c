"""Conversions judged: is the voice the target's, is what was said still there; each system on the same pairs and strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.models._voice.corpora import Clip
from edgekit.models._voice.digit_judge import DigitJudge, recognised
from edgekit.models._voice.judges import PitchJudge, SpeakerJudge, median_pitch_error_semitones, nearest_speaker
from edgekit.models._voice.pairing import Pair
from edgekit.models._voice.quality import clipped_share, dc_offset, log_mel_distance

Convert = Callable[[Pair, np.ndarray], np.ndarray]  # source float32 (n,) at 16 kHz to the voice of a pair's target -> (n,), in time with it


@dataclass(frozen=True)
class Conversion:
    """What the judges say of a system; shares from 0 to 1, None where nothing was there to be judged."""

    pairs: int
    prefers: float  # share of pairs whose result is nearer to the target's voice than to the source's
    prefers_by: dict[str, float]  # the same of each corpus, of pairs of one sex and of two
    nearest: float  # share whose nearest of all speakers is the target
    to_target: float  # mean cosine to the target's clips
    to_source: float
    pitch_semitones: float  # median over pairs of the error of the median pitch
    digits: float | None  # share of digits recognised after conversion
    digit_count: int
    dc: float  # largest offset, in parts of the root mean square
    clipped: float  # largest share of samples at full scale


def judged(  # noqa: PLR0913 - a system and what it is judged by
    convert: Convert, pairs: Sequence[Pair], strings: Sequence[tuple[Clip, Pair]], speaker: SpeakerJudge, pitch: PitchJudge, digits: DigitJudge | None
) -> Conversion:
    """pairs: what the voice is judged by. strings: a string of digits, and the pair whose prompt it is said with."""
    enrolment: dict[str, list[np.ndarray]] = {}
    for pair in pairs:
        enrolment.setdefault(pair.target, [c.samples for c in pair.enrolment])
    kinds: dict[str, list[bool]] = {}
    rows = []
    for pair in pairs:
        out = convert(pair, pair.source.samples)
        target, source = ([c.samples for c in clips] for clips in (pair.enrolment, pair.source_enrolment))
        near = (speaker.similarity(out, target), speaker.similarity(out, source))
        prefers = near[0] > near[1]
        for kind in (pair.source.corpus, "cross sex" if pair.crosses_sex else "same sex"):
            kinds.setdefault(kind, []).append(prefers)
        off = median_pitch_error_semitones(pitch, out, target)
        rows.append((prefers, nearest_speaker(speaker, out, enrolment) == pair.target, *near, off, dc_offset(out), clipped_share(out)))
    table = np.array(rows, np.float64)
    said = [convert(pair, clip.samples) for clip, pair in strings] if digits else []
    share = recognised(digits, said, [c.spans for c, _ in strings], [c.text for c, _ in strings]) if digits and said else None
    return Conversion(
        len(pairs), float(table[:, 0].mean()), {k: float(np.mean(v)) for k, v in sorted(kinds.items())}, float(table[:, 1].mean()),
        float(table[:, 2].mean()), float(table[:, 3].mean()), float(np.nanmedian(table[:, 4])), share, sum(len(c.text) for c, _ in strings),
        float(table[:, 5].max()), float(table[:, 6].max()),
    )  # fmt: skip


def prompt_of(pair: Pair) -> np.ndarray:
    """The prompt's clips as one recording."""
    return np.concatenate([c.samples for c in pair.prompt])


@dataclass(frozen=True)
class CodecQuality:
    """What the codec leaves of recordings it has not learned."""

    clips: int
    nearest: dict[str, float]  # of each corpus: share whose nearest other clip is of the same speaker
    own: float  # mean cosine of a clip to itself before
    log_mel: float  # mean distance in nats
    digits: float | None


def codec_judged(
    copy: Callable[[np.ndarray], np.ndarray], clips: Sequence[Clip], strings: Sequence[Clip], speaker: SpeakerJudge, digits: DigitJudge | None
) -> CodecQuality:
    """clips: of held-out speakers; each is compared with all others as they were recorded."""
    right: dict[str, list[bool]] = {}
    own, distance = [], []
    for clip in clips:
        out = copy(clip.samples)
        others: dict[str, list[np.ndarray]] = {}
        for other in clips:
            if other is not clip and other.corpus == clip.corpus:
                others.setdefault(other.speaker, []).append(other.samples)
        right.setdefault(clip.corpus, []).append(nearest_speaker(speaker, out, others) == clip.speaker)
        own.append(float(speaker.embed(out) @ speaker.embed(clip.samples)))
        distance.append(log_mel_distance(out, clip.samples))
    share = None
    if digits and strings:
        share = recognised(digits, [copy(c.samples) for c in strings], [c.spans for c in strings], [c.text for c in strings])
    return CodecQuality(len(clips), {k: float(np.mean(v)) for k, v in right.items()}, float(np.mean(own)), float(np.mean(distance)), share)
