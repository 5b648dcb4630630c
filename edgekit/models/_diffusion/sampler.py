"""The loop over network calls in torch, with the noise that the deployed program draws: the reference of every engine."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling, rows
from edgekit.models._diffusion.step import Decide, Step, nearest
from edgekit.noise import draw

FIRST_NOISE, STEP_NOISE = 0, 1  # ids of the program's noise sources


def sample(net: UNet, sampling: Sampling, condition: Tensor, seed: int, decide: Decide = nearest) -> Tensor:
    """Pictures float32 (B, C, H, W) for condition int64 (B, heads), about -1 to 1.

    seed: 0 to 2^64 - 1; a picture's noise depends on the seed and on its place in the batch. decide: see Step. No gradient.
    """
    *_, last = path(net, sampling, condition, seed, decide)
    return last


@torch.no_grad()
def path(net: UNet, sampling: Sampling, condition: Tensor, seed: int, decide: Decide = nearest) -> Iterator[Tensor]:
    """The noise of sample at first, then x after each call."""
    step, device, batch = Step(net, sampling, decide).to(condition.device), condition.device, len(condition)
    shape = (batch, net.channels, net.size, net.size)
    tables = {n: torch.from_numpy(t).to(device) for n, t in rows(sampling).items()}
    states = {
        name: torch.zeros(batch, *one, dtype=torch.int64 if name == "found" else torch.float32, device=device)
        for name, one in step.state_shapes().items()
    }
    states["x"] = torch.from_numpy(draw("normal", shape, seed, FIRST_NOISE)).to(device)
    yield states["x"]
    for i in range(sampling.calls):
        given = {**states, "condition": condition, **{name: table[i] for name, table in tables.items()}}
        if sampling.draws:
            given["z"] = torch.from_numpy(draw("normal", shape, seed, STEP_NOISE, i)).to(device)
        states = dict(zip(step.states, step(*(given[name] for name in step.inputs)), strict=True))
        yield states["x"]
