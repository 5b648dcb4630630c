"""Sound files: read as mono samples in -1..1 at a wanted rate, written as WAVE of 16 bits."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files, limits
from edgekit.errors import EdgekitError, Missing
from edgekit.registry import missing_modules
from edgekit.sniff import open_plain

MOST_S = 3600.0  # seconds that are read into memory at once
MOST_VALUES = 1 << 29  # of all channels: two hours of 44.1 kHz in stereo, 2 GB as float32
MOST_LEVEL = 1e6  # full scale is 1; sums and filters of larger ones overflow
RATES_HZ = (1_000, 768_000)  # a filter between two rates without a common divisor has 20 values for each hertz of the higher one
FORMATS = {b"RIFF": ("WAV", "WAVEX"), b"RIFX": ("WAV", "WAVEX"), b"RF64": ("RF64",), b"fLaC": ("FLAC",), b"OggS": ("OGG",), b"FORM": ("AIFF",)}


def read_sound(path: Path, rate_hz: int) -> np.ndarray:
    """The samples of a WAVE, FLAC, OGG or AIFF file: float32 (samples,) at `rate_hz`, channels averaged.

    Another rate is converted by a polyphase filter (scipy.signal.resample_poly). Raises Missing without the library that reads it
    (pip install 'edgekit[voice]'), EdgekitError for a file that is no sound, is empty, or lasts longer than an hour. The other 20 formats of
    the library, each with a parser in C, are not tried.
    """
    absent = missing_modules(("soundfile",))
    if absent:
        raise Missing("sound is read with soundfile, not installed here: pip install 'edgekit[voice]'")
    import soundfile

    try:
        with open_plain(path, limits.MOST_DATA_BYTES, "a sound file") as (raw, _):
            wanted = FORMATS.get(os.pread(raw.fileno(), 4, 0), ())
            if not wanted:
                raise ValueError("it begins otherwise")
            with soundfile.SoundFile(raw.fileno(), closefd=False) as file:
                own_hz = int(file.samplerate)
                _check(path, file, wanted)
                samples = file.read(dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise EdgekitError(f"{path} is no sound file that can be read ({error}); give WAVE, FLAC, OGG or AIFF") from None
    if not samples.size:
        raise EdgekitError(f"{path} holds no samples; give a sound file that is not empty")
    if not np.all(np.abs(samples) <= MOST_LEVEL):  # false for NaN, too
        raise EdgekitError(f"{path} holds samples that are no numbers, or far beyond -1..1; save it again")
    mono: np.ndarray = samples.mean(1, dtype=np.float32)
    return resampled(mono, own_hz, rate_hz)


def _check(path: Path, file: Any, formats: tuple[str, ...]) -> None:
    """Refuse what the header says before memory is taken for it."""
    own_hz = int(file.samplerate)
    if file.format not in formats:
        raise ValueError(f"it holds {file.format}")
    if not RATES_HZ[0] <= own_hz <= RATES_HZ[1]:
        raise EdgekitError(f"{path} has {own_hz} samples a second, {RATES_HZ[0]} to {RATES_HZ[1]} are taken; save it at another rate")
    if file.frames > MOST_S * own_hz:
        raise EdgekitError(f"{path} lasts {file.frames / own_hz:.0f} s, up to {MOST_S:.0f} are read at once; cut it")
    if file.frames * file.channels > MOST_VALUES:
        raise EdgekitError(f"{path} holds {file.frames:,} samples of {file.channels} channels, {MOST_VALUES:,} values are read at once; cut it")


def resampled(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """float32 (samples,) at another rate."""
    if from_hz == to_hz:
        return samples
    if missing_modules(("scipy",)):
        raise Missing(f"sound at {from_hz} Hz is brought to {to_hz} Hz with scipy, not installed here: pip install 'edgekit[voice]'")
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(from_hz, to_hz)
    found: np.ndarray = resample_poly(samples.astype(np.float64), to_hz // common, from_hz // common).astype(np.float32)
    return found


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    """float32 (samples,) as a mono WAVE file of 16 bits; beyond -1..1 is clipped."""
    import wave

    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        # 32767 on both sides: silence stays 0, and the sign of a sample never changes
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    files.write_bytes(path, made.getvalue())
