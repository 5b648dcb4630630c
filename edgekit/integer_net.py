"""A spiking network in the integers of neuromorphic hardware: how float weights become integers, and the ranges.

With a scale s_c per output channel,  W_c ~ s_c * wq_c  and input k,  sum(W k) * in + b > V  becomes
  sum(wq_c k) > theta_c,   theta_c = floor((V - b_c) / (s_c * in))
which is exact for the rounded weights, since the left side is an integer. Hardware has one threshold a layer, so
theta_c = threshold - bias_c. The read-out has one scale for all its channels, so that its logits compare.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse, current


@dataclass(frozen=True)
class Ranges:
    """The integers that a chip can hold."""

    weight: tuple[int, int]
    bias: tuple[int, int]
    threshold: tuple[int, int]
    current: int  # largest |sum of weights * inputs + bias| before an accumulator wraps or saturates


# Loihi: 8-bit signed weights; 13-bit signed bias mantissa; 17-bit threshold mantissa; v = current << 6 saturates at
# 2^23 - 1 (lava-nc 0.10.0, fixed-point LIF model; Davies et al., IEEE Micro 38(1), 2018).
CUTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the largest weight of a channel
WHOLE = 1e-4  # of a step: what float32 leaves of a whole number up to 128
FEW = 32
SEEN_MARGIN = 1.25  # over the largest current of the samples
BYTE_WEIGHTS = Ranges(weight=(-127, 127), bias=(0, 0), threshold=(0, 0), current=0)  # symmetric: engines want zero point 0
LOIHI = Ranges(weight=(-128, 127), bias=(-4096, 4095), threshold=(0, 131071), current=131071)


def quantise(net: SpikingNet, ranges: Ranges = LOIHI, samples: np.ndarray | None = None) -> SpikingNet:
    """An integer network that fits `ranges`, from a float one.

    Per channel, the scale is the smallest that keeps weights, the distance of theta_c from the layer's threshold, and
    the largest possible current inside the ranges; weights that are whole multiples of one step keep it where it fits.
    With samples (images, as simulate takes them) each layer in turn gets the form that flips the fewest of its spikes:
    its largest weights cut or not, and thetas that no sample's current comes near moved into the range of the biases.
    Raises EdgekitError, naming the layer, when nothing fits.
    """
    populations = []
    chosen = _Chosen(net, samples) if samples is not None else None
    for p in net.populations:
        in_scale = _input_unit(net, p)
        if p.spiking:
            ways = [_spiking(net, p, ranges, in_scale), *(chosen.ways(net, p, ranges, in_scale) if chosen else ())]
            populations.append((chosen.best(ways) if chosen else ways[0], 1.0))
        else:
            populations.append(_readout(net, p, ranges, in_scale))
    scale = populations[-1][1]
    quantised = dataclasses.replace(net, populations=tuple(p for p, _ in populations), readout_scale=scale)
    check_ranges(quantised, ranges)
    return quantised


def quantise_per_channel(net: SpikingNet) -> SpikingNet:
    """An integer network for engines with an int32 bias a channel: 8-bit weights scaled by channel, all thresholds 0.

    wq_c = round(W_c / s_c), s_c = max|W_c| / 127 (or the step of weights that are whole multiples of one already),
    bias_c = -floor((V - b_c) / (s_c * in)); the read-out has one scale.
    Raises EdgekitError, naming the layer, when a sum could reach 2^24, where float32 is no longer exact on integers.
    """
    populations = []
    readout_scale = 1.0
    for p in net.populations:
        scale, in_scale, readout_scale = byte_scale(net, p)  # the read-out comes last
        if p.threshold is None:
            bias = np.rint(p.bias.astype(np.float64) / (scale * in_scale))
        else:
            bias = -np.floor((float(p.threshold) - p.bias.astype(np.float64)) / (scale * in_scale))
        synapses = tuple(rounded(s, scale, BYTE_WEIGHTS) for s in p.synapses)
        whole = dataclasses.replace(p, synapses=synapses, threshold=None if p.threshold is None else 0)
        reach = largest_current(net, whole)
        if p.threshold is not None:  # beyond the largest current the neuron always or never fires: nothing changes there
            bias = np.clip(bias, -reach - 1, reach + 1)
        if (reach + np.abs(bias)).max() >= 1 << 24:
            raise EdgekitError(f"layer '{p.name}': its current can reach {int((reach + np.abs(bias)).max())}, float32 is exact below 2^24")
        populations.append(dataclasses.replace(whole, bias=bias.astype(np.int32)))
    made = dataclasses.replace(net, populations=tuple(populations), readout_scale=readout_scale)
    made.check()
    return made


def byte_scale(net: SpikingNet, p: Population) -> tuple[np.ndarray, float, float]:
    """(the unit of each output channel's 8-bit weights (C,), the unit of the input that they meet, the read-out's new readout_scale).
    The units of the read-out are all one, and its readout_scale is a power of two: engines fold that factor into weights or
    sums, and only so is every order of that exact. Raises EdgekitError where a layer sees both the input and spikes."""
    in_scale = _input_unit(net, p)
    rows = np.concatenate([s.weight.astype(np.float64).reshape(len(s.weight), -1) for s in p.synapses], axis=1)
    step = whole_step(rows, 127)
    scale = np.where(step > 0, step, np.abs(rows).max(1) / 127)
    scale[scale == 0] = 1.0  # a channel without weights: any scale will do
    readout_scale = net.readout_scale
    if p.threshold is None:
        readout_scale = float(2.0 ** np.ceil(np.log2(scale.max() * in_scale * net.readout_scale)))
        scale[:] = readout_scale / (in_scale * net.readout_scale)
    return scale, in_scale, readout_scale


def _input_unit(net: SpikingNet, p: Population) -> float:
    in_scale = net.input_scale if any(s.source == INPUT for s in p.synapses) else 1.0
    if in_scale != 1.0 and any(s.source != INPUT for s in p.synapses):
        raise EdgekitError(f"layer '{p.name}' mixes the input with spikes: their integer scales differ; give the input a layer of its own")
    return in_scale


def largest_current(net: SpikingNet, p: Population) -> np.ndarray:
    """Per channel, the largest |sum of weights * inputs| that any input can cause, without the bias; float64 (C,)."""
    lowest = highest = np.zeros(p.shape[0])
    for s in p.synapses:
        low, high = net.input_range if s.source == INPUT else (0, 1)
        w = s.weight.astype(np.float64).reshape(len(s.weight), -1)
        window = s.pool[0] * s.pool[1]
        up, down = np.maximum(w, 0).sum(1) * window, np.minimum(w, 0).sum(1) * window
        lowest, highest = lowest + up * min(low, 0) + down * high, highest + up * high + down * min(low, 0)
    return np.maximum(np.abs(lowest), np.abs(highest))


def check_ranges(net: SpikingNet, ranges: Ranges = LOIHI) -> None:
    """Raise EdgekitError, naming layer and figure, unless every integer of `net` fits `ranges`."""
    net.check()
    if not net.integer:
        raise EdgekitError("this network has float weights; quantise it first: `edgekit calibrate BUNDLE --method loihi`")
    for p in net.populations:
        figures = [("bias", p.bias, ranges.bias)]
        figures += [(f"weight from '{s.source}'", s.weight, ranges.weight) for s in p.synapses]
        if p.threshold is not None:
            figures.append(("threshold", np.array(p.threshold), ranges.threshold))
        for what, values, (low, high) in figures:
            if values.min() < low or values.max() > high:
                raise EdgekitError(
                    f"layer '{p.name}': {what} runs from {values.min()} to {values.max()}, the hardware holds {low}..{high}"
                )
        worst = int((largest_current(net, p) + np.abs(p.bias)).max())
        if worst > ranges.current:
            raise EdgekitError(f"layer '{p.name}': its current can reach {worst}, the accumulator holds {ranges.current}")


class _Chosen:
    """Layer by layer, the integer form whose spikes are nearest to the float network's, on samples."""

    def __init__(self, net: SpikingNet, samples: np.ndarray) -> None:
        self._float = {INPUT: (samples.astype(np.float64) - net.input_offset) * net.input_scale}
        self._integer = {INPUT: samples.astype(np.float64) - net.input_offset}
        for p in net.populations:
            if p.spiking:
                self._float[p.name] = (current(p, self._float) > p.threshold).astype(np.float64)

    def ways(self, net: SpikingNet, p: Population, ranges: Ranges, in_scale: float) -> list[Population]:
        """Forms by the largest current seen, with the largest weights cut by a share of CUTS."""
        without = dataclasses.replace(p, bias=np.zeros_like(p.bias))
        axes = (0, *range(2, 1 + len(p.shape)))
        seen = np.abs(current(without, self._float)).max(axis=axes) * SEEN_MARGIN / in_scale
        return [_spiking(net, p, ranges, in_scale, seen, cut) for cut in CUTS]

    def best(self, ways: list[Population]) -> Population:
        """The way with the fewest flips, the first of equals; its spikes are what the next layers see."""
        spikes = [(current(w, self._integer) > w.threshold).astype(np.float64) for w in ways]
        name = ways[0].name
        flips = [int((s != self._float[name]).sum()) for s in spikes]
        i = int(np.argmin(flips))
        self._integer[name] = spikes[i]
        return ways[i]


def _spiking(
    net: SpikingNet, p: Population, ranges: Ranges, in_scale: float, seen: np.ndarray | None = None, cut: float = 1.0
) -> Population:
    """seen: per channel, the largest |current without bias| to reckon with, in units of the input; cut: share of the largest
    weight above which weights are cut."""
    assert p.threshold is not None
    margin = (float(p.threshold) - p.bias.astype(np.float64)) / in_scale  # theta_c = margin / s_c
    finest = _finest_scale(net, p, ranges, cut=cut)
    # Beyond the largest current the neuron always or never fires: theta may be cut there without any change.
    # Rounded weights may reach half a unit an input further.
    reach = largest_current(net, p) / finest + _inputs(net, p) / 2 + 1
    if seen is not None:
        reach = np.minimum(reach, seen / finest + 1)
    theta = np.clip(margin / finest, -reach, reach)
    # The threshold sits half a bias range above the lowest theta, but not below 0; a channel whose theta lies beyond an
    # end of the range gets a coarser scale, which brings its theta nearer to 0.
    low, high = ranges.bias
    threshold = int(np.clip(np.floor(theta.min()) + high, *ranges.threshold))
    above, below = theta / (threshold - low), theta / min(threshold - high, -1)
    # 1e-9: a theta scaled onto an end of the range must not be rounded beyond it.
    coarser = np.maximum.reduce([np.ones_like(theta), above * (1 + 1e-9), below * (1 + 1e-9)])
    theta = np.floor(theta / coarser)
    synapses = tuple(rounded(s, finest * coarser, ranges) for s in p.synapses)
    # Rounded weights may exceed the scaled bound by half a unit each; nothing else moves. check_ranges has the last word.
    return Population(p.name, p.shape, synapses, (threshold - theta).astype(np.int32), threshold)


def _readout(net: SpikingNet, p: Population, ranges: Ranges, in_scale: float) -> tuple[Population, float]:
    bias = p.bias.astype(np.float64) / in_scale
    by_bias = np.abs(bias).max() / min(-ranges.bias[0], ranges.bias[1])
    scale = np.full(p.shape[0], max(_finest_scale(net, p, ranges, np.abs(bias)).max(), by_bias))
    synapses = tuple(rounded(s, scale, ranges) for s in p.synapses)
    whole = np.rint(bias / scale).astype(np.int32)
    return Population(p.name, p.shape, synapses, whole, None), float(scale[0] * in_scale * net.readout_scale)


def _finest_scale(
    net: SpikingNet, p: Population, ranges: Ranges, bias: np.ndarray | float = 0.0, cut: float = 1.0
) -> np.ndarray:
    flat = [s.weight.astype(np.float64).reshape(len(s.weight), -1) for s in p.synapses]
    highest = cut * np.max([w.max(1) for w in flat], axis=0) / ranges.weight[1]
    lowest = cut * np.max([-w.min(1) for w in flat], axis=0) / -ranges.weight[0]
    room = ranges.current + ranges.bias[0]  # the bias needs its share of the accumulator
    largest = largest_current(net, p) + bias
    scale: np.ndarray = np.maximum.reduce([highest, lowest, largest / max(room - _inputs(net, p) / 2, room / 2)])
    # Weights that are whole already are not rounded: they stay as they are where they fit, with no room for rounding.
    step = whole_step(np.concatenate(flat, 1), -ranges.weight[0])
    scale = np.where(step >= np.maximum.reduce([highest, lowest, largest / room]) * (1 - WHOLE), step, scale)
    scale[scale == 0] = 1.0  # a channel without weights: any scale will do
    return scale


def whole_step(rows: np.ndarray, most: int) -> np.ndarray:
    """Per row of (R, n), the largest step of which every value is a whole multiple, up to `most`, within WHOLE; 0 where there is none."""
    largest, found = np.abs(rows).max(1), np.zeros(len(rows))
    for multiple in range(most, 0, -1):  # so that the largest step stays
        step = largest / multiple
        open_rows = np.flatnonzero(largest > 0)
        for part in (rows[:, :FEW], rows):  # a few values rule out nearly every row
            inside = part[open_rows] / step[open_rows, None]
            open_rows = open_rows[(np.abs(inside - np.rint(inside)) <= WHOLE).all(1)]
        found[open_rows] = step[open_rows]
    return found


def _inputs(net: SpikingNet, p: Population) -> int:
    """The sum of the largest input values of one neuron: how far rounding each weight by one unit can move its current."""
    total = 0
    for s in p.synapses:
        largest = max(map(abs, net.input_range)) if s.source == INPUT else 1
        total += s.weight[0].size * largest * s.pool[0] * s.pool[1]
    return total


def rounded(s: Synapse, scale: np.ndarray, ranges: Ranges) -> Synapse:
    """The synapse with whole weights, scale (C,) of each output channel, cut to the range."""
    w = np.rint(s.weight.astype(np.float64) / scale.reshape(-1, *[1] * (s.weight.ndim - 1)))
    return dataclasses.replace(s, weight=np.clip(w, *ranges.weight).astype(np.int8))
