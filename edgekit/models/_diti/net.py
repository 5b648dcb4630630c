"""The encoder of a picture, and the decoder that adds to a frozen denoiser's answer what the code of the picture knows of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._diffusion.net import FREQUENCIES, Block, Conv, Waves
from edgekit.models._diffusion.schedule import clean
from edgekit.models._diti.groups import added

STRIDES = (1, 2, 2)  # of the encoder's convolutions
MAP = 4  # the code's map is a MAP-th of a picture's sides, as the last convolution of the encoder
MOMENTUM, TINY = 0.1, 1e-5  # of running means and of powers, as batch norm has them
MAP_WIDTH = 16  # channels of the map
Groups = tuple[int, ...]


class Even(nn.Module):
    """Numbers with mean 0 each, and deviation 1 within each group together: what matters more may vary more, and no group acts on another."""

    mean: Tensor
    power: Tensor
    members: Tensor

    def __init__(self, groups: Groups) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(sum(groups)))
        self.register_buffer("power", torch.ones(len(groups)))
        self.register_buffer("members", torch.from_numpy(added(groups)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (B, dims) -> the same shape; by the batch's own mean and power while it learns, and by running ones afterwards."""
        if not self.training:
            return (x - self.mean) * self.factor(self.power)
        x = x.float()  # layers before it may have been rounded
        mean = x.mean(0)
        power = self.members @ (x - mean).square().mean(0) / self.members.sum(1)
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.power.lerp_(power, MOMENTUM)
        return (x - mean) * self.factor(power)

    def factor(self, power: Tensor) -> Tensor:
        """What each number without its mean is multiplied by, for powers of the groups."""
        return (power + TINY).rsqrt() @ self.members


class Encoder(nn.Module):
    """Convolutions with batch norm and ReLU, then one linear layer of what they found and of the pixels themselves, whose numbers are brought
    to mean 0, and each group to deviation 1. The pixels are there because colours are linear in them, which a code of convolutions bends."""

    def __init__(self, channels: int, size: int, groups: Groups, width: int) -> None:
        """size: of the square pictures, a multiple of MAP. width: channels of the first convolution; twice and three times as many follow."""
        super().__init__()
        if size % MAP:
            raise ValueError(f"pictures must be a multiple of {MAP} pixels wide; found {size}")
        dims = sum(groups)
        self.channels, self.size, self.dims, self.width = channels, size, dims, width
        inside = (channels, width, 2 * width)
        self.convs = nn.ModuleList(
            Conv(i, width * (k + 1), stride=s) for k, (i, s) in enumerate(zip(inside, STRIDES, strict=True))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width * (k + 1)) for k in range(len(STRIDES)))
        self.last = nn.Linear(width * len(STRIDES) * (size // MAP) ** 2, dims)
        self.straight = nn.Linear(channels * size * size, dims, bias=False)
        self.scale = Even(groups)

    def forward(self, images: Tensor) -> Tensor:
        """float32 (B, C, H, W) in [-1, 1] -> code (B, dims)."""
        found = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            found = F.relu(norm(conv(found)))
        code: Tensor = self.scale(self.last(found.flatten(1)) + self.straight(images.flatten(1)))
        return code


class Shift(nn.Module):
    """What is added to the denoiser's v: from the noisy picture, the denoiser's guess of the clean one, the level, and a code."""

    def __init__(self, channels: int, size: int, dims: int, width: int) -> None:
        super().__init__()
        self.channels, self.size, self.dims, self.width = channels, size, dims, width
        told = 4 * width
        self.waves = Waves()
        self.told_first, self.told_second = nn.Linear(2 * FREQUENCIES, told), nn.Linear(told, told)
        self.told_code = nn.Linear(dims, told)
        # The code as a coarse picture too: scales and shifts alone say what there is, and not where.
        self.map = nn.Linear(dims, MAP_WIDTH * (size // MAP) ** 2)
        self.first = nn.Conv2d(2 * channels, width, 3, padding=1)
        self.smaller = Conv(width, 2 * width, stride=2)
        self.low1 = Block(2 * width + MAP_WIDTH, 2 * width, told)
        self.low2 = Block(2 * width, 2 * width, told)
        self.larger = Conv(2 * width, width)
        self.up = Block(2 * width, width, told)
        self.last_norm, self.last = nn.GroupNorm(8, width), nn.Conv2d(width, channels, 3, padding=1)
        for p in self.last.parameters():
            nn.init.zeros_(p)

    def forward(self, x: Tensor, guess: Tensor, levels: Tensor, code: Tensor) -> Tensor:
        """x, guess float32 (B, C, H, W), levels (B, 1), code (B, dims) with zeros where nothing is seen -> shift of v (B, C, H, W)."""
        told = F.silu(self.told_second(F.silu(self.told_first(self.waves(levels)))) + self.told_code(code))
        side = self.size // MAP
        placed = F.interpolate(self.map(code).reshape(-1, MAP_WIDTH, side, side), scale_factor=2.0, mode="nearest")
        first = self.first(torch.cat([x, guess], 1))
        h = self.low1(torch.cat([self.smaller(first), placed], 1), told)
        h = F.interpolate(self.larger(self.low2(h, told)), scale_factor=2.0, mode="nearest")
        h = self.up(torch.cat([h, first], 1), told)
        shift: Tensor = self.last(F.silu(self.last_norm(h)))
        return shift


class Coder(nn.Module):
    """Encoder and shift; what a stage trains and stores."""

    def __init__(self, channels: int, size: int, groups: Groups, encoder_width: int, shift_width: int) -> None:
        super().__init__()
        self.groups, self.encoder_width, self.shift_width = tuple(groups), encoder_width, shift_width
        dims = sum(groups)
        self.encoder = Encoder(channels, size, self.groups, encoder_width)
        self.shift = Shift(channels, size, dims, shift_width)


class Coded(nn.Module):
    """The frozen denoiser with a code: v of a noisy picture, of which the code says what noise has hidden."""

    def __init__(self, base: nn.Module, shift: Shift) -> None:
        super().__init__()
        self.base, self.shift = base, shift

    def forward(self, x: Tensor, levels: Tensor, code: Tensor) -> Tensor:
        """x float32 (B, C, H, W), levels (B, 1), code (B, dims), masked -> v."""
        plain = told_nothing(self.base, x, levels)
        v: Tensor = plain + shifted(self.shift, x, plain, levels, code)
        return v


def told_nothing(base: nn.Module, x: Tensor, levels: Tensor) -> Tensor:
    """v of a base whose only condition has one value."""
    nothing = torch.zeros(1, 1, dtype=torch.int64, device=x.device).expand(x.shape[0], 1)
    v: Tensor = base(x, levels, nothing)
    return v


def shifted(shift: nn.Module, x: Tensor, plain: Tensor, levels: Tensor, code: Tensor) -> Tensor:
    """The shift beside the base's v."""
    found: Tensor = shift(x, clean(x, plain, levels), levels, code)
    return found


