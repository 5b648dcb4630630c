"""Short clips to learn to continue: moving digits, animated emoji, weather radar, split once and for all.

Parts of a split share no digit image, no emoji and no time of a weather event. The test part is never looked at to choose.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgekit import data
from edgekit.errors import Broken, EdgekitError, no_such
from edgekit.images import load_images

FRAMES = 8
SPLIT_SEED = 20  # of where digits begin and move, and of the order in which emoji are dealt out
MNIST_PARTS = (10_000, 500, 500)  # digits, one clip each
DIGITS = tuple("0123456789")
EMOJI, EMOJI_SIDE, EMOJI_FRAMES = 279, 48, 16  # of the data set; every second frame is taken, in thirds of the side
EMOJI_PARTS = (219, 30, 30)
RADAR_POOL, RADAR_SIDE, RADAR_STRIDE = 4, 16, 8  # 128x128 becomes 32x32 by means, of which crops are taken
RADAR_SHARES = (0.6, 0.8)  # of each event's frames: where training and validation end
RADAR_WET = 12  # mean of a crop in 0..255 below which hardly any of it rains
EVENTS = ("knmi_20100826", "fmi_20160928", "fmi_20170509")


@dataclass(frozen=True)
class Clips:
    """Films of equal length and what each of them shows."""

    films: np.ndarray  # uint8 (N, frames, C, H, W)
    conditions: np.ndarray  # int64 (N, 1), from 0 to below the number of values
    head: str  # what the condition says
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.films)

    def pixels(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Films as float32 in [-1, 1]: all, or those of int64 rows."""
        found: np.ndarray = (self.films if rows is None else self.films[rows]).astype(np.float32) / np.float32(127.5) - 1
        return found

    def first(self, count: int | None) -> Clips:
        """The first `count`, or all."""
        return self if not count or count >= len(self) else Clips(self.films[:count], self.conditions[:count], self.head, self.values)


@dataclass(frozen=True)
class ClipSplit:
    """Clips to learn from, to choose by, and to report on."""

    name: str
    train: Clips
    validation: Clips
    test: Clips
    mirrors: bool = False  # whether a clip seen in a mirror is as good a clip

    @property
    def sha256(self) -> str:
        """Of what is learned from and chosen by."""
        arrays = (a for p in (self.train, self.validation) for a in (p.films, p.conditions))
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


@lru_cache(maxsize=2)
def clips(name: str) -> ClipSplit:
    """Eight frames each: `moving_mnist` (a digit of 10x10 on 16x16), `moving_small` (scikit-learn's 8x8 digits on 12x12; no download),
    `emoji` (16x16, colour), `radar` (crops of 16x16 of rain, five minutes apart).

    A moving digit begins anywhere and moves by one pixel a frame in both directions; it bounces off the border.
    Raises EdgekitError when the data is not on this machine, Broken for a damaged file.
    """
    if name not in LOADERS:
        raise no_such("clips", name, LOADERS)
    return LOADERS[name]()


def _moving_mnist() -> ClipSplit:
    train, validation, test = MNIST_PARTS
    found = load_images("mnist", (12_000, test))  # the same digits from all 60,000 as from a folder of the first 12,000
    parts = (
        (found.train_images[:train], found.train_labels[:train]), (found.validation_images[:validation], found.validation_labels[:validation]),
        (found.test_images, found.test_labels),
    )  # fmt: skip
    return _split("moving_mnist", [_moving(_quartered(i), y, 16, part) for part, (i, y) in enumerate(parts)])


def _quartered(images: np.ndarray) -> np.ndarray:
    """28x28 bytes (N, 1, 28, 28), of which the digit fills the middle 20x20, as 10x10 means of that middle."""
    middle = images[:, :, 4:24, 4:24]
    means: np.ndarray = middle.reshape(-1, 1, 10, 2, 10, 2).mean((3, 5))
    return means.round().astype(np.uint8)


def _moving_small() -> ClipSplit:
    found = load_images("digits")
    parts = ((found.train_images, found.train_labels), (found.validation_images, found.validation_labels), (found.test_images, found.test_labels))
    return _split("moving_small", [_moving((i * np.float32(255 / 16)).astype(np.uint8), y, 12, k) for k, (i, y) in enumerate(parts)])


def _moving(digits: np.ndarray, labels: np.ndarray, side: int, part: int) -> Clips:
    """uint8 (N, 1, h, h) as clips of side x side; `part` is a number of its own for each part of a split."""
    count, small = len(digits), digits.shape[-1]
    rng = np.random.default_rng((SPLIT_SEED, part))
    room = side - small
    start = rng.integers(0, room + 1, (count, 2))
    speed = rng.choice([-1, 1], (count, 2))
    films = np.zeros((count, FRAMES, 1, side, side), np.uint8)
    for t in range(FRAMES):
        at = room - np.abs((start + speed * t) % (2 * room) - room)
        for i, (y, x) in enumerate(at):
            films[i, t, :, y : y + small, x : x + small] = digits[i]
    return Clips(films, labels[:, None].astype(np.int64), "digit", DIGITS)


def _emoji() -> ClipSplit:
    place = data.require("animated_emoji")
    groups = _groups(place / "clips.csv")
    atlas = _atlas(place / "clips_48x16.webp")
    frames = atlas.reshape(EMOJI, EMOJI_SIDE, EMOJI_FRAMES, EMOJI_SIDE, 3).transpose(0, 2, 4, 1, 3)[:, ::2]
    third = EMOJI_SIDE // 16
    small = frames.reshape(EMOJI, FRAMES, 3, 16, third, 16, third).mean((4, 6)).round().astype(np.uint8)
    values = tuple(sorted(set(groups)))
    conditions = np.array([[values.index(g)] for g in groups], np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(EMOJI)
    ends = np.cumsum(EMOJI_PARTS)[:-1]
    return _split("emoji", [Clips(small[rows], conditions[rows], "group", values) for rows in map(np.sort, np.split(order, ends))], mirrors=True)


def _groups(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = [row["group"] for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise _absent(path) from None
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise Broken(f"{path} is no CSV file with a column 'group' ({error}); get it again") from None
    if len(found) != EMOJI:
        raise Broken(f"{path} names {len(found)} clips, {EMOJI} are needed; get it again")
    return found


def _atlas(path: Path) -> np.ndarray:
    from PIL import Image

    size = (EMOJI_FRAMES * EMOJI_SIDE, EMOJI * EMOJI_SIDE)
    try:
        with Image.open(path, formats=("WEBP",)) as image:
            if image.size != size:
                raise Broken(f"{path} has {image.size} pixels, {EMOJI} clips take {size}; get it again")
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise _absent(path) from None
    except (OSError, ValueError) as error:
        raise Broken(f"{path} is not a WebP picture ({error}); get it again") from None


def _radar() -> ClipSplit:
    path = data.require("radar_nowcast") / "radar.npz"
    try:
        with np.load(path) as packed:
            events = [packed[name] for name in EVENTS]
    except FileNotFoundError:
        raise _absent(path) from None
    except (OSError, ValueError, KeyError) as error:
        raise Broken(f"{path} is no archive of the three radar events ({error}); get it again") from None
    parts: list[list[np.ndarray]] = [[], [], []]
    shown: list[list[int]] = [[], [], []]
    for event, frames in enumerate(events):
        pooled = frames.reshape(len(frames), 32, RADAR_POOL, 32, RADAR_POOL).mean((2, 4)).round().astype(np.uint8)
        ends = [round(share * len(frames)) for share in RADAR_SHARES]
        for part, piece in enumerate(np.split(pooled, ends)):
            found = _wet(piece)
            parts[part] += found
            shown[part] += [min(event, 1)] * len(found)
    made = [Clips(np.stack(f), np.array(s, np.int64)[:, None], "radar", ("knmi", "fmi")) for f, s in zip(parts, shown, strict=True)]
    return _split("radar", made, mirrors=True)


def _wet(frames: np.ndarray) -> list[np.ndarray]:
    """Clips (8, 1, 16, 16) of all crops and starts in which it rains enough to see."""
    places = range(0, frames.shape[1] - RADAR_SIDE + 1, RADAR_STRIDE)
    every = (
        frames[t : t + FRAMES, None, y : y + RADAR_SIDE, x : x + RADAR_SIDE]
        for t in range(len(frames) - FRAMES + 1) for y in places for x in places
    )  # fmt: skip
    return [clip for clip in every if clip.mean() >= RADAR_WET]


def _split(name: str, parts: list[Clips], mirrors: bool = False) -> ClipSplit:
    train, validation, test = parts
    return ClipSplit(name, train, validation, test, mirrors)


def _absent(path: Path) -> EdgekitError:
    return EdgekitError(f"{path.parent} has no {path.name}; complete the folder from where the data came from")


LOADERS: dict[str, Callable[[], ClipSplit]] = {"moving_mnist": _moving_mnist, "moving_small": _moving_small, "emoji": _emoji, "radar": _radar}
