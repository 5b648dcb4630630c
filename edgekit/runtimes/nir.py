"""The .nir file itself, read back and simulated, so that verification sees what other simulators will read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from edgekit import untrusted_nir
from edgekit.bundle import Bundle
from edgekit.parts import Arrays, Runtime, Session
from edgekit.spiking_net import simulate

BATCH = 32


class _NirSession(Session):
    def __init__(self, bundle: Bundle, probes: bool) -> None:
        self._net = untrusted_nir.read(bundle.graph(), bundle.sha256)
        self._signature, self._probes = bundle.manifest.signature, probes

    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        self._signature.check_inputs(inputs)
        image = inputs[self._signature.inputs[0].name]
        parts = [simulate(self._net, image[at : at + BATCH]) for at in range(0, len(image), BATCH)]
        names = parts[0] if self._probes else ("logits",)
        return {name: np.concatenate([p[name] for p in parts]) for name in names}


class NirFile(Runtime):
    """One Euler step of the file's neurons, in float64."""

    needs = ("nir",)
    extra = "nir"
    formats = ("nir",)

    def version(self) -> str:
        """The version of the library that reads the file, as in 'nir 1.0.8'."""
        from importlib.metadata import version

        return f"nir {version('nir')}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Reads model.nir, not the arrays beside it."""
        yield _NirSession(bundle, probes)


PART = NirFile()
