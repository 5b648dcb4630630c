"""The named values of a running program: one buffer each, two for a state, so that a step reads one and writes the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.noise import draw
from edgekit.parts import Arrays
from edgekit.program import Source, State
from edgekit.signature import Signature

Sizes = Mapping[str, int]


class Slot:
    """A named value. `at` says which of its buffers holds it now; a slot without buffers takes arrays of any size."""

    def __init__(self, name: str, dtype: str, shape: tuple[int | str, ...], sizes: Sizes, buffers: int = 1) -> None:
        self.name, self.dtype, self.declared = name, np.dtype(dtype), shape
        known = resolved(shape, sizes)
        self.fixed = known is not None
        self.buffers = [np.zeros(known, self.dtype) for _ in range(buffers)] if known is not None else []
        self.at = 0
        self._free: np.ndarray | None = None

    @property
    def value(self) -> np.ndarray:
        """The value now; the buffer itself, not a copy."""
        if self.fixed:
            return self.buffers[self.at]
        if self._free is None:
            raise EdgekitError(f"'{self.name}' was read before it was written")
        return self._free

    @property
    def next(self) -> np.ndarray:
        """The buffer that the next value is written to: the other one of a state."""
        return self.buffers[self.at ^ 1] if len(self.buffers) == 2 else self.buffers[0]

    def write(self, value: np.ndarray) -> None:
        """Copy a value in; a slot without buffers keeps the array itself."""
        if not self.fixed:
            self._free = value
            return
        into = self.buffers[self.at]
        if value.shape != into.shape or value.dtype != into.dtype:
            raise EdgekitError(
                f"'{self.name}' is {into.dtype.name} {list(into.shape)} here, but {value.dtype.name} {list(value.shape)} came"
            )
        np.copyto(into, value)


def resolved(shape: tuple[int | str, ...], sizes: Sizes) -> tuple[int, ...] | None:
    """The shape in numbers; None when it names a size that is not known."""
    if any(isinstance(n, str) and n not in sizes for n in shape):
        return None
    return tuple(sizes[n] if isinstance(n, str) else n for n in shape)


def sizes_of(signature: Signature, values: Arrays, without: Mapping[str, int] | None = None) -> dict[str, int]:
    """Name -> size, from the values given; `without`: input -> axis along which a stream is cut.

    Raises EdgekitError when one name would have two sizes.
    """
    sizes: dict[str, int] = {}
    for t in signature.inputs:
        if t.name not in values:
            continue
        for axis, (name, size) in enumerate(zip(t.shape, values[t.name].shape, strict=True)):
            if not isinstance(name, str) or (without or {}).get(t.name) == axis:
                continue
            if sizes.setdefault(name, size) != size:
                raise EdgekitError(f"'{name}' is {sizes[name]} in one input and {size} in '{t.name}'; it must be one size")
    return sizes


class Environment:
    """All slots of one program for one set of sizes, the tensors of the bundle, and the seed of this run."""

    def __init__(self, tensors: Arrays, sizes: Sizes) -> None:
        self.tensors = {n: np.require(a, requirements="C") for n, a in tensors.items()}
        self.sizes, self.seed = sizes, 0
        self.slots: dict[str, Slot] = {}

    def slot(self, name: str, dtype: str, shape: tuple[int | str, ...], buffers: int = 1) -> Slot:
        """The slot of that name, made when it is new."""
        if name not in self.slots:
            self.slots[name] = Slot(name, dtype, shape, self.sizes, buffers)
        return self.slots[name]

    def declare(self, states: Mapping[str, State]) -> None:
        """Slots for states, with two buffers each."""
        for name, state in states.items():
            self.slot(name, state.dtype, state.shape, 2)

    def start(self, states: Mapping[str, State], chunk: int) -> None:
        """Give states their initial values."""
        for name, state in states.items():
            slot = self.slots[name]
            slot.at = 0
            slot.write(self.initial(state, slot, chunk))

    def initial(self, state: State, slot: Slot, chunk: int) -> np.ndarray:
        """What a state begins with, in its dtype and shape."""
        source, shape = state.initial, slot.buffers[0].shape
        if source.kind == "zeros":
            return np.zeros(shape, slot.dtype)
        if source.kind == "noise":
            return draw(source.name, shape, self.seed, source.id, 0, chunk)
        return self.value(source)

    def value(self, source: Source) -> np.ndarray:
        """The array that a value or tensor source means now."""
        return self.slots[source.name].value if source.kind == "value" else self.tensors[source.name]
