"""The ways up and down as tables, a row a network call; what the numbers of a row do is in step.py.

Levels lie evenly from 0 to 1000. With a = cos(angle), b = sin(angle) DDIM's step from one level to another is a turn,
x' = cos(d) x + sin(d) v with d the difference of their angles: it divides by nothing, and upwards it is the same with the other sign
(Song et al., ICLR 2021, eq. 14, for v-prediction).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgekit.models._diffusion.schedule import LEVELS

COLUMNS = ("cos", "sin", "guidance", "keep_source", "keep_target", "follow")  # of a row of `coefficients`
SOURCE_ALONE = -1  # a place in time that comes before every switch

Rows = Mapping[str, np.ndarray]  # level float32 (S, 1), coefficients float32 (S, 6), places int64 (S, 2): of the bank, in time


def down(steps: int, guidance: float, keep_target: float = 0.0, keep_source: float = 1.0) -> Rows:
    """From noise to the picture: in step i row i of the bank is added, and the target's text is given from the switch on."""
    times = np.arange(steps)
    return _rows(steps, times[::-1] + 1, -1, (guidance, keep_source, keep_target, 0.0), np.stack([times, times], 1))


def restored(steps: int, guidance: float) -> Rows:
    """As down, with the source's text throughout."""
    times = np.arange(steps)
    return _rows(steps, times[::-1] + 1, -1, (guidance, 1.0, 1.0, 0.0), _alone(times))


def up(steps: int) -> Rows:
    """From the picture to noise, without guidance; nothing is added."""
    return _rows(steps, np.arange(steps), 1, (1.0, 0.0, 0.0, 0.0), _alone(np.zeros(steps)))


def following(steps: int, guidance: float) -> Rows:
    """From noise to the picture along the bank's rows, the last one first: what is missing in each step is noted."""
    return _rows(steps, np.arange(steps)[::-1] + 1, -1, (guidance, 0.0, 0.0, 1.0), _alone(np.arange(steps)[::-1]))


def _rows(steps: int, at: np.ndarray, way: int, others: tuple[float, ...], places: np.ndarray) -> Rows:
    turn = way * math.pi / 2 / steps
    row = np.array([math.cos(turn), math.sin(turn), *others], np.float32)
    levels = (at * (LEVELS / steps)).astype(np.float32)[:, None]
    return {"level": levels, "coefficients": np.tile(row, (steps, 1)), "places": places.astype(np.int64)}


def _alone(places: np.ndarray) -> np.ndarray:
    return np.stack([places, np.full(len(places), SOURCE_ALONE)], 1)
