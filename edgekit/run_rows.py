"""Inputs of a run from words, pictures and numbers: a row of the batch for each `--text` and each `--image`, rows in `--value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit import captions
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.picture_file import Seen, read_picture
from edgekit.signature import Tensor

TEXT, IMAGE, VALUE = "--text", "--image", "--value"
MOST_VALUES = 1_000_000  # of one option: more come in a file


def takes_words(t: Tensor) -> bool:
    """Whether it is one row of whole numbers with names, or a batch of such rows."""
    return bool(t.words) and len(t.shape) <= 2


def takes_pictures(t: Tensor) -> bool:
    """Whether it is a batch of pictures (batch, C, H, W) or of films (batch, frames, C, H, W) of 1 or 3 channels and a fixed size."""
    fixed = len(t.shape) in (4, 5) and all(isinstance(n, int) for n in t.shape[-3:])
    return fixed and t.dtype == "float32" and t.shape[-3] in (1, 3) and not t.rate_hz


def read_rows(
    bundle: Bundle, there: Mapping[str, np.ndarray], texts: Sequence[str], images: Sequence[str], values: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """[NAME=]WORDS, [NAME=]FILE and NAME=NUMBERS as inputs, by name; `there`: inputs that are given already.

    One row is repeated where other inputs with the same free first dimension have more. EdgekitError where no input, or several,
    could be meant, where a file or a word does not fit, and where the numbers of rows differ otherwise.
    """
    rows: dict[str, np.ndarray] = {}
    given: dict[str, str] = {}
    for option, words in ((TEXT, texts), (IMAGE, images)):
        for t, chosen in _by_input(bundle, option, words, there).items():
            rows[t.name] = _texts(t, chosen) if option == TEXT else _pictures(t, [Path(w) for w in chosen])
            given[t.name] = option
    for name, numbers in _values(bundle, values, {*there, *rows}).items():
        rows[name], given[name] = numbers, VALUE
    return {name: _as_many(bundle, name, rows, given, there) for name in rows}


def hints(bundle: Bundle) -> str:
    """`, --text WORDS for 'caption'`: what else than files of arrays the bundle takes."""
    inputs = bundle.manifest.signature.inputs
    spoken = [f", {TEXT} WORDS for '{t.name}'" for t in inputs if takes_words(t)]
    return "".join(spoken + [f", {IMAGE} FILE for '{t.name}'" for t in inputs if takes_pictures(t)])


def _by_input(bundle: Bundle, option: str, words: Sequence[str], there: Mapping[str, np.ndarray]) -> dict[Tensor, list[str]]:
    fits = takes_words if option == TEXT else takes_pictures
    fit = {t.name: t for t in bundle.manifest.signature.inputs if fits(t)}
    found: dict[Tensor, list[str]] = {}
    unnamed = []
    for word in words:
        name, equals, rest = word.partition("=")
        if equals and name in fit:
            found.setdefault(fit[name], []).append(rest)
        else:
            unnamed.append(word)
    if unnamed:
        left = [t for t in fit.values() if t not in found and t.name not in there] or list(fit.values())
        if len(left) != 1:
            what = "has names for its numbers" if option == TEXT else "is a picture or a film of a fixed size"
            inputs = bundle.manifest.signature.inputs
            told = f"has the inputs {', '.join(fit)}; say which: {option} NAME=..." if fit else f"takes {', '.join(t.name for t in inputs) or 'none'}"
            raise EdgekitError(f"{option} is for an input that {what}; {bundle.folder} {told}")
        found.setdefault(left[0], []).extend(unnamed)
    for t in found:
        if t.name in there:
            raise EdgekitError(f"'{t.name}' is given by {option} and by another file; give it once")
    return found


def _values(bundle: Bundle, words: Sequence[str], there: set[str]) -> dict[str, np.ndarray]:
    inputs = {t.name: t for t in bundle.manifest.signature.inputs}
    found: dict[str, np.ndarray] = {}
    for word in words:
        name, equals, numbers = word.partition("=")
        if not equals or name not in inputs:
            raise EdgekitError(f"{VALUE} {word}: give NAME=NUMBERS with one of the inputs {', '.join(inputs)}")
        if name in there or name in found:
            raise EdgekitError(f"'{name}' is given by {VALUE} and once more; give it once")
        found[name] = _numbers(inputs[name], numbers)
    return found


def _numbers(t: Tensor, text: str) -> np.ndarray:
    """`3`, `0,0,1.5` or `0*20` as the input: one number, a list, or rows of a batch one after the other."""
    free = [i for i, n in enumerate(t.shape) if isinstance(n, str)]
    if free not in ([], [0]):
        raise EdgekitError(f"'{t.name}' has the shape {list(t.shape)}: only its first size may be free for {VALUE}; give it with --input FILE.npz")
    each = int(np.prod([n for n in t.shape if isinstance(n, int)], dtype=np.int64))
    try:
        parts = [part.partition("*") for part in text.split(",")]
        counts = [int(times) if star else 1 for _, star, times in parts]
        if min(counts) < 1 or sum(counts) > MOST_VALUES:
            raise ValueError
        numbers = np.repeat(np.array([float(n) for n, _, _ in parts]), counts)
        if t.dtype.startswith(("int", "uint")) and (numbers % 1).any():
            raise ValueError
    except ValueError:
        whole = "whole numbers" if t.dtype.startswith(("int", "uint")) else "numbers"
        raise EdgekitError(f"{VALUE} {t.name}={text}: give {whole}, as in 3 or 0,0,1 or 0*20 for twenty of them") from None
    if len(numbers) % each or (not free and len(numbers) != each):
        raise EdgekitError(f"{VALUE} gives '{t.name}' {len(numbers)} numbers, but it takes {each}{' a row' if free else ''}: {list(t.shape)}")
    return numbers.astype(t.dtype).reshape([-1 if isinstance(n, str) else n for n in t.shape])


def _texts(t: Tensor, texts: Sequence[str]) -> np.ndarray:
    made = np.stack([captions.codes(t, text) for text in texts]).astype(t.dtype)
    if len(t.shape) == 1 and len(texts) > 1:
        raise EdgekitError(f"'{t.name}' is one row, but {TEXT} gives {len(texts)}; give one")
    return made if len(t.shape) == 2 else made[0]


def _pictures(t: Tensor, paths: Sequence[Path]) -> np.ndarray:
    """float32 (rows, C, H, W), or (rows, frames, C, H, W)."""
    channels, height, width = (int(n) for n in t.shape[-3:])
    seen = [read_picture(path, channels, height, width) for path in paths]
    if len(t.shape) == 4:
        moving = next((s for s in seen if len(s.frames) > 1), None)
        if moving:
            raise EdgekitError(f"{moving.told}, but '{t.name}' takes stills; give one frame of it")
        return np.concatenate([s.frames for s in seen])
    return _films(t, seen)


def _films(t: Tensor, seen: Sequence[Seen]) -> np.ndarray:
    """Animated files are a film each; stills are frames of one film after the other."""
    stills = all(len(s.frames) == 1 for s in seen)
    count = t.shape[1] if isinstance(t.shape[1], int) else len(seen) if stills else len(seen[0].frames)
    films = [film for s in seen if (film := s.of(count)) is not None]
    if len(films) == len(seen):
        return np.stack(films)
    if stills and len(seen) % count == 0:
        frames = np.concatenate([s.frames for s in seen])
        return frames.reshape(-1, count, *frames.shape[1:])
    if stills:
        raise EdgekitError(f"'{t.name}' takes films of {count} frames, but {IMAGE} gives {len(seen)} stills; give {count} a film, or animated files")
    wrong = next(s for s in seen if s.of(count) is None)
    raise EdgekitError(f"'{t.name}' takes films of {count} frames, but {wrong.told}; give files of {count} frames, or {count} stills for a film")


def _as_many(bundle: Bundle, name: str, rows: Mapping[str, np.ndarray], given: Mapping[str, str], there: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows of one input, repeated where there is one and others are more."""
    shapes = {t.name: t.shape for t in bundle.manifest.signature.inputs}
    if rows[name].ndim < (1 if given[name] == VALUE else 2):
        return rows[name]
    first, own = shapes[name][0], len(rows[name])
    if isinstance(first, int):
        wanted, who = first, f"'{name}' takes"
    else:
        sizes = {f"'{n}' has": a.shape[shapes[n].index(first)] for n, a in there.items() if _carries(shapes.get(n, ()), a, first)}
        sizes = sizes or {f"{given[n]} gives '{n}'": len(a) for n, a in rows.items() if shapes[n] and shapes[n][0] == first}
        who, wanted = max(sizes.items(), key=lambda pair: pair[1])
    if own not in (1, wanted):
        raise EdgekitError(f"{given[name]} gives '{name}' {own} rows, but {who} {wanted}; give as many, or one, which is then repeated")
    return rows[name] if own == wanted else rows[name].repeat(wanted, 0)


def _carries(shape: tuple[int | str, ...], array: np.ndarray, dim: int | str) -> bool:
    return dim in shape and len(shape) == array.ndim
