"""The networks of IIR-SNN as graphs: T=1 without state, and one step of any T with the membranes as inputs and outputs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._iir_snn_net import Net, any_of, leak_of, threshold_of
from edgekit.spiking_net import INPUT


class Step(nn.Module):
    """One step: image, membranes, summed logits -> the next membranes and logits, and the spikes of every layer.

    u <- leak * u + W x + b;  o = 1[u / V - 1 > 0];  u <- u - V * o, operation by operation as in training, so that
    rounding is the same (_lif.py).
    """

    def __init__(self, snn: Net, pixel_offset: int) -> None:
        super().__init__()
        self.net, self.offset = copy.deepcopy(snn).eval().requires_grad_(False), float(pixel_offset)
        self.neurons = {n: (threshold_of(snn, n), leak_of(snn, n)) for n in snn.neurons}

    def forward(self, image: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, C, H, W), float32 membranes of each spiking layer in order, float32 (N, classes) -> the same states
        one step later, and float32 spikes of each layer."""
        x = image.to(torch.float32)
        values = {INPUT: (x - self.offset) * (1 / self.offset) if self.offset else x}
        before = iter(states)
        after: list[Tensor] = []
        spikes: list[Tensor] = []
        for layer in self.net.layers:
            if layer.kind == "or":
                values[layer.name] = any_of(values[layer.source])
                spikes.append(values[layer.name])
                continue
            current = self.net.current(layer, values)
            if layer.readout:
                return (*after, next(before) + current, *spikes)
            threshold, leak = self.neurons[layer.name]
            u = leak * next(before) + current
            out = (u / threshold - 1 > 0).to(torch.float32)
            after.append(u - threshold * out)
            spikes.append(out)
            values[layer.name] = F.avg_pool2d(out, 2) if layer.pool else out
        raise AssertionError("a network ends in its read-out")


class Deployed(nn.Module):
    """The one-timestep network as a stateless graph: uint8 images -> logits and the spikes of every layer.

    At T=1, o = 1[W x + b > V]: thresholds are folded into the weights, o = 1[(W/V) x + b/V > 1]; leak and reset are
    gone. Pixels are centred and scaled inside the graph.
    """

    def __init__(self, snn: Net, pixel_offset: int) -> None:
        super().__init__()
        self.layers, self.offset = snn.layers, float(pixel_offset)
        self.weights, self.shortcuts = nn.ModuleDict(), nn.ModuleDict()
        self.folds: dict[str, float] = {}
        for layer in snn.layers:
            if layer.kind == "or":
                continue
            fold = 1.0 if layer.readout else threshold_of(snn, layer.name)
            self.folds[layer.name] = fold
            self.weights[layer.name] = _folded(snn.weights[layer.name], fold)
            if layer.shortcut:
                short = snn.shortcuts[layer.name] if layer.name in snn.shortcuts else _identity(layer.out)
                self.shortcuts[layer.name] = _folded(short, fold)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, C, H, W) -> (logits float32 (N, classes), spikes float32 of each layer in order)."""
        values = {INPUT: (image.to(torch.float32) - self.offset) * (1 / self.offset)}
        spikes: list[Tensor] = []
        for layer in self.layers:
            x = values[layer.source]
            if layer.kind == "or":
                values[layer.name] = any_of(x)
                spikes.append(values[layer.name])
                continue
            current = self.weights[layer.name](x.flatten(1) if layer.kind == "dense" else x)
            if layer.shortcut:
                current = current + self.shortcuts[layer.name](values[layer.shortcut])
            if layer.readout:
                return (current, *spikes)
            out = (current > 1).to(torch.float32)
            spikes.append(out)
            values[layer.name] = F.avg_pool2d(out, 2) if layer.pool else out
        raise AssertionError("a network ends in its read-out")


def _identity(channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(channels).reshape(channels, channels, 1, 1))
    return conv


def _folded(module: nn.Module, threshold: float) -> nn.Module:
    import copy

    folded = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.div_(threshold)
            parameter.requires_grad_(False)
    return folded
