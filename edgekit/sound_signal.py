"""Sound at the ends of a program: which input and output it is, cut so that what comes out is in time with what went in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.signature import Tensor
from edgekit.sound import read_sound, write_wav


@dataclass(frozen=True)
class Heard:
    """A sound as an input of a bundle."""

    name: str
    value: np.ndarray  # float32 (1, samples) or (samples,), with as many zeros behind the sound as the outputs come late
    samples: int  # of the sound itself


def hear(bundle: Bundle, path: Path) -> Heard:
    """A sound file as the one input that is a sampled signal (of a stream: that is fed), resampled to its rate.

    Zeros follow it: by the largest delay of the outputs that sound at its rate, and up to a whole hop, so that a stream that
    drops its tail answers to every sample too. EdgekitError where there is no such input, or several.
    """
    stream = bundle.manifest.program.stream
    inputs = bundle.manifest.signature.inputs
    found = [t for t in inputs if t.rate_hz and (stream is None or t.name in stream.feeds)]
    if len(found) != 1:
        told = ", ".join(f"'{t.name}'" for t in found) if found else f"none among {', '.join(repr(t.name) for t in inputs) or 'no inputs'}"
        raise EdgekitError(f"--wav is for a bundle with one input that is a sampled signal; {bundle.folder} has {told}: give --input FILE.npz")
    t = found[0]
    samples = read_sound(path, t.rate_hz)
    behind = max(delays(bundle, t.rate_hz).values(), default=0)
    if stream is not None:
        behind += -(len(samples) + behind) % (stream.feeds[t.name].hop or 1)
    return Heard(t.name, as_input(t, np.concatenate([samples, np.zeros(behind, np.float32)])), len(samples))


def delays(bundle: Bundle, rate_hz: int) -> dict[str, int]:
    """Output -> by how many samples it comes late; of those that sound at this rate and are joined by concat along their last axis."""
    stream = bundle.manifest.program.stream
    if stream is None:
        return {}
    sounding = {t.name: t for t in bundle.manifest.signature.outputs if t.rate_hz == rate_hz}
    joined = {n: j for n, j in stream.joins.items() if n in sounding and j.how == "concat" and j.axis == len(sounding[n].shape) - 1}
    return {n: j.delay for n, j in joined.items()}


def in_time(bundle: Bundle, heard: Heard, answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The answers, those that sound at the rate of the input without their delay: as long as what was heard, sample k to sample k."""
    rate_hz = next(t.rate_hz for t in bundle.manifest.signature.inputs if t.name == heard.name)
    late = delays(bundle, rate_hz)
    return {n: v[..., late[n] : late[n] + heard.samples] if n in late else v for n, v in answers.items()}


def as_input(t: Tensor, samples: np.ndarray) -> np.ndarray:
    """float32 (samples,) in the shape of a tensor whose other axes have one element; EdgekitError where they have more."""
    if t.dtype != "float32" or any(isinstance(n, int) and n != 1 for n in t.shape[:-1]):
        raise EdgekitError(f"'{t.name}' is {t.dtype} {list(t.shape)}, but a sound file gives float32 of one channel")
    made: np.ndarray = samples.astype(np.float32).reshape((1,) * (len(t.shape) - 1) + (-1,))
    t.check(made)
    return made


def write_output(path: Path, t: Tensor, answer: np.ndarray) -> None:
    """An answer that is a sampled signal of one channel, as a WAVE file at its rate. EdgekitError where it is none."""
    if not t.rate_hz:
        raise EdgekitError(f"'{t.name}' is no sampled signal, so that it has no rate to be heard at; write it to an .npz")
    if answer.dtype != np.float32 or answer.size != answer.shape[-1] or not np.isfinite(answer).all():
        raise EdgekitError(f"'{t.name}' is {answer.dtype.name} {list(answer.shape)}; a WAVE file takes finite float32 of one channel")
    write_wav(path, answer.reshape(-1), t.rate_hz)
