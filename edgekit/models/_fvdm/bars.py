"""What films are held against that nothing learned, or little: errors as shares of that of copying the last known frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.models._fvdm.clips import FRAMES, Clips

RIDGES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # of the linear map, times the number of clips / 1000; chosen on validation clips
AT_ONCE = 500  # clips


def error(films: np.ndarray, real: np.ndarray, known: Sequence[int]) -> float:
    """Mean squared error of the frames that are not known; films float32 (N, frames, C, H, W)."""
    rest = [f for f in range(FRAMES) if f not in known]
    return float(np.square(films[:, rest].astype(np.float64) - real[:, rest]).mean())


def frame_errors(films: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean squared error of each frame: float64 (frames,)."""
    found: np.ndarray = np.square(films.astype(np.float64) - real).mean((0, 2, 3, 4))
    return found


def copied(films: np.ndarray, last: int) -> np.ndarray:
    """Every frame as the frame `last`."""
    return np.repeat(films[:, last : last + 1], FRAMES, 1)


def blended(films: np.ndarray) -> np.ndarray:
    """Each frame as the weighted mean of the first and the last."""
    share = np.linspace(0, 1, FRAMES, dtype=np.float32)[:, None, None, None]
    found: np.ndarray = films[:, :1] * (1 - share) + films[:, -1:] * share
    return found


def bars(train: Clips, validation: Clips, real: np.ndarray, known: Sequence[int]) -> dict[str, float]:
    """Errors where frames `known` are given: of the mean training film, of another clip, of the training clip that is nearest in the known
    frames, and of a linear map from them. real: float32 (N, frames, C, H, W)."""
    learned = train.pixels()
    mean = np.broadcast_to(learned.mean(0), real.shape)
    return {
        "mean film": error(mean, real, known), "another clip": error(np.roll(real, 1, 0), real, known),
        "nearest training clip": error(_nearest(learned, real, known), real, known),
        "linear map": error(_linear(learned, validation.pixels(), real, known), real, known),
    }  # fmt: skip


def _nearest(learned: np.ndarray, real: np.ndarray, known: Sequence[int]) -> np.ndarray:
    flat = _flat(learned, known)
    squares = np.square(flat).sum(1)
    rows = [(squares - 2 * piece @ flat.T).argmin(1) for piece in np.array_split(_flat(real, known), -(-len(real) // AT_ONCE))]
    found: np.ndarray = learned[np.concatenate(rows)]
    return found


def _linear(learned: np.ndarray, validation: np.ndarray, real: np.ndarray, known: Sequence[int]) -> np.ndarray:
    """Ridge regression from the known frames to all."""
    mean = learned.mean(0)
    inside = _flat(learned - mean, known).astype(np.float64)
    squares, products = inside.T @ inside, inside.T @ (learned - mean).reshape(len(learned), -1)
    maps = [np.linalg.solve(squares + r * len(learned) / 1000 * np.eye(len(squares)), products) for r in RIDGES]

    def answered(by: np.ndarray, films: np.ndarray) -> np.ndarray:
        found: np.ndarray = (_flat(films - mean, known) @ by).reshape(films.shape) + mean
        return found

    best = min(maps, key=lambda by: error(answered(by, validation), validation, known))
    return answered(best, real)


def _flat(films: np.ndarray, known: Sequence[int]) -> np.ndarray:
    return films[:, list(known)].reshape(len(films), -1)


def energy(films: np.ndarray) -> float:
    """Mean absolute difference of neighbouring frames: how much moves."""
    return float(np.abs(np.diff(films.astype(np.float64), axis=1)).mean())


def share(errors: Mapping[str, float], of: float) -> dict[str, float]:
    """Errors as shares of another."""
    return {name: e / of for name, e in errors.items()}
