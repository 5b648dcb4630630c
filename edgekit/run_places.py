"""Where the answers of a run are written: all as an .npz, one as a sound, a picture or a film."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import files, film_file, picture_grid, sound_signal
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, no_such
from edgekit.signature import Tensor

PICTURES = (".png", *film_file.SUFFIXES)
ONE = (".wav", *PICTURES)  # suffixes of files that hold one output
NEVER = (".jpg", ".jpeg", ".bmp", ".mp4", ".mp3", ".avi", ".webm")  # nobody means an .npz by these


@dataclass(frozen=True)
class Place:
    """Where answers are written: all of them to an .npz, one of them to another file."""

    path: Path
    output: Tensor | None = None

    def write(self, answers: Mapping[str, np.ndarray], columns: int = 0, frames_per_s: int = film_file.FRAMES_PER_S) -> None:
        """columns: pictures in a row; 0 for about square, and for a PNG of films one row a film."""
        if self.output is None:
            packed = io.BytesIO()
            np.savez(packed, allow_pickle=False, **answers)
            files.write_bytes(self.path, packed.getvalue())
            return
        answer = answers[self.output.name]
        if self.path.suffix == ".wav":
            sound_signal.write_output(self.path, self.output, answer)
            return
        try:
            if self.path.suffix in film_file.SUFFIXES:
                film_file.write_film(self.path, film_file.animation(answer, columns), frames_per_s)
            else:
                picture_grid.write_png(self.path, film_file.strips(answer, columns) if answer.ndim == 5 else picture_grid.grid(answer, columns))
        except EdgekitError as error:
            raise type(error)(f"'{self.output.name}': {error}") from None


def place_of(word: str, bundle: Bundle) -> Place:
    """[NAME=]FILE as a place; without a name it is the one output that such a file can hold."""
    if word.endswith(NEVER):
        raise EdgekitError(f"{word} is no file that answers are written to; sounds are .wav, pictures .png, films .gif or .webp, all else .npz")
    if not word.endswith(ONE):
        return Place(Path(word))
    outputs = {t.name: t for t in bundle.manifest.signature.outputs}
    name, given, file = word.partition("=")
    if given and name in outputs:
        return Place(Path(file), outputs[name])
    if given:
        raise no_such("output", name, outputs)
    sound = word.endswith(".wav")
    fit = [t for t in outputs.values() if (t.rate_hz if sound else _shown(t))]
    if not fit:
        what = "a sampled signal" if sound else "a picture or a film"
        raise EdgekitError(f"none of the outputs {', '.join(outputs)} is {what}, so there is nothing for {word}; write an .npz")
    if len(fit) > 1:
        raise EdgekitError(f"this bundle has the outputs {', '.join(t.name for t in fit)}; say which: NAME={word}")
    return Place(Path(word), fit[0])


def _shown(t: Tensor) -> bool:
    """Whether it may be pictures (batch, C, H, W) or films (batch, frames, C, H, W) of 1 or 3 channels."""
    return t.dtype == "float32" and len(t.shape) in (4, 5) and (t.shape[-3] in (1, 3) or isinstance(t.shape[-3], str))
