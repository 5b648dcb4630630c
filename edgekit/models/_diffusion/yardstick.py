"""What made pictures are measured by: the features of one data set's training pictures, from a network that is trained once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit import data
from edgekit.measurement import Progress, silent
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Pictures, Split, pictures
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling
from edgekit.models._diffusion.sampler import sample


class Yardstick:
    """The feature distance of sets of pictures to the training pictures of a data set."""

    def __init__(self, net: quality.FeatureNet, split: Split) -> None:
        self.net, self.split = net, split
        self.reference = quality.features(net, split.train.images)

    def distance(self, images: np.ndarray) -> float:
        """Of pictures float32 (N, C, H, W) in [-1, 1]."""
        return quality.feature_fid(quality.features(self.net, images), self.reference)

    def floor(self, part: Pictures) -> float:
        """Of real held-out pictures: what the best generator can reach at their number."""
        return self.distance(part.images)


def yardstick_of(fabric: Any, split: Split, progress: Progress) -> Yardstick:
    """Its network comes from the cache, or is trained now (about a CPU-minute on avatars) and kept there for every later use."""
    return Yardstick(quality.feature_net(fabric, split, folder(split.name), progress), split)


@lru_cache(maxsize=2)
def cached(name: str) -> Yardstick:
    """The yardstick of a data set by its name."""
    from edgekit.train import launch

    return yardstick_of(launch(), pictures(name), silent)


def folder(name: str) -> Path:
    """Where the feature network of a data set lies."""
    return data.cache_folder() / "features" / name


def drawn(net: UNet, sampling: Sampling, conditions: np.ndarray, seed: int) -> np.ndarray:
    """A made picture for each row of conditions int64 (N, heads): float32 (N, C, H, W) in [-1, 1]."""
    images: np.ndarray = sample(net.eval(), sampling, torch.from_numpy(conditions), seed).numpy().clip(-1, 1)
    return images
