"""Films as animated files: a grid of enlarged tiles a frame, as a GIF or a WebP that shows every pixel as picture_grid does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit import files, picture_grid
from edgekit.errors import EdgekitError, Missing
from edgekit.registry import missing_modules

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".gif", ".webp")
FRAMES_PER_S = 8
MOST_COLOURS = 256  # of a GIF
MOST_PIXELS = 1 << 26  # of all frames
SAMPLE = 1 << 16  # pixels, about, that a GIF's palette is made from: each colour once, and the more often the more it fills


def as_films(answer: np.ndarray) -> np.ndarray:
    """float32 (films, frames, C, H, W) of that, or of one film (frames, C, H, W). EdgekitError for other arrays."""
    films = answer[None] if answer.ndim == 4 else answer
    if films.dtype != np.float32 or films.ndim != 5 or films.shape[2] not in (1, 3) or 0 in films.shape:
        raise EdgekitError(
            f"an animation shows float32 [batch, frames, 1 or 3, height, width], or one film, in -1..1, found {answer.dtype} {list(answer.shape)}"
        )
    return films


def strips(answer: np.ndarray, columns: int = 0) -> np.ndarray:
    """Films float32 (films, frames, C, H, W) as one picture uint8 (height, width, C): a film a row, or `columns` frames in a row."""
    films = as_films(answer)
    return picture_grid.grid(films.reshape(-1, *films.shape[2:]), columns or films.shape[1])


def animation(answer: np.ndarray, columns: int = 0) -> np.ndarray:
    """Films as uint8 (frames, height, width, C): in each frame a tile a film, `columns` in a row (0: about square)."""
    films = as_films(answer)
    count = films.shape[1]
    first = picture_grid.grid(np.ascontiguousarray(films[:, 0]), columns)
    if first[..., 0].size * count > MOST_PIXELS:
        raise EdgekitError(f"{count} frames of {first.shape[1]} x {first.shape[0]} pixels are too large for one file; give fewer films")
    return np.stack([first, *(picture_grid.grid(np.ascontiguousarray(films[:, k]), columns) for k in range(1, count))])


def write_film(path: Path, frames: np.ndarray, frames_per_s: int = FRAMES_PER_S) -> None:
    """uint8 (frames, height, width, 1 or 3) as a file that is shown again and again; its suffix says GIF or WebP.

    WebP is exact. A GIF is exact where it is grey or has up to 256 colours; else nearby colours are made one, for all frames alike,
    and the grey of the border stays. Its frames last whole hundredths of a second. Both keep frames that are alike as one that is shown for longer.
    Raises Missing without Pillow, EdgekitError when the place cannot be written.
    """
    if missing_modules(("PIL",)):
        raise Missing("films are written with Pillow, not installed here: pip install pillow")
    from PIL import Image, features

    packed = io.BytesIO()
    if path.suffix == ".gif":
        first, *rest = _paletted(frames)
        first.save(packed, "GIF", save_all=True, append_images=rest, duration=10 * max(2, round(100 / frames_per_s)), loop=0)
    else:
        if not features.check("webp"):
            raise Missing("this Pillow was built without WebP; write a .gif, or: pip install --upgrade pillow")
        first, *rest = (Image.fromarray(f) for f in np.broadcast_to(frames, (*frames.shape[:-1], 3)))
        first.save(packed, "WEBP", save_all=True, append_images=rest, duration=round(1000 / frames_per_s), loop=0, lossless=True)
    files.write_bytes(path, packed.getvalue())


def _paletted(frames: np.ndarray) -> list[Image.Image]:
    """Frames as pictures of one palette."""
    from PIL import Image

    numbers, palette = (frames[..., 0], np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)) if frames.shape[-1] == 1 else _colours(frames)
    made = [Image.fromarray(frame) for frame in numbers]
    for frame in made:
        frame.putpalette(palette.tobytes())
    return made


def _colours(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(numbers uint8 (frames, height, width), the palette that they count)."""
    from PIL import Image

    red, green, blue = (frames[..., i].astype(np.uint32) for i in range(3))
    colours, which, counts = np.unique(red << 16 | green << 8 | blue, return_inverse=True, return_counts=True)
    palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)
    if len(palette) <= MOST_COLOURS:
        return which.reshape(red.shape).astype(np.uint8), palette
    counts[border := colours == picture_grid.GREY * 0x010101] = 0
    copies = np.maximum(1, counts * SAMPLE // max(1, counts.sum()))
    sample = Image.fromarray(palette.repeat(copies, 0)[None])
    fewer = sample.quantize(MOST_COLOURS - 1, Image.Quantize.MEDIANCUT, kmeans=int(len(palette) <= SAMPLE), dither=Image.Dither.NONE)
    numbers = np.asarray(fewer)[0, copies.cumsum() - copies].copy()
    numbers[border] = MOST_COLOURS - 1
    held = np.array(fewer.getpalette(), np.uint8).reshape(-1, 3)[: MOST_COLOURS - 1]
    grey = np.full((MOST_COLOURS - len(held), 3), picture_grid.GREY, np.uint8)
    return numbers[which].reshape(red.shape), np.concatenate([held, grey])
