"""Picture files read for a network: stills, and the frames of an animated file, as float32 in -1..1."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit import limits
from edgekit.errors import EdgekitError, Missing
from edgekit.registry import missing_modules
from edgekit.sniff import open_plain

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS = 1 << 26  # of one frame as it is stored
MOST_FRAMES = 4096
MOST_PIXELS_OF_ALL = 1 << 28  # of all frames: a file of 100 kB may ask for 4,096 times 67 million, hours of work
# What Pillow raises for bytes that are no picture, each as fuzzing or reading found it.
FAULTS = (OSError, ValueError, SyntaxError, EOFError, MemoryError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
          struct.error)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What a file shows. GIF and WebP store frames that are alike once, and show them for longer."""

    path: Path
    frames: np.ndarray  # float32 (stored, C, H, W), -1..1
    ticks: tuple[int, ...]  # of each stored frame: for how long it is shown, the shortest being 1

    def of(self, count: int) -> np.ndarray | None:
        """(count, C, H, W): the stored frames, or each as often as it is shown; None where neither are so many."""
        if len(self.frames) == count:
            return self.frames
        return self.frames.repeat(self.ticks, 0) if sum(self.ticks) == count else None

    @property
    def told(self) -> str:
        """`cat.gif holds 5 frames`."""
        return f"{self.path} holds {len(self.frames)} frame{'s' * (len(self.frames) != 1)}"


def read_picture(path: Path, channels: int, height: int, width: int) -> Seen:
    """All frames of a PNG, JPEG, WebP or GIF as grey (1 channel) or red, green, blue (3), on white where it is transparent.

    Another size is cut to the wanted shape about its middle and averaged over areas. Value v of 0..255 becomes v / 127.5 - 1. Raises
    Missing without Pillow, EdgekitError for a file that is no such picture, or too large.
    """
    if missing_modules(("PIL",)):
        raise Missing("pictures are read with Pillow, not installed here: pip install pillow")
    from PIL import Image

    if not path.exists():
        raise EdgekitError(f"no picture at {path}; give a PNG, JPEG, WebP or GIF file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what lies around the pixels, such as EXIF that ends too early
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_plain(path, limits.MOST_DATA_BYTES, "a picture") as (file, _), Image.open(file, formats=FORMATS) as image:
                stored = [(_pixels(frame, channels, height, width), frame.info.get("duration", 0)) for frame in _frames(path, image)]
    except (*FAULTS, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise EdgekitError(f"{path} is no picture that can be read ({error}); give a PNG, JPEG, WebP or GIF file") from None
    values = np.stack([pixels for pixels, _ in stored]).astype(np.float32) / np.float32(127.5) - np.float32(1)
    return Seen(path, values, _ticks([float(d) for _, d in stored]))


def _frames(path: Path, image: Image.Image) -> Iterator[Image.Image]:
    from PIL import ImageSequence

    if image.width * image.height > MOST_PIXELS:
        raise EdgekitError(f"{path} has {image.width} x {image.height} pixels, up to {MOST_PIXELS:,} are read; make it smaller")
    for count, frame in enumerate(ImageSequence.Iterator(image)):
        if count == MOST_FRAMES:
            raise EdgekitError(f"{path} has more than {MOST_FRAMES:,} frames; cut it")
        if (count + 1) * image.width * image.height > MOST_PIXELS_OF_ALL:
            raise EdgekitError(f"{path} has more than {MOST_PIXELS_OF_ALL:,} pixels in all its frames; cut it, or make it smaller")
        frame.load()  # a WebP says only then for how long it is shown
        yield frame


def _pixels(frame: Image.Image, channels: int, height: int, width: int) -> np.ndarray:
    """uint8 (C, H, W)."""
    from PIL import Image, ImageOps

    if frame.mode.startswith(("I", "F")):  # Pillow would clip 16 bits to 255
        clear = Image.fromarray(np.round(np.asarray(frame, np.float64).clip(0, 65535) / 257).astype(np.uint8)).convert("RGBA")
    else:
        clear = ImageOps.exif_transpose(frame).convert("RGBA")
    solid = Image.new("RGBA", clear.size, "white")
    solid.alpha_composite(clear)
    small = solid.convert("L" if channels == 1 else "RGB")
    if small.size != (width, height):
        small = ImageOps.fit(small, (width, height), Image.Resampling.BOX)
    return np.asarray(small).reshape(height, width, channels).transpose(2, 0, 1)


def _ticks(durations: list[float]) -> tuple[int, ...]:
    """Durations in units of the shortest; where one is not said, or they are very unlike, each counts as one."""
    shortest = min(durations)
    ticks = [round(d / shortest) for d in durations] if shortest > 0 else []
    return tuple(ticks) if ticks and sum(ticks) <= MOST_FRAMES else (1,) * len(durations)
