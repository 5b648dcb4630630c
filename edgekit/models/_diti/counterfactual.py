"""Whether groups of a code mean different things: pictures drawn anew with some groups from another picture, told apart by a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.models._diffusion.data import Pictures
from edgekit.models._diffusion.quality import AT_ONCE, FeatureNet
from edgekit.models._diti.deploy import Encode, Move, climbed, drawn, tables
from edgekit.models._diti.groups import owner
from edgekit.models._diti.stages import Deployed

PAIR_SEED = 4
FINE, COARSE, EVERY, NONE = "fine", "coarse", "all", "none"


class Swapper:
    """Draws pictures anew by a deployed network, as the deployed program does."""

    def __init__(self, net: Deployed, steps: int) -> None:
        self.groups = net.coder.groups
        self.encode, self.move = Encode(net.coder.encoder).eval(), Move(net.base, net.coder).eval()
        self.rows = tables(self.groups, net.base.size, steps)

    @torch.no_grad()
    def __call__(self, source: np.ndarray, other: np.ndarray, swaps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pictures float32 (N, C, H, W) for each swap (groups,), or (N, groups)."""
        x, y = torch.from_numpy(source), torch.from_numpy(other)
        code, other_code = self.encode(x), self.encode(y)
        noise = climbed(self.move, code, x, self.rows)

        def one(swap: np.ndarray) -> Tensor:
            each = torch.from_numpy(np.broadcast_to(swap, (len(source), len(self.groups))).copy())
            return drawn(self.move, noise, code, other_code, each, self.rows)

        return {name: one(swap).numpy() for name, swap in swaps.items()}


def swaps_of(groups: tuple[int, ...]) -> dict[str, np.ndarray]:
    """What is swapped, by name: nothing, each group alone, the finer and the coarser half of the groups, all of them."""
    count = len(groups)
    place = np.arange(count)
    found = {NONE: place < 0, **{f"group {g}": place == g for g in range(count)}}
    found |= {FINE: place < count // 2, COARSE: place >= count // 2, EVERY: place >= 0}
    return {name: mask.astype(np.float32) for name, mask in found.items()}


def numbers_of(groups: tuple[int, ...], swap: np.ndarray) -> int:
    """How many numbers of the code a swap takes over."""
    return int(swap[owner(groups)].sum())


def pairs_of(part: Pictures, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `count` pairs of pictures that differ in a head at least: int64 (count,) twice, the same in every run."""
    rng = np.random.default_rng(PAIR_SEED)
    found: list[tuple[int, int]] = []
    while len(found) < count:
        a, b = rng.integers(0, len(part), 2)
        if (part.conditions[a] != part.conditions[b]).any():
            found.append((int(a), int(b)))
    rows = np.array(found, np.int64)
    return rows[:, 0], rows[:, 1]


def judged(net: Deployed, judge: FeatureNet, part: Pictures, pairs: int, steps: int) -> list[dict[str, Any]]:
    """Each swap over pairs of pictures. Of the heads in which the two pictures of a pair differ: `changed`, the share that the judge tells
    otherwise than of the picture drawn anew with its own code; `taken`, the share that it tells as of the other picture. `moved`: root
    mean square difference of pixels to the picture drawn anew; of the swap of nothing, to the picture itself."""
    swapper, swaps = Swapper(net, steps), swaps_of(net.coder.groups)
    first, second = pairs_of(part, pairs)
    drawn_so: dict[str, list[np.ndarray]] = {name: [] for name in swaps}
    for rows in _pieces(len(first)):
        made = swapper(part.images[first[rows]], part.images[second[rows]], swaps)
        for name, images in made.items():
            drawn_so[name].append(images)
    pictures = {name: np.concatenate(images) for name, images in drawn_so.items()}
    differ = part.conditions[first] != part.conditions[second]
    before = answers(judge, pictures[NONE])
    found = []
    for name, images in pictures.items():
        told = answers(judge, images)
        beside = part.images[first] if name == NONE else pictures[NONE]
        against = part.conditions[first] if name == NONE else before
        found.append({
            "swap": name, "numbers": numbers_of(net.coder.groups, swaps[name]),
            "changed": float((told != against)[differ].mean()), "taken": float((told == part.conditions[second])[differ].mean()),
            "moved": float(np.sqrt(np.mean((images - beside) ** 2, dtype=np.float64))),
        })  # fmt: skip
    return found


@torch.no_grad()
def answers(judge: FeatureNet, images: np.ndarray) -> np.ndarray:
    """What the judge tells of pictures: int64 (N, heads)."""
    found = [judge(torch.from_numpy(images[rows].clip(-1, 1))) for rows in _pieces(len(images))]
    return np.concatenate([torch.stack([head.argmax(1) for head in heads], 1).numpy() for heads in found])


def _pieces(count: int) -> Iterator[slice]:
    for at in range(0, count, AT_ONCE):
        yield slice(at, at + AT_ONCE)
