"""The code on a device: the encoder as one graph, and the loop that draws a picture with groups of numbers from another one.

With v-prediction a step between two levels is a turn, without a division at any level: x at the angle p + d is cos(d) x + sin(d) v.
Upwards (d > 0) it leads a picture to the noise that it would be drawn from, downwards from there to a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._diffusion.net import Conv, UNet
from edgekit.models._diffusion.schedule import LEVELS
from edgekit.models._diti.groups import added, boundaries, group_of, seen
from edgekit.models._diti.net import Coded, Coder, Encoder
from edgekit.program import Phase, Program, State, row, value
from edgekit.signature import Signature
from edgekit.signature import Tensor as Named

TASK, SWAPPING = "encode", "counterfactual"
CODE, IMAGE = "code", "image"
UP, DOWN = f"{SWAPPING}/up", f"{SWAPPING}/down"  # tables of the two ways


class Encode(nn.Module):
    """The encoder with its norms folded into the weights: convolutions, ReLU, one linear layer of them and of the pixels."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_folded(c, n) for c, n in zip(encoder.convs, encoder.norms, strict=True))
        scale = encoder.scale.factor(encoder.scale.power)
        self.last = nn.Linear(encoder.last.in_features, encoder.dims)
        self.straight = nn.Linear(encoder.straight.in_features, encoder.dims, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(encoder.last.weight * scale[:, None])
            self.last.bias.copy_((encoder.last.bias - encoder.scale.mean) * scale)
            self.straight.weight.copy_(encoder.straight.weight * scale[:, None])

    def forward(self, image: Tensor) -> Tensor:
        """float32 (B, C, H, W) -> code (B, dims)."""
        found = image
        for conv in self.convs:
            found = F.relu(conv(found))
        code: Tensor = self.last(found.flatten(1)) + self.straight(image.flatten(1))
        return code


class Move(nn.Module):
    """One step between two levels, by a code of which some groups come from another one."""

    members: Tensor

    def __init__(self, base: UNet, coder: Coder) -> None:
        super().__init__()
        self.coded = Coded(without_condition(base), coder.shift)
        self.register_buffer("members", torch.from_numpy(added(coder.groups)), persistent=False)

    def forward(self, x: Tensor, code: Tensor, other_code: Tensor, swap: Tensor, visible: Tensor, level: Tensor, turn: Tensor) -> Tensor:
        """x float32 (B, C, H, W), codes (B, dims), swap (B, groups) from 0 (own) to 1 (the other's), visible (dims,), level (1,), turn (2,)
        -> the next x."""
        share = swap @ self.members
        mixed = (code + share * (other_code - code)) * visible
        v = self.coded(x, level.expand(x.shape[0], 1), mixed)
        moved: Tensor = turn[0] * x + turn[1] * v
        return moved


def without_condition(base: UNet) -> UNet:
    """A base whose only condition has one value, with what that says folded into a bias: no look-up is left that says nothing."""
    made = UNet(base.channels, base.size, (), width=base.width)
    state = {n: v.clone() for n, v in base.state_dict().items() if not n.startswith("conditions.")}
    state["told_second.bias"] += base.conditions[0].weight[0].detach()  # type: ignore[index]
    made.load_state_dict(state)
    return made.eval().requires_grad_(False)


def tables(groups: tuple[int, ...], size: int, steps: int) -> dict[str, np.ndarray]:
    """Rows of the way up and of the way down, `steps` each: level (S, 1), visible (S, dims), turn (S, 2).

    On the way up the first step asks at the level where it lands: at level 0 there is no noise to be told of."""
    grid = np.linspace(0, LEVELS, steps + 1)
    angle = math.pi / 2 / steps
    ways = {UP: (np.maximum(grid[:-1], grid[1]), angle), DOWN: (grid[:0:-1], -angle)}
    found: dict[str, np.ndarray] = {}
    for name, (levels, by) in ways.items():
        found[f"{name}-level"] = levels[:, None].astype(np.float32)
        found[f"{name}-visible"] = seen(groups)[group_of(levels, boundaries(len(groups), size))]
        found[f"{name}-turn"] = np.tile(np.array([math.cos(by), math.sin(by)], np.float32), (steps, 1))
    return found


def describe(coder: Coder, size: int, channels: int, steps: int) -> tuple[dict[str, Signature], dict[str, tuple[Signature, Program]]]:
    """(signatures of the graphs `encode` and `step`, signature and program of the tasks `encode` and `counterfactual`)."""
    dims, groups = sum(coder.groups), len(coder.groups)
    picture = ("batch", channels, size, size)

    def shown(name: str, meaning: str = "pixels, -1 to 1") -> Named:
        return Named(name, "float32", picture, meaning)

    def numbers(name: str, meaning: str = "") -> Named:
        return Named(name, "float32", ("batch", dims), meaning)

    ends = np.cumsum(coder.groups)
    said = ", ".join(f"{e - w} to {e - 1}" for w, e in zip(coder.groups, ends, strict=True))
    swap = Named("swap", "float32", ("batch", groups), "of each group, fine ones first: 1 takes it from the other picture, 0 keeps it")
    code = numbers(CODE, f"features; groups, fine ones first: {said}")
    rows_of = (Named("visible", "float32", (dims,)), Named("level", "float32", (1,)), Named("turn", "float32", (2,)))
    graphs = {
        "encode": Signature((shown(IMAGE),), (code,)),
        "step": Signature((shown("x", ""), numbers(CODE), numbers("other_code"), swap, *rows_of), (shown("x_next", ""),)),
    }
    way_up = _way(UP, "x", "source", CODE, picture, steps)  # its own code in place of the other's: nothing to swap
    way_down = _way(DOWN, IMAGE, "x", "other_code", picture, steps)
    encode = Program((Phase("encode", inputs={IMAGE: value(IMAGE)}, outputs={CODE: CODE}),))
    codes = [Phase("encode", inputs={IMAGE: value(of)}, outputs={CODE: name}) for of, name in (("source", CODE), ("other", "other_code"))]
    asked = (shown("source", "the picture that is drawn anew; pixels, -1 to 1"), shown("other", "where swapped groups come from"), swap)
    return graphs, {
        TASK: (graphs["encode"], encode),
        SWAPPING: (Signature(asked, (shown(IMAGE),)), Program((*codes, way_up, way_down))),
    }


def _way(table: str, state: str, start: str, other: str, picture: tuple[int | str, ...], steps: int) -> Phase:
    """A phase over the rows of one way."""
    inputs = {"x": value(state), CODE: value(CODE), "other_code": value(other), "swap": value("swap")}
    rows = {name: row(f"{table}-{name}") for name in ("visible", "level", "turn")}
    states = {state: State("float32", picture, value(start))}
    return Phase("step", "steps", steps, inputs={**inputs, **rows}, states=states, carry={"x_next": state})


@torch.no_grad()
def climbed(move: Move, code: Tensor, source: Tensor, rows: Mapping[str, np.ndarray]) -> Tensor:
    """The noise that pictures lead to by their own codes."""
    return _moved(move, source, code, code, code.new_zeros(len(code), len(move.members)), rows, UP)


@torch.no_grad()
def drawn(move: Move, noise: Tensor, code: Tensor, other_code: Tensor, swap: Tensor, rows: Mapping[str, np.ndarray]) -> Tensor:
    """Pictures from noise, by codes of which some groups are the other's."""
    return _moved(move, noise, code, other_code, swap, rows, DOWN)


def _moved(move: Move, x: Tensor, code: Tensor, other: Tensor, swap: Tensor, rows: Mapping[str, np.ndarray], way: str) -> Tensor:
    found = [torch.from_numpy(rows[f"{way}-{name}"]) for name in ("visible", "level", "turn")]
    for visible, level, turn in zip(*found, strict=True):
        x = move(x, code, other, swap, visible, level, turn)
    return x


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """A convolution with the batch norm behind it in its weights."""
    assert isinstance(conv, Conv) and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    made = nn.Conv2d(conv.inside, len(conv.weight), conv.size, conv.stride, conv.size // 2)
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    made.weight = nn.Parameter((conv.weight.reshape(made.weight.shape) * factor[:, None, None, None]).detach(), requires_grad=False)
    made.bias = nn.Parameter(((conv.bias - norm.running_mean) * factor + norm.bias).detach(), requires_grad=False)
    return made
