"""Synthetic speech of about 80 English voices, whose phones are known for every frame: what espeak-ng says and when."""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.data import cache_folder
from edgekit.errors import Broken, EdgekitError, Missing
from edgekit.models._voice.corpora import HOP, RATE_HZ, Clip, frames_of
from edgekit.models._voice.words import DIGITS, WORDS
from edgekit.sound import resampled

# Frames are labelled with the place in this list. Names are espeak-ng's; silence is 0.
_NAMES = """
    _ n t s l d E r k m I p f w V i: b eI aI oU h u: a v 3 0 g @ z aU T D i 3: O: tS j U O@ A@ S Z OI N e@ o@ @L dZ i@ U@
"""
PHONES = tuple(_NAMES.split())
# Names that espeak-ng tells apart and that are too rare, or too alike, to be learned as their own.
ALIKE = {
    ";": "j", "a#": "@", "aa": "a", "A:": "A@", "O2": "O:", "IR": "3:", "VR": "3:", "aI@": "aI", "aI3": "aI", "i@3": "i@",
}  # fmt: skip
# How the digits are spoken, as what is known of recordings whose times are not.
_SPOKEN = ("z i@ r oU", "w V n", "t u:", "T r i:", "f O:", "f aI v", "s I k s", "s E v @ n", "eI t", "n aI n")
STRESS = "'%,="  # what a name may begin with
DIALECTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
WOMEN = ("f1", "f2", "f3", "f4", "f5", "Annie", "Alicia", "Andrea", "anika", "aunty", "belinda", "linda", "steph")
MEN = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Andy", "Denis", "Lee", "Marco", "michel")
VOICES = 80
PITCHES = (20, 85)  # of a voice, of espeak-ng's 0 to 100; a sentence strays from it by up to PITCH_STRAY
PITCH_STRAY = 4
RATES = (125, 200)  # words a minute, of a sentence
LEVEL = 0.06  # root mean square of the frames that are not silent: about that of the recorded corpora
VERSION = 1  # of what the cache holds; raised when the same seed gives other clips
LIMIT_S = 600.0


@lru_cache(maxsize=2)
def synthetic(count: int = 400, seed: int = 0) -> tuple[Clip, ...]:
    """`count` utterances of VOICES voices in turn, each a speaker of its own pitch: random words, and of every three one of five digits.

    `phones` is int64 (frames,), the place in PHONES of what fills the middle of each HOP samples; `text` is the digits, else empty.
    The samples are read-only. They are kept in the cache folder under count, seed and version of the package. Raises Missing
    without the package that brings espeak-ng, EdgekitError when it fails.
    """
    try:
        version = importlib.metadata.version("espeakng-loader")
    except importlib.metadata.PackageNotFoundError:
        raise Missing("synthetic speech is made with espeak-ng, not installed here: pip install 'edgekit[voice]'") from None
    asked = requests(count, seed)
    key = files.hash_of([asked, version, VERSION, PHONES, ALIKE, LEVEL])
    path = cache_folder() / "voice" / f"synthetic-{key[:16]}.npz"
    kept = _load(path)
    if kept is None:
        kept = _labelled(*_spoken(asked))
        made = io.BytesIO()
        np.savez(made, allow_pickle=False, **kept)
        files.write_bytes(path, made.getvalue())
    return _clips(asked, kept)


def requests(count: int, seed: int) -> list[dict[str, Any]]:
    """What is said: voice (dialect+variant, women and men in turn), pitch, rate and text of each utterance."""
    rng = np.random.default_rng((seed, count))
    kinds = [[f"{d}+{v}" for d in DIALECTS for v in variants] for variants in (WOMEN, MEN)]
    chosen = [rng.choice(kind, VOICES // 2, replace=False) for kind in kinds]
    voices = [str(v) for both in zip(*chosen, strict=True) for v in both]
    pitches = rng.integers(PITCHES[0] + PITCH_STRAY, PITCHES[1] - PITCH_STRAY, VOICES, endpoint=True)
    asked = []
    for i in range(count):
        turn = i % VOICES
        # VOICES is no multiple of 3: in each round of all voices others say digits
        words = rng.choice(DIGITS, 5) if i % 3 == 0 else rng.choice(WORDS, rng.integers(4, 8, endpoint=True))
        pitch = int(pitches[turn] + rng.integers(-PITCH_STRAY, PITCH_STRAY, endpoint=True))
        rate = int(rng.integers(*RATES, endpoint=True))
        asked.append({"voice": voices[turn], "pitch": pitch, "rate": rate, "text": " ".join(str(w) for w in words)})
    return asked


def phone_of(name: str) -> int:
    """The place in PHONES of a phone as espeak-ng names it; of an unknown one that of the longest beginning that is known."""
    bare = name.lstrip(STRESS)
    if bare.startswith("_"):
        return 0
    for end in range(len(bare), 0, -1):
        known = ALIKE.get(bare[:end], bare[:end])
        if known in PHONES:
            return PHONES.index(known)
    raise Broken(f"espeak-ng names a phone '{name}' that edgekit does not know; install the version that pip install 'edgekit[voice]' gives")


def spelled(digits: str) -> list[int]:
    """The phones of digits spoken one after the other, as places in PHONES, without silence."""
    return [PHONES.index(p) for d in digits for p in _SPOKEN[int(d)].split()]


def _spoken(asked: list[dict[str, Any]]) -> tuple[np.ndarray, dict[str, Any]]:
    """int16 samples of all utterances, one after the other, and what espeak_child.py says of them."""
    child = Path(__file__).with_name("espeak_child.py")
    with files.scratch("espeak") as name:
        request, samples, times = (Path(name) / n for n in ("request.json", "samples.s16", "times.json"))
        request.write_text(json.dumps(asked))
        command = [sys.executable, str(child), str(request), str(samples), str(times)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            raise EdgekitError(f"espeak-ng took more than {LIMIT_S:.0f} s; ask for fewer than {len(asked)} utterances") from None
        if done.returncode:
            last = next(iter(reversed(done.stderr.strip().splitlines())), f"exit code {done.returncode}")
            raise EdgekitError(f"espeak-ng failed: {last}")
        return np.fromfile(samples, "<i2"), json.loads(times.read_text())


def _labelled(spoken: np.ndarray, told: dict[str, Any]) -> dict[str, np.ndarray]:
    """The samples at RATE_HZ and one loudness, the phones of their frames, and the first sample of each word; int, all in one."""
    rate_hz = int(told["rate_hz"])
    sounds, phones, words = [], [], []
    at = 0
    for sentence in told["sentences"]:
        own = spoken[at : at + sentence["samples"]].astype(np.float32) / 32768
        at += sentence["samples"]
        sound = resampled(own, rate_hz, RATE_HZ)
        label = _frame_labels(sentence, frames_of(sound), rate_hz)
        loud = sound[: len(sound) // HOP * HOP].reshape(-1, HOP)[label[: len(sound) // HOP] > 0]
        level = float(np.sqrt(np.mean(np.square(loud)))) if loud.size else 0.0
        gain = min(LEVEL / max(level, 1e-4), 0.99 / max(float(np.abs(sound).max(initial=0)), 1e-4))
        sounds.append(np.rint(sound * gain * 32767).astype(np.int16))
        phones.append(label.astype(np.uint8))
        words.append(np.array(sentence["words"], np.int64) * RATE_HZ // rate_hz)
    return {
        "samples": np.concatenate(sounds), "lengths": np.array([len(s) for s in sounds]), "phones": np.concatenate(phones),
        "words": np.concatenate(words), "word_counts": np.array([len(w) for w in words]),
    }  # fmt: skip


def _frame_labels(sentence: dict[str, Any], frames: int, rate_hz: int) -> np.ndarray:
    """int64 (frames,): the phone in the middle of each frame."""
    starts, labels = [0], [0]
    words = sorted(sentence["words"])
    for start, name in sentence["phones"]:
        # A stop that begins a word is closed before it is named: its silence, from the start of the word, is part of it.
        before = [w for w in words if labels[-1] and starts[-1] < w < start]
        starts.append(before[-1] if before else start)
        labels.append(phone_of(name))
    middles = (np.arange(frames) + 0.5) * HOP * rate_hz / RATE_HZ
    found: np.ndarray = np.array(labels, np.int64)[np.searchsorted(starts, middles, side="right") - 1]
    found[middles >= sentence["samples"]] = 0
    return found


def _clips(asked: list[dict[str, Any]], kept: dict[str, np.ndarray]) -> tuple[Clip, ...]:
    ends, word_ends = np.cumsum(kept["lengths"]), np.cumsum(kept["word_counts"])
    frame_ends = np.cumsum(-(-kept["lengths"] // HOP))
    found = []
    for i, (request, sound, phones, words) in enumerate(
        zip(
            asked,
            np.split(kept["samples"], ends[:-1]),
            np.split(kept["phones"], frame_ends[:-1]),
            np.split(kept["words"], word_ends[:-1]),
            strict=True,
        )
    ):
        samples = sound.astype(np.float32) / np.float32(32767)
        samples.flags.writeable = False
        said = request["text"].split()
        digits = all(w in DIGITS for w in said) and len(words) == len(said)
        edges = np.append(words, len(samples))
        spans = tuple((int(a), int(b - a)) for a, b in zip(edges, edges[1:], strict=False)) if digits else ()
        text = "".join(str(DIGITS.index(w)) for w in said) if digits else ""
        sex = "F" if request["voice"].partition("+")[2] in WOMEN else "M"
        speaker = f"synthetic:{request['voice']}"
        found.append(Clip(speaker, "synthetic", sex, text, samples, phones.astype(np.int64), f"{request['voice']}#{i}", spans))
    return tuple(found)


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """What the cache holds, or None; a damaged file is as good as none, since it can be made again."""
    try:
        # From memory: numpy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in ("samples", "lengths", "phones", "words", "word_counts")}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
