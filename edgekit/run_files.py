"""The inputs of one run of a bundle: from an .npz, a voice, a sound file, words and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import run_rows, sound_signal, untrusted_archive, voice_file
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
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


def read_inputs(
    bundle: Bundle, packed: Path | None, voice: Path | None, wav: Path | None, texts: Sequence[str] = (), images: Sequence[str] = (),
    values: Sequence[str] = (),
) -> Given:  # fmt: skip
    """All inputs of the bundle from an .npz by name, a voice, a sound file, words, pictures and numbers, each once; else EdgekitError."""
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
    arrays |= run_rows.read_rows(bundle, arrays, texts, images, values)
    names = [t.name for t in bundle.manifest.signature.inputs]
    left = [n for n in names if n not in arrays]
    for name, maker in (voice_file.prepared_inputs(bundle) if left else {}).items():
        if name in left:
            raise EdgekitError(
                f"'{name}' is made by the preparation '{maker}' of {bundle.folder}; make it once from a sound with --make-voice SOUND, "
                "then give it with --voice FILE"
            )
    if left and not (packed or voice or wav or texts or images or values):
        hints = run_rows.hints(bundle)
        raise EdgekitError(f"no inputs were given, but {bundle.folder} takes {', '.join(names)}; give --input FILE.npz{hints}")
    return Given(bundle, arrays, heard)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    return untrusted_archive.read_npz(path, "is no .npz of arrays, as numpy.savez writes them, inputs by name")
