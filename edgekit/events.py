"""Event-camera digits (N-MNIST) as frames: how many events each pixel saw in each time bin, by polarity."""

from __future__ import annotations

import zipfile

import numpy as np

from edgekit import data
from edgekit.errors import Broken, EdgekitError

SIDE = 34  # pixels; N-MNIST's sensor is cropped to 34 x 34
MOST_EVENTS = 15  # a bin's count is clipped here: hot pixels would dominate, and 4 bits hold it


def load_frames(split: str, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, bins, 2, 34, 34) event counts and int64 (N,) labels of `train` or `test`.

    Each sample is cut into bins of equal length between its first and last event (three saccades, about 300 ms).
    Raises EdgekitError when the data is not on this machine, Broken for a damaged file.
    """
    path = data.require("nmnist_small") / f"{split}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            x, y, dt, offsets, labels = (packed[n] for n in ("x", "y", "dt", "offsets", "labels"))
            p = np.unpackbits(packed["p"])[: int(offsets[-1])]  # packed over the whole array, not sample by sample
    except FileNotFoundError:
        raise EdgekitError(f"there is no {path}; put the packed N-MNIST files (train.npz, test.npz) there") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise Broken(f"{path} is no archive of events ({error}); get it again") from None
    events = int(offsets[-1])
    if not len(x) == len(y) == len(dt) == len(p) == events or len(labels) + 1 != len(offsets) or (np.diff(offsets) < 1).any():
        raise Broken(f"{path}: its arrays disagree about the number of events; get it again")
    if x.max() >= SIDE or y.max() >= SIDE or labels.min() < 0 or labels.max() > 9:
        raise Broken(f"{path} holds events outside {SIDE}x{SIDE} pixels or labels outside 0..9; get it again")
    frames = np.empty((len(labels), bins, 2, SIDE, SIDE), np.uint8)
    for i, (a, b) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        t_us = np.cumsum(dt[a:b].astype(np.int64))
        frames[i] = bin_events(t_us, x[a:b], y[a:b], p[a:b], bins)
    return frames, labels.astype(np.int64)


def bin_events(t_us: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, bins: int) -> np.ndarray:
    """uint8 (bins, 2, 34, 34) from one sample's events, in order of time; polarity is the channel."""
    since = t_us - t_us[0]
    place = np.minimum(since * bins // (since[-1] + 1), bins - 1)
    counts = np.zeros((bins, 2, SIDE, SIDE), np.int64)
    np.add.at(counts, (place, p.astype(np.int64), y.astype(np.int64), x.astype(np.int64)), 1)
    frames: np.ndarray = np.minimum(counts, MOST_EVENTS).astype(np.uint8)
    return frames


def rebinned(frames: np.ndarray, bins: int) -> np.ndarray:
    """Fewer bins over the same time: neighbours added. EdgekitError unless `bins` divides the bins that there are."""
    n, there = frames.shape[:2]
    if there % bins:
        raise EdgekitError(f"{there} time bins cannot be gathered into {bins}; let each T of the schedule divide the first")
    summed = frames.reshape(n, bins, there // bins, *frames.shape[2:]).sum(2, dtype=np.int64)
    fewer: np.ndarray = np.minimum(summed, 255).astype(np.uint8)
    return fewer

