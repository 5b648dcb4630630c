"""Optimisation profiles: the smallest, usual and largest shape of each input with free sizes; wrong ones are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError, no_such
from edgekit.signature import Signature, Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The shapes of one input that a plan is built for."""

    smallest: Shape
    usual: Shape
    largest: Shape

    def to_json(self) -> list[list[int]]:
        """Smallest, usual, largest, as NVIDIA's own tools order them."""
        return [list(self.smallest), list(self.usual), list(self.largest)]


Profiles = Mapping[str, Profile]  # input -> its profile


def from_goldens(inputs: Iterable[Mapping[str, np.ndarray]], signature: Signature) -> dict[str, list[int]]:
    """Free size -> [smallest, usual, largest] over the golden inputs; the first set is the usual one.

    The size named 'batch' begins at 1, since one sample at a time is how an application runs.
    """
    found: dict[str, list[int]] = {}
    for values in inputs:
        for tensor in signature.inputs:
            for name, size in zip(tensor.shape, values[tensor.name].shape, strict=True):
                if isinstance(name, str):
                    found.setdefault(name, []).append(int(size))
    return {n: [1 if n == "batch" else min(s), s[0], max(s)] for n, s in found.items()}


def make(graph: Signature, sizes: Mapping[str, Sequence[int]], wishes: Mapping[str, Any], what: str) -> dict[str, Profile]:
    """The profile of every input of a graph that has a free size; checked.

    sizes: free size -> three sizes. wishes: the user's own, by free size (three numbers) or by input (three shapes).
    Raises EdgekitError that names the input.
    """
    made: dict[str, Profile] = {}
    for tensor in graph.inputs:
        if tensor.name in wishes and _is_shapes(wishes[tensor.name]):
            profile = Profile(*(tuple(int(n) for n in shape) for shape in wishes[tensor.name]))
        elif not any(isinstance(n, str) for n in tensor.shape):
            continue
        else:
            profile = _by_sizes(tensor, {**sizes, **{n: w for n, w in wishes.items() if not _is_shapes(w)}}, what)
        check(tensor, profile, what)
        if any(isinstance(n, str) for n in tensor.shape):
            made[tensor.name] = profile
    return made


def check_names(wishes: Mapping[str, Any], graphs: Iterable[Signature]) -> None:
    """Raise EdgekitError for a wish that is about no input and no free size, or is not three of anything."""
    tensors = [t for g in graphs for t in g.inputs]
    sizes = {n for t in tensors for n in t.shape if isinstance(n, str)}
    for name, wish in wishes.items():
        if name not in sizes | {t.name for t in tensors}:
            raise no_such("input or free size", name, sizes | {t.name for t in tensors})
        numbers = isinstance(wish, Sequence) and not isinstance(wish, str) and len(wish) == 3 and all(_is_whole(n) for n in wish)
        if not numbers and not _is_shapes(wish):
            raise EdgekitError(
                f"the profile of '{name}' is {wish!r}; three sizes [smallest, usual, largest] are needed, or three shapes of an input"
            )
        if numbers and name not in sizes:
            free = ", ".join(sorted(sizes)) or "none"
            raise EdgekitError(f"the profile of the input '{name}' needs three shapes; three sizes are for a free size: {free}")


def check(tensor: Tensor, profile: Profile, what: str) -> None:
    """Raise EdgekitError unless the three shapes fit the input and are in order; TensorRT itself says so only at the end of a
    build, and then without a reason."""
    where = f"{what}: the profile of '{tensor.name}'"
    for word, shape in (("smallest", profile.smallest), ("usual", profile.usual), ("largest", profile.largest)):
        told = f"{where} has the {word} shape {list(shape)}"
        if len(shape) != len(tensor.shape):
            raise EdgekitError(f"{told} of {len(shape)} axes, but the input has {len(tensor.shape)}, {list(tensor.shape)}; give a size for each")
        for axis, (want, have) in enumerate(zip(tensor.shape, shape, strict=True)):
            if isinstance(want, int) and want != have:
                raise EdgekitError(f"{told}, which is {have} at axis {axis}, but the model fixes {want} there; say {want}")
            if have < 1:
                raise EdgekitError(f"{told}, which is {have} at axis {axis}; a size is 1 or more")
    for axis, (low, usual, high) in enumerate(zip(profile.smallest, profile.usual, profile.largest, strict=True)):
        if not low <= usual <= high:
            raise EdgekitError(f"{where} is {low}, {usual}, {high} at axis {axis}; it must be smallest <= usual <= largest")


def _by_sizes(tensor: Tensor, sizes: Mapping[str, Sequence[int]], what: str) -> Profile:
    absent = [n for n in tensor.shape if isinstance(n, str) and n not in sizes]
    if absent:
        raise EdgekitError(
            f"{what}: the free size '{absent[0]}' of the input '{tensor.name}' has no profile; "
            f"say its smallest, usual and largest size: --option 'profiles={{\"{absent[0]}\": [1, 8, 32]}}'"
        )
    return Profile(*(tuple(int(sizes[n][i]) if isinstance(n, str) else n for n in tensor.shape) for i in range(3)))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_shapes(value: Any) -> bool:
    def is_list(v: Any) -> bool:
        return isinstance(v, Sequence) and not isinstance(v, str)

    return is_list(value) and len(value) == 3 and all(is_list(s) and all(_is_whole(n) for n in s) for s in value)
