"""What pictures are preferred for: black boxes from pictures to a number each, which nobody differentiates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit import data
from edgekit.errors import no_such
from edgekit.measurement import Progress
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.preference import Reward

JUDGE_SEED = 1  # of the network that rewards an attribute; the yardstick's is 0, so that no picture is rewarded by what it is measured with


def reward_of(name: str, fabric: Any, split: Split, progress: Progress) -> Reward:
    """`ink`, `symmetry`, or `HEAD=VALUE` of the pictures' conditions. EdgekitError for another name."""
    if name == "ink":
        return ink
    if name == "symmetry":
        return symmetry
    head, _, value = name.partition("=")
    heads = split.train.heads
    if head not in heads:
        raise no_such("reward", name, ("ink", "symmetry", *(f"{h}=VALUE" for h in heads)))
    place = heads.index(head)
    values = split.train.values[place]
    if value not in values:
        raise no_such(f"value of {head}", value, values)
    net = quality.feature_net(fabric, split, folder(split.name), progress, seed=JUDGE_SEED)
    return attribute(net, place, values.index(value))


def ink(images: np.ndarray) -> np.ndarray:
    """The mean pixel: float64 (N,) in [-1, 1]."""
    found: np.ndarray = images.mean((1, 2, 3), dtype=np.float64)
    return found


def symmetry(images: np.ndarray) -> np.ndarray:
    """Minus the mean |difference| to the mirror image: float64 (N,), 0 at best."""
    found: np.ndarray = -np.abs(images - images[..., ::-1]).mean((1, 2, 3), dtype=np.float64)
    return found


def attribute(net: quality.FeatureNet, head: int, value: int) -> Reward:
    """The log-odds that a network trained on real pictures gives a value of a head."""

    def reward(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits = net(torch.from_numpy(np.ascontiguousarray(images)))[head].double()
        others = torch.cat([logits[:, :value], logits[:, value + 1 :]], 1).logsumexp(1)
        found: np.ndarray = (logits[:, value] - others).numpy()
        return found

    return reward


def folder(name: str) -> Path:
    """Where the network that rewards attributes of a data set lies."""
    return data.cache_folder() / "features" / f"{name}-judge"
