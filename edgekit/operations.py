"""Exact operation counts of a network, spiking or not: what has to be computed, as integers, before any price.

Conventions, the same for both kinds of network: a weight counts when it meets a value, whether or not the weight is
zero; weights that would meet padding do not count; neither do biases and poolings. An event in a pooled window has
the fan-out of its pooled cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse, current, sum_pool, synapse_shape


@dataclass(frozen=True)
class Access:
    """Reads and writes of words in one buffer, over all samples and timesteps. `words` is the buffer's capacity."""

    buffer: str  # "input", "output": values; "spikes in", "spikes out": addresses; "weights", "biases", "potentials"
    count: int
    words: int
    analog: bool = False  # belongs to the multiplications with analog inputs, and is saved with them


@dataclass(frozen=True)
class LayerCounts:
    """One population. All but `neurons` and `parameters` are summed over samples and timesteps."""

    name: str
    neurons: int  # of one sample
    spikes: int  # that this layer sends
    macs: int  # multiplications with analog inputs
    acs: int  # accumulations caused by spikes: sum over incoming spikes of their fan-out
    dense_macs: int  # what a non-spiking network of this shape does: once a sample
    parameters: int  # weights and biases
    conv_acs: int = 0  # how many of `acs` come through convolutions: some chips price them differently
    driven: int = 0  # neuron updates with at least one incoming event; exact at one step, else an upper bound
    messages: int = 0  # spikes, each as often as there are populations that listen to it
    accesses: tuple[Access, ...] = ()


@dataclass(frozen=True)
class OperationCounts:
    """All layers, in the network's order; totals as properties."""

    samples: int
    steps: int
    layers: tuple[LayerCounts, ...]
    kind: Literal["snn", "ann"] = "snn"
    analog_repeats: int = 1  # how often a sample's analog layer is computed: once, or at every step

    @property
    def neurons(self) -> int:
        """Neurons of the network."""
        return sum(x.neurons for x in self.layers)

    @property
    def neuron_updates(self) -> int:
        """Neurons x steps x samples; the read-out's neurons are updated like all others."""
        return self.neurons * self.steps * self.samples

    @property
    def spikes(self) -> int:
        """Spikes sent by all layers."""
        return sum(x.spikes for x in self.layers)

    @property
    def macs(self) -> int:
        """Multiplications with analog inputs."""
        return sum(x.macs for x in self.layers)

    @property
    def acs(self) -> int:
        """Accumulations caused by spikes (synaptic operations)."""
        return sum(x.acs for x in self.layers)

    @property
    def dense_macs(self) -> int:
        """Multiplications of a non-spiking network of the same shape."""
        return sum(x.dense_macs for x in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(x.parameters for x in self.layers)

    def totals(self) -> dict[str, int]:
        """All totals by name, for tables and JSON."""
        names = ("samples", "steps", "neurons", "neuron_updates", "spikes", "macs", "acs", "dense_macs", "parameters")
        return {name: int(getattr(self, name)) for name in names}


def count(
    net: SpikingNet, spikes: Mapping[str, np.ndarray], *, steps: int = 1, first_layer_every_step: bool = False
) -> OperationCounts:
    """Count what `net` did. spikes: integers (N, *shape) per spiking population, summed over the steps.

    The current of the analog input does not change from step to step, so it is counted once a sample, unless
    `first_layer_every_step`. Raises EdgekitError when `spikes` does not fit the network.
    """
    samples = _check(net, spikes, steps)
    repeats = steps if first_layer_every_step else 1
    listeners = {p.name: sum(any(s.source == p.name for s in q.synapses) for q in net.populations) for p in net.populations}
    layers = tuple(_layer(net, p, spikes, samples, steps, repeats, listeners[p.name]) for p in net.populations)
    return OperationCounts(samples, steps, layers, "snn", repeats)


def count_ann(net: SpikingNet, samples: int) -> OperationCounts:
    """Count what a non-spiking network of the same shape does for `samples` inputs: every neuron sends a real value."""
    if samples < 1:
        raise EdgekitError(f"operations are counted over at least one sample, but {samples} were asked for")
    layers = []
    for p in net.populations:
        macs = samples * sum(dense_macs(s, net.shape_of(s.source)) for s in p.synapses)
        neurons = math.prod(p.shape)
        accesses = [a for s in p.synapses for a in _analog_accesses(net, s, samples)]
        accesses += [Access("biases", samples * neurons, p.bias.size), Access("output", samples * neurons, neurons)]
        layers.append(LayerCounts(p.name, neurons, 0, macs, 0, macs, parameters(p), accesses=tuple(accesses)))
    return OperationCounts(samples, 1, tuple(layers), "ann")


def fan_out(s: Synapse, source: tuple[int, ...]) -> np.ndarray:
    """How many weights an event at each element of the source meets: int64, of the source's shape."""
    cells = _cell_fan_out(s, source)
    if s.pool == (1, 1):
        return cells.reshape(source)
    spread = cells.repeat(s.pool[0], axis=1).repeat(s.pool[1], axis=2)
    full = np.zeros(source, np.int64)  # a last odd row or column is dropped by the pooling: it meets no weight
    full[:, : spread.shape[1], : spread.shape[2]] = spread
    return full


def dense_macs(s: Synapse, source: tuple[int, ...]) -> int:
    """Multiplications of a synapse when every (pooled) source value is multiplied: one sample."""
    return int(_cell_fan_out(s, source).sum())


def parameters(p: Population) -> int:
    """Weights and biases of a population."""
    return int(p.bias.size) + sum(int(s.weight.size) for s in p.synapses)


def _layer(
    net: SpikingNet, p: Population, spikes: Mapping[str, np.ndarray], samples: int, steps: int, repeats: int, listeners: int
) -> LayerCounts:
    analog = [s for s in p.synapses if s.source == INPUT]
    spiking = [s for s in p.synapses if s.source != INPUT]
    neurons = math.prod(p.shape)
    updates = neurons * samples * steps
    macs = samples * repeats * sum(dense_macs(s, net.shape_of(INPUT)) for s in analog)
    acs = {id(s): _dot(spikes[s.source], fan_out(s, net.shape_of(s.source))) for s in spiking}
    sent = int(spikes[p.name].sum(dtype=np.int64)) if p.spiking else 0
    accesses = [a for s in analog for a in _analog_accesses(net, s, samples * repeats)]
    for s in spiking:
        arrived = int(spikes[s.source].sum(dtype=np.int64))
        accesses += [
            Access("spikes in", arrived, math.prod(net.shape_of(s.source))),  # one word an address
            Access("weights", acs[id(s)], s.weight.size),
            Access("potentials", 2 * acs[id(s)], neurons),  # read, add, write
        ]
    accesses += [
        Access("biases", updates, p.bias.size),
        Access("potentials", 2 * updates, neurons),  # add the bias, compare, write
        Access("spikes out", sent, neurons),
    ]
    return LayerCounts(
        name=p.name,
        neurons=neurons,
        spikes=sent,
        macs=macs,
        acs=sum(acs.values()),
        dense_macs=samples * sum(dense_macs(s, net.shape_of(s.source)) for s in p.synapses),
        parameters=parameters(p),
        conv_acs=sum(acs[id(s)] for s in spiking if s.kind == "conv"),
        driven=updates if analog else _driven(p, spikes, steps),
        messages=sent * listeners,
        accesses=tuple(accesses),
    )


def _analog_accesses(net: SpikingNet, s: Synapse, times: int) -> list[Access]:
    """Of a synapse with real inputs: each multiplication reads an input and a weight; the sum stays in a register."""
    source = net.shape_of(s.source)
    macs = times * dense_macs(s, source)
    analog = s.source == INPUT
    return [Access("input", macs, math.prod(source), analog), Access("weights", macs, s.weight.size, analog)]


def _cell_fan_out(s: Synapse, source: tuple[int, ...]) -> np.ndarray:
    """The fan-out of each pooled cell of the source: int64, of the pooled shape."""
    shape = source if s.pool == (1, 1) else (source[0], source[1] // s.pool[0], source[2] // s.pool[1])
    if s.kind == "dense":
        return np.full(shape, s.weight.shape[0], np.int64)
    out = synapse_shape(s, source)
    rows, columns = (
        _cover(shape[1 + i], out[1 + i], s.weight.shape[2 + i], s.stride[i], s.padding[i], s.dilation[i]) for i in (0, 1)
    )
    per_channel = np.outer(rows, columns) * (s.weight.shape[0] // s.groups)
    return np.broadcast_to(per_channel, shape).copy()


def _cover(length: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """Along one axis, how many (output, kernel tap) pairs fall on each source position."""
    touched = np.arange(outputs)[:, None] * stride - padding + np.arange(kernel) * dilation
    touched = touched[(touched >= 0) & (touched < length)]
    return np.bincount(touched, minlength=length).astype(np.int64)


def _dot(spikes: np.ndarray, weights: np.ndarray) -> int:
    """Sum over samples and elements, in integers."""
    return int((spikes.sum(axis=0, dtype=np.int64) * weights).sum())


def _driven(p: Population, spikes: Mapping[str, np.ndarray], steps: int) -> int:
    """Neuron updates with an incoming spike. The sum of an all-ones synapse is the number of spikes that arrive; the
    channels of a group share their inputs, so one of them stands for all."""
    arrived: np.ndarray | int = 0
    for s in p.synapses:
        x = spikes[s.source].astype(np.float64)
        if s.kind == "dense":
            total = sum_pool(x, s.pool).reshape(len(x), -1).sum(axis=1)
            arrived = arrived + total.reshape(-1, *[1] * len(p.shape))
            continue
        grouped = x.reshape(len(x), s.groups, -1, *x.shape[2:]).sum(axis=2)
        ones = Synapse(s.source, "conv", np.ones((s.groups, 1, *s.weight.shape[2:])), s.stride, s.padding, s.dilation, s.groups, s.pool)
        probe = Population(p.name, (s.groups, *p.shape[1:]), (ones,), np.zeros(s.groups), None)
        arrived = arrived + current(probe, {s.source: grouped}).repeat(p.shape[0] // s.groups, axis=1)
    hit = np.minimum(np.rint(arrived), steps).astype(np.int64)
    shape = (hit.shape[0], *p.shape) if hit.ndim else p.shape
    return int(np.broadcast_to(hit, shape).sum())


def _check(net: SpikingNet, spikes: Mapping[str, np.ndarray], steps: int) -> int:
    """The number of samples; EdgekitError when the counts cannot be those of `steps` steps of `net`."""
    shapes = {p.name: p.shape for p in net.populations if p.spiking}
    if steps < 1:
        raise EdgekitError(f"operations are counted over at least one timestep, but steps is {steps}")
    if set(spikes) != set(shapes) or not shapes:
        raise EdgekitError(f"spikes of {sorted(spikes)} were given, but the spiking populations are {sorted(shapes)}")
    samples = {len(x) if x.ndim else 0 for x in spikes.values()}
    if len(samples) != 1 or 0 in samples:
        raise EdgekitError(f"each population needs the spikes of the same samples, found batches of {sorted(samples)}")
    for name, x in spikes.items():
        if x.shape[1:] != shapes[name]:
            raise EdgekitError(f"spikes of '{name}' must have the shape (N, *{shapes[name]}), found {x.shape}")
        if not (np.issubdtype(x.dtype, np.integer) or x.dtype == np.bool_):
            raise EdgekitError(f"spikes of '{name}' must be integers, found {x.dtype}")
        if int(x.min()) < 0 or int(x.max()) > steps:
            raise EdgekitError(f"spikes of '{name}' must lie in 0..{steps}, found {int(x.min())}..{int(x.max())}: give steps=")
    return samples.pop()
