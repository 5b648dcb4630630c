"""Pictures with their captions below them, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.models._unidiffuser.captions import Words
from edgekit.picture_grid import BORDER, TILE, as_png, grid

LINE, LETTER = 12, 6  # pixels: height of a line of the built-in font, width of a letter


def said(words: Words, rows: np.ndarray) -> list[str]:
    """Captions int64 (N, T) as text, without what is said to be absent."""
    every = [[words[k][v] for k, v in enumerate(row)] for row in rows]
    return [", ".join([w for w in caption if not w.startswith(("no ", "not "))] or caption) for caption in every]


def captioned(images: np.ndarray, captions: Sequence[str], columns: int) -> bytes:
    """Pictures float32 (N, C, H, W) in [-1, 1] in rows, each above its caption, as a PNG."""
    from PIL import Image, ImageDraw

    tiles = [grid(images[i : i + 1]) for i in range(len(images))]
    wide = max(TILE + 2 * BORDER, *(t.shape[1] for t in tiles))
    longest = wide // LETTER
    lines = [_wrapped(c, longest) for c in captions]
    tall = tiles[0].shape[0] + LINE * max(len(found) for found in lines) + BORDER
    sheet = Image.new("RGB", (columns * wide, -(-len(tiles) // columns) * tall), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (tile, found) in enumerate(zip(tiles, lines, strict=True)):
        left, top = i % columns * wide, i // columns * tall
        sheet.paste(Image.fromarray(tile.repeat(3, 2) if tile.shape[2] == 1 else tile), (left, top))
        for k, line in enumerate(found):
            pen.text((left + BORDER, top + tile.shape[0] + k * LINE), line, fill="black")
    return as_png(np.asarray(sheet))


def _wrapped(text: str, longest: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > longest:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
