"""Random one-timestep networks for tests: dense, pooled, strided and grouped, with a shortcut."""

from __future__ import annotations

import numpy as np

from edgekit import spiking_net
from edgekit.bundle import Allowed, Golden, GoldenNote
from edgekit.parts import Trained
from edgekit.program import once
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse, synapse_shape


def conv(rng: np.random.Generator, source: str, out: int, ins: int, kernel: tuple[int, int], **geometry: object) -> Synapse:
    groups = int(geometry.get("groups", 1))  # type: ignore[call-overload]
    fan_in = ins // groups * kernel[0] * kernel[1]
    weight = (rng.normal(size=(out, ins // groups, *kernel)) / np.sqrt(fan_in)).astype(np.float32)
    return Synapse(source, "conv", weight, **geometry)  # type: ignore[arg-type]


def population(rng: np.random.Generator, name: str, shape: tuple[int, ...], *synapses: Synapse, threshold: float | None = 0.4) -> Population:
    made = synapse_shape(synapses[0], shape)
    return Population(name, made, synapses, rng.normal(size=made[0]).astype(np.float32) * np.float32(0.1), threshold)


def network(kind: str, seed: int = 0) -> SpikingNet:
    """Input (2, 9, 8), pixels 0..16 centred at 8; ten logits."""
    rng = np.random.default_rng(seed)
    shape, layers = (2, 9, 8), []
    if kind == "dense":
        layers.append(population(rng, "a", shape, Synapse(INPUT, "dense", rng.normal(size=(40, 144)).astype(np.float32) * np.float32(0.1))))
    elif kind == "pooled":
        layers.append(population(rng, "a", shape, conv(rng, INPUT, 8, 2, (3, 3), padding=(1, 1))))
        layers.append(population(rng, "b", layers[-1].shape, conv(rng, "a", 6, 8, (3, 3), pool=(2, 2))))
    elif kind == "strided":
        layers.append(population(rng, "a", shape, conv(rng, INPUT, 8, 2, (3, 2), stride=(2, 1), padding=(1, 0))))
        layers.append(population(rng, "b", layers[-1].shape, conv(rng, "a", 6, 8, (2, 3), groups=2, dilation=(1, 2), padding=(0, 1))))
    else:  # a residual block: the shortcut is added to the current
        layers.append(population(rng, "a", shape, conv(rng, INPUT, 6, 2, (3, 3), padding=(1, 1))))
        layers.append(population(rng, "b", layers[-1].shape, conv(rng, "a", 6, 6, (3, 3), padding=(1, 1))))
        eye = np.eye(6, dtype=np.float32).reshape(6, 6, 1, 1)
        layers.append(population(rng, "c", layers[-1].shape, conv(rng, "b", 6, 6, (3, 3), padding=(1, 1)), Synapse("a", "conv", eye)))
    last = layers[-1]
    width = int(np.prod(last.shape))
    readout = Synapse(last.name, "dense", rng.normal(size=(10, width)).astype(np.float32))
    layers.append(population(rng, "readout", last.shape, readout, threshold=None))
    net = SpikingNet(shape, 8, 1 / 8, (-8, 8), tuple(layers), 1.0)
    net.check()
    return net


def images(n: int = 120, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 17, (n, 2, 9, 8)).astype(np.uint8)


class Random(Trained):
    """A network without training, as an exporter sees it."""

    def __init__(self, net: SpikingNet) -> None:
        self.net, self.name, self.sha256, self.model = net, "random", "0" * 64, None
        self.signature = Signature((Tensor("image", "uint8", ("batch", *net.input_shape)),), (Tensor("logits", "float32", ("batch", 10)),))
        self.program, self.graphs = once(("image",), ("logits",)), {"main": self.signature}
        self.probes = {"main": tuple(p.name for p in net.populations if p.spiking)}
        self.allowed, self.golden_note = Allowed(), GoldenNote("numpy", "random")

    def spiking_net(self) -> SpikingNet:
        return self.net

    def goldens(self) -> list[Golden]:  # noqa: D102
        found = spiking_net.simulate(self.net, images(8))
        return [Golden({"image": images(8)}, {"logits": found.pop("logits")}, found, {})]
