"""How a sound differs from another, and what a stream that is cut into frames can do to it: clicks, offset, clipping."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgekit.models._voice.corpora import HOP
from edgekit.models._voice.mel import htk_edges_hz, power_frames, triangles

BANDS, WINDOW, SIZE = 64, 640, 1024  # of the distance: 40 ms windows, 20 ms apart
FLOOR = 1e-7  # of a band's mean power, where white noise of variance 1 has 1: what is below -70 dB is alike
CLIPPED = 0.999


def log_mel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean |ln A - ln B| over 64 mel bands and all frames, in nats; of float32 (n,) at 16 kHz, the longer one is cut.

    Bands are triangles of unit sum on the HTK scale; windows are 40 ms (Hann), 20 ms apart, each ending with its frame.
    """
    count = min(len(a), len(b))
    bands = triangles(htk_edges_hz(BANDS), SIZE)
    bands /= bands.sum(0)
    scale = np.sum(np.hanning(WINDOW + 1)[:-1] ** 2)
    first, second = (np.log(power_frames(s[:count], WINDOW, HOP, SIZE, centred=False) @ bands / scale + FLOOR) for s in (a, b))
    return float(np.abs(first - second).mean())


def border_click(samples: np.ndarray, borders: Iterable[int]) -> float:
    """How much rougher a sound is at the borders of its pieces than elsewhere; about 1 or less where nothing is heard.

    The largest |second difference| within two samples of a border (an index of the first sample of a piece), over the quantile of
    those away from borders that as many samples would reach by chance: 1 - 1 / samples looked at.
    """
    bend = np.abs(np.diff(np.asarray(samples, np.float64), 2))  # bend[i] is about samples i, i + 1, i + 2
    near = np.zeros(len(bend), bool)
    for border in borders:
        near[max(0, border - 3) : max(0, border + 2)] = True  # all that reach from two samples before to two after
    if not near.any() or near.all():
        raise ValueError("the borders must lie inside the sound, and leave some of it away from them")
    usual = float(np.quantile(bend[~near], 1 - 1 / near.sum()))
    return float(bend[near].max()) / max(usual, 1e-9)


def dc_offset(samples: np.ndarray) -> float:
    """The mean, over the root mean square: 0 for sound around zero, 1 for a constant; 0 for silence."""
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return abs(float(np.mean(samples, dtype=np.float64))) / level if level > 0 else 0.0


def clipped_share(samples: np.ndarray) -> float:
    """The share of samples at or beyond 0.999 of full scale."""
    return float(np.mean(np.abs(samples) >= CLIPPED))
