"""Mel bands for the judges, apart from those that the networks are trained with: triangles over the bins of a transform."""

from __future__ import annotations

import numpy as np

from edgekit.models._voice.corpora import RATE_HZ

SLANEY_HZ, SLANEY_MELS = 1000.0, 15.0  # below it a mel is 200/3 Hz, above it 27 mels are a factor of 6.4 (Auditory Toolbox, 1998)


def slaney_edges_hz(bands: int, low_hz: float = 0.0, high_hz: float = RATE_HZ / 2) -> np.ndarray:
    """Edges of `bands` triangles evenly spaced on Slaney's mel scale: float64 (bands + 2,)."""
    low, high = (_slaney_mels(hz) for hz in (low_hz, high_hz))
    mels = np.linspace(low, high, bands + 2)
    found: np.ndarray = np.where(mels < SLANEY_MELS, mels * 200 / 3, SLANEY_HZ * 6.4 ** ((mels - SLANEY_MELS) / 27))
    return found


def htk_edges_hz(bands: int, low_hz: float = 0.0, high_hz: float = RATE_HZ / 2) -> np.ndarray:
    """Edges of `bands` triangles evenly spaced on the mel scale of O'Shaughnessy (1987) and HTK: float64 (bands + 2,)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    found: np.ndarray = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    return found


def triangles(edges_hz: np.ndarray, size: int) -> np.ndarray:
    """float64 (size / 2 + 1, bands): triangles of peak 1, band b from edges_hz[b] over [b + 1] to [b + 2]. A band narrower than a
    bin of the transform of `size` samples hears the bin nearest to it."""
    bins = np.arange(size // 2 + 1)[:, None] * RATE_HZ / size
    low, middle, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    made: np.ndarray = np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    empty = np.flatnonzero(made.sum(0) == 0)
    made[np.abs(bins - middle[empty]).argmin(0), empty] = 1
    return made


def power_frames(samples: np.ndarray, window: int, hop: int, size: int, centred: bool = True) -> np.ndarray:
    """|FFT|^2 of Hann windows: float64 (frames, size / 2 + 1).

    `centred`: 1 + n // hop windows around every hop-th sample, silence beyond both ends; else ceil(n / hop) windows, each ending with
    its hop's last sample.
    """
    count = 1 + len(samples) // hop if centred else -(-len(samples) // hop)
    before = window // 2 if centred else window - hop
    padded = np.zeros((count - 1) * hop + window)
    kept = samples[: len(padded) - before]
    padded[before : before + len(kept)] = kept
    rows = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    found: np.ndarray = np.abs(np.fft.rfft(rows * np.hanning(window + 1)[:-1], size)) ** 2
    return found


def _slaney_mels(hz: float) -> float:
    return hz * 3 / 200 if hz < SLANEY_HZ else SLANEY_MELS + 27 * float(np.log(hz / SLANEY_HZ) / np.log(6.4))
