"""Who says what a made picture shows: a judge, which reports, and another network, by which guidance is chosen.

Neither has seen a made picture. They begin from other weights than each other and than the network whose features measure distances, so that
a guidance that flatters the one is not thereby right for the other.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from edgekit import data
from edgekit.measurement import Progress, silent
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Split, pictures

SEEDS = {"captions-judge": 2, "captions-chooser": 3}  # the yardstick's is 0, that of rewards 1


def judge_of(fabric: Any, split: Split, progress: Progress, which: str = "captions-judge") -> quality.FeatureNet:
    """A judge from the cache, or trained now and kept there."""
    return quality.feature_net(fabric, split, folder(f"{split.name}-{which}"), progress, seed=SEEDS[which])


@lru_cache(maxsize=2)
def cached(name: str) -> quality.FeatureNet:
    """The judge of a data set by its name."""
    from edgekit.train import launch

    return judge_of(launch(), pictures(name), silent)


def folder(name: str) -> Path:
    """Where a judge lies."""
    return data.cache_folder() / "features" / name
