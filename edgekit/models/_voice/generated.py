"""Speech-like clips by a formula, for tests and the smallest recipe: pulses and noise through moving formants, phones known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgekit.models._voice.corpora import HOP, RATE_HZ, Clip

# Ten "phones": silence, five vowels, two voiced consonants, two of noise. (formants in Hz, level of pulses, level of noise)
PHONES = ("_", "a", "e", "i", "o", "u", "m", "l", "s", "f")
FORMANTS_HZ = np.array(
    [
        (500, 1500, 2500), (750, 1200, 2500), (500, 1850, 2550), (300, 2250, 3000), (480, 850, 2450), (320, 800, 2250),
        (250, 1000, 2100), (360, 1300, 2800), (2500, 4800, 6200), (1500, 3500, 7000),
    ],
    np.float64,
)  # fmt: skip
WIDTHS_HZ = np.array([(90, 110, 170)] * 8 + [(1200, 900, 900), (2500, 2500, 2500)], np.float64)
PULSES = np.array([0, 1, 1, 1, 1, 1, 0.4, 0.6, 0, 0])
NOISE = np.array([0.0005, 0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.12, 0.06])
SEGMENT_FRAMES = (3, 7)  # of a phone
CLIP_FRAMES = (110, 140)
STEP, WINDOW = HOP // 2, HOP  # samples: the filter moves every 10 ms
FFT, OVERLAP = 640, 4  # a block covers OVERLAP steps: the window, and twice as much for the resonances to ring
LEVEL = 0.06  # root mean square of a clip


@lru_cache(maxsize=8)
def generated(count: int = 60, speakers: int = 6, seed: int = 0) -> tuple[Clip, ...]:
    """`count` clips of 2.2 to 2.8 s at 16 kHz by `speakers` voices in turn, women and men by turns; the same for the same arguments.

    A voice is a pitch (women 170 to 240 Hz, men 90 to 140 Hz), a factor on all formants (1.08 to 1.22, 0.86 to 1.0) and a tilt. Every
    10 ms, pulses at f0 and white noise, as loud as the phone has them, pass its resonances,

        H(f) = 8 ** (-tilt f / 8 kHz) sum_k (-1)^k B_1 s F_k / ((s F_k)^2 - f^2 + i f B_k),

    F and B as above, s the voice's factor. Neighbouring 10 ms are faded into each other; f0 falls by a tenth and sways by a twelfth.
    `phones` is int64 (frames,), places in PHONES; the samples are read-only.
    """
    rng = np.random.default_rng((seed, speakers))
    voices = [_voice(rng, i % 2 == 0) for i in range(speakers)]
    found = []
    for i in range(count):
        turn = i % speakers
        phones = _phones(rng)
        samples = _sound(rng, phones, voices[turn])
        samples.flags.writeable = False
        found.append(
            Clip(f"generated:{turn:02d}", "generated", "F" if turn % 2 == 0 else "M", "", samples, phones, f"generated#{i}")
        )
    return tuple(found)


def _voice(rng: np.random.Generator, woman: bool) -> tuple[float, float, float]:
    """Pitch in Hz, factor on the formants, and tilt."""
    pitch, factor = ((170, 240), (1.08, 1.22)) if woman else ((90, 140), (0.86, 1.0))
    return float(rng.uniform(*pitch)), float(rng.uniform(*factor)), float(rng.uniform(0.6, 1.2))


def _phones(rng: np.random.Generator) -> np.ndarray:
    """int64 (frames,): silence, then vowels and consonants by turns, then silence."""
    frames = int(rng.integers(*CLIP_FRAMES, endpoint=True))
    labels = [0] * 4
    vowel = bool(rng.integers(2))
    while len(labels) < frames - 4:
        phone = rng.integers(1, 6) if vowel else rng.integers(6, len(PHONES))
        labels += [int(phone)] * int(rng.integers(*SEGMENT_FRAMES, endpoint=True))
        vowel = not vowel
    return np.array(labels[: frames - 4] + [0] * 4, np.int64)


def _sound(rng: np.random.Generator, phones: np.ndarray, voice: tuple[float, float, float]) -> np.ndarray:
    """float32 (frames x HOP,)."""
    pitch_hz, factor, tilt = voice
    count = len(phones) * HOP
    at = np.arange(count) / count
    f0 = pitch_hz * (1.05 - 0.1 * at) * (1 + np.sin(2 * np.pi * (3 * at + rng.random())) / 12)
    turns = np.cumsum(f0) / RATE_HZ
    pulses = np.zeros(count)
    # A pulse falls between two samples: its weight is split, or the pitch would be heard to jump by whole samples.
    edges = np.flatnonzero(np.diff(np.floor(turns)) > 0) + 1
    late = (turns[edges] % 1) / (f0[edges] / RATE_HZ)  # samples since the pulse
    weight = np.sqrt(RATE_HZ / f0[edges])  # high and low voices are equally loud
    pulses[edges] += weight * (1 - late)
    pulses[edges - 1] += weight * late
    noise = rng.standard_normal(count)
    # Levels and formants of every 10 ms: two a frame.
    steps = np.repeat(phones, 2)
    frequencies = np.fft.rfftfreq(FFT, 1 / RATE_HZ)
    gain = _resonances(frequencies, factor)[steps] * 8.0 ** (-tilt * frequencies / 8000)
    window = np.hanning(WINDOW + 1)[:-1]
    padded = np.zeros((2, count + WINDOW))
    padded[:, STEP // 2 : STEP // 2 + count] = pulses, noise  # so that a window's middle is that of its 10 ms
    rows = np.arange(len(steps))[:, None] * STEP + np.arange(WINDOW)
    sources = padded[0][rows] * PULSES[steps][:, None] + padded[1][rows] * NOISE[steps][:, None]
    blocks = np.fft.irfft(np.fft.rfft(sources * window, FFT) * gain, FFT)
    made = np.zeros((len(steps) + OVERLAP, STEP))
    for part in range(OVERLAP):
        made[part : part + len(steps)] += blocks[:, part * STEP : (part + 1) * STEP]
    sound = made.reshape(-1)[STEP // 2 : STEP // 2 + count]
    found: np.ndarray = (sound * LEVEL / np.sqrt(np.mean(sound**2))).astype(np.float32)
    return found


def _resonances(frequencies: np.ndarray, factor: float) -> np.ndarray:
    """complex128 (phones, bins): of resonances that ring after a pulse, never before it."""
    at, width = factor * FORMANTS_HZ[:, :, None], WIDTHS_HZ[:, :, None]
    signs = np.array([1, -1, 1])[:, None]  # neighbours must not cancel each other between their peaks
    found: np.ndarray = (signs * WIDTHS_HZ[:, :1, None] * at / (at**2 - frequencies**2 + 1j * frequencies * width)).sum(1)
    return found
