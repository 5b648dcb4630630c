"""Levels of noise and the cosine schedule between a clean picture (level 0) and noise alone (level 1000).

A level l is a float32 number in 0..1000. x_l = a x0 + b eps with a = cos(pi/2 l/1000) and b = sin(pi/2 l/1000), so that
a^2 + b^2 = 1. The network predicts v = a eps - b x0 (Salimans and Ho, "Progressive distillation for fast sampling of
diffusion models", ICLR 2022, appendix D); then x0 = a x - b v and eps = b x + a v, without a division at any level.
All functions take numpy arrays and torch tensors alike and give what they were given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

LEVELS = 1000
QUARTER = math.pi / 2

Array = TypeVar("Array", "np.ndarray", "torch.Tensor")


def signal(level: Array) -> Array:
    """a of a level: exactly 1 at level 0 and exactly 0 at level 1000 (as a sine, for cos(pi/2) is no float's 0)."""
    found: Array = _sine(1 - level / LEVELS)
    return found


def noise(level: Array) -> Array:
    """b of a level: exactly 0 at level 0 and exactly 1 at level 1000."""
    found: Array = _sine(level / LEVELS)
    return found


def noised(x0: Array, eps: Array, levels: Array) -> Array:
    """x_l = a x0 + b eps. x0, eps: (B, ...); levels (B, K): slot k holds the k-th of K equal parts of a picture's channels."""
    found: Array = _mixed(signal(levels), x0, noise(levels), eps)
    return found


def velocity(x0: Array, eps: Array, levels: Array) -> Array:
    """v = a eps - b x0, what the network is trained to predict. Shapes as in noised."""
    found: Array = _mixed(signal(levels), eps, -noise(levels), x0)
    return found


def clean(x: Array, v: Array, levels: Array) -> Array:
    """x0 = a x - b v. Shapes as in noised."""
    found: Array = _mixed(signal(levels), x, -noise(levels), v)
    return found


def added(x: Array, v: Array, levels: Array) -> Array:
    """eps = b x + a v. Shapes as in noised."""
    found: Array = _mixed(noise(levels), x, signal(levels), v)
    return found


def _sine(share: Any) -> Any:
    angle = share * QUARTER
    return angle.sin() if hasattr(angle, "sin") else np.sin(angle)


def _mixed(by: Any, x: Any, other_by: Any, y: Any) -> Any:
    """by x + other_by y, each factor (B, K) over its slot's part of (B, ...)."""
    batch, slots = by.shape
    parts = by[..., None] * x.reshape(batch, slots, -1) + other_by[..., None] * y.reshape(batch, slots, -1)
    return parts.reshape(x.shape)
