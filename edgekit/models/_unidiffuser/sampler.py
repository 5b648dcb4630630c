"""The loop over network calls in torch, with the noise that the deployed program draws: the reference of every engine."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgekit.models._unidiffuser.net import Net
from edgekit.models._unidiffuser.plans import CAPTION, MADE, PICTURE, ROWS, Walk, rows
from edgekit.models._unidiffuser.step import Step
from edgekit.noise import draw

PICTURE_NOISE, CAPTION_NOISE = 0, 1  # ids of the noise that made ones begin as, or that stands for unknown ones anew in each call


@torch.no_grad()
def walk(  # noqa: PLR0913 - what is walked, from what, and by which noise
    net: Net, plan: Walk, count: int, seed: int, x: Tensor | None = None, y: Tensor | None = None, *, whole: bool = False, first_noise: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Pictures float32 (count, C, H, W) and codes (count, T, D) after the walk; x or y: what is given.

    seed: 0 to 2^64 - 1. whole: with the second half of the batch also where it is not needed, as the exported graph has it.
    first_noise: of the ids of its noise; a second walk of a program has others."""
    step = Step(net.eval(), whole or plan.guided)
    shapes = ((count, net.channels, net.size, net.size), (count, *net.codes.shape[::2]))
    tables = {n: torch.from_numpy(t) for n, t in rows(plan).items()}

    def noise_of(which: int, call: int = 0) -> Tensor:
        return torch.from_numpy(draw("normal", shapes[which], seed, first_noise + (PICTURE_NOISE, CAPTION_NOISE)[which], call))

    made, given = MADE[plan.kind], (x, y)
    now = [noise_of(i) if v is None else v for i, v in enumerate(given)]
    for call in range(plan.steps):
        for i, v in enumerate(given):
            if not made[i] and v is None:
                now[i] = noise_of(i, call)
        found = step(*now, *(tables[n][call] for n in ROWS))
        now = [found[i] if made[i] else now[i] for i in (PICTURE, CAPTION)]
    return now[PICTURE], now[CAPTION]


def drawn(
    net: Net, plan: Walk, seed: int, *, count: int = 0, images: np.ndarray | None = None, words: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(pictures float32 in [-1, 1], words int64 (N, T)) for given pictures, given words, or `count` of neither."""
    number = count or len(images if images is not None else words)  # type: ignore[arg-type]
    x = None if images is None else torch.from_numpy(images)
    y = None if words is None else net.encoded(torch.from_numpy(words))
    found, codes = walk(net, plan, number, seed, x, y)
    made: np.ndarray = found.numpy().clip(-1, 1)
    return made, net.decoded(codes).numpy()
