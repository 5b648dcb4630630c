"""Which pictures are to be changed into what, and how it came out in the eyes of a classifier that had no part in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edgekit.errors import EdgekitError, no_such
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.targets import pair_of
from edgekit.models._latent_inversion_options import Own
from edgekit.picture_file import read_picture

EDITS_SEED = 31  # of which head changes, and to which value
MOST_DB = 120.0  # of a picture that came back to the last bit


@dataclass(frozen=True)
class Asked:
    """Edits, a row each."""

    images: np.ndarray  # float32 (N, C, H, W), the sources
    shows: np.ndarray  # int64 (N, heads)
    wanted: np.ndarray  # int64 (N, heads): as `shows` but for what changes
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> Asked:
        """The first edits."""
        return Asked(self.images[:count], self.shows[:count], self.wanted[:count], self.names[:count])

    def then(self, other: Asked) -> Asked:
        """These and others behind them."""
        images, shows, wanted = (np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("images", "shows", "wanted"))
        return Asked(images, shows, wanted, self.names + other.names)


def held_out(part: Pictures, heads: Sequence[str], count: int, called: str = "") -> Asked:
    """`count` edits, called by their number behind `called`, of pictures that are evenly spread over a part: one of `heads`
    (none given: of all) gets another value, both by chance.

    EdgekitError for a head that there is not, and for more edits than pictures.
    """
    places = [_place(h, part) for h in heads] or list(range(len(part.heads)))
    if count > len(part):
        raise EdgekitError(f"{count} edits were asked for, but this part has {len(part)} pictures; ask for fewer")
    rows = np.linspace(0, len(part) - 1, count).astype(np.int64)
    # The order of chance: edits lie in the bundle by their number, and the first ones are to be of all kinds.
    rng = np.random.default_rng(EDITS_SEED)
    rows = rng.permutation(rows)
    shows = part.conditions[rows]
    wanted = shows.copy()
    for i, head in enumerate(rng.choice(places, count)):
        wanted[i, head] = (shows[i, head] + rng.integers(1, part.sizes[head])) % part.sizes[head]
    names = tuple(f"{called}{i}: {_words(part, a, b)}" for i, (a, b) in enumerate(zip(shows, wanted, strict=True)))
    return Asked(part.images[rows], shows, wanted, names)


def own(edit: Own, heads: Sequence[str], split: Split, net: quality.FeatureNet) -> Asked:
    """The edits of the user's own picture. `net` tells what it shows where the recipe does not say."""
    image = read_picture(Path(edit.picture).expanduser(), *split.train.images.shape[1:]).frames[0]
    with torch.no_grad():
        told = [int(a.argmax(1)) for a in net(torch.from_numpy(image[None]))]
    return own_by_words(edit, heads, split, told, image)


def own_by_words(edit: Own, heads: Sequence[str], split: Split, told: Sequence[int], image: np.ndarray) -> Asked:
    """The edits of a picture that shows what the recipe says and, where that says nothing, what is `told`, a number a head."""
    part, shows = split.train, np.array(told, np.int64)
    for text in edit.shows:
        head, value = pair_of(text, split)
        shows[head] = value
    places = [_place(h, part) for h in heads] or list(range(len(part.heads)))
    asked = tuple(dict.fromkeys(edit.to))
    pairs = [pair_of(text, split) for text in asked] or [(h, v) for h in places for v in range(part.sizes[h]) if v != shows[h]]
    wanted = np.repeat(shows[None], len(pairs), 0)
    wanted[np.arange(len(pairs)), [h for h, _ in pairs]] = [v for _, v in pairs]
    if (same := (wanted == shows).all(1)).any():
        raise EdgekitError(f"{edit.picture} shows {asked[int(same.argmax())]} already, so there is nothing to edit; give another value in edit.to")
    names = tuple(_words(part, shows, w) for w in wanted)
    return Asked(np.repeat(image[None], len(pairs), 0), np.repeat(shows[None], len(pairs), 0), wanted, names)


def said_in_full(edit: Own, asked: Asked, part: Pictures) -> Own:
    """The same with all that the picture shows, so that nobody needs the picture to know what was asked."""
    shows = tuple(f"{h}={v[n]}" for h, v, n in zip(part.heads, part.values, asked.shows[0], strict=True))
    return replace(edit, shows=shows)


def words_of(part: Pictures) -> tuple[tuple[str, ...], ...]:
    """What the values of every head are called, with the head's name where there are several."""
    return tuple(tuple(f"{head} {v}" if len(part.heads) > 1 else v for v in values) for head, values in zip(part.heads, part.values, strict=True))


def accepted(net: quality.FeatureNet, images: np.ndarray, asked: Asked) -> np.ndarray:
    """Of each edit whether the classifier tells every changed head as wanted: bool (N,)."""
    changed = asked.shows != asked.wanted
    found: np.ndarray = ((_told(net, images) == asked.wanted) | ~changed).all(1)
    return found


def rest_kept(net: quality.FeatureNet, images: np.ndarray, asked: Asked) -> float | None:
    """The share of the other heads that the classifier tells as of the source; None where there is no other."""
    same = asked.shows == asked.wanted
    return float((_told(net, images) == _told(net, asked.images))[same].mean()) if same.any() else None


def away(images: np.ndarray, asked: Asked) -> np.ndarray:
    """Root mean square difference to the source: float64 (N,)."""
    gap = (images.clip(-1, 1).astype(np.float64) - asked.images).reshape(len(images), -1)
    found: np.ndarray = np.sqrt((gap**2).mean(1))
    return found


def away_in_features(net: quality.FeatureNet, images: np.ndarray, asked: Asked) -> np.ndarray:
    """Distance to the source in the classifier's features: float64 (N,)."""
    found: np.ndarray = np.linalg.norm(quality.features(net, images.clip(-1, 1)) - quality.features(net, asked.images), axis=1)
    return found


def psnr_db(images: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Peak signal to noise ratio of pictures in [-1, 1], at most MOST_DB: float64 (N,)."""
    squares = ((images.clip(-1, 1).astype(np.float64) - sources) ** 2).reshape(len(images), -1).mean(1)
    found: np.ndarray = 10 * np.log10(4 / np.maximum(squares, 4 * 10 ** (-MOST_DB / 10)))
    return found


def _told(net: quality.FeatureNet, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.stack([a.argmax(1) for a in net(torch.from_numpy(images.clip(-1, 1)))], 1).numpy()


def _place(head: str, part: Pictures) -> int:
    if head not in part.heads:
        raise no_such("head", head, part.heads)
    return part.heads.index(head)


def _words(part: Pictures, shows: np.ndarray, wanted: np.ndarray) -> str:
    """As in "3 to 8", with the head's name where there are several."""
    changed = np.flatnonzero(shows != wanted)
    named = [f"{part.heads[h]} " if len(part.heads) > 1 else "" for h in changed]
    return ", ".join(f"{n}{part.values[h][shows[h]]} to {part.values[h][wanted[h]]}" for n, h in zip(named, changed, strict=True))
