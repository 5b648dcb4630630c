"""What is measured of each frame: log-mel bands, pitch and loudness, from windows that end with the frame; matrices only, so that engines agree.

A frame is HOP new samples. Its window is the last WINDOW samples: feeds of a stream with window and hop give exactly these.
Pitch: normalised autocorrelation (Boersma, IFA Proceedings 17, 1993, without the division by the window's own), the shortest lag
whose peak comes near the highest.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

RATE_HZ = 16_000
HOP = 320  # samples of a frame: 20 ms
WINDOW = 1024  # samples that a frame's measurements look back over: 64 ms, four periods of 62 Hz
SPECTRUM = 640  # samples of the spectrum: 40 ms, at the end of the window
SIZE = 1024  # of the transform: bins of 15.6 Hz
BANDS = 64
FLOOR = 1e-7  # of a band's mean power: -70 dB
LOW_HZ, HIGH_HZ = 62.0, 420.0  # of pitch
VOICED = 0.5  # of the normalised autocorrelation: below it a frame has no pitch
NEAR = 0.85  # of the highest peak: the shortest lag above is taken, which keeps octaves apart
QUIET = 1e-6  # of the mean square: below it a frame has no pitch


def band_edges_hz(bands: int = BANDS) -> np.ndarray:
    """Edges of triangular bands, evenly spaced on the mel scale (O'Shaughnessy, 1987): float64 (bands + 2,); band b spans b to b + 2."""
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges: np.ndarray = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    return edges


def mel_matrix(warp: float = 1.0, bands: int = BANDS) -> np.ndarray:
    """Triangular bands, each of unit sum: float64 (SIZE/2 + 1, bands).

    warp: a band at f hears what lies at f / warp, so that 1.1 is a voice with all formants a tenth higher."""
    edges = np.minimum(band_edges_hz(bands) / warp, RATE_HZ / 2)
    bins = np.arange(SIZE // 2 + 1) * RATE_HZ / SIZE
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / np.maximum(middle - low, 1e-9)
    falling = (high - bins[:, None]) / np.maximum(high - middle, 1e-9)
    made = np.maximum(0, np.minimum(rising, falling))
    empty = made.sum(0) < 1e-9  # a band that is narrower than a bin, or beyond the top: the nearest bin
    made[np.clip(np.rint(middle / (RATE_HZ / SIZE)).astype(int), 0, SIZE // 2)[empty], np.flatnonzero(empty)] = 1
    found: np.ndarray = made / made.sum(0)
    return found


def windows(samples: Tensor) -> Tensor:
    """float32 (N, samples), a multiple of HOP, as the windows of its frames (N, frames, WINDOW); before the start lie zeros."""
    return nn.functional.pad(samples, (WINDOW - HOP, 0)).unfold(1, WINDOW, HOP)


class Spectrum(nn.Module):
    """Log-mel bands of windows."""

    even: Tensor
    odd: Tensor
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Around the middle of the window cosines see only what is alike on both sides, sines only what differs: half the products.
        half = SPECTRUM // 2
        hann = np.hanning(SPECTRUM + 1)[half:-1]
        scaled = hann[:, None] / np.sqrt((np.hanning(SPECTRUM + 1) ** 2).sum())
        angle = 2 * np.pi * np.outer(np.arange(half), np.arange(SIZE // 2 + 1)) / SIZE
        even = scaled * np.cos(angle)
        even[0] /= 2  # the middle sample is both sides at once
        self.register_buffer("even", torch.tensor(even, dtype=torch.float32))
        self.register_buffer("odd", torch.tensor(scaled * np.sin(angle), dtype=torch.float32))
        self.register_buffer("mel", torch.tensor(mel_matrix(), dtype=torch.float32))

    def power(self, windows: Tensor) -> Tensor:
        """(..., WINDOW) -> (..., SIZE/2 + 1), the mean square of a white signal in each bin."""
        half = SPECTRUM // 2
        later = windows[..., WINDOW - half :]  # from the middle on
        earlier = windows[..., WINDOW - SPECTRUM + 1 : WINDOW - half + 1].flip(-1)  # from the middle back; the very first sample weighs 0
        real, imaginary = (later + earlier) @ self.even, (later - earlier) @ self.odd
        return real * real + imaginary * imaginary

    def forward(self, windows: Tensor) -> Tensor:
        """(..., WINDOW) -> natural log of the mean power of each band (..., BANDS)."""
        return (self.power(windows) @ self.mel + FLOOR).log()


class Pitch(nn.Module):
    """Pitch of windows, at half the rate: the mean of neighbours is filter enough for lags of 62 to 420 Hz."""

    forth: Tensor
    back: Tensor
    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.half_hz = RATE_HZ / 2
        self.low, self.high = int(self.half_hz / HIGH_HZ) - 1, int(self.half_hz / LOW_HZ) + 2  # lags, one more on each side
        length, lags = WINDOW // 2, np.arange(self.low, self.high)
        size = length + self.high  # of the transform: nothing wraps around into these lags (Wiener and Khinchin)
        bins = np.arange(size // 2 + 1)
        angle = 2 * np.pi * np.outer(np.arange(length), bins) / size
        weight = np.where((bins == 0) | (2 * bins == size), 1.0, 2.0) / size
        self.register_buffer("forth", torch.tensor(np.concatenate([np.cos(angle), np.sin(angle)], 1), dtype=torch.float32))
        self.register_buffer("back", torch.tensor(weight[:, None] * np.cos(2 * np.pi * np.outer(bins, lags) / size), dtype=torch.float32))
        # At each lag the energy of the samples that have a partner, then of the partners.
        places = np.arange(length)[:, None]
        self.register_buffer("shares", torch.tensor(np.concatenate([places < length - lags, places >= lags], 1), dtype=torch.float32))

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """(..., WINDOW) -> (1 where voiced else 0, natural log of the pitch in Hz or 0): (..., 1) each."""
        halved = (windows[..., 0::2] + windows[..., 1::2]) * 0.5
        halved = halved - halved.mean(-1, keepdim=True)
        spectrum = halved @ self.forth
        real, imaginary = spectrum.chunk(2, -1)
        squares = halved * halved
        first, second = (squares @ self.shares).chunk(2, -1)
        found = ((real * real + imaginary * imaginary) @ self.back) / (first * second + 1e-12).sqrt()
        middle, left, right = found[..., 1:-1], found[..., :-2], found[..., 2:]
        peaks = torch.where((middle >= left) & (middle > right), middle, torch.zeros_like(middle))
        highest = peaks.amax(-1, keepdim=True)
        near = (peaks >= NEAR * highest) & (peaks > 0)
        place = near.to(torch.float32).argmax(-1, keepdim=True)
        at, before, after = (torch.gather(v, -1, place) for v in (middle, left, right))
        bend = torch.clamp(before - 2 * at + after, max=-1e-6)
        shift = ((before - after) / (2 * bend)).clamp(-0.5, 0.5)
        lag = place.to(torch.float32) + (self.low + 1) + shift
        loud = squares.mean(-1, keepdim=True) > QUIET
        voiced = ((highest > VOICED) & loud).to(torch.float32)
        return voiced, voiced * (self.half_hz / lag).log()
