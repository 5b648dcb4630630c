"""Pictures as one PNG: a grid of enlarged tiles with a thin border, the same bytes of pixels as `edgekit-run` writes."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from edgekit import files
from edgekit.errors import EdgekitError

TILE = 64  # pixels: smaller pictures are enlarged by the whole factor that brings their longer side nearest below or to it
BORDER = 2  # pixels between tiles and around them
GREY = 128  # of the border: seen on white and on black
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 1 << 28  # of a grid


def grid(images: np.ndarray, columns: int = 0) -> np.ndarray:
    """Pictures float32 (N, C, H, W) in [-1, 1], C = 1 (grey) or 3 (red, green, blue), as uint8 (height, width, C).

    columns: tiles in a row; 0 makes the grid about square. Values outside the range are clipped; a value x becomes
    floor(127.5 x + 128), so -1 is 0 and 1 is 255. EdgekitError for another shape or dtype, and for values that are not finite.
    """
    shape = images.shape
    if images.dtype != np.float32 or len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
        raise EdgekitError(f"a PNG holds pictures float32 [batch, 1 or 3, height, width] in -1..1, found {images.dtype} {list(shape)}")
    if not np.isfinite(images).all():
        raise EdgekitError("a picture holds values that are not finite; look at the answers themselves, as an .npz")
    count, channels, height, width = shape
    columns = min(columns or math.isqrt(count - 1) + 1, count)
    rows, factor = -(-count // columns), max(1, TILE // max(height, width))
    tall, wide = BORDER + rows * (factor * height + BORDER), BORDER + columns * (factor * width + BORDER)
    if tall * wide > MOST_PIXELS:
        raise EdgekitError(f"a grid of {wide} x {tall} pixels is too large for one PNG; give fewer pictures")
    made = np.full((tall, wide, channels), GREY, np.uint8)
    pixels = np.floor(images.clip(-1, 1) * np.float32(127.5) + np.float32(128)).clip(0, 255).astype(np.uint8)
    for i, picture in enumerate(pixels.repeat(factor, 2).repeat(factor, 3).transpose(0, 2, 3, 1)):
        top, left = BORDER + i // columns * (factor * height + BORDER), BORDER + i % columns * (factor * width + BORDER)
        made[top : top + factor * height, left : left + factor * width] = picture
    return made


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (height, width, 1 or 3) as a PNG, whole or not at all. EdgekitError when the place cannot be written."""
    files.write_bytes(path, as_png(pixels))


def as_png(pixels: np.ndarray) -> bytes:
    """uint8 (height, width, 1 or 3) as a PNG file (ISO/IEC 15948): 8 bits, no filter, compressed."""
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line begins with its filter: 0, none
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def size_of_png(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of a PNG file; EdgekitError when the bytes do not begin like one."""
    if len(data) < 33 or not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        raise EdgekitError("these bytes are no PNG; write one with picture_grid.write_png")
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)
