"""A leaky integrate-and-fire layer with learnable threshold and leak, and the surrogate that trains it.

    u <- leak * u + I ;  z = u / V - 1 ;  o = 1 if z > 0 else 0 ;  u <- u - V * o     (soft reset, same step)
    do/dz = 0.3 * max(0, 1 - |z|)                                                      (backward only)

Chowdhury, Rathi, Roy, "One Timestep is All You Need", arXiv 2110.05929; the neuron is that of DIET-SNN. The indicator
inside the reset is not differentiated, V is. The leak is held at or below 1 before every forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

GAMMA = 0.3  # height of the surrogate's triangle (IIR-SNN, published code)


class Spike(torch.autograd.Function):
    """1 where z > 0, with a piecewise linear surrogate gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        """Float 0/1 of the shape of z."""
        ctx.save_for_backward(z)
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """GAMMA * max(0, 1 - |z|) times the incoming gradient."""
        (z,) = ctx.saved_tensors
        slope: Tensor = GAMMA * (1 - z.abs()).clamp_(min=0)
        return grads[0] * slope


class Lif(nn.Module):
    """One threshold and one leak for the whole layer."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(1.0))
        self.leak = nn.Parameter(torch.tensor(1.0))

    def forward(self, current: Tensor, u: Tensor | None) -> tuple[Tensor, Tensor]:
        """Current and membrane (None = at rest, 0) of one step -> spikes and the next membrane, all of one shape."""
        if u is None:
            with torch.no_grad():  # once a sequence, before its first use: the leak of all its steps is one value
                self.leak.clamp_(max=1.0)
            u = current
        else:
            u = self.leak * u + current
        spikes: Tensor = Spike.apply(u / self.threshold - 1)  # type: ignore[no-untyped-call]
        return spikes, u - self.threshold * spikes.detach()
