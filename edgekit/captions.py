"""Texts and the whole numbers that they stand for, by the words of a tensor."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.signature import COMMA, Tensor, tokens

MOST_NAMES = 24  # in one sentence


def codes(tensor: Tensor, text: str) -> np.ndarray:
    """What a text says, int64 (places,): at each of its words the longest name that begins there, case and blanks aside.

    A place that is not said is "not given". EdgekitError for what is no name, for a name of several places, for two names of one
    place, and for a place that must be said.
    """
    named: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for place, names in enumerate(tensor.words):
        for number, name in enumerate(names):
            named.setdefault(tokens(name), []).append((place, number))
    said, unknown = _parsed(tokens(text), named)
    found: dict[int, int] = {}
    for words in said:
        place, number = _only(tensor, named[words])
        if found.setdefault(place, number) != number:
            names = tensor.words[place]
            raise EdgekitError(f"'{names[found[place]]}' and '{names[number]}' are both said of place {place} of '{tensor.name}'; say one")
    if unknown:
        told = ", ".join(f"'{run}'" for run in unknown)
        raise EdgekitError(f"'{tensor.name}' has no word {told}; there are: {_listed(_closest(tensor, unknown))}")
    silent = [place for place in range(len(tensor.words)) if place not in found and not may_be_silent(tensor, place)]
    if silent:
        what = "; ".join(f"place {p} is one of {_listed(tensor.words[p])}" for p in silent)
        raise EdgekitError(f"'{text}' does not say all of '{tensor.name}': {what}")
    return np.array([found.get(place, len(names)) for place, names in enumerate(tensor.words)], np.int64)


def caption(tensor: Tensor, numbers: np.ndarray) -> str:
    """The names of whole numbers (places,), with commas between them; what is not given is left out. EdgekitError for other numbers."""
    told: list[str] = []
    for place, (names, number) in enumerate(zip(tensor.words, numbers.tolist(), strict=True)):
        if not 0 <= number < len(names) + may_be_silent(tensor, place):
            raise EdgekitError(f"'{tensor.name}' holds {number} in place {place} of its last axis, which has names for 0 to {len(names) - 1}")
        told += names[number : number + 1]
    return f"{COMMA} ".join(told)


def captions(tensor: Tensor, answer: np.ndarray) -> Any:
    """caption() of the last axis: a text, or lists of texts as the axes before it are."""
    return caption(tensor, answer) if answer.ndim == 1 else [captions(tensor, row) for row in answer]


def may_be_silent(tensor: Tensor, place: int) -> bool:
    """Whether a place has a number for "not given"."""
    return bool(tensor.categories) and tensor.categories[place] > len(tensor.words[place])


def _parsed(said: tuple[str, ...], names: Collection[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], list[str]]:
    """(the longest names, one after the other; what stands between them and is none)."""
    longest, at = max(map(len, names)), 0
    found: list[tuple[str, ...]] = []
    runs: list[list[str]] = [[]]
    while at < len(said):
        size = next((n for n in range(min(longest, len(said) - at), 0, -1) if said[at : at + n] in names), 0)
        if size:
            found.append(said[at : at + size])
        if size or said[at] == COMMA:
            runs.append([])
        else:
            runs[-1].append(said[at])
        at += size or 1
    return found, [" ".join(run) for run in runs if run]


def _only(tensor: Tensor, found: list[tuple[int, int]]) -> tuple[int, int]:
    if len(found) > 1:
        (place, number), *_ = found
        where = " and ".join(f"place {p} ({_listed(tensor.words[p], 4)})" for p, _ in found)
        raise EdgekitError(f"'{tensor.words[place][number]}' may be said of {where} of '{tensor.name}'; give the numbers with --input FILE.npz")
    return found[0]


def _closest(tensor: Tensor, unknown: list[str]) -> list[str]:
    """All names, each once, those first that are most like one of the unknown words, as a whole or in one of their own words."""
    matcher = difflib.SequenceMatcher()

    def likeness(name: str) -> float:
        own = tokens(name)
        best = 0.0
        for word in unknown:
            matcher.set_seq2(word)
            for part in (" ".join(own), *own):
                matcher.set_seq1(part)
                best = max(best, matcher.ratio())
        return best

    return sorted(dict.fromkeys(n for names in tensor.words for n in names), key=likeness, reverse=True)


def _listed(names: Iterable[str], most: int = MOST_NAMES) -> str:
    told = list(names)
    return ", ".join(told[:most]) + (f" and {len(told) - most} others" if len(told) > most else "")
