"""The integers of the spiking policy: weights, constants and thresholds of its neurons, in the ranges that Loihi holds.

A unit u = w x + b with K levels is K neurons, o_k = 1[u > (k - 1/2) / K]. With a step s a unit, w ~ s n and whole n, neuron k is

    sum(n x) > theta_k,   theta_k = floor(((k - 1/2) / K - b) / s)

which is exact where w / s is whole: the left side is. Three things keep that inside 8 bits of weight and 13 bits of bias:

- Of codes, theta runs over tens of thousands. CONSTANTS inputs of the greatest code carry, through weights, what the bias cannot.
- Of spikes, the K neurons of a unit fire in order, so only the sum of the first a of their K weights counts. Those sums are
  rounded, round(a w / (K s)), not each weight: the error of a unit is half a step at most, and not K halves.
- The read-out has one step for all its actions, and its weights are sums likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.integer_net import LOIHI

CONSTANTS = 3  # of the 64 units of the Hermite policy 53 keep their trained weights, 49 with 2, and 53 with 4
LARGEST = 127  # of a code less 128, and of a weight to each side
MIDDLE = 12288  # threshold of the first layer: thetas of a unit run from about 0 to 40,000
SIDE = 4000  # how far from that a bias alone may carry theta; Loihi's reaches 4,095
ROOM = LOIHI.current + LOIHI.bias[0]  # of the accumulator, less the bias
COARSER = 1.1  # a step this much coarser than need be may fit the weights better
STEP_GROWTH = 1.002  # between two steps that are tried


@dataclass(frozen=True)
class Neurons:
    """Neuron r fires where weight[r] @ k > theta[r]; int64 (R, inputs) and (R,). Inputs are codes less 128, or spikes."""

    weight: np.ndarray
    theta: np.ndarray


@dataclass(frozen=True)
class Readout:
    """values ~ step * (weight @ spikes + bias); int64 (A, inputs) and (A,)."""

    weight: np.ndarray
    bias: np.ndarray
    step: float


def own_thresholds(levels: int) -> np.ndarray:
    """(k - 1/2) / K of the neurons of a unit, float64 (K,)."""
    return (np.arange(1, levels + 1) - 0.5) / levels


def of_codes(weight: np.ndarray, bias: np.ndarray, levels: int) -> Neurons:
    """The first layer: float64 weight (units, features) of codes / 128 and bias (units,). Its inputs are the features and CONSTANTS."""
    made = [_unit_of_codes(w, b, levels) for w, b in zip(weight * (1 / 128), bias, strict=True)]
    return Neurons(np.concatenate([m.weight for m in made]), np.concatenate([m.theta for m in made]))


def _unit_of_codes(w: np.ndarray, b: float, levels: int) -> Neurons:
    """Of the steps that fit, from the finest on, the one whose weights are nearest to w."""
    step = max(float(np.abs(w).max()), 1e-12) / LARGEST
    best, least, last = None, np.inf, np.inf
    while step <= last:
        n = np.rint(w / step)
        neurons = _with_constants(n, np.floor((own_thresholds(levels) - b) / step))
        if neurons is not None:
            last = min(last, COARSER * step)
            error = float(np.square(step * n - w).sum())
            if error < 0.999 * least:  # an exact step is 0, or nearly
                best, least = neurons, error
            if least < 1e-12 * float(np.square(w).sum()):
                break
        step *= STEP_GROWTH
    assert best is not None
    return best


def _with_constants(n: np.ndarray, theta: np.ndarray) -> Neurons | None:
    """The K neurons of a unit with weights n (features,), their thetas near MIDDLE; None where constants or the current end."""
    lowest, highest = (float(np.minimum(n * -128, n * 127).sum()), float(np.maximum(n * -128, n * 127).sum()))
    theta = np.clip(theta, lowest - 1, highest)  # beyond, a neuron always or never fires
    away = theta - MIDDLE
    carried = -np.sign(away) * np.ceil(np.maximum(0, np.abs(away) - SIDE) / LARGEST)  # sum of the constants' weights
    if np.abs(carried).max() > CONSTANTS * LARGEST or max(-lowest, highest) + 128 * np.abs(carried).max() > ROOM:
        return None
    before = [np.trunc(carried * i / CONSTANTS) for i in range(CONSTANTS + 1)]
    shared = np.stack([b - a for a, b in zip(before[:-1], before[1:], strict=True)], 1)
    weight = np.concatenate([np.tile(n, (len(theta), 1)), shared], 1)
    return Neurons(weight.astype(np.int64), (theta + LARGEST * carried).astype(np.int64))


def of_spikes(weight: np.ndarray, bias: np.ndarray, levels: int) -> Neurons:
    """A later layer: float64 weight (units, units before) of activations 0..1 and bias (units,)."""
    own = own_thresholds(levels)
    below, above = float(bias.max() - own[0]), float(own[-1] - bias.min())  # how far theta reaches, times the step
    low, high = LOIHI.bias
    least = max((below + above) / (high - low - 1), below / high, 1e-12)
    rounding = levels * weight.shape[1] / 2
    step = np.maximum.reduce([_finest(weight, levels), np.full(len(weight), least), np.abs(weight).sum(1) / (ROOM - rounding)])
    theta = np.floor((own[None] - bias[:, None]) / step[:, None]).reshape(-1)
    return Neurons(_in_order(weight / step[:, None], levels).repeat(levels, 0), theta.astype(np.int64))


def readout(weight: np.ndarray, bias: np.ndarray, levels: int) -> Readout:
    """The last layer: float64 weight (actions, units) of activations 0..1 and bias (actions,)."""
    rounding = levels * weight.shape[1] / 2
    by_bias, by_current = np.abs(bias).max() / LOIHI.bias[1], np.abs(weight).sum(1).max() / (ROOM - rounding)
    step = float(max(_finest(weight, levels).max(), by_bias, by_current, 1e-12))
    return Readout(_in_order(weight / step, levels), np.rint(bias / step).astype(np.int64), step)


def _finest(weight: np.ndarray, levels: int) -> np.ndarray:
    """The step at which the largest weight of a row is LARGEST for each of its K neurons."""
    finest: np.ndarray = np.abs(weight).max(1) / (LARGEST * levels)
    return finest


def _in_order(weight: np.ndarray, levels: int) -> np.ndarray:
    """(R, units) in steps -> whole (R, units * K): the first a of the K weights of a unit add up to round(a w / K)."""
    first = np.rint(weight[:, :, None] * np.arange(levels + 1) / levels)
    return np.diff(first, axis=2).reshape(len(weight), -1).astype(np.int64)
