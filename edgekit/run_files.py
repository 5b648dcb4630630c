"""Files around one run of a bundle: inputs from an .npz, a voice and a sound file; answers as an .npz, a WAVE file or a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import files, picture_grid, sound_signal, voice_file
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, no_such
from edgekit.signature import Tensor
from edgekit.sound_signal import Heard


@dataclass(frozen=True)
class Given:
    """The inputs of a run, and the sound among them, where there is one."""

    bundle: Bundle
    arrays: Mapping[str, np.ndarray]
    heard: Heard | None = None

    def in_time(self, answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answers, cut to be in time with the sound."""
        return dict(answers) if self.heard is None else sound_signal.in_time(self.bundle, self.heard, answers)


def read_inputs(bundle: Bundle, packed: Path | None, voice: Path | None, wav: Path | None) -> Given:
    """All inputs of the bundle from an .npz by name, a voice and a sound file, each once; else EdgekitError."""
    heard = sound_signal.hear(bundle, wav) if wav else None
    parts = {
        "--input": _read_npz(packed) if packed else {},
        "--voice": voice_file.read_voice(bundle, voice) if voice else {},
        "--wav": {heard.name: heard.value} if heard else {},
    }
    arrays: dict[str, np.ndarray] = {}
    for option, part in parts.items():
        if twice := set(arrays) & set(part):
            raise EdgekitError(f"'{min(twice)}' is given by {option} and by another file; give it once")
        arrays |= part
    names = [t.name for t in bundle.manifest.signature.inputs]
    left = [n for n in names if n not in arrays]
    for name, maker in (voice_file.prepared_inputs(bundle) if left else {}).items():
        if name in left:
            raise EdgekitError(
                f"'{name}' is made by the preparation '{maker}' of {bundle.folder}; make it once from a sound with --make-voice SOUND, "
                "then give it with --voice FILE"
            )
    if left and not (packed or voice or wav):
        raise EdgekitError(f"no inputs were given, but {bundle.folder} takes {', '.join(names)}; give --input FILE.npz")
    return Given(bundle, arrays, heard)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            return {name: packed[name] for name in packed.files}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EdgekitError(f"{path} is no .npz of arrays ({error}); write one with numpy.savez, inputs by name") from None


@dataclass(frozen=True)
class Place:
    """Where answers are written: all of them to an .npz, one of them to a .png or .wav."""

    path: Path
    output: Tensor | None = None

    def write(self, answers: Mapping[str, np.ndarray], columns: int = 0) -> None:
        """columns: pictures in a row, 0 for about square."""
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
            picture_grid.write_png(self.path, picture_grid.grid(answer, columns))
        except EdgekitError as error:
            raise EdgekitError(f"'{self.output.name}': {error}") from None


def place_of(word: str, bundle: Bundle) -> Place:
    """[NAME=]FILE as a place; without a name there must be one output, for a .wav one that is a sampled signal."""
    if not word.endswith((".png", ".wav")):
        return Place(Path(word))
    outputs = {t.name: t for t in bundle.manifest.signature.outputs}
    fit = [t for t in outputs.values() if t.rate_hz or not word.endswith(".wav")]
    name, given, file = word.partition("=")
    if given and name in outputs:
        return Place(Path(file), outputs[name])
    if given:
        raise no_such("output", name, outputs)
    if not fit:
        raise EdgekitError(f"none of the outputs {', '.join(outputs)} is a sampled signal, so there is nothing for {word}; write an .npz")
    if len(fit) > 1:
        raise EdgekitError(f"this bundle has the outputs {', '.join(t.name for t in fit)}; say which: NAME={word}")
    return Place(Path(word), fit[0])
