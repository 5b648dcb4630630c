"""Spectrograms of conversions as pictures: what was said, the target's own voice, what came out, one above the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.models._voice.scored import material
from edgekit.models._voice.whole import Whole
from edgekit.picture_grid import write_png

SHOWN = 3  # conversions
HEIGHT, WIDTH = 4, 3  # pixels of a band, and of a frame
LOW, HIGH = -14.0, -1.0  # nats that are black and white
LONGEST = 150  # frames


def spectrogram(bands: np.ndarray) -> np.ndarray:
    """Log-mel bands (frames, bands) in nats as uint8 (height, width, 3): time to the right, pitch upwards, louder is lighter."""
    level = np.clip((bands - LOW) / (HIGH - LOW), 0, 1).T[::-1]
    # From black over violet and orange to white: lightness rises evenly, so that it reads in grey too.
    stops = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 230)], np.float64)
    at = level * (len(stops) - 1)
    below = np.minimum(at.astype(int), len(stops) - 2)
    colour = stops[below] + (stops[below + 1] - stops[below]) * (at - below)[..., None]
    found: np.ndarray = colour.astype(np.uint8).repeat(HEIGHT, 0).repeat(WIDTH, 1)
    return found


def pictures(whole: Whole, recipe: Mapping[str, Any], out: Path) -> list[dict[str, str]]:
    """Write SHOWN pictures to `out`; their titles, files and captions."""
    sources, targets = material(recipe, "test")
    found: list[dict[str, str]] = []
    for i in np.linspace(0, len(sources) - 1, SHOWN).astype(int):
        source, target = sources[i], targets[i]
        made = whole.convert(whole.voice(target.samples), source.samples)
        parts = [spectrogram(whole.measured(s)[0][0, :LONGEST].numpy()) for s in (source.samples, target.samples, made)]
        width = max(p.shape[1] for p in parts)
        gap = np.full((6, width, 3), 128, np.uint8)
        rows: list[np.ndarray] = []
        for part in parts:
            rows += [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255), gap]
        name = f"conversion-{len(found) + 1}.png"
        write_png(out / name, np.concatenate(rows[:-1]))
        said = f", saying {source.text}" if source.spans else ""
        found.append({
            "title": f"{source.speaker}{said}, in the voice of {target.speaker}", "file": name,
            "caption": "Mel spectrograms, 0 to 8 kHz: the source, a recording of the target, what comes out.",
        })  # fmt: skip
    return found
