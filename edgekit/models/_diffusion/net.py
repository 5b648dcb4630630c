"""A small U-Net on two resolutions that predicts v of noisy pictures, told their levels and conditions.

Levels and conditions scale and shift every residual block (FiLM; Perez et al., AAAI 2018). Hidden convolutions and linear
layers are stored as matrices [out, in * k * k], the form that torch.optim.Muon takes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._diffusion.schedule import LEVELS

FREQUENCIES = 32  # of sines, and as many cosines, of a level
FASTEST_RAD = 100.0  # at level 1000: neighbouring levels differ by 0.1 rad there, and float32 sines stay exact in every engine
GROUPS = 8  # of the group normalisations
ATTENTION_HEADS = 4


class Conv(nn.Module):
    """A convolution of odd size k with its weight as one matrix [out, in * k * k]."""

    def __init__(self, inside: int, outside: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.size, self.stride, self.inside = size, stride, inside
        bound = 1 / math.sqrt(inside * size * size)  # as torch draws weights and biases of Conv2d
        self.weight = nn.Parameter(torch.empty(outside, inside * size * size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outside).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """float32 (B, in, H, W) -> (B, out, H / stride, W / stride)."""
        kernel = self.weight.reshape(-1, self.inside, self.size, self.size)
        return F.conv2d(x, kernel, self.bias, self.stride, self.size // 2)


class Block(nn.Module):
    """Two convolutions with a way around; `told` scales and shifts what is between them."""

    def __init__(self, inside: int, outside: int, told: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, inside), Conv(inside, outside)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, outside), Conv(outside, outside)
        self.film = nn.Linear(told, 2 * outside)
        self.around = nn.Identity() if inside == outside else Conv(inside, outside, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """x float32 (B, in, H, W), told (B, T) -> (B, out, H, W)."""
        scale, shift = self.film(told)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        out: Tensor = h + self.around(x)
        return out


class Attention(nn.Module):
    """Every pixel looks at every pixel; written as MatMul, Softmax, MatMul, which all engines take."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (B, C, H, W) -> the same shape."""
        _, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (
            f(tokens).reshape(-1, h * w, ATTENTION_HEADS, c // ATTENTION_HEADS).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(2, 3) * (c // ATTENTION_HEADS) ** -0.5, -1)
        mixed = self.out((weights @ v).transpose(1, 2).reshape(-1, h * w, c))
        out: Tensor = x + mixed.transpose(1, 2).reshape(-1, c, h, w)
        return out


class Waves(nn.Module):
    """A level, or a length in levels, as sines and cosines."""

    speeds: Tensor

    def __init__(self) -> None:
        super().__init__()
        speeds = torch.logspace(0, math.log10(FASTEST_RAD), FREQUENCIES) / LEVELS
        self.register_buffer("speeds", speeds, persistent=False)

    def forward(self, levels: Tensor) -> Tensor:
        """float32 (B, K) -> (B, 2 * K * FREQUENCIES)."""
        angles = levels[:, :, None] * self.speeds
        return torch.cat([angles.sin(), angles.cos()], 2).flatten(1)


class UNet(nn.Module):
    """v of a picture at its levels; see forward."""

    def __init__(
        self, channels: int, size: int, heads: tuple[int, ...], slots: int = 1, width: int = 48, jumps: bool = False
    ) -> None:
        """channels, size: of the square pictures. heads: values of each condition. slots: levels of a picture.
        jumps: whether the network is told the length of a step too. ValueError for sizes that cannot be built."""
        super().__init__()
        if size < 8 or size % 2:
            raise ValueError(f"pictures must be of an even size from 8 on; found {size}")
        if channels < 1 or slots < 1 or channels % slots:
            raise ValueError(f"slots must share the channels evenly; found {slots} slots and {channels} channels")
        if width < GROUPS or width % GROUPS:
            raise ValueError(f"width must be a multiple of {GROUPS}; found {width}")
        if any(n < 1 for n in heads):
            raise ValueError(f"each condition needs at least one value; found {heads}")
        self.channels, self.size, self.heads, self.slots, self.width, self.jumps = channels, size, tuple(heads), slots, width, jumps
        low, told = 2 * width, 4 * width
        self.waves = Waves()
        self.told_first, self.told_second = nn.Linear(2 * FREQUENCIES * slots, told), nn.Linear(told, told)
        self.conditions = nn.ModuleList(nn.Embedding(n + 1, told) for n in heads)
        if jumps:
            self.jump_first, self.jump_second = nn.Linear(2 * FREQUENCIES, told), nn.Linear(told, told)
            for p in self.jump_second.parameters():
                nn.init.zeros_(p)
        self.first = nn.Conv2d(channels + (slots if slots > 1 else 0), width, 3, padding=1)
        self.down = Block(width, width, told)
        self.smaller = Conv(width, width, stride=2)
        self.low_down, self.look_down = Block(width, low, told), Attention(low)
        self.middle, self.look_middle = Block(low, low, told), Attention(low)
        self.low_up1, self.low_up2 = Block(2 * low, low, told), Block(low + width, low, told)
        self.larger = Conv(low, width)
        self.up1, self.up2 = Block(2 * width, width, told), Block(2 * width, width, told)
        self.last_norm, self.last = nn.GroupNorm(GROUPS, width), nn.Conv2d(width, channels, 3, padding=1)
        for p in self.last.parameters():
            nn.init.zeros_(p)

    def forward(self, x: Tensor, levels: Tensor, condition: Tensor, jump: Tensor | None = None) -> Tensor:
        """x float32 (B, C, H, W), levels float32 (B, K), condition int64 (B, heads) where the number of a head's values
        means 'not given', or float32 (B, 4 * width) as embedded() gives, jump float32 (B, 1) in levels for a network with
        jumps -> v float32 (B, C, H, W)."""
        told = self.told(levels, condition, jump)
        if self.slots > 1:
            maps = (levels / LEVELS)[:, :, None, None].expand(-1, -1, self.size, self.size)
            x = torch.cat([x, maps], 1)
        return self.drawn(x, told)[0]

    def drawn(self, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """x with its maps of levels, and what every block is told (B, 4 * width) -> (v, what the lowest resolution holds
        (B, 2 * width, H / 2, W / 2))."""
        first = self.first(x)
        high = self.down(first, told)
        small = self.smaller(high)
        low = self.look_down(self.low_down(small, told))
        deepest = self.look_middle(self.middle(low, told))
        h = self.low_up1(torch.cat([deepest, low], 1), told)
        h = self.low_up2(torch.cat([h, small], 1), told)
        h = F.interpolate(self.larger(h), scale_factor=2.0, mode="nearest")
        h = self.up1(torch.cat([h, high], 1), told)
        h = self.up2(torch.cat([h, first], 1), told)
        return self.last(F.silu(self.last_norm(h))), deepest

    def told(self, levels: Tensor, condition: Tensor, jump: Tensor | None) -> Tensor:
        """What every block is told: float32 (B, 4 * width)."""
        told = self.told_second(F.silu(self.told_first(self.waves(levels))))
        if condition.is_floating_point():
            told = told + condition
        else:
            for i, embedding in enumerate(self.conditions):
                told = told + embedding(condition[:, i])
        if (jump is not None) != self.jumps:
            raise ValueError(f"jump must be given to a network with jumps and to no other; found jumps {self.jumps}")
        if jump is not None:
            told = told + self.jump_second(F.silu(self.jump_first(self.waves(jump))))
        return F.silu(told)

    def embedded(self, condition: Tensor) -> Tensor:
        """Conditions int64 (B, heads), of one head or more, as the one vector that stands for them: float32 (B, 4 * width)."""
        first, *others = (embedding(condition[:, i]) for i, embedding in enumerate(self.conditions))
        vector: Tensor = sum(others, start=first)
        return vector


def hidden_matrices(net: nn.Module) -> tuple[str, ...]:
    """Names of the weights that Muon may update: matrices between the first and the last layer, all of them 2-D."""
    outer = ("told_first", "jump_first", "jump_second")  # the jump's last matrix begins as zeros and is an embedding
    return tuple(
        f"{name}.weight" for name, m in net.named_modules()
        if isinstance(m, Conv | nn.Linear) and name.split(".")[-1] not in outer
    )  # fmt: skip
