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
from edgekit.models._diffusion.targets import Targets, pair_of, pictures_of

JUDGE_SEED = 1  # of the network that rewards an attribute; the yardstick's is 0, so that no picture is rewarded by what it is measured with


def reward_of(name: str, fabric: Any, split: Split, progress: Progress, targets: Targets) -> Reward:
    """`ink`, `symmetry`, `likeness` (to the targets), or `HEAD=VALUE` of the pictures' conditions. EdgekitError for another name."""
    if name == "ink":
        return ink
    if name == "symmetry":
        return symmetry
    by_itself = not targets.show and not targets.folder
    if name == "likeness" and not by_itself:
        aims = pictures_of(targets, split, ink).images
        return likeness(quality.feature_net(fabric, split, folder(split.name), progress, seed=JUDGE_SEED), aims)
    head = name.partition("=")[0]
    if head not in split.train.heads:
        others = () if by_itself else ("likeness",)  # targets that are the most alike to themselves would be none
        raise no_such("reward", name, ("ink", "symmetry", *others, *(f"{h}=VALUE" for h in split.train.heads)))
    net = quality.feature_net(fabric, split, folder(split.name), progress, seed=JUDGE_SEED)
    return attribute(net, *pair_of(name, split))


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


def likeness(net: quality.FeatureNet, aims: np.ndarray) -> Reward:
    """Minus the distance to the nearest of `aims` in the features of a network trained on real pictures (as DINO and CLIP-I scores
    of concepts are taken, by the nearest instead of the mean of all)."""
    known = np.unique(quality.features(net, aims), axis=0)

    def reward(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = -quality.nearest_rows(quality.features(net, images), known)
        return found

    return reward


def folder(name: str) -> Path:
    """Where the network that rewards attributes of a data set lies."""
    return data.cache_folder() / "features" / f"{name}-judge"
