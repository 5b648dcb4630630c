"""The one-timestep spiking policy: a policy with staircase activations, written out as threshold neurons; 8-bit codes in.

A unit with K levels is K neurons with thresholds (k - 1/2) / K. The neuron is that of _lif.py at T=1, o = 1[u > V], where leak
and reset are dead; V is 1 everywhere, and the difference to a neuron's own threshold lies in its bias. Nothing is trained again.

All numbers are the integers of _time_stepping_integers.py times a power of two, and thresholds lie half a unit off. So every
float32 sum is exact in any order, no rounding decides about a spike, and a calibrator finds the same integers again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.models import _time_stepping_integers as integers
from edgekit.models._time_stepping_net import CENTRE, CODES, Policy, deployed
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse

UNIT = 2.0**-16  # of a current; half of it, and the largest current over it, are well inside the 24 bits of a float32


class SpikingPolicy(nn.Module):
    """Dense layers of threshold neurons (V = 1, a bias each) and a read-out without spikes. `units` and `layers` are those of the
    policy behind it, which has `levels` neurons for each of its units."""

    def __init__(self, features: int, units: int, layers: int, levels: int, actions: int) -> None:
        super().__init__()
        sizes = [features, *[units * levels] * layers]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.readout = nn.Linear(units * levels, actions)
        self.names = tuple(f"dense{i + 1}" for i in range(layers))

    def forward(self, codes: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, features) -> (values float32 (N, actions), spikes float32 of each layer in order)."""
        x = scaled(codes)
        spikes = []
        for layer in self.dense:
            x = (layer(x) > 1).to(torch.float32)
            spikes.append(x)
        return (self.readout(x), *spikes)

    def distances(self, codes: Tensor) -> list[Tensor]:
        """|u / V - 1| of every neuron of each layer."""
        found, x = [], scaled(codes)
        for layer in self.dense:
            u = layer(x)
            found.append((u - 1).abs())
            x = (u > 1).to(torch.float32)
        return found

    def plain(self) -> SpikingNet:
        """The network as plain arrays, for formats nir and lava."""
        populations, source = [], INPUT
        layers: list[tuple[str, Any, float | None]] = [(n, m, 1.0) for n, m in zip(self.names, self.dense, strict=True)]
        for name, module, threshold in (*layers, ("readout", self.readout, None)):
            weight = module.weight.detach().numpy().astype(np.float32)
            synapse = Synapse(source, "dense", weight)
            populations.append(Population(name, (len(weight),), (synapse,), module.bias.detach().numpy().astype(np.float32), threshold))
            source = name
        features = populations[0].synapses[0].weight.shape[1]
        net = SpikingNet((features,), CENTRE, 1 / CENTRE, (-CENTRE, CODES - CENTRE), tuple(populations), 1.0)
        net.check()
        return net


def scaled(codes: Tensor) -> Tensor:
    """What a network sees of codes: (code - 128) / 128."""
    return (codes.to(torch.float32) - CENTRE) * (1 / CENTRE)


def written_out(policy: Policy) -> SpikingPolicy:
    """The spiking network of a policy with staircase activations; its logits are the values times a factor."""
    policy = deployed(policy)
    k, units = policy.levels, policy.first.out_features
    hidden = [m for m in policy.hidden for _ in range(policy.repeats)]
    net = SpikingPolicy(policy.first.in_features + integers.CONSTANTS, units, 1 + len(hidden), k, policy.last.out_features)
    layers = [integers.of_codes(*_numbers(policy.first), k), *(integers.of_spikes(*_numbers(m), k) for m in hidden)]
    readout = integers.readout(*_numbers(policy.last), k)
    with torch.no_grad():
        for i, (target, made) in enumerate(zip(net.dense, layers, strict=True)):
            assert isinstance(target, nn.Linear)
            target.weight.copy_(torch.from_numpy(made.weight * UNIT * (CENTRE if i == 0 else 1)))
            target.bias.copy_(torch.from_numpy(1 - (made.theta + 0.5) * UNIT))
        step = 2.0 ** math.floor(math.log2(readout.step))
        net.readout.weight.copy_(torch.from_numpy(readout.weight * step))
        net.readout.bias.copy_(torch.from_numpy(readout.bias * step))
    return net.eval()


def _numbers(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias, float64."""
    assert isinstance(layer, nn.Linear)
    weight, bias = (t.detach().to(torch.float64).numpy() for t in (layer.weight, layer.bias))
    return weight, bias
