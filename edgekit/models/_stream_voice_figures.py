"""How a seed's networks do on held-out speakers: codec, semantic vectors, and conversion beside what needs no learning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from edgekit import data
from edgekit.models._stream_voice_options import Options
from edgekit.models._voice.corpora import HELD_OUT, RATE_HZ, Clip, clips, part
from edgekit.models._voice.digit_judge import DigitJudge
from edgekit.models._voice.evaluate import Convert, codec_judged, judged, prompt_of
from edgekit.models._voice.judges import PitchJudge, SpeakerJudge
from edgekit.models._voice.pairing import Pair, digit_strings, pairs
from edgekit.models._voice.probes import digit_probe, speaker_probe
from edgekit.models._voice.semantic import LOOK_AHEAD
from edgekit.models._voice.semantic import WIDTH as SEMANTIC
from edgekit.models._voice.spectra import HOP
from edgekit.models._voice.whole import Whole

DIGITS = "fsdd"
PAIRS = 48
STRINGS = 64  # of 5 digits
OWN_PROMPT_S = 2.5
SYSTEMS = {
    "model": "converter", "own": "control: the source's own prompt", "copy": "control: the source through the codec",
    "shift": "mean shift, no learning", "ceiling": "the target's own speech through the codec",
}  # fmt: skip


class Figures:
    """Judges and pairs of a recipe, made once."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def possible(self) -> bool:
        """False where no public set is learned, or the judges' networks are not on this machine."""
        return set(self.options.data.real) >= {DIGITS} and len(self.options.data.real) > 1 and data.folder("models") is not None

    @cached_property
    def spoken(self) -> tuple[Clip, ...]:
        """Held-out speech but the digits."""
        return part([n for n in self.options.data.real if n != DIGITS], "test")

    @cached_property
    def pairs(self) -> list[Pair]:
        """Conversions between held-out speakers."""
        return pairs(self.spoken, PAIRS)

    @cached_property
    def strings(self) -> list[tuple[Clip, Pair]]:
        """Strings of digits, each with a pair whose prompt it is said with."""
        strings = digit_strings(part([DIGITS], "test"))
        chosen = [strings[i] for i in np.linspace(0, len(strings) - 1, min(STRINGS, len(strings))).astype(int)]
        return [(s, self.pairs[i % len(self.pairs)]) for i, s in enumerate(chosen)]

    @cached_property
    def judges(self) -> tuple[SpeakerJudge, PitchJudge, DigitJudge]:
        """Networks that were trained apart from all that they judge."""
        return SpeakerJudge(), PitchJudge(), DigitJudge()

    def codec(self, whole: Whole, levels: int) -> dict[str, Any]:
        """The codec on held-out clips, with its first `levels` levels."""
        speaker, _, digits = self.judges
        strings = [s for s, _ in self.strings]
        return dataclasses.asdict(codec_judged(lambda x: whole.copied(x, levels), self.spoken, strings, speaker, digits))

    def probes(self, whole: Whole) -> dict[str, float]:
        """What a linear classifier finds in the semantic vectors, and in plain log-mel bands beside them."""
        singles = clips(DIGITS)
        every = [c for n in self.options.data.real if n != DIGITS for c in clips(n)]

        def vectors(samples: np.ndarray) -> np.ndarray:
            late = np.concatenate([samples, np.zeros(LOOK_AHEAD * HOP, np.float32)])
            found: np.ndarray = whole.said(late)[0, LOOK_AHEAD:, :SEMANTIC].numpy()
            return found

        def bands(samples: np.ndarray) -> np.ndarray:
            found: np.ndarray = whole.measured(samples)[0][0].numpy()
            return found

        return {
            "digits": digit_probe(vectors, singles, HELD_OUT), "speaker": speaker_probe(vectors, every),
            "digits_of_bands": digit_probe(bands, singles, HELD_OUT), "speaker_of_bands": speaker_probe(bands, every),
        }  # fmt: skip

    def conversion(self, convert: Convert, with_digits: bool = True) -> dict[str, Any]:
        """One system on all pairs and strings."""
        speaker, pitch, digits = self.judges
        found = judged(convert, self.pairs, self.strings if with_digits else [], speaker, pitch, digits if with_digits else None)
        return dataclasses.asdict(found)

    def system(self, name: str, whole: Whole) -> dict[str, Any]:
        """A system of SYSTEMS, by its short name."""
        voice, statistics = kept(whole.voice), kept(whole.statistics)

        def own(pair: Pair, source: np.ndarray) -> np.ndarray:
            before = np.concatenate([c.samples for c in pair.source_enrolment])
            return whole.convert(voice(before[: int(OWN_PROMPT_S * RATE_HZ)]), source)

        def shift(pair: Pair, source: np.ndarray) -> np.ndarray:
            (latent, pitch), (own_latent, own_pitch) = statistics(prompt_of(pair)), statistics(source)
            return whole.copied(source, shift=(latent - own_latent, pitch - own_pitch))

        convert: dict[str, Convert] = {
            "model": lambda pair, s: whole.convert(voice(prompt_of(pair)), s), "own": own, "copy": lambda _, s: whole.copied(s),
            "shift": shift, "ceiling": lambda pair, _: whole.copied(pair.enrolment[0].samples),
        }  # fmt: skip
        return self.conversion(convert[name], name not in ("own", "ceiling"))


def kept(compute: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """The same function, that remembers."""
    known: dict[bytes, Any] = {}

    def remembered(samples: np.ndarray) -> Any:
        key = samples.tobytes()
        if key not in known:
            known[key] = compute(samples)
        return known[key]

    return remembered
