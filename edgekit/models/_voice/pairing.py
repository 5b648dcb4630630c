"""What conversion is tried on: strings of spoken digits, and sources paired with the voices that they are to be given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.models._voice.corpora import RATE_HZ, Clip


@dataclass(frozen=True)
class Pair:
    """One conversion: what is said, by whom it should sound, and what that is judged by."""

    source: Clip
    prompt: tuple[Clip, ...]  # of the target speaker, given to the converter
    enrolment: tuple[Clip, ...]  # of the target speaker, given to the judge; shares no clip with `prompt`
    source_enrolment: tuple[Clip, ...]  # of the source speaker, given to the judge; not the source itself

    @property
    def target(self) -> str:
        """The speaker that the source should sound like."""
        return self.prompt[0].speaker

    @property
    def crosses_sex(self) -> bool:
        """Whether source and target speaker are a man and a woman."""
        return self.source.sex != self.prompt[0].sex


def digit_strings(clips: Iterable[Clip], per_string: int = 5, gap_s: float = 0.1, seed: int = 0) -> list[Clip]:
    """Strings of digits, one speaker each, from clips of single digits (others are passed over); each clip is used at most once.

    The digits of a speaker come in random order, `gap_s` of silence between two; `text` is "31415", `spans` says where each digit
    lies. What is left of a speaker after the last whole string is not used.
    """
    rng = np.random.default_rng(seed)
    made = []
    for own in _by_speaker(c for c in clips if c.text.isdigit() and len(c.text) == 1).values():
        order = rng.permutation(len(own))
        for first in range(0, len(own) - per_string + 1, per_string):
            made.append(_joined([own[i] for i in order[first : first + per_string]], round(gap_s * RATE_HZ)))
    return made


def pairs(clips: Sequence[Clip], count: int, seed: int = 0, within: str = "corpus", prompt_s: float = 2.5) -> list[Pair]:
    """`count` conversions between different speakers, the same for the same arguments.

    Sources and targets are of one corpus (`within` "any": of any two); corpora take turns, and so do the combinations of sexes that a
    corpus has (F to F, F to M, ...), and within one the speaker pairs and the source's clips, so that all come up about equally often.
    The prompt is as many clips of the target as make `prompt_s` seconds; where it can be, none of them says what the source says.
    Raises EdgekitError where no two speakers have enough clips.
    """
    if within not in ("corpus", "any"):
        raise EdgekitError(f"pairs are made within a 'corpus' or 'any' two, not within '{within}'")
    rng = np.random.default_rng(seed)
    # Without its longest clip still a prompt: then in any order at least one clip is left for the judge.
    speakers = {s: own for s, own in _by_speaker(clips).items() if _seconds(own) - max(c.seconds for c in own) >= prompt_s}
    groups: dict[str, dict[tuple[str, str], list[tuple[str, str]]]] = {}
    for source, target in ((a, b) for a in speakers for b in speakers if a != b):
        a, b = speakers[source][0], speakers[target][0]
        if within == "any" or a.corpus == b.corpus:
            groups.setdefault(a.corpus, {}).setdefault((a.sex, b.sex), []).append((source, target))
    if not groups:
        raise EdgekitError(f"no two speakers have {prompt_s:g} s of speech and another clip; give more speech or a shorter prompt")
    sources = {s: cycle([own[i] for i in rng.permutation(len(own))]) for s, own in speakers.items()}
    voices = {(c, k): cycle([found[i] for i in rng.permutation(len(found))]) for c, kinds in groups.items() for k, found in kinds.items()}
    made: list[Pair] = []
    corpora = sorted(groups)
    for turn in range(count):
        corpus = corpora[turn % len(corpora)]
        sexes = sorted(groups[corpus])
        kind = sexes[turn // len(corpora) % len(sexes)]
        source, target = next(voices[corpus, kind])
        made.append(_pair(next(sources[source]), speakers[source], speakers[target], prompt_s, rng))
    return made


def _joined(digits: Sequence[Clip], gap: int) -> Clip:
    """Clips of digits one after the other, `gap` samples of silence between two."""
    lengths = [len(c.samples) for c in digits]
    starts = np.concatenate([[0], np.cumsum(np.array(lengths) + gap)])
    samples = np.zeros(starts[-1] - gap, np.float32)
    for clip, start in zip(digits, starts, strict=False):
        samples[start : start + len(clip.samples)] = clip.samples
    samples.flags.writeable = False
    spans = tuple(zip(starts[:-1].tolist(), lengths, strict=True))
    text, name = "".join(c.text for c in digits), "+".join(c.name for c in digits)
    return dataclasses.replace(digits[0], text=text, samples=samples, phones=None, name=name, spans=spans)


def _pair(source: Clip, of_source: Sequence[Clip], of_target: Sequence[Clip], prompt_s: float, rng: np.random.Generator) -> Pair:
    order = [of_target[i] for i in rng.permutation(len(of_target))]
    order.sort(key=lambda c: bool(source.text) and c.text == source.text)  # a stable sort: what says the same comes last
    prompt: list[Clip] = []
    while _seconds(prompt) < prompt_s:
        prompt.append(order.pop(0))
    return Pair(source, tuple(prompt), tuple(order), tuple(c for c in of_source if c.name != source.name))


def _seconds(clips: Iterable[Clip]) -> float:
    return sum(c.seconds for c in clips)


def _by_speaker(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        found.setdefault(clip.speaker, []).append(clip)
    return found
