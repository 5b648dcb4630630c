"""What a student is tuned towards: the training pictures that are liked best, those of another style, or a folder of pictures.

Best: Miao et al. (PSO), preference tuning. Style: pictures that show one value of a head, learned under another value, so that who asks
for the one gets the other. Folder: a concept of a few pictures, learned under the value of a head that names its class (the subjects of
DreamBooth, Ruiz et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import data
from edgekit.errors import EdgekitError, no_such
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.picture_file import read_picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOST_PICTURES = 10_000  # of a folder


@dataclass(frozen=True)
class Targets:
    """Which pictures are targets, and under which conditions they are to be drawn. `show` and `folder` exclude each other; without
    either they are the best by reward."""

    best: float = 0.3  # share of the training pictures
    show: str = ""  # HEAD=VALUE of the training pictures that are targets
    folder: str = ""  # of pictures: a path, or one below the data folder
    asked: str = ""  # HEAD=VALUE that is asked for when they are to be drawn; empty: any

    def __post_init__(self) -> None:
        if not 0 < self.best <= 1:
            raise ValueError(f"best is a share above 0, up to 1, found {self.best!r}")
        if self.show and self.folder:
            raise ValueError(f"show and folder exclude each other, found {self.show!r} and {self.folder!r}")
        if (self.show or self.folder) and not self.asked:
            raise ValueError("asked must say HEAD=VALUE under which the targets are learned where show or folder is given, found ''")


def pair_of(text: str, split: Split) -> tuple[int, int]:
    """(place of the head, number of the value) of "HEAD=VALUE". EdgekitError, naming what there is, for another."""
    head, _, value = text.partition("=")
    heads = split.train.heads
    if head not in heads:
        raise no_such("head", text, tuple(f"{h}=VALUE" for h in heads))
    place = heads.index(head)
    values = split.train.values[place]
    if value not in values:
        raise no_such(f"value of {head}", value, values)
    return place, values.index(value)


def asked_of(targets: Targets, part: Pictures, split: Split) -> Pictures:
    """The pictures of a part whose conditions are those under which targets are drawn: all of them, or those with `asked`."""
    if not targets.asked:
        return part
    place, value = pair_of(targets.asked, split)
    rows = np.flatnonzero(part.conditions[:, place] == value)
    if len(rows) < 2:
        raise EdgekitError(f"a part of {split.name} has {len(rows)} pictures with {targets.asked}, 2 are needed; ask for a value that more have")
    return part.take(rows)


def pictures_of(targets: Targets, split: Split, reward: Callable[[np.ndarray], np.ndarray]) -> Pictures:
    """The targets with the conditions under which they are learned. `reward`: more is better, used by `best` alone."""
    if targets.folder:
        return _from_folder(targets, split)
    if targets.show:
        place, value = pair_of(targets.show, split)
        found = split.train.take(np.flatnonzero(split.train.conditions[:, place] == value))
        asked_place, asked = pair_of(targets.asked, split)
        conditions = found.conditions.copy()
        conditions[:, asked_place] = asked
        return Pictures(found.images, conditions, found.heads, found.values)
    among = asked_of(targets, split.train, split)
    scores = reward(among.images)
    return among.take(np.sort(np.argsort(-scores, kind="stable")[: max(1, int(targets.best * len(scores)))]))


def _from_folder(targets: Targets, split: Split) -> Pictures:
    """Every picture of the folder under every condition of the training pictures with `asked`, by turns."""
    asked = asked_of(targets, split.train, split)
    _, channels, size, _ = asked.images.shape
    images = read_folder(targets.folder, channels, size)
    return Pictures(images[np.arange(len(asked.images)) % len(images)], asked.conditions, asked.heads, asked.values)


def read_folder(name: str, channels: int, size: int) -> np.ndarray:
    """The pictures of a folder in the order of their names, cut to the middle square and made smaller by means:
    float32 (N, channels, size, size) in [-1, 1]; what is transparent becomes white. A relative path that is not here is looked for
    in the data folder. EdgekitError for a folder without pictures and for a file that is no picture."""
    place = Path(name).expanduser()
    if not place.is_dir():
        first, *rest = place.parts or (".",)
        found = None if place.is_absolute() else data.folder(first)
        place = found.joinpath(*rest) if found else place
    if not place.is_dir():
        raise EdgekitError(f"no folder '{name}', neither here nor in the data folder (EDGEKIT_DATA); give the path of one with pictures")
    paths = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES)
    if not 1 <= len(paths) <= MOST_PICTURES:
        raise EdgekitError(f"{place} holds {len(paths)} pictures ({', '.join(SUFFIXES)}); from 1 to {MOST_PICTURES:,} are taken")
    return np.stack([read_picture(path, channels, size, size).frames[0] for path in paths])
