"""Clips as frames to learn from: magnitudes once, from which the bands of any pseudo-speaker follow; pitch, phones, and where clips begin."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from edgekit.errors import EdgekitError
from edgekit.models._voice.codec import pitch_token
from edgekit.models._voice.corpora import Clip
from edgekit.models._voice.spectra import FLOOR, HOP, RATE_HZ, Pitch, Spectrum, mel_matrix, windows

NO_PHONE = -1  # of frames whose phone nobody knows


@dataclass(frozen=True)
class Frames:
    """The frames of clips, one after the other."""

    clips: tuple[Clip, ...]
    starts: np.ndarray  # int64 (clips + 1,): clip i has the frames starts[i] to starts[i + 1]
    magnitude: np.ndarray  # float16 (frames, SIZE/2 + 1), of the spectrum
    voiced: np.ndarray  # float32 (frames,), 1 or 0
    log_hz: np.ndarray  # float32 (frames,), natural log of the pitch, 0 where unvoiced
    phones: np.ndarray  # int64 (frames,), NO_PHONE where not known

    @property
    def tokens(self) -> np.ndarray:
        """The pitch token of each frame: int64 (frames,)."""
        return pitch_token(torch.from_numpy(self.voiced), torch.from_numpy(self.log_hz)).numpy()

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each clip: int64 (clips,)."""
        return np.diff(self.starts)

    @property
    def made(self) -> np.ndarray:
        """Which clips are made speech, whose phones are known: bool (clips,)."""
        found: np.ndarray = np.maximum.reduceat(self.phones, self.starts[:-1]) != NO_PHONE
        return found

    @property
    def sha256(self) -> str:
        """Of all that is learned from."""
        arrays = (self.starts, self.magnitude, self.voiced, self.log_hz, self.phones)
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()

    def bands(self, rows: np.ndarray | slice, warp: float = 1.0) -> np.ndarray:
        """Log-mel bands float32 (rows, BANDS) of frames whose formants are moved by `warp`."""
        magnitude = self.magnitude[rows].astype(np.float32)
        found: np.ndarray = np.log(magnitude * magnitude @ warped(warp) + np.float32(FLOOR))
        return found


@lru_cache(maxsize=64)
def warped(warp: float) -> np.ndarray:
    """mel_matrix(warp) as float32."""
    return mel_matrix(warp).astype(np.float32)


def frames_of(clips: Sequence[Clip]) -> Frames:
    """Measure clips. Each is filled to whole frames with zeros, as a stream that ends is."""
    if not clips:
        raise EdgekitError("there is no clip to learn from; name data that this machine has")
    spectrum, pitch = Spectrum(), Pitch()
    found: list[list[np.ndarray]] = []
    for clip in clips:
        count = -(-len(clip.samples) // HOP)
        padded = np.zeros((1, count * HOP), np.float32)
        padded[0, : len(clip.samples)] = clip.samples
        with torch.no_grad():
            seen = windows(torch.from_numpy(padded))
            voiced, log_hz = pitch(seen)
            magnitude = spectrum.power(seen)[0].sqrt().to(torch.float16)
        phones = np.full(count, NO_PHONE, np.int64)
        if clip.phones is not None:
            there = min(count, len(clip.phones))
            phones[:there] = clip.phones[:there]
        found.append([magnitude.numpy(), voiced[0, :, 0].numpy(), log_hz[0, :, 0].numpy(), phones])
    starts = np.concatenate([[0], np.cumsum([len(f[1]) for f in found])]).astype(np.int64)
    return Frames(tuple(clips), starts, *(np.concatenate([f[i] for f in found]) for i in range(4)))


@dataclass(frozen=True)
class Crops:
    """Where pieces of equal length lie: int64 (N,) first frames."""

    first: np.ndarray
    length: int

    @property
    def rows(self) -> np.ndarray:
        """int64 (N, length)."""
        return self.first[:, None] + np.arange(self.length)


def crops(frames: Frames, which: np.ndarray, count: int, length: int, rng: np.random.Generator) -> Crops:
    """`count` pieces of the clips `which` (int64), each clip as likely as it has room; EdgekitError where none is long enough."""
    room = np.maximum(frames.lengths[which] - length + 1, 0).astype(np.float64)
    if not room.sum():
        raise EdgekitError(f"no clip has {length} frames ({length * HOP / RATE_HZ:.2f} s); give longer recordings")
    chosen = which[rng.choice(len(which), count, p=room / room.sum())]
    first = frames.starts[chosen] + (rng.random(count) * (frames.lengths[chosen] - length + 1)).astype(np.int64)
    return Crops(first, length)


def halves(frames: Frames, which: np.ndarray, count: int, length: int, rng: np.random.Generator) -> Crops:
    """The same, half of them of made speech and then half of recorded, so that minutes of either do not outweigh the other; where there
    is only one, all of it."""
    groups = [g for g in (which[frames.made[which]], which[~frames.made[which]]) if len(g)]
    counts = [count - count // 2, count // 2] if len(groups) == 2 else [count]
    return Crops(np.concatenate([crops(frames, g, n, length, rng).first for g, n in zip(groups, counts, strict=True)]), length)
