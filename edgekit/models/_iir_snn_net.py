"""The networks of IIR-SNN, as one list of layer descriptions that an ANN and a spiking network are both built from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._lif import Lif
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse

# "A" = 2x2 average pooling of the spikes before it, in place of dropout (arXiv 2110.05929 and its published code).
VGG: dict[str, tuple[tuple[int | str, ...], tuple[int, ...]]] = {
    "digits": ((16, "A", 32, "A"), (64,)),
    "vgg5": ((64, "A", 128, 128, "A"), (4096, 4096)),
    "vgg9": ((64, "A", 128, 256, "A", 256, 512, "A", 512, "A", 512), (4096, 4096)),
    "vgg16": (
        (64, 64, "A", 128, 128, "A", 256, 256, 256, "A", 512, 512, 512, "A", 512, 512, 512),
        (4096, 4096),
    ),
}


@dataclass(frozen=True)
class Layer:
    """One layer: its current comes from `source` (and a shortcut); neurons follow, then pooling or dropout.

    or: no weights; it fires where any neuron of a 2x2 window fires (of the ANN, the largest of the window), without state.
    """

    name: str
    kind: Literal["conv", "dense", "or"]
    source: str
    out: int
    stride: int = 1
    shortcut: str = ""  # its output is added to this layer's CURRENT, before the neuron
    pool: bool = False
    readout: bool = False

    @property
    def learns(self) -> bool:
        """Whether it has threshold and leak of its own."""
        return not self.readout and self.kind != "or"


def vgg_layers(convs: Sequence[int | str], hidden: Sequence[int], classes: int) -> tuple[Layer, ...]:
    """A chain of 3x3 convolutions with pooling, then dense layers; ValueError when the list makes no network.

    Behind a convolution: "A" is 2x2 average pooling, "O" 2x2 OR pooling, "S" lets the next convolution go in steps of 2.
    """
    layers: list[Layer] = []
    conv = stride = 1
    for i, item in enumerate(convs):
        follows = i > 0 and isinstance(convs[i - 1], int)
        if item == "A" and follows:
            layers[-1] = Layer(**{**vars(layers[-1]), "pool": True})
        elif item == "O" and follows:
            layers.append(Layer(f"or{conv - 1}", "or", layers[-1].name, layers[-1].out))
        elif item == "S" and follows:
            stride = 2
        elif isinstance(item, int) and item > 0:
            layers.append(Layer(f"conv{conv}", "conv", layers[-1].name if layers else INPUT, item, stride))
            conv, stride = conv + 1, 1
        else:
            raise ValueError(
                'layers takes channel counts, each followed by at most one "A" (2x2 average pooling), "O" (2x2 OR pooling) '
                f'or "S" (the next convolution in steps of 2), found {item!r}'
            )
    if stride != 1:
        raise ValueError('layers ends in "S", but no convolution follows that could go in steps of 2; use "A" or "O" there')
    for i, width in enumerate((*hidden, classes)):
        if width <= 0:
            raise ValueError(f"hidden takes positive widths, found {width}")
        last = i == len(hidden)
        layers.append(
            Layer(
                "readout" if last else f"dense{i + 1}",
                "dense",
                layers[-1].name if layers else INPUT,
                width,
                readout=last,
            )
        )
    return tuple(layers)


def resnet20_layers(classes: int) -> tuple[Layer, ...]:
    """ResNet20 of IIR-SNN: three conv64 and a pool, four stages of two basic blocks, one dense layer."""
    layers = [
        Layer("conv1", "conv", INPUT, 64),
        Layer("conv2", "conv", "conv1", 64),
        Layer("conv3", "conv", "conv2", 64, pool=True),
    ]
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            before = layers[-1].name
            stride = 2 if stage and not block else 1
            name = f"stage{stage + 1}_block{block + 1}"
            layers.append(Layer(f"{name}_conv1", "conv", before, width, stride))
            layers.append(Layer(f"{name}_conv2", "conv", f"{name}_conv1", width, shortcut=before))
    return (*layers, Layer("readout", "dense", layers[-1].name, classes, readout=True))


class Net(nn.Module):
    """The network of `layers` for images of `shape` (C, H, W): with ReLU, or spiking; with batch norm, or biases in its place."""

    def __init__(
        self, layers: tuple[Layer, ...], shape: tuple[int, int, int], dropout: float, spiking: bool, norm: bool | None = None
    ) -> None:
        """norm: whether convolutions are followed by batch norm; None: those of the ANN are."""
        super().__init__()
        self.layers, self.shape, self.dropout, self.spiking = layers, shape, dropout, spiking
        self.norm = not spiking if norm is None else norm
        self.weights, self.norms, self.shortcuts, self.neurons = (nn.ModuleDict() for _ in range(4))
        self.shapes: dict[str, tuple[int, ...]] = {}  # of the neurons of a layer
        outs: dict[str, tuple[int, ...]] = {INPUT: shape}  # what the next layer sees, after pooling
        for layer in layers:
            self.shapes[layer.name] = self._build(layer, outs)
            outs[layer.name] = self._pooled(layer, self.shapes[layer.name])

    def _build(self, layer: Layer, outs: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        source = outs[layer.source]
        if layer.kind == "or":
            return _halved(layer.source, source)
        if layer.kind == "dense":
            # Dense layers carry no bias (published code).
            self.weights[layer.name] = nn.Linear(math.prod(source), layer.out, bias=False)
            made: tuple[int, ...] = (layer.out,)
        else:
            # The bias of a convolution is the shift of the batch norm that was fused into it.
            conv = nn.Conv2d(source[0], layer.out, 3, layer.stride, 1, bias=not self.norm)
            self.weights[layer.name] = conv
            made = (layer.out, *(math.ceil(n / layer.stride) for n in source[1:]))
            if self.norm:
                self.norms[layer.name] = nn.BatchNorm2d(layer.out)
        if layer.shortcut and outs[layer.shortcut] != made:
            stride = outs[layer.shortcut][1] // made[1]
            self.shortcuts[layer.name] = nn.Conv2d(outs[layer.shortcut][0], layer.out, 1, stride, bias=not self.norm)
            if self.norm:
                self.norms[f"{layer.name}_shortcut"] = nn.BatchNorm2d(layer.out)
        if self.spiking and layer.learns:
            self.neurons[layer.name] = Lif()
        return made

    def _pooled(self, layer: Layer, made: tuple[int, ...]) -> tuple[int, ...]:
        return _halved(layer.name, made) if layer.pool else made

    def current(self, layer: Layer, values: dict[str, Tensor]) -> Tensor:
        """What the layer's neurons receive, from the (pooled) outputs of its sources."""
        x = values[layer.source]
        total: Tensor = self.weights[layer.name](x.flatten(1) if layer.kind == "dense" else x)
        if layer.name in self.norms:
            total = self.norms[layer.name](total)
        if layer.shortcut:
            short = values[layer.shortcut]
            if layer.name in self.shortcuts:
                short = self.shortcuts[layer.name](short)
                if self.norm:
                    short = self.norms[f"{layer.name}_shortcut"](short)
            total = total + short
        return total

    def forward(self, x: Tensor, steps: int = 1, watch: Callable[[str, Tensor, Tensor], None] | None = None) -> Tensor:
        """Images (N, C, H, W), or another for each step (N, steps, C, H, W), normalised -> logits (N, classes), summed.

        `watch(layer, current, spikes)` sees every spiking layer at every step; the current of OR pooling is the number of
        spikes in a window. Dropout draws one mask a sample and layer, the same at all steps.
        """
        if not self.spiking:
            return self._forward_ann(x)
        logits: Tensor | int = 0
        masks: dict[str, Tensor] = {}
        membranes: dict[str, Tensor | None] = {}
        still = x.ndim == 4  # constant in t, so its current is computed once
        analog = {layer.name: self.current(layer, {INPUT: x}) for layer in self.layers if layer.source == INPUT and still}
        for t in range(steps):
            values: dict[str, Tensor] = {} if still else {INPUT: x[:, t]}
            for layer in self.layers:
                if layer.kind == "or":
                    values[layer.name] = any_of(values[layer.source])
                    if watch:
                        watch(layer.name, 4 * F.avg_pool2d(values[layer.source], 2), values[layer.name])
                    continue
                current = analog.get(layer.name)
                current = self.current(layer, values) if current is None else current
                if layer.readout:
                    logits = logits + current
                    continue
                spikes, membranes[layer.name] = self.neurons[layer.name](current, membranes.get(layer.name))
                if watch:
                    watch(layer.name, current, spikes)
                values[layer.name] = self._after(layer, spikes, masks)
        assert isinstance(logits, Tensor)
        return logits

    def _forward_ann(self, x: Tensor) -> Tensor:
        values = {INPUT: x}
        for layer in self.layers:
            if layer.kind == "or":
                values[layer.name] = any_of(values[layer.source])
                continue
            current = self.current(layer, values)
            values[layer.name] = current if layer.readout else self._after(layer, F.relu(current), {})
        return values[self.layers[-1].name]

    def _after(self, layer: Layer, out: Tensor, masks: dict[str, Tensor]) -> Tensor:
        if layer.pool:
            return F.avg_pool2d(out, 2)
        if not self.training or not self.dropout:
            return out
        if layer.name not in masks:
            masks[layer.name] = F.dropout(torch.ones_like(out), self.dropout)
        return out * masks[layer.name]


def any_of(x: Tensor) -> Tensor:
    """The largest of each 2x2 window; of spikes, whether there is one."""
    return F.max_pool2d(x, 2)


def _halved(name: str, made: tuple[int, ...]) -> tuple[int, ...]:
    if min(made[1:]) < 2:
        raise ValueError(f'pooling after {name} would leave nothing of its {made[1]}x{made[2]} map; use fewer poolings')
    return (made[0], made[1] // 2, made[2] // 2)


def convert(ann: Net, norm: bool = False) -> Net:
    """A spiking network with the ANN's weights; with its batch norms, or with them fused."""
    if not norm:
        return fused(ann)
    snn = Net(ann.layers, ann.shape, ann.dropout, spiking=True, norm=True)
    snn.load_state_dict(ann.state_dict(), strict=False)  # what it lacks are thresholds and leaks
    return snn


def fused(ann: Net) -> Net:
    """The spiking network with batch norms fused: W * g/sqrt(var + eps), (b - mean) * g/sqrt(var + eps) + beta. Of a network that
    spikes already, its thresholds and leaks stay."""
    if ann.spiking and not ann.norm:
        return ann
    snn = Net(ann.layers, ann.shape, ann.dropout, spiking=True)
    snn.neurons.load_state_dict(ann.neurons.state_dict(), strict=ann.spiking)
    with torch.no_grad():
        for name, module in ann.weights.items():
            _fuse(module, dict(ann.norms.items()).get(name), snn.weights[name])
        for name, module in ann.shortcuts.items():
            _fuse(module, ann.norms[f"{name}_shortcut"], snn.shortcuts[name])
    return snn


def _fuse(source: nn.Module, norm: nn.Module | None, target: nn.Module) -> None:
    assert isinstance(source.weight, Tensor) and isinstance(target.weight, Tensor)
    if norm is None:
        target.weight.copy_(source.weight)
        return
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(target.bias, Tensor)
    assert norm.running_var is not None and norm.running_mean is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    target.weight.copy_(source.weight * factor.reshape(-1, 1, 1, 1))
    target.bias.copy_(norm.bias - norm.running_mean * factor)


def set_thresholds(snn: Net, x: Tensor, steps: int, percentile: float) -> None:
    """Layer by layer, V = the percentile of the layer's current over the batch, the largest over the steps; >= 0.1.

    The layers below already spike with their own thresholds, the leak is 1 (arXiv 2110.05929, section on conversion).
    """
    snn.eval()
    with torch.no_grad():
        for name, neuron in snn.neurons.items():
            assert isinstance(neuron, Lif)
            found: list[float] = []

            def watch(layer: str, current: Tensor, _: Tensor, name: str = name, found: list[float] = found) -> None:
                if layer == name:
                    found.append(float(np.percentile(current.numpy(), percentile)))

            snn(x, steps, watch)
            neuron.threshold.fill_(max(0.1, *found))
            neuron.leak.fill_(1.0)


def to_spiking_net(snn: Net, pixel_offset: int, pixel_max: int) -> SpikingNet:
    """The network as plain arrays, of several timesteps without its leaks; the 1/4 of each average pool goes into the weights behind it.

    OR pooling is a population: depthwise weights of 1 over its window and a threshold of 1/2.
    """
    pooled = {layer.name for layer in snn.layers if layer.pool}

    def synapse(source: str, kind: Literal["conv", "dense"], weight: np.ndarray, stride: int, padding: int) -> Synapse:
        by_pool = source in pooled
        w = weight * np.float32(0.25) if by_pool else weight
        return Synapse(source, kind, w, (stride, stride), (padding, padding), pool=(2, 2) if by_pool else (1, 1))

    populations = []
    for layer in snn.layers:
        if layer.kind == "or":
            ones = np.ones((layer.out, 1, 2, 2), np.float32)
            window = Synapse(layer.source, "conv", ones, stride=(2, 2), groups=layer.out)
            populations.append(Population(layer.name, snn.shapes[layer.name], (window,), np.zeros(layer.out, np.float32), 0.5))
            continue
        module = snn.weights[layer.name]
        weight = _array(module.weight)
        synapses = [synapse(layer.source, layer.kind, weight, layer.stride, 1 if layer.kind == "conv" else 0)]
        bias = _array(module.bias) if layer.kind == "conv" else np.zeros(layer.out, np.float32)
        if layer.shortcut:
            if layer.name in snn.shortcuts:
                short = snn.shortcuts[layer.name]
                assert isinstance(short, nn.Conv2d)
                synapses.append(synapse(layer.shortcut, "conv", _array(short.weight), short.stride[0], 0))
                bias = bias + _array(short.bias)
            else:
                eye = np.eye(layer.out, dtype=np.float32).reshape(layer.out, layer.out, 1, 1)
                synapses.append(synapse(layer.shortcut, "conv", eye, 1, 0))
        threshold = None if layer.readout else threshold_of(snn, layer.name)
        populations.append(Population(layer.name, snn.shapes[layer.name], tuple(synapses), bias, threshold))
    span = (-pixel_offset, pixel_max - pixel_offset)
    net = SpikingNet(snn.shape, pixel_offset, 1 / pixel_offset if pixel_offset else 1.0, span, tuple(populations), 1.0)
    net.check()
    return net


def threshold_of(snn: Net, name: str) -> float:
    """The learned V of a layer; float32, as it was trained."""
    neuron = snn.neurons[name]
    assert isinstance(neuron, Lif)
    return float(neuron.threshold.detach())


def leak_of(snn: Net, name: str) -> float:
    """The learned leak of a layer, at most 1; float32, as it was trained."""
    neuron = snn.neurons[name]
    assert isinstance(neuron, Lif)
    return float(neuron.leak.detach().clamp(max=1.0))


def _array(value: object) -> np.ndarray:
    assert isinstance(value, Tensor)
    return value.detach().numpy().astype(np.float32)
