"""The numpy reference: the network's own arrays, simulated; the truth for NIR and Lava."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from edgekit import __version__, spiking_net
from edgekit.bundle import Bundle
from edgekit.parts import Arrays, Runtime, Session
from edgekit.spiking_net import SpikingNet, simulate

BATCH = 32  # images at a time: patches of a convolution need kernel-size times the memory of its input


class NetSession(Session):
    """A simulated network behind the Session interface."""

    def __init__(self, net: SpikingNet, bundle: Bundle, probes: bool) -> None:
        self._net, self._signature, self._probes = net, bundle.manifest.signature, probes

    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        self._signature.check_inputs(inputs)
        image = inputs[self._signature.inputs[0].name]
        parts = [simulate(self._net, image[at : at + BATCH]) for at in range(0, len(image), BATCH)]
        names = parts[0] if self._probes else ("logits",)
        return {name: np.concatenate([p[name] for p in parts]) for name in names}


class Reference(Runtime):
    """Reads spiking_net.safetensors or integer_net.safetensors of a bundle; needs numpy alone."""

    formats = ("nir", "lava")
    exact = True

    def version(self) -> str:
        """As in 'reference 0.1.0'."""
        return f"reference {__version__}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Exact for integer bundles, float64 for float ones."""
        yield NetSession(spiking_net.load(next(bundle.folder.glob("*_net.safetensors"))), bundle, probes)


PART = Reference()
