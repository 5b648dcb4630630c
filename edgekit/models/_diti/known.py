"""What a code is worth to the frozen base at each group's levels: with its own code, with another picture's, with its own group alone hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgekit.models._diffusion.schedule import clean, noised
from edgekit.models._diti.deploy import Encode
from edgekit.models._diti.groups import boundaries, seen
from edgekit.models._diti.net import shifted, told_nothing
from edgekit.models._diti.stages import Deployed

NOISE_SEED = 6


@torch.no_grad()
def known(net: Deployed, images: np.ndarray) -> list[dict[str, Any]]:
    """Mean squared errors of the guessed clean picture in the middle of each group's levels: `plain` of the base alone, `own` with the
    picture's code, `other` with that of the next picture, `without` with its code but for the group that is added there."""
    groups, x0 = net.coder.groups, torch.from_numpy(images)
    code = Encode(net.coder.encoder).eval()(x0)
    eps = torch.from_numpy(np.random.default_rng(NOISE_SEED).standard_normal(images.shape, np.float32))
    visible = torch.from_numpy(seen(groups))
    bounds = boundaries(len(groups), net.base.size)
    found = []
    for g, (low, high) in enumerate(zip([0.0, *bounds[:-1]], bounds, strict=True)):
        level = float(low + high) / 2
        levels = torch.full((len(images), 1), level)
        x = noised(x0, eps, levels)
        plain = told_nothing(net.base, x, levels)

        def error(shift: torch.Tensor | float, x: torch.Tensor = x, plain: torch.Tensor = plain, levels: torch.Tensor = levels) -> float:
            return float((clean(x, plain + shift, levels) - x0).square().mean())

        def shift(own: torch.Tensor, x: torch.Tensor = x, plain: torch.Tensor = plain, levels: torch.Tensor = levels) -> torch.Tensor:
            return shifted(net.coder.shift, x, plain, levels, own)

        before = visible[g - 1] if g else torch.zeros_like(visible[0])
        found.append({
            "group": g, "numbers": groups[g], "level": level, "plain": error(0.0), "own": error(shift(code * visible[g])),
            "other": error(shift(code.roll(1, 0) * visible[g])), "without": error(shift(code * before)),
        })  # fmt: skip
    return found
