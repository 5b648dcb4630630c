"""What films are measured by: the features of single frames, from a network that learned what the training clips show."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from edgekit.measurement import Progress, silent
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.yardstick import folder
from edgekit.models._fvdm.clips import Clips, ClipSplit, clips

MANY = 5000  # training clips: of more, one frame each is learned from and held against


class FrameYardstick:
    """The feature distance of the frames of films to those of the training clips."""

    def __init__(self, net: quality.FeatureNet, train: Pictures) -> None:
        self.net, self.reference = net, quality.features(net, train.images)

    def features(self, films: np.ndarray) -> np.ndarray:
        """Of all frames of films float32 (N, frames, C, H, W) in [-1, 1]: float64 (N * frames, features)."""
        return quality.features(self.net, np.ascontiguousarray(films.reshape(-1, *films.shape[2:])))

    def distance(self, films: np.ndarray) -> float:
        """Feature-FID of the frames."""
        return quality.feature_fid(self.features(films), self.reference)

    def told(self, films: np.ndarray) -> np.ndarray:
        """Which value each film shows, by the sum of its frames' logits: int64 (N,)."""
        import torch

        with torch.no_grad():
            (logits,) = self.net(torch.from_numpy(np.ascontiguousarray(films.reshape(-1, *films.shape[2:]))))
        found: np.ndarray = logits.log_softmax(1).reshape(len(films), films.shape[1], -1).sum(1).argmax(1).numpy()
        return found


def yardstick_of(fabric: Any, split: ClipSplit, progress: Progress) -> FrameYardstick:
    """Its network comes from the cache, or is trained now and kept there for every later use."""
    frames = Split(f"frames of {split.name}", *map(_frames, (split.train, split.validation, split.test)))
    return FrameYardstick(quality.feature_net(fabric, frames, folder(f"clips-{split.name}"), progress), frames.train)


@lru_cache(maxsize=2)
def cached(name: str) -> FrameYardstick:
    """The yardstick of clips by their name."""
    from edgekit.train import launch

    return yardstick_of(launch(), clips(name), silent)


def _frames(part: Clips) -> Pictures:
    """Every frame; of many clips one frame each, another one of each eight clips in a row."""
    count, frames = part.films.shape[:2]
    which = np.arange(count)[:, None] % frames if count > MANY else np.broadcast_to(np.arange(frames), (count, frames))
    films = np.take_along_axis(part.films, which[:, :, None, None, None], 1)
    images = films.reshape(-1, *films.shape[2:]).astype(np.float32) / np.float32(127.5) - 1
    return Pictures(images, np.repeat(part.conditions, which.shape[1], 0), (part.head,), (part.values,))
