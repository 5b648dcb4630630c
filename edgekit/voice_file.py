"""A voice: what a bundle's preparation made of a sound, in a safetensors file that says of which trained model it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit import examine, files, sound_signal
from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.sound import read_sound

SUFFIX = ".voice"
OF = "edgekit_voice_of"  # in the header: the checkpoint's SHA-256, so that all bundles of one trained model share their voices


def make_voice(bundle: Bundle, sound: Path, out: Path | None = None, runtime: str = "") -> Path:
    """Run the only preparation on a sound file and write what it answers to `out` (default: beside the sound, .voice); the file.

    The preparation takes one sampled signal, float32 (1, samples) or (samples,). EdgekitError for another bundle or file.
    """
    names = bundle.manifest.prepares
    if len(names) != 1:
        raise EdgekitError(f"{bundle.folder} has {len(names) or 'no'} preparations, but a voice is made by the only one that a bundle has")
    owner = _owner(bundle)
    inner = bundle.preparation(names[0])
    inputs = inner.manifest.signature.inputs
    if len(inputs) != 1 or not inputs[0].rate_hz:
        told = ", ".join(f"'{t.name}'" for t in inputs)
        raise EdgekitError(f"the preparation '{names[0]}' of {bundle.folder} takes {told}, but a voice is made from one sampled signal")
    samples = sound_signal.as_input(inputs[0], read_sound(sound, inputs[0].rate_hz))
    with examine.runtime_of(inner, runtime).open(inner) as session:
        answers = session.run({inputs[0].name: samples})
    path = out or sound.with_suffix(SUFFIX)
    files.write_tensors(path, {t.name: answers[t.name] for t in inner.manifest.signature.outputs}, {OF: owner})
    return path


def read_voice(bundle: Bundle, path: Path) -> dict[str, np.ndarray]:
    """The inputs that the bundle's preparations make, from a file that make_voice wrote: name -> array, as in the signature.

    Raises EdgekitError for a voice of another trained model, Broken for a file that is no voice or holds other arrays.
    """
    made = prepared_inputs(bundle)
    if not made:
        raise EdgekitError(f"{bundle.folder} has no preparation, so it takes no voice; give its inputs with --input FILE.npz")
    owner = _owner(bundle)
    of = _header(path).get(OF)
    if of is None:
        raise Broken(f"{path} does not say of which model it is a voice; make one: edgekit run {bundle.folder} --make-voice SOUND")
    if of != owner:
        raise EdgekitError(
            f"{path} is a voice of another model (checkpoint {of[:12]}) than {bundle.folder} (checkpoint {owner[:12]}); "
            "make it again with this bundle: --make-voice SOUND"
        )
    arrays = files.load_tensors(path)
    if set(arrays) != set(made):
        raise Broken(f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}, but the preparations make {', '.join(sorted(made))}; make it again")
    for t in bundle.manifest.signature.inputs:
        if t.name in arrays:
            t.check(arrays[t.name])
    return arrays


def prepared_inputs(bundle: Bundle) -> dict[str, str]:
    """Input -> the preparation that makes it."""
    return {t.name: n for n in bundle.manifest.prepares for t in bundle.preparation(n).manifest.signature.outputs}


def _owner(bundle: Bundle) -> str:
    model = bundle.manifest.model
    if model is None:
        raise EdgekitError(f"{bundle.folder} names no trained model, so that nobody could tell its voices from another's; give inputs with --input")
    return model.checkpoint_sha256


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise Broken(f"{path} is no voice ({error}); make one: edgekit run BUNDLE --make-voice SOUND") from None
