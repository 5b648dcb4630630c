"""Which numbers of a code a decoder sees at a level: an expanding set, fine groups at every level, coarse ones where noise has hidden more.

The paper (Yue et al., "Exploring diffusion time-steps for unsupervised representation learning", ICLR 2024) cuts its time 0..1000 evenly
into as many parts as there are groups. Its pictures are 64 pixels wide and its schedule is linear; a boundary is taken here to the level
at which noise hides as much of a picture of another width: the same ratio of signal to noise after means over equal shares of the picture.
"""

from __future__ import annotations

import math

import numpy as np

from edgekit.models._diffusion.schedule import LEVELS

PAPER_SIZE = 64  # pixels
FIRST_BETA, LAST_BETA = 1e-4, 0.02  # of the paper's linear schedule of a thousand times


def level_of(time: int, size: int) -> float:
    """Our level for a time 0..1000 of the paper, in pictures of `size` pixels."""
    kept = float(np.prod(1 - np.linspace(FIRST_BETA, LAST_BETA, LEVELS)[:time]))
    return LEVELS * 2 / math.pi * math.atan2(math.sqrt(1 - kept) * size / PAPER_SIZE, math.sqrt(kept))


def boundaries(groups: int, size: int) -> np.ndarray:
    """The upper level of each group, float64 (groups,), rising, the last one LEVELS."""
    inner = [level_of(round(LEVELS * (i + 1) / groups), size) for i in range(groups - 1)]
    return np.array([*inner, LEVELS], np.float64)


def group_of(levels: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The group that is added at each level, int64: the first whose upper level is not below it."""
    found: np.ndarray = np.searchsorted(bounds, levels, side="left").clip(max=len(bounds) - 1)
    return found


def owner(widths: tuple[int, ...]) -> np.ndarray:
    """The group of each number of a code, int64 (dims,)."""
    return np.repeat(np.arange(len(widths)), widths)


def seen(widths: tuple[int, ...]) -> np.ndarray:
    """Row g: which numbers a decoder sees where group g is added, those of groups 0..g; float32 (groups, dims) of 0 and 1."""
    return (owner(widths)[None] <= np.arange(len(widths))[:, None]).astype(np.float32)


def added(widths: tuple[int, ...]) -> np.ndarray:
    """Row g: the numbers of group g alone; float32 (groups, dims) of 0 and 1."""
    own: np.ndarray = (owner(widths)[None] == np.arange(len(widths))[:, None]).astype(np.float32)
    return own
