"""The typed, named inputs and outputs of a graph."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import Broken, EdgekitError

DTYPES = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")
MOST_HZ = 2**31 - 1
COMMA = ","


@dataclass(frozen=True)
class Tensor:
    """One input or output: `shape` holds sizes, or a name where the size is free, as in ("batch", 3, 32, 32)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str = ""  # what the numbers are, with their unit: "pixel intensity, 0..16"
    categories: tuple[int, ...] = ()  # of whole numbers that name categories: how many there are in each place of the last axis; (): any number
    rate_hz: int = 0  # of a sampled signal: samples a second along the last axis; 0: none
    # What each number of each place of the last axis is called. One more category than words: its last number says "not given".
    words: tuple[tuple[str, ...], ...] = ()

    def check(self, value: np.ndarray) -> None:
        """Raise EdgekitError unless `value` has this dtype, a shape that fits, and categories that there are."""
        fits = len(value.shape) == len(self.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(self.shape, value.shape, strict=True)
        )
        if not fits or value.dtype.name != self.dtype:
            raise EdgekitError(
                f"'{self.name}' must be {self.dtype} {list(self.shape)}, "
                f"but got {value.dtype.name} {list(value.shape)}"
            )
        if self.categories and value.size:
            wrong = (value < 0) | (value >= np.array(self.categories))
            if wrong.any():
                *_, place = where = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise EdgekitError(
                    f"'{self.name}' names categories: 0 to {self.categories[place] - 1} in place {place} of its last axis, "
                    f"but got {value[where]}"
                )


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in graph order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def check_inputs(self, values: Mapping[str, np.ndarray]) -> None:
        """Raise EdgekitError when a tensor is missing, unknown, or of another dtype or shape."""
        names = [t.name for t in self.inputs]
        if set(values) != set(names):
            raise EdgekitError(f"inputs {sorted(values)} were given, but this model takes {sorted(names)}")
        for tensor in self.inputs:
            tensor.check(values[tensor.name])

    def to_json(self) -> dict[str, Any]:
        """The signature as plain JSON values."""

        def plain(t: Tensor) -> dict[str, Any]:
            always = {"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "meaning": t.meaning}
            sampled = {"rate_hz": t.rate_hz} if t.rate_hz else {}
            told = {"words": [list(w) for w in t.words]} if t.words else {}
            return always | ({"categories": list(t.categories)} if t.categories else {}) | sampled | told

        return {"inputs": [plain(t) for t in self.inputs], "outputs": [plain(t) for t in self.outputs]}

    @staticmethod
    def from_json(data: Any, where: str) -> Signature:
        """Read what to_json wrote; `where` names the file in the error."""
        try:
            sides = [tuple(_tensor(t, where) for t in data[side]) for side in ("inputs", "outputs")]
        except (TypeError, KeyError) as error:
            raise Broken(f"{where}: signature needs inputs and outputs, each a list of tensors ({error})") from None
        return Signature(*sides)


def _tensor(data: Mapping[str, Any], where: str) -> Tensor:
    known = {"name", "dtype", "shape", "meaning"}
    if set(data) - {"categories", "rate_hz", "words"} != known:
        raise Broken(f"{where}: a tensor has the fields {sorted(known)}, found {sorted(data)}")
    shape_ok = isinstance(data["shape"], list) and all(
        isinstance(n, str) or (isinstance(n, int) and not isinstance(n, bool) and n > 0) for n in data["shape"]
    )
    if data["dtype"] not in DTYPES or not isinstance(data["name"], str) or not data["name"] or not shape_ok:
        raise Broken(f"{where}: tensor {data['name']!r} has dtype {data['dtype']!r} and shape {data['shape']!r}")
    categories = data.get("categories")
    if categories is not None and not (
        data["dtype"] in ("int32", "int64") and isinstance(categories, list) and data["shape"] and data["shape"][-1] == len(categories)
        and all(type(n) is int and n > 0 for n in categories)
    ):  # fmt: skip
        rule = "are a number above 0 for each place of the last axis of int32 or int64"
        raise Broken(f"{where}: categories of {data['name']!r} {rule}, found {categories!r}")
    rate_hz = data.get("rate_hz")
    if rate_hz is not None and not (type(rate_hz) is int and 0 < rate_hz <= MOST_HZ and data["shape"]):
        rule = f"is a whole number from 1 to {MOST_HZ}, of samples along its last axis"
        raise Broken(f"{where}: rate_hz of {data['name']!r} {rule}, found {rate_hz!r}")
    words = _words(data, categories, where)
    return Tensor(data["name"], data["dtype"], tuple(data["shape"]), str(data["meaning"]), tuple(categories or ()), rate_hz or 0, words)


def _words(data: Mapping[str, Any], categories: list[int] | None, where: str) -> tuple[tuple[str, ...], ...]:
    words = data.get("words")
    if words is None:
        return ()
    whole = data["dtype"] in ("int32", "int64") and isinstance(words, list) and words and data["shape"] and data["shape"][-1] == len(words)
    if not (whole and all(isinstance(place, list) and place and all(isinstance(w, str) for w in place) for place in words)):
        rule = "are a list of names for each place of the last axis of int32 or int64"
        raise Broken(f"{where}: words of {data['name']!r} {rule}, found {words!r}")
    for k, place in enumerate(words):
        read = [tokens(w) for w in place]
        if not all(set(r) - {COMMA} for r in read) or len(set(read)) < len(read):
            raise Broken(f"{where}: words of {data['name']!r} are empty or the same, case and blanks aside, in place {k}: {place!r}")
        if categories and categories[k] - len(place) not in (0, 1):
            rule = f"has {categories[k]} categories, so as many words or one fewer, found {len(place)}"
            raise Broken(f"{where}: place {k} of words of {data['name']!r} {rule}")
    return tuple(tuple(place) for place in words)


def tokens(text: str) -> tuple[str, ...]:
    """What a text says, case and the kind and number of its blanks aside; a comma is a token of its own."""
    compared = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return tuple(compared.replace(COMMA, f" {COMMA} ").split())
