"""The Q-network of a time-step policy: an encoder of the raw state without weights, and a multilayer perceptron."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STATE = 13
GUARD = 1e-20  # the least |dE| whose logarithm is taken; a maximum, as exporters drop the sum with so small a number
LARGEST_DIGITS = 20.0  # -log10 of the guard
CODES = 255  # levels of an integer-coded feature, less one
WEIGHT_STEPS = 127  # of an 8-bit weight to each side
CENTRE = 128  # of codes; a network sees (code - 128) / 128
TINY = 1e-12  # keeps the time scale of two bodies at rest finite
PAIR_MASS = 2 / 3  # of two of the three equal bodies

# Features of `pairs`: name, low, high of the range that the codes 0..255 span; beyond it they are clipped.
PAIR_FEATURES = tuple(
    (f"{name} of the {which} pair", low, high)
    for which in ("nearest", "second", "third")
    for name, low, high in (
        ("log10 distance", -2.5, 2.0), ("cosine between distance and velocity", -1.0, 1.0), ("log10 v^2 r / M", -2.5, 1.5),
    )
) + (("-log10 |dE|", 2.0, 14.0), ("log10 |E|", -3.0, -0.5))  # fmt: skip


# Encoders compute in float64 what they are given in float32: so they round alike in every engine, and quantisers, which see
# float32 only, leave them as they are. To 8 bits they would round positions, of which one part in 256 says nothing of an encounter.


class Published(nn.Module):
    """The published scaling: positions / 10, velocities, -log10|dE| (20 where there is no error yet), not rounded."""

    features = STATE

    def forward(self, state: Tensor) -> Tensor:
        """Raw float32 (N, 13) -> (N, 13)."""
        state = state.to(torch.float64)
        return torch.cat([state[:, :6] / 10, state[:, 6:12], digits(state[:, 12:])], 1).to(torch.float32)


class Pairs(nn.Module):
    """What tells an encounter: distance, direction and energy of each pair, in the order of their time scales, as 8-bit codes.

    The time scale of a pair is that of the Hermite step, min(r / v, sqrt(r^3 / M)). PAIR_FEATURES says names and ranges;
    code = round(255 (f - low) / (high - low)), and the network sees (code - 128) / 128. Invariant under rotation, mirroring
    and exchange of the bodies.
    """

    features = len(PAIR_FEATURES)

    def __init__(self) -> None:
        super().__init__()
        ranges = torch.tensor([(low, high) for _, low, high in PAIR_FEATURES], dtype=torch.float64)
        self.register_buffer("low", ranges[:, 0], persistent=False)
        self.register_buffer("scale", CODES / (ranges[:, 1] - ranges[:, 0]), persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        """Raw float32 (N, 13) -> (N, 11), multiples of 1/128 from -1 to 127/128."""
        return (self.codes(state) - CENTRE) * (1 / CENTRE)

    def codes(self, state: Tensor) -> Tensor:
        """Raw float32 (N, 13) -> whole float32 numbers 0..255 (N, 11)."""
        return torch.round(torch.clamp(self.levels(state), 0.0, float(CODES))).to(torch.float32)

    def levels(self, state: Tensor) -> Tensor:
        """The codes before they are clipped and rounded."""
        return (self.measures(state) - self.get_buffer("low")) * self.get_buffer("scale")

    def off_edge(self, state: Tensor) -> Tensor:
        """(N,) how far the nearest feature of a state is from the edge between two codes, 0..0.5."""
        inside = torch.clamp(self.levels(state), 0.0, float(CODES))
        return (0.5 - (inside - torch.round(inside)).abs()).amin(1)

    def measures(self, state: Tensor) -> Tensor:
        """The features before they are coded, float64 (N, 11)."""
        state = state.to(torch.float64)
        dx, dy, du, dv = (_between(state[:, i : i + 5 : 2]) for i in (0, 1, 6, 7))
        r2, v2 = (torch.clamp(a * a + b * b, min=TINY) for a, b in ((dx, dy), (du, dv)))
        r = torch.sqrt(r2)
        time = torch.minimum(r2 / v2, r2 * r / PAIR_MASS)  # squared
        each = (log10(r), (dx * du + dy * dv) / torch.sqrt(r2 * v2), log10(v2 * r / PAIR_MASS))
        nearest = (time <= time.amin(1, keepdim=True)).to(torch.float64)
        third = (time >= time.amax(1, keepdim=True)).to(torch.float64)
        ordered = [(f * w).sum(1, keepdim=True) for w in (nearest, 1 - nearest - third, third) for f in each]
        kinetic = (state[:, 6:12] * state[:, 6:12]).sum(1, keepdim=True) / 6
        potential = (1 / r).sum(1, keepdim=True) / 9
        return torch.cat([*ordered, digits(state[:, 12:]), log10(torch.clamp((kinetic - potential).abs(), min=TINY))], 1)


def digits(error: Tensor) -> Tensor:
    """-log10|dE|, from 0 to 20."""
    return torch.clamp(-log10(torch.clamp(error.abs(), min=GUARD)), 0.0, LARGEST_DIGITS)


def log10(x: Tensor) -> Tensor:
    """By the natural logarithm, which is what ONNX has."""
    return torch.log(x) * (1 / math.log(10))


def _between(x: Tensor) -> Tensor:
    """Of three bodies (N, 3) the differences 2 - 1, 3 - 2, 1 - 3."""
    return torch.cat([x[:, 1:], x[:, :1]], 1) - x


class Policy(nn.Module):
    """Encoder, hidden layers, one value for each action. tied: `layers - 1` times one and the same layer.

    levels: 0 = ReLU, as published. Else a staircase of that many steps from 0 to 1, round(levels * clip(u, 0, 1)) / levels, which
    is the mean of as many threshold neurons of one timestep, o_k = 1[u > (k - 1/2) / levels]: the spiking policy is this network
    written out. Its gradient is that of the clip (straight through). With levels, the weights of all units are whole multiples
    of 1/127 of the largest of their unit, also while it trains: INT8 then holds weights and activations as they are. A value is
    then what the state is worth (`common`) and what an action adds, less the mean of that (Wang et al. 2016); for a decision the
    second is enough, and only it is deployed: 8 bits are for what tells the actions apart.
    """

    def __init__(self, encoder: Published | Pairs, width: int, layers: int, tied: bool, actions: int, levels: int = 0) -> None:  # noqa: PLR0913
        super().__init__()
        self.levels, self.rounds, self.precise = levels, levels > 0, False
        self.encoder, self.repeats = encoder, layers - 1 if tied else 1
        self.first = nn.Linear(encoder.features, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(1 if tied else layers - 1))
        self.last = nn.Linear(width, actions)
        self.common = nn.Linear(width, 1) if levels else None

    def forward(self, state: Tensor) -> Tensor:
        """Raw float32 (N, 13) -> values float32 (N, actions)."""
        return self.of_features(self.encoder(state))

    def of_features(self, x: Tensor) -> Tensor:
        """Encoded float32 (N, features) -> values (N, actions)."""
        x = self._fired(self.first, x)
        for layer in self.hidden:
            for _ in range(self.repeats):
                x = self._fired(layer, x)
        if self.precise:
            return F.linear(x.to(torch.float64), self.last.weight, self.last.bias).to(torch.float32)
        added: Tensor = self._current(self.last, x)
        return added if self.common is None else self.common(x) + added - added.mean(1, keepdim=True)

    def off_step(self, state: Tensor) -> Tensor:
        """(N,) of the staircases, how far the nearest current of a state is from the edge between two steps; 1 with ReLU."""
        x, nearest = self.encoder(state), torch.ones(len(state))
        for layer in (self.first, *(h for h in self.hidden for _ in range(self.repeats))) if self.levels else ():
            u = self._current(layer, x)
            edges = (u * self.levels + 0.5).round() - 0.5  # the nearest half, of which 0.5 and levels - 0.5 are the outermost
            edges = edges.clamp(0.5, self.levels - 0.5) / self.levels
            nearest = torch.minimum(nearest, (u - edges).abs().amin(1))
            x = self._fired(layer, x)
        return nearest

    def _current(self, layer: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear)
        return F.linear(x, rounded(layer.weight) if self.rounds else layer.weight, layer.bias)

    def _fired(self, layer: nn.Module, x: Tensor) -> Tensor:
        u = self._current(layer, x)
        return staircase(u, self.levels) if self.levels else torch.relu(u)


def staircase(u: Tensor, levels: int) -> Tensor:
    """round(levels * clip(u, 0, 1)) / levels; backward as the clip."""
    smooth = torch.clamp(u, 0.0, 1.0) * levels
    stepped = torch.round(smooth)
    if torch.is_grad_enabled():
        stepped = smooth + (stepped - smooth).detach()
    return stepped * (1 / levels)


def rounded(weight: Tensor) -> Tensor:
    """Each row as whole multiples of 1/127 of its largest absolute value; backward straight through."""
    step = torch.clamp(weight.abs().amax(1, keepdim=True), min=TINY) / WEIGHT_STEPS
    made = torch.round(weight / step) * step
    return weight + (made - weight).detach() if torch.is_grad_enabled() else made


def deployed(policy: Policy) -> Policy:
    """The policy to export: weights rounded once for all, and values only by what they differ in between the actions of a state
    (with ReLU: less their mean, folded into the last layer), in float64, as 8 bits would make ties of what is close. The decisions
    are the same."""
    made = copy.deepcopy(policy)
    with torch.no_grad():
        for layer in (made.first, *made.hidden, made.last) if made.rounds else ():
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(rounded(layer.weight))
        if made.common is None:
            made.last.weight.sub_(made.last.weight.mean(0, keepdim=True))
            made.last.bias.sub_(made.last.bias.mean())
        made.last = made.last.to(torch.float64)
        made.rounds, made.common, made.precise = False, None, True
    return made.eval()


def raw(state: np.ndarray) -> Tensor:
    """A state of the environment as the network takes it: float32."""
    return torch.from_numpy(state.astype(np.float32))
