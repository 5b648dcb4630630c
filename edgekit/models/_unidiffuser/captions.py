"""Captions: a word for each value of each head of conditions, and the fixed code that stands for a word in the network.

A code has entries of 1 and -1 (rows of a Hadamard matrix), so that the codes of one place of a caption are orthogonal, and a caption has
the variance of noise in each of its numbers, as pictures nearly have.
"""

from __future__ import annotations

import re

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.models._diffusion.data import Pictures

Words = tuple[tuple[str, ...], ...]  # of each place of a caption

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TOLD = {"long hair": ("short hair", "long hair"), "happy mouth": ("not happy", "happy")}  # heads of no and yes; the others are "no HEAD" and "HEAD"
FEWEST = 16  # numbers of a code: with fewer, a word is told from the others only once the picture is nearly drawn


def words_of(part: Pictures) -> Words:
    """The words of every place of a caption; no word occurs twice. EdgekitError for pictures that nobody gave words to."""
    found = tuple(_words(head, values) for head, values in zip(part.heads, part.values, strict=True))
    every = [w for words in found for w in words]
    if len(set(every)) != len(every):
        raise EdgekitError(f"captions need different words, found {', '.join(sorted(w for w in set(every) if every.count(w) > 1))} more than once")
    return found


def _words(head: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if head == "digit":
        return DIGITS
    if values == ("no", "yes"):
        return TOLD.get(head, (f"no {head}", head))
    if all(re.fullmatch("#[0-9a-fA-F]{6}", v) for v in values):
        return tuple(f"{name} {head.removesuffix(' colour')}" for name in colour_names(values))
    raise EdgekitError(f"there are no words for '{head}' with the values {', '.join(values)}; give digits, mnist or avatars")


def colour_names(values: tuple[str, ...]) -> tuple[str, ...]:
    """For each colour #RRGGBB the name of the nearest CSS colour that no other of them has: the nearest pairs are named first."""
    from PIL import ImageColor

    of_colour = {ImageColor.getrgb(n)[:3]: n for n in sorted(ImageColor.colormap, reverse=True)}  # one of names such as gray and grey
    names, known = list(of_colour.values()), np.array(list(of_colour), np.float64)
    asked = np.array([ImageColor.getrgb(v)[:3] for v in values], np.float64)
    away = np.square(asked[:, None] - known).sum(2)
    found = [""] * len(values)
    for _ in values:
        row, column = np.unravel_index(away.argmin(), away.shape)
        found[row] = names[column]
        away[row], away[:, column] = np.inf, np.inf
    return tuple(found)


def codes_of(sizes: tuple[int, ...]) -> np.ndarray:
    """float32 (places, most words, D): the codes of each place, zeros where a place has fewer words."""
    length = max(FEWEST, 1 << (max(sizes) - 1).bit_length())
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < length:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    codes = np.zeros((len(sizes), max(sizes), length), np.float32)
    for place, count in enumerate(sizes):
        codes[place, :count] = matrix[:count]
    return codes
