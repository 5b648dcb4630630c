"""A spiking network of several timesteps in integers: leaky membranes with soft or hard reset, and how floats become them.

Each step, with the spikes of the step for o and k = image - input_offset for the input,
  u <- sat(trunc(leak u / 4096) + sum over synapses of (W pool(o)) + bias)      trunc: towards zero, as on Loihi
  o  = 1 if u > threshold_c else 0                                              strict
  u <- u - threshold_c  (soft)   or   0  (hard)                                 where o = 1
  sat: to -MEMBRANE..MEMBRANE.
The read-out has no membrane: logits are the sum over the steps of float32(current * readout_scale), added in float32.
Soft reset with a leak a layer is the neuron of Chowdhury, Rathi, Roy, arXiv 2110.05929; the 12-bit leak is that of Davies et al.,
IEEE Micro 38(1), 2018, and lava-nc's LIF.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgekit import spiking_net
from edgekit.errors import Broken, EdgekitError
from edgekit.integer_net import BYTE_WEIGHTS, byte_scale, largest_current, rounded
from edgekit.spiking_net import INPUT, SpikingNet, current

LEAK_ONE = 4096  # a leak of 1: 12 bits
MEMBRANE = 1 << 28  # of a membrane; kMembrane in runtime/src/spike/network.hpp
REACH = 1 << 28  # of a current with its bias, and of a threshold


@dataclass(frozen=True)
class Neuron:
    """The state of a population. threshold: int32 (C,); leak: -4096..4096, in 1/4096."""

    threshold: np.ndarray
    leak: int = LEAK_ONE
    reset: Literal["soft", "hard"] = "soft"


@dataclass(frozen=True)
class FloatNeuron:
    """The same of a trained network: u <- leak u + current; o = u > threshold."""

    threshold: float
    leak: float = 1.0
    reset: Literal["soft", "hard"] = "soft"


@dataclass(frozen=True)
class SteppedNet:
    """`net` holds shapes, weights and biases (its scalar thresholds mean nothing); `neurons` has each spiking population."""

    net: SpikingNet
    neurons: Mapping[str, Neuron]

    def check(self) -> None:
        """Raise EdgekitError unless every population has its neuron and every integer is in its range."""
        self.net.check()
        spiking = {p.name: p for p in self.net.populations if p.spiking}
        if set(spiking) != set(self.neurons):
            raise EdgekitError(f"neurons of {sorted(self.neurons)} for the populations {sorted(spiking)}")
        for name, neuron in self.neurons.items():
            if neuron.threshold.shape != spiking[name].shape[:1] or not np.issubdtype(neuron.threshold.dtype, np.integer):
                raise EdgekitError(f"population '{name}' needs {spiking[name].shape[0]} whole thresholds, found {neuron.threshold.shape}")
            if not -LEAK_ONE <= neuron.leak <= LEAK_ONE:
                raise EdgekitError(f"population '{name}': its leak is {neuron.leak}, of -{LEAK_ONE}..{LEAK_ONE}")
            if np.abs(neuron.threshold.astype(np.int64)).max() > REACH:
                raise EdgekitError(f"population '{name}': a threshold beyond {REACH}")
        for p in self.net.populations:
            reach = int((largest_current(self.net, p) + np.abs(p.bias)).max())
            if reach > REACH:
                raise EdgekitError(f"layer '{p.name}': its current can reach {reach}, a membrane holds {MEMBRANE}")


class State:
    """Membranes and summed logits of a batch between two steps."""

    def __init__(self, stepped: SteppedNet, batch: int) -> None:
        self.stepped = stepped
        self.membranes = {p.name: np.zeros((batch, *p.shape)) for p in stepped.net.populations if p.spiking}
        self.logits = np.zeros((batch, int(np.prod(stepped.net.populations[-1].shape))), np.float32)

    def step(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """image (N, *input_shape) of whole numbers -> spikes uint8 (N, *shape) of each population; adds to `logits`."""
        net = self.stepped.net
        values = {INPUT: image.astype(np.float64) - net.input_offset}
        spikes: dict[str, np.ndarray] = {}
        for p in net.populations:
            i = current(p, values)
            if p.threshold is None:
                self.logits += (i * net.readout_scale).astype(np.float32).reshape(self.logits.shape)
                continue
            neuron = self.stepped.neurons[p.name]
            theta = neuron.threshold.astype(np.float64).reshape(1, -1, *[1] * (len(p.shape) - 1))
            u = np.clip(np.trunc(self.membranes[p.name] * neuron.leak / LEAK_ONE) + i, -MEMBRANE, MEMBRANE)
            fires = u > theta
            self.membranes[p.name] = np.where(fires, u - theta if neuron.reset == "soft" else 0.0, u)
            values[p.name] = fires.astype(np.float64)
            spikes[p.name] = fires.astype(np.uint8)
        return spikes


def simulate(stepped: SteppedNet, images: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Images (N, C, H, W), the same at each step, or frames (N, steps, C, H, W) -> spikes uint8 (steps, N, *shape) of each
    population, and `logits` float32: (N, classes) after the last step, or of frames (N, steps, classes) after each."""
    frames = images.ndim == len(stepped.net.input_shape) + 2
    state = State(stepped, len(images))
    seen: list[dict[str, np.ndarray]] = []
    logits: list[np.ndarray] = []
    for t in range(steps):
        seen.append(state.step(images[:, t] if frames else images))
        logits.append(state.logits.copy())
    answers = {name: np.stack([s[name] for s in seen]) for name in stepped.neurons}
    return {**answers, "logits": np.stack(logits, 1) if frames else logits[-1]}


def quantise(net: SpikingNet, neurons: Mapping[str, FloatNeuron]) -> SteppedNet:
    """8-bit weights scaled by channel: s_c = max|W_c| / 127, bias and threshold rounded to whole multiples of s_c * in.

    Unlike at one timestep the rounding of biases and thresholds is an error of its own, half a unit of a weight a step.
    Raises EdgekitError, naming the layer, where a sum could leave the ranges of a membrane.
    """
    populations, made = [], {}
    readout_scale = 1.0
    for p in net.populations:
        scale, in_scale, readout_scale = byte_scale(net, p)  # the read-out comes last
        if p.threshold is not None:
            neuron = neurons[p.name]
            theta = np.rint(neuron.threshold / (scale * in_scale))
            # A channel so weak that its threshold is out of range never fires by one current; coarser weights keep it in range.
            coarser = np.maximum(1.0, np.abs(theta) / (REACH // 2))
            scale, theta = scale * coarser, np.rint(theta / coarser)
            made[p.name] = Neuron(theta.astype(np.int32), int(np.rint(neuron.leak * LEAK_ONE)), neuron.reset)
        bias = np.rint(p.bias.astype(np.float64) / (scale * in_scale))
        if np.abs(bias).max() > REACH:
            raise EdgekitError(f"layer '{p.name}': a bias of {int(np.abs(bias).max())} units of its weights, a membrane holds {MEMBRANE}")
        synapses = tuple(rounded(s, scale, BYTE_WEIGHTS) for s in p.synapses)
        populations.append(dataclasses.replace(p, synapses=synapses, bias=bias.astype(np.int32), threshold=None if p.threshold is None else 0))
    stepped = SteppedNet(dataclasses.replace(net, populations=tuple(populations), readout_scale=readout_scale), made)
    stepped.check()
    return stepped


def save(stepped: SteppedNet, path: Path) -> None:
    """The file of spiking_net.save with an array `<population>/threshold` and the facts of each neuron."""
    facts = {name: {"leak": n.leak, "reset": n.reset} for name, n in stepped.neurons.items()}
    spiking_net.save(stepped.net, path, facts, {name: n.threshold for name, n in stepped.neurons.items()})


def load(path: Path) -> SteppedNet:
    """Read what save wrote; Broken, with the path, when it does not fit together."""
    net, facts, thresholds = spiking_net.load_all(path)
    try:
        stepped = SteppedNet(net, {name: Neuron(thresholds[name], int(f["leak"]), _reset(f["reset"])) for name, f in facts.items()})
        stepped.check()
    except (KeyError, TypeError, ValueError, EdgekitError) as error:
        raise Broken(f"{path}: not a spiking network of several timesteps ({error})") from None
    return stepped


def _reset(value: object) -> Literal["soft", "hard"]:
    if value == "soft":
        return "soft"
    if value == "hard":
        return "hard"
    raise ValueError(f"reset is soft or hard, found {value!r}")
