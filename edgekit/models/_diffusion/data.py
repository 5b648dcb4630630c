"""Small pictures with conditions to learn to draw: digits, MNIST, avatars and emoji, split once and for all.

A condition is a whole number a head: which of the head's values the picture shows. The parts of a split share no picture,
of the emoji no emoji either: the four drawings of one emoji are near-duplicates. The test part is never looked at to choose.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgekit import data
from edgekit.errors import Broken, EdgekitError, no_such
from edgekit.images import load_images

SPLIT_SEED = 20  # of the order in which pictures (emoji) are dealt to the parts; the same for every network and seed
PARTS: Mapping[str, tuple[int, int, int]] = {  # training, validation, test; of the emoji emoji, not pictures
    "mnist": (10_000, 1_000, 1_000),
    "avatars": (3_000, 500, 500),
    "emoji": (1_526, 190, 190),
}
NO_YES = ("no", "yes")
TILES_PER_ROW = 40  # of an atlas
# Heads of the avatars: (head, column, what the drawn part's name begins with). A part that is absent has an empty name.
AVATAR_PARTS = (
    ("glasses", "glasses", ""), ("hat", "hat", ""), ("beard", "beard", ""), ("long hair", "hair", "long"), ("happy mouth", "mouth", "happy"),
)  # fmt: skip
AVATAR_COLOURS = (("skin", "skinColor"), ("hair colour", "hairColor"), ("clothing colour", "clothingColor"))
EMOJI_STYLES = ("noto", "twemoji", "openmoji", "fluent")


@dataclass(frozen=True)
class Pictures:
    """Pictures and what each of them shows."""

    images: np.ndarray  # float32 (N, C, H, W) in [-1, 1]
    conditions: np.ndarray  # int64 (N, heads), each from 0 to below its head's number of values
    heads: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]  # of each head

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each head has; that number itself means 'not given' to a network."""
        return tuple(len(v) for v in self.values)

    def take(self, rows: np.ndarray) -> Pictures:
        """Some of the pictures, in this order; rows int64 (n,), or bool (N,)."""
        return Pictures(self.images[rows], self.conditions[rows], self.heads, self.values)


@dataclass(frozen=True)
class Split:
    """Pictures to learn from, to choose by, and to report on."""

    name: str
    train: Pictures
    validation: Pictures
    test: Pictures

    @property
    def sha256(self) -> str:
        """Of what is learned from and chosen by."""
        arrays = (a for p in (self.train, self.validation) for a in (p.images, p.conditions))
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


@lru_cache(maxsize=4)
def pictures(name: str) -> Split:
    """The pictures of `digits` (8x8), `mnist` (16x16), `avatars` (16x16, colour) or `emoji` (16x16, colour), split once.

    digits: scikit-learn's 1,797, split as by every family. mnist: of the first 12,000 training images and the first 1,000 test
    images, padded to 32x32 and halved by means of 2x2. avatars: DiceBear pixel art; each 2x2 block of it has one colour, so every
    second pixel is all of it. emoji: 1,906 in up to four styles, 64x64 quartered by means of 4x4; a style that lacks an emoji has no
    picture, nor has one that draws it as an emoji before (35 in all, such as the flags of Chad and Romania).
    Raises EdgekitError when the data is not on this machine, Broken for a damaged file.
    """
    if name not in LOADERS:
        raise no_such("pictures", name, LOADERS)
    return LOADERS[name]()


def dealt(count: int, parts: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of `count` things go to training, validation and test: int64 rows, each part sorted, drawn by SPLIT_SEED."""
    if sum(parts) != count:
        raise Broken(f"{sum(parts)} pictures are to be split into {parts}, found {count}; get the data again")
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    ends = np.cumsum(parts)
    first, second, third = np.sort(order[: ends[0]]), np.sort(order[ends[0] : ends[1]]), np.sort(order[ends[1] :])
    return first, second, third


def _digits() -> Split:
    found = load_images("digits")  # dealt out within each class: of 360 pictures the feature distance depends on how many fours there are
    parts = ("train", "validation", "test")
    return Split("digits", *(_of_labels(getattr(found, f"{p}_images") / np.float32(8) - 1, getattr(found, f"{p}_labels")) for p in parts))  # 0..16


def _mnist() -> Split:
    train, validation, test = PARTS["mnist"]
    found = load_images("mnist", (12_000, test))  # the same pictures from all 60,000 as from a folder of the first 12,000
    return Split(
        "mnist",
        _of_labels(_halved(found.train_images[:train]), found.train_labels[:train]),
        _of_labels(_halved(found.validation_images[:validation]), found.validation_labels[:validation]),
        _of_labels(_halved(found.test_images), found.test_labels),
    )


def _halved(images: np.ndarray) -> np.ndarray:
    """28x28 bytes (N, 1, 28, 28), padded to 32x32, as the means of 2x2 in [-1, 1]."""
    return _means(np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))), 2)


def _means(images: np.ndarray, side: int) -> np.ndarray:
    """Bytes (N, C, H, W) as the means of side x side blocks, float32 in [-1, 1]."""
    count, channels, height, width = images.shape
    blocks = images.reshape(count, channels, height // side, side, width // side, side)
    made: np.ndarray = blocks.mean((3, 5), dtype=np.float32) / np.float32(127.5) - 1
    return made


def _of_labels(images: np.ndarray, labels: np.ndarray) -> Pictures:
    return Pictures(np.ascontiguousarray(images, np.float32), labels[:, None], ("digit",), (tuple("0123456789"),))


def _avatars() -> Split:
    place = data.require("avatars")
    rows = _rows(place / "pixel.csv", ("index", *(c for _, c, _ in AVATAR_PARTS), *(c for _, c in AVATAR_COLOURS)))
    tiles = _tiles(place / "pixel_32.webp", len(rows), 32)
    columns: list[list[int]] = []
    values: list[tuple[str, ...]] = []
    for _, column, prefix in AVATAR_PARTS:
        columns.append([int(bool(r[column]) and r[column].startswith(prefix)) for r in rows])
        values.append(NO_YES)
    for _, column in AVATAR_COLOURS:
        colours = sorted({r[column] for r in rows})
        columns.append([colours.index(r[column]) for r in rows])
        values.append(tuple(colours))
    heads = (*(h for h, _, _ in AVATAR_PARTS), *(h for h, _ in AVATAR_COLOURS))
    small = _means(tiles[:, :, ::2, ::2], 1)
    return _split("avatars", Pictures(small, np.array(columns, np.int64).T.copy(), heads, tuple(values)))


def _emoji() -> Split:
    """The four pictures of an emoji follow one another and go to the same part."""
    place = data.require("emoji")
    rows = _rows(place / "emoji.csv", ("hexcode", "group", *(f"has_{s}" for s in EMOJI_STYLES)))
    groups = sorted({r["group"] for r in rows})
    drawn = np.stack([_means(_tiles(place / f"{s}_64.webp", len(rows), 64), 4) for s in EMOJI_STYLES], 1)  # (rows, styles, C, H, W)
    there = np.array([[r[f"has_{s}"] == "1" for s in EMOJI_STYLES] for r in rows])
    there &= _first_of_equals(drawn.reshape(-1, *drawn.shape[2:])).reshape(there.shape)
    group = np.array([groups.index(r["group"]) for r in rows], np.int64)
    parts = []
    for chosen in dealt(len(rows), PARTS["emoji"]):
        row, style = np.nonzero(there[chosen])
        conditions = np.stack([style, group[chosen[row]]], 1).astype(np.int64)
        parts.append(Pictures(drawn[chosen[row], style], conditions, ("style", "group"), (EMOJI_STYLES, tuple(groups))))
    return Split("emoji", *parts)


LOADERS: dict[str, Callable[[], Split]] = {"digits": _digits, "mnist": _mnist, "avatars": _avatars, "emoji": _emoji}


def _first_of_equals(images: np.ndarray) -> np.ndarray:
    """Which pictures equal none before them: bool (N,)."""
    firsts = {image.tobytes(): i for i, image in reversed(list(enumerate(images)))}
    found = np.zeros(len(images), bool)
    found[list(firsts.values())] = True
    return found


def _split(name: str, every: Pictures) -> Split:
    train, validation, test = dealt(len(every), PARTS[name])
    return Split(name, every.take(train), every.take(validation), every.take(test))


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise _absent(path) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Broken(f"{path} is not a CSV file ({error}); get it again") from None
    lacking = [c for c in needed if not rows or rows[0].get(c) is None]
    if lacking:
        raise Broken(f"{path} has no column {', '.join(lacking)}; get it again")
    return rows


def _tiles(path: Path, count: int, side: int) -> np.ndarray:
    """The first `count` square tiles of an atlas with TILES_PER_ROW in a row, uint8 (count, 3, side, side)."""
    from PIL import Image

    height = -(-count // TILES_PER_ROW) * side
    try:
        with Image.open(path, formats=("WEBP",)) as image:
            if image.size != (TILES_PER_ROW * side, height):
                raise Broken(f"{path} has {image.size} pixels, {count} tiles take {(TILES_PER_ROW * side, height)}; get it again")
            atlas = np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise _absent(path) from None
    except (OSError, ValueError) as error:
        raise Broken(f"{path} is not a WebP picture ({error}); get it again") from None
    tiles = atlas.reshape(height // side, side, TILES_PER_ROW, side, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(-1, 3, side, side)[:count]


def _absent(path: Path) -> EdgekitError:
    return EdgekitError(f"{path.parent} has no {path.name}; complete the folder from where the data came from")
